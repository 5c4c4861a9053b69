//! Text on its way in: whole, piece by piece, ended, cancelled, and cut short by a shutdown.

use super::{Harness, LIMITS, non_frames, only, sent};

#[test]
fn test_whole_text_starts_and_ends_stream() {
    let mut harness = Harness::new();
    let actions = harness.receive(r#"{"type":"say","id":"a","text":"One here. Two here."}"#);
    assert_eq!(
        non_frames(&actions),
        ["start 1", "text 1 One here.", "text 1 Two here.", "end 1"]
    );
    assert!(sent(&actions).is_empty());
}

#[test]
fn test_more_text_sends_complete_sentences() {
    let mut harness = Harness::new();
    assert_eq!(
        non_frames(&harness.receive(r#"{"type":"say","id":"a","more":true}"#)),
        ["start 1"]
    );
    let mut starts = Vec::new();
    for piece in ["One h", "ere. Tw", "o here.", " Th"] {
        starts.push(non_frames(&harness.receive(&format!(
            r#"{{"type":"append","id":"a","text":"{piece}"}}"#
        ))));
    }
    let none: [&str; 0] = [];
    assert_eq!(starts[0], none);
    assert_eq!(starts.concat(), ["text 1 One here.", "text 1 Two here."]);
    assert_eq!(
        non_frames(&harness.receive(r#"{"type":"end","id":"a"}"#)),
        ["text 1 Th", "end 1"]
    );
}

#[test]
fn test_text_after_end_is_refused() {
    let mut harness = Harness::new();
    harness.say(r#"{"type":"say","id":"whole","text":"Hello."}"#);
    harness.say(r#"{"type":"say","id":"ended","more":true}"#);
    harness.receive(r#"{"type":"end","id":"ended"}"#);
    for id in ["whole", "ended", "unknown"] {
        for message in [
            format!(r#"{{"type":"append","id":"{id}","text":"x"}}"#),
            format!(r#"{{"type":"end","id":"{id}"}}"#),
        ] {
            assert_eq!(
                only(&harness.receive(&message))["code"],
                "INVALID_PARAMETER",
                "{message}"
            );
        }
    }
}

#[test]
fn test_too_long_text_ends_only_its_stream() {
    let mut harness = Harness::new();
    harness.say(r#"{"type":"say","id":"a","more":true,"text":"Hello."}"#);
    harness.say(r#"{"type":"say","id":"b","text":"Hello."}"#);
    // Counted in characters, not in bytes.
    let fits = "ä".repeat(LIMITS.max_text_length - 6);
    assert!(
        sent(&harness.receive(&format!(r#"{{"type":"append","id":"a","text":"{fits}"}}"#)))
            .is_empty()
    );
    let actions = harness.receive(r#"{"type":"append","id":"a","text":". One more. And more."}"#);
    assert_eq!(
        non_frames(&actions),
        ["cancel 1"],
        "nothing of the text that is too long is spoken"
    );
    let error = &sent(&actions)[0];
    assert_eq!(
        (error["code"].as_str(), error["id"].as_str()),
        (Some("TEXT_TOO_LONG"), Some("a"))
    );
    assert!(harness.audio(1, &[0.0; 2000]).is_empty());
    assert!(harness.finish(1).is_empty(), "never done after an error");
    assert_eq!(sent(&harness.finish(2)).last().unwrap()["type"], "done");
}

#[test]
fn test_cancel_ends_one_stream() {
    let mut harness = Harness::new();
    let first = harness.say(r#"{"type":"say","id":"a","text":"Hello."}"#);
    let second = harness.say(r#"{"type":"say","id":"b","more":true}"#);
    harness.audio(first, &[0.5; 1500]);
    let actions = harness.receive(r#"{"type":"cancel","id":"a"}"#);
    assert_eq!(non_frames(&actions), ["cancel 1"]);
    assert_eq!(
        sent(&actions),
        [serde_json::json!({"type": "cancelled", "id": "a"})]
    );
    assert!(harness.audio(first, &[0.5; 1500]).is_empty());
    assert!(harness.finish(first).is_empty());
    assert!(harness.fail(first).is_empty());
    assert_eq!(sent(&harness.finish(second)).last().unwrap()["id"], "b");
}

#[test]
fn test_cancel_without_id_ends_all() {
    for cancel in [r#"{"type":"cancel"}"#, r#"{"type":"cancel","id":null}"#] {
        let mut harness = Harness::new();
        harness.say(r#"{"type":"say","id":"a","text":"Hello."}"#);
        harness.say(r#"{"type":"say","id":"b","text":"Hello."}"#);
        let actions = harness.receive(cancel);
        assert_eq!(non_frames(&actions), ["cancel 1", "cancel 2"]);
        let ids: Vec<_> = sent(&actions)
            .iter()
            .map(|message| message["id"].clone())
            .collect();
        assert_eq!(ids, ["a", "b"]);
        assert!(harness.session.idle());
        let nothing = only(&harness.receive(cancel));
        assert_eq!(
            nothing,
            serde_json::json!({"type": "cancelled", "id": null})
        );
    }
}

#[test]
fn test_cancel_of_unknown_id_is_acknowledged() {
    let answer = only(&Harness::new().receive(r#"{"type":"cancel","id":"gone"}"#));
    assert_eq!(
        answer,
        serde_json::json!({"type": "cancelled", "id": "gone"})
    );
}

#[test]
fn test_idle_session_closes_on_drain() {
    let mut harness = Harness::new();
    assert_eq!(non_frames(&harness.session.drain()), ["close 1001"]);
    assert!(harness.session.drain().is_empty(), "it closes once");
}

#[test]
fn test_draining_session_finishes_and_starts_nothing() {
    let mut harness = Harness::new();
    let first = harness.say(r#"{"type":"say","id":"a","text":"Hello."}"#);
    let second = harness.say(r#"{"type":"say","id":"b","more":true}"#);
    assert!(harness.session.drain().is_empty());
    let error = only(&harness.receive(r#"{"type":"say","text":"Hello."}"#));
    assert_eq!(error["code"], "DRAINING");
    assert_eq!(non_frames(&harness.finish(first)), [""; 0]);
    assert_eq!(
        non_frames(&harness.receive(r#"{"type":"append","id":"b","text":"Bye."}"#)),
        [""; 0]
    );
    assert_eq!(
        non_frames(&harness.receive(r#"{"type":"end","id":"b"}"#)),
        ["text 2 Bye.", "end 2"]
    );
    let actions = harness.finish(second);
    assert_eq!(sent(&actions).last().unwrap()["type"], "done");
    assert_eq!(non_frames(&actions), ["close 1001"]);
}

#[test]
fn test_draining_session_closes_after_last_stream() {
    type End = fn(&mut Harness) -> Vec<super::Action>;
    let ends: [(&str, End); 4] = [
        ("a failure", |harness| harness.fail(1)),
        ("cancel", |harness| {
            harness.receive(r#"{"type":"cancel","id":"a"}"#)
        }),
        ("cancel all", |harness| {
            harness.receive(r#"{"type":"cancel"}"#)
        }),
        ("too long", |harness| {
            harness.receive(&format!(
                r#"{{"type":"append","id":"a","text":"{}"}}"#,
                "x".repeat(99)
            ))
        }),
    ];
    for (name, end) in ends {
        let mut harness = Harness::new();
        harness.say(r#"{"type":"say","id":"a","more":true}"#);
        harness.session.drain();
        let actions = end(&mut harness);
        assert!(
            matches!(
                actions.last(),
                Some(super::Action::Close { code: 1001, .. })
            ),
            "{name}: {actions:?}"
        );
        assert_eq!(sent(&actions).len(), 1, "{name}");
    }
}
