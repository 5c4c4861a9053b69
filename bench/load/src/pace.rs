//! When listeners come, and when they have something said.

use std::time::Duration;

/// The plan of a run; every duration counts from its start.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub streams: u32,
    pub ramp: Duration,
    pub warmup: Duration,
    pub measured: Duration,
    /// From one text to the next; zero: at once after the last.
    pub period: Duration,
    /// Texts per listener; 0: no limit.
    pub says: u64,
}

impl Pace {
    /// When a listener connects: all of them evenly over the ramp.
    pub fn arrival(&self, stream: u32) -> Duration {
        self.ramp
            .mul_f64(f64::from(stream) / f64::from(self.streams.max(1)))
    }

    /// When a listener has its `say`th text said, or `None` for at once.
    ///
    /// A random moment of its period, the same in every run: listeners that do not know of each other meet by chance.
    pub fn moment(&self, stream: u32, say: u64) -> Option<Duration> {
        if self.period.is_zero() {
            return None;
        }
        let share = splitmix(u64::from(stream) << 32 | say) as f64 / u64::MAX as f64;
        Some(self.ramp + self.period.mul_f64(say as f64 + share))
    }

    pub fn measures_from(&self) -> Duration {
        self.ramp + self.warmup
    }

    pub fn ends(&self) -> Duration {
        self.measures_from() + self.measured
    }
}

/// One step of `SplitMix64` (Steele, Lea and Flood, 2014).
fn splitmix(state: u64) -> u64 {
    let mut mixed = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace {
        streams: 4,
        ramp: Duration::from_secs(2),
        warmup: Duration::from_secs(1),
        measured: Duration::from_secs(5),
        period: Duration::from_millis(100),
        says: 0,
    };

    #[test]
    fn test_listeners_arrive_evenly() {
        let arrivals: Vec<_> = (0..4)
            .map(|stream| PACE.arrival(stream).as_millis())
            .collect();
        assert_eq!(arrivals, [0, 500, 1000, 1500]);
        assert_eq!(PACE.ends(), Duration::from_secs(8));
    }

    #[test]
    fn test_each_listener_starts_once_per_period() {
        for say in 0..50 {
            let moment = PACE.moment(3, say).unwrap_or_default();
            let begins = PACE.ramp + PACE.period * u32::try_from(say).unwrap_or(0);
            assert!(
                (begins..=begins + PACE.period).contains(&moment),
                "{say}: {moment:?}"
            );
            assert_ne!(moment, PACE.moment(2, say).unwrap_or_default());
        }
        assert_eq!(
            Pace {
                period: Duration::ZERO,
                ..PACE
            }
            .moment(0, 0),
            None
        );
    }
}
