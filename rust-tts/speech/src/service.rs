//! State that all requests share: the engine, the voices, the slots, and whether the server is draining.

use std::sync::Arc;

use chatterbox_engine::messages::EngineInfo;
use chatterbox_engine::{EngineHandle, EngineState};
use chatterbox_voices::{Voice, VoiceOptions, VoiceStore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::Admission;
use crate::enrolment::Enrolments;
use crate::error::{Code, Error};
use crate::options::SpeechOptions;

/// Speaks requests. The server has one, and so has each command that speaks into a file.
pub struct SpeechService {
    pub engine: EngineHandle,
    pub voices: Arc<VoiceStore>,
    pub enrolments: Enrolments,
    pub admission: Arc<Admission>,
    pub options: SpeechOptions,
    pub voice_options: VoiceOptions,
    /// Cancelled when the server begins to shut down.
    pub drain: CancellationToken,
    /// Cancelled when the drain has taken too long: what still runs is cut off.
    pub cut: CancellationToken,
    /// WebSockets and other work that outlives its request.
    pub tasks: TaskTracker,
}

impl SpeechService {
    pub fn new(
        engine: EngineHandle,
        voices: Arc<VoiceStore>,
        options: SpeechOptions,
        voice_options: VoiceOptions,
    ) -> Self {
        Self {
            engine,
            voices,
            enrolments: Enrolments::default(),
            admission: Admission::new(options.limits.slots(), options.limits.max_queue),
            options,
            voice_options,
            drain: CancellationToken::new(),
            cut: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    /// The voice that was set over the API, else the configured one; `None` where neither is there. Reads the folder.
    pub fn default_voice(&self) -> Option<Voice> {
        let configured = self.voice_options.default_voice.as_deref();
        self.voices
            .default_voice()
            .or_else(|| self.voices.find(configured?).ok())
    }

    /// Whether [`Self::default_voice`] has anything to look for.
    pub fn may_have_default_voice(&self) -> bool {
        self.voice_options.default_voice.is_some() || self.voices.has_default()
    }

    /// The loaded engine, or why there is none now.
    pub fn ready(&self) -> Result<Arc<EngineInfo>, Error> {
        if self.drain.is_cancelled() {
            return Err(Error::new(Code::Draining, "The server is shutting down.").retry_after(5));
        }
        match self.engine.status().state() {
            EngineState::Ready(info) => Ok(info),
            EngineState::Loading => {
                Err(Error::new(Code::ServerBusy, "The models are still loading.").retry_after(5))
            }
            EngineState::Failed(_) | EngineState::Stopped => Err(Error::engine_gone()),
        }
    }
}
