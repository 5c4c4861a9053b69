//! The asynchronous side of the engine: what a request holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use super::messages::{Command, Convert, Enroll, Failed, Forget, Id, Pcm, Speak, Stats};
use super::status::EngineStatus;

/// Events that one utterance's channel holds. An utterance is capped at 120 s of audio and a step gives tens of
/// milliseconds of it at least, so the engine's thread never finds a live channel full; one that is full all the same is cancelled.
pub(super) const UTTERANCE_EVENTS: usize = 4096;

/// An event of an utterance. After `Done` or `Failed` the channel closes.
#[derive(Debug)]
pub enum UtteranceEvent {
    /// Mono samples at the model's rate.
    Audio(Pcm),
    /// `at` is when the engine finished, which may be long before it is read.
    Done {
        stats: Stats,
        at: Instant,
    },
    Failed(Failed),
}

/// The engine's thread has ended; nothing more will be spoken.
#[derive(Debug, thiserror::Error)]
#[error("the engine has stopped")]
pub struct EngineGone;

pub(super) enum Submission {
    /// An utterance or a conversion.
    Speech {
        id: Id,
        /// Boxed, for every future that submits one holds it.
        command: Box<Command>,
        events: mpsc::Sender<UtteranceEvent>,
        generated: oneshot::Sender<()>,
    },
    Enroll {
        enroll: Enroll,
        reply: oneshot::Sender<Result<(), Failed>>,
    },
    Forget(Forget),
    /// The loop ends after its current step.
    Stop,
}

/// One utterance, or one conversion, in the engine. Dropping it cancels it: its slot is free within one step.
#[derive(Debug)]
pub struct Ticket {
    /// The utterance's events; closes without `Done` or `Failed` when the engine dies.
    pub events: mpsc::Receiver<UtteranceEvent>,
    pub generated: Generated,
}

/// Resolves when the engine has finished an utterance, however much of its audio has been read.
#[derive(Debug)]
pub struct Generated(Option<oneshot::Receiver<()>>);

impl Generated {
    /// Completes once: afterwards it stays pending, so that it can stand in a `select!`.
    pub async fn wait(&mut self) {
        match self.0.as_mut() {
            // An error means that the utterance failed, and its events say why.
            Some(generated) => drop(generated.await),
            None => std::future::pending().await,
        }
        self.0 = None;
    }
}

/// Sends commands to the engine's thread. Cheap to clone.
#[derive(Clone)]
pub struct EngineHandle {
    inbox: mpsc::Sender<Submission>,
    status: Arc<EngineStatus>,
    next_id: Arc<AtomicU64>,
}

impl EngineHandle {
    pub(super) fn new(inbox: mpsc::Sender<Submission>, status: Arc<EngineStatus>) -> Self {
        Self {
            inbox,
            status,
            next_id: Arc::new(AtomicU64::new(1)),
        }
    }

    pub fn status(&self) -> &EngineStatus {
        &self.status
    }

    fn id(&self) -> Id {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Hands an utterance to the engine. `speak.id` is set here.
    pub async fn speak(&self, mut speak: Speak) -> Result<Ticket, EngineGone> {
        let id = self.id();
        speak.id = id;
        self.submit(id, Box::new(Command::Speak(speak))).await
    }

    /// Hands a clip to the engine, to be spoken again. `convert.id` is set here.
    pub async fn convert(&self, mut convert: Convert) -> Result<Ticket, EngineGone> {
        let id = self.id();
        convert.id = id;
        self.submit(id, Box::new(Command::Convert(convert))).await
    }

    async fn submit(&self, id: Id, command: Box<Command>) -> Result<Ticket, EngineGone> {
        let (events, receiver) = mpsc::channel(UTTERANCE_EVENTS);
        let (generated, when) = oneshot::channel();
        let submission = Submission::Speech {
            id,
            command,
            events,
            generated,
        };
        self.inbox.send(submission).await.map_err(|_| EngineGone)?;
        Ok(Ticket {
            events: receiver,
            generated: Generated(Some(when)),
        })
    }

    /// Prepares a voice for a model. The outer error means that the engine died.
    pub async fn enroll(&self, mut enroll: Enroll) -> Result<Result<(), Failed>, EngineGone> {
        enroll.id = self.id();
        let (reply, answer) = oneshot::channel();
        self.inbox
            .send(Submission::Enroll { enroll, reply })
            .await
            .map_err(|_| EngineGone)?;
        answer.await.map_err(|_| EngineGone)
    }

    /// Drops what every model has prepared of a voice.
    pub async fn forget(&self, voice: String) -> Result<(), EngineGone> {
        let submission = Submission::Forget(Forget { voice });
        self.inbox.send(submission).await.map_err(|_| EngineGone)
    }

    /// Ends the engine's thread, also while there are other handles. Requests that still run fail.
    pub async fn stop(&self) {
        // A thread that has ended needs no stopping.
        let _ = self.inbox.send(Submission::Stop).await;
    }
}
