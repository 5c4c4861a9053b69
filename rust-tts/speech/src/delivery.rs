//! Cuts and encodes a request's audio for its listener.

use chatterbox_audio::{
    Chunker, EncodeError, Encoder, Encoding, Length, WholeFile, encoder as new_encoder,
};

/// How a request's audio is cut for delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// As it is made, in parts of any length.
    Stream,
    /// In chunks of so many samples, of which only the last may be shorter.
    Chunks { samples: usize },
    /// At the end, as one file with its real length in its head.
    Whole,
    /// Not at all: only the figures are wanted.
    Nothing,
}

impl Delivery {
    /// The delivery that a request's field `stream` asks for.
    pub fn of(stream: bool) -> Self {
        if stream { Self::Stream } else { Self::Whole }
    }

    /// Whether audio leaves while it is made.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Stream | Self::Chunks { .. })
    }
}

/// Encoded audio that is ready to be delivered.
#[derive(Debug, Default)]
pub struct EncodedAudio {
    /// In order. A chunk of exact length may have no bytes yet: its codec holds them back.
    pub chunks: Vec<Vec<u8>>,
    /// Samples that were encoded for it.
    pub samples: usize,
}

/// Cuts and encodes the samples of one request.
pub struct AnswerEncoder(Mode);

enum Mode {
    Live {
        encoder: Box<dyn Encoder>,
        chunker: Option<Chunker>,
        /// The format's head, which leaves with the first audio.
        head: Vec<u8>,
    },
    Whole(WholeFile),
    Nothing,
}

impl AnswerEncoder {
    pub fn new(delivery: Delivery, encoding: Encoding) -> Result<Self, EncodeError> {
        let chunker = match delivery {
            Delivery::Whole => return Ok(Self(Mode::Whole(WholeFile::new(encoding)?))),
            Delivery::Nothing => return Ok(Self(Mode::Nothing)),
            Delivery::Stream => None,
            Delivery::Chunks { samples } => Some(Chunker::new(samples)),
        };
        let mut encoder = new_encoder(encoding, Length::Unknown)?;
        let head = encoder.head()?;
        Ok(Self(Mode::Live {
            encoder,
            chunker,
            head,
        }))
    }

    /// Encodes samples at the encoding's rate and returns the chunks that are complete.
    pub fn push(&mut self, samples: &[f32]) -> Result<Vec<Vec<u8>>, EncodeError> {
        match &mut self.0 {
            Mode::Nothing => Ok(Vec::new()),
            Mode::Whole(file) => file.push(samples).map(|()| Vec::new()),
            Mode::Live {
                encoder,
                chunker: Some(chunker),
                head,
            } => {
                let chunks = chunker.push(samples);
                let encoded = chunks
                    .iter()
                    .map(|chunk| encode(&mut **encoder, head, chunk));
                encoded.collect()
            }
            Mode::Live {
                encoder,
                chunker: None,
                head,
            } => {
                let bytes = encode(&mut **encoder, head, samples)?;
                Ok(if bytes.is_empty() {
                    Vec::new()
                } else {
                    vec![bytes]
                })
            }
        }
    }

    /// The rest: the last chunk, the end of the stream, or the whole file.
    pub fn finish(self) -> Result<Vec<u8>, EncodeError> {
        match self.0 {
            Mode::Nothing => Ok(Vec::new()),
            Mode::Whole(file) => file.finish(),
            Mode::Live {
                mut encoder,
                chunker,
                mut head,
            } => {
                let held = chunker.map(Chunker::finish).unwrap_or_default();
                let mut bytes = encode(&mut *encoder, &mut head, &held)?;
                bytes.extend(encoder.finish()?);
                Ok(bytes)
            }
        }
    }
}

/// Encodes `samples`, behind `head` where it has not left yet.
fn encode(
    encoder: &mut dyn Encoder,
    head: &mut Vec<u8>,
    samples: &[f32],
) -> Result<Vec<u8>, EncodeError> {
    let mut bytes = std::mem::take(head);
    bytes.extend(encoder.push(samples)?);
    Ok(bytes)
}
