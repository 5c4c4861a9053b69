//! Headerless PCM, and the conversion to 16 bits that other formats share.

use super::{EncodeError, Encoder, Length};

/// Makes a sample fit to send: 0 for not-a-number, clamped to full scale otherwise.
pub(super) fn sanitize(sample: f32) -> f32 {
    if sample.is_nan() {
        0.0
    } else {
        sample.clamp(-1.0, 1.0)
    }
}

/// A sanitized sample as 16 bits, rounded to nearest. The scale is 32767 both ways, so that the mapping is symmetric.
pub(super) fn to_i16(sample: f32) -> i16 {
    (sanitize(sample) * f32::from(i16::MAX)).round() as i16
}

/// Samples as signed 16-bit little-endian.
pub(super) fn s16le(samples: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(2 * samples.len());
    for &sample in samples {
        bytes.extend_from_slice(&to_i16(sample).to_le_bytes());
    }
    bytes
}

/// Samples as 32-bit little-endian IEEE floats.
fn f32le(samples: &[f32]) -> Vec<u8> {
    let sanitized = samples.iter().copied().map(sanitize);
    sanitized.flat_map(f32::to_le_bytes).collect()
}

/// Samples and nothing else.
pub(super) struct Pcm(fn(&[f32]) -> Vec<u8>);

#[expect(
    clippy::unnecessary_wraps,
    reason = "codecs of other formats can fail to start"
)]
impl Pcm {
    pub(super) fn s16(_: u32, _: Option<u32>, _: Length) -> Result<Self, EncodeError> {
        Ok(Self(s16le))
    }

    pub(super) fn f32(_: u32, _: Option<u32>, _: Length) -> Result<Self, EncodeError> {
        Ok(Self(f32le))
    }
}

impl Encoder for Pcm {
    fn push(&mut self, samples: &[f32]) -> Result<Vec<u8>, EncodeError> {
        Ok((self.0)(samples))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HARSH: [f32; 8] = [
        0.0,
        1.0,
        -1.0,
        0.5,
        7.0,
        f32::NEG_INFINITY,
        f32::NAN,
        f32::INFINITY,
    ];

    #[test]
    fn test_s16_is_little_endian_rounded_and_clamped() {
        let mut encoder = Pcm::s16(24000, None, Length::Unknown).unwrap();
        let bytes = encoder.push(&HARSH).unwrap();
        let expected: Vec<u8> = [0, 32767, -32767, 16384, 32767, -32767, 0, 32767_i16]
            .iter()
            .flat_map(|sample| sample.to_le_bytes())
            .collect();
        assert_eq!(bytes, expected);
        assert!(encoder.head().unwrap().is_empty() && encoder.finish().unwrap().is_empty());
    }

    #[test]
    fn test_f32_is_little_endian_and_clamped() {
        let mut encoder = Pcm::f32(24000, None, Length::Unknown).unwrap();
        let bytes = encoder.push(&HARSH).unwrap();
        let expected: Vec<u8> = [0.0, 1.0, -1.0, 0.5, 1.0, -1.0, 0.0, 1.0_f32]
            .iter()
            .flat_map(|sample| sample.to_le_bytes())
            .collect();
        assert_eq!(bytes, expected);
        assert!(encoder.head().unwrap().is_empty() && encoder.finish().unwrap().is_empty());
    }
}
