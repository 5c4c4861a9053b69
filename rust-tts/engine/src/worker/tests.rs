#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod life;
mod speech;

use std::sync::mpsc as blocking;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Worker, spawn};
use crate::messages::{
    Audio, Command, Convert, Done, EngineInfo, Enroll, Event, Failed, FailureCode, Id, Model,
    Params, Pcm, Slicing, Speak, Stats,
};
use crate::{Engine, EngineError, EngineHandle, EngineState, Ticket, UtteranceEvent};

/// A step's result.
type Answer = Result<Vec<Event>, EngineError>;

/// An engine whose steps the test controls.
struct Scripted {
    busy: bool,
    /// The commands of each step go out here.
    steps: blocking::Sender<Vec<Command>>,
    /// The results of steps, each with whether the engine is busy afterwards.
    answers: blocking::Receiver<(Answer, bool)>,
    closed: Arc<Mutex<bool>>,
}

impl Engine for Scripted {
    fn info(&self) -> Result<EngineInfo, EngineError> {
        let model = Model {
            name: "scripted".into(),
            sample_rate: 24_000,
            can_clone: true,
            can_convert: true,
            languages: vec!["en".into()],
            voices: vec!["tone".into()],
            tags: Vec::new(),
            watermark: false,
        };
        Ok(EngineInfo {
            device: "none".into(),
            models: vec![Arc::new(model)],
        })
    }

    fn idle(&self) -> Result<bool, EngineError> {
        Ok(!self.busy)
    }

    fn step(&mut self, commands: Vec<Command>) -> Answer {
        self.steps
            .send(commands)
            .map_err(|_| EngineError("the test is over".into()))?;
        let (answer, busy) = self
            .answers
            .recv()
            .map_err(|_| EngineError("the test is over".into()))?;
        self.busy = busy;
        answer
    }

    fn voice_cache_bytes(&self) -> u64 {
        77
    }

    fn close(&mut self) {
        *self.closed.lock().unwrap() = true;
    }
}

/// The test's side of the engine.
struct Stage {
    handle: Option<EngineHandle>,
    thread: JoinHandle<()>,
    steps: blocking::Receiver<Vec<Command>>,
    answers: blocking::Sender<(Answer, bool)>,
    closed: Arc<Mutex<bool>>,
}

impl Stage {
    fn new() -> Self {
        Self::with(|_| {})
    }

    /// `prepare` changes the worker before it runs.
    fn with(prepare: impl FnOnce(&mut Worker) + Send + 'static) -> Self {
        let (steps, seen) = blocking::channel();
        let (answers, script) = blocking::channel();
        let closed = Arc::new(Mutex::new(false));
        let engine = Scripted {
            busy: false,
            steps,
            answers: script,
            closed: Arc::clone(&closed),
        };
        let run = move |mut worker: Worker| {
            prepare(&mut worker);
            worker.run(|| Ok(engine));
        };
        let (handle, thread) = spawn(run).unwrap();
        Self {
            handle: Some(handle),
            thread,
            steps: seen,
            answers,
            closed,
        }
    }

    fn handle(&self) -> &EngineHandle {
        self.handle.as_ref().unwrap()
    }

    /// The commands of the step that runs now.
    fn step(&self) -> Vec<Command> {
        self.steps
            .recv_timeout(Duration::from_secs(20))
            .expect("a step")
    }

    /// Ends the step that runs now; the engine still has work.
    fn answer(&self, events: Vec<Event>) {
        self.answers.send((Ok(events), true)).unwrap();
    }

    /// Ends the step that runs now; the engine has nothing left to do.
    fn answer_and_rest(&self, events: Vec<Event>) {
        self.answers.send((Ok(events), false)).unwrap();
    }

    /// Hands an utterance over, and returns its ticket and the id under which the engine got it.
    async fn speak(&self, text: &str) -> (Ticket, Id) {
        let ticket = self.handle().speak(speak(text)).await.unwrap();
        let commands = self.step();
        let [Command::Speak(speak)] = commands.as_slice() else {
            panic!("{commands:?}")
        };
        assert_eq!(speak.text, text);
        (ticket, speak.id)
    }

    async fn state(&self, wanted: impl Fn(&EngineState) -> bool) -> EngineState {
        let mut states = self.handle().status().subscribe();
        let found = tokio::time::timeout(Duration::from_secs(20), states.wait_for(wanted)).await;
        found.unwrap().unwrap().clone()
    }

    async fn failure(&self) -> String {
        match self
            .state(|state| matches!(state, EngineState::Failed(_)))
            .await
        {
            EngineState::Failed(reason) => reason,
            other => panic!("{other:?}"),
        }
    }
}

fn speak(text: &str) -> Speak {
    Speak {
        id: 0,
        model: "scripted".into(),
        text: text.into(),
        language: None,
        voice: None,
        seed: 1,
        params: Params::default(),
        slicing: Slicing::default(),
        max_audio_seconds: 40.0,
        stream: true,
        return_tokens: false,
        in_hand_seconds: 0.0,
    }
}

fn convert() -> Convert {
    Convert {
        id: 0,
        model: "scripted".into(),
        voice: None,
        pcm: vec![0.0].into(),
        sample_rate: 8000,
        seed: 1,
        stream: true,
        max_audio_seconds: 40.0,
    }
}

fn enroll() -> Enroll {
    Enroll {
        id: 0,
        voice: "v".into(),
        model: "scripted".into(),
        pcm: vec![0.0].into(),
        sample_rate: 8000,
        portable: None,
    }
}

fn audio(id: Id, value: f32) -> Event {
    Event::Audio(Audio {
        id,
        pcm: vec![value].into(),
    })
}

fn stats() -> Stats {
    Stats {
        audio_seconds: 2.5,
        ..Stats::default()
    }
}

fn done(id: Id) -> Event {
    Event::Done(Done { id, stats: stats() })
}

fn failed(id: Id, code: FailureCode) -> Event {
    Event::Failed(failure(id, code))
}

fn failure(id: Id, code: FailureCode) -> Failed {
    Failed {
        id,
        code,
        field: Some("text".into()),
        message: "so it is".into(),
    }
}

async fn next(ticket: &mut Ticket) -> Option<UtteranceEvent> {
    tokio::time::timeout(Duration::from_secs(20), ticket.events.recv())
        .await
        .expect("an event in time")
}

async fn next_audio(ticket: &mut Ticket) -> Pcm {
    match next(ticket).await {
        Some(UtteranceEvent::Audio(pcm)) => pcm,
        other => panic!("{other:?}"),
    }
}
