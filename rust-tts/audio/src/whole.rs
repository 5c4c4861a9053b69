//! A file that leaves when it is whole.

use super::{EncodeError, Encoder, Encoding, Length, encoder};

/// Encodes audio as it comes, so that the end of a long file costs no more than its last piece, and puts the head of its
/// real length before it, and what ends such a file after it.
pub struct WholeFile {
    encoding: Encoding,
    encoder: Box<dyn Encoder>,
    body: Vec<u8>,
    samples: u64,
}

impl WholeFile {
    pub fn new(encoding: Encoding) -> Result<Self, EncodeError> {
        let mut encoder = encoder(encoding, Length::Unknown)?;
        // Made so that the encoder has made it; the one that is sent is made at the end.
        encoder.head()?;
        Ok(Self {
            encoding,
            encoder,
            body: Vec::new(),
            samples: 0,
        })
    }

    /// Encodes mono samples at the encoding's rate.
    pub fn push(&mut self, samples: &[f32]) -> Result<(), EncodeError> {
        self.samples += samples.len() as u64;
        self.body.extend(self.encoder.push(samples)?);
        Ok(())
    }

    /// The file.
    pub fn finish(mut self) -> Result<Vec<u8>, EncodeError> {
        let length = Length::Samples(self.samples);
        let mut ends = encoder(self.encoding, length)?;
        let mut file = ends.head()?;
        file.append(&mut self.body);
        file.extend(self.encoder.finish()?);
        file.extend(ends.trailer());
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Format;
    use super::*;

    #[test]
    fn test_patched_head_equals_that_of_known_length() {
        let samples: Vec<f32> = (0..30_000)
            .map(|at| 0.3 * (at as f32 * 0.05).sin())
            .collect();
        for &format in Format::ALL {
            let encoding = Encoding {
                format,
                sample_rate: 24_000,
                bitrate: None,
            };
            let mut expected = encoder(encoding, Length::Samples(30_000)).unwrap();
            let mut bytes = expected.head().unwrap();
            bytes.extend(expected.push(&samples).unwrap());
            bytes.extend(expected.finish().unwrap());
            bytes.extend(expected.trailer());
            let mut file = WholeFile::new(encoding).unwrap();
            for piece in samples.chunks(777) {
                file.push(piece).unwrap();
            }
            assert!(file.finish().unwrap() == bytes, "{}", format.name());
        }
    }
}
