//! The end of the process and its exit status.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Exit statuses of `chatterbox-server`.
pub mod status {
    /// Finished, or drained after a signal.
    pub const OK: i32 = 0;
    /// Could not start: the port, a folder or a model.
    pub const CANNOT_START: i32 = 1;
    /// An option that does not exist or has a value that is not allowed.
    pub const USAGE: i32 = 2;
    /// The engine died; the supervisor should start the server again.
    pub const ENGINE_FAILED: i32 = 70;
    /// A second signal ended the process at once.
    pub const INTERRUPTED: i32 = 130;
}

/// Ends the process without running what a broken engine may hang in: the interpreter's and libraries' exit handlers.
pub fn exit_now(status: i32) -> ! {
    use std::io::Write;
    let _ = std::io::stdout().flush();
    let _ = std::io::stderr().flush();
    // SAFETY: `_exit` has no precondition; it ends the process.
    unsafe { libc::_exit(status) }
}

/// Makes a write beyond a file size limit an error like any other, instead of the end of the process.
pub fn survive_file_size_limits() {
    // SAFETY: ignoring a signal has no precondition.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// SIGINT and SIGTERM, from the moment this is made.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub fn register() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Cancels `drain` at the first signal and ends the process at the second.
    pub async fn drain_then_exit(mut self, drain: CancellationToken) {
        let name = self.next().await;
        // Before the drain begins, or "drained" could come first in the log.
        info!("{name}: draining; a second signal ends at once");
        drain.cancel();
        let name = self.next().await;
        warn!("{name}: ending at once");
        exit_now(status::INTERRUPTED)
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
