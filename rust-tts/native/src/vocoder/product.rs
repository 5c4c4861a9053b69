//! The inner loops of a convolution.

use std::ops::Range;

use super::convolution::{Convolution, Geometry};
use crate::shared::Shared;
use crate::simd::{LANES, Simd, Task};

/// Inputs after which sums leave the registers: a panel's weights for them stay in the first cache.
const DEPTH: usize = 256;

/// What an output's sum begins with, beside the bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Onto {
    Nothing,
    /// What is in its place.
    Itself,
}

/// Some outputs of some steps.
pub(super) struct Product<'a> {
    pub convolution: &'a Convolution,
    pub x: &'a [f32],
    /// How far apart rows of `x` begin.
    pub step: usize,
    pub y: &'a Shared<'a, f32>,
    pub onto: Onto,
    pub rows: Range<usize>,
    pub panels: Range<usize>,
}

impl Task for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let depth = self.convolution.geometry.taps * self.convolution.geometry.inputs;
        let mut panel = self.panels.start;
        while panel < self.panels.end {
            let panels = S::GROUPS.min(self.panels.end - panel);
            for first in (0..depth).step_by(DEPTH) {
                let inputs = first..depth.min(first + DEPTH);
                let mut row = self.rows.start;
                while row < self.rows.end {
                    let rows = S::ROWS.min(self.rows.end - row);
                    // SAFETY: this is compiled for `S`, and the tile is a part of the task.
                    unsafe { self.tile::<S>((row, rows), (panel, panels), inputs.clone()) };
                    row += rows;
                }
            }
            panel += panels;
        }
    }
}

impl Product<'_> {
    /// # Safety
    /// As for [`Product::sums`], with a number of rows and of panels after the first of each.
    #[inline(always)]
    unsafe fn tile<S: Simd>(
        &self,
        (row, rows): (usize, usize),
        (panel, panels): (usize, usize),
        inputs: Range<usize>,
    ) {
        macro_rules! shapes {
            ($($rows:literal)*) => {
                match (rows, panels) {
                    $(
                        ($rows, 1) if $rows <= S::ROWS => self.sums::<S, $rows, 1>(row, panel, inputs),
                        ($rows, 2) if $rows <= S::ROWS && S::GROUPS >= 2 => self.sums::<S, $rows, 2>(row, panel, inputs),
                    )*
                    _ => unreachable!("a tile is no larger than the registers"),
                }
            };
        }
        // SAFETY: the caller's promise.
        unsafe { shapes!(1 2 3 4 5 6 7 8 9 10 11 12) }
    }

    /// Adds the products of some inputs to the sums.
    ///
    /// # Safety
    /// The processor must have the instruction set, and `R` rows from `row` on and `P` panels from `panel` on be the task's.
    #[inline(always)]
    unsafe fn sums<S: Simd, const R: usize, const P: usize>(
        &self,
        row: usize,
        panel: usize,
        inputs: Range<usize>,
    ) {
        let Convolution {
            geometry: Geometry { outputs, .. },
            run,
            skip,
            ..
        } = *self.convolution;
        let depth = self.convolution.geometry.taps * self.convolution.geometry.inputs;
        let step = self.step;
        // SAFETY: `Convolution::run` has seen that `x` and `y` are large enough for all steps.
        unsafe {
            let mut sums = [[S::splat(0.0); P]; R];
            for (r, sums) in sums.iter_mut().enumerate() {
                for (p, sum) in sums.iter_mut().enumerate() {
                    let first = (panel + p) * LANES;
                    let y = self.y.at((row + r) * outputs + first);
                    let count = LANES.min(outputs - first);
                    if inputs.start > 0 {
                        *sum = load::<S>(y, count);
                        continue;
                    }
                    *sum = S::load(self.convolution.bias.as_ptr().add(first));
                    if self.onto == Onto::Itself {
                        *sum = S::add(*sum, load::<S>(y, count));
                    }
                }
            }
            let mut w = [self.convolution.weights.as_ptr(); P];
            for (p, w) in w.iter_mut().enumerate() {
                *w = w.add(((panel + p) * depth + inputs.start) * LANES);
            }
            let row_start = self.x.as_ptr().add(row * step);
            let mut input = inputs.start;
            while input < inputs.end {
                let within = input % run;
                let count = (run - within).min(inputs.end - input);
                let x = row_start.add(input / run * skip + within);
                sums = accumulate::<S, R, P>(sums, (x, step), w, count);
                for w in &mut w {
                    *w = w.add(count * LANES);
                }
                input += count;
            }
            for (r, sums) in sums.iter().enumerate() {
                for (p, &sum) in sums.iter().enumerate() {
                    let first = (panel + p) * LANES;
                    let y = self.y.at((row + r) * outputs + first);
                    store::<S>(y, LANES.min(outputs - first), sum);
                }
            }
        }
    }
}

/// `sums` and the products of `count` inputs from `x` on, of rows that are `step` apart, with their weights from `w` on.
///
/// Takes and gives sums by value, so that they are in registers here, whatever is done to them elsewhere.
///
/// # Safety
/// As for [`Simd`].
#[inline(always)]
unsafe fn accumulate<S: Simd, const R: usize, const P: usize>(
    mut sums: [[S::V; P]; R],
    (mut x, step): (*const f32, usize),
    mut w: [*const f32; P],
    count: usize,
) -> [[S::V; P]; R] {
    // SAFETY: the caller's promise.
    unsafe {
        for _ in 0..count {
            let mut weights = [S::splat(0.0); P];
            for (weights, w) in weights.iter_mut().zip(&mut w) {
                *weights = S::load(*w);
                *w = w.add(LANES);
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let x = S::splat(*x.add(r * step));
                for (sum, weights) in sums.iter_mut().zip(weights) {
                    *sum = S::mul_add(x, weights, *sum);
                }
            }
            x = x.add(1);
        }
    }
    sums
}

/// `count` floats from `p`, then zeros.
///
/// # Safety
/// As for [`Simd`], but `p` points to `count` elements.
#[inline(always)]
unsafe fn load<S: Simd>(p: *const f32, count: usize) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        if count == LANES {
            return S::load(p);
        }
        let mut part = [0.0; LANES];
        part[..count].copy_from_slice(std::slice::from_raw_parts(p, count));
        S::load(part.as_ptr())
    }
}

/// The first `count` floats of `v` to `p`.
///
/// # Safety
/// As for [`Simd`], but `p` points to `count` elements.
#[inline(always)]
unsafe fn store<S: Simd>(p: *mut f32, count: usize, v: S::V) {
    // SAFETY: the caller's promise.
    unsafe {
        if count == LANES {
            return S::store(p, v);
        }
        let mut part = [0.0; LANES];
        S::store(part.as_mut_ptr(), v);
        std::slice::from_raw_parts_mut(p, count).copy_from_slice(&part[..count]);
    }
}
