//! Limits of decoding.

use std::time::Duration;

use super::DecodeError;

/// Limits of decoding a clip, all inclusive.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most channels in the file; they are averaged.
    pub max_channels: u16,
    /// Lowest sample rate in Hz.
    pub min_rate: u32,
    /// Highest sample rate in Hz.
    pub max_rate: u32,
    /// Longest clip in seconds.
    pub max_seconds: f64,
    /// Most samples of the decoded clip (one channel), which bounds its memory at any rate.
    pub max_samples: usize,
    /// Longest time that decoding may take.
    pub deadline: Duration,
    /// Decoding ends, without an error, when there is more than this; all is decoded unless it is set.
    pub enough_seconds: Option<f64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_channels: 8,
            min_rate: 8_000,
            max_rate: 192_000,
            max_seconds: 600.0,
            // Ten minutes at 48 kHz: 115 MB.
            max_samples: 600 * 48_000,
            deadline: Duration::from_secs(10),
            enough_seconds: None,
        }
    }
}

impl Limits {
    pub(super) fn check_rate(&self, found: u32) -> Result<(), DecodeError> {
        let (min, max) = (self.min_rate, self.max_rate);
        if (min..=max).contains(&found) {
            Ok(())
        } else {
            Err(DecodeError::BadRate { found, min, max })
        }
    }

    pub(super) fn check_channels(&self, found: usize) -> Result<(), DecodeError> {
        match found {
            0 => Err(DecodeError::Corrupt("it has no channels".to_owned())),
            _ if found > usize::from(self.max_channels) => Err(DecodeError::TooManyChannels {
                found,
                max: self.max_channels,
            }),
            _ => Ok(()),
        }
    }
}
