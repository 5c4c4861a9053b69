//! A listener over `POST /api/tts`, one connection for all of its texts.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpStream;

use crate::listener::Listener;
use crate::record::Playback;

const SAMPLE_RATE: u32 = 24_000;
/// Bytes of a second of audio: 16 bits a sample.
const BYTES_PER_SECOND: u64 = 2 * SAMPLE_RATE as u64;

pub struct Settings {
    address: SocketAddr,
    body: Bytes,
}

impl Settings {
    pub fn new(address: SocketAddr, text: &str) -> Self {
        let body =
            json!({ "text": text, "audio": { "format": "pcm_s16le", "sample_rate": SAMPLE_RATE } });
        Self {
            address,
            body: Bytes::from(body.to_string()),
        }
    }
}

pub struct Connection(SendRequest<Full<Bytes>>);

impl Listener for Connection {
    type Settings = Settings;

    async fn connect(settings: &Settings) -> Result<Self> {
        let stream = TcpStream::connect(settings.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // Ends with the sender; what goes wrong shows in the request.
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    async fn say(&mut self, settings: &Settings, playback: &mut Playback<'_>) -> Result<Duration> {
        let request = Request::post("/api/tts")
            .header(HOST, settings.address.to_string())
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(settings.body.clone()))?;
        self.0
            .ready()
            .await
            .context("the server closed the connection")?;
        let response = self.0.send_request(request).await.context("no answer")?;
        let status = response.status();
        let mut body = response.into_body();
        if !status.is_success() {
            let text = body.collect().await?.to_bytes();
            bail!("{status}: {}", String::from_utf8_lossy(&text));
        }
        let mut length = Duration::ZERO;
        while let Some(frame) = body.frame().await {
            let frame = frame.context("the answer was cut off")?;
            if let Some(data) = frame.data_ref().filter(|data| !data.is_empty()) {
                let chunk =
                    Duration::from_nanos(data.len() as u64 * 1_000_000_000 / BYTES_PER_SECOND);
                playback.chunk(chunk);
                length += chunk;
            }
        }
        Ok(length)
    }
}
