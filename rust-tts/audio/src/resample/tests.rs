use super::*;
use crate::SAMPLE_RATES;
use proptest::prelude::*;

fn sine(hertz: f64, rate: u32, samples: usize) -> Vec<f32> {
    (0..samples)
        .map(|k| (0.5 * (2.0 * PI * hertz * k as f64 / f64::from(rate)).sin()) as f32)
        .collect()
}

fn whole(from: u32, to: u32, input: &[f32]) -> Vec<f32> {
    let mut resampler = Resampler::new(from, to);
    let mut output = resampler.push(input);
    output.extend(resampler.finish());
    output
}

/// The part of a stream that is further than 20 ms from its ends, where the signal is not cut off.
fn middle(samples: &[f32], rate: u32) -> &[f32] {
    let edge = (rate / 50) as usize;
    &samples[edge..samples.len() - edge]
}

fn decibels(signal: &[f32], reference: &[f32]) -> f64 {
    let power = |samples: &[f32]| samples.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>();
    10.0 * (power(signal) / power(reference)).log10()
}

/// How far `output` is below the sine that it should be, in dB.
fn error(hertz: f64, from: u32, to: u32) -> f64 {
    let output = whole(from, to, &sine(hertz, from, from as usize / 2));
    let ideal = sine(hertz, to, output.len());
    let error: Vec<f32> = output.iter().zip(&ideal).map(|(a, b)| a - b).collect();
    decibels(middle(&error, to), middle(&ideal, to))
}

#[test]
fn test_resampled_sines_stay_sines() {
    for to in SAMPLE_RATES {
        let lower = f64::from(to.min(24000));
        // The last is the upper end of the pass band.
        for hertz in [60.0, 1000.0, 0.43 * lower] {
            let error = error(hertz, 24000, to);
            assert!(error < -85.0, "{hertz} Hz, 24000 to {to}: {error:.1} dB");
        }
    }
}

#[test]
fn test_interpolated_rate_pairs_are_nearly_exact() {
    for (from, to) in [
        (44101, 24000),
        (11025, 24000),
        (7919, 16000),
        (192_000, 24000),
    ] {
        for hertz in [1000.0, 0.43 * f64::from(from.min(to))] {
            let error = error(hertz, from, to);
            assert!(error < -80.0, "{hertz} Hz, {from} to {to}: {error:.1} dB");
        }
    }
}

#[test]
fn test_resampler_does_not_alias() {
    for to in [8000, 16000, 22050] {
        for part in [1.005, 1.05, 1.3] {
            let hertz = part * f64::from(to) / 2.0;
            if hertz >= 12000.0 {
                continue;
            }
            let input = sine(hertz, 24000, 24000);
            let output = whole(24000, to, &input);
            let mut level = decibels(middle(&output, to), middle(&input, 24000));
            level += 10.0 * (24000.0 / f64::from(to)).log10();
            assert!(level < -80.0, "{hertz} Hz at {to}: {level:.1} dB");
        }
    }
}

#[test]
fn test_resampled_impulse_keeps_position() {
    for to in SAMPLE_RATES {
        for at in [0, 1, 100, 1234, 2399] {
            let mut input = vec![0.0; 2400];
            input[at] = 1.0;
            let output = whole(24000, to, &input);
            let peak = (0..output.len())
                .max_by(|&a, &b| output[a].total_cmp(&output[b]))
                .unwrap_or_default();
            let expected = (at as f64 * f64::from(to) / 24000.0).round() as usize;
            let expected = expected.min(output.len() - 1);
            assert_eq!(peak, expected, "{at} at {to}");
        }
    }
}

#[test]
fn test_resampled_constant_stays_constant() {
    for to in SAMPLE_RATES {
        let output = whole(24000, to, &vec![0.25; 4800]);
        for &sample in middle(&output, to) {
            assert!((sample - 0.25).abs() < 1e-6, "{sample} at {to}");
        }
    }
}

#[test]
fn test_look_ahead_is_below_ten_milliseconds() {
    for to in SAMPLE_RATES {
        let mut resampler = Resampler::new(24000, to);
        let given = resampler.push(&vec![0.0; 24000]).len() as f64;
        assert!(given >= 0.99 * f64::from(to), "{given} of {to}");
    }
}

#[test]
fn test_resampler_resets_after_finish() {
    let input = sine(440.0, 24000, 1001);
    let mut resampler = Resampler::new(24000, 8000);
    let mut streams = (0..2).map(|_| {
        let mut output = resampler.push(&input);
        output.extend(resampler.finish());
        output
    });
    assert_eq!(streams.next(), streams.next());
}

#[test]
fn test_equal_rates_change_no_bit() {
    let input = [f32::NAN, -0.0, 1e-40, 3.0];
    let output = whole(24000, 24000, &input);
    assert!(
        input
            .iter()
            .zip(&output)
            .all(|(a, b)| a.to_bits() == b.to_bits())
    );
    assert_eq!(output.len(), input.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn test_length_and_output_do_not_depend_on_pushes(
        from in prop::sample::select(vec![24000_u32, 8000, 44100, 96000, 44101]),
        to in prop::sample::select(SAMPLE_RATES.to_vec()),
        pushes in prop::collection::vec(0_usize..700, 0..8),
    ) {
        let input = sine(523.0, from, pushes.iter().sum());
        let mut resampler = Resampler::new(from, to);
        let mut output = Vec::new();
        let mut rest = input.as_slice();
        for count in pushes {
            let (now, later) = rest.split_at(count);
            output.extend(resampler.push(now));
            rest = later;
        }
        output.extend(resampler.finish());
        prop_assert_eq!(&output, &whole(from, to, &input));
        let exact = input.len() as f64 * f64::from(to) / f64::from(from);
        prop_assert_eq!(output.len(), exact.round() as usize);
    }
}
