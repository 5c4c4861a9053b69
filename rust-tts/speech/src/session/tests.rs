#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod audio;
mod random;
mod texts;
mod voices;
mod wire;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::{Action, Frame, Host, Session, SessionLimits, StreamKey};
use crate::error::{Code, Error};
use crate::params::{Names, SpeechParams};
use crate::request::{Output, SpeechRequest, VoiceChoice};
use crate::trim::Trim;
use crate::{AnswerEncoder, Delivery, EncodedAudio, SpeechEvent, Summary, Timing};
use chatterbox_audio::{Encoding, Format};
use chatterbox_engine::messages::{Model, Params, Slicing};

const LIMITS: SessionLimits = SessionLimits {
    max_streams: 3,
    max_text_length: 60,
};

/// A server with one voice, `known.wav`, that remembers what it was asked.
#[derive(Default)]
struct FakeHost {
    /// `voice.audio_prompt_path` of each validated request.
    prompts: RefCell<Vec<Option<String>>>,
    default_voice: RefCell<Option<String>>,
}

impl Host for FakeHost {
    fn validate(&self, params: SpeechParams, more: bool) -> Result<SpeechRequest, Error> {
        self.prompts
            .borrow_mut()
            .push(params.output.voice_id.clone());
        let text = params.text.text.unwrap_or_default();
        if text.is_empty() && !more {
            return Err(Error::nothing_to_say());
        }
        let model = Model {
            name: "fake".into(),
            sample_rate: 24_000,
            can_clone: true,
            can_convert: true,
            languages: vec!["en".into()],
            voices: vec!["tone".into()],
            tags: Vec::new(),
            watermark: false,
        };
        let format = params
            .output
            .format
            .as_deref()
            .map_or(Some(Format::PcmS16le), Format::parse);
        let output = Output {
            encoding: Encoding {
                format: format.ok_or_else(|| Error::parameter("audio.format", "unknown"))?,
                sample_rate: params.output.sample_rate.unwrap_or(24_000),
                bitrate: None,
            },
            chunk_ms: params.output.chunk_size_ms.unwrap_or(40),
            binary: params.output.binary.unwrap_or(false),
        };
        Ok(SpeechRequest {
            text,
            text_chunk_size: 150,
            clip: None,
            model: Arc::new(model),
            language: None,
            voice: VoiceChoice::BuiltIn(None),
            params: Params::default(),
            slicing: Slicing::default(),
            trim: Trim::default(),
            seed: params.output.seed.unwrap_or(0) as u64,
            max_audio_seconds: None,
            stream: params.output.streams(),
            delivery: Delivery::of(params.output.streams()),
            normalization: None,
            return_tokens: false,
            output,
            names: Names::default(),
        })
    }

    fn set_default_voice(&self, reference: &str) -> Result<String, Error> {
        let id = self.find_voice(reference)?;
        *self.default_voice.borrow_mut() = Some(id.clone());
        Ok(id)
    }

    fn find_voice(&self, reference: &str) -> Result<String, Error> {
        let found = reference
            .ends_with("known.wav")
            .then(|| "known.wav".to_owned());
        found.ok_or_else(|| Error::new(Code::VoiceNotFound, "No such voice."))
    }
}

/// A session with its host.
struct Harness {
    host: FakeHost,
    session: Session,
    /// The encoders that each stream's driver would have.
    encoders: BTreeMap<StreamKey, AnswerEncoder>,
}

impl Harness {
    fn new() -> Self {
        Self {
            host: FakeHost::default(),
            session: Session::new(LIMITS),
            encoders: BTreeMap::new(),
        }
    }

    fn receive(&mut self, text: &str) -> Vec<Action> {
        self.session.on_text(text, &self.host)
    }

    /// Starts a stream and returns its key.
    fn say(&mut self, message: &str) -> StreamKey {
        let actions = self.receive(message);
        let Some(Action::Start { key, request }) = actions.first() else {
            panic!("{message}: {actions:?}")
        };
        let encoder = AnswerEncoder::new(request.delivery, request.output.encoding);
        self.encoders.insert(*key, encoder.unwrap());
        *key
    }

    fn audio(&mut self, key: StreamKey, samples: &[f32]) -> Vec<Action> {
        let chunks = match self.encoders.get_mut(&key) {
            Some(encoder) => encoder.push(samples).unwrap(),
            None => Vec::new(),
        };
        let audio = EncodedAudio {
            chunks,
            samples: samples.len(),
        };
        self.session.on_event(key, Ok(SpeechEvent::Audio(audio)))
    }

    fn finish(&mut self, key: StreamKey) -> Vec<Action> {
        let encoder = self.encoders.remove(&key);
        let last = encoder.map(|encoder| encoder.finish().unwrap());
        let finished = SpeechEvent::Finished {
            last: last.unwrap_or_default(),
            summary: summary(),
        };
        self.session.on_event(key, Ok(finished))
    }

    fn fail(&mut self, key: StreamKey) -> Vec<Action> {
        self.session
            .on_event(key, Err(Error::new(Code::GenerationError, "It broke.")))
    }
}

fn summary() -> Summary {
    Summary {
        timing: Timing {
            queued: Duration::from_millis(1),
            first_audio: Duration::from_millis(120),
        },
        audio_seconds: 1.5,
        real_time_factor: 0.25,
        tokens: Vec::new(),
    }
}

/// The JSON of every text frame that is sent.
fn sent(actions: &[Action]) -> Vec<Value> {
    let texts = actions.iter().filter_map(|action| match action {
        Action::Send(Frame::Text(text)) => Some(serde_json::from_str(text).unwrap()),
        _ => None,
    });
    texts.collect()
}

/// The one message that is sent, and that it is all that happens.
fn only(actions: &[Action]) -> Value {
    let messages = sent(actions);
    assert_eq!((actions.len(), messages.len()), (1, 1), "{actions:?}");
    messages.into_iter().next().unwrap()
}

/// Everything but frames, in short.
fn non_frames(actions: &[Action]) -> Vec<String> {
    let non_frames = actions.iter().filter_map(|action| match action {
        Action::Send(_) => None,
        Action::Start { key, .. } => Some(format!("start {key}")),
        Action::Text { key, utterances } => {
            let texts: Vec<_> = utterances
                .iter()
                .map(|utterance| utterance.text.as_str())
                .collect();
            Some(format!("text {key} {}", texts.join("|")))
        }
        Action::EndText { key } => Some(format!("end {key}")),
        Action::Cancel { key } => Some(format!("cancel {key}")),
        Action::Close { code, .. } => Some(format!("close {code}")),
    });
    non_frames.collect()
}
