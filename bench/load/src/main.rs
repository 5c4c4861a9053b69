//! `chatterbox-load`: plays many listeners at once and reports, as JSON on stdout, how well each of them was served.
//!
//! A listener holds one connection and has texts spoken over it, one after the other. Measured are the time from
//! sending a text to its first audio, and how late every further piece comes for a player that starts with the first.

mod echo;
mod http;
mod listener;
mod pace;
mod record;
mod ws;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

use listener::Listener;
use pace::Pace;
use record::Recorder;

#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Debug, Subcommand)]
enum Mode {
    /// Listen over `/ws/tts`
    Ws {
        #[command(flatten)]
        load: Load,
        /// Length of a chunk, in milliseconds
        #[arg(long, default_value_t = 40)]
        chunk_ms: u32,
        /// Ask for binary frames instead of base64
        #[arg(long)]
        binary: bool,
    },
    /// Listen over `POST /api/tts`
    Http {
        #[command(flatten)]
        load: Load,
    },
    /// Send to `chatterbox-load echo` instead: what the sockets and this program cost by themselves
    Tcp {
        #[command(flatten)]
        load: Load,
    },
    /// Answer every line that comes over TCP at once; prints the address
    Echo {
        /// Size of an answer, in bytes: by default about that of a chunk of 40 ms in base64
        #[arg(long, default_value_t = 2700)]
        bytes: usize,
    },
}

#[derive(Clone, Debug, Args)]
struct Load {
    /// Address of the server, `host:port`
    address: SocketAddr,
    /// Listeners at once
    #[arg(long, default_value_t = 1)]
    streams: u32,
    /// What every listener has spoken
    #[arg(long, default_value = "Nine words are enough to make some audio here.")]
    text: String,
    /// Seconds over which the listeners arrive
    #[arg(long, default_value_t = 0.0)]
    ramp: f64,
    /// Seconds after the ramp that are not measured
    #[arg(long, default_value_t = 0.0)]
    warmup: f64,
    /// Seconds that are measured; what still runs then is cut off
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Milliseconds from one text to the next, each at a random moment of its period; 0: at once after the last
    #[arg(long, default_value_t = 0)]
    period_ms: u64,
    /// Texts after which a listener leaves; 0: no limit
    #[arg(long, default_value_t = 0)]
    says: u64,
    /// Threads of this program
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let threads = match &cli.mode {
        Mode::Ws { load, .. } | Mode::Http { load } | Mode::Tcp { load } => load.threads.max(1),
        Mode::Echo { .. } => 1,
    };
    let runtime = if threads == 1 {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
    } else {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_all()
            .build()
    };
    runtime
        .context("the runtime cannot be started")?
        .block_on(async {
            match cli.mode {
                Mode::Ws {
                    load,
                    chunk_ms,
                    binary,
                } => {
                    let settings = ws::Settings::new(load.address, &load.text, chunk_ms, binary);
                    listen::<ws::Socket>(&load, settings).await
                }
                Mode::Http { load } => {
                    let settings = http::Settings::new(load.address, &load.text);
                    listen::<http::Connection>(&load, settings).await
                }
                Mode::Tcp { load } => listen::<echo::Caller>(&load, load.address).await,
                Mode::Echo { bytes } => echo::serve(bytes).await,
            }
        })
}

async fn listen<L: Listener>(load: &Load, settings: L::Settings) -> Result<()> {
    let seconds =
        |value: f64| Duration::try_from_secs_f64(value).context("not a number of seconds");
    let pace = Pace {
        streams: load.streams,
        ramp: seconds(load.ramp)?,
        warmup: seconds(load.warmup)?,
        measured: seconds(load.seconds)?,
        period: Duration::from_millis(load.period_ms),
        says: load.says,
    };
    let settings = Arc::new(settings);
    let recorder = Arc::new(Recorder::new(&pace)?);
    let listeners: Vec<_> = (0..load.streams)
        .map(|number| {
            tokio::spawn(listener::run::<L>(
                number,
                Arc::clone(&settings),
                pace,
                Arc::clone(&recorder),
            ))
        })
        .collect();
    for listener in listeners {
        listener.await.context("a listener broke")?;
    }
    println!("{}", serde_json::to_string(&recorder.report())?);
    Ok(())
}
