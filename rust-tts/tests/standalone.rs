//! The standalone binary: starts, and speaks with both engines that need no download.

#![cfg(feature = "embed")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use support::Server;

/// Sends one request and returns the head and the body of its answer.
fn ask(server: &Server, request_line: &str, body: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(&server.address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let length = body.len();
    let json = "Content-Type: application/json";
    write!(
        stream,
        "{request_line} HTTP/1.1\r\nHost: {}\r\n{json}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}",
        server.address
    )
    .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .expect("a head");
    let body = answer.split_off(end + 4);
    (String::from_utf8(answer).unwrap(), body)
}

fn speaks(arguments: &[&str], model: &str) {
    let server = Server::start(
        Path::new(env!("CARGO_BIN_EXE_chatterbox-server")),
        arguments,
    );
    let (head, body) = ask(&server, "GET /health", "");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let health: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(health["loaded_models"], serde_json::json!([model]));
    let say = r#"{"text": "Hello from inside.", "stream": false, "audio": {"format": "wav"}}"#;
    let (head, wav) = ask(&server, "POST /api/tts", say);
    assert!(
        head.starts_with("HTTP/1.1 200"),
        "{head}: {}",
        String::from_utf8_lossy(&wav)
    );
    let reader = hound::WavReader::new(wav.as_slice()).unwrap();
    let rate = reader.spec().sample_rate;
    let samples: Vec<i16> = reader.into_samples().map(Result::unwrap).collect();
    assert!(samples.len() as u32 > rate / 2, "{} samples", samples.len());
    assert!(
        samples.iter().any(|sample| sample.abs() > 1000),
        "it is silent"
    );
}

#[test]
fn test_fake_engine_speaks() {
    speaks(&["--engine", "fake"], "fake");
}

#[test]
fn test_embedded_voice_speaks() {
    speaks(&[], "lite");
}
