//! Weights as a checkpoint holds them, and how they are read into panels.

use std::cell::Cell;
use std::ops::Range;

use crate::pool::Pool;
use crate::simd::LANES;

/// Panels of a transposed matrix that are read together: its rows are far apart, so that a page and a cache line of one should
/// serve more than the sixteen outputs of one panel.
const GROUP_PANELS: usize = 4;

/// One row of a panel `[k][LANES]`: the weights of sixteen outputs for one input; zeros where there are fewer outputs.
pub(crate) type PanelRow = [f32; LANES];

/// How weights are laid out in memory.
#[derive(Clone, Copy)]
pub enum Layout<'a> {
    /// Returns the row of an output, its weight for each input: of one matrix, or of several stacked ones.
    Rows(&'a (dyn Fn(usize) -> &'a [f32] + Sync)),
    /// Transposed: the weights for an input begin `stride` after those for the one before.
    Transposed { weights: &'a [f32], stride: usize },
}

/// Weights `[outputs, inputs]` to be packed.
pub(crate) struct WeightSource<'a> {
    pub outputs: usize,
    pub inputs: usize,
    pub layout: Layout<'a>,
}

impl WeightSource<'_> {
    /// Panels of [`LANES`] outputs.
    pub(crate) fn panels(&self) -> usize {
        self.outputs.div_ceil(LANES)
    }

    /// Calls `pack(panel, rows)` for every panel on all threads, with its `rows` `[k][LANES]`.
    pub(crate) fn for_each_panel(&self, pool: &Pool, pack: &(dyn Fn(usize, &[PanelRow]) + Sync)) {
        self.for_each_group(pool, &|panels| {
            self.rows(panels.clone(), |rows| {
                for (panel, rows) in panels.zip(rows.chunks_exact(self.inputs)) {
                    pack(panel, rows);
                }
            });
        });
    }

    /// Calls `take` with neighbouring panels, `[panel][k][LANES]`.
    pub(crate) fn rows(&self, panels: Range<usize>, take: impl FnOnce(&[PanelRow])) {
        thread_local! {
            static ROWS: Cell<Vec<PanelRow>> = const { Cell::new(Vec::new()) };
        }
        let mut rows = ROWS.take();
        rows.resize(panels.len() * self.inputs, [0.0; LANES]);
        self.read(panels, &mut rows);
        take(&rows);
        ROWS.set(rows);
    }

    /// Calls `work` for groups of neighbouring panels that are read together, on all threads.
    pub(crate) fn for_each_group(&self, pool: &Pool, work: &(dyn Fn(Range<usize>) + Sync)) {
        let panels_read = match self.layout {
            Layout::Rows(_) => 1,
            Layout::Transposed { .. } => GROUP_PANELS,
        };
        let panels = self.panels();
        pool.run(panels.div_ceil(panels_read), &|group| {
            work(group * panels_read..panels.min((group + 1) * panels_read));
        });
    }

    /// Reads neighbouring panels, `[panel][k][LANES]`.
    pub(crate) fn read(&self, panels: Range<usize>, rows: &mut [PanelRow]) {
        let first = panels.start * LANES;
        match self.layout {
            Layout::Rows(row) => {
                for (panel, rows) in panels.zip(rows.chunks_exact_mut(self.inputs)) {
                    let outputs = panel * LANES..self.outputs.min((panel + 1) * LANES);
                    transpose(outputs.map(row), rows);
                }
            }
            Layout::Transposed { weights, stride } => {
                let count = self.outputs.min(panels.end * LANES) - first;
                for input in 0..self.inputs {
                    let columns = weights[input * stride + first..][..count].chunks(LANES);
                    for (row, columns) in rows[input..].iter_mut().step_by(self.inputs).zip(columns)
                    {
                        if let Ok(whole) = columns.try_into() {
                            *row = whole;
                        } else {
                            *row = [0.0; LANES];
                            row[..columns.len()].copy_from_slice(columns);
                        }
                    }
                }
            }
        }
    }
}

/// Transposes at most sixteen rows of weights into the rows of a panel.
fn transpose<'a>(weights: impl Iterator<Item = &'a [f32]>, panel: &mut [PanelRow]) {
    let inputs = panel.len();
    let mut columns: [&[f32]; LANES] = [&[]; LANES];
    let mut count = 0;
    for weights in weights {
        columns[count] = &weights[..inputs];
        count += 1;
    }
    let (blocks, rest) = panel.as_chunks_mut::<LANES>();
    let mut whole = 0;
    if count == LANES {
        for (block, rows) in blocks.iter_mut().enumerate() {
            let mut square = [[0.0; LANES]; LANES];
            for (square, column) in square.iter_mut().zip(columns) {
                square.copy_from_slice(&column[block * LANES..][..LANES]);
            }
            for (input, row) in rows.iter_mut().enumerate() {
                for (weight, column) in row.iter_mut().zip(&square) {
                    *weight = column[input];
                }
            }
        }
        whole = inputs - rest.len();
    }
    for (input, row) in panel.iter_mut().enumerate().skip(whole) {
        *row = [0.0; LANES];
        for (weight, column) in row.iter_mut().zip(&columns[..count]) {
            *weight = column[input];
        }
    }
}
