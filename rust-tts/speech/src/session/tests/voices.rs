//! `set_voice`: for the server, or for one connection.

use super::{Harness, non_frames, only};

#[test]
fn test_connection_voice_is_used_where_none_is_named() {
    let mut harness = Harness::new();
    let say = r#"{"type":"say","text":"Hello."}"#;
    harness.say(say);
    let set =
        r#"{"type":"set_voice","voice_path":"/service/voices/known.wav","scope":"connection"}"#;
    let answer = only(&harness.receive(set));
    assert_eq!(
        answer,
        serde_json::json!({"type": "voice_set", "voice_path": "known.wav"})
    );
    harness.say(say);
    harness.say(r#"{"type":"say","text":"Hello.","voice":{"audio_prompt_path":"own.wav"}}"#);
    let prompts = harness.host.prompts.borrow();
    assert_eq!(
        *prompts,
        [None, Some("known.wav".into()), Some("own.wav".into())]
    );
    assert!(
        harness.host.default_voice.borrow().is_none(),
        "the server's default is not touched"
    );
}

#[test]
fn test_server_voice_becomes_default() {
    for scope in ["", r#","scope":"server""#, r#","scope":null"#] {
        let mut harness = Harness::new();
        let answer = only(&harness.receive(&format!(
            r#"{{"type":"set_voice","voice_path":"known.wav"{scope}}}"#
        )));
        assert_eq!(answer["type"], "voice_set", "{scope}");
        assert_eq!(
            harness.host.default_voice.borrow().as_deref(),
            Some("known.wav"),
            "{scope}"
        );
        harness.say(r#"{"type":"say","text":"Hello."}"#);
        assert_eq!(
            *harness.host.prompts.borrow(),
            [None],
            "the server applies its own default"
        );
    }
}

#[test]
fn test_set_voice_with_unknown_voice_changes_nothing() {
    let mut harness = Harness::new();
    harness.receive(r#"{"type":"set_voice","voice_path":"known.wav","scope":"connection"}"#);
    let error = only(
        &harness.receive(r#"{"type":"set_voice","voice_path":"/etc/passwd","scope":"connection"}"#),
    );
    assert_eq!(error["code"], "VOICE_NOT_FOUND");
    assert!(
        !error.to_string().contains("passwd"),
        "the path is not echoed"
    );
    assert!(
        non_frames(&harness.receive(r#"{"type":"say","text":"Hello."}"#))
            .contains(&"start 1".to_owned())
    );
    assert_eq!(*harness.host.prompts.borrow(), [Some("known.wav".into())]);
}
