//! Weights rounded to 4 bits.

use super::dots::{GROUP, GROUP_BYTES, STEP, STEP_BYTES};
use super::float::Format;
use super::int4::LENGTH;
use super::quantise::round;
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

/// Packs rows of weights as the lanes of a panel.
pub(crate) struct Pack<'a> {
    pub rows: &'a [f32],
    pub inputs: usize,
    /// As [`super::int4::Int4`] has it.
    pub panel: &'a mut [u16],
}

impl Task for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        for (lane, row) in self.rows.chunks_exact(self.inputs).enumerate() {
            for (packed, row) in self.panel.chunks_exact_mut(LENGTH).zip(row.chunks(GROUP)) {
                // What fills the last group up is multiplied with zeros: it must not widen the range.
                let mut group = [row[0]; GROUP];
                group[..row.len()].copy_from_slice(row);
                pack_group(lane, &group, packed);
            }
        }
    }
}

/// Packs the weights of one output.
#[inline(always)]
fn pack_group(lane: usize, weights: &[f32; GROUP], packed: &mut [u16]) {
    let grid = Grid::best(weights);
    let mut nibbles = [0; GROUP];
    for (nibble, &weight) in nibbles.iter_mut().zip(weights) {
        *nibble = round(grid.place(weight)) as u8;
    }
    // Two steps of four inputs share four bytes.
    for (chunk, nibbles) in nibbles.as_chunks::<{ 2 * STEP }>().0.iter().enumerate() {
        let at = chunk * STEP_BYTES / 2 + lane * STEP / 2;
        for (half, packed) in packed[at..at + STEP / 2].iter_mut().enumerate() {
            let both = |at: usize| nibbles[at] | nibbles[at + STEP] << 4;
            *packed = u16::from_le_bytes([both(2 * half), both(2 * half + 1)]);
        }
    }
    let ends = &mut packed[GROUP_BYTES / 2..];
    ends[lane] = u16::from_f32(grid.scale);
    ends[LANES + lane] = u16::from_f32(grid.least);
}

/// Sixteen evenly spaced values; both numbers are bf16.
#[derive(Clone, Copy)]
struct Grid {
    scale: f32,
    inverse: f32,
    least: f32,
}

impl Grid {
    /// The one that `weights` lose least by.
    #[inline(always)]
    fn best(weights: &[f32; GROUP]) -> Self {
        let least = fold(weights, |a, b| if b < a { b } else { a });
        let most = fold(weights, |a, b| if b > a { b } else { a });
        let range = most - least;
        let mut best = Self::new(least, most);
        let mut least_loss = best.loss(weights);
        for (low, high) in CUTS {
            let grid = Self::new(least + low * range, most - high * range);
            let loss = grid.loss(weights);
            if loss < least_loss {
                (least_loss, best) = (loss, grid);
            }
        }
        best
    }

    #[inline(always)]
    fn new(least: f32, most: f32) -> Self {
        let scale = bf16(u16::from_f32((most - least) / LARGEST));
        Self {
            scale,
            inverse: if scale > 0.0 { 1.0 / scale } else { 0.0 },
            least: bf16(u16::from_f32(least)),
        }
    }

    /// Where a weight is on the grid, which it may miss by one half.
    #[inline(always)]
    fn place(&self, weight: f32) -> f32 {
        let place = (weight - self.least) * self.inverse;
        let place = if place > 0.0 { place } else { 0.0 };
        if place < LARGEST { place } else { LARGEST }
    }

    #[inline(always)]
    fn loss(&self, weights: &[f32; GROUP]) -> f32 {
        let mut squares = [0.0; GROUP];
        for (square, &weight) in squares.iter_mut().zip(weights) {
            let error = round(self.place(weight)) as f32 * self.scale + self.least - weight;
            *square = error * error;
        }
        fold(&squares, |a, b| a + b)
    }
}

/// Folds lanes first, as a register does.
#[inline(always)]
fn fold(values: &[f32; GROUP], combine: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0; GROUP / 4];
    for (lane, value) in lanes.iter_mut().enumerate() {
        let quarter = |quarter: usize| values[lane + quarter * GROUP / 4];
        *value = combine(
            combine(quarter(0), quarter(1)),
            combine(quarter(2), quarter(3)),
        );
    }
    let mut all = lanes[0];
    for &lane in &lanes[1..] {
        all = combine(all, lane);
    }
    all
}

#[inline(always)]
fn bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}
