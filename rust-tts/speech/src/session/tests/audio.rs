//! Audio on its way out: chunks, whole answers, binary frames, ends.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use super::{Action, Frame, Harness, sent, summary};
use crate::{SpeechEvent, Timing};

fn data(message: &Value) -> Vec<u8> {
    BASE64.decode(message["data"].as_str().unwrap()).unwrap()
}

/// A ramp, so that a sample that moved is seen.
fn ramp(count: usize) -> Vec<f32> {
    (0..count)
        .map(|sample| (sample % 1000) as f32 / 1000.0)
        .collect()
}

fn f32s(bytes: &[u8]) -> Vec<f32> {
    bytes
        .chunks_exact(4)
        .map(|four| f32::from_le_bytes(four.try_into().unwrap()))
        .collect()
}

#[test]
fn test_all_chunks_but_last_have_exact_length() {
    for (rate, chunk_ms, exact) in [
        (24_000, 40, 960),
        (8_000, 10, 80),
        (22_050, 10, 220),
        (22_050, 40, 882),
        (22_050, 125, 2756),
        (44_100, 125, 5512),
        (48_000, 5000, 240_000),
    ] {
        for total in [1, exact - 1, exact, exact + 1, 3 * exact, 3 * exact + 7] {
            let mut harness = Harness::new();
            let key = harness.say(&format!(
                r#"{{"type":"say","id":"a","text":"Hello.",
                     "audio":{{"format":"pcm_f32le","sample_rate":{rate},"chunk_size_ms":{chunk_ms}}}}}"#
            ));
            let samples = ramp(total);
            let mut messages = Vec::new();
            for piece in samples.chunks(exact / 3 + 1) {
                messages.extend(sent(&harness.audio(key, piece)));
            }
            messages.extend(sent(&harness.finish(key)));
            let case = format!("{rate} Hz, {chunk_ms} ms, {total} samples");
            assert_eq!(messages.pop().unwrap()["type"], "done", "{case}");
            assert_eq!(messages.len(), total.div_ceil(exact), "{case}");
            let last = messages.len() - 1;
            for (index, message) in messages.iter().enumerate() {
                assert_eq!(message["type"], "chunk", "{case}");
                assert_eq!(message["index"], index, "{case}");
                assert_eq!(message["is_last"], index == last, "{case}");
                assert!(index == last || data(message).len() == 4 * exact, "{case}");
            }
            let bytes: Vec<u8> = messages.iter().flat_map(data).collect();
            assert_eq!(f32s(&bytes), samples, "{case}");
        }
    }
}

#[test]
fn test_done_has_timings() {
    let mut harness = Harness::new();
    let key = harness.say(r#"{"type":"say","id":"a","text":"Hello."}"#);
    assert!(
        harness
            .session
            .on_event(key, Ok(SpeechEvent::Started(Timing::default())))
            .is_empty()
    );
    assert!(
        harness
            .session
            .on_event(key, Ok(SpeechEvent::Progress { characters: 6 }))
            .is_empty()
    );
    harness.audio(key, &ramp(100));
    let messages = sent(&harness.finish(key));
    let expected = serde_json::json!({
        "type": "done", "id": "a", "duration_seconds": summary().audio_seconds, "time_to_first_audio_ms": 120.0,
        "real_time_factor": summary().real_time_factor, "cancelled": false,
    });
    assert_eq!(*messages.last().unwrap(), expected);
    assert!(harness.session.idle());
    assert!(harness.finish(key).is_empty(), "it is done once");
}

#[test]
fn test_error_is_last_message() {
    let mut harness = Harness::new();
    let key = harness.say(r#"{"type":"say","id":"a","text":"Hello."}"#);
    let chunks = sent(&harness.audio(key, &ramp(2000)));
    assert!(!chunks.is_empty() && chunks.iter().all(|chunk| chunk["is_last"] == false));
    let error = super::only(&harness.fail(key));
    assert_eq!(
        (error["type"].as_str(), error["id"].as_str()),
        (Some("error"), Some("a"))
    );
    assert_eq!(
        (error["code"].as_str(), error["error"].as_str()),
        (Some("GENERATION_ERROR"), Some("It broke."))
    );
    assert!(harness.audio(key, &ramp(2000)).is_empty());
    assert!(harness.finish(key).is_empty());
    assert!(harness.session.idle());
}

#[test]
fn test_binary_frames_follow_their_header() {
    let mut harness = Harness::new();
    let key = harness.say(
        r#"{"type":"say","id":"a","text":"Hello.","audio":{"binary":true,"format":"pcm_f32le"}}"#,
    );
    let samples = ramp(2500);
    let mut actions = harness.audio(key, &samples);
    actions.extend(harness.finish(key));
    let done = actions.pop();
    assert!(matches!(done, Some(Action::Send(Frame::Text(text))) if text.contains("done")));
    let mut bytes = Vec::new();
    for (index, pair) in actions.chunks(2).enumerate() {
        let [
            Action::Send(Frame::Text(header)),
            Action::Send(Frame::Binary(frame)),
        ] = pair
        else {
            panic!("{pair:?}")
        };
        let header: Value = serde_json::from_str(header).unwrap();
        assert_eq!(
            header,
            serde_json::json!({"type": "chunk", "id": "a", "index": index, "is_last": index == 2})
        );
        bytes.extend_from_slice(frame);
    }
    assert_eq!(f32s(&bytes), samples);
}

#[test]
fn test_whole_audio_comes_in_one_message() {
    for binary in [false, true] {
        let mut harness = Harness::new();
        let key = harness.say(&format!(
            r#"{{"type":"say","id":"a","text":"Hello.","stream":false,"audio":{{"format":"wav","binary":{binary}}}}}"#
        ));
        assert!(harness.audio(key, &ramp(1500)).is_empty());
        assert!(harness.audio(key, &ramp(500)).is_empty());
        let actions = harness.finish(key);
        let messages = sent(&actions);
        assert_eq!(messages.len(), 2);
        assert_eq!(messages[0]["type"], "audio");
        assert_eq!(messages[0]["sample_rate"], 24_000);
        assert_eq!(messages[0]["duration_seconds"], summary().audio_seconds);
        assert_eq!(messages[1]["type"], "done");
        let wav = match &actions[1] {
            Action::Send(Frame::Binary(bytes)) if binary => bytes.clone(),
            _ => data(&messages[0]),
        };
        assert_eq!(messages[0].get("data").is_none(), binary);
        // The sizes are real: the length was known.
        let reader = hound::WavReader::new(wav.as_slice()).unwrap();
        assert_eq!(
            (reader.spec().sample_rate, reader.duration()),
            (24_000, 2000)
        );
    }
}

#[test]
fn test_format_header_is_sent_once() {
    let mut harness = Harness::new();
    let key = harness.say(r#"{"type":"say","id":"a","text":"Hello.","audio":{"format":"wav"}}"#);
    let mut messages = sent(&harness.audio(key, &ramp(2500)));
    messages.extend(sent(&harness.finish(key)));
    messages.pop();
    let bytes: Vec<u8> = messages.iter().flat_map(data).collect();
    assert_eq!(bytes.len(), 44 + 2 * 2500);
    assert!(bytes.starts_with(b"RIFF"));
    assert_eq!(
        data(&messages[1]).len(),
        2 * 960,
        "only the first chunk is longer"
    );
}

#[test]
fn test_parts_of_unknown_keys_are_dropped() {
    let mut harness = Harness::new();
    assert!(harness.audio(7, &ramp(5000)).is_empty());
    assert!(harness.finish(7).is_empty());
    assert!(harness.fail(7).is_empty());
}
