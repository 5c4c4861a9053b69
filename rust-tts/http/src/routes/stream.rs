//! Speech as the body of an HTTP answer.

use bytes::Bytes;
use futures_util::stream::{Stream, StreamExt, unfold};
use tracing::{Instrument, Span};

use chatterbox_speech::error::Error;
use chatterbox_speech::{Speech, SpeechEvent, Summary};

/// Encoded audio and, with the last of it, what the request took.
pub struct Part {
    pub bytes: Bytes,
    pub end: Option<Summary>,
}

/// Encoded audio as it is made. A failure ends the stream with an error, which aborts the transfer: the client sees a
/// truncated answer, never a short file that looks whole.
pub fn encoded(speech: Speech) -> impl Stream<Item = Result<Bytes, Error>> {
    sent_before_errors(parts(speech).map(|part| Ok(part?.bytes)))
}

/// The same, part by part. The head is in the first.
pub fn parts(speech: Speech) -> impl Stream<Item = Result<Part, Error>> {
    // The body is polled outside of the request's span.
    let span = Span::current();
    unfold(Some(speech), move |speech| {
        next_part(speech).instrument(span.clone())
    })
}

/// Lets the connection send what it holds before an error aborts it: it does when there is nothing to do.
pub fn sent_before_errors(
    body: impl Stream<Item = Result<Bytes, Error>>,
) -> impl Stream<Item = Result<Bytes, Error>> {
    body.then(async |bytes| {
        if bytes.is_err() {
            tokio::task::yield_now().await;
        }
        bytes
    })
}

async fn next_part(speech: Option<Speech>) -> Option<(Result<Part, Error>, Option<Speech>)> {
    let mut speech = speech?;
    loop {
        match speech.next().await {
            Some(Ok(SpeechEvent::Started(_) | SpeechEvent::Progress { .. })) => {}
            Some(Ok(SpeechEvent::Audio(audio))) => {
                let (bytes, end) = (audio.chunks.concat().into(), None);
                return Some((Ok(Part { bytes, end }), Some(speech)));
            }
            Some(Ok(SpeechEvent::Finished { last, summary })) => {
                let (bytes, end) = (last.into(), Some(summary));
                return Some((Ok(Part { bytes, end }), None));
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "the answer is cut off");
                return Some((Err(error), None));
            }
            None => return Some((Err(Error::engine_gone()), None)),
        }
    }
}

/// The whole file.
pub async fn collected(mut speech: Speech) -> Result<Vec<u8>, Error> {
    loop {
        match speech.next().await {
            Some(Ok(SpeechEvent::Finished { last, .. })) => return Ok(last),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error),
            None => return Err(Error::engine_gone()),
        }
    }
}
