//! Weights rounded to 4 bits.

use super::dots::{GROUP, GROUP_BYTES, STEP, STEP_BYTES};
use super::float::to_bf16;
use super::int4::LENGTH;
use super::quantise::round;
use super::source::Line;
use crate::simd::{LANES, Simd, Task};

/// The largest weight.
const LARGEST: f32 = 15.0;
/// By which parts of a group's range its ends are moved in to find the grid with the least squared error: most groups lose
/// less by cutting off an extreme than by a coarser grid.
const CUTS: [(f32, f32); 8] = [
    (0.0, 0.03),
    (0.0, 0.06),
    (0.03, 0.0),
    (0.03, 0.03),
    (0.03, 0.06),
    (0.06, 0.0),
    (0.06, 0.03),
    (0.06, 0.06),
];

/// Packs a panel.
pub(crate) struct Pack<'a> {
    pub lines: &'a [Line],
    /// As [`super::int4::Int4`] has it.
    pub panel: &'a mut [u16],
}

impl Task for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let groups = self.panel.chunks_exact_mut(LENGTH);
        for (packed, lines) in groups.zip(self.lines.chunks(GROUP)) {
            if let Ok(group) = lines.try_into() {
                pack_group(group, packed);
            } else {
                // What fills the last group up is multiplied with zeros: it must not widen the range.
                let mut group = [lines[0]; GROUP];
                group[..lines.len()].copy_from_slice(lines);
                pack_group(&group, packed);
            }
        }
    }
}

/// Packs a group of every lane's weights.
#[inline(always)]
fn pack_group(weights: &[Line; GROUP], packed: &mut [u16]) {
    let grid = Grid::best(weights);
    let (nibbles, ends) = packed.split_at_mut(GROUP_BYTES / 2);
    // Two steps of four inputs share four bytes of each lane.
    let chunks = nibbles.as_chunks_mut::<{ STEP_BYTES / 2 }>().0;
    for (packed, lines) in chunks.iter_mut().zip(weights.as_chunks::<{ 2 * STEP }>().0) {
        let mut words = [0_u32; LANES];
        for (input, line) in lines.iter().enumerate() {
            let shift = input % STEP * 8 + input / STEP * 4;
            for lane in 0..LANES {
                words[lane] |= grid.place(lane, line[lane]).cast_unsigned() << shift;
            }
        }
        for (packed, word) in packed.as_chunks_mut::<2>().0.iter_mut().zip(words) {
            let [a, b, c, d] = word.to_le_bytes();
            *packed = [u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])];
        }
    }
    let (scales, leasts) = ends.split_at_mut(LANES);
    for lane in 0..LANES {
        scales[lane] = to_bf16(grid.scale[lane]);
        leasts[lane] = to_bf16(grid.least[lane]);
    }
}

/// Sixteen evenly spaced values for every lane; scales and least values are bf16.
#[derive(Clone, Copy)]
struct Grid {
    scale: Line,
    inverse: Line,
    least: Line,
}

impl Grid {
    /// Those that `weights` lose least by.
    #[inline(always)]
    fn best(weights: &[Line; GROUP]) -> Self {
        let (mut least, mut most) = (weights[0], weights[0]);
        for line in &weights[1..] {
            for lane in 0..LANES {
                least[lane] = least[lane].min(line[lane]);
                most[lane] = most[lane].max(line[lane]);
            }
        }
        let mut best = Self::new(&least, &most);
        let mut least_loss = best.loss(weights);
        for (low, high) in CUTS {
            let (mut from, mut to) = (least, most);
            for lane in 0..LANES {
                let range = most[lane] - least[lane];
                from[lane] += low * range;
                to[lane] -= high * range;
            }
            let grid = Self::new(&from, &to);
            let loss = grid.loss(weights);
            for lane in 0..LANES {
                if loss[lane] < least_loss[lane] {
                    least_loss[lane] = loss[lane];
                    best.scale[lane] = grid.scale[lane];
                    best.inverse[lane] = grid.inverse[lane];
                    best.least[lane] = grid.least[lane];
                }
            }
        }
        for (scale, loss) in best.scale.iter_mut().zip(least_loss) {
            if !loss.is_finite() {
                // A weight is none, or has no bound: nibbles could not tell.
                *scale = f32::NAN;
            }
        }
        best
    }

    #[inline(always)]
    fn new(least: &Line, most: &Line) -> Self {
        let mut grid = Self {
            scale: [0.0; LANES],
            inverse: [0.0; LANES],
            least: [0.0; LANES],
        };
        for lane in 0..LANES {
            let scale = bf16((most[lane] - least[lane]) / LARGEST);
            grid.scale[lane] = scale;
            grid.inverse[lane] = if scale > 0.0 { 1.0 / scale } else { 0.0 };
            grid.least[lane] = bf16(least[lane]);
        }
        grid
    }

    /// The sums of the squared errors.
    #[inline(always)]
    fn loss(&self, weights: &[Line; GROUP]) -> Line {
        let mut sums = [0.0; LANES];
        for line in weights {
            for lane in 0..LANES {
                let near = self.place(lane, line[lane]) as f32 * self.scale[lane];
                let error = near + self.least[lane] - line[lane];
                sums[lane] += error * error;
            }
        }
        sums
    }

    /// Which value of a lane's a weight is nearest to.
    #[inline(always)]
    fn place(&self, lane: usize, weight: f32) -> i32 {
        let place = (weight - self.least[lane]) * self.inverse[lane];
        let place = if place > 0.0 { place } else { 0.0 };
        round(if place < LARGEST { place } else { LARGEST })
    }
}

/// The nearest bf16.
#[inline(always)]
fn bf16(x: f32) -> f32 {
    f32::from_bits(u32::from(to_bf16(x)) << 16)
}
