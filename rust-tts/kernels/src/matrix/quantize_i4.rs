//! Rounding of weights to 4 bits.

use super::dots::{DOT, DOT_BYTES, GROUP, GROUP_BYTES};
use super::float::to_bf16;
use super::int4::LENGTH;
use super::quantize::round;
use super::source::PanelRow;
use crate::simd::{LANES, Simd, Task};

/// The largest quantised weight.
const MAX_LEVEL: f32 = 15.0;
/// By which parts of a group's range its ends are clipped in the search for the least squared error: most groups lose less by
/// clipping an extreme than by coarser steps.
const CLIPPINGS: [(f32, f32); 8] = [
    (0.0, 0.03),
    (0.0, 0.06),
    (0.03, 0.0),
    (0.03, 0.03),
    (0.03, 0.06),
    (0.06, 0.0),
    (0.06, 0.03),
    (0.06, 0.06),
];

/// Quantises a panel of weights to 4 bits.
pub(crate) struct QuantizeI4<'a> {
    /// `[k][LANES]`
    pub rows: &'a [PanelRow],
    /// A panel of [`super::int4::Int4`]'s weights.
    pub panel: &'a mut [u16],
}

impl Task for QuantizeI4<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let groups = self.panel.chunks_exact_mut(LENGTH);
        for (packed, rows) in groups.zip(self.rows.chunks(GROUP)) {
            if let Ok(group) = rows.try_into() {
                quantize_group(group, packed);
            } else {
                // The padding of the last group is multiplied by zeros: it must not widen the range.
                let mut group = [rows[0]; GROUP];
                group[..rows.len()].copy_from_slice(rows);
                quantize_group(&group, packed);
            }
        }
    }
}

/// Quantises a group of sixteen outputs.
#[inline(always)]
fn quantize_group(weights: &[PanelRow; GROUP], packed: &mut [u16]) {
    let scaling = Scaling::best(weights);
    let (nibbles, ends) = packed.split_at_mut(GROUP_BYTES / 2);
    // Two dots share four bytes of each lane.
    let chunks = nibbles.as_chunks_mut::<{ DOT_BYTES / 2 }>().0;
    for (packed, rows) in chunks.iter_mut().zip(weights.as_chunks::<{ 2 * DOT }>().0) {
        let mut words = [0_u32; LANES];
        for (input, row) in rows.iter().enumerate() {
            let shift = input % DOT * 8 + input / DOT * 4;
            for lane in 0..LANES {
                words[lane] |= scaling.quantize(lane, row[lane]).cast_unsigned() << shift;
            }
        }
        for (packed, word) in packed.as_chunks_mut::<2>().0.iter_mut().zip(words) {
            let [a, b, c, d] = word.to_le_bytes();
            *packed = [u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])];
        }
    }
    let (scales, minima) = ends.split_at_mut(LANES);
    for lane in 0..LANES {
        scales[lane] = to_bf16(scaling.scale[lane]);
        minima[lane] = to_bf16(scaling.minimum[lane]);
    }
}

/// Each lane's scale and minimum, which are bf16.
#[derive(Clone, Copy)]
struct Scaling {
    scale: PanelRow,
    inverse: PanelRow,
    minimum: PanelRow,
}

impl Scaling {
    /// The one with the least squared error, of the whole range and of [`CLIPPINGS`].
    #[inline(always)]
    fn best(weights: &[PanelRow; GROUP]) -> Self {
        let (mut minimum, mut maximum) = (weights[0], weights[0]);
        for row in &weights[1..] {
            for lane in 0..LANES {
                minimum[lane] = minimum[lane].min(row[lane]);
                maximum[lane] = maximum[lane].max(row[lane]);
            }
        }
        let mut best = Self::new(&minimum, &maximum);
        let mut least_error = best.error(weights);
        for (low, high) in CLIPPINGS {
            let (mut from, mut to) = (minimum, maximum);
            for lane in 0..LANES {
                let range = maximum[lane] - minimum[lane];
                from[lane] += low * range;
                to[lane] -= high * range;
            }
            let scaling = Self::new(&from, &to);
            let error = scaling.error(weights);
            for lane in 0..LANES {
                if error[lane] < least_error[lane] {
                    least_error[lane] = error[lane];
                    best.scale[lane] = scaling.scale[lane];
                    best.inverse[lane] = scaling.inverse[lane];
                    best.minimum[lane] = scaling.minimum[lane];
                }
            }
        }
        for (scale, error) in best.scale.iter_mut().zip(least_error) {
            if !error.is_finite() {
                // A weight is not finite, which nibbles could not hold.
                *scale = f32::NAN;
            }
        }
        best
    }

    #[inline(always)]
    fn new(minimum: &PanelRow, maximum: &PanelRow) -> Self {
        let mut scaling = Self {
            scale: [0.0; LANES],
            inverse: [0.0; LANES],
            minimum: [0.0; LANES],
        };
        for lane in 0..LANES {
            let scale = bf16((maximum[lane] - minimum[lane]) / MAX_LEVEL);
            scaling.scale[lane] = scale;
            scaling.inverse[lane] = if scale > 0.0 { 1.0 / scale } else { 0.0 };
            scaling.minimum[lane] = bf16(minimum[lane]);
        }
        scaling
    }

    /// The sum of the squared errors of each lane.
    #[inline(always)]
    fn error(&self, weights: &[PanelRow; GROUP]) -> PanelRow {
        let mut sums = [0.0; LANES];
        for row in weights {
            for lane in 0..LANES {
                let value = self.quantize(lane, row[lane]) as f32 * self.scale[lane];
                let error = value + self.minimum[lane] - row[lane];
                sums[lane] += error * error;
            }
        }
        sums
    }

    /// The level of a lane that is nearest to a weight.
    #[inline(always)]
    fn quantize(&self, lane: usize, weight: f32) -> i32 {
        let level = (weight - self.minimum[lane]) * self.inverse[lane];
        let level = if level > 0.0 { level } else { 0.0 };
        round(if level < MAX_LEVEL { level } else { MAX_LEVEL })
    }
}

/// The nearest bf16.
#[inline(always)]
fn bf16(x: f32) -> f32 {
    f32::from_bits(u32::from(to_bf16(x)) << 16)
}
