//! Text on its way in: whole, piece by piece, ended, cancelled, and cut short by a shutdown.

use super::{LIMITS, Talk, deeds, only, sent};

#[test]
fn test_whole_text_starts_and_ends_stream() {
    let mut talk = Talk::new();
    let actions = talk.hear(r#"{"type":"say","id":"a","text":"One here. Two here."}"#);
    assert_eq!(
        deeds(&actions),
        ["start 1", "text 1 One here.", "text 1 Two here.", "end 1"]
    );
    assert!(sent(&actions).is_empty());
}

#[test]
fn test_more_text_sends_complete_sentences() {
    let mut talk = Talk::new();
    assert_eq!(
        deeds(&talk.hear(r#"{"type":"say","id":"a","more":true}"#)),
        ["start 1"]
    );
    let mut heard = Vec::new();
    for piece in ["One h", "ere. Tw", "o here.", " Th"] {
        heard.push(deeds(&talk.hear(&format!(
            r#"{{"type":"append","id":"a","text":"{piece}"}}"#
        ))));
    }
    let none: [&str; 0] = [];
    assert_eq!(heard[0], none);
    assert_eq!(heard.concat(), ["text 1 One here.", "text 1 Two here."]);
    assert_eq!(
        deeds(&talk.hear(r#"{"type":"end","id":"a"}"#)),
        ["text 1 Th", "end 1"]
    );
}

#[test]
fn test_text_after_end_is_refused() {
    let mut talk = Talk::new();
    talk.say(r#"{"type":"say","id":"whole","text":"Hello."}"#);
    talk.say(r#"{"type":"say","id":"ended","more":true}"#);
    talk.hear(r#"{"type":"end","id":"ended"}"#);
    for id in ["whole", "ended", "unknown"] {
        for message in [
            format!(r#"{{"type":"append","id":"{id}","text":"x"}}"#),
            format!(r#"{{"type":"end","id":"{id}"}}"#),
        ] {
            assert_eq!(
                only(&talk.hear(&message))["code"],
                "INVALID_PARAMETER",
                "{message}"
            );
        }
    }
}

#[test]
fn test_too_long_text_ends_only_its_stream() {
    let mut talk = Talk::new();
    talk.say(r#"{"type":"say","id":"a","more":true,"text":"Hello."}"#);
    talk.say(r#"{"type":"say","id":"b","text":"Hello."}"#);
    // Counted in characters, not in bytes.
    let fits = "ä".repeat(LIMITS.max_text_length - 6);
    assert!(
        sent(&talk.hear(&format!(r#"{{"type":"append","id":"a","text":"{fits}"}}"#))).is_empty()
    );
    let actions = talk.hear(r#"{"type":"append","id":"a","text":". One more. And more."}"#);
    assert_eq!(
        deeds(&actions),
        ["cancel 1"],
        "nothing of the text that is too long is spoken"
    );
    let error = &sent(&actions)[0];
    assert_eq!(
        (error["code"].as_str(), error["id"].as_str()),
        (Some("TEXT_TOO_LONG"), Some("a"))
    );
    assert!(talk.audio(1, &[0.0; 2000]).is_empty());
    assert!(talk.finish(1).is_empty(), "never done after an error");
    assert_eq!(sent(&talk.finish(2)).last().unwrap()["type"], "done");
}

#[test]
fn test_cancel_ends_one_stream() {
    let mut talk = Talk::new();
    let first = talk.say(r#"{"type":"say","id":"a","text":"Hello."}"#);
    let second = talk.say(r#"{"type":"say","id":"b","more":true}"#);
    talk.audio(first, &[0.5; 1500]);
    let actions = talk.hear(r#"{"type":"cancel","id":"a"}"#);
    assert_eq!(deeds(&actions), ["cancel 1"]);
    assert_eq!(
        sent(&actions),
        [serde_json::json!({"type": "cancelled", "id": "a"})]
    );
    assert!(talk.audio(first, &[0.5; 1500]).is_empty());
    assert!(talk.finish(first).is_empty());
    assert!(talk.fail(first).is_empty());
    assert_eq!(sent(&talk.finish(second)).last().unwrap()["id"], "b");
}

#[test]
fn test_cancel_without_an_id_ends_all() {
    for cancel in [r#"{"type":"cancel"}"#, r#"{"type":"cancel","id":null}"#] {
        let mut talk = Talk::new();
        talk.say(r#"{"type":"say","id":"a","text":"Hello."}"#);
        talk.say(r#"{"type":"say","id":"b","text":"Hello."}"#);
        let actions = talk.hear(cancel);
        assert_eq!(deeds(&actions), ["cancel 1", "cancel 2"]);
        let ids: Vec<_> = sent(&actions)
            .iter()
            .map(|message| message["id"].clone())
            .collect();
        assert_eq!(ids, ["a", "b"]);
        assert!(talk.session.idle());
        let nothing = only(&talk.hear(cancel));
        assert_eq!(
            nothing,
            serde_json::json!({"type": "cancelled", "id": null})
        );
    }
}

#[test]
fn test_cancel_of_an_unknown_id_is_acknowledged() {
    let answer = only(&Talk::new().hear(r#"{"type":"cancel","id":"gone"}"#));
    assert_eq!(
        answer,
        serde_json::json!({"type": "cancelled", "id": "gone"})
    );
}

#[test]
fn test_idle_session_closes_on_drain() {
    let mut talk = Talk::new();
    assert_eq!(deeds(&talk.session.drain()), ["close 1001"]);
    assert!(talk.session.drain().is_empty(), "it closes once");
}

#[test]
fn test_draining_session_finishes_and_starts_nothing() {
    let mut talk = Talk::new();
    let first = talk.say(r#"{"type":"say","id":"a","text":"Hello."}"#);
    let second = talk.say(r#"{"type":"say","id":"b","more":true}"#);
    assert!(talk.session.drain().is_empty());
    let error = only(&talk.hear(r#"{"type":"say","text":"Hello."}"#));
    assert_eq!(error["code"], "DRAINING");
    assert_eq!(deeds(&talk.finish(first)), [""; 0]);
    assert_eq!(
        deeds(&talk.hear(r#"{"type":"append","id":"b","text":"Bye."}"#)),
        [""; 0]
    );
    assert_eq!(
        deeds(&talk.hear(r#"{"type":"end","id":"b"}"#)),
        ["text 2 Bye.", "end 2"]
    );
    let actions = talk.finish(second);
    assert_eq!(sent(&actions).last().unwrap()["type"], "done");
    assert_eq!(deeds(&actions), ["close 1001"]);
}

#[test]
fn test_draining_session_closes_after_last_stream() {
    type End = fn(&mut Talk) -> Vec<super::Action>;
    let ends: [(&str, End); 4] = [
        ("a failure", |talk| talk.fail(1)),
        ("cancel", |talk| talk.hear(r#"{"type":"cancel","id":"a"}"#)),
        ("cancel all", |talk| talk.hear(r#"{"type":"cancel"}"#)),
        ("too long", |talk| {
            talk.hear(&format!(
                r#"{{"type":"append","id":"a","text":"{}"}}"#,
                "x".repeat(99)
            ))
        }),
    ];
    for (name, end) in ends {
        let mut talk = Talk::new();
        talk.say(r#"{"type":"say","id":"a","more":true}"#);
        talk.session.drain();
        let actions = end(&mut talk);
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
