//! How the loop starts, rests, fails and ends.

use std::sync::mpsc as blocking;
use std::time::{Duration, Instant};

use super::{Scripted, Stage, audio, done, enroll, failed, next, next_audio, speak};
use crate::messages::{Command, Failed, FailureCode};
use crate::worker::{OOM_WINDOW, Worker, spawn};
use crate::{EngineError, EngineGone, EngineState, UtteranceEvent};

#[tokio::test]
async fn test_step_error_is_final() {
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
    assert!(
        !*stage.closed.lock().unwrap(),
        "a broken engine is not asked to close"
    );
}

#[tokio::test]
async fn test_load_failure_keeps_reason() {
    let run = |worker: Worker| worker.run(|| Err::<Scripted, _>(EngineError("no weights".into())));
    let (handle, thread) = spawn(run).unwrap();
    thread.join().unwrap();
    assert!(
        matches!(handle.status().state(), EngineState::Failed(reason) if reason == "no weights")
    );
    assert!(handle.status().ready().is_none());
    assert!(matches!(handle.speak(speak("one")).await, Err(EngineGone)));
}

#[tokio::test]
async fn test_second_out_of_memory_is_final() {
    let stage = Stage::new();
    let (mut first, id) = stage.speak("one").await;
    stage.answer_and_rest(vec![failed(id, FailureCode::OutOfMemory)]);
    let failure = next(&mut first).await;
    assert!(
        matches!(
            failure,
            Some(UtteranceEvent::Failed(Failed {
                code: FailureCode::OutOfMemory,
                ..
            }))
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
async fn test_out_of_memory_of_batch_counts_once() {
    let stage = Stage::new();
    let (_first, one) = stage.speak("one").await;
    let _second = stage.handle().speak(speak("two")).await.unwrap();
    stage.answer(Vec::new());
    let commands = stage.step();
    let [Command::Speak(two)] = commands.as_slice() else {
        panic!("{commands:?}")
    };
    let shortage = [one, two.id].map(|id| failed(id, FailureCode::OutOfMemory));
    stage.answer_and_rest(shortage.into());
    let (_third, three) = stage.speak("three").await;
    stage.answer(vec![failed(three, FailureCode::OutOfMemory)]);
    assert!(stage.failure().await.contains("out of memory"));
}

#[tokio::test]
async fn test_old_out_of_memory_is_forgotten() {
    let stage = Stage::with(|worker| {
        let long_ago = Instant::now().checked_sub(OOM_WINDOW).unwrap();
        worker.ooms.push_back(long_ago);
    });
    let (_first, one) = stage.speak("one").await;
    stage.answer_and_rest(vec![failed(one, FailureCode::OutOfMemory)]);
    let (_second, two) = stage.speak("two").await;
    stage.answer(vec![failed(two, FailureCode::OutOfMemory)]);
    assert!(stage.failure().await.contains("out of memory"));
}

#[tokio::test]
async fn test_idle_engine_takes_no_steps() {
    let stage = Stage::new();
    let (_ticket, id) = stage.speak("one").await;
    stage.answer_and_rest(vec![done(id)]);
    let spinning = stage.steps.recv_timeout(Duration::from_millis(100));
    assert!(
        matches!(spinning, Err(blocking::RecvTimeoutError::Timeout)),
        "{spinning:?}"
    );
    assert!(stage.handle().status().in_step_for().is_none());
    let (_woken, _) = stage.speak("two").await;
    assert!(stage.handle().status().in_step_for().is_some());
    stage.answer_and_rest(Vec::new());
}

#[tokio::test]
async fn test_loop_ends_when_last_handle_is_dropped() {
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

#[tokio::test]
async fn test_stop_ends_loop_with_handles_and_live_requests() {
    let stage = Stage::new();
    let (mut ticket, id) = stage.speak("one").await;
    stage.handle().stop().await;
    stage.answer(vec![audio(id, 0.1)]);
    let handle = stage.handle.unwrap();
    stage.thread.join().unwrap();
    assert!(matches!(handle.status().state(), EngineState::Stopped));
    assert!(*stage.closed.lock().unwrap());
    assert_eq!(*next_audio(&mut ticket).await, [0.1]);
    assert!(next(&mut ticket).await.is_none(), "no end is made up");
    assert!(matches!(handle.speak(speak("two")).await, Err(EngineGone)));
}
