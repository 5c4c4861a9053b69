//! The inner loops of a convolution.

use std::ops::Range;

use super::convolution::Geometry;
use super::direct::Direct;
use crate::shared::Shared;
use crate::simd::{LANES, Simd, Task};

/// Inputs after which sums leave the registers: a panel's weights for them stay in the first cache.
const DEPTH: usize = 256;

/// Inputs of a sum that are treated at once, in the order of the weights.
pub(super) struct Part {
    first: usize,
    /// Where they are, from the first tap's first input on.
    runs: Vec<Range<usize>>,
}

impl Part {
    /// All inputs of a convolution.
    pub(super) fn all(geometry: &Geometry) -> Vec<Self> {
        let Geometry {
            inputs,
            taps,
            dilation,
            ..
        } = *geometry;
        // Without steps between them, taps see what lies side by side.
        let run = if dilation == 1 { taps * inputs } else { inputs };
        let part = |first: usize| {
            let end = (first + DEPTH).min(taps * inputs);
            let mut runs = Vec::new();
            let mut input = first;
            while input < end {
                let count = (run - input % run).min(end - input);
                let start = input / run * dilation * inputs + input % run;
                runs.push(start..start + count);
                input += count;
            }
            Self { first, runs }
        };
        (0..taps * inputs).step_by(DEPTH).map(part).collect()
    }
}

/// What an output's sum begins with, beside the bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Onto {
    Nothing,
    /// What is in its place.
    Itself,
}

/// Some outputs of some steps.
pub(super) struct Product<'a> {
    pub convolution: &'a Direct,
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
        let whole = self.convolution.geometry.outputs.is_multiple_of(LANES);
        let mut panel = self.panels.start;
        while panel < self.panels.end {
            let panels = S::GROUPS.min(self.panels.end - panel);
            for part in &self.convolution.parts {
                let mut row = self.rows.start;
                while row < self.rows.end {
                    let rows = S::ROWS.min(self.rows.end - row);
                    // SAFETY: this is compiled for `S`, and the tile is a part of the task.
                    unsafe {
                        if whole {
                            self.tile::<S, true>((row, rows), (panel, panels), part);
                        } else {
                            self.tile::<S, false>((row, rows), (panel, panels), part);
                        }
                    }
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
    unsafe fn tile<S: Simd, const WHOLE: bool>(
        &self,
        (row, rows): (usize, usize),
        (panel, panels): (usize, usize),
        part: &Part,
    ) {
        macro_rules! shapes {
            ($($rows:literal)*) => {
                match (rows, panels) {
                    $(
                        ($rows, 1) if $rows <= S::ROWS => self.sums::<S, WHOLE, $rows, 1>(row, panel, part),
                        ($rows, 2) if $rows <= S::ROWS && S::GROUPS >= 2 => self.sums::<S, WHOLE, $rows, 2>(row, panel, part),
                    )*
                    _ => unreachable!("a tile is no larger than the registers"),
                }
            };
        }
        // SAFETY: the caller's promise.
        unsafe { shapes!(1 2 3 4 5 6 7 8 9 10 11 12) }
    }

    /// Adds the products of a part of the inputs to the sums. `WHOLE`: all panels are full.
    ///
    /// # Safety
    /// The processor must have the instruction set, and `R` rows from `row` on and `P` panels from `panel` on be the task's.
    #[inline(always)]
    unsafe fn sums<S: Simd, const WHOLE: bool, const R: usize, const P: usize>(
        &self,
        row: usize,
        panel: usize,
        part: &Part,
    ) {
        let Geometry {
            inputs,
            outputs,
            taps,
            ..
        } = self.convolution.geometry;
        let step = self.step;
        // SAFETY: `Convolution::run` has seen that `x` and `y` are large enough for all steps.
        unsafe {
            let mut sums = [[S::splat(0.0); P]; R];
            for (r, sums) in sums.iter_mut().enumerate() {
                for (p, sum) in sums.iter_mut().enumerate() {
                    let first = (panel + p) * LANES;
                    let y = self.y.at((row + r) * outputs + first);
                    let count = if WHOLE {
                        LANES
                    } else {
                        LANES.min(outputs - first)
                    };
                    if part.first > 0 {
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
                *w = w.add(((panel + p) * taps * inputs + part.first) * LANES);
            }
            let row_start = self.x.as_ptr().add(row * step);
            for run in &part.runs {
                sums = accumulate::<S, R, P>(sums, (row_start.add(run.start), step), w, run.len());
                for w in &mut w {
                    *w = w.add(run.len() * LANES);
                }
            }
            for (r, sums) in sums.iter().enumerate() {
                for (p, &sum) in sums.iter().enumerate() {
                    let first = (panel + p) * LANES;
                    let y = self.y.at((row + r) * outputs + first);
                    let count = if WHOLE {
                        LANES
                    } else {
                        LANES.min(outputs - first)
                    };
                    store::<S>(y, count, sum);
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
