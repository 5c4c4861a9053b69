//! How a product is cut into tasks, and a task into tiles that stay in the caches.

use std::cell::Cell;
use std::ops::Range;

use super::dots::Set;
use crate::memory::Buffer;
use crate::pool::Pool;
use crate::shared::Shared;
use crate::simd::LANES;

/// Rows that a task works on together, about: what is prepared of them stays in the second cache while weights pass by.
const TASK_ROWS: usize = 96;
/// Panels whose outputs are finished together: long runs for `finish`, short enough to be in the cache still.
const FINISH_PANELS: usize = 8;
/// Prepared rows up to this many bytes are reread for each panel, so that weights are read once and in order.
const FEW_ROWS_BYTES: usize = 256 << 10;
/// From this many prepared words on, all threads prepare.
const SHARED_PREPARATION: usize = 1 << 14;
/// The most sums of a tile.
const MOST_SUMS: usize = 12 * 2 * LANES;
/// The least work for a task, in weights read (each counting more with the rows): about 5 microseconds.
const TASK_WEIGHTS: usize = 1 << 15;

/// Packed weights and what a product does with them. Outputs come in panels of [`LANES`].
pub(crate) trait Kernel: Sync {
    fn outputs(&self) -> usize;
    fn inputs(&self) -> usize;

    /// The most rows and panels of a tile.
    fn shape(&self, set: Set, rows: usize) -> (usize, usize);

    /// Inputs of one step, after which sums leave the registers.
    fn depth(&self) -> usize;

    /// Words that a prepared row takes.
    fn prepared(&self, set: Set) -> usize;

    /// Prepares `rows` rows of `x`, which begin `stride` apart, for `tile`.
    fn prepare(&self, set: Set, rows: usize, x: &[f32], stride: usize, prepared: &mut [u32]);

    /// Products of prepared rows with panels, for the inputs of one step: added to `y`, or put there by the first step.
    ///
    /// # Safety
    /// Every part of `tile` must be inside of what it points to, and nobody else may use its part of `y`.
    unsafe fn tile(&self, set: Set, tile: &Tile);
}

/// A part of a product: `rows` rows, `panels` panels from `panel` on, the inputs from `step * depth` on.
pub(crate) struct Tile {
    pub rows: usize,
    /// Which of how many tiles it is that use the same weights one after the other.
    pub turn: usize,
    pub turns: usize,
    /// What `prepare` made of these rows.
    pub x: *const u32,
    pub panel: usize,
    pub panels: usize,
    pub step: usize,
    /// The first output of the first row; `panels * LANES` may be written in each row, which are `stride` apart.
    pub y: *mut f32,
    pub stride: usize,
}

/// `kernel`'s product with the rows of `x`, which begin a stride apart; see [`super::Matrix::multiply`].
pub(crate) fn multiply(
    set: Set,
    pool: &Pool,
    kernel: &dyn Kernel,
    (x, stride): (&[f32], usize),
    y: &mut [f32],
    finish: &Finish,
) {
    let rows = y.len() / kernel.outputs().max(1);
    if rows == 0 {
        return;
    }
    let plan = Plan::new(set, pool.threads(), kernel, rows);
    let words = plan.words;
    let mut scratch = SCRATCH.take();
    if scratch.len() < rows * words {
        scratch = Buffer::zeroed(rows * words);
    }
    let prepared = Shared::new(&mut scratch);
    let prepare = |blocks: Range<usize>| {
        for block in blocks {
            let rows = plan.rows_of(block);
            // SAFETY: blocks of rows do not overlap.
            let prepared = unsafe { prepared.part(rows.start * words, rows.len() * words) };
            kernel.prepare(set, rows.len(), &x[rows.start * stride..], stride, prepared);
        }
    };
    if rows * words < SHARED_PREPARATION {
        prepare(0..plan.blocks);
    } else {
        pool.run(plan.row_parts, &|part| prepare(plan.blocks_of(part)));
    }
    let part = Part {
        set,
        kernel,
        plan: &plan,
        prepared: &scratch[..rows * words],
        y: Shared::new(y),
        finish,
    };
    pool.run(plan.row_parts * plan.column_parts, &|task| {
        part.run(
            plan.blocks_of(task / plan.column_parts),
            plan.panels_of(task % plan.column_parts),
        );
    });
    SCRATCH.set(scratch);
}

pub(crate) type Finish<'a> = dyn Fn(usize, usize, &mut [f32]) + Sync + 'a;

thread_local! {
    /// Room for prepared rows, kept from product to product.
    static SCRATCH: Cell<Buffer<u32>> = Cell::new(Buffer::zeroed(0));
}

/// The cut of a product: blocks of rows (a tile's), parts of neighbouring blocks, parts of neighbouring panels.
struct Plan {
    rows: usize,
    blocks: usize,
    row_parts: usize,
    outputs: usize,
    /// Panels that a tile takes at once.
    group: usize,
    groups: usize,
    column_parts: usize,
    /// Whether a panel is used for all inputs before the next is.
    by_panel: bool,
    steps: usize,
    /// Words of a prepared row.
    words: usize,
}

/// Where the `index`-th of `parts` about equal parts of `total` begins.
fn start_of(total: usize, parts: usize, index: usize) -> usize {
    total / parts * index + index.min(total % parts)
}

impl Plan {
    fn new(set: Set, threads: usize, kernel: &dyn Kernel, rows: usize) -> Self {
        let (most_rows, group) = kernel.shape(set, rows);
        let words = kernel.prepared(set);
        let outputs = kernel.outputs();
        let groups = outputs.div_ceil(LANES * group);
        let blocks = rows.div_ceil(most_rows);
        let row_parts = blocks.div_ceil(TASK_ROWS.div_ceil(most_rows));
        let work = outputs * kernel.inputs() * (8 + rows) / 8;
        // Some tasks for each thread, so that none waits long for the last one.
        let wanted = (threads * 8).min(work / TASK_WEIGHTS).max(1);
        let column_parts = if threads == 1 {
            1
        } else {
            wanted.div_ceil(row_parts).min(groups)
        };
        Self {
            rows,
            blocks,
            row_parts,
            outputs,
            group,
            groups,
            column_parts,
            by_panel: rows * words * size_of::<u32>() <= FEW_ROWS_BYTES,
            steps: kernel.inputs().div_ceil(kernel.depth()).max(1),
            words,
        }
    }

    fn rows_of(&self, block: usize) -> Range<usize> {
        start_of(self.rows, self.blocks, block)..start_of(self.rows, self.blocks, block + 1)
    }

    fn blocks_of(&self, part: usize) -> Range<usize> {
        start_of(self.blocks, self.row_parts, part)..start_of(self.blocks, self.row_parts, part + 1)
    }

    fn panels_of(&self, part: usize) -> Range<usize> {
        let at = |part| self.group * start_of(self.groups, self.column_parts, part);
        at(part)..at(part + 1).min(self.outputs.div_ceil(LANES))
    }
}

/// What tasks share: each does some blocks of rows with some panels.
struct Part<'a> {
    set: Set,
    kernel: &'a dyn Kernel,
    plan: &'a Plan,
    prepared: &'a [u32],
    y: Shared<'a, f32>,
    finish: &'a Finish<'a>,
}

impl Part<'_> {
    fn run(&self, blocks: Range<usize>, panels: Range<usize>) {
        let finish_panels = FINISH_PANELS.next_multiple_of(self.plan.group);
        let mut first = panels.start;
        while first < panels.end {
            let panels = first..(first + finish_panels).min(panels.end);
            let groups = panels.len().div_ceil(self.plan.group);
            let (outer, inner) = if self.plan.by_panel {
                (groups, self.plan.steps)
            } else {
                (self.plan.steps, groups)
            };
            for outer in 0..outer {
                for inner in 0..inner {
                    let (group, step) = if self.plan.by_panel {
                        (outer, inner)
                    } else {
                        (inner, outer)
                    };
                    let panel = panels.start + group * self.plan.group;
                    let count = self.plan.group.min(panels.end - panel);
                    for turn in 0..blocks.len() {
                        self.tile(&blocks, turn, (panel, count), step);
                    }
                }
            }
            let output = panels.start * LANES;
            let length = (panels.end * LANES).min(self.plan.outputs) - output;
            for row in self.plan.rows_of(blocks.start).start..self.plan.rows_of(blocks.end - 1).end
            {
                // SAFETY: no other task has these outputs of these rows.
                let values = unsafe { self.y.part(row * self.plan.outputs + output, length) };
                (self.finish)(row, output, values);
            }
            first = panels.end;
        }
    }

    fn tile(
        &self,
        blocks: &Range<usize>,
        turn: usize,
        (panel, panels): (usize, usize),
        step: usize,
    ) {
        let rows = self.plan.rows_of(blocks.start + turn);
        let stride = self.plan.outputs;
        let output = panel * LANES;
        let width = (panels * LANES).min(stride - output);
        let mut tile = Tile {
            rows: rows.len(),
            turn,
            turns: blocks.len(),
            x: self.prepared[rows.start * self.plan.words..].as_ptr(),
            panel,
            panels,
            step,
            y: self.y.at(rows.start * stride + output),
            stride,
        };
        if width == panels * LANES {
            // SAFETY: the tile is inside of `x` and `y`, and no other task has it.
            unsafe { self.kernel.tile(self.set, &tile) };
            return;
        }
        // The last panel is wider than what is left of the outputs.
        let mut wide = [0.0; MOST_SUMS];
        let wide_stride = panels * LANES;
        if step > 0 {
            for (row, wide) in rows.clone().zip(wide.chunks_exact_mut(wide_stride)) {
                // SAFETY: no other task has these outputs of these rows.
                wide[..width].copy_from_slice(unsafe { self.y.part(row * stride + output, width) });
            }
        }
        tile.y = wide.as_mut_ptr();
        tile.stride = wide_stride;
        // SAFETY: as above, with `wide` for `y`.
        unsafe { self.kernel.tile(self.set, &tile) };
        for (row, wide) in rows.zip(wide.chunks_exact(wide_stride)) {
            // SAFETY: as above.
            unsafe { self.y.part(row * stride + output, width) }.copy_from_slice(&wide[..width]);
        }
    }
}
