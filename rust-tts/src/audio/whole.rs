//! A file that leaves when it is whole.

use super::{Encoder, Format, Length, encoder};

/// Encodes audio as it comes, so that the end of a long file costs no more than its last piece, and puts the head of its
/// real length before it.
pub struct WholeFile {
    format: Format,
    sample_rate: u32,
    encoder: Box<dyn Encoder>,
    body: Vec<u8>,
    samples: u64,
}

impl WholeFile {
    pub fn new(format: Format, sample_rate: u32) -> Self {
        let mut encoder = encoder(format, sample_rate, Length::Unknown);
        // Made so that the encoder has made it; the one that is sent is made at the end.
        encoder.head();
        Self {
            format,
            sample_rate,
            encoder,
            body: Vec::new(),
            samples: 0,
        }
    }

    pub fn push(&mut self, samples: &[f32]) {
        self.samples += samples.len() as u64;
        self.body.extend(self.encoder.push(samples));
    }

    /// The file.
    pub fn finish(mut self) -> Vec<u8> {
        let length = Length::Samples(self.samples);
        let mut file = encoder(self.format, self.sample_rate, length).head();
        file.append(&mut self.body);
        file.extend(self.encoder.finish());
        file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_file_that_an_encoder_with_the_length_makes() {
        let samples: Vec<f32> = (0..30_000)
            .map(|at| 0.3 * (at as f32 * 0.05).sin())
            .collect();
        for &format in Format::ALL {
            let mut expected = encoder(format, 24_000, Length::Samples(30_000));
            let mut bytes = expected.head();
            bytes.extend(expected.push(&samples));
            bytes.extend(expected.finish());
            let mut file = WholeFile::new(format, 24_000);
            for piece in samples.chunks(777) {
                file.push(piece);
            }
            assert!(file.finish() == bytes, "{}", format.name());
        }
    }
}
