//! A request's figures, for its answer, its log line and the metrics.

use std::time::{Duration, Instant};

use super::{Summary, Timing};
use crate::metrics;

/// Times and counts of one request.
pub struct RequestStats {
    began: Instant,
    queued: Duration,
    timing: Option<Timing>,
    /// When audio last came from the engine, or the engine was last given something to do.
    last_audio: Instant,
    computed: Duration,
    last_generated: Option<Instant>,
    tokens: Vec<(String, Vec<u32>)>,
}

impl RequestStats {
    pub fn begin() -> Self {
        let began = Instant::now();
        Self {
            began,
            queued: Duration::ZERO,
            timing: None,
            last_audio: began,
            computed: Duration::ZERO,
            last_generated: None,
            tokens: Vec::new(),
        }
    }

    /// The request has waited this long for its slot.
    pub fn queued(&mut self, wait: Duration) {
        self.queued = wait;
        metrics::queued_for(wait);
    }

    /// From now on the engine is waited for.
    pub fn engine_requested(&mut self) {
        self.last_audio = Instant::now();
    }

    pub fn last_audio(&self) -> Instant {
        self.last_audio
    }

    /// Audio came from the engine.
    pub fn audio_received(&mut self) {
        let now = Instant::now();
        if self.timing.is_some() {
            metrics::audio_chunk_after(now - self.last_audio);
        }
        self.last_audio = now;
    }

    /// The listener's first audio is there.
    pub fn first_audio(&mut self, model: &str) -> Timing {
        let timing = Timing {
            queued: self.queued,
            first_audio: self.began.elapsed(),
        };
        metrics::first_audio_after(model, timing.first_audio);
        *self.timing.insert(timing)
    }

    /// Audio has been announced to the listener.
    pub fn has_audio(&self) -> bool {
        self.timing.is_some()
    }

    /// Seconds that the listener has yet to play of `made` seconds of audio, played from the first one on.
    pub fn buffered_seconds(&self, made: f64) -> f64 {
        self.timing.map_or(0.0, |timing| {
            let played = self.began.elapsed().saturating_sub(timing.first_audio);
            (made - played.as_secs_f64()).max(0.0)
        })
    }

    /// An utterance was generated. They overlap when one is submitted ahead: no moment is counted twice.
    pub fn generated(&mut self, submitted: Instant, at: Instant) {
        let started = self
            .last_generated
            .map_or(submitted, |last| last.max(submitted));
        self.computed += at.saturating_duration_since(started);
        self.last_generated = Some(at);
    }

    pub fn tokens(&mut self, text: String, tokens: Vec<u32>) {
        self.tokens.push((text, tokens));
    }

    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    pub fn summary(self, audio_seconds: f64) -> Summary {
        let unspoken = Timing {
            queued: self.queued,
            first_audio: Duration::ZERO,
        };
        Summary {
            timing: self.timing.unwrap_or(unspoken),
            audio_seconds,
            real_time_factor: self.computed.as_secs_f64() / audio_seconds.max(f64::MIN_POSITIVE),
            tokens: self.tokens,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_overlapping_utterances_are_counted_once() {
        let mut stats = RequestStats::begin();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        stats.generated(at(0), at(2));
        // Submitted while the first was being generated.
        stats.generated(at(1), at(3));
        // Submitted after a silence.
        stats.generated(at(10), at(11));
        let summary = stats.summary(8.0);
        assert!((summary.real_time_factor - 0.5).abs() < 1e-9);
    }
}
