//! The writing half of a socket.

use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use futures_util::SinkExt;
use futures_util::stream::SplitSink;
use tokio::sync::mpsc;
use tokio::time::timeout;

use chatterbox_speech::session::{Frame, StreamKey};

/// Messages that go out together: a chunk's header is not parted from its binary frame.
pub struct Outgoing {
    /// The say that they belong to: what is cancelled is not sent any more.
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

/// Writes frames until there are no more, or the client has read nothing for too long.
pub async fn write(
    mut sink: SplitSink<WebSocket, Message>,
    mut frames: mpsc::Receiver<Outgoing>,
    stall: Duration,
) {
    while let Some(outgoing) = frames.recv().await {
        let sent = async {
            feed(&mut sink, outgoing).await?;
            // What waits already leaves with it, in one write.
            while let Ok(outgoing) = frames.try_recv() {
                feed(&mut sink, outgoing).await?;
            }
            sink.flush().await
        };
        match timeout(stall, sent).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return,
            Err(_) => {
                tracing::warn!("the client read nothing for too long and is cut off");
                return;
            }
        }
    }
    let _ = timeout(stall, sink.close()).await;
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
