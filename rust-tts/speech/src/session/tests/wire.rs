//! Every message of a client, right and wrong.

use super::super::MAX_ID;
use super::{Harness, only, sent};
use crate::session::Session;

#[test]
fn test_ready_lists_loaded_models() {
    let super::Frame::Text(text) = Session::ready(&["standard", "lite"], "cpu") else {
        panic!("not text")
    };
    let ready: serde_json::Value = serde_json::from_str(&text).unwrap();
    let expected = serde_json::json!({
        "type": "ready", "models": ["standard", "lite"], "device": "cpu", "version": crate::VERSION, "sample_rate": 24_000,
    });
    assert_eq!(ready, expected);
}

/// A message, the code of its error, what the error speaks of, and the id that it carries.
const WRONG: &[(&str, &str, &str, Option<&str>)] = &[
    ("", "PARSE_ERROR", "", None),
    ("say", "PARSE_ERROR", "", None),
    ("{", "PARSE_ERROR", "", None),
    ("[]", "PARSE_ERROR", "object", None),
    ("\"say\"", "PARSE_ERROR", "object", None),
    ("null", "PARSE_ERROR", "object", None),
    (r#"{"type":"say","text":"a"} {}"#, "PARSE_ERROR", "", None),
    (r#"{"type":"say","text":NaN}"#, "PARSE_ERROR", "", None),
    ("{}", "UNKNOWN_TYPE", "type", None),
    (r#"{"type":null}"#, "UNKNOWN_TYPE", "type", None),
    (r#"{"type":["say"]}"#, "UNKNOWN_TYPE", "type", None),
    (
        r#"{"type":"SAY","id":"x"}"#,
        "UNKNOWN_TYPE",
        "say, append",
        Some("x"),
    ),
    (r#"{"type":"say"}"#, "MISSING_TEXT", "text", None),
    (
        r#"{"type":"say","id":"x"}"#,
        "MISSING_TEXT",
        "text",
        Some("x"),
    ),
    (
        r#"{"type":"say","id":"x","text":5}"#,
        "INVALID_PARAMETER",
        "text: ",
        Some("x"),
    ),
    (
        r#"{"type":"say","id":5,"text":"a"}"#,
        "INVALID_PARAMETER",
        "id: ",
        None,
    ),
    (
        r#"{"type":"say","id":"","text":"a"}"#,
        "INVALID_PARAMETER",
        "id: ",
        Some(""),
    ),
    (
        r#"{"type":"say","text":"a","more":2}"#,
        "INVALID_PARAMETER",
        "more: ",
        None,
    ),
    (
        r#"{"type":"say","text":"a","stream":"maybe"}"#,
        "INVALID_PARAMETER",
        "stream: ",
        None,
    ),
    (
        r#"{"type":"say","text":"a","voice":[]}"#,
        "INVALID_PARAMETER",
        "voice: ",
        None,
    ),
    (
        r#"{"type":"say","text":"a","voice":{"top_p":"x"}}"#,
        "INVALID_PARAMETER",
        "voice.top_p: ",
        None,
    ),
    (
        r#"{"type":"say","text":"a","audio":{"chunk_size_ms":-1}}"#,
        "INVALID_PARAMETER",
        "audio.chunk_size_ms: ",
        None,
    ),
    (
        r#"{"type":"append","text":"a"}"#,
        "INVALID_PARAMETER",
        "id: ",
        None,
    ),
    (
        r#"{"type":"append","id":"x","text":"a"}"#,
        "INVALID_PARAMETER",
        "id: ",
        Some("x"),
    ),
    (
        r#"{"type":"append","id":"x"}"#,
        "MISSING_TEXT",
        "text",
        Some("x"),
    ),
    (
        r#"{"type":"append","id":"x","text":{}}"#,
        "INVALID_PARAMETER",
        "text: ",
        Some("x"),
    ),
    (r#"{"type":"end"}"#, "INVALID_PARAMETER", "id: ", None),
    (
        r#"{"type":"end","id":[]}"#,
        "INVALID_PARAMETER",
        "id: ",
        None,
    ),
    (
        r#"{"type":"end","id":"x"}"#,
        "INVALID_PARAMETER",
        "id: ",
        Some("x"),
    ),
    (
        r#"{"type":"cancel","id":5}"#,
        "INVALID_PARAMETER",
        "id: ",
        None,
    ),
    (
        r#"{"type":"set_voice"}"#,
        "MISSING_VOICE_PATH",
        "voice_path",
        None,
    ),
    (
        r#"{"type":"set_voice","voice_path":" "}"#,
        "MISSING_VOICE_PATH",
        "voice_path",
        None,
    ),
    (
        r#"{"type":"set_voice","voice_path":5}"#,
        "INVALID_PARAMETER",
        "voice_path: ",
        None,
    ),
    (
        r#"{"type":"set_voice","voice_path":"other.wav"}"#,
        "VOICE_NOT_FOUND",
        "",
        None,
    ),
    (
        r#"{"type":"set_voice","voice_path":"known.wav","scope":"world"}"#,
        "INVALID_PARAMETER",
        "scope: ",
        None,
    ),
];

#[test]
fn test_invalid_messages_get_only_error() {
    for &(message, code, about, id) in WRONG {
        let mut harness = Harness::new();
        let error = only(&harness.receive(message));
        assert_eq!(error["type"], "error", "{message}");
        assert_eq!(error["code"], code, "{message}: {error}");
        assert_eq!(error["error"], error["message"], "{message}");
        assert!(
            error["error"].as_str().unwrap().contains(about),
            "{message}: {error}"
        );
        assert_eq!(error.get("id").and_then(|id| id.as_str()), id, "{message}");
        assert!(harness.session.idle(), "{message}");
        assert_eq!(
            only(&harness.receive(r#"{"type":"ping"}"#)),
            serde_json::json!({"type": "pong"})
        );
    }
}

#[test]
fn test_deep_json_is_refused() {
    let deep = "[".repeat(100_000);
    assert_eq!(only(&Harness::new().receive(&deep))["code"], "PARSE_ERROR");
}

#[test]
fn test_out_of_range_numbers_name_field() {
    let error =
        only(&Harness::new().receive(r#"{"type":"say","text":"a","voice":{"top_p":1e999}}"#));
    assert_eq!(error["code"], "INVALID_PARAMETER", "{error}");
    assert!(
        error["error"].as_str().unwrap().contains("voice.top_p"),
        "{error}"
    );
}

#[test]
fn test_binary_messages_are_refused() {
    assert_eq!(
        only(&Harness::new().session.on_binary())["code"],
        "PARSE_ERROR"
    );
}

#[test]
fn test_streams_without_id_get_one() {
    let mut harness = Harness::new();
    let ids: Vec<_> = (0..2)
        .map(|_| {
            let key = harness.say(r#"{"type":"say","text":"Hello."}"#);
            let id = sent(&harness.finish(key))[0]["id"]
                .as_str()
                .unwrap()
                .to_owned();
            assert!(uuid::Uuid::parse_str(&id).is_ok(), "{id}");
            id
        })
        .collect();
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn test_id_is_taken_until_stream_ends() {
    let mut harness = Harness::new();
    let key = harness.say(r#"{"type":"say","id":"a","text":"Hello."}"#);
    let error = only(&harness.receive(r#"{"type":"say","id":"a","text":"Again."}"#));
    assert_eq!(
        (error["code"].as_str(), error["id"].as_str()),
        (Some("INVALID_PARAMETER"), Some("a"))
    );
    harness.finish(key);
    assert_ne!(
        harness.say(r#"{"type":"say","id":"a","text":"Again."}"#),
        key
    );
}

#[test]
fn test_id_length_is_limited() {
    let say = |id: &str| format!(r#"{{"type":"say","id":"{id}","text":"Hello."}}"#);
    Harness::new().say(&say(&"i".repeat(MAX_ID)));
    let error = only(&Harness::new().receive(&say(&"i".repeat(MAX_ID + 1))));
    assert_eq!(error["code"], "INVALID_PARAMETER");
    assert!(
        error.get("id").is_none(),
        "an id of any length is not echoed"
    );
}

#[test]
fn test_streams_per_connection_are_limited() {
    let mut harness = Harness::new();
    let say = r#"{"type":"say","text":"Hello."}"#;
    let first = harness.say(say);
    harness.say(say);
    harness.say(say);
    let error = only(&harness.receive(say));
    assert_eq!(error["code"], "TOO_MANY_REQUESTS");
    assert!(error["retry_after"].as_u64().unwrap() >= 1);
    harness.finish(first);
    harness.say(say);
}
