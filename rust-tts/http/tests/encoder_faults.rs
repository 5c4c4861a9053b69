//! An encoder that fails is an error everywhere, never the end of a short answer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use chatterbox_audio::Format;
use chatterbox_audio::faults::{Fault, inject};
use chatterbox_engine::messages::{Audio, Command, Done, EngineInfo, Event, Id, Model, Stats};
use chatterbox_engine::{Engine, EngineError};
use chatterbox_http::HttpOptions;
use chatterbox_http::auth::Keys;
use chatterbox_http::connections;
use chatterbox_http::state::App;
use chatterbox_speech::metrics::Metrics;
use chatterbox_speech::options::SpeechOptions;
use chatterbox_speech::service::SpeechService;
use chatterbox_voices::VoiceOptions;
use clap::Parser;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

const RATE: u32 = 24_000;
/// Two seconds of audio, in steps of 40 ms.
const STEP_SAMPLES: usize = 960;
const STEPS: usize = 50;

/// Speaks every request as a tone of two seconds.
#[derive(Default)]
struct ToneEngine {
    /// Steps that each request has had.
    live: HashMap<Id, usize>,
}

impl Engine for ToneEngine {
    fn info(&self) -> Result<EngineInfo, EngineError> {
        let model = Model {
            name: "tone".into(),
            sample_rate: RATE,
            can_clone: false,
            can_convert: false,
            languages: vec!["en".into()],
            voices: vec!["tone".into()],
            tags: Vec::new(),
            watermark: false,
        };
        Ok(EngineInfo {
            device: "none".into(),
            models: vec![Arc::new(model)],
        })
    }

    fn idle(&self) -> Result<bool, EngineError> {
        Ok(self.live.is_empty())
    }

    fn step(&mut self, commands: Vec<Command>) -> Result<Vec<Event>, EngineError> {
        for command in commands {
            match command {
                Command::Speak(speak) => drop(self.live.insert(speak.id, 0)),
                Command::Cancel(cancel) => drop(self.live.remove(&cancel.id)),
                _ => {}
            }
        }
        // Slower than any encoder, so that a fault comes while audio is still being made.
        std::thread::sleep(Duration::from_millis(1));
        let mut events = Vec::new();
        for (&id, steps) in &mut self.live {
            let start = *steps * STEP_SAMPLES;
            let tone = |n: usize| 0.5 * (n as f32 * 0.1).sin();
            let pcm: Vec<f32> = (start..start + STEP_SAMPLES).map(tone).collect();
            events.push(Event::Audio(Audio {
                id,
                pcm: pcm.into(),
            }));
            *steps += 1;
            if *steps == STEPS {
                let stats = Stats {
                    audio_seconds: 2.0,
                    ..Stats::default()
                };
                events.push(Event::Done(Done { id, stats }));
            }
        }
        self.live.retain(|_, steps| *steps < STEPS);
        Ok(events)
    }

    fn voice_cache_bytes(&self) -> u64 {
        0
    }

    fn close(&mut self) {}
}

#[derive(Parser)]
struct Options {
    #[command(flatten)]
    server: HttpOptions,
    #[command(flatten)]
    speech: SpeechOptions,
    #[command(flatten)]
    voices: VoiceOptions,
}

struct TestServer {
    address: String,
    app: Arc<App>,
    _folder: tempfile::TempDir,
}

impl TestServer {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().to_str().unwrap();
        let options = Options::parse_from(["server", "--voices-dir", place]);
        let (engine, _) =
            chatterbox_engine::spawn(|worker| worker.run(|| Ok(ToneEngine::default()))).unwrap();
        while engine.status().ready().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let store = Arc::new(options.voices.open().unwrap());
        let speech = SpeechService::new(engine, store, options.speech, options.voices);
        let metrics = Metrics::install().unwrap();
        let app = App::new(Arc::new(speech), &options.server, Keys::none(), metrics);
        let app = Arc::new(app);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(connections::accept(listener, Arc::clone(&app), 100));
        Self {
            address,
            app,
            _folder: folder,
        }
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        let body = body.to_string();
        let mut socket = TcpStream::connect(&self.address).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        socket.write_all((head + &body).as_bytes()).await.unwrap();
        Box::pin(Answer::read(&mut socket)).await
    }

    /// Everything that the server sends in answer to one `say`, up to an error or its end.
    async fn say(&self, message: Value) -> Vec<Value> {
        let (mut socket, _) = connect_async(format!("ws://{}/ws/tts", self.address))
            .await
            .unwrap();
        let text = message.to_string();
        socket.send(Message::text(text)).await.unwrap();
        let mut messages = Vec::new();
        loop {
            let message = socket.next().await.unwrap().unwrap();
            let message: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
            let ended = ["error", "done"].contains(&message["type"].as_str().unwrap());
            messages.push(message);
            if ended {
                return messages;
            }
        }
    }

    /// Requests of a route that have ended with `outcome`.
    fn count(&self, route: &str, outcome: &str) -> u64 {
        let text = self.app.metrics.render(&self.app.speech, 0);
        let wanted = |line: &&str| {
            line.starts_with("chatterbox_requests_total")
                && line.contains(&format!("route=\"{route}\""))
                && line.contains(&format!("outcome=\"{outcome}\""))
        };
        let counts = text.lines().filter(wanted);
        counts
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum()
    }
}

struct Answer {
    status: StatusCode,
    body: Vec<u8>,
    /// The body came to its proper end.
    whole: bool,
}

impl Answer {
    /// Reads one answer, also one that is cut off.
    async fn read(socket: &mut TcpStream) -> Self {
        let mut bytes = Vec::new();
        let mut buffer = vec![0; 16 * 1024];
        let ended = |bytes: &[u8]| {
            let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
            let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
            let body = &bytes[end..];
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            Some(match length {
                Some(length) => body.len() == length.parse::<usize>().unwrap(),
                None => body.ends_with(b"0\r\n\r\n"),
            })
        };
        while ended(&bytes) != Some(true) {
            match socket.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            }
        }
        let whole = ended(&bytes) == Some(true);
        let end = bytes
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .unwrap()
            + 4;
        let status = std::str::from_utf8(&bytes[9..12]).unwrap().parse().unwrap();
        Self {
            status,
            body: bytes.split_off(end),
            whole,
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn request(format: Format, stream: bool) -> Value {
    json!({"text": "Hello there.", "stream": stream, "audio": {"format": format.name()}})
}

/// Every format with every fault. Frame 0 is the first 20 ms of audio, frame 25 comes after half a second.
fn faults() -> impl Iterator<Item = (Format, Fault)> {
    let faults = [
        Fault::New,
        Fault::Head,
        Fault::Frame(0),
        Fault::Frame(25),
        Fault::Finish,
    ];
    let formats = Format::ALL.iter();
    formats.flat_map(move |&format| faults.map(|fault| (format, fault)))
}

/// Audio has left before the encoder fails.
fn is_late(fault: Fault) -> bool {
    matches!(fault, Fault::Frame(25) | Fault::Finish)
}

#[tokio::test(flavor = "multi_thread")]
async fn test_encoder_fault_is_error_in_every_answer() {
    let server = TestServer::start().await;
    let complete = server.post("/api/tts", &request(Format::Wav, true)).await;
    assert!(complete.status == StatusCode::OK && complete.whole);
    assert!(complete.body.len() > 2 * 2 * RATE as usize);
    for (format, fault) in faults() {
        let _guard = inject(fault);
        let case = format!("{format:?} {fault:?}");
        http_stream_is_cut_off(&server, format, fault, &case).await;
        http_file_is_an_error(&server, format, &case).await;
        websocket_has_an_error_and_no_done(&server, format, fault, &case).await;
    }
    for fault in [Fault::Frame(0), Fault::Frame(25)] {
        let _guard = inject(fault);
        events_end_with_an_error(&server, fault).await;
    }
    assert_eq!(server.count("/api/tts", "ok"), 1);
    assert_eq!(server.count("/ws/tts", "ok"), 0);
    assert_eq!(server.count("/v1/audio/speech", "ok"), 0);
    assert_eq!(server.count("/v1/audio/speech", "failed"), 2);
    let answers = faults().count() as u64;
    assert_eq!(server.count("/api/tts", "failed"), 2 * answers);
    assert_eq!(server.count("/ws/tts", "failed"), 2 * answers);
    assert_eq!(server.app.speech.admission.running(), 0);
}

async fn http_stream_is_cut_off(server: &TestServer, format: Format, fault: Fault, case: &str) {
    let answer = server.post("/api/tts", &request(format, true)).await;
    if is_late(fault) {
        assert_eq!(answer.status, StatusCode::OK, "{case}");
        assert!(!answer.whole, "{case}: {} bytes", answer.body.len());
    } else {
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR, "{case}");
        assert!(
            answer.text().contains("GENERATION_ERROR"),
            "{case}: {}",
            answer.text()
        );
    }
}

async fn http_file_is_an_error(server: &TestServer, format: Format, case: &str) {
    let answer = server.post("/api/tts", &request(format, false)).await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR, "{case}");
    assert!(
        answer.text().contains("GENERATION_ERROR"),
        "{case}: {}",
        answer.text()
    );
}

async fn websocket_has_an_error_and_no_done(
    server: &TestServer,
    format: Format,
    fault: Fault,
    case: &str,
) {
    for stream in [true, false] {
        let mut message = request(format, stream);
        message["type"] = json!("say");
        message["id"] = json!("a");
        let messages = server.say(message).await;
        let last = messages.last().unwrap();
        assert_eq!(last["type"], "error", "{case}: {last}");
        assert_eq!(
            (&last["id"], &last["code"]),
            (&json!("a"), &json!("GENERATION_ERROR"))
        );
        let chunks: Vec<_> = messages
            .iter()
            .filter(|message| message["type"] == "chunk")
            .collect();
        assert!(
            chunks.iter().all(|chunk| chunk["is_last"] == false),
            "{case}"
        );
        assert_eq!(!chunks.is_empty(), stream && is_late(fault), "{case}");
        assert!(
            messages.iter().all(|message| message["type"] != "audio"),
            "{case}"
        );
    }
}

async fn events_end_with_an_error(server: &TestServer, fault: Fault) {
    let body = json!({
        "model": "tone", "input": "Hello there.", "voice": "tone", "response_format": "pcm", "stream_format": "sse",
    });
    let answer = server.post("/v1/audio/speech", &body).await;
    let text = answer.text();
    assert!(!text.contains("speech.audio.done"), "{fault:?}: {text}");
    if is_late(fault) {
        assert_eq!(answer.status, StatusCode::OK);
        assert!(text.contains("speech.audio.delta"));
        assert!(text.contains(r#""type":"error""#), "{fault:?}: {text}");
        assert!(!answer.whole);
    } else {
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    }
}
