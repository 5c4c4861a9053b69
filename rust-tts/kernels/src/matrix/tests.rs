use super::dots::DotIsa;
use super::*;
use crate::isa::Isa;
use crate::testing::noise;

const PRECISIONS: [Precision; 4] = [
    Precision::F32,
    Precision::Bf16,
    Precision::Int8,
    Precision::Int4,
];

/// Every combination that this processor has.
fn all_isas() -> Vec<Isas> {
    let best = Isas::best();
    let mut float = vec![Isa::Baseline];
    #[cfg(target_arch = "x86_64")]
    {
        if best.float != Isa::Baseline {
            float.push(Isa::Avx2);
        }
        if best.float == Isa::Avx512 {
            float.push(Isa::Avx512);
        }
    }
    let float = float.into_iter().map(|float| Isas { float, ..best });
    let dot = DotIsa::all().iter().map(|&dot| Isas { dot, ..best });
    float.chain(dot).collect()
}

fn product(matrix: &Matrix, isas: Isas, threads: usize, x: &[f32]) -> Vec<f32> {
    let mut y = vec![f32::NAN; x.len() / matrix.inputs() * matrix.outputs()];
    let pool = Pool::new(threads);
    matrix.multiply_on(isas, &pool, (x, matrix.inputs()), &mut y, &|_, _, _| ());
    y
}

/// The largest error that a precision may make, as a part of the root mean square of the exact product.
fn bound(precision: Precision) -> f64 {
    match precision {
        Precision::F32 => 4e-6,
        Precision::Bf16 => 1.2e-2,
        Precision::Int8 => 4e-2,
        Precision::Int4 => 0.35,
    }
}

#[test]
fn test_non_finite_inputs_stay_non_finite() {
    let (outputs, inputs) = (40, 70);
    let weights = noise(outputs * inputs, 1);
    for precision in PRECISIONS {
        let matrix = Matrix::pack(&weights, outputs, inputs, (inputs, 1), precision);
        for bad in [f32::NAN, f32::INFINITY] {
            for at in [0, 33, inputs - 1] {
                let mut x = noise(2 * inputs, 2);
                x[inputs + at] = bad;
                for isas in all_isas() {
                    let y = product(&matrix, isas, 1, &x);
                    let (whole, spoilt) = y.split_at(outputs);
                    assert!(whole.iter().all(|y| y.is_finite()), "{precision:?}");
                    assert!(spoilt.iter().all(|y| !y.is_finite()), "{precision:?} {at}");
                }
            }
        }
    }
}

#[test]
fn test_non_finite_weight_affects_only_its_output() {
    let (outputs, inputs) = (40, 70);
    for precision in PRECISIONS {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut weights = noise(outputs * inputs, 1);
            weights[21 * inputs + 66] = bad;
            let matrix = Matrix::pack(&weights, outputs, inputs, (inputs, 1), precision);
            for isas in all_isas() {
                let y = product(&matrix, isas, 1, &noise(inputs, 2));
                let spoilt: Vec<_> = (0..outputs).filter(|at| !y[*at].is_finite()).collect();
                assert_eq!(spoilt, [21], "{precision:?} {bad} {isas:?}");
            }
        }
    }
}

#[test]
fn test_product_matches_f64() {
    for (outputs, inputs) in [(1, 1), (17, 31), (40, 67), (95, 300), (130, 520)] {
        let weights = noise(outputs * inputs, 7);
        for rows in [1, 2, 5, 6, 7, 13, 40] {
            let x = noise(rows * inputs, 11);
            let exact: Vec<f64> = x
                .chunks_exact(inputs)
                .flat_map(|x| {
                    weights.chunks_exact(inputs).map(move |w| {
                        let terms = x.iter().zip(w).map(|(&x, &w)| f64::from(x) * f64::from(w));
                        terms.sum()
                    })
                })
                .collect();
            let mean = (inputs as f64).sqrt() / 3.0;
            for precision in PRECISIONS {
                let matrix = Matrix::pack(&weights, outputs, inputs, (inputs, 1), precision);
                for isas in all_isas() {
                    let y = product(&matrix, isas, 2, &x);
                    let error = y
                        .iter()
                        .zip(&exact)
                        .map(|(&y, &exact)| (f64::from(y) - exact).abs());
                    let worst = error.fold(0.0, f64::max) / mean;
                    assert!(
                        worst < bound(precision),
                        "{precision:?} {isas:?} {rows}x{inputs}x{outputs}: {worst}"
                    );
                }
            }
        }
    }
}

#[test]
fn test_row_is_independent_of_batch_and_threads() {
    let (outputs, inputs) = (100, 600);
    let weights = noise(outputs * inputs, 3);
    let x = noise(200 * inputs, 5);
    for precision in PRECISIONS {
        let matrix = Matrix::pack(&weights, outputs, inputs, (inputs, 1), precision);
        for isas in all_isas() {
            let alone: Vec<f32> = x
                .chunks_exact(inputs)
                .flat_map(|x| product(&matrix, isas, 1, x))
                .collect();
            for rows in (2..=17).chain([97, 200]) {
                for threads in 1..=3 {
                    let y = product(&matrix, isas, threads, &x[..rows * inputs]);
                    assert!(
                        y == alone[..rows * outputs],
                        "{precision:?} {isas:?} {rows} rows, {threads} threads"
                    );
                }
            }
        }
    }
}

#[test]
fn test_transposed_weights_and_overlapping_rows_give_same_product() {
    // More panels than are read together, the last one not full.
    for (outputs, inputs) in [(33, 48), (150, 48), (128, 48)] {
        strides_of(outputs, inputs);
    }
}

fn strides_of(outputs: usize, inputs: usize) {
    let weights = noise(outputs * inputs, 3);
    let transposed: Vec<f32> = (0..inputs * outputs)
        .map(|at| weights[at % outputs * inputs + at / outputs])
        .collect();
    let x = noise(4 * 16 + inputs, 5);
    let unfolded: Vec<f32> = (0..5)
        .flat_map(|row| x[row * 16..][..inputs].to_vec())
        .collect();
    let pool = Pool::new(2);
    for precision in PRECISIONS {
        let matrix = Matrix::pack(&weights, outputs, inputs, (inputs, 1), precision);
        let same = Matrix::pack(&transposed, outputs, inputs, (1, outputs), precision);
        let y = product(&matrix, Isas::best(), 2, &unfolded);
        let mut from_overlapping = vec![0.0; y.len()];
        same.multiply_from(&pool, &x, 16, &mut from_overlapping, &|_, _, _| ());
        assert!(y == from_overlapping, "{precision:?}");
    }
}

#[test]
fn test_epilogue_runs_once_for_every_output() {
    let (outputs, inputs, rows) = (300, 40, 110);
    let matrix = Matrix::pack(
        &noise(outputs * inputs, 3),
        outputs,
        inputs,
        (inputs, 1),
        Precision::F32,
    );
    let x = noise(rows * inputs, 5);
    let plain = product(&matrix, Isas::best(), 1, &x);
    let mut y = vec![0.0; rows * outputs];
    matrix.multiply(&Pool::new(3), &x, &mut y, &|row, output, values| {
        for (at, value) in values.iter_mut().enumerate() {
            *value += (row * 1000 + output + at) as f32;
        }
    });
    for (at, (y, plain)) in y.iter().zip(&plain).enumerate() {
        let added = (at / outputs * 1000 + at % outputs) as f32;
        assert!(y.to_bits() == (plain + added).to_bits());
    }
}

#[test]
fn test_largest_weights_and_inputs_do_not_saturate() {
    let (outputs, inputs) = (20, 512);
    for sign in [1.0, -1.0] {
        let weights = vec![sign; outputs * inputs];
        let x: Vec<f32> = [vec![1.0; inputs], vec![-1.0; inputs]].concat();
        for precision in PRECISIONS {
            let matrix = Matrix::pack(&weights, outputs, inputs, (inputs, 1), precision);
            for isas in all_isas() {
                let y = product(&matrix, isas, 1, &x);
                for (y, expected) in y.chunks_exact(outputs).zip([sign, -sign]) {
                    let expected = expected * inputs as f32;
                    assert!(
                        y.iter().all(|y| (y / expected - 1.0).abs() < 0.01),
                        "{precision:?} {isas:?}: {y:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn test_stacked_matrices_equal_their_concatenation() {
    let (outputs, inputs) = (20, 37);
    let parts = [noise(outputs * inputs, 3), noise(outputs * inputs, 4)];
    let row = |output: usize| &parts[output / outputs][output % outputs * inputs..][..inputs];
    let x = noise(2 * inputs, 5);
    for precision in PRECISIONS {
        let whole = parts.concat();
        let plain = Matrix::pack(&whole, 2 * outputs, inputs, (inputs, 1), precision);
        let source = Layout::Rows(&row);
        let fused = Matrix::pack_from(&Pool::new(3), 2 * outputs, inputs, precision, source);
        let expected = product(&plain, Isas::best(), 1, &x);
        assert!(
            expected == product(&fused, Isas::best(), 1, &x),
            "{precision:?}"
        );
    }
}

#[test]
fn test_zero_weights_give_zeros() {
    let pool = Pool::new(1);
    for precision in PRECISIONS {
        let matrix = Matrix::pack(&[0.0; 70], 2, 35, (35, 1), precision);
        let mut y = vec![1.0; 4];
        matrix.multiply(
            &pool,
            &[&[0.0; 35][..], &[1.0; 35]].concat(),
            &mut y,
            &|_, _, _| (),
        );
        assert!(y == [0.0; 4], "{precision:?}: {y:?}");
    }
}
