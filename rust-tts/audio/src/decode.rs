//! Decoding of an uploaded reference clip to mono `f32`, under hard limits.
//!
//! The bytes come from strangers, so nothing in a header is believed: every limit is checked against what really comes
//! out of the decoder, and the clock is checked on every packet and on every read of the demuxer.

mod error;
#[cfg(any(test, feature = "fixtures"))]
pub mod fixtures;
mod limits;
mod mp4;
mod opus;
mod sniff;
mod source;
#[cfg(test)]
mod tests;
mod vorbis;

use std::io;
use std::panic::catch_unwind;
use std::time::Instant;

use symphonia::core::codecs::CodecParameters;
use symphonia::core::codecs::audio::AudioCodecId;
use symphonia::core::codecs::audio::well_known::{
    CODEC_ID_AAC, CODEC_ID_AC3, CODEC_ID_AC4, CODEC_ID_ALAC, CODEC_ID_DCA, CODEC_ID_EAC3,
    CODEC_ID_MP1, CODEC_ID_MP2, CODEC_ID_OPUS, CODEC_ID_VORBIS,
};
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia::core::common::Limit;
use symphonia::core::errors::Error as MediaError;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::{MediaSourceStream, MediaSourceStreamOptions};
use symphonia::core::meta::MetadataOptions;
use symphonia::core::packet::Packet;

pub use self::error::DecodeError;
pub use self::limits::Limits;
pub use self::sniff::extension;
use self::source::TimedSource;

/// How many broken packets are forgiven beyond as many as were decoded. MP3 files cut out of a stream begin with
/// some; a file with more is noise.
const FORGIVEN_PACKETS: usize = 16;

/// Tags and pictures are dropped unread beyond this many bytes: they are of no use here.
const TAG_BYTES: usize = 64 * 1024;

/// A decoded clip: one channel at the rate of the file.
#[derive(Clone, Debug)]
pub struct Clip {
    /// Samples in [-1, 1], always finite.
    pub samples: Vec<f32>,
    /// Samples per second, in Hz.
    pub sample_rate: u32,
}

impl Clip {
    /// Length of the clip in seconds.
    #[must_use]
    pub fn duration_seconds(&self) -> f64 {
        seconds(self.samples.len(), self.sample_rate)
    }

    /// Takes off what comes after `longest` seconds; whether there was any.
    pub fn cut(&mut self, longest: f64) -> bool {
        let kept = (longest * f64::from(self.sample_rate)) as usize;
        let longer = kept < self.samples.len();
        self.samples.truncate(kept);
        self.samples.shrink_to_fit();
        longer
    }
}

/// Decodes a whole file held in memory. The content alone decides what it is; a file name plays no part.
///
/// This blocks for as long as [`Limits::deadline`]: call it off the async threads.
///
/// # Errors
///
/// A [`DecodeError`] that says what is wrong with the file, or which limit it exceeds.
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Clip, DecodeError> {
    let due = Instant::now() + limits.deadline;
    let bytes = &*sniff::audio(bytes)?;
    mp4::check(bytes)?;
    // The demuxer of MP4 computes with offsets from the file unchecked, and panics where overflow is checked. A file
    // must not end the thread that happens to read it.
    let result = catch_unwind(|| decode_until(due, bytes, limits))
        .unwrap_or_else(|_| Err(DecodeError::Corrupt("it contradicts itself".to_owned())));
    match result {
        // Some demuxers take the failed read for the end of the file.
        Err(DecodeError::Corrupt(_) | DecodeError::UnsupportedCodec(_))
            if Instant::now() >= due =>
        {
            Err(DecodeError::TimedOut)
        }
        other => other,
    }
}

/// Finds the audio track of a container and decodes it.
fn decode_until(due: Instant, bytes: &[u8], limits: &Limits) -> Result<Clip, DecodeError> {
    let source = TimedSource::new(bytes, due);
    let stream = MediaSourceStream::new(Box::new(source), MediaSourceStreamOptions::default());
    let meta = MetadataOptions::default()
        .limit_tag_bytes(Limit::Maximum(TAG_BYTES))
        .limit_visual_bytes(Limit::Maximum(TAG_BYTES));
    let mut demuxer = symphonia::default::get_probe().probe(
        &Hint::new(),
        stream,
        FormatOptions::default(),
        meta,
    )?;

    let track = demuxer
        .default_track(TrackType::Audio)
        .ok_or(DecodeError::NotAudio)?;
    let Some(CodecParameters::Audio(params)) = &track.codec_params else {
        return Err(DecodeError::UnsupportedCodec("it is not named".to_owned()));
    };
    // Before the decoder is made, as it sizes its buffers by these.
    if let Some(rate) = params.sample_rate {
        limits.check_rate(rate)?;
    }
    if let Some(channels) = &params.channels {
        limits.check_channels(channels.count())?;
    }
    let track_id = track.id;
    let codec = Codec::new(params)?;
    collect(demuxer.as_mut(), track_id, codec, limits, due)
}

/// Decodes the packets of one track until the file ends or a limit is met.
fn collect(
    demuxer: &mut dyn FormatReader,
    track_id: u32,
    mut codec: Codec,
    limits: &Limits,
    due: Instant,
) -> Result<Clip, DecodeError> {
    let mut clip = Clip {
        samples: Vec::new(),
        sample_rate: 0,
    };
    let (mut decoded, mut broken) = (0_usize, 0_usize);
    while let Some(packet) = next_packet(demuxer, decoded > 0)? {
        if Instant::now() >= due {
            return Err(DecodeError::TimedOut);
        }
        if packet.track_id != track_id {
            continue;
        }
        match codec.decode(&packet, limits, &mut clip.samples) {
            Ok(rate) if clip.sample_rate == 0 || clip.sample_rate == rate => {
                limits.check_rate(rate)?;
                clip.sample_rate = rate;
                decoded += 1;
            }
            Ok(_) => return Err(DecodeError::Corrupt("its sample rate changes".to_owned())),
            Err(DecodeError::Corrupt(_)) if broken < decoded + FORGIVEN_PACKETS => broken += 1,
            Err(error) => return Err(error),
        }
        if limits
            .enough_seconds
            .is_some_and(|enough| clip.duration_seconds() > enough)
        {
            break;
        }
        if clip.samples.len() > limits.max_samples || clip.duration_seconds() > limits.max_seconds {
            return Err(DecodeError::TooLong(
                limits
                    .max_seconds
                    .min(seconds(limits.max_samples, clip.sample_rate)),
            ));
        }
    }
    if clip.samples.is_empty() {
        return Err(DecodeError::Corrupt("it holds no audio".to_owned()));
    }
    clip.samples.shrink_to_fit();
    Ok(clip)
}

/// The next packet; `None` at the end of the stream, and where a file is cut short after `started`.
fn next_packet(
    demuxer: &mut dyn FormatReader,
    started: bool,
) -> Result<Option<Packet>, DecodeError> {
    match demuxer.next_packet() {
        Ok(packet) => Ok(packet),
        // Recorders that were stopped, and WAV headers written before the length was known, end like this.
        Err(MediaError::IoError(cause))
            if started && cause.kind() == io::ErrorKind::UnexpectedEof =>
        {
            Ok(None)
        }
        // The second stream of a chained Ogg file: the first one is the voice.
        Err(MediaError::ResetRequired) if started => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A decoder of one track.
enum Codec {
    Symphonia {
        decoder: Box<dyn AudioDecoder>,
        interleaved: Vec<f32>,
    },
    Opus(opus::MonoDecoder),
}

impl Codec {
    fn new(params: &AudioCodecParameters) -> Result<Self, DecodeError> {
        let head = params.extra_data.as_deref().unwrap_or_default();
        match params.codec {
            CODEC_ID_OPUS => return opus::MonoDecoder::new(head).map(Self::Opus),
            CODEC_ID_VORBIS => vorbis::check(head)?,
            CODEC_ID_ALAC => check_alac(head)?,
            _ => {}
        }
        let decoder = symphonia::default::get_codecs()
            .make_audio_decoder(params, &AudioDecoderOptions::default())
            .map_err(|error| match error {
                MediaError::Unsupported(_) => {
                    DecodeError::UnsupportedCodec(codec_name(params.codec))
                }
                error => error.into(),
            })?;
        Ok(Self::Symphonia {
            decoder,
            interleaved: Vec::new(),
        })
    }

    /// Appends a packet to `mono` and returns its sample rate in Hz.
    fn decode(
        &mut self,
        packet: &Packet,
        limits: &Limits,
        mono: &mut Vec<f32>,
    ) -> Result<u32, DecodeError> {
        match self {
            Self::Opus(decoder) => decoder.decode(&packet.data, mono),
            Self::Symphonia {
                decoder,
                interleaved,
            } => {
                let buffer = decoder.decode(packet)?;
                let channels = buffer.spec().channels().count();
                limits.check_channels(channels)?;
                buffer.copy_to_vec_interleaved(interleaved);
                // At most eight, so the conversion is exact.
                let scale = 1.0 / f32::from(u16::try_from(channels).unwrap_or(u16::MAX));
                mono.extend(
                    interleaved
                        .chunks_exact(channels)
                        .map(|frame| tame(frame.iter().sum::<f32>() * scale)),
                );
                Ok(buffer.spec().rate())
            }
        }
    }
}

/// A codec's name as people know it.
fn codec_name(codec: AudioCodecId) -> String {
    match codec {
        CODEC_ID_AC3 => "Dolby Digital (AC-3)".to_owned(),
        CODEC_ID_EAC3 => "Dolby Digital Plus (E-AC-3)".to_owned(),
        CODEC_ID_AC4 => "Dolby AC-4".to_owned(),
        CODEC_ID_DCA => "DTS".to_owned(),
        CODEC_ID_AAC => "this profile of AAC".to_owned(),
        CODEC_ID_MP1 => "MPEG layer I".to_owned(),
        CODEC_ID_MP2 => "MPEG layer II".to_owned(),
        other => format!("codec {other}"),
    }
}

/// The most samples to a frame of ALAC; encoders write 4096. The decoder's buffers are as long as the file says.
const MAX_ALAC_FRAME: u32 = 16 * 1024;

/// Refuses a description of ALAC frames that are out of all proportion.
fn check_alac(cookie: &[u8]) -> Result<(), DecodeError> {
    // Perhaps behind the heads of two boxes, as QuickTime wrote it.
    let cookie = match cookie.get(4..8) {
        Some(b"frma") => cookie.get(24..).unwrap_or_default(),
        _ => cookie,
    };
    match cookie.first_chunk() {
        Some(length) if u32::from_be_bytes(*length) <= MAX_ALAC_FRAME => Ok(()),
        Some(_) => Err(DecodeError::Corrupt(
            "its ALAC frames are too long".to_owned(),
        )),
        None => Err(DecodeError::Corrupt("its ALAC header".to_owned())),
    }
}

/// Files of floats can hold anything: what is not a number becomes silence, the rest is clipped.
fn tame(sample: f32) -> f32 {
    if sample.is_finite() {
        sample.clamp(-1.0, 1.0)
    } else {
        0.0
    }
}

/// `samples` at `rate` Hz in seconds; 0 without a rate.
fn seconds(samples: usize, rate: u32) -> f64 {
    // Exact far beyond any length that fits into memory.
    #[allow(clippy::cast_precision_loss)]
    let samples = samples as f64;
    if rate == 0 {
        0.0
    } else {
        samples / f64::from(rate)
    }
}
