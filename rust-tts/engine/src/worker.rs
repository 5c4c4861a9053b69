//! The engine's thread: one loop, one engine, all requests.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tracing::{error, warn};

use super::handle::{EngineHandle, Submission, UtteranceEvent};
use super::messages::{Audio, Cancel, Command, Done, Event, Failed, FailureCode, Id};
use super::status::{EngineState, EngineStatus};
use super::{Engine, EngineError};

/// Commands that wait for the engine's next step; senders wait when it is full.
const INBOX: usize = 1024;
/// Two requests that ran out of memory within this time mean that dropping caches did not help.
const OOM_WINDOW: Duration = Duration::from_secs(60);

/// Starts the engine's thread. `run` loads an engine and hands it, with its mailbox, to [`Worker::run`].
pub fn spawn<F>(run: F) -> std::io::Result<(EngineHandle, JoinHandle<()>)>
where
    F: FnOnce(Worker) + Send + 'static,
{
    let (sender, inbox) = mpsc::channel(INBOX);
    let status = Arc::new(EngineStatus::new());
    let worker = Worker {
        inbox,
        status: Arc::clone(&status),
        live: HashMap::new(),
        cut_off: Vec::new(),
        ooms: VecDeque::new(),
    };
    let thread = std::thread::Builder::new()
        .name("engine".into())
        .spawn(move || run(worker))?;
    Ok((EngineHandle::new(sender, status), thread))
}

/// The receiver of a request's events.
enum Listener {
    Speech {
        events: mpsc::Sender<UtteranceEvent>,
        generated: oneshot::Sender<()>,
    },
    Enrolment(oneshot::Sender<Result<(), Failed>>),
}

pub struct Worker {
    inbox: mpsc::Receiver<Submission>,
    status: Arc<EngineStatus>,
    live: HashMap<Id, Listener>,
    /// Cut off by the host; the engine is sent the cancellation in its next step.
    cut_off: Vec<Id>,
    ooms: VecDeque<Instant>,
}

impl Worker {
    pub fn status(&self) -> Arc<EngineStatus> {
        Arc::clone(&self.status)
    }

    /// Serves until every handle is gone or the engine fails. Leaves the reason of a failure in the status.
    pub fn run<E: Engine>(mut self, load: impl FnOnce() -> Result<E, EngineError>) {
        let loaded = load().and_then(|engine| engine.info().map(|info| (engine, info)));
        let (mut engine, info) = match loaded {
            Ok(loaded) => loaded,
            Err(reason) => return self.die(&reason),
        };
        self.status.set(EngineState::Ready(Arc::new(info)));
        if let Err(reason) = self.serve(&mut engine) {
            // A broken engine is not asked to close: it may hang.
            return self.die(&reason);
        }
        engine.close();
        self.status.set(EngineState::Stopped);
    }

    fn serve<E: Engine>(&mut self, engine: &mut E) -> Result<(), EngineError> {
        loop {
            let mut commands = Vec::new();
            let first = if engine.idle()? {
                let inbox = &mut self.inbox;
                match engine.detached(|| inbox.blocking_recv()) {
                    Some(submission) => Some(submission),
                    None => return Ok(()),
                }
            } else {
                None
            };
            let waiting = std::iter::from_fn(|| self.inbox.try_recv().ok());
            for submission in first.into_iter().chain(waiting).collect::<Vec<_>>() {
                match self.accept(submission) {
                    Some(command) => commands.push(command),
                    None => return Ok(()),
                }
            }
            self.cancel_abandoned(&mut commands);
            self.status.step_begins();
            let events = engine.step(commands)?;
            self.status.step_ends(engine.voice_cache_bytes());
            let out_of_memory = |event: &Event| matches!(event, Event::Failed(failed) if failed.code == FailureCode::OutOfMemory);
            // One shortage may end several requests of a batch; it is one all the same.
            let ran_out = events.iter().any(out_of_memory);
            for event in events {
                self.deliver(event);
            }
            if ran_out {
                self.count_oom()?;
            }
        }
    }

    /// `None` means that the engine is to stop.
    fn accept(&mut self, submission: Submission) -> Option<Command> {
        let command = match submission {
            Submission::Speech {
                id,
                command,
                events,
                generated,
            } => {
                self.live.insert(id, Listener::Speech { events, generated });
                *command
            }
            Submission::Enroll { enroll, reply } => {
                self.live.insert(enroll.id, Listener::Enrolment(reply));
                Command::Enroll(enroll)
            }
            Submission::Forget(forget) => Command::Forget(forget),
            Submission::Stop => return None,
        };
        Some(command)
    }

    /// Cancels the requests whose listeners were dropped; there is no message for it.
    fn cancel_abandoned(&mut self, commands: &mut Vec<Command>) {
        commands.extend(
            self.cut_off
                .drain(..)
                .map(|id| Command::Cancel(Cancel { id })),
        );
        self.live.retain(|id, listener| {
            let dropped = match listener {
                Listener::Speech { events, .. } => events.is_closed(),
                Listener::Enrolment(reply) => reply.is_closed(),
            };
            if dropped {
                commands.push(Command::Cancel(Cancel { id: *id }));
            }
            !dropped
        });
    }

    fn deliver(&mut self, event: Event) {
        let id = event.id();
        match (event, self.live.remove(&id)) {
            (Event::Audio(_), Some(Listener::Speech { events, .. })) if events.capacity() == 1 => {
                error!(id, "an utterance outgrew its channel and is cut off");
                let failed = Failed {
                    id,
                    code: FailureCode::GenerationError,
                    field: None,
                    message: "The audio was not read for too long.".into(),
                };
                let _ = events.try_send(UtteranceEvent::Failed(failed));
                self.cut_off.push(id);
            }
            (Event::Audio(Audio { pcm, .. }), Some(Listener::Speech { events, generated })) => {
                // One that is closed is put back too, so that the next step cancels it.
                let _ = events.try_send(UtteranceEvent::Audio(pcm));
                self.live.insert(id, Listener::Speech { events, generated });
            }
            (Event::Done(Done { stats, .. }), Some(Listener::Speech { events, generated })) => {
                // The receiver may have been dropped; then there is no one to answer.
                let _ = generated.send(());
                let _ = events.try_send(UtteranceEvent::Done {
                    stats,
                    at: Instant::now(),
                });
            }
            (Event::Failed(failed), Some(Listener::Speech { events, .. })) => {
                let _ = events.try_send(UtteranceEvent::Failed(failed));
            }
            (Event::Enrolled(_), Some(Listener::Enrolment(reply))) => {
                let _ = reply.send(Ok(()));
            }
            (Event::Failed(failed), Some(Listener::Enrolment(reply))) => {
                let _ = reply.send(Err(failed));
            }
            (_, None) => {}
            (event, Some(_)) => warn!(
                id,
                ?event,
                "the engine answered with an event of another kind"
            ),
        }
    }

    fn count_oom(&mut self) -> Result<(), EngineError> {
        let now = Instant::now();
        self.ooms.retain(|at| now.duration_since(*at) < OOM_WINDOW);
        self.ooms.push_back(now);
        if self.ooms.len() < 2 {
            return Ok(());
        }
        Err(EngineError("out of memory twice within a minute".into()))
    }

    fn die(mut self, reason: &EngineError) {
        error!(%reason, "the engine failed");
        self.status.fail(reason.to_string());
        self.inbox.close();
        // Dropping the listeners closes every request's channel: each then knows that the engine is gone.
        self.live.clear();
    }
}

#[cfg(test)]
mod tests;
