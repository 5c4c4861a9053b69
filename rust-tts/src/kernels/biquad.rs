//! A recursive filter, whose every output waits for the one before: nothing that arrays of numbers are quick at.

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::buffers::check;

/// Writes to `out` `[n]` what the filter of second order with the coefficients `numerator` and `denominator`, whose first is
/// 1, makes of `samples` `[n]`, both C-contiguous float32; it computes in float64. Raises `ValueError` for arrays that do not fit
/// or overlap.
#[pyfunction]
#[expect(
    clippy::needless_pass_by_value,
    reason = "a buffer cannot be borrowed from Python's arguments"
)]
pub fn biquad(
    py: Python<'_>,
    samples: PyBuffer<f32>,
    out: PyBuffer<f32>,
    numerator: [f64; 3],
    denominator: [f64; 3],
) -> PyResult<()> {
    let shape = [samples.item_count()];
    check(&[("samples", &samples, &shape)], &[("out", &out, &shape)])?;
    if denominator[0].to_bits() != 1_f64.to_bits() {
        return Err(PyValueError::new_err("the denominator's first is not 1"));
    }
    let mut samples = samples.to_vec(py)?;
    py.detach(|| filter(&mut samples, numerator, denominator));
    out.copy_from_slice(py, &samples)
}

/// In the transposed second direct form, and in its order of operations, as `scipy.signal.lfilter`: to the same bits.
fn filter(samples: &mut [f32], numerator: [f64; 3], denominator: [f64; 3]) {
    let ([b0, b1, b2], [_, a1, a2]) = (numerator, denominator);
    let (mut first, mut second) = (0.0, 0.0);
    for sample in samples {
        let x = f64::from(*sample);
        let y = first + b0 * x;
        first = second + x * b1 - y * a1;
        second = x * b2 - y * a2;
        *sample = y as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::filter;

    #[test]
    fn test_impulse_response_matches_recursion() {
        let mut samples = [1.0, 0.0, 0.0, 0.0];
        filter(&mut samples, [0.5, 0.25, 0.125], [1.0, -0.5, 0.25]);
        // y = 0.5 x + 0.25 x' + 0.125 x'' + 0.5 y' - 0.25 y''
        // All of them are exact.
        assert_eq!(
            samples.map(f32::to_bits),
            [0.5, 0.5, 0.25, 0.0].map(f32::to_bits)
        );
    }
}
