//! Direct convolution: computed from the signal in place, without im2col, for any dilation.

use std::ops::Range;

use super::convolution::{Accumulate, Epilogue, Geometry, Weight};
use crate::isa::isa;
use crate::memory::Buffer;
use crate::pool::Pool;
use crate::shared::SharedSlice;
use crate::simd::{self, LANES, Simd, Task};

/// Rows (steps) of a task: whole tiles of every instruction set, whose input stays in the second-level cache.
const TASK_ROWS: usize = 96;
/// Tasks for each thread, where there are enough outputs, so that none waits long for the last one.
const TASKS: usize = 4;

/// Packed weights of a convolution.
pub(super) struct Direct {
    pub geometry: Geometry,
    /// `[panel][tap][input][LANES]`; the last panel is filled up with zeros.
    pub weights: Buffer<f32>,
    /// `[panel][LANES]`
    pub bias: Buffer<f32>,
    pub k_blocks: Vec<KBlock>,
}

impl Direct {
    /// As `Convolution::new`.
    pub(super) fn new(pool: &Pool, geometry: Geometry, bias: &[f32], weight: &Weight) -> Self {
        let Geometry {
            inputs,
            outputs,
            taps,
            ..
        } = geometry;
        let mut zeroed = Self::zeroed(geometry, bias);
        let length = taps * inputs * LANES;
        super::chunks(pool, &mut zeroed.weights, length, &|panel, weights| {
            for (index, weights) in weights.chunks_exact_mut(LANES).enumerate() {
                for (output, packed) in (panel * LANES..outputs).zip(weights) {
                    *packed = weight(output, index % inputs, index / inputs);
                }
            }
        });
        zeroed
    }

    /// One without weights.
    ///
    /// # Panics
    /// As `Convolution::new`.
    pub(super) fn zeroed(geometry: Geometry, bias: &[f32]) -> Self {
        let Geometry {
            inputs,
            outputs,
            taps,
            dilation,
            stride,
            ..
        } = geometry;
        assert!(
            inputs * outputs * taps * dilation * stride > 0 && bias.len() == outputs,
            "a convolution has sizes, and as many biases as outputs"
        );
        let panels = outputs.div_ceil(LANES);
        let mut biases = Buffer::zeroed(panels * LANES);
        biases[..outputs].copy_from_slice(bias);
        Self {
            geometry,
            weights: Buffer::zeroed(panels * taps * inputs * LANES),
            bias: biases,
            k_blocks: KBlock::all(&geometry),
        }
    }

    /// As `Convolution::run`, which has checked the lengths of `x` and `y`.
    pub(super) fn run(
        &self,
        pool: &Pool,
        x: &[f32],
        y: &mut [f32],
        accumulate: Accumulate,
        epilogue: &Epilogue,
    ) {
        let outputs = self.geometry.outputs;
        let rows = y.len() / outputs;
        let blocks = rows.div_ceil(TASK_ROWS);
        let panels = outputs.div_ceil(LANES);
        let wanted = (TASKS * pool.threads()).div_ceil(blocks.max(1));
        // Even, as wide registers take two panels at a time.
        let width = panels.div_ceil(wanted).next_multiple_of(2);
        let parts = panels.div_ceil(width);
        let y = SharedSlice::new(y);
        pool.run(blocks * parts, &|task| {
            let (block, part) = (task / parts, task % parts);
            let rows = block * TASK_ROWS..rows.min((block + 1) * TASK_ROWS);
            let panels = part * width..panels.min((part + 1) * width);
            // SAFETY: no other task has these outputs of these steps.
            unsafe { self.accumulate_tiles(x, &y, accumulate, rows.clone(), panels.clone()) };
            let first = panels.start * LANES;
            let count = outputs.min(panels.end * LANES) - first;
            for row in rows {
                // SAFETY: as above.
                epilogue(first, unsafe { y.slice(row * outputs + first, count) });
            }
        });
    }

    /// Computes the outputs of some panels for some steps.
    ///
    /// # Safety
    /// `x` must hold what [`Geometry::input_rows`] says, and no other thread may use these outputs of these steps of `y`.
    pub(super) unsafe fn accumulate_tiles(
        &self,
        x: &[f32],
        y: &SharedSlice<f32>,
        accumulate: Accumulate,
        rows: Range<usize>,
        panels: Range<usize>,
    ) {
        let tiles = Tiles {
            convolution: self,
            x,
            step: self.geometry.stride * self.geometry.inputs,
            y,
            accumulate,
            rows,
            panels,
        };
        simd::run(isa(), tiles);
    }
}

/// Depth of a block of `k` (taps and inputs), after which accumulators leave the registers: a panel's weights for it stay in the
/// first-level cache.
const BLOCK_DEPTH: usize = 256;

/// A block of `k`, in the order of the weights.
pub(super) struct KBlock {
    first: usize,
    /// Where its inputs are, from the first tap's first input on.
    runs: Vec<Range<usize>>,
}

impl KBlock {
    /// All blocks of a convolution.
    pub(super) fn all(geometry: &Geometry) -> Vec<Self> {
        let Geometry {
            inputs,
            taps,
            dilation,
            ..
        } = *geometry;
        // The inputs of undilated taps are contiguous.
        let run = if dilation == 1 { taps * inputs } else { inputs };
        let k_block = |first: usize| {
            let end = (first + BLOCK_DEPTH).min(taps * inputs);
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
        (0..taps * inputs)
            .step_by(BLOCK_DEPTH)
            .map(k_block)
            .collect()
    }
}

/// The outputs of some panels for some steps.
pub(super) struct Tiles<'a> {
    pub convolution: &'a Direct,
    pub x: &'a [f32],
    /// How far apart rows of `x` begin.
    pub step: usize,
    pub y: &'a SharedSlice<'a, f32>,
    pub accumulate: Accumulate,
    pub rows: Range<usize>,
    pub panels: Range<usize>,
}

impl Task for Tiles<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let whole = self.convolution.geometry.outputs.is_multiple_of(LANES);
        let mut panel = self.panels.start;
        while panel < self.panels.end {
            let panels = S::NR.min(self.panels.end - panel);
            for k_block in &self.convolution.k_blocks {
                let mut row = self.rows.start;
                while row < self.rows.end {
                    let rows = S::MR.min(self.rows.end - row);
                    // SAFETY: this is compiled for `S`, and the tile is a part of the task.
                    unsafe {
                        if whole {
                            self.tile::<S, true>((row, rows), (panel, panels), k_block);
                        } else {
                            self.tile::<S, false>((row, rows), (panel, panels), k_block);
                        }
                    }
                    row += rows;
                }
            }
            panel += panels;
        }
    }
}

impl Tiles<'_> {
    /// # Safety
    /// As for [`Tiles::micro_kernel`], with a number of rows and of panels after the first of each.
    #[inline(always)]
    unsafe fn tile<S: Simd, const WHOLE: bool>(
        &self,
        (row, rows): (usize, usize),
        (panel, panels): (usize, usize),
        k_block: &KBlock,
    ) {
        macro_rules! shapes {
            ($($rows:literal)*) => {
                match (rows, panels) {
                    $(
                        ($rows, 1) if $rows <= S::MR => self.micro_kernel::<S, WHOLE, $rows, 1>(row, panel, k_block),
                        ($rows, 2) if $rows <= S::MR && S::NR >= 2 => self.micro_kernel::<S, WHOLE, $rows, 2>(row, panel, k_block),
                    )*
                    _ => unreachable!("a tile is no larger than the registers"),
                }
            };
        }
        // SAFETY: the caller's promise.
        unsafe { shapes!(1 2 3 4 5 6 7 8 9 10 11 12) }
    }

    /// The micro-kernel: adds the products of a block of `k` to `R` rows of `P` panels. `WHOLE`: all panels are full.
    ///
    /// # Safety
    /// The processor must have the instruction set, and `R` rows from `row` on and `P` panels from `panel` on be the task's.
    #[inline(always)]
    unsafe fn micro_kernel<S: Simd, const WHOLE: bool, const R: usize, const P: usize>(
        &self,
        row: usize,
        panel: usize,
        k_block: &KBlock,
    ) {
        let Geometry {
            inputs,
            outputs,
            taps,
            ..
        } = self.convolution.geometry;
        let step = self.step;
        // SAFETY: `Convolution::run` has checked that `x` and `y` are large enough for all steps.
        unsafe {
            let mut sums = [[S::splat(0.0); P]; R];
            for (r, sums) in sums.iter_mut().enumerate() {
                for (p, sum) in sums.iter_mut().enumerate() {
                    let first = (panel + p) * LANES;
                    let y = self.y.pointer((row + r) * outputs + first);
                    let count = if WHOLE {
                        LANES
                    } else {
                        LANES.min(outputs - first)
                    };
                    if k_block.first > 0 {
                        *sum = load::<S>(y, count);
                        continue;
                    }
                    *sum = S::load(self.convolution.bias.as_ptr().add(first));
                    if self.accumulate == Accumulate::Add {
                        *sum = S::add(*sum, load::<S>(y, count));
                    }
                }
            }
            let mut w = [self.convolution.weights.as_ptr(); P];
            for (p, w) in w.iter_mut().enumerate() {
                *w = w.add(((panel + p) * taps * inputs + k_block.first) * LANES);
            }
            let row_start = self.x.as_ptr().add(row * step);
            for run in &k_block.runs {
                sums =
                    multiply_add::<S, R, P>(sums, (row_start.add(run.start), step), w, run.len());
                for w in &mut w {
                    *w = w.add(run.len() * LANES);
                }
            }
            for (r, sums) in sums.iter().enumerate() {
                for (p, &sum) in sums.iter().enumerate() {
                    let first = (panel + p) * LANES;
                    let y = self.y.pointer((row + r) * outputs + first);
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
/// Takes and returns the accumulators by value, which keeps them in registers here.
///
/// # Safety
/// As for [`Simd`].
#[inline(always)]
unsafe fn multiply_add<S: Simd, const R: usize, const P: usize>(
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
        let mut k_block = [0.0; LANES];
        k_block[..count].copy_from_slice(std::slice::from_raw_parts(p, count));
        S::load(k_block.as_ptr())
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
        let mut k_block = [0.0; LANES];
        S::store(k_block.as_mut_ptr(), v);
        std::slice::from_raw_parts_mut(p, count).copy_from_slice(&k_block[..count]);
    }
}
