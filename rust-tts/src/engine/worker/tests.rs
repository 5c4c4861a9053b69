#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::mpsc as blocking;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::spawn;
use crate::engine::handle::UTTERANCE_EVENTS;
use crate::engine::messages::{
    Command, EngineInfo, Enroll, Event, FailureCode, Id, Model, Params, Slicing, Speak, Stats,
};
use crate::engine::{
    Engine, EngineError, EngineGone, EngineHandle, EngineState, SpeechEvent, Ticket,
};

/// What a step answers.
type Answer = Result<Vec<Event>, EngineError>;

/// An engine that does in each step what the test tells it to.
struct Scripted {
    busy: bool,
    /// The commands of each step go out here.
    steps: blocking::Sender<Vec<Command>>,
    /// What the step answers, and whether the engine is busy afterwards.
    answers: blocking::Receiver<(Answer, bool)>,
    closed: Arc<Mutex<bool>>,
}

impl Engine for Scripted {
    fn info(&self) -> Result<EngineInfo, EngineError> {
        let model = Model {
            name: "scripted".into(),
            sample_rate: 24_000,
            can_clone: true,
            languages: vec!["en".into()],
            voices: vec!["tone".into()],
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
        let (steps, seen) = blocking::channel();
        let (answers, script) = blocking::channel();
        let closed = Arc::new(Mutex::new(false));
        let engine = Scripted {
            busy: false,
            steps,
            answers: script,
            closed: Arc::clone(&closed),
        };
        let (handle, thread) = spawn(move |worker| worker.run(|| Ok(engine))).unwrap();
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
    }
}

fn enroll() -> Enroll {
    Enroll {
        id: 0,
        voice: "v".into(),
        model: "scripted".into(),
        pcm: Arc::from([0.0].as_slice()),
        sample_rate: 8000,
    }
}

fn audio(id: Id, value: f32) -> Event {
    Event::Audio {
        id,
        pcm: vec![value],
    }
}

fn done(id: Id) -> Event {
    Event::Done {
        id,
        stats: Stats {
            audio_seconds: 2.5,
            ..Stats::default()
        },
    }
}

fn failed(id: Id, code: FailureCode) -> Event {
    Event::Failed {
        id,
        code,
        message: "so it is".into(),
    }
}

async fn next(ticket: &mut Ticket) -> Option<SpeechEvent> {
    tokio::time::timeout(Duration::from_secs(20), ticket.events.recv())
        .await
        .expect("an event in time")
}

async fn next_audio(ticket: &mut Ticket) -> Vec<f32> {
    match next(ticket).await {
        Some(SpeechEvent::Audio(pcm)) => pcm,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn events_reach_their_own_ticket() {
    let stage = Stage::new();
    let (mut one, first) = stage.speak("one").await;
    stage.answer(vec![audio(first, 0.1)]);
    let mut two = stage.handle().speak(speak("two")).await.unwrap();
    let second = loop {
        match stage.step().as_slice() {
            [] => stage.answer(Vec::new()),
            [Command::Speak(speak)] => break speak.id,
            other => panic!("{other:?}"),
        }
    };
    assert_ne!(first, second);
    stage.answer(vec![
        audio(second, 0.2),
        audio(first, 0.3),
        failed(second, FailureCode::GenerationError),
    ]);
    stage.step();
    stage.answer_and_rest(vec![done(first)]);
    assert_eq!(next_audio(&mut one).await, [0.1]);
    assert_eq!(next_audio(&mut one).await, [0.3]);
    assert!(
        matches!(next(&mut one).await, Some(SpeechEvent::Done { stats, .. }) if stats.audio_seconds == 2.5)
    );
    assert!(next(&mut one).await.is_none(), "it closes after the end");
    assert_eq!(next_audio(&mut two).await, [0.2]);
    let failure = next(&mut two).await;
    assert!(
        matches!(
            failure,
            Some(SpeechEvent::Failed {
                code: FailureCode::GenerationError,
                ..
            })
        ),
        "{failure:?}"
    );
    assert!(next(&mut two).await.is_none());
}

#[tokio::test]
async fn done_resolves_generated_before_its_audio_is_read() {
    let stage = Stage::new();
    let (mut ticket, id) = stage.speak("one").await;
    stage.answer_and_rest(vec![audio(id, 0.1), done(id)]);
    tokio::time::timeout(Duration::from_secs(20), ticket.generated.wait())
        .await
        .unwrap();
    let again = tokio::time::timeout(Duration::from_millis(20), ticket.generated.wait()).await;
    assert!(again.is_err(), "it completes once");
    assert_eq!(next_audio(&mut ticket).await, [0.1]);
}

#[tokio::test]
async fn dropping_a_ticket_cancels_in_the_next_step() {
    let stage = Stage::new();
    let (ticket, id) = stage.speak("one").await;
    drop(ticket);
    stage.answer(vec![audio(id, 0.1)]);
    assert_eq!(stage.step(), [Command::Cancel(id)]);
    stage.answer(vec![audio(id, 0.2), done(id)]);
    assert_eq!(
        stage.step(),
        [],
        "it is cancelled once, and late events are nobody's"
    );
    stage.answer_and_rest(Vec::new());
}

#[tokio::test]
async fn a_ticket_dropped_before_its_first_step_is_cancelled_in_it() {
    let stage = Stage::new();
    let (_first, _) = stage.speak("one").await;
    drop(stage.handle().speak(speak("two")).await.unwrap());
    stage.answer(Vec::new());
    let commands = stage.step();
    let [Command::Speak(speak), Command::Cancel(id)] = commands.as_slice() else {
        panic!("{commands:?}")
    };
    assert_eq!(speak.id, *id);
    stage.answer_and_rest(Vec::new());
}

#[tokio::test]
async fn an_error_of_a_step_is_final() {
    let stage = Stage::new();
    let (mut ticket, _) = stage.speak("one").await;
    stage
        .answers
        .send((Err(EngineError("broken for good".into())), true))
        .unwrap();
    assert_eq!(stage.failure().await, "broken for good");
    assert!(
        next(&mut ticket).await.is_none(),
        "the ticket closes without an end"
    );
    stage.thread.join().unwrap();
    let handle = stage.handle.unwrap();
    assert!(matches!(handle.speak(speak("two")).await, Err(EngineGone)));
    assert!(matches!(handle.enroll(enroll()).await, Err(EngineGone)));
    assert!(matches!(handle.forget("v".into()).await, Err(EngineGone)));
    assert!(
        !*stage.closed.lock().unwrap(),
        "a broken engine is not asked to close"
    );
}

#[tokio::test]
async fn an_engine_that_does_not_load_is_a_failure_with_its_reason() {
    let run =
        |worker: super::Worker| worker.run(|| Err::<Scripted, _>(EngineError("no weights".into())));
    let (handle, thread) = spawn(run).unwrap();
    thread.join().unwrap();
    assert!(
        matches!(handle.status().state(), EngineState::Failed(reason) if reason == "no weights")
    );
    assert!(handle.status().ready().is_none());
    assert!(matches!(handle.speak(speak("one")).await, Err(EngineGone)));
}

#[tokio::test]
async fn out_of_memory_twice_is_final() {
    let stage = Stage::new();
    let (mut first, id) = stage.speak("one").await;
    stage.answer_and_rest(vec![failed(id, FailureCode::OutOfMemory)]);
    let failure = next(&mut first).await;
    assert!(
        matches!(
            failure,
            Some(SpeechEvent::Failed {
                code: FailureCode::OutOfMemory,
                ..
            })
        ),
        "{failure:?}"
    );
    let (_second, id) = stage.speak("two").await;
    assert!(
        stage.handle().status().ready().is_some(),
        "once is no failure of the engine"
    );
    stage.answer(vec![failed(id, FailureCode::OutOfMemory)]);
    assert!(stage.failure().await.contains("out of memory"));
}

#[tokio::test]
async fn a_listener_that_never_reads_is_cut_off() {
    let stage = Stage::new();
    let (mut ticket, id) = stage.speak("one").await;
    stage.answer((0..=UTTERANCE_EVENTS).map(|_| audio(id, 0.1)).collect());
    assert_eq!(stage.step(), [Command::Cancel(id)]);
    stage.answer(vec![audio(id, 0.2)]);
    assert_eq!(stage.step(), [], "it is cancelled once");
    stage.answer_and_rest(Vec::new());
    for _ in 0..UTTERANCE_EVENTS {
        assert_eq!(next_audio(&mut ticket).await, [0.1]);
    }
    assert!(next(&mut ticket).await.is_none(), "no end is made up");
}

#[tokio::test]
async fn an_idle_engine_takes_no_steps() {
    let stage = Stage::new();
    let (_ticket, id) = stage.speak("one").await;
    stage.answer_and_rest(vec![done(id)]);
    let spinning = stage.steps.recv_timeout(Duration::from_millis(100));
    assert!(
        matches!(spinning, Err(blocking::RecvTimeoutError::Timeout)),
        "{spinning:?}"
    );
    assert!(stage.handle().status().in_step_for().is_none());
    stage.handle().forget("v".into()).await.unwrap();
    assert_eq!(
        stage.step(),
        [Command::Forget("v".into())],
        "a command wakes it"
    );
    assert!(stage.handle().status().in_step_for().is_some());
    stage.answer_and_rest(Vec::new());
}

#[tokio::test]
async fn commands_that_came_during_a_step_go_into_the_next_together() {
    let stage = Stage::new();
    let (_one, _) = stage.speak("one").await;
    let _two = stage.handle().speak(speak("two")).await.unwrap();
    stage.handle().forget("v".into()).await.unwrap();
    stage.answer(Vec::new());
    let commands = stage.step();
    let [Command::Speak(speak), Command::Forget(_)] = commands.as_slice() else {
        panic!("{commands:?}")
    };
    assert_eq!(speak.text, "two");
    stage.answer_and_rest(Vec::new());
}

#[tokio::test]
async fn enrolments_are_answered() {
    let stage = Stage::new();
    for refused in [false, true] {
        let handle = stage.handle().clone();
        let answer = tokio::spawn(async move { handle.enroll(enroll()).await });
        // The step comes once the task above has run.
        tokio::task::yield_now().await;
        let commands = stage.step();
        let [Command::Enroll(enroll)] = commands.as_slice() else {
            panic!("{commands:?}")
        };
        let id = enroll.id;
        let enrolled = Event::Enrolled {
            id,
            voice: "v".into(),
            model: "scripted".into(),
            cache_bytes: 8,
        };
        stage.answer_and_rest(vec![if refused {
            failed(id, FailureCode::UnsupportedAudio)
        } else {
            enrolled
        }]);
        let answer = answer.await.unwrap().unwrap();
        let expected = if refused {
            Err((FailureCode::UnsupportedAudio, "so it is".to_owned()))
        } else {
            Ok(())
        };
        assert_eq!(answer, expected);
    }
    assert_eq!(stage.handle().status().voice_cache_bytes(), 77);
}

#[tokio::test]
async fn without_handles_the_loop_ends_and_the_engine_closes() {
    let mut stage = Stage::new();
    let ready = stage
        .state(|state| !matches!(state, EngineState::Loading))
        .await;
    assert!(matches!(ready, EngineState::Ready(info) if info.names() == ["scripted"]));
    let mut states = stage.handle().status().subscribe();
    drop(stage.handle.take());
    stage.thread.join().unwrap();
    assert!(matches!(*states.borrow_and_update(), EngineState::Stopped));
    assert!(*stage.closed.lock().unwrap());
}
