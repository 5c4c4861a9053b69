//! Speech as the body of an HTTP answer.

use bytes::Bytes;
use futures_util::stream::{Stream, unfold};

use tracing::{Instrument, Span};

use crate::audio::{Encoder, WholeFile};
use crate::error::ApiError;
use crate::speech::{Piece, Speech};

/// Encoded audio as it is made. A failure ends the stream with an error, which aborts the transfer: the client sees a
/// truncated answer, never a short file that looks whole.
pub fn encoded(
    speech: Speech,
    encoder: Box<dyn Encoder>,
) -> impl Stream<Item = Result<Bytes, ApiError>> {
    // The body is polled outside of the request's span.
    let span = Span::current();
    unfold(Some((speech, encoder, true)), move |state| {
        next_bytes(state).instrument(span.clone())
    })
}

type State = Option<(Speech, Box<dyn Encoder>, bool)>;

async fn next_bytes(state: State) -> Option<(Result<Bytes, ApiError>, State)> {
    let (mut speech, mut encoder, at_head) = state?;
    let mut bytes = if at_head { encoder.head() } else { Vec::new() };
    loop {
        match speech.next().await {
            Some(Ok(Piece::Started(_) | Piece::Progress { .. })) => {}
            Some(Ok(Piece::Audio(samples))) => {
                bytes.extend(encoder.push(&samples));
                // An encoder may hold samples back until it has a frame.
                if !bytes.is_empty() {
                    return Some((Ok(Bytes::from(bytes)), Some((speech, encoder, false))));
                }
            }
            Some(Ok(Piece::Finished(_))) => {
                bytes.extend(encoder.finish());
                return Some((Ok(Bytes::from(bytes)), None));
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "the answer is cut off");
                // The connection sends what it holds when there is nothing to do: the head and the audio so far.
                tokio::task::yield_now().await;
                return Some((Err(error), None));
            }
            None => return Some((Err(ApiError::engine_gone()), None)),
        }
    }
}

/// The whole file.
pub async fn collected(mut speech: Speech, mut file: WholeFile) -> Result<Vec<u8>, ApiError> {
    loop {
        match speech.next().await {
            Some(Ok(Piece::Started(_) | Piece::Progress { .. })) => {}
            Some(Ok(Piece::Audio(samples))) => file.push(&samples),
            Some(Ok(Piece::Finished(_))) => return Ok(file.finish()),
            Some(Err(error)) => return Err(error),
            None => return Err(ApiError::engine_gone()),
        }
    }
}
