//! The one place that decides whether a client has stopped reading: its connection, by what its kernel acknowledges.
//!
//! What is written goes through two kernels' buffers, which may hold minutes of audio and take more only now and then. A
//! client that reads steadily is noticed by the bytes that its kernel has yet to acknowledge: they fall. Some clients read
//! in bursts and then play for a while, as `curl --limit-rate` does: what a burst took is theirs to play first.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use chatterbox_speech::listener::Listener;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

/// Bytes of a connection that this machine's kernel holds. Seconds of audio, and little enough that a client which reads
/// in bursts finds no long one.
const SEND_BUFFER: usize = 48 * 1024;
/// The same once a client has stalled: room for the error and the close frame of a WebSocket.
const SEND_BUFFER_WHEN_STALLED: usize = 512 * 1024;
/// A speech that stalls is ended, and counted, before its connection is.
const STALL_GRACE: Duration = Duration::from_secs(1);
/// Looks at a stream that takes nothing, in each stall timeout.
const LOOKS: u32 = 10;
/// What a client may take at once and then play before it reads again: curl reads 1.6 MB, which is 33 s of 16-bit audio.
const LONGEST_BURST: Duration = Duration::from_secs(45);
/// Most time between two looks.
const LONGEST_LOOK: Duration = Duration::from_secs(1);

/// A TCP stream that notices a client who does not read.
pub struct MonitoredStream {
    stream: TcpStream,
    stall_timeout: Duration,
    /// Learns when the client has read nothing for that long. What it listens to ends then, and the stream a second later.
    listener: Listener,
    stalled_at: Option<Instant>,
    written: u64,
    acknowledged: u64,
    /// When bytes were last acknowledged, or began to be waited for.
    progressed: Instant,
    /// When a client that plays in real time will have played what was acknowledged.
    played_until: Instant,
    /// Set while a write waits.
    next_look: Option<Pin<Box<Sleep>>>,
}

impl MonitoredStream {
    pub fn new(stream: TcpStream, stall_timeout: Duration, listener: Listener) -> Self {
        limit_send_buffer(&stream, SEND_BUFFER);
        let now = Instant::now();
        Self {
            stream,
            stall_timeout,
            listener,
            stalled_at: None,
            written: 0,
            acknowledged: 0,
            progressed: now,
            played_until: now,
            next_look: None,
        }
    }

    /// Passes on how a write went; one that waits for too long fails.
    fn monitor(
        &mut self,
        context: &mut Context<'_>,
        mut write: impl FnMut(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        loop {
            if let Some(at) = self.stalled_at
                && at.elapsed() >= STALL_GRACE
            {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            let written = write(Pin::new(&mut self.stream), context);
            if let Poll::Ready(Ok(bytes)) = written {
                self.written += bytes as u64;
            }
            let now = Instant::now();
            self.update(now);
            if written.is_ready() {
                self.next_look = None;
                return written;
            }
            let look = now + (self.stall_timeout / LOOKS).min(LONGEST_LOOK);
            let next_look = self.next_look.get_or_insert_with(|| {
                // Only a write that waits can stall.
                self.progressed = now;
                Box::pin(sleep_until(look))
            });
            ready!(next_look.as_mut().poll(context));
            next_look.as_mut().reset(look);
            let played = self.played_until.min(self.progressed + LONGEST_BURST);
            if self.stalled_at.is_none() && now >= self.progressed.max(played) + self.stall_timeout
            {
                self.stalled_at = Some(now);
                self.listener.stalled().cancel();
                limit_send_buffer(&self.stream, SEND_BUFFER_WHEN_STALLED);
            }
        }
    }

    /// Looks at what the client has acknowledged.
    fn update(&mut self, now: Instant) {
        let acknowledged = self.written.saturating_sub(unacknowledged(&self.stream));
        let Some(more @ 1..) = acknowledged.checked_sub(self.acknowledged) else {
            return;
        };
        (self.acknowledged, self.progressed) = (acknowledged, now);
        let seconds = more as f64 * self.listener.seconds_per_byte();
        let played = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        self.played_until = self.played_until.max(now) + played.min(LONGEST_BURST);
    }
}

impl AsyncRead for MonitoredStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for MonitoredStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.monitor(context, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.monitor(context, |stream, context| {
            stream.poll_write_vectored(context, slices)
        })
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Bytes that were written and that the other end's kernel has not acknowledged. Elsewhere than on Linux nobody knows:
/// there, what is written counts as acknowledged.
#[cfg(target_os = "linux")]
fn unacknowledged(stream: &TcpStream) -> u64 {
    use std::os::fd::AsRawFd;
    let mut bytes: libc::c_int = 0;
    // SAFETY: the stream owns the descriptor, and the request writes one int to the address, which is valid.
    let status = unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if status == 0 {
        u64::try_from(bytes).unwrap_or_default()
    } else {
        0
    }
}

#[cfg(not(target_os = "linux"))]
fn unacknowledged(_: &TcpStream) -> u64 {
    0
}

/// A client that does not read is noticed early where little is sent ahead. A kernel that refuses notices later.
fn limit_send_buffer(stream: &TcpStream, bytes: usize) {
    if let Err(error) = SockRef::from(stream).set_send_buffer_size(bytes) {
        tracing::debug!(%error, "the size of a send buffer was not set");
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::{sleep, timeout};

    use super::*;

    const STALL: Duration = Duration::from_millis(1200);

    async fn pair() -> (MonitoredStream, TcpStream, Listener) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (accepted, client) = tokio::join!(listener.accept(), client);
        let listener = Listener::default();
        let stream = MonitoredStream::new(accepted.unwrap().0, STALL, listener.clone());
        (stream, client.unwrap(), listener)
    }

    #[tokio::test]
    async fn test_stopped_reader_is_stalled_in_time() {
        let (mut stream, _client, listener) = pair().await;
        let writing = tokio::spawn(async move {
            let all = vec![0; 64 << 20];
            stream.write_all(&all).await
        });
        let began = Instant::now();
        timeout(Duration::from_secs(20), listener.stalled().cancelled())
            .await
            .unwrap();
        assert!(began.elapsed() >= STALL);
        let error = writing.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() >= STALL + STALL_GRACE);
    }

    #[tokio::test]
    async fn test_steady_reader_is_never_stalled() {
        let (mut stream, mut client, listener) = pair().await;
        let writing = tokio::spawn(async move {
            // More than both kernels hold, for longer than the stall timeout.
            let all = vec![0; 10 << 20];
            stream.write_all(&all).await
        });
        let mut buffer = vec![0; 128 * 1024];
        while !writing.is_finished() {
            client.read_exact(&mut buffer).await.unwrap();
            sleep(Duration::from_millis(100)).await;
        }
        writing.await.unwrap().unwrap();
        assert!(!listener.stalled().is_cancelled());
    }

    #[tokio::test]
    async fn test_stalled_stream_still_has_room_for_close_frame() {
        let (mut stream, mut client, listener) = pair().await;
        let filler = vec![0; 64 << 20];
        tokio::select! {
            // First, or more of the filler takes the room.
            biased;
            () = listener.stalled().cancelled() => {}
            _ = stream.write_all(&filler) => panic!("the other end does not read"),
        }
        stream.write_all(b"closed").await.unwrap();
        drop(stream);
        let mut received = Vec::new();
        client.read_to_end(&mut received).await.unwrap();
        assert!(received.ends_with(b"closed"));
    }
}
