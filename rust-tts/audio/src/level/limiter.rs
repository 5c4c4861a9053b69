//! Keeps samples below a ceiling without clipping them: a limiter that looks ahead.

use std::collections::VecDeque;

/// How far it looks ahead, 5 ms: its gain falls that slowly before a peak.
const LOOKS_PER_SECOND: u32 = 200;
/// The time constant with which its gain comes back, 80 ms.
const RELEASES_PER_SECOND: f64 = 12.5;

/// Delays samples by its look-ahead and turns down those around a peak, so that no sample is beyond the ceiling.
///
/// The gain that each sample needs by itself is taken at its least over the look-ahead, let go slowly, and averaged over
/// the look-ahead again: when a peak comes out, all that is averaged is small enough for it.
pub(super) struct Limiter {
    ceiling: f32,
    ahead: usize,
    release: f64,
    /// The samples that have not come out.
    delayed: VecDeque<f32>,
    /// Where samples were that need less gain than all that came after them, and those gains, which rise.
    needs: VecDeque<(u64, f64)>,
    /// The latest gains, as many as it looks ahead, and their sum.
    gains: VecDeque<f64>,
    sum: f64,
    /// Samples so far.
    position: u64,
}

impl Limiter {
    /// For samples at `rate` hertz.
    pub(super) fn new(ceiling: f32, rate: u32) -> Self {
        let ahead = (rate / LOOKS_PER_SECOND).max(1) as usize;
        Self {
            ceiling,
            ahead,
            release: 1.0 - (-RELEASES_PER_SECOND / f64::from(rate.max(1))).exp(),
            delayed: VecDeque::with_capacity(ahead),
            needs: VecDeque::new(),
            gains: std::iter::repeat_n(1.0, ahead).collect(),
            sum: ahead as f64,
            position: 0,
        }
    }

    /// Takes a sample; the one that comes out for it goes to the end of `out`.
    pub(super) fn push(&mut self, sample: f32, out: &mut Vec<f32>) {
        self.delayed.push_back(sample);
        let gain = self.next_gain(sample);
        if self.delayed.len() == self.ahead
            && let Some(sample) = self.delayed.pop_front()
        {
            let sample = (f64::from(sample) * gain) as f32;
            // Only rounding is left to take off.
            out.push(sample.clamp(-self.ceiling, self.ceiling));
        }
    }

    /// The samples that are left.
    pub(super) fn finish(&mut self, out: &mut Vec<f32>) {
        let end = out.len() + self.delayed.len();
        while out.len() < end {
            self.push(0.0, out);
        }
        self.delayed.clear();
    }

    /// The gain of the sample that comes out for this one.
    fn next_gain(&mut self, sample: f32) -> f64 {
        let ceiling = f64::from(self.ceiling);
        let need = (ceiling / f64::from(sample.abs())).min(1.0);
        while self.needs.back().is_some_and(|&(_, later)| later >= need) {
            self.needs.pop_back();
        }
        self.needs.push_back((self.position, need));
        let oldest = (self.position + 1).saturating_sub(self.ahead as u64);
        while self.needs.front().is_some_and(|&(at, _)| at < oldest) {
            self.needs.pop_front();
        }
        self.position += 1;

        let least = self.needs.front().map_or(need, |&(_, need)| need);
        let before = self.gains.back().copied().unwrap_or(1.0);
        // Down at once, up slowly.
        let gain = least.min(before + (1.0 - before) * self.release);
        self.gains.push_back(gain);
        self.sum += gain - self.gains.pop_front().unwrap_or(1.0);
        (self.sum / self.ahead as f64).min(1.0)
    }
}
