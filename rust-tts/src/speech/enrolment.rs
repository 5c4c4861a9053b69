//! Voices in the engine: which are prepared for which model, and preparing those that are not.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::{info, warn};

use crate::engine::EngineHandle;
use crate::engine::messages::Enroll;
use crate::error::{ApiError, Code};
use crate::voices::{Voice, VoiceStore};

/// A voice's content and a model's name.
type Key = (String, String);

/// Each pair has a lock of its own: two requests for one unprepared voice prepare it once.
#[derive(Default)]
pub struct Enrolments {
    known: Mutex<HashMap<Key, Arc<tokio::sync::Mutex<bool>>>>,
}

impl Enrolments {
    /// Prepares `voice` for `model` if it is not.
    pub async fn ensure(
        &self,
        engine: &EngineHandle,
        store: &Arc<VoiceStore>,
        voice: &Voice,
        model: &str,
    ) -> Result<(), ApiError> {
        let entry = self.entry(&voice.key, model);
        let mut enrolled = entry.lock().await;
        if *enrolled {
            return Ok(());
        }
        let clip = {
            let (store, voice) = (Arc::clone(store), voice.clone());
            let loaded = tokio::task::spawn_blocking(move || store.load(&voice)).await;
            loaded.map_err(|_| {
                ApiError::new(Code::GenerationError, "The voice could not be read.")
            })??
        };
        let pcm = Arc::from(clip.samples.as_slice());
        let (voice_key, model) = (voice.key.clone(), model.to_owned());
        let enroll = Enroll {
            id: 0,
            voice: voice_key,
            model,
            pcm,
            sample_rate: clip.sample_rate,
        };
        let answer = engine
            .enroll(enroll)
            .await
            .map_err(|_| ApiError::engine_gone())?;
        answer.map_err(|(code, message)| ApiError::from_engine(code, message))?;
        *enrolled = true;
        Ok(())
    }

    /// The engine no longer has it: the next request prepares it again.
    pub fn evicted(&self, voice: &Voice, model: &str) {
        let key = (voice.key.clone(), model.to_owned());
        self.lock().remove(&key);
    }

    /// Prepares `voice` for every cloning model, for the sake of the first request. Failures are logged: the request
    /// that needs the voice will be told.
    pub async fn prepare(&self, engine: &EngineHandle, store: &Arc<VoiceStore>, voice: &Voice) {
        let Some(loaded) = engine.status().ready() else {
            return;
        };
        for model in loaded.models.iter().filter(|model| model.can_clone) {
            match self.ensure(engine, store, voice, &model.name).await {
                Ok(()) => info!(voice = voice.id, model = model.name, "voice prepared"),
                Err(error) => {
                    warn!(voice = voice.id, model = model.name, %error, "voice not prepared");
                }
            }
        }
    }

    fn entry(&self, voice: &str, model: &str) -> Arc<tokio::sync::Mutex<bool>> {
        let key = (voice.to_owned(), model.to_owned());
        Arc::clone(self.lock().entry(key).or_default())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<tokio::sync::Mutex<bool>>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
