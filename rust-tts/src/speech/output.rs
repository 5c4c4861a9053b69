//! How a request's audio leaves: format, rate and chunks.

use super::draft::AudioDraft;
use crate::audio::{Format, SAMPLE_RATES};
use crate::error::ApiError;

/// Length of a WebSocket chunk, in milliseconds.
pub const CHUNK_MS: std::ops::RangeInclusive<u32> = 10..=5000;
const DEFAULT_CHUNK_MS: u32 = 40;

/// How the audio leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output {
    pub format: Format,
    pub sample_rate: u32,
    pub chunk_ms: u32,
    /// Binary WebSocket frames instead of base64.
    pub binary: bool,
}

impl AudioDraft {
    /// `prefix` stands before the fields' names in errors.
    pub fn validate(&self, default_format: Format, prefix: &str) -> Result<Output, ApiError> {
        let format = match self.format.as_deref() {
            None => default_format,
            Some(name) => Format::parse(name).ok_or_else(|| {
                let known: Vec<_> = Format::ALL.iter().map(|format| format.name()).collect();
                ApiError::parameter(
                    &format!("{prefix}format"),
                    format!("expected one of {}", known.join(", ")),
                )
            })?,
        };
        let sample_rate = self.sample_rate.unwrap_or(24_000);
        if !SAMPLE_RATES.contains(&sample_rate) {
            let known: Vec<_> = SAMPLE_RATES.iter().map(u32::to_string).collect();
            return Err(ApiError::parameter(
                &format!("{prefix}sample_rate"),
                format!("expected one of {}", known.join(", ")),
            ));
        }
        let chunk_ms = self.chunk_size_ms.unwrap_or(DEFAULT_CHUNK_MS);
        if !CHUNK_MS.contains(&chunk_ms) {
            let (least, most) = (CHUNK_MS.start(), CHUNK_MS.end());
            return Err(ApiError::parameter(
                &format!("{prefix}chunk_size_ms"),
                format!("expected {least} to {most}"),
            ));
        }
        Ok(Output {
            format,
            sample_rate,
            chunk_ms,
            binary: self.binary.unwrap_or(false),
        })
    }
}
