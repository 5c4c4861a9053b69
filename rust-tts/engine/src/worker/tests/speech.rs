//! Commands on their way to the engine, and its events on their way back.

use std::time::Duration;

use super::{Stage, audio, convert, done, enroll, failed, failure, next, next_audio, speak};
use crate::UtteranceEvent;
use crate::handle::UTTERANCE_EVENTS;
use crate::messages::{Cancel, Command, Enrolled, Event, Failed, FailureCode, Forget};

#[tokio::test]
async fn test_events_reach_their_ticket() {
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
    assert_eq!(*next_audio(&mut one).await, [0.1]);
    assert_eq!(*next_audio(&mut one).await, [0.3]);
    assert!(
        matches!(next(&mut one).await, Some(UtteranceEvent::Done { stats, .. }) if stats == super::stats())
    );
    assert!(next(&mut one).await.is_none(), "it closes after the end");
    assert_eq!(*next_audio(&mut two).await, [0.2]);
    let failure = next(&mut two).await;
    assert!(
        matches!(
            failure,
            Some(UtteranceEvent::Failed(Failed {
                code: FailureCode::GenerationError,
                ..
            }))
        ),
        "{failure:?}"
    );
    assert!(next(&mut two).await.is_none());
}

#[tokio::test]
async fn test_done_resolves_generated_before_audio_is_read() {
    let stage = Stage::new();
    let (mut ticket, id) = stage.speak("one").await;
    stage.answer_and_rest(vec![audio(id, 0.1), done(id)]);
    tokio::time::timeout(Duration::from_secs(20), ticket.generated.wait())
        .await
        .unwrap();
    let again = tokio::time::timeout(Duration::from_millis(20), ticket.generated.wait()).await;
    assert!(again.is_err(), "it completes once");
    assert_eq!(*next_audio(&mut ticket).await, [0.1]);
}

#[tokio::test]
async fn test_dropped_ticket_is_cancelled_in_next_step() {
    let stage = Stage::new();
    let (ticket, id) = stage.speak("one").await;
    drop(ticket);
    stage.answer(vec![audio(id, 0.1)]);
    assert_eq!(stage.step(), [Command::Cancel(Cancel { id })]);
    stage.answer(vec![audio(id, 0.2), done(id)]);
    assert_eq!(
        stage.step(),
        [],
        "it is cancelled once, and late events are nobody's"
    );
    stage.answer_and_rest(Vec::new());
}

#[tokio::test]
async fn test_ticket_dropped_before_first_step_is_cancelled() {
    let stage = Stage::new();
    let (_first, _) = stage.speak("one").await;
    drop(stage.handle().speak(speak("two")).await.unwrap());
    stage.answer(Vec::new());
    let commands = stage.step();
    let [Command::Speak(speak), Command::Cancel(cancel)] = commands.as_slice() else {
        panic!("{commands:?}")
    };
    assert_eq!(speak.id, cancel.id);
    stage.answer_and_rest(Vec::new());
}

#[tokio::test]
async fn test_unread_ticket_is_cut_off() {
    let stage = Stage::new();
    let (mut ticket, id) = stage.speak("one").await;
    stage.answer((0..=UTTERANCE_EVENTS).map(|_| audio(id, 0.1)).collect());
    assert_eq!(stage.step(), [Command::Cancel(Cancel { id })]);
    stage.answer(vec![audio(id, 0.2)]);
    assert_eq!(stage.step(), [], "it is cancelled once");
    stage.answer_and_rest(Vec::new());
    // The last place is kept for the reason.
    for _ in 1..UTTERANCE_EVENTS {
        assert_eq!(*next_audio(&mut ticket).await, [0.1]);
    }
    let reason = next(&mut ticket).await;
    assert!(
        matches!(reason, Some(UtteranceEvent::Failed(_))),
        "{reason:?}"
    );
    assert!(next(&mut ticket).await.is_none());
}

#[tokio::test]
async fn test_commands_sent_during_step_reach_next_step() {
    let stage = Stage::new();
    let (_one, _) = stage.speak("one").await;
    let _two = stage.handle().speak(speak("two")).await.unwrap();
    let _three = stage.handle().speak(speak("three")).await.unwrap();
    stage.answer(Vec::new());
    let commands = stage.step();
    let [Command::Speak(two), Command::Speak(three)] = commands.as_slice() else {
        panic!("{commands:?}")
    };
    assert_eq!([two.text.as_str(), three.text.as_str()], ["two", "three"]);
    stage.answer_and_rest(Vec::new());
}

#[tokio::test]
async fn test_enrolments_are_answered() {
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
        let enrolled = Event::Enrolled(Enrolled {
            id,
            voice: "v".into(),
            model: "scripted".into(),
            cache_bytes: 8,
        });
        stage.answer_and_rest(vec![if refused {
            failed(id, FailureCode::UnsupportedAudio)
        } else {
            enrolled
        }]);
        let answer = answer.await.unwrap().unwrap();
        let expected = if refused {
            Err(failure(id, FailureCode::UnsupportedAudio))
        } else {
            Ok(())
        };
        assert_eq!(answer, expected);
    }
    assert_eq!(stage.handle().status().voice_cache_bytes(), 77);
}

#[tokio::test]
async fn test_conversion_gets_same_events_as_utterance() {
    let stage = Stage::new();
    let mut ticket = stage.handle().convert(convert()).await.unwrap();
    let commands = stage.step();
    let [Command::Convert(convert)] = commands.as_slice() else {
        panic!("{commands:?}")
    };
    stage.answer(vec![audio(convert.id, 0.1)]);
    stage.step();
    stage.answer(vec![audio(convert.id, 0.2)]);
    assert_eq!(*next_audio(&mut ticket).await, [0.1]);
    assert_eq!(*next_audio(&mut ticket).await, [0.2]);
    stage.step();
    drop(ticket);
    stage.answer(Vec::new());
    assert_eq!(stage.step(), [Command::Cancel(Cancel { id: convert.id })]);
    stage.answer_and_rest(Vec::new());
}

#[tokio::test]
async fn test_abandoned_enrolment_is_cancelled() {
    let stage = Stage::new();
    let handle = stage.handle().clone();
    let asked = tokio::spawn(async move { handle.enroll(enroll()).await });
    tokio::task::yield_now().await;
    let commands = stage.step();
    let [Command::Enroll(enroll)] = commands.as_slice() else {
        panic!("{commands:?}")
    };
    asked.abort();
    assert!(asked.await.unwrap_err().is_cancelled());
    stage.answer(Vec::new());
    assert_eq!(stage.step(), [Command::Cancel(Cancel { id: enroll.id })]);
    stage.answer_and_rest(Vec::new());
}

#[tokio::test]
async fn test_forget_reaches_engine() {
    let stage = Stage::new();
    stage.handle().forget("v".into()).await.unwrap();
    assert_eq!(
        stage.step(),
        [Command::Forget(Forget { voice: "v".into() })]
    );
    stage.answer_and_rest(Vec::new());
}
