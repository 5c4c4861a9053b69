//! Takes a set length off both ends of a request's audio.

/// A cut fades over 5 ms.
const FADES_PER_SECOND: u32 = 200;

/// How much goes, in milliseconds, at least 0 each.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Trim {
    pub leading_ms: f64,
    pub trailing_ms: f64,
}

impl Trim {
    /// Both ends together, in seconds.
    pub fn seconds(&self) -> f64 {
        (self.leading_ms + self.trailing_ms) / 1000.0
    }
}

/// Samples on their way through the cuts. What may turn out to be the end is held back, when the end is to be cut.
pub struct Trimmer {
    /// Still to be dropped from the start.
    leading: usize,
    /// Samples since the start's cut that have been faded in; `fade` when that is over.
    risen: usize,
    trailing: usize,
    fade: usize,
    held: Vec<f32>,
}

impl Trimmer {
    /// For samples at `rate` hertz.
    pub fn new(trim: Trim, rate: u32) -> Self {
        let samples = |ms: f64| (ms * f64::from(rate) / 1000.0).round() as usize;
        let fade = (rate / FADES_PER_SECOND) as usize;
        let leading = samples(trim.leading_ms);
        Self {
            leading,
            risen: if leading > 0 { 0 } else { fade },
            trailing: samples(trim.trailing_ms),
            fade,
            held: Vec::new(),
        }
    }

    /// Takes samples and returns those that are sure to stay.
    pub fn push(&mut self, samples: &[f32]) -> Vec<f32> {
        let dropped = self.leading.min(samples.len());
        self.leading -= dropped;
        let start = self.held.len();
        self.held.extend(&samples[dropped..]);
        for sample in &mut self.held[start..] {
            if self.risen == self.fade {
                break;
            }
            self.risen += 1;
            *sample *= self.risen as f32 / self.fade as f32;
        }
        let kept = if self.trailing > 0 {
            self.trailing + self.fade
        } else {
            0
        };
        let sure = self.held.len().saturating_sub(kept);
        self.held.drain(..sure).collect()
    }

    /// No more samples come; returns what stays of those held back.
    pub fn finish(&mut self) -> Vec<f32> {
        let mut rest = std::mem::take(&mut self.held);
        rest.truncate(rest.len().saturating_sub(self.trailing));
        if self.trailing > 0 {
            fade_out(&mut rest, self.fade);
        }
        rest
    }
}

/// Takes the click out of a cut after `samples`, over up to `fade` of them.
pub fn fade_out(samples: &mut [f32], fade: usize) {
    let start = samples.len().saturating_sub(fade);
    let tail = &mut samples[start..];
    let count = tail.len() as f32;
    for (at, sample) in tail.iter_mut().enumerate() {
        *sample *= 1.0 - (at + 1) as f32 / count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trimmed(trim: Trim, count: usize, piece: usize) -> Vec<f32> {
        let samples: Vec<f32> = (0..count).map(|at| 1.0 + at as f32).collect();
        let mut trimmer = Trimmer::new(trim, 1000);
        let mut made = Vec::new();
        for piece in samples.chunks(piece) {
            made.extend(trimmer.push(piece));
        }
        made.extend(trimmer.finish());
        made
    }

    #[test]
    fn test_both_ends_are_trimmed_for_any_cuts() {
        let trim = Trim {
            leading_ms: 30.0,
            trailing_ms: 20.0,
        };
        let whole = trimmed(trim, 200, 200);
        assert_eq!(whole.len(), 150);
        // Between the fades nothing is changed.
        assert!((whole[10] - 41.0).abs() < 1e-6 && (whole[139] - 170.0).abs() < 1e-6);
        assert!(whole[0] < 10.0 && whole[149].abs() < 1e-6);
        for piece in [1, 7, 25, 199] {
            assert_eq!(trimmed(trim, 200, piece), whole);
        }
    }

    #[test]
    fn test_no_trim_holds_and_changes_nothing() {
        let mut trimmer = Trimmer::new(Trim::default(), 24_000);
        assert_eq!(trimmer.push(&[0.5, 0.25]), [0.5, 0.25]);
        assert!(trimmer.finish().is_empty());
    }

    #[test]
    fn test_trim_beyond_length_leaves_nothing() {
        for (leading_ms, trailing_ms) in [(500.0, 0.0), (0.0, 500.0), (60.0, 60.0)] {
            let trim = Trim {
                leading_ms,
                trailing_ms,
            };
            assert!(trimmed(trim, 100, 10).is_empty());
        }
    }
}
