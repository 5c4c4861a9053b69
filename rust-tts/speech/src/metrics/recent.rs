//! Exact figures of the latest requests for people, beside the histograms for Prometheus.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

/// Requests over which real-time factors are taken.
const FACTORS: usize = 1000;
/// The window of the throughput.
const WINDOW: Duration = Duration::from_secs(60);
/// Requests that are remembered of the window: a bound on memory, which no server reaches.
const ENDS: usize = 100_000;

/// Figures of one moment. A factor is `None` where nothing has been spoken yet.
#[derive(Debug, PartialEq, Serialize)]
pub struct Figures {
    /// Requests that have ended since the start, however they ended.
    pub request_count: u64,
    /// Seconds of computing per second of audio, over the latest 1000 requests.
    pub rtf_mean: Option<f64>,
    pub rtf_p95: Option<f64>,
    /// Requests a second that were spoken, whole or in part, over the last minute or the time since the start.
    pub throughput: f64,
    /// Seconds of audio a second, over the same time.
    pub audio_seconds_per_second: f64,
}

/// The latest requests.
struct Recent {
    began: Instant,
    requests: u64,
    factors: VecDeque<f64>,
    /// When requests were spoken, and how many seconds of audio each was.
    ends: VecDeque<(Instant, f64)>,
}

impl Recent {
    fn new(began: Instant) -> Self {
        Self {
            began,
            requests: 0,
            factors: VecDeque::new(),
            ends: VecDeque::new(),
        }
    }

    fn spoken(&mut self, now: Instant, audio_seconds: f64, factor: f64) {
        if self.factors.len() == FACTORS {
            self.factors.pop_front();
        }
        self.factors.push_back(factor);
        self.forget(now);
        if self.ends.len() == ENDS {
            self.ends.pop_front();
        }
        self.ends.push_back((now, audio_seconds));
    }

    fn forget(&mut self, now: Instant) {
        let old = |end: &(Instant, f64)| now.duration_since(end.0) > WINDOW;
        while self.ends.front().is_some_and(old) {
            self.ends.pop_front();
        }
    }

    fn figures(&mut self, now: Instant) -> Figures {
        self.forget(now);
        let seconds = now.duration_since(self.began).min(WINDOW).as_secs_f64();
        let seconds = seconds.max(1.0);
        let mut factors: Vec<f64> = self.factors.iter().copied().collect();
        factors.sort_unstable_by(f64::total_cmp);
        let count = factors.len();
        // The least factor that 95 % of the requests do not exceed.
        let rank = (95 * count).div_ceil(100);
        let audio: f64 = self.ends.iter().map(|end| end.1).sum();
        Figures {
            request_count: self.requests,
            rtf_mean: (count > 0).then(|| factors.iter().sum::<f64>() / count as f64),
            rtf_p95: rank.checked_sub(1).map(|at| factors[at]),
            throughput: self.ends.len() as f64 / seconds,
            audio_seconds_per_second: audio / seconds,
        }
    }
}

static RECENT: Mutex<Option<Recent>> = Mutex::new(None);

fn recent() -> MutexGuard<'static, Option<Recent>> {
    RECENT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on requests are remembered.
pub fn begin() {
    *recent() = Some(Recent::new(Instant::now()));
}

/// A request has ended, however it did.
pub fn ended() {
    if let Some(recent) = recent().as_mut() {
        recent.requests += 1;
    }
}

/// A request was spoken.
pub fn spoken(audio_seconds: f64, factor: f64) {
    if let Some(recent) = recent().as_mut() {
        recent.spoken(Instant::now(), audio_seconds, factor);
    }
}

/// The figures of now; `None` before [`begin`].
pub fn figures() -> Option<Figures> {
    recent()
        .as_mut()
        .map(|recent| recent.figures(Instant::now()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_rtf_is_of_latest_and_throughput_of_last_minute() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut recent = Recent::new(began);
        let none = recent.figures(at(0));
        assert_eq!((none.rtf_mean, none.rtf_p95), (None, None));
        for number in 1..=100 {
            recent.spoken(at(number), 3.0, number as f64 / 100.0);
        }
        let figures = recent.figures(at(100));
        assert!((figures.rtf_mean.unwrap() - 0.505).abs() < 1e-9);
        assert_eq!(figures.rtf_p95, Some(0.95));
        // Those of seconds 40 to 100.
        assert!((figures.throughput - 61.0 / 60.0).abs() < 1e-9);
        assert!((figures.audio_seconds_per_second - 3.05).abs() < 1e-9);
        for _ in 0..FACTORS {
            recent.spoken(at(200), 1.0, 2.0);
        }
        assert_eq!(recent.figures(at(200)).rtf_mean, Some(2.0));
        assert_eq!(recent.figures(at(300)).throughput.to_bits(), 0);
    }

    #[test]
    fn test_throughput_of_first_second() {
        let began = Instant::now();
        let mut recent = Recent::new(began);
        recent.spoken(began, 2.0, 0.5);
        let figures = recent.figures(began);
        assert_eq!((figures.throughput, figures.rtf_p95), (1.0, Some(0.5)));
    }
}
