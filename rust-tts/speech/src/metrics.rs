//! Every metric of `/metrics`: its name, its unit and what it counts.

mod recent;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use crate::service::SpeechService;
pub use recent::Figures;

const REQUESTS: &str = "chatterbox_requests_total";
const FIRST_AUDIO: &str = "chatterbox_time_to_first_audio_seconds";
const DURATION: &str = "chatterbox_request_duration_seconds";
const QUEUE_TIME: &str = "chatterbox_queue_time_seconds";
const RTF: &str = "chatterbox_real_time_factor";
const INTER_CHUNK: &str = "chatterbox_inter_chunk_seconds";
const AUDIO_SECONDS: &str = "chatterbox_audio_seconds_total";
const CHARACTERS: &str = "chatterbox_input_characters_total";
const RUNNING: &str = "chatterbox_requests_running";
const WAITING: &str = "chatterbox_requests_waiting";
const SLOTS: &str = "chatterbox_slots";
const WS_CONNECTIONS: &str = "chatterbox_ws_connections";
const ENGINE_UP: &str = "chatterbox_engine_up";
const VOICE_CACHE: &str = "chatterbox_voice_cache_bytes";
const BUILD_INFO: &str = "chatterbox_build_info";

/// Bounds of the time histograms, in seconds: first audio is a matter of tens of milliseconds, an audiobook of hours.
const SECONDS: [f64; 16] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0,
];
const RATIOS: [f64; 11] = [0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 2.0, 5.0];

/// How a request ended, as the label `outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    /// The client went away or cancelled.
    Cancelled,
    /// Refused before it reached the engine.
    Rejected,
    /// No audio within the deadline.
    Timeout,
    /// The client did not read.
    Stalled,
    Failed,
}

impl Outcome {
    const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Cancelled => "cancelled",
            Self::Rejected => "rejected",
            Self::Timeout => "timeout",
            Self::Stalled => "stalled",
            Self::Failed => "failed",
        }
    }
}

/// The recorder of the process and the text it renders.
pub struct Metrics {
    handle: PrometheusHandle,
}

impl Metrics {
    /// Installs the recorder. A process has one; a second call fails.
    pub fn install() -> Result<Self, BuildError> {
        let ratios = Matcher::Full(RTF.into());
        let handle = PrometheusBuilder::new()
            .set_buckets(&SECONDS)?
            .set_buckets_for_metric(ratios, &RATIOS)?
            .install_recorder()?;
        describe();
        recent::begin();
        gauge!(BUILD_INFO, "version" => crate::VERSION).set(1.0);
        Ok(Self { handle })
    }

    /// The Prometheus text of now. Gauges are read at this moment; `sockets` are the open WebSockets.
    pub fn render(&self, service: &SpeechService, sockets: usize) -> String {
        gauge!(RUNNING).set(service.admission.running() as f64);
        gauge!(WAITING).set(service.admission.waiting() as f64);
        gauge!(SLOTS).set(service.admission.slots() as f64);
        gauge!(WS_CONNECTIONS).set(sockets as f64);
        gauge!(ENGINE_UP).set(f64::from(u8::from(
            service.engine.status().ready().is_some(),
        )));
        gauge!(VOICE_CACHE).set(service.engine.status().voice_cache_bytes() as f64);
        self.handle.render()
    }

    /// Exact figures of the latest requests.
    pub fn figures(&self) -> Option<Figures> {
        recent::figures()
    }

    /// Folds the latest samples into the histograms. Without it they are kept one by one for ever.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

fn describe() {
    describe_counter!(
        REQUESTS,
        "Requests that have ended, by route, model and outcome"
    );
    describe_histogram!(
        FIRST_AUDIO,
        "Seconds from the request to its first audio, queue included"
    );
    describe_histogram!(DURATION, "Seconds from the request to its end");
    describe_histogram!(QUEUE_TIME, "Seconds that a request waited for a slot");
    describe_histogram!(RTF, "Seconds of computing per second of audio");
    describe_histogram!(
        INTER_CHUNK,
        "Seconds between two pieces of audio of one request"
    );
    describe_counter!(AUDIO_SECONDS, "Seconds of audio delivered");
    describe_counter!(CHARACTERS, "Characters of text accepted");
    describe_gauge!(RUNNING, "Requests that hold a slot");
    describe_gauge!(WAITING, "Requests in the queue");
    describe_gauge!(SLOTS, "Slots (MAX_CONCURRENT_REQUESTS)");
    describe_gauge!(WS_CONNECTIONS, "Open WebSockets");
    describe_gauge!(ENGINE_UP, "1 when the engine is loaded and alive");
    describe_gauge!(VOICE_CACHE, "Bytes of voices cached by the engine");
    describe_gauge!(BUILD_INFO, "1, labelled with the version");
}

/// Counts the end of a request.
pub fn request_ended(route: &'static str, model: &str, outcome: Outcome, took: Duration) {
    counter!(REQUESTS, "route" => route, "model" => model.to_owned(), "outcome" => outcome.label())
        .increment(1);
    histogram!(DURATION, "route" => route).record(took.as_secs_f64());
    recent::ended();
}

/// Counts a request that was refused before a model was chosen for it.
pub fn refused(route: &'static str) {
    request_ended(route, "none", Outcome::Rejected, Duration::ZERO);
}

pub fn queued_for(wait: Duration) {
    histogram!(QUEUE_TIME).record(wait.as_secs_f64());
}

pub fn first_audio_after(model: &str, wait: Duration) {
    histogram!(FIRST_AUDIO, "model" => model.to_owned()).record(wait.as_secs_f64());
}

pub fn audio_chunk_after(gap: Duration) {
    histogram!(INTER_CHUNK).record(gap.as_secs_f64());
}

/// Counts the audio of a finished request and what it cost.
pub fn spoken(model: &str, audio_seconds: f64, real_time_factor: Option<f64>) {
    counter!(AUDIO_SECONDS, "model" => model.to_owned())
        .increment(whole_seconds(model, audio_seconds));
    if let Some(factor) = real_time_factor {
        histogram!(RTF, "model" => model.to_owned()).record(factor);
        recent::spoken(audio_seconds, factor);
    }
}

/// Counters count whole numbers: the fraction of a second is carried over to the next request of the model.
fn whole_seconds(model: &str, seconds: f64) -> u64 {
    static CARRIED: Mutex<BTreeMap<String, f64>> = Mutex::new(BTreeMap::new());
    let mut carried = CARRIED.lock().unwrap_or_else(PoisonError::into_inner);
    let rest = carried.entry(model.to_owned()).or_default();
    *rest += seconds;
    let whole = rest.floor();
    *rest -= whole;
    whole as u64
}

pub fn characters(count: usize) {
    counter!(CHARACTERS).increment(count as u64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_fractions_of_seconds_are_carried_over() {
        let counted: u64 = (0..10)
            .map(|_| whole_seconds("a model of this test", 0.75))
            .sum();
        assert_eq!(counted, 7);
    }
}
