//! The floor: a server that only answers, and a listener that only waits for the answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::listener::Listener;
use crate::record::Playback;

/// About as long as a `say` message.
const LINE: &[u8] = &[b'x'; 128];

/// Answers every line with `bytes` bytes and a line break, until the process is stopped.
pub async fn serve(bytes: usize) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("{}", listener.local_addr()?);
    let mut answer = vec![b'x'; bytes];
    answer.push(b'\n');
    let answer: Arc<[u8]> = answer.into();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        // A caller that hangs up ends its task, nothing else.
        tokio::spawn(echo_lines(stream, Arc::clone(&answer)));
    }
}

async fn echo_lines(stream: TcpStream, answer: Arc<[u8]>) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    while lines.next_line().await?.is_some() {
        write.write_all(&answer).await?;
    }
    Ok(())
}

/// Sends a line and waits for the first bytes of the answer, then for the rest.
pub struct Caller(TcpStream);

impl Listener for Caller {
    type Settings = SocketAddr;

    async fn connect(address: &SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self(stream))
    }

    async fn say(
        &mut self,
        _settings: &SocketAddr,
        playback: &mut Playback<'_>,
    ) -> Result<Duration> {
        self.0.write_all(LINE).await?;
        self.0.write_all(b"\n").await?;
        let mut buffer = [0; 4096];
        loop {
            let count = self.0.read(&mut buffer).await?;
            anyhow::ensure!(count > 0, "the server closed the connection");
            if !playback.has_started() {
                playback.chunk(Duration::ZERO);
            }
            if buffer[count - 1] == b'\n' {
                return Ok(Duration::ZERO);
            }
        }
    }
}
