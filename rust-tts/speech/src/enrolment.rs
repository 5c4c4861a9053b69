//! Voices in the engine: which are prepared for which model, preparing those that are not, and forgetting those whose
//! files were removed.

mod leases;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::{BoxFuture, FutureExt, Shared};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tracing::{debug, info, warn};

pub use self::leases::VoiceLease;
use self::leases::VoiceLeases;
use crate::error::{Code, Error};
use crate::request::OneOff;
use chatterbox_engine::EngineHandle;
use chatterbox_engine::messages::{Enroll, FileBytes, Pcm};
use chatterbox_voices::{Material, Voice, VoiceStore};

/// A voice's content and a model's name.
type EnrolmentKey = (String, String);
/// One preparation, under way or done, shared by the requests that wait for it.
type Enrolment = Shared<BoxFuture<'static, Result<(), Error>>>;

pub struct Enrolments {
    known: Mutex<HashMap<EnrolmentKey, Enrolment>>,
    /// Voices are preloaded one after the other, so that requests are not delayed.
    preloading: tokio::sync::Mutex<()>,
    leases: Arc<VoiceLeases>,
    /// Keys of contents that no file has any more.
    removed: UnboundedSender<String>,
    removals: tokio::sync::Mutex<UnboundedReceiver<String>>,
}

impl Default for Enrolments {
    fn default() -> Self {
        let (removed, removals) = unbounded_channel();
        Self {
            known: Mutex::default(),
            preloading: tokio::sync::Mutex::default(),
            leases: Arc::new(VoiceLeases::new(removed.clone())),
            removed,
            removals: tokio::sync::Mutex::new(removals),
        }
    }
}

impl Enrolments {
    /// Keeps a prepared voice in the engine for as long as the lease lives, also when its file is deleted meanwhile.
    pub fn lease(&self, voice: &Voice) -> VoiceLease {
        self.leases.lease(&voice.key, false)
    }

    /// The same for a clip that no file has: the engine forgets it with the last lease.
    pub fn lease_once(&self, voice: &OneOff) -> VoiceLease {
        self.leases.lease(&voice.key, true)
    }

    /// Has the engine forget every voice whose content no file of `store` has any more. Runs until it is dropped.
    pub async fn forget_removed(&self, engine: &EngineHandle, store: &VoiceStore) {
        store.send_removals_to(self.removed.clone());
        let mut removals = self.removals.lock().await;
        while let Some(key) = removals.recv().await {
            // Another file may have the same content by now.
            if store.has_content(&key) || !self.leases.remove(&key) {
                continue;
            }
            self.lock().retain(|(known, _), _| *known != key);
            debug!(voice = key, "forgotten");
            // An engine that has ended has nothing to forget.
            let _ = engine.forget(key).await;
        }
    }

    /// Prepares `voice` for `model` if it is not. Concurrent calls wait for the same preparation, which goes on when
    /// its callers are dropped.
    pub async fn ensure(
        &self,
        engine: &EngineHandle,
        store: &Arc<VoiceStore>,
        voice: &Voice,
        model: &str,
    ) -> Result<(), Error> {
        let lease = || self.lease(voice);
        self.ensured(engine, &voice.key, model, lease, || {
            let (store, voice) = (Arc::clone(store), voice.clone());
            move || Ok(store.load(&voice)?)
        })
        .await
    }

    /// Like [`Self::ensure`], for a clip that came with a request.
    pub async fn ensure_once(
        &self,
        engine: &EngineHandle,
        voice: &OneOff,
        model: &str,
    ) -> Result<(), Error> {
        let lease = || self.lease_once(voice);
        self.ensured(engine, &voice.key, model, lease, || {
            let clip = Arc::clone(&voice.clip);
            move || Ok(Material::Clip(clip))
        })
        .await
    }

    async fn ensured<L>(
        &self,
        engine: &EngineHandle,
        voice: &str,
        model: &str,
        lease: impl FnOnce() -> VoiceLease,
        load: impl FnOnce() -> L,
    ) -> Result<(), Error>
    where
        L: FnOnce() -> Result<Material, Error> + Send + 'static,
    {
        let key = (voice.to_owned(), model.to_owned());
        let enrolment = {
            let mut known = self.lock();
            // It may have failed after its last caller was dropped, and is then tried again.
            if let Some(Some(Err(_))) = known.get(&key).map(|found| found.clone().now_or_never()) {
                known.remove(&key);
            }
            let begin = || begin(engine.clone(), key.clone(), lease(), load());
            known.entry(key.clone()).or_insert_with(begin).clone()
        };
        let result = enrolment.clone().await;
        if result.is_err() {
            // The next request tries again.
            let mut known = self.lock();
            if known
                .get(&key)
                .is_some_and(|found| found.ptr_eq(&enrolment))
            {
                known.remove(&key);
            }
        }
        result
    }

    /// The engine has evicted the voice: the next request prepares it again.
    pub fn evicted(&self, voice: &str, model: &str) {
        let key = (voice.to_owned(), model.to_owned());
        let mut known = self.lock();
        // Another request may have begun to prepare it again already.
        if known.get(&key).is_some_and(|found| found.peek().is_some()) {
            known.remove(&key);
        }
    }

    /// Prepares `voice` for every cloning model, so that the first request need not wait. Failures are logged only: the
    /// request that needs the voice gets the error.
    pub async fn prepare(&self, engine: &EngineHandle, store: &Arc<VoiceStore>, voice: &Voice) {
        let _turn = self.preloading.lock().await;
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

    fn lock(&self) -> MutexGuard<'_, HashMap<EnrolmentKey, Enrolment>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts a task, so that the preparation does not end with the request that began it. The task holds a lease: a voice
/// that is forgotten before it has been prepared would stay in the engine for good.
fn begin<L>(engine: EngineHandle, key: EnrolmentKey, lease: VoiceLease, load: L) -> Enrolment
where
    L: FnOnce() -> Result<Material, Error> + Send + 'static,
{
    let task = tokio::spawn(async move {
        let _lease = lease;
        enroll(engine, key, load).await
    });
    let ended = task.map(|ended| ended.unwrap_or_else(|_| Err(Error::engine_gone())));
    ended.boxed().shared()
}

async fn enroll<L>(engine: EngineHandle, (voice, model): EnrolmentKey, load: L) -> Result<(), Error>
where
    L: FnOnce() -> Result<Material, Error> + Send + 'static,
{
    let loaded = tokio::task::spawn_blocking(load).await;
    let material =
        loaded.map_err(|_| Error::new(Code::GenerationError, "The voice could not be read."))??;
    let (pcm, sample_rate, portable) = match material {
        Material::Clip(clip) => (Pcm::from(clip.samples.as_slice()), clip.sample_rate, None),
        Material::Portable(bytes) => (Pcm::from([]), 0, Some(FileBytes(bytes))),
    };
    let enroll = Enroll {
        id: 0,
        voice,
        model,
        pcm,
        sample_rate,
        portable,
    };
    let answer = engine.enroll(enroll).await;
    let answer = answer.map_err(|_| Error::engine_gone())?;
    answer.map_err(Error::from)
}

#[cfg(test)]
mod tests;
