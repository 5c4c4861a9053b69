//! What holds for the encoder of every format.

use super::{Encoder, Format, Length, SAMPLE_RATES, encoder};

/// A tone that grows, so that no two stretches are the same.
fn tone(samples: usize, sample_rate: u32) -> Vec<f32> {
    let step = std::f64::consts::TAU * 440.0 / f64::from(sample_rate);
    (0..samples)
        .map(|i| ((i as f64 * step).sin() * (0.2 + 0.5 * i as f64 / samples as f64)) as f32)
        .collect()
}

fn whole(mut encoder: Box<dyn Encoder>, samples: &[f32], cut: usize) -> Vec<u8> {
    let mut bytes = encoder.head();
    for part in samples.chunks(cut) {
        bytes.extend(encoder.push(part));
    }
    bytes.extend(encoder.finish());
    bytes
}

fn every() -> impl Iterator<Item = (Format, u32)> {
    let of = |&format: &Format| SAMPLE_RATES.map(|rate| (format, rate));
    Format::ALL.iter().flat_map(of)
}

#[test]
fn the_bytes_do_not_depend_on_the_cuts() {
    for (format, rate) in every() {
        let samples = tone(rate as usize / 4 + 77, rate);
        for length in [Length::Unknown, Length::Samples(samples.len() as u64)] {
            let encoded = |cut| whole(encoder(format, rate, length), &samples, cut);
            let once = encoded(samples.len());
            assert!(once.len() > samples.len() / 10, "{format:?} {rate}");
            for cut in [1, 333, 1024, 5000] {
                assert!(encoded(cut) == once, "{format:?} {rate} cut {cut}");
            }
        }
    }
}

/// A file on disk gets its real head after the last sample.
#[test]
fn the_length_changes_the_head_and_not_its_size() {
    for (format, rate) in every() {
        let samples = tone(rate as usize / 4 + 77, rate);
        let mut stream = whole(encoder(format, rate, Length::Unknown), &samples, 999);
        let length = Length::Samples(samples.len() as u64);
        let head = encoder(format, rate, length).head();
        stream[..head.len()].copy_from_slice(&head);
        let known = whole(encoder(format, rate, length), &samples, 999);
        assert!(stream == known, "{format:?} {rate}");
    }
}

#[test]
fn audio_leaves_within_a_fifth_of_a_second() {
    for (format, rate) in every() {
        let samples = tone(rate as usize, rate);
        let mut encoder = encoder(format, rate, Length::Unknown);
        // AAC at 8 kHz, and its look-ahead, are slower: frames of an eighth of a second.
        let limit = if rate == 8000 { rate / 2 } else { rate / 5 };
        assert!(
            !encoder.push(&samples[..limit as usize]).is_empty(),
            "{format:?} {rate}"
        );
    }
}

#[test]
fn the_shortest_and_the_harshest_audio_is_encoded() {
    let harsh: Vec<f32> = [7.0, -7.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0]
        .into_iter()
        .cycle()
        .take(3000)
        .collect();
    for (format, rate) in every() {
        for samples in (0..40).chain([1023, 1024, 1025, 3000]) {
            let samples = &harsh[..samples];
            let bytes = whole(encoder(format, rate, Length::Unknown), samples, 7);
            let head = encoder(format, rate, Length::Unknown).head();
            assert!(bytes.starts_with(&head), "{format:?} {rate}");
            let grew = bytes.len() > head.len();
            assert!(
                grew || samples.is_empty(),
                "{format:?} {rate} {}",
                samples.len()
            );
        }
    }
}
