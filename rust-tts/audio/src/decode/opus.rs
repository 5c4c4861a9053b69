//! Opus, as browsers record it, in Ogg, `WebM` and MP4.

use super::DecodeError;

/// Opus always decodes to 48 kHz here, whatever rate the recording had.
const RATE: u32 = 48_000;

/// The longest packet: 120 ms (RFC 6716, section 3.2.5).
const MAX_PACKET_SAMPLES: usize = 5_760;

/// Decodes one Opus stream to mono; libopus mixes stereo down itself.
pub(super) struct MonoDecoder {
    decoder: opus::Decoder,
    packet: Vec<f32>,
    /// Samples still to drop at the start: what the encoder put before the audio.
    skip: usize,
}

impl MonoDecoder {
    /// Makes a decoder from the identification header (RFC 7845, section 5.1). Without one: mono or stereo, no pre-skip.
    pub(super) fn new(head: &[u8]) -> Result<Self, DecodeError> {
        // More than two channels are several streams in each packet.
        if head.get(9).is_some_and(|&channels| channels > 2) {
            return Err(DecodeError::UnsupportedCodec(
                "Opus with more than two channels".to_owned(),
            ));
        }
        let skip = match (head.get(8), head.get(10..12)) {
            // The same header in MP4 has version 0 and is big-endian ("Encapsulation of Opus in ISO Base Media File
            // Format", section 4.3.2).
            (Some(0), Some(&[high, low])) => usize::from(u16::from_be_bytes([high, low])),
            (_, Some(&[low, high])) => usize::from(u16::from_le_bytes([low, high])),
            _ => 0,
        };
        let decoder =
            opus::Decoder::new(RATE, opus::Channels::Mono).map_err(|error| corrupt(&error))?;
        Ok(Self {
            decoder,
            packet: vec![0.0; MAX_PACKET_SAMPLES],
            skip,
        })
    }

    /// Appends the audio of a packet to `mono` and returns the sample rate in Hz.
    pub(super) fn decode(&mut self, data: &[u8], mono: &mut Vec<f32>) -> Result<u32, DecodeError> {
        // To libopus no data means a lost packet, which it would fill with made-up audio.
        if data.is_empty() {
            return Err(DecodeError::Corrupt("an Opus packet is empty".to_owned()));
        }
        let length = self
            .decoder
            .decode_float(data, &mut self.packet, false)
            .map_err(|error| corrupt(&error))?;
        let skipped = self.skip.min(length);
        self.skip -= skipped;
        mono.extend(
            self.packet[skipped..length]
                .iter()
                .map(|&sample| super::tame(sample)),
        );
        Ok(RATE)
    }
}

fn corrupt(error: &opus::Error) -> DecodeError {
    DecodeError::Corrupt(format!("Opus: {}", error.description()))
}
