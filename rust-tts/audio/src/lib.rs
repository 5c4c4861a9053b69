//! From the engine's samples to the bytes of an answer: joining, resampling, cutting and encoding.
//!
//! Everything here is mono `f32` at full scale 1.0, streaming, and independent of how the samples were cut into pushes.

mod aac;
mod bitrate;
mod chunk;
pub mod decode;
mod error;
#[cfg(any(test, feature = "fixtures"))]
pub mod faults;
mod flac;
mod fmp4;
mod format;
mod join;
mod level;
mod mark;
mod mp3;
mod ogg_opus;
mod opus;
mod pcm;
mod resample;
#[cfg(test)]
mod tests;
mod wav;
mod webm;
mod whole;

pub use bitrate::{Allowed, Bitrates};
pub use chunk::Chunker;
pub use error::EncodeError;
pub use format::Format;
pub use join::Joiner;
pub use level::{Extent, Leveler, Normalization};
pub use resample::Resampler;
pub use wav::clip_file;
pub use whole::WholeFile;

/// The sample rates, in hertz, that an answer may have.
pub const SAMPLE_RATES: [u32; 6] = [8000, 16000, 22050, 24000, 44100, 48000];

/// The format of an answer's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoding {
    pub format: Format,
    /// In hertz, one of [`SAMPLE_RATES`].
    pub sample_rate: u32,
    /// In kbit/s, one of [`Format::bitrates`]; the format's usual one where it is `None`.
    pub bitrate: Option<u32>,
}

/// What is known about an answer's length before its first sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// The audio is still being made.
    Unknown,
    /// The whole answer is this many samples at the encoder's rate.
    Samples(u64),
}

/// Turns one utterance's samples into one file or byte stream.
///
/// The bytes are what `head`, every `push`, `finish` and, if the length is known, `trailer` return, in this order. A
/// sample that is not a number becomes 0; samples beyond full scale are clamped.
///
/// After an error the encoder is of no more use: the file or stream cannot be completed.
pub trait Encoder: Send {
    /// The bytes before any audio; empty for formats without a header.
    fn head(&mut self) -> Result<Vec<u8>, EncodeError> {
        Ok(Vec::new())
    }

    /// Encodes mono samples at the encoder's rate. May return nothing yet, or also bytes of earlier samples.
    fn push(&mut self, samples: &[f32]) -> Result<Vec<u8>, EncodeError>;

    /// Whatever is still held back.
    fn finish(&mut self) -> Result<Vec<u8>, EncodeError> {
        Ok(Vec::new())
    }

    /// The bytes after the audio, in a file whose head has the length; the encoder need not have encoded it.
    fn trailer(&self) -> Vec<u8> {
        Vec::new()
    }
}

/// An encoder for one answer. Fails where the codec cannot be set up, for want of memory as a rule.
pub fn encoder(encoding: Encoding, length: Length) -> Result<Box<dyn Encoder>, EncodeError> {
    let encoder = encoding
        .format
        .encoder(encoding.sample_rate, encoding.bitrate, length)?;
    #[cfg(any(test, feature = "fixtures"))]
    let encoder = faults::apply(encoder, encoding.sample_rate)?;
    Ok(encoder)
}
