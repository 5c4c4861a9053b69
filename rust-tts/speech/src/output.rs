//! How a request's audio leaves: format, rates, chunks and level.

use super::delivery::Delivery;
use super::draft::AudioDraft;
use crate::error::Error;
use chatterbox_audio::{Encoding, Format, Normalization, SAMPLE_RATES};

/// Length of a WebSocket chunk, in milliseconds.
pub const CHUNK_MS: std::ops::RangeInclusive<u32> = 10..=5000;
const DEFAULT_CHUNK_MS: u32 = 40;

/// How the audio leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output {
    pub encoding: Encoding,
    pub chunk_ms: u32,
    /// Binary WebSocket frames instead of base64.
    pub binary: bool,
}

impl Output {
    /// Delivery in chunks of `chunk_ms`.
    pub fn chunks(&self) -> Delivery {
        let samples = u64::from(self.encoding.sample_rate) * u64::from(self.chunk_ms) / 1000;
        Delivery::Chunks {
            samples: samples as usize,
        }
    }
}

/// Reads the field `audio_normalization`.
pub fn check_normalization(
    wanted: Option<&str>,
    stream: bool,
) -> Result<Option<Normalization>, Error> {
    let refused = |problem| Err(Error::parameter("audio_normalization", problem));
    match wanted {
        None | Some("none") => Ok(None),
        Some("peak") => Ok(Some(Normalization::Peak)),
        Some("rms") => Ok(Some(Normalization::Rms)),
        Some("lufs") if stream => {
            refused("loudness is known when all has been spoken: set `stream` to false, or use rms")
        }
        Some("lufs") => Ok(Some(Normalization::Lufs)),
        Some(_) => refused("expected one of none, peak, rms, lufs"),
    }
}

impl AudioDraft {
    /// `prefix` stands before the fields' names in errors.
    pub fn validate(&self, default_format: Format, prefix: &str) -> Result<Output, Error> {
        let format = match self.format.as_deref() {
            None => default_format,
            Some(name) => Format::parse(name).ok_or_else(|| {
                let known: Vec<_> = Format::ALL.iter().map(|format| format.name()).collect();
                Error::parameter(
                    &format!("{prefix}format"),
                    format!("expected one of {}", known.join(", ")),
                )
            })?,
        };
        let sample_rate = self.sample_rate.unwrap_or(24_000);
        if !SAMPLE_RATES.contains(&sample_rate) {
            let known: Vec<_> = SAMPLE_RATES.iter().map(u32::to_string).collect();
            return Err(Error::parameter(
                &format!("{prefix}sample_rate"),
                format!("expected one of {}", known.join(", ")),
            ));
        }
        self.validate_bitrate(format, sample_rate, prefix)?;
        let chunk_ms = self.chunk_size_ms.unwrap_or(DEFAULT_CHUNK_MS);
        if !CHUNK_MS.contains(&chunk_ms) {
            let (least, most) = (CHUNK_MS.start(), CHUNK_MS.end());
            return Err(Error::parameter(
                &format!("{prefix}chunk_size_ms"),
                format!("expected {least} to {most}"),
            ));
        }
        Ok(Output {
            encoding: Encoding {
                format,
                sample_rate,
                bitrate: self.bitrate,
            },
            chunk_ms,
            binary: self.binary.unwrap_or(false),
        })
    }

    fn validate_bitrate(
        &self,
        format: Format,
        sample_rate: u32,
        prefix: &str,
    ) -> Result<(), Error> {
        let Some(kbps) = self.bitrate else {
            return Ok(());
        };
        let refused = |problem| Error::parameter(&format!("{prefix}bitrate"), problem);
        let name = format.name();
        let Some(known) = format.bitrates(sample_rate) else {
            let able = Format::ALL
                .iter()
                .filter(|format| format.bitrates(sample_rate).is_some());
            let able: Vec<_> = able.map(|format| format.name()).collect();
            let able = able.join(", ");
            return Err(refused(format!("{name} has none; these have: {able}")));
        };
        if known.allowed.contains(kbps) {
            return Ok(());
        }
        let allowed = known.allowed;
        Err(refused(format!(
            "expected {allowed} (kbit/s, for {name} at {sample_rate} Hz)"
        )))
    }
}
