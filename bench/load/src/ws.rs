//! A listener over `/ws/tts`.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::listener::Listener;
use crate::record::Playback;

/// How the server's chunks begin. The rest of such a message is not read, so that many listeners cost little; a message
/// that begins in another way is parsed as a whole.
const CHUNK: &str = r#"{"type":"chunk","#;
/// Read at once, in bytes: some chunks, and little memory for each of many listeners.
const READ_BUFFER: usize = 16 * 1024;

pub struct Settings {
    address: SocketAddr,
    say: Utf8Bytes,
    chunk: Duration,
    binary: bool,
}

impl Settings {
    pub fn new(address: SocketAddr, text: &str, chunk_ms: u32, binary: bool) -> Self {
        let audio = json!({ "format": "pcm_s16le", "chunk_size_ms": chunk_ms, "binary": binary });
        let say = json!({ "type": "say", "text": text, "audio": audio })
            .to_string()
            .into();
        Self {
            address,
            say,
            chunk: Duration::from_millis(chunk_ms.into()),
            binary,
        }
    }
}

pub struct Socket(WebSocketStream<TcpStream>);

enum Received {
    Chunk,
    Done(f64),
    Other,
}

impl Socket {
    async fn next(&mut self) -> Result<Message> {
        self.0
            .next()
            .await
            .context("the server closed the socket")?
            .context("the socket broke")
    }
}

impl Listener for Socket {
    type Settings = Settings;

    async fn connect(settings: &Settings) -> Result<Self> {
        let stream = TcpStream::connect(settings.address).await?;
        stream.set_nodelay(true)?;
        let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER);
        let url = format!("ws://{}/ws/tts", settings.address);
        let (socket, _) = client_async_with_config(url, stream, Some(config)).await?;
        let mut socket = Self(socket);
        let ready = socket.next().await?;
        ensure!(
            ready.to_text()?.starts_with(r#"{"type":"ready","#),
            "the server did not say that it is ready"
        );
        Ok(socket)
    }

    async fn say(&mut self, settings: &Settings, playback: &mut Playback<'_>) -> Result<Duration> {
        self.0
            .send(Message::Text(settings.say.clone()))
            .await
            .context("the text could not be sent")?;
        let mut chunks = 0_u32;
        loop {
            let received = match self.next().await? {
                Message::Text(text) => parse(&text, settings.binary)?,
                Message::Binary(_) => Received::Chunk,
                Message::Close(_) => bail!("the server closed the socket"),
                _ => Received::Other,
            };
            match received {
                Received::Chunk => {
                    playback.chunk(settings.chunk);
                    chunks += 1;
                }
                Received::Done(seconds) => {
                    let expected = (seconds / settings.chunk.as_secs_f64() - 1e-6).ceil() as u32;
                    ensure!(
                        chunks == expected,
                        "{chunks} chunks came instead of {expected}"
                    );
                    return Ok(Duration::try_from_secs_f64(seconds)?);
                }
                Received::Other => {}
            }
        }
    }
}

/// In binary mode the audio follows its header.
fn parse(text: &str, binary: bool) -> Result<Received> {
    let chunk = if binary {
        Received::Other
    } else {
        Received::Chunk
    };
    if text.starts_with(CHUNK) {
        return Ok(chunk);
    }
    let message: Value = serde_json::from_str(text).context("not JSON")?;
    match message["type"].as_str() {
        Some("chunk") => Ok(chunk),
        Some("done") => Ok(Received::Done(
            message["duration_seconds"]
                .as_f64()
                .context("`done` without a duration")?,
        )),
        Some("error") => bail!("{}: {}", message["code"], message["error"]),
        _ => Ok(Received::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_chunk_is_found_in_any_field_order() {
        for text in [
            r#"{"type":"chunk","id":"a","data":"AAAA"}"#,
            r#"{"id":"a", "type": "chunk"}"#,
        ] {
            assert!(matches!(parse(text, false), Ok(Received::Chunk)), "{text}");
            assert!(matches!(parse(text, true), Ok(Received::Other)), "{text}");
        }
    }

    #[test]
    fn test_done_and_error_messages_are_parsed() {
        let done = parse(r#"{"type":"done","duration_seconds":1.5}"#, false);
        assert!(matches!(done, Ok(Received::Done(seconds)) if (seconds - 1.5).abs() < 1e-9));
        assert!(
            parse(
                r#"{"type":"error","error":"busy","code":"SERVER_BUSY"}"#,
                false
            )
            .is_err()
        );
        assert!(parse("chunk", false).is_err());
    }
}
