//! Properties of every format's encoder.

use super::{Encoder, Encoding, Format, Length, SAMPLE_RATES, encoder};

/// A tone that grows, so that no two stretches are the same.
fn tone(samples: usize, sample_rate: u32) -> Vec<f32> {
    let step = std::f64::consts::TAU * 440.0 / f64::from(sample_rate);
    (0..samples)
        .map(|i| ((i as f64 * step).sin() * (0.2 + 0.5 * i as f64 / samples as f64)) as f32)
        .collect()
}

fn whole(mut encoder: Box<dyn Encoder>, samples: &[f32], cut: usize) -> Vec<u8> {
    let mut bytes = encoder.head().unwrap();
    for part in samples.chunks(cut) {
        bytes.extend(encoder.push(part).unwrap());
    }
    bytes.extend(encoder.finish().unwrap());
    bytes
}

/// Every format at every rate, with the usual bit rate and with the least and the greatest.
fn every() -> impl Iterator<Item = Encoding> {
    let of = |&format: &Format| SAMPLE_RATES.map(|rate| (format, rate));
    Format::ALL
        .iter()
        .flat_map(of)
        .flat_map(|(format, sample_rate)| {
            let known = format.bitrates(sample_rate);
            let ends = known.into_iter().flat_map(|known| known.allowed.ends());
            let bitrates = [None].into_iter().chain(ends.map(Some));
            bitrates.map(move |bitrate| Encoding {
                format,
                sample_rate,
                bitrate,
            })
        })
}

/// Every format at every rate.
fn usual() -> impl Iterator<Item = Encoding> {
    every().filter(|encoding| encoding.bitrate.is_none())
}

#[test]
fn test_bytes_do_not_depend_on_cuts() {
    for encoding in usual() {
        let rate = encoding.sample_rate;
        let samples = tone(rate as usize / 4 + 77, rate);
        for length in [Length::Unknown, Length::Samples(samples.len() as u64)] {
            let encoded = |cut| whole(encoder(encoding, length).unwrap(), &samples, cut);
            let once = encoded(samples.len());
            assert!(once.len() > 200, "{encoding:?}");
            for cut in [1, 333, 1024, 5000] {
                assert!(encoded(cut) == once, "{encoding:?} cut {cut}");
            }
        }
    }
}

/// A file on disk gets its real head after the last sample.
#[test]
fn test_length_changes_head_but_not_head_size() {
    for encoding in every() {
        let rate = encoding.sample_rate;
        let samples = tone(rate as usize / 4 + 77, rate);
        let mut stream = whole(encoder(encoding, Length::Unknown).unwrap(), &samples, 999);
        let length = Length::Samples(samples.len() as u64);
        let head = encoder(encoding, length).unwrap().head().unwrap();
        stream[..head.len()].copy_from_slice(&head);
        let known = whole(encoder(encoding, length).unwrap(), &samples, 999);
        assert!(stream == known, "{encoding:?}");
    }
}

#[test]
fn test_fragments_leave_within_200_ms() {
    for encoding in every() {
        let rate = encoding.sample_rate;
        let samples = tone(rate as usize, rate);
        let mut encoder = encoder(encoding, Length::Unknown).unwrap();
        // AAC at 8 kHz, and its look-ahead, are slower: frames of an eighth of a second.
        let limit = if rate == 8000 { rate / 2 } else { rate / 5 };
        assert!(
            !encoder.push(&samples[..limit as usize]).unwrap().is_empty(),
            "{encoding:?}"
        );
    }
}

#[test]
fn test_shortest_and_loudest_audio_is_encoded() {
    let harsh: Vec<f32> = [7.0, -7.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0]
        .into_iter()
        .cycle()
        .take(3000)
        .collect();
    for encoding in usual() {
        for samples in (0..40).chain([1023, 1024, 1025, 3000]) {
            let samples = &harsh[..samples];
            let bytes = whole(encoder(encoding, Length::Unknown).unwrap(), samples, 7);
            let head = encoder(encoding, Length::Unknown).unwrap().head().unwrap();
            assert!(bytes.starts_with(&head), "{encoding:?}");
            let grew = bytes.len() > head.len();
            assert!(grew || samples.is_empty(), "{encoding:?} {}", samples.len());
        }
    }
}

#[test]
fn test_bit_rate_equals_request() {
    // Broad noise, so that a codec whose rate varies has something to write.
    let noise: Vec<f32> = (0..2 * 48_000_u32)
        .scan(1_u32, |state, _| {
            *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            Some((f64::from(*state) / f64::from(u32::MAX) - 0.5) as f32)
        })
        .collect();
    for encoding in every() {
        let Some(known) = encoding.format.bitrates(encoding.sample_rate) else {
            continue;
        };
        assert!(known.allowed.contains(known.usual), "{encoding:?}");
        let samples = &noise[..2 * encoding.sample_rate as usize];
        let mut encoder = encoder(encoding, Length::Unknown).unwrap();
        let kbps = encoder.push(samples).unwrap().len() as f64 * 8.0 / 2000.0;
        let wanted = f64::from(encoding.bitrate.unwrap_or(known.usual));
        // Containers add some; codecs hold the last frames back.
        let told = 0.8 * wanted..1.05 * wanted + 8.0;
        assert!(told.contains(&kbps), "{encoding:?}: {kbps} for {wanted}");
    }
}
