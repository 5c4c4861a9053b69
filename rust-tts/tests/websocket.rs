//! The installed server, spoken to over `/ws/tts` by another implementation of the protocol.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use support::Server;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// Bytes of a 40 ms chunk of 16-bit samples at 24 kHz.
const CHUNK: usize = 2 * 960;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// The console script of the virtual environment that `make test-rust` names.
fn start(arguments: &[&str]) -> Server {
    let venv = std::env::var_os("VIRTUAL_ENV")
        .expect("VIRTUAL_ENV is not set: run these tests with `make test-rust`");
    let program = PathBuf::from(venv).join("bin/chatterbox-server");
    assert!(
        program.is_file(),
        "{} is missing: run `make install`",
        program.display()
    );
    Server::start(&program, arguments)
}

async fn next(socket: &mut Socket) -> Message {
    let message = tokio::time::timeout(Duration::from_secs(20), socket.next()).await;
    message
        .expect("a message in time")
        .expect("an open socket")
        .unwrap()
}

async fn next_json(socket: &mut Socket) -> Value {
    serde_json::from_str(next(socket).await.to_text().unwrap()).unwrap()
}

async fn send(socket: &mut Socket, message: Value) {
    socket
        .send(Message::text(message.to_string()))
        .await
        .unwrap();
}

/// Connects and reads the first message.
async fn connect(server: &Server) -> Socket {
    let (mut socket, _) = connect_async(format!("ws://{}/ws/tts", server.address))
        .await
        .unwrap();
    let ready = next_json(&mut socket).await;
    assert_eq!(
        (&ready["type"], &ready["sample_rate"]),
        (&json!("ready"), &json!(24_000))
    );
    socket
}

#[tokio::test]
async fn test_stream_is_answered_with_chunks_and_done() {
    let server = start(&["--engine", "fake", "--fake-rtf", "0"]);
    let mut socket = connect(&server).await;
    send(
        &mut socket,
        json!({"type": "say", "id": "a", "text": "Hello there."}),
    )
    .await;
    let mut bytes = Vec::new();
    for index in 0.. {
        let chunk = next_json(&mut socket).await;
        assert_eq!(
            (&chunk["type"], &chunk["id"], &chunk["index"]),
            (&json!("chunk"), &json!("a"), &json!(index))
        );
        let data = BASE64.decode(chunk["data"].as_str().unwrap()).unwrap();
        let last = chunk["is_last"] == true;
        assert!(last || data.len() == CHUNK, "{}", data.len());
        bytes.extend(data);
        if last {
            break;
        }
    }
    let done = next_json(&mut socket).await;
    assert_eq!(
        (&done["type"], &done["id"], &done["cancelled"]),
        (&json!("done"), &json!("a"), &json!(false))
    );
    let seconds = bytes.len() as f64 / 2.0 / 24_000.0;
    assert!(
        (done["duration_seconds"].as_f64().unwrap() - seconds).abs() < 0.001,
        "{done}: {seconds}"
    );
}

#[tokio::test]
async fn test_binary_chunks_follow_their_headers() {
    let server = start(&["--engine", "fake", "--fake-rtf", "0"]);
    let mut socket = connect(&server).await;
    send(
        &mut socket,
        json!({"type": "say", "text": "Hello there.", "audio": {"binary": true}}),
    )
    .await;
    loop {
        let chunk = next_json(&mut socket).await;
        assert!(
            chunk["type"] == "chunk" && chunk.get("data").is_none(),
            "{chunk}"
        );
        let Message::Binary(data) = next(&mut socket).await else {
            panic!("no audio behind {chunk}")
        };
        if chunk["is_last"] == true {
            break;
        }
        assert_eq!(data.len(), CHUNK);
    }
    assert_eq!(next_json(&mut socket).await["type"], "done");
}

#[tokio::test]
async fn test_cancel_silences_stream_and_next_one_plays() {
    let server = start(&[
        "--engine",
        "fake",
        "--fake-rtf",
        "1",
        "--max-concurrent-requests",
        "1",
    ]);
    let mut socket = connect(&server).await;
    send(
        &mut socket,
        json!({"type": "say", "id": "long", "text": "Long. ".repeat(100)}),
    )
    .await;
    assert_eq!(next_json(&mut socket).await["type"], "chunk");
    send(&mut socket, json!({"type": "cancel", "id": "long"})).await;
    while next_json(&mut socket).await != json!({"type": "cancelled", "id": "long"}) {}
    send(
        &mut socket,
        json!({"type": "say", "id": "short", "text": "Short."}),
    )
    .await;
    loop {
        let message = next_json(&mut socket).await;
        assert_eq!(message["id"], "short", "{message}");
        if message["type"] == "done" {
            break;
        }
    }
}
