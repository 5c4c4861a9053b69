//! From a valid request to samples: one utterance after the other, the next one ahead of the last.

pub mod admission;
mod audio_pipeline;
pub mod choice;
pub mod convert;
mod delivery;
mod driver;
pub mod enrolment;
pub mod error;
pub mod fields;
pub mod listener;
pub mod metrics;
pub mod options;
pub mod params;
pub mod request;
mod request_stats;
pub mod service;
pub mod session;
mod task;
pub mod trim;
mod validation;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::{Instrument, Span};

use crate::error::Error;
use crate::listener::Listener;
use crate::service::SpeechService;
use chatterbox_text::{Pause, Utterance};
pub use delivery::{AnswerEncoder, Delivery, EncodedAudio};
use request::SpeechRequest;

/// The version of the package, of the wheel and of the binary.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What a request's listener receives: `Started`, then `Audio`, then `Finished`; or an error at any point. `Progress` may
/// come at any time.
#[derive(Debug)]
pub enum SpeechEvent {
    /// The first audio is there; it follows.
    Started(Timing),
    /// Encoded audio, in order. There is none where it is delivered whole.
    Audio(EncodedAudio),
    /// An utterance of so many characters has been spoken. Left out when the listener is behind.
    Progress { characters: usize },
    /// `last` ends the answer: the last chunk, the rest of the stream, or the whole file.
    Finished { last: Vec<u8>, summary: Summary },
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timing {
    pub queued: Duration,
    /// From the request's arrival, queue included.
    pub first_audio: Duration,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    pub timing: Timing,
    pub audio_seconds: f64,
    /// Seconds of computing per second of audio.
    pub real_time_factor: f64,
    /// Speech tokens of each utterance, where they were asked for.
    pub tokens: Vec<(String, Vec<u32>)>,
}

impl Summary {
    /// Samples of audio made, at `sample_rate` hertz.
    pub fn samples(&self, sample_rate: u32) -> u64 {
        (self.audio_seconds * f64::from(sample_rate)).round() as u64
    }
}

/// A request being spoken. Dropping it cancels the request.
pub struct Speech {
    events: mpsc::Receiver<Result<SpeechEvent, Error>>,
    listener: Listener,
    sample_rate: f64,
    /// Seconds of audio so far.
    seconds: f64,
}

impl Speech {
    /// The next event. `None` after the end or an error.
    pub async fn next(&mut self) -> Option<Result<SpeechEvent, Error>> {
        let event = self.events.recv().await;
        let (seconds, bytes) = match &event {
            Some(Ok(SpeechEvent::Audio(audio))) => {
                let bytes = audio.chunks.iter().map(Vec::len).sum();
                (audio.samples as f64 / self.sample_rate, bytes)
            }
            Some(Ok(SpeechEvent::Finished { last, summary })) => {
                (summary.audio_seconds - self.seconds, last.len())
            }
            _ => return event,
        };
        self.seconds += seconds;
        self.listener.delivered_audio(seconds, bytes);
        event
    }
}

/// Where a request's text comes from: all at once or, as an LLM writes it, utterance by utterance.
pub type Texts = mpsc::UnboundedReceiver<Utterance>;

/// The utterances of a text that is all there. Their number is bounded by `MAX_TEXT_LENGTH`.
pub fn whole(text: &str, max_chars: u32) -> Texts {
    let (sender, texts) = mpsc::unbounded_channel();
    for utterance in chatterbox_text::cut(text, max_chars as usize) {
        // The receiver is held right here.
        let _ = sender.send(utterance);
    }
    texts
}

/// The one utterance, without words, of a request that speaks a clip again.
pub fn clip() -> Texts {
    let (sender, texts) = mpsc::unbounded_channel();
    let utterance = Utterance {
        text: String::new(),
        pause: Pause::Sentence,
    };
    // The receiver is held right here.
    let _ = sender.send(utterance);
    texts
}

/// Begins to speak. `route` names the dialect in the metrics.
pub fn start(
    service: &Arc<SpeechService>,
    request: SpeechRequest,
    texts: Texts,
    route: &'static str,
) -> Speech {
    // Few: what the listener has not taken waits in the utterance's own channel, and the utterance after the next is not
    // begun.
    let waiting = service.options.pcm_chunk_queue_max_size;
    let (sender, events) = mpsc::channel(waiting as usize);
    let listener = Listener::current();
    let sample_rate = f64::from(request.output.encoding.sample_rate);
    let stalled = listener.stalled().clone();
    let speaking = task::run(service.clone(), request, texts, sender, stalled, route);
    tokio::spawn(speaking.instrument(Span::current()));
    Speech {
        events,
        listener,
        sample_rate,
        seconds: 0.0,
    }
}
