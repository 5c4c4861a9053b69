//! What was measured, of all listeners together.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::pace::Pace;

/// Longest time in the histograms, in nanoseconds: ten minutes.
const LONGEST: u64 = 600 * 1_000_000_000;
/// Digits of a measured time.
const DIGITS: u8 = 3;

/// Collects measurements between the warm-up and the end.
pub struct Recorder {
    began: Instant,
    from: Instant,
    until: Instant,
    counts: Mutex<Counts>,
}

struct Counts {
    first_audio: Histogram<u64>,
    lateness: Histogram<u64>,
    /// Listeners that received any audio, measured or not.
    served: u32,
    says: u64,
    audio_seconds: f64,
    say_seconds: f64,
    errors: BTreeMap<String, u64>,
}

/// The result of a run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Listeners that were spoken to.
    pub streams_served: u32,
    /// Texts spoken to their end.
    pub says: u64,
    /// Audio of those texts, in seconds.
    pub audio_seconds: f64,
    /// Seconds from sending a text to its end, per second of its audio; `null` without audio.
    pub real_time_factor: Option<f64>,
    /// From sending a text to its first audio.
    pub first_audio_ms: Times,
    /// Every piece after the first: how long after it was due. 0 is in time.
    pub lateness_ms: Times,
    pub errors: BTreeMap<String, u64>,
}

/// A distribution, in milliseconds.
#[derive(Debug, Serialize)]
pub struct Times {
    pub count: u64,
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub max: f64,
}

impl From<&Histogram<u64>> for Times {
    fn from(histogram: &Histogram<u64>) -> Self {
        let ms = |nanoseconds: u64| nanoseconds as f64 / 1e6;
        Self {
            count: histogram.len(),
            mean: histogram.mean() / 1e6,
            p50: ms(histogram.value_at_quantile(0.5)),
            p90: ms(histogram.value_at_quantile(0.9)),
            p99: ms(histogram.value_at_quantile(0.99)),
            max: ms(histogram.max()),
        }
    }
}

impl Recorder {
    /// The run begins now.
    pub fn new(pace: &Pace) -> Result<Self> {
        let began = Instant::now();
        let histogram = Histogram::new_with_bounds(1, LONGEST, DIGITS)?;
        let counts = Counts {
            first_audio: histogram.clone(),
            lateness: histogram,
            served: 0,
            says: 0,
            audio_seconds: 0.0,
            say_seconds: 0.0,
            errors: BTreeMap::new(),
        };
        Ok(Self {
            began,
            from: began + pace.measures_from(),
            until: began + pace.ends(),
            counts: Mutex::new(counts),
        })
    }

    pub fn began(&self) -> Instant {
        self.began
    }

    pub fn until(&self) -> Instant {
        self.until
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn served(&self) {
        self.counts().served += 1;
    }

    pub fn failed(&self, reason: String) {
        *self.counts().errors.entry(reason).or_default() += 1;
    }

    pub fn report(&self) -> Report {
        let counts = self.counts();
        Report {
            streams_served: counts.served,
            says: counts.says,
            audio_seconds: counts.audio_seconds,
            real_time_factor: (counts.audio_seconds > 0.0)
                .then(|| counts.say_seconds / counts.audio_seconds),
            first_audio_ms: Times::from(&counts.first_audio),
            lateness_ms: Times::from(&counts.lateness),
            errors: counts.errors.clone(),
        }
    }
}

/// One text in a player that starts with the first chunk.
pub struct Playback<'a> {
    recorder: &'a Recorder,
    sent: Instant,
    first: Option<Instant>,
    /// Audio that has arrived.
    length: Duration,
}

impl<'a> Playback<'a> {
    /// The text is sent now.
    pub fn begin(recorder: &'a Recorder) -> Self {
        Self {
            recorder,
            sent: Instant::now(),
            first: None,
            length: Duration::ZERO,
        }
    }

    pub fn has_started(&self) -> bool {
        self.first.is_some()
    }

    /// The next `length` of audio has arrived.
    pub fn chunk(&mut self, length: Duration) {
        let now = Instant::now();
        if let Some(first) = self.first {
            self.was_due(first + self.length, now);
        } else {
            self.first = Some(now);
            if self.sent >= self.recorder.from {
                record(&mut self.recorder.counts().first_audio, now - self.sent);
            }
        }
        self.length += length;
    }

    fn was_due(&self, due: Instant, now: Instant) {
        if now >= self.recorder.from {
            record(
                &mut self.recorder.counts().lateness,
                now.saturating_duration_since(due),
            );
        }
    }

    /// The text has been spoken to its end; it was this much audio.
    pub fn end(self, audio: Duration) {
        let mut counts = self.recorder.counts();
        counts.says += 1;
        counts.audio_seconds += audio.as_secs_f64();
        counts.say_seconds += self.sent.elapsed().as_secs_f64();
    }

    /// The run ended first. What is overdue counts as it stands, or a server that stops would look punctual.
    pub fn cut_off(self) {
        let now = Instant::now();
        match self.first.map(|first| first + self.length) {
            Some(due) if due < now => self.was_due(due, now),
            Some(_) => {}
            None => record(&mut self.recorder.counts().first_audio, now - self.sent),
        }
    }
}

fn record(histogram: &mut Histogram<u64>, time: Duration) {
    histogram.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1));
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace {
        streams: 1,
        ramp: Duration::ZERO,
        warmup: Duration::ZERO,
        measured: Duration::from_secs(60),
        period: Duration::ZERO,
        says: 1,
    };

    #[test]
    fn test_chunk_is_late_after_buffered_audio_played() -> Result<()> {
        let recorder = Recorder::new(&PACE)?;
        let mut playback = Playback::begin(&recorder);
        playback.chunk(Duration::ZERO);
        std::thread::sleep(Duration::from_millis(5));
        playback.chunk(Duration::from_secs(3600));
        playback.chunk(Duration::ZERO);
        playback.end(Duration::from_secs(3600));
        let report = recorder.report();
        assert_eq!(
            (
                report.first_audio_ms.count,
                report.lateness_ms.count,
                report.says
            ),
            (1, 2, 1)
        );
        assert!(report.lateness_ms.max >= 5.0, "{report:?}");
        assert!(report.lateness_ms.p50 < 0.1, "{report:?}");
        Ok(())
    }

    #[test]
    fn test_overdue_chunk_at_end_counts_as_late() -> Result<()> {
        let recorder = Recorder::new(&PACE)?;
        let mut started = Playback::begin(&recorder);
        started.chunk(Duration::ZERO);
        let silent = Playback::begin(&recorder);
        std::thread::sleep(Duration::from_millis(5));
        started.cut_off();
        silent.cut_off();
        let report = recorder.report();
        assert!(
            report.lateness_ms.max >= 5.0 && report.first_audio_ms.max >= 5.0,
            "{report:?}"
        );
        assert_eq!(report.says, 0);
        Ok(())
    }
}
