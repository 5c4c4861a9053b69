//! Clips as WAV files: 16-bit PCM, mono.
//!
//! Not the encoder of answers, which marks its audio as made by a machine: these are recordings of people.

const BITS: u16 = 16;
const FRAME: u16 = BITS / 8;
/// What the RIFF chunk counts besides the samples: all of the head but its own id and size.
const OVERHEAD: usize = 36;

/// A file of samples at a rate in Hz; what is beyond full scale is clamped. At most 2^30 samples.
pub fn file(samples: &[f32], sample_rate: u32) -> Vec<u8> {
    let data = samples.len() * usize::from(FRAME);
    let mut bytes = Vec::with_capacity(OVERHEAD + 8 + data);
    bytes.extend(b"RIFF");
    bytes.extend(((OVERHEAD + data) as u32).to_le_bytes());
    bytes.extend(b"WAVEfmt ");
    bytes.extend(16_u32.to_le_bytes()); // size of the format chunk
    bytes.extend(1_u16.to_le_bytes()); // WAVE_FORMAT_PCM
    bytes.extend(1_u16.to_le_bytes()); // channels
    bytes.extend(sample_rate.to_le_bytes());
    bytes.extend((sample_rate * u32::from(FRAME)).to_le_bytes());
    bytes.extend(FRAME.to_le_bytes());
    bytes.extend(BITS.to_le_bytes());
    bytes.extend(b"data");
    bytes.extend((data as u32).to_le_bytes());
    let scaled = samples
        .iter()
        .map(|sample| (sample.clamp(-1.0, 1.0) * f32::from(i16::MAX)).round() as i16);
    bytes.extend(scaled.flat_map(i16::to_le_bytes));
    bytes
}

#[cfg(test)]
mod tests {
    #[test]
    fn test_preview_is_read_by_independent_decoder() -> Result<(), hound::Error> {
        let bytes = super::file(&[0.0, 0.5, -1.0, 2.0], 22_050);
        let reader = hound::WavReader::new(bytes.as_slice())?;
        assert_eq!(
            (reader.spec().channels, reader.spec().sample_rate),
            (1, 22_050)
        );
        let read: Vec<i16> = reader.into_samples().collect::<Result<_, _>>()?;
        assert_eq!(read, [0, 16_384, -32_767, 32_767]);
        Ok(())
    }
}
