//! Streaming conversion between sample rates.
//!
//! Windowed-sinc interpolation (J. O. Smith, "Digital Audio Resampling", CCRMA) with a Kaiser window (J. F. Kaiser,
//! "Nonrecursive digital filter design using the I0-sinh window function", 1974), as a polyphase filter whose position
//! is kept in integers. Resampling crates work in blocks, round their delay to whole output samples and keep the
//! position in floating point; here an output sample lies exactly where it belongs, whatever the pushes were.

use std::f64::consts::PI;

/// Half the filter's length, in samples of the lower of the two rates: 6 ms of look-ahead at 8 kHz, 2 ms at 24 kHz.
const HALF_WIDTH: f64 = 48.0;
/// The Kaiser window's shape; this one leaves about -90 dB beyond the transition band.
const KAISER_BETA: f64 = 8.96;
/// Where the response is halved, as a part of the lower rate's Nyquist frequency: half a transition band (about 0.12)
/// below it, so that what folds back is already in the stop band.
const CUTOFF: f64 = 0.94;
/// Fractional positions kept in the table. Rates with a finer common grid interpolate linearly between neighbours,
/// which costs less than -100 dB of error and bounds the table for odd pairs such as 44101 to 24000 Hz.
const MAX_PHASES: u64 = 512;
/// Accumulators of the inner product; the filter's length is a multiple of it.
const LANES: usize = 8;

/// Resamples one mono stream; equal rates pass through untouched.
///
/// Sample `k` of the input lies at `k * to / from` of the output: the filter's delay is compensated.
#[derive(Debug)]
pub struct Resampler {
    filter: Option<Filter>,
}

impl Resampler {
    /// A resampler between two rates in hertz, of which neither may be 0 (0 counts as 1).
    ///
    /// The filter's length grows with `from / to`: rates that come from outside must be bounded by the caller.
    pub fn new(from: u32, to: u32) -> Self {
        Self {
            filter: (from != to).then(|| Filter::new(from.max(1), to.max(1))),
        }
    }

    /// Takes samples and returns those of the output that no later input can change.
    pub fn push(&mut self, samples: &[f32]) -> Vec<f32> {
        match &mut self.filter {
            Some(filter) => filter.push(samples),
            None => samples.to_vec(),
        }
    }

    /// The rest of the output, which has `n * to / from` samples, rounded, for `n` in all. Afterwards a stream may begin.
    pub fn finish(&mut self) -> Vec<f32> {
        self.filter.as_mut().map_or_else(Vec::new, Filter::finish)
    }
}

#[derive(Debug)]
struct Filter {
    /// Output sample `n` lies at `n * step_num / step_den` of the input.
    step_num: u64,
    step_den: u64,
    /// Taps on either side of a position.
    half: usize,
    /// `phases + 1` rows of `2 * half` taps.
    taps: Vec<f32>,
    phases: u64,
    /// Input not yet done with, beginning at the next output sample's first tap.
    input: Vec<f32>,
    /// How far the next output sample lies beyond its middle tap, in parts of `step_den`.
    offset: u64,
    taken: u64,
    given: u64,
}

impl Filter {
    fn new(from: u32, to: u32) -> Self {
        let divisor = gcd(from, to);
        let (step_num, step_den) = (u64::from(from / divisor), u64::from(to / divisor));
        let lower = f64::min(1.0, f64::from(to) / f64::from(from));
        let width = HALF_WIDTH / lower;
        let half = (width.ceil() as usize).next_multiple_of(LANES / 2);
        let phases = step_den.min(MAX_PHASES);
        let mut taps = Vec::with_capacity((phases as usize + 1) * 2 * half);
        for phase in 0..=phases {
            let fraction = phase as f64 / phases as f64;
            let row: Vec<f64> = (0..2 * half)
                .map(|tap| {
                    let distance = tap as f64 - (half as f64 - 1.0) - fraction;
                    sinc(distance * lower * CUTOFF) * kaiser(distance / width)
                })
                .collect();
            // Every phase has a gain of exactly one at 0 Hz: no ripple from one output sample to the next.
            let sum: f64 = row.iter().sum();
            taps.extend(row.iter().map(|tap| (tap / sum) as f32));
        }
        Self {
            step_num,
            step_den,
            half,
            taps,
            phases,
            input: vec![0.0; half - 1],
            offset: 0,
            taken: 0,
            given: 0,
        }
    }

    fn push(&mut self, samples: &[f32]) -> Vec<f32> {
        self.taken += samples.len() as u64;
        self.input.extend_from_slice(samples);
        self.drain(u64::MAX)
    }

    fn finish(&mut self) -> Vec<f32> {
        let total = (2 * self.taken * self.step_den + self.step_num) / (2 * self.step_num);
        self.input.resize(self.input.len() + self.half, 0.0);
        let rest = self.drain(total);
        self.input.clear();
        self.input.resize(self.half - 1, 0.0);
        (self.offset, self.taken, self.given) = (0, 0, 0);
        rest
    }

    /// Makes every output sample below `limit` for which all input is there.
    fn drain(&mut self, limit: u64) -> Vec<f32> {
        let length = 2 * self.half;
        let mut output = Vec::new();
        let mut start = 0;
        while self.given < limit {
            let Some(window) = self.input.get(start..start + length) else {
                break;
            };
            output.push(self.sample(window));
            self.given += 1;
            self.offset += self.step_num;
            start += (self.offset / self.step_den) as usize;
            self.offset %= self.step_den;
        }
        // Within the input: the filter is longer than any step, and the last window was all there.
        self.input.drain(..start);
        output
    }

    fn sample(&self, window: &[f32]) -> f32 {
        let position = self.offset * self.phases;
        let row = (position / self.step_den) as usize;
        let below = dot(window, &self.taps[row * window.len()..]);
        let between = position % self.step_den;
        if between == 0 {
            return below;
        }
        let above = dot(window, &self.taps[(row + 1) * window.len()..]);
        below + (above - below) * (between as f64 / self.step_den as f64) as f32
    }
}

/// The inner product over `window`'s length, in a fixed order of summation that compiles to vector instructions.
fn dot(window: &[f32], taps: &[f32]) -> f32 {
    let mut sums = [0.0_f32; LANES];
    for (samples, taps) in window.chunks_exact(LANES).zip(taps.chunks_exact(LANES)) {
        for lane in 0..LANES {
            sums[lane] += samples[lane] * taps[lane];
        }
    }
    sums.iter().sum()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        1.0
    } else {
        (PI * x).sin() / (PI * x)
    }
}

/// The Kaiser window over -1..=1, not normalised.
fn kaiser(x: f64) -> f64 {
    if x.abs() > 1.0 {
        0.0
    } else {
        bessel_i0(KAISER_BETA * (1.0 - x * x).sqrt())
    }
}

/// The modified Bessel function of the first kind and order zero, by its power series.
fn bessel_i0(x: f64) -> f64 {
    let mut term = 1.0;
    let mut sum = 1.0;
    let mut k = 1.0;
    while term > sum * f64::EPSILON {
        term *= (x / (2.0 * k)).powi(2);
        sum += term;
        k += 1.0;
    }
    sum
}

#[cfg(test)]
mod tests;
