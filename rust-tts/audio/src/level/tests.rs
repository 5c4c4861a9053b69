use std::f64::consts::TAU;

use super::*;
use crate::SAMPLE_RATES;

const ALL: [Normalization; 3] = [Normalization::Peak, Normalization::Rms, Normalization::Lufs];

fn tone(amplitude: f64, hertz: f64, seconds: f64, rate: u32) -> Vec<f32> {
    let count = (seconds * f64::from(rate)) as usize;
    let sine = |at| (TAU * hertz * f64::from(at) / f64::from(rate)).sin();
    (0..)
        .take(count)
        .map(|at| (amplitude * sine(at)) as f32)
        .collect()
}

/// Syllables of different strength, with pauses, whose peaks are far above their mean.
fn speech(amplitude: f64, rate: u32) -> Vec<f32> {
    let strengths = [0.3, 1.0, 0.0, 0.6, 0.2, 0.9, 0.0, 0.0, 0.8, 0.5];
    let mut all = Vec::new();
    for (at, strength) in strengths.into_iter().cycle().take(40).enumerate() {
        let mut syllable = tone(amplitude * strength, 200.0 + 10.0 * at as f64, 0.15, rate);
        // Glottal pulses: short and strong.
        for sample in syllable.iter_mut().step_by(rate as usize / 100) {
            *sample *= 3.0;
        }
        all.extend(syllable);
    }
    all
}

fn levelled(
    normalization: Normalization,
    extent: Extent,
    rate: u32,
    samples: &[f32],
    cut: usize,
) -> Vec<f32> {
    let mut leveler = Leveler::new(normalization, extent, rate);
    let mut out = Vec::new();
    for part in samples.chunks(cut) {
        out.extend(leveler.push(part));
        assert!(leveler.is_empty(), "nothing is complete before the end");
    }
    out.extend(leveler.finish());
    while !leveler.is_empty() {
        let piece = leveler.take();
        assert!((1..=rate as usize * 101 / 100).contains(&piece.len()));
        out.extend(piece);
    }
    out
}

fn decibels(amplitude: f64) -> f64 {
    20.0 * amplitude.log10()
}

fn peak(samples: &[f32]) -> f64 {
    f64::from(samples.iter().fold(0.0, |peak: f32, x| peak.max(x.abs())))
}

fn level(normalization: Normalization, samples: &[f32], rate: u32) -> f64 {
    let mut meter = Leveler::new(normalization, Extent::Whole, rate).meter;
    meter.measure(samples);
    decibels(meter.level().unwrap())
}

fn target(normalization: Normalization) -> f64 {
    match normalization {
        Normalization::Peak => -1.0,
        Normalization::Rms => -20.0,
        Normalization::Lufs => -18.0,
    }
}

#[test]
fn test_whole_answer_meets_target_within_hundredth_db() {
    for (normalization, rate) in ALL
        .into_iter()
        .flat_map(|one| SAMPLE_RATES.map(|rate| (one, rate)))
    {
        for amplitude in [0.05, 0.3, 1.0, 4.0] {
            let samples = tone(amplitude, 997.0, 2.5, rate);
            let out = levelled(normalization, Extent::Whole, rate, &samples, 999);
            assert_eq!(out.len(), samples.len());
            let reached = level(normalization, &out, rate);
            assert!(
                (reached - target(normalization)).abs() < 0.01,
                "{normalization:?} at {rate} Hz from {amplitude}: {reached}"
            );
        }
    }
}

/// ITU-R BS.1770-5, annex 1: a sine of 997 Hz at full scale in one channel is −3.01 LUFS.
#[test]
fn test_loudness_matches_bs1770() {
    for rate in SAMPLE_RATES {
        let reached = level(Normalization::Lufs, &tone(1.0, 997.0, 3.0, rate), rate);
        assert!((reached + 3.01).abs() < 0.05, "{rate} Hz: {reached}");
    }
}

#[test]
fn test_peaks_below_ceiling_get_gain_only() {
    let rate = 24_000;
    let samples = tone(0.05, 300.0, 1.0, rate);
    let out = levelled(Normalization::Rms, Extent::Whole, rate, &samples, 4000);
    let gain = out[1000] / samples[1000];
    for (&before, &after) in samples.iter().zip(&out) {
        assert!((after - gain * before).abs() < 1e-6);
    }
}

#[test]
fn test_limiter_never_exceeds_ceiling() {
    for normalization in ALL {
        for extent in [Extent::Whole, Extent::Stream] {
            for (rate, amplitude) in [(8000, 2.0), (24_000, 0.3), (44_100, 0.01)] {
                let samples = speech(amplitude, rate);
                let out = levelled(normalization, extent, rate, &samples, 1234);
                assert_eq!(out.len(), samples.len());
                assert!(
                    peak(&out) <= f64::from(CEILING),
                    "{normalization:?} {extent:?}"
                );
            }
        }
    }
}

#[test]
fn test_limiter_attenuates_peaks_only() {
    let rate = 24_000;
    let out = levelled(
        Normalization::Lufs,
        Extent::Whole,
        rate,
        &speech(0.3, rate),
        5000,
    );
    let reached = level(Normalization::Lufs, &out, rate);
    assert!((-19.5..-17.9).contains(&reached), "{reached}");
}

#[test]
fn test_stream_glides_to_target_level() {
    for normalization in [Normalization::Peak, Normalization::Rms] {
        for amplitude in [0.05, 0.3, 1.5] {
            let rate = 24_000;
            let out = levelled(
                normalization,
                Extent::Stream,
                rate,
                &speech(amplitude, rate),
                700,
            );
            let second = rate as usize;
            for after in out[second * 3 / 2..].chunks_exact(2 * second) {
                let reached = level(normalization, after, rate);
                let off = reached - target(normalization);
                assert!(off.abs() < 2.5, "{normalization:?} from {amplitude}: {off}");
            }
            // What comes first is as the model made it, but for what is beyond the ceiling.
            let first = out[rate as usize / 200];
            assert!(f64::from(first.abs()) <= amplitude);
        }
    }
}

#[test]
fn test_stream_gain_is_held_in_pauses() {
    let rate = 16_000;
    let mut samples = tone(0.2, 200.0, 1.5, rate);
    let spoken = samples.len();
    samples.extend(tone(0.0002, 200.0, 3.0, rate));
    samples.extend(tone(0.2, 200.0, 1.0, rate));
    let out = levelled(Normalization::Rms, Extent::Stream, rate, &samples, 160);
    let before = peak(&out[spoken - 1600..spoken - 200]);
    let after = peak(&out[out.len() - 8000..]);
    assert!((decibels(after) - decibels(before)).abs() < 0.1);
}

#[test]
fn test_result_does_not_depend_on_cuts() {
    let rate = 22_050;
    let samples = speech(0.4, rate);
    for normalization in ALL {
        for extent in [Extent::Whole, Extent::Stream] {
            let once = levelled(normalization, extent, rate, &samples, samples.len());
            for cut in [1, 333, 5000] {
                let pieces = levelled(normalization, extent, rate, &samples, cut);
                assert!(pieces == once, "{normalization:?} {extent:?} {cut}");
            }
        }
    }
}

#[test]
fn test_shortest_audio_and_silence_pass() {
    for normalization in ALL {
        for extent in [Extent::Whole, Extent::Stream] {
            assert!(levelled(normalization, extent, 8000, &[], 1).is_empty());
            let silence = vec![0.0; 5000];
            assert_eq!(
                levelled(normalization, extent, 8000, &silence, 100),
                silence
            );
            for samples in [1, 3, 39, 40, 41] {
                let short = tone(0.1, 500.0, f64::from(samples) / 8000.0 + 1e-6, 8000);
                let out = levelled(normalization, extent, 8000, &short, 2);
                assert_eq!(out.len(), short.len());
                assert!(out.iter().all(|sample| sample.is_finite()));
            }
        }
    }
}

#[test]
fn test_clip_shorter_than_loudness_block_is_not_silence() {
    let out = levelled(
        Normalization::Lufs,
        Extent::Whole,
        24_000,
        &tone(0.05, 997.0, 0.15, 24_000),
        100,
    );
    let reached = decibels(peak(&out));
    // A sine's peak is 3.01 dB above its loudness.
    assert!((reached + 18.0 - 3.01).abs() < 0.3, "{reached}");
}

#[test]
fn test_nan_samples_become_silence() {
    for normalization in ALL {
        let mut samples = tone(0.2, 300.0, 1.0, 8000);
        let clean = levelled(normalization, Extent::Whole, 8000, &samples, 100);
        samples.extend([f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
        let out = levelled(normalization, Extent::Whole, 8000, &samples, 100);
        assert_eq!(out[clean.len()..], [0.0; 3]);
    }
}

#[test]
fn test_faint_noise_is_not_amplified() {
    let noise = tone(1e-5, 1000.0, 1.0, 24_000);
    let out = levelled(Normalization::Peak, Extent::Whole, 24_000, &noise, 100);
    assert!((peak(&out) - 1e-5 * MOST_GAIN).abs() < 1e-5);
}

#[test]
fn test_limiter_is_transparent_below_ceiling() {
    let samples = tone(0.89, 100.0, 0.2, 44_100);
    let mut limiter = Limiter::new(CEILING, 44_100);
    let mut out = Vec::new();
    for &sample in &samples {
        limiter.push(sample, &mut out);
    }
    limiter.finish(&mut out);
    assert_eq!(out, samples);
}
