//! Whatever clients and the engine do, in whatever order, these hold.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{Action, Frame, Harness, LIMITS, StreamKey};

/// One thing that happens to a session.
#[derive(Clone, Debug)]
enum Step {
    Message(String),
    Binary,
    Audio(StreamKey, usize),
    Finish(StreamKey),
    Fail(StreamKey),
    Drain,
}

fn step() -> impl Strategy<Value = Step> {
    let id = prop::sample::select(vec!["a", "b", "c", "d"]);
    let text = prop::sample::select(vec![
        "",
        "One. Two. ",
        "half a sen",
        "tence. x",
        "long words and more of them. ",
    ]);
    let say = (id.clone(), text.clone(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(id, text, more, stream, binary)| {
            let audio = format!(r#"{{"chunk_size_ms":10,"binary":{binary}}}"#);
            format!(r#"{{"type":"say","id":"{id}","text":"{text}","more":{more},"stream":{stream},"audio":{audio}}}"#)
        },
    );
    let append = (id.clone(), text)
        .prop_map(|(id, text)| format!(r#"{{"type":"append","id":"{id}","text":"{text}"}}"#));
    let simple = (prop::sample::select(vec!["end", "cancel"]), id);
    let simple = simple.prop_map(|(kind, id)| format!(r#"{{"type":"{kind}","id":"{id}"}}"#));
    let other = prop::sample::select(vec![
        r#"{"type":"cancel"}"#,
        r#"{"type":"ping"}"#,
        "{}",
        "[",
    ])
    .prop_map(str::to_owned);
    let key = 1_u64..8;
    prop_oneof![
        4 => say.prop_map(Step::Message),
        4 => append.prop_map(Step::Message),
        3 => simple.prop_map(Step::Message),
        1 => other.prop_map(Step::Message),
        1 => Just(Step::Binary),
        8 => (key.clone(), 0_usize..1000).prop_map(|(key, samples)| Step::Audio(key, samples)),
        2 => key.clone().prop_map(Step::Finish),
        1 => key.prop_map(Step::Fail),
        1 => prop::bool::weighted(0.1).prop_map(|drain| if drain { Step::Drain } else { Step::Binary }),
    ]
}

/// What the actions so far show of one stream.
#[derive(Default)]
struct Seen {
    next_index: u64,
    last: bool,
}

/// Watches the actions and finds what must never be.
#[derive(Default)]
struct Observer {
    started: BTreeSet<StreamKey>,
    text_ended: BTreeSet<StreamKey>,
    gone: BTreeSet<StreamKey>,
    /// By id, since its last start.
    seen: BTreeMap<String, Seen>,
    binary_due: bool,
    closed: bool,
}

impl Observer {
    fn watch(&mut self, step: &Step, actions: &[Action]) {
        for action in actions {
            assert!(
                !self.closed || !matches!(action, Action::Start { .. }),
                "{step:?}: {action:?} after the close"
            );
            match action {
                Action::Start { key, .. } => {
                    assert!(self.started.insert(*key), "{key} started twice");
                }
                Action::Text { key, utterances } => {
                    self.must_be_open(*key);
                    assert!(!utterances.is_empty());
                }
                Action::EndText { key } => {
                    self.must_be_open(*key);
                    self.text_ended.insert(*key);
                }
                Action::Cancel { key } => {
                    assert!(
                        self.started.contains(key) && self.gone.insert(*key),
                        "{key} is not running"
                    );
                }
                Action::Close { .. } => self.closed = true,
                Action::Send(Frame::Binary(_)) => {
                    assert!(std::mem::take(&mut self.binary_due), "without a header");
                }
                Action::Send(Frame::Text(text)) => {
                    assert!(!self.binary_due, "the audio does not follow its header");
                    self.watch_message(&serde_json::from_str(text).unwrap());
                }
            }
        }
        assert!(!self.binary_due, "the audio does not follow its header");
        if let Step::Message(text) = step
            && actions
                .iter()
                .any(|action| matches!(action, Action::Start { .. }))
        {
            let say: serde_json::Value = serde_json::from_str(text).unwrap();
            self.seen
                .insert(say["id"].as_str().unwrap().to_owned(), Seen::default());
        }
        if let Step::Finish(key) | Step::Fail(key) = step {
            self.gone.insert(*key);
        }
    }

    fn must_be_open(&self, key: StreamKey) {
        assert!(self.started.contains(&key), "{key} has not started");
        assert!(
            !self.text_ended.contains(&key) && !self.gone.contains(&key),
            "{key} takes no text"
        );
    }

    fn watch_message(&mut self, message: &serde_json::Value) {
        let kind = message["type"].as_str().unwrap();
        let id = message["id"].as_str().unwrap_or_default().to_owned();
        match kind {
            "chunk" => {
                let seen = self
                    .seen
                    .get_mut(&id)
                    .expect("a chunk of a stream that does not run");
                assert!(!seen.last, "a chunk after the last");
                assert_eq!(message["index"], seen.next_index);
                seen.next_index += 1;
                seen.last = message["is_last"].as_bool().unwrap();
                self.binary_due = message.get("data").is_none();
            }
            "audio" => {
                let seen = self
                    .seen
                    .get_mut(&id)
                    .expect("audio of a stream that does not run");
                assert!(!std::mem::replace(&mut seen.last, true), "audio twice");
                self.binary_due = message.get("data").is_none();
            }
            "done" => assert!(
                self.seen
                    .remove(&id)
                    .expect("done twice, or after an error")
                    .last,
                "done before the last"
            ),
            "cancelled" => drop(self.seen.remove(&id)),
            "error" | "pong" => {}
            other => panic!("{other}"),
        }
    }
}

fn take(harness: &mut Harness, step: &Step) -> Vec<Action> {
    match step {
        Step::Message(text) => harness.receive(text),
        Step::Binary => harness.session.on_binary(),
        Step::Audio(key, samples) => harness.audio(*key, &vec![0.25; *samples]),
        Step::Finish(key) => harness.finish(*key),
        Step::Fail(key) => harness.fail(*key),
        Step::Drain => harness.session.drain(),
    }
}

proptest! {
    #[test]
    fn test_protocol_holds_for_random_sequences(steps in prop::collection::vec(step(), 0..60)) {
        let mut harness = Harness::new();
        let mut observer = Observer::default();
        for step in &steps {
            let known_key = match step {
                Step::Audio(key, _) | Step::Finish(key) | Step::Fail(key) => {
                    observer.started.contains(key) && !observer.gone.contains(key)
                }
                _ => true,
            };
            let step_is_failure = matches!(step, Step::Fail(_));
            let actions = take(&mut harness, step);
            prop_assert!(known_key || actions.is_empty(), "{:?}: {:?}", step, actions);
            prop_assert!(!(known_key && step_is_failure && actions.is_empty()), "a failure is always told");
            // A key that has not started yet may still come to life.
            let premature = matches!(step, Step::Finish(key) | Step::Fail(key) if !observer.started.contains(key));
            if !premature {
                observer.watch(step, &actions);
            }
            let running = observer.started.difference(&observer.gone).count();
            prop_assert!(running <= LIMITS.max_streams);
            prop_assert_eq!(harness.session.idle(), running == 0);
            if observer.closed {
                prop_assert_eq!(running, 0);
                break;
            }
        }
        // Whatever still runs ends in order.
        harness.receive(r#"{"type":"cancel"}"#);
        prop_assert!(harness.session.idle());
    }
}
