//! How the process ends, and with which status.

use tokio::signal::unix::{SignalKind, signal};
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

/// Cancels `drain` at the first SIGINT or SIGTERM and ends the process at the second.
pub async fn on_signals(drain: CancellationToken) -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut next = async || {
        tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        }
    };
    let name = next().await;
    info!("{name}: draining; a second signal ends at once");
    drain.cancel();
    let name = next().await;
    warn!("{name}: ending at once");
    exit_now(status::INTERRUPTED)
}
