//! Against the same formulas in f64.

use super::convolution::Accumulate;
use super::convolution::{Convolution, Geometry};
use super::functions::sin;
use super::stft::{BINS, HOP, SHORTEST, Stft};
use crate::pool::Pool;
use crate::testing::{assert_close, noise};

#[test]
fn test_sine_matches_f64() {
    for n in -100_000..=100_000 {
        let x = n as f32 / 100.0;
        let wanted = f64::from(x).sin();
        assert_close(&[sin::<true>(x), sin::<false>(x)], &[wanted; 2], 2.5e-7);
    }
}

#[test]
fn test_convolution_matches_f64() {
    for (inputs, outputs, taps, dilation, stride, steps) in [
        (1, 1, 1, 1, 1, 1),
        (3, 20, 7, 1, 1, 9),
        (64, 64, 11, 5, 1, 200),
        (32, 80, 7, 3, 1, 13),
        (16, 16, 3, 1, 1, 1),
        (48, 128, 4, 2, 1, 127),
        (18, 40, 6, 1, 3, 31),
        (80, 18, 3, 3, 2, 97),
    ] {
        let geometry = Geometry {
            inputs,
            outputs,
            taps,
            dilation,
            stride,
            before: 0,
        };
        let weights = noise(inputs * outputs * taps, 1);
        let bias = noise(outputs, 2);
        let x = noise(
            ((steps - 1) * stride + (taps - 1) * dilation + 1) * inputs,
            3,
        );
        let before = noise(steps * outputs, 4);
        let weight = |output, input, tap| weights[(output * inputs + input) * taps + tap];
        let mut wanted = Vec::new();
        for step in 0..steps {
            for output in 0..outputs {
                let mut sum = f64::from(bias[output]) + f64::from(before[step * outputs + output]);
                for tap in 0..taps {
                    for input in 0..inputs {
                        let x = x[(step * stride + tap * dilation) * inputs + input];
                        sum += f64::from(x) * f64::from(weight(output, input, tap));
                    }
                }
                wanted.push(2.0 * sum);
            }
        }
        let mut results = Vec::new();
        for threads in [1, 3] {
            let pool = Pool::new(threads);
            let convolution = Convolution::new(&pool, geometry, &bias, &weight);
            let mut y = before.clone();
            convolution.run(&pool, &x, &mut y, Accumulate::Add, &|_, values| {
                for value in values {
                    *value *= 2.0;
                }
            });
            assert_close(&y, &wanted, 2e-4);
            results.push(y);
        }
        assert_eq!(
            results[0], results[1],
            "the number of threads changes nothing"
        );
    }
}

#[test]
fn test_transposed_convolution_matches_f64() {
    let (inputs, outputs, steps) = (5, 3, 7);
    for (taps, rate) in [(16, 8), (11, 5), (7, 3), (4, 4)] {
        let padding = (taps - rate) / 2;
        let weights = noise(inputs * outputs * taps, 1);
        let bias = noise(outputs, 2);
        let x = noise(steps * inputs, 3);
        let weight = |output, input, tap| weights[(input * outputs + output) * taps + tap];
        let bias_of_all = bias.repeat(steps * rate);
        let mut wanted: Vec<f64> = bias_of_all.into_iter().map(f64::from).collect();
        for step in 0..steps {
            for tap in 0..taps {
                let Some(place) = (step * rate + tap).checked_sub(padding) else {
                    continue;
                };
                if place >= steps * rate {
                    continue;
                }
                for output in 0..outputs {
                    for input in 0..inputs {
                        let x = f64::from(x[step * inputs + input]);
                        wanted[place * outputs + output] +=
                            x * f64::from(weight(output, input, tap));
                    }
                }
            }
        }
        let pool = Pool::new(2);
        let sizes = (inputs, outputs, taps);
        let convolution = Convolution::transposed(&pool, sizes, (rate, padding), &bias, &weight);
        let mut padded = vec![0.0; convolution.geometry().before * inputs];
        padded.extend(&x);
        padded.resize(padded.len() + convolution.geometry().after() * inputs, 0.0);
        let mut y = vec![f32::NAN; wanted.len()];
        convolution.run(&pool, &padded, &mut y, Accumulate::Overwrite, &|_, _| ());
        assert_close(&y, &wanted, 1e-5);
    }
}

#[test]
fn test_inverse_stft_inverts_stft() {
    let pool = Pool::new(2);
    let stft = Stft::new(&pool);
    for count in [SHORTEST, HOP * 120] {
        let samples = noise(count, 5);
        let mut spectrum = vec![0.0; (count / HOP + 1) * 2 * BINS];
        let mut room = Vec::new();
        stft.forward(&pool, &samples, &mut spectrum, &mut room);
        stft.room(&mut room, count / HOP + 1)
            .copy_from_slice(&spectrum);
        let mut found = vec![f32::NAN; count];
        stft.inverse(&pool, &room, &mut found);
        let wanted: Vec<f64> = samples.into_iter().map(f64::from).collect();
        assert_close(&found, &wanted, 1e-6);
    }
}
