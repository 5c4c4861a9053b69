//! Rounding to 8 bits: of rows of inputs, with a scale for each row, and of panels of weights, with a scale for each output.

use super::dots::{DOT, DOT_BYTES, MAX_PAIR_SUM, PAIR};
use super::source::PanelRow;
use crate::math::ROUNDING_BIAS;
use crate::simd::{LANES, Simd, Task};

/// Elements of `k` in a pair of dots.
pub(crate) const PAIR_DEPTH: usize = DOT * PAIR;
/// What rounding may add to the sum of the four numbers that are added in 16 bits.
const ROUNDING_SLACK: i32 = 2;
/// Elements that are quantised at a time: whole groups of 4-bit weights.
const CHUNK: usize = 512;

/// The scale with which the largest absolute value of `row` becomes `largest`, and its inverse. Both are 0 if all elements are 0,
/// and NaN if one is not finite: bytes could not hold that.
#[inline(always)]
pub(crate) fn row_scale(row: &[f32], largest: i8) -> (f32, f32) {
    let largest = f32::from(largest);
    let mut absmax = [0.0_f32; 32];
    // A comparison ignores NaN; a product with zero keeps it, and makes it of infinity.
    let mut nan_probe = [0.0_f32; 32];
    let chunks = row.chunks_exact(absmax.len());
    for ((absmax, probe), x) in absmax
        .iter_mut()
        .zip(&mut nan_probe)
        .zip(chunks.remainder())
    {
        *absmax = x.abs();
        *probe = x * 0.0;
    }
    for chunk in chunks {
        for ((absmax, probe), x) in absmax.iter_mut().zip(&mut nan_probe).zip(chunk) {
            *absmax = if x.abs() > *absmax { x.abs() } else { *absmax };
            *probe += x * 0.0;
        }
    }
    let absmax = absmax.iter().fold(0.0_f32, |a, &b| a.max(b));
    if nan_probe.iter().sum::<f32>().is_nan() {
        (f32::NAN, f32::NAN)
    } else if absmax > 0.0 {
        (absmax / largest, largest / absmax)
    } else {
        (0.0, 0.0)
    }
}

/// The nearest integer (ties to even) to `x`, which must be between -2^21 and 2^21.
#[inline(always)]
pub(crate) fn round(x: f32) -> i32 {
    (x + ROUNDING_BIAS)
        .to_bits()
        .cast_signed()
        .wrapping_sub(ROUNDING_BIAS.to_bits().cast_signed())
}

/// Quantises `row` by the inverse of its scale, adds `zero_point`, and calls `store(dot, word)` with each four bytes. The last
/// word is filled up with zeros.
#[inline(always)]
pub(crate) fn quantize_row(
    row: &[f32],
    inverse: f32,
    zero_point: u8,
    mut store: impl FnMut(usize, u32),
) {
    // Rounding into memory first is what the compiler vectorises.
    let mut bytes = [0; CHUNK];
    for (index, chunk) in row.chunks(CHUNK).enumerate() {
        for (byte, x) in bytes.iter_mut().zip(chunk) {
            *byte = round(x * inverse).wrapping_add(i32::from(zero_point)) as u8;
        }
        let dots = chunk.len().div_ceil(DOT);
        bytes[chunk.len()..dots * DOT].fill(zero_point);
        for (dot, bytes) in bytes.as_chunks().0.iter().take(dots).enumerate() {
            store(index * CHUNK / DOT + dot, u32::from_le_bytes(*bytes));
        }
    }
}

/// The largest absolute value of each of `N` columns, and the largest sum of those of one sign among the four numbers that AVX2
/// adds in 16 bits.
pub(crate) struct Absmax<const N: usize> {
    single: [f32; N],
    pair_sum: [f32; N],
    /// Sums of products with zero: NaN if a number is not finite, which comparisons ignore.
    nan_probe: [f32; N],
}

impl<const N: usize> Absmax<N> {
    pub(crate) const ZERO: Self = Self {
        single: [0.0; N],
        pair_sum: [0.0; N],
        nan_probe: [0.0; N],
    };

    /// Takes the rows of a pair of dots into account.
    #[inline(always)]
    pub(crate) fn update(&mut self, rows: [&[f32; N]; PAIR_DEPTH]) {
        // Every second pair of elements of each dot is added.
        for first in [0, 2] {
            let (mut above, mut below) = ([0.0; N], [0.0; N]);
            for row in [first, first + 1, first + DOT, first + DOT + 1] {
                for (column, &value) in rows[row].iter().enumerate() {
                    above[column] += max(value, 0.0);
                    below[column] += max(-value, 0.0);
                    self.single[column] = max(value.abs(), self.single[column]);
                    self.nan_probe[column] += value * 0.0;
                }
            }
            for ((pair_sum, above), below) in self.pair_sum.iter_mut().zip(above).zip(below) {
                *pair_sum = max(max(above, below), *pair_sum);
            }
        }
    }

    /// The scales with which numbers fit into 8 bits, and those that are added come to `max_sum` at most: 0 if all are zeros,
    /// NaN if one is not finite.
    #[inline(always)]
    pub(crate) fn scales(&self, max_sum: i32) -> [f32; N] {
        std::array::from_fn(
            #[inline(always)]
            |column| {
                let pair_sum = self.pair_sum[column] / (max_sum - ROUNDING_SLACK) as f32;
                let single = self.single[column] / f32::from(i8::MAX);
                max(pair_sum, single) + self.nan_probe[column]
            },
        )
    }
}

/// The inverse of a scale: 0 for 0.
#[inline(always)]
pub(crate) fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { scale.recip() }
}

/// The larger one; `b` if `a` is not a number. (`f32::max` is several instructions.)
#[inline(always)]
pub(crate) fn max(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// Quantises a panel of weights to 8 bits.
pub(crate) struct QuantizeI8<'a> {
    /// `[k][LANES]`
    pub rows: &'a [PanelRow],
    /// A panel of [`super::int8::Int8`]'s weights, its scales and its column sums.
    pub weights: &'a mut [i8],
    pub scales: &'a mut [f32],
    pub column_sums: &'a mut [i32],
}

impl Task for QuantizeI8<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let mut absmax = Absmax::ZERO;
        let (pairs, rest) = self.rows.as_chunks::<PAIR_DEPTH>();
        let mut last = [[0.0; LANES]; PAIR_DEPTH];
        last[..rest.len()].copy_from_slice(rest);
        for rows in pairs.iter().chain([&last]) {
            absmax.update(rows.each_ref());
        }
        let scales = absmax.scales(MAX_PAIR_SUM);
        self.scales.copy_from_slice(&scales);
        let inverses = scales.map(inverse);
        let mut column_sums = [0; LANES];
        let dots = self.weights.as_chunks_mut::<DOT_BYTES>().0;
        for (packed, rows) in dots.iter_mut().zip(self.rows.chunks(DOT)) {
            let mut bytes = [[0_u32; LANES]; DOT];
            for (bytes, row) in bytes.iter_mut().zip(rows) {
                for lane in 0..LANES {
                    let weight = round(row[lane] * inverses[lane]) as i8;
                    column_sums[lane] += i32::from(weight);
                    bytes[lane] = u32::from(weight.cast_unsigned());
                }
            }
            let [a, b, c, d] = &bytes;
            for (lane, packed) in packed.as_chunks_mut::<DOT>().0.iter_mut().enumerate() {
                let word = a[lane] | b[lane] << 8 | c[lane] << 16 | d[lane] << 24;
                *packed = word.to_le_bytes().map(u8::cast_signed);
            }
        }
        self.column_sums.copy_from_slice(&column_sums);
    }
}
