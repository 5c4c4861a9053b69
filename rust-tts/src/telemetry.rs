//! Logs, and what is printed for people.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use indicatif::{ProgressBar, WeakProgressBar};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::log_options::{LogFormat, LogLevel, LogOptions};

/// Whether the log is text.
static IS_TEXT: AtomicBool = AtomicBool::new(false);
/// The progress bar that is shown, while there is one.
static SHOWN_BAR: Mutex<Option<WeakProgressBar>> = Mutex::new(None);

/// Starts logging to standard error.
pub fn init(options: &LogOptions, default_level: LogLevel) -> Result<(), String> {
    let default_level = if options.debug {
        LogLevel::Debug
    } else {
        default_level
    };
    let level = options.log_level.unwrap_or(default_level).name();
    let directives = options.rust_log.as_deref().unwrap_or(&level);
    let filter = EnvFilter::try_new(directives.to_lowercase());
    let filter = filter.map_err(|error| format!("RUST_LOG: {error}"))?;
    IS_TEXT.store(options.log_format == LogFormat::Text, Ordering::Relaxed);
    install(options.log_format, filter, || Stderr);
    Ok(())
}

fn install<W>(format: LogFormat, filter: EnvFilter, writer: W)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .log_internal_errors(false);
    // A second call in one process keeps the first subscriber.
    let _ = match format {
        LogFormat::Text => builder
            .with_ansi(std::io::stderr().is_terminal())
            .try_init(),
        LogFormat::Json => builder
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .try_init(),
    };
}

/// Whether standard error is a terminal and the log on it is text.
pub fn shows_progress() -> bool {
    std::io::stderr().is_terminal() && IS_TEXT.load(Ordering::Relaxed)
}

/// Shows a progress bar on standard error; log lines go above it.
pub fn shown(bar: ProgressBar) -> ProgressBar {
    *SHOWN_BAR.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar.downgrade());
    bar
}

/// Standard error, for the log.
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let bar = SHOWN_BAR
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let write = || std::io::stderr().write(bytes);
        match bar.and_then(|bar| bar.upgrade()) {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

/// Prints a line on standard output. A closed pipe is ignored.
pub fn print_line(line: &str) {
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Prints a line on standard error, likewise.
pub fn print_error(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
