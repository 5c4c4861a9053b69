//! How weights come out of a checkpoint.

use std::cell::Cell;
use std::ops::Range;

use crate::pool::Pool;
use crate::simd::LANES;

/// Panels of a transposed matrix that are read together: its rows lie far apart, and what is looked up to find one of
/// them, and fetched of it, is to serve more than the sixteen outputs of one panel.
const TOGETHER: usize = 4;

/// The weights of one panel for one input. A panel's are `[input][LANES]`; outputs that there are not have zeros.
pub(crate) type Line = [f32; LANES];

/// Where weights lie.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    /// Gives the row of an output, its weight for each input: of one matrix, or of several that are made one.
    Rows(&'a (dyn Fn(usize) -> &'a [f32] + Sync)),
    /// The rows of a transposed matrix: the weights for an input begin `stride` after those for the one before.
    Transposed { weights: &'a [f32], stride: usize },
}

/// Weights to be packed.
pub(crate) struct Given<'a> {
    pub outputs: usize,
    pub inputs: usize,
    pub source: Source<'a>,
}

impl Given<'_> {
    /// Panels of [`LANES`] outputs.
    pub(crate) fn panels(&self) -> usize {
        self.outputs.div_ceil(LANES)
    }

    /// Calls `pack(panel, lines)` for every panel, on all threads.
    pub(crate) fn each_panel(&self, pool: &Pool, pack: &(dyn Fn(usize, &[Line]) + Sync)) {
        self.each_group(pool, &|panels| {
            self.lines(panels.clone(), |lines| {
                for (panel, lines) in panels.zip(lines.chunks_exact(self.inputs)) {
                    pack(panel, lines);
                }
            });
        });
    }

    /// Calls `take` with neighbouring panels, `[panel][input]`.
    pub(crate) fn lines(&self, panels: Range<usize>, take: impl FnOnce(&[Line])) {
        thread_local! {
            static LINES: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
        }
        let mut lines = LINES.take();
        lines.resize(panels.len() * self.inputs, [0.0; LANES]);
        self.read(panels, &mut lines);
        take(&lines);
        LINES.set(lines);
    }

    /// Calls `work` for groups of neighbouring panels, as many as are best read together, on all threads.
    pub(crate) fn each_group(&self, pool: &Pool, work: &(dyn Fn(Range<usize>) + Sync)) {
        let together = match self.source {
            Source::Rows(_) => 1,
            Source::Transposed { .. } => TOGETHER,
        };
        let panels = self.panels();
        pool.run(panels.div_ceil(together), &|group| {
            work(group * together..panels.min((group + 1) * together));
        });
    }

    /// Reads neighbouring panels, `[panel][input]`.
    pub(crate) fn read(&self, panels: Range<usize>, lines: &mut [Line]) {
        let first = panels.start * LANES;
        match self.source {
            Source::Rows(row) => {
                for (panel, lines) in panels.zip(lines.chunks_exact_mut(self.inputs)) {
                    let outputs = panel * LANES..self.outputs.min((panel + 1) * LANES);
                    transpose(outputs.map(row), lines);
                }
            }
            Source::Transposed { weights, stride } => {
                let count = self.outputs.min(panels.end * LANES) - first;
                for input in 0..self.inputs {
                    let given = weights[input * stride + first..][..count].chunks(LANES);
                    for (line, given) in lines[input..].iter_mut().step_by(self.inputs).zip(given) {
                        if let Ok(whole) = given.try_into() {
                            *line = whole;
                        } else {
                            *line = [0.0; LANES];
                            line[..given.len()].copy_from_slice(given);
                        }
                    }
                }
            }
        }
    }
}

/// Writes at most sixteen rows side by side.
fn transpose<'a>(rows: impl Iterator<Item = &'a [f32]>, lines: &mut [Line]) {
    let inputs = lines.len();
    let mut given: [&[f32]; LANES] = [&[]; LANES];
    let mut count = 0;
    for row in rows {
        given[count] = &row[..inputs];
        count += 1;
    }
    let (blocks, rest) = lines.as_chunks_mut::<LANES>();
    let mut whole = 0;
    if count == LANES {
        for (block, lines) in blocks.iter_mut().enumerate() {
            let mut square = [[0.0; LANES]; LANES];
            for (square, row) in square.iter_mut().zip(given) {
                square.copy_from_slice(&row[block * LANES..][..LANES]);
            }
            for (input, line) in lines.iter_mut().enumerate() {
                for (weight, row) in line.iter_mut().zip(&square) {
                    *weight = row[input];
                }
            }
        }
        whole = inputs - rest.len();
    }
    for (input, line) in lines.iter_mut().enumerate().skip(whole) {
        *line = [0.0; LANES];
        for (weight, row) in line.iter_mut().zip(&given[..count]) {
            *weight = row[input];
        }
    }
}
