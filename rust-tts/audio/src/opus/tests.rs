//! Helpers for the tests of both containers, and tests of the packets themselves.

use std::f32::consts::TAU;

use super::*;
use crate::{Encoder, SAMPLE_RATES};

/// A sine of 440 Hz at half of full scale.
pub(crate) fn tone(rate: u32, samples: usize) -> Vec<f32> {
    (0..samples)
        .map(|k| 0.5 * (TAU * (440.0 * k as f64 / f64::from(rate)).fract() as f32).sin())
        .collect()
}

/// The encoder's output for samples that come `size` at a time.
pub(crate) fn encoded(encoder: &mut dyn Encoder, samples: &[f32], size: usize) -> Vec<u8> {
    let mut bytes = encoder.head().unwrap();
    for part in samples.chunks(size) {
        bytes.extend(encoder.push(part).unwrap());
    }
    bytes.extend(encoder.finish().unwrap());
    bytes
}

/// All the samples of some packets at 48 kHz, with what players drop.
pub(crate) fn decoded<'a>(packets: impl Iterator<Item = &'a [u8]>) -> Vec<f32> {
    let mut decoder = opus::Decoder::new(RATE, opus::Channels::Mono).unwrap();
    let mut audio = Vec::new();
    let mut samples = [0.0; PACKET_SAMPLES as usize];
    for packet in packets {
        let length = decoder.decode_float(packet, &mut samples, false).unwrap();
        audio.extend_from_slice(&samples[..length]);
    }
    audio
}

/// How far a signal is from what it should be, 20 ms from its ends: the error's power over the signal's, in dB.
pub(crate) fn error_db(audio: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(audio.len(), expected.len());
    let edge = (PACKET_SAMPLES as usize).min(audio.len() / 2);
    let (mut error, mut power) = (0.0, 0.0);
    for (&sample, &wanted) in audio
        .iter()
        .zip(expected)
        .skip(edge)
        .take(audio.len() - 2 * edge)
    {
        error += (sample - wanted).powi(2);
        power += wanted * wanted;
    }
    10.0 * (error / power).log10()
}

#[test]
fn test_codec_opens_at_every_rate() {
    for rate in SAMPLE_RATES {
        let packets = Packets::new(rate, None).unwrap();
        assert!((1..PACKET_SAMPLES as u16).contains(&packets.pre_skip()));
    }
}

#[test]
fn test_bit_rate_is_close_to_request() {
    for rate in SAMPLE_RATES {
        let noise: Vec<f32> = (0..5 * rate)
            .scan(1_u32, |state, _| {
                *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                Some((f64::from(*state) / f64::from(u32::MAX) - 0.5) as f32)
            })
            .collect();
        let bytes: usize = Packets::new(rate, None)
            .unwrap()
            .push(&noise)
            .unwrap()
            .iter()
            .map(Vec::len)
            .sum();
        let bit_rate = 8.0 * bytes as f64 / 5.0;
        assert!(
            (30_000.0..60_000.0).contains(&bit_rate),
            "{bit_rate} bit/s at {rate} Hz"
        );
    }
}

#[test]
fn test_nan_samples_become_silence() {
    let mut samples = tone(24_000, 24_000);
    samples.extend([f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30]);
    samples.extend(tone(24_000, 24_000));
    for rate in [24_000, 44_100] {
        let mut packets = Packets::new(rate, None).unwrap();
        let mut made = packets.push(&samples).unwrap();
        made.extend(packets.finish().unwrap().0);
        let audio = decoded(made.iter().map(Vec::as_slice));
        assert!(audio.iter().all(|sample| sample.abs() < 2.0));
    }
}

#[test]
fn test_empty_stream_is_one_padding_packet() {
    let mut packets = Packets::new(16_000, None).unwrap();
    let (made, padding) = packets.finish().unwrap();
    assert_eq!(made.len(), 1);
    assert_eq!(padding, PACKET_SAMPLES - u64::from(packets.pre_skip()));
}

#[test]
fn test_failing_codec_returns_error() {
    let mut packets = Packets::new(24_000, None).unwrap();
    assert_eq!(packets.push(&[0.0; 960]).unwrap().len(), 2);
    // No frame of Opus has this length.
    packets.frame = 7;
    assert!(packets.push(&[0.0; 960]).is_err());
    assert!(packets.finish().is_err());
}
