//! Which bit rates a compressed format can have.

use std::fmt;

/// The bit rates of a format at one sample rate, in kbit/s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bitrates {
    /// The default.
    pub usual: u32,
    pub allowed: Allowed,
}

/// The values that a request may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// One of the values that the format has a code for.
    OneOf(&'static [u32]),
    /// Anything from the least to the most.
    Range(u32, u32),
}

impl Allowed {
    pub fn contains(self, kbps: u32) -> bool {
        match self {
            Self::OneOf(values) => values.contains(&kbps),
            Self::Range(least, most) => (least..=most).contains(&kbps),
        }
    }

    /// The least and the most.
    #[cfg(test)]
    pub(super) fn ends(self) -> [u32; 2] {
        match self {
            Self::OneOf(values) => [values[0], values[values.len() - 1]],
            Self::Range(least, most) => [least, most],
        }
    }
}

/// The allowed values, for an error message.
impl fmt::Display for Allowed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OneOf(values) => {
                let values: Vec<_> = values.iter().map(u32::to_string).collect();
                write!(formatter, "one of {}", values.join(", "))
            }
            Self::Range(least, most) => write!(formatter, "{least} to {most}"),
        }
    }
}

/// The bit rate from which speech in MP3 and AAC is indistinguishable from the original, in kbit/s.
pub(super) fn usual(sample_rate: u32) -> u32 {
    match sample_rate {
        0..=8000 => 32,
        8001..=16000 => 48,
        16001..=24000 => 64,
        _ => 96,
    }
}

/// The encoder's bit rate, in kbit/s.
pub(super) fn chosen(wanted: Option<u32>, known: Bitrates) -> u32 {
    wanted
        .filter(|&kbps| known.allowed.contains(kbps))
        .unwrap_or(known.usual)
}

/// For formats whose size follows from the samples.
pub(super) fn none(_sample_rate: u32) -> Option<Bitrates> {
    None
}
