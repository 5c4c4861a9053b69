//! The writing half of a socket.

use axum::extract::ws::{Message, WebSocket};
use futures_util::SinkExt;
use futures_util::stream::SplitSink;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use chatterbox_speech::session::{Frame, StreamKey};

/// Messages that go out together: a chunk's header is not parted from its binary frame.
pub struct Outgoing {
    /// The stream that they belong to: what is cancelled is not sent any more.
    pub key: Option<StreamKey>,
    /// `None` where the protocol layer's own answer has to leave: a client that does not read it is noticed by that.
    pub message: Option<Message>,
    pub binary: Option<Message>,
}

impl Outgoing {
    pub fn answer(message: Message) -> Self {
        Self {
            key: None,
            message: Some(message),
            binary: None,
        }
    }
}

/// Writes frames until there are no more, or the connection is broken or given up. Audio for a client who has stopped
/// reading is dropped.
pub async fn write(
    mut sink: SplitSink<WebSocket, Message>,
    mut frames: mpsc::Receiver<Outgoing>,
    stalled: CancellationToken,
) {
    while let Some(first) = frames.recv().await {
        let mut next = Some(first);
        // Messages that already wait are sent with it, in one write.
        while let Some(outgoing) = next {
            let is_audio = outgoing.key.is_some();
            if !(is_audio && stalled.is_cancelled()) && feed(&mut sink, outgoing).await.is_err() {
                return;
            }
            next = frames.try_recv().ok();
        }
        if sink.flush().await.is_err() {
            return;
        }
    }
    let _ = sink.close().await;
}

async fn feed(
    sink: &mut SplitSink<WebSocket, Message>,
    outgoing: Outgoing,
) -> Result<(), axum::Error> {
    for frame in outgoing.message.into_iter().chain(outgoing.binary) {
        sink.feed(frame).await?;
    }
    Ok(())
}

pub fn message(frame: Frame) -> Message {
    match frame {
        Frame::Text(text) => Message::Text(text.into()),
        Frame::Binary(bytes) => Message::Binary(bytes.into()),
    }
}
