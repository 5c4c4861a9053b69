//! The loops around the micro-kernels: how a product is cut into tasks for the threads, and a task into tiles that stay in the
//! caches.

use std::cell::Cell;
use std::ops::Range;

use super::dots::Isas;
use crate::memory::Buffer;
use crate::pool::Pool;
use crate::shared::SharedSlice;
use crate::simd::LANES;

/// Rows of a task, about: packed, they stay in the second-level cache while weights pass by.
const TASK_ROWS: usize = 96;
/// Panels between two calls of the epilogue: long runs of outputs, short enough to be in the cache still.
const EPILOGUE_PANELS: usize = 8;
/// Packed rows up to this many bytes are read again for each panel, so that weights are read once and in order.
const RESIDENT_ROWS_BYTES: usize = 256 << 10;
/// From this many packed words on, all threads pack.
const PARALLEL_PACK_WORDS: usize = 1 << 14;
/// The most outputs of a tile.
const MAX_TILE: usize = 12 * 2 * LANES;
/// The least work for a task, in weights read (each counting more with the rows): about 5 microseconds.
const MIN_TASK_WORK: usize = 1 << 15;

/// Packed weights and the micro-kernel that multiplies by them. Their outputs are in panels of [`LANES`].
pub(crate) trait Kernel: Sync {
    /// Columns of the product.
    fn outputs(&self) -> usize;
    /// Depth of the product, `k`.
    fn inputs(&self) -> usize;

    /// The most rows and panels of a tile, for a product of `rows` rows.
    fn tile_shape(&self, isas: Isas, rows: usize) -> (usize, usize);

    /// The depth of a block of `k`, after which the accumulators leave the registers.
    fn block_depth(&self) -> usize;

    /// Words of a packed row.
    fn packed_words(&self, isas: Isas) -> usize;

    /// Packs `rows` rows of `x`, which begin `stride` apart, for `micro_kernel`.
    fn pack_a(&self, isas: Isas, rows: usize, x: &[f32], stride: usize, packed: &mut [u32]);

    /// Multiplies packed rows by panels over one block of `k`: writes the products to `y` for the first block, and adds them
    /// for the others.
    ///
    /// # Safety
    /// Every part of `tile` must be inside of what it points to, and no other thread may use its part of `y`.
    unsafe fn micro_kernel(&self, isas: Isas, tile: &Tile);
}

/// A part of a product: `rows` rows by `panels` panels from `panel` on, over the block of `k` numbered `block`.
pub(crate) struct Tile {
    pub rows: usize,
    /// Its number among the `reuses` tiles that use the same weights one after the other.
    pub reuse: usize,
    pub reuses: usize,
    /// The rows as packed by `pack_a`.
    pub x: *const u32,
    pub panel: usize,
    pub panels: usize,
    pub block: usize,
    /// The first output of the first row; rows are `stride` apart, and `panels * LANES` outputs of each may be written.
    pub y: *mut f32,
    pub stride: usize,
}

/// `epilogue(row, first output, outputs)`
pub(crate) type Epilogue<'a> = dyn Fn(usize, usize, &mut [f32]) + Sync + 'a;

/// Multiplies the rows of `x`, which begin a stride apart, by the weights of `kernel`; see [`super::Matrix::multiply`].
pub(crate) fn multiply(
    isas: Isas,
    pool: &Pool,
    kernel: &dyn Kernel,
    (x, stride): (&[f32], usize),
    y: &mut [f32],
    epilogue: &Epilogue,
) {
    let rows = y.len() / kernel.outputs().max(1);
    if rows == 0 {
        return;
    }
    let plan = Plan::new(isas, pool.threads(), kernel, rows);
    let words = plan.packed_words;
    let mut scratch = SCRATCH.take();
    if scratch.len() < rows * words {
        scratch = Buffer::zeroed(rows * words);
    }
    let packed = SharedSlice::new(&mut scratch);
    let pack = |strips: Range<usize>| {
        for strip in strips {
            let rows = plan.rows_of(strip);
            // SAFETY: strips of rows do not overlap.
            let packed = unsafe { packed.slice(rows.start * words, rows.len() * words) };
            kernel.pack_a(isas, rows.len(), &x[rows.start * stride..], stride, packed);
        }
    };
    if rows * words < PARALLEL_PACK_WORDS {
        pack(0..plan.strips);
    } else {
        pool.run(plan.row_parts, &|part| pack(plan.strips_of(part)));
    }
    let job = Job {
        isas,
        kernel,
        plan: &plan,
        packed: &scratch[..rows * words],
        y: SharedSlice::new(y),
        epilogue,
    };
    pool.run(plan.row_parts * plan.column_parts, &|task| {
        job.run(
            plan.strips_of(task / plan.column_parts),
            plan.panels_of(task % plan.column_parts),
        );
    });
    SCRATCH.set(scratch);
}

thread_local! {
    /// Packed rows, kept from product to product.
    static SCRATCH: Cell<Buffer<u32>> = Cell::new(Buffer::zeroed(0));
}

/// How a product is cut. Rows: strips (of a tile's height), and parts of neighbouring strips. Columns: panels, groups of panels
/// (of a tile's width), and parts of neighbouring groups. A task is a part of the rows by one of the columns.
struct Plan {
    rows: usize,
    strips: usize,
    row_parts: usize,
    outputs: usize,
    /// Panels of a tile.
    group: usize,
    groups: usize,
    column_parts: usize,
    /// Whether the loop over groups of panels is outside of that over the blocks of `k`.
    panels_outside: bool,
    /// Blocks of `k`.
    blocks: usize,
    packed_words: usize,
}

/// Where the `index`-th of `parts` about equal parts of `total` begins.
fn part_start(total: usize, parts: usize, index: usize) -> usize {
    total / parts * index + index.min(total % parts)
}

impl Plan {
    fn new(isas: Isas, threads: usize, kernel: &dyn Kernel, rows: usize) -> Self {
        let (tile_rows, group) = kernel.tile_shape(isas, rows);
        let packed_words = kernel.packed_words(isas);
        let outputs = kernel.outputs();
        let groups = outputs.div_ceil(LANES * group);
        let strips = rows.div_ceil(tile_rows);
        let row_parts = strips.div_ceil(TASK_ROWS.div_ceil(tile_rows));
        let work = outputs * kernel.inputs() * (8 + rows) / 8;
        // Some tasks for each thread, so that none waits long for the last one.
        let wanted = (threads * 8).min(work / MIN_TASK_WORK).max(1);
        let column_parts = if threads == 1 {
            1
        } else {
            wanted.div_ceil(row_parts).min(groups)
        };
        Self {
            rows,
            strips,
            row_parts,
            outputs,
            group,
            groups,
            column_parts,
            panels_outside: rows * packed_words * size_of::<u32>() <= RESIDENT_ROWS_BYTES,
            blocks: kernel.inputs().div_ceil(kernel.block_depth()).max(1),
            packed_words,
        }
    }

    fn rows_of(&self, strip: usize) -> Range<usize> {
        part_start(self.rows, self.strips, strip)..part_start(self.rows, self.strips, strip + 1)
    }

    fn strips_of(&self, part: usize) -> Range<usize> {
        let start = |part| part_start(self.strips, self.row_parts, part);
        start(part)..start(part + 1)
    }

    fn panels_of(&self, part: usize) -> Range<usize> {
        let start = |part| self.group * part_start(self.groups, self.column_parts, part);
        start(part)..start(part + 1).min(self.outputs.div_ceil(LANES))
    }
}

/// State that the tasks of a product share.
struct Job<'a> {
    isas: Isas,
    kernel: &'a dyn Kernel,
    plan: &'a Plan,
    packed: &'a [u32],
    y: SharedSlice<'a, f32>,
    epilogue: &'a Epilogue<'a>,
}

impl Job<'_> {
    /// The task of some strips and some panels.
    fn run(&self, strips: Range<usize>, panels: Range<usize>) {
        let plan = self.plan;
        let epilogue_panels = EPILOGUE_PANELS.next_multiple_of(plan.group);
        let mut first = panels.start;
        while first < panels.end {
            let panels = first..(first + epilogue_panels).min(panels.end);
            let groups = panels.len().div_ceil(plan.group);
            let (outer, inner) = if plan.panels_outside {
                (groups, plan.blocks)
            } else {
                (plan.blocks, groups)
            };
            for outer in 0..outer {
                for inner in 0..inner {
                    let (group, block) = if plan.panels_outside {
                        (outer, inner)
                    } else {
                        (inner, outer)
                    };
                    let panel = panels.start + group * plan.group;
                    let count = plan.group.min(panels.end - panel);
                    for reuse in 0..strips.len() {
                        self.tile(&strips, reuse, (panel, count), block);
                    }
                }
            }
            let output = panels.start * LANES;
            let length = (panels.end * LANES).min(plan.outputs) - output;
            for row in plan.rows_of(strips.start).start..plan.rows_of(strips.end - 1).end {
                // SAFETY: no other task has these outputs of these rows.
                let outputs = unsafe { self.y.slice(row * plan.outputs + output, length) };
                (self.epilogue)(row, output, outputs);
            }
            first = panels.end;
        }
    }

    fn tile(
        &self,
        strips: &Range<usize>,
        reuse: usize,
        (panel, panels): (usize, usize),
        block: usize,
    ) {
        let rows = self.plan.rows_of(strips.start + reuse);
        let stride = self.plan.outputs;
        let output = panel * LANES;
        let width = (panels * LANES).min(stride - output);
        let mut tile = Tile {
            rows: rows.len(),
            reuse,
            reuses: strips.len(),
            x: self.packed[rows.start * self.plan.packed_words..].as_ptr(),
            panel,
            panels,
            block,
            y: self.y.pointer(rows.start * stride + output),
            stride,
        };
        if width == panels * LANES {
            // SAFETY: the tile is inside of `x` and `y`, and no other task has it.
            unsafe { self.kernel.micro_kernel(self.isas, &tile) };
            return;
        }
        // The last panel is wider than what is left of the outputs.
        let mut padded = [0.0; MAX_TILE];
        let padded_stride = panels * LANES;
        if block > 0 {
            for (row, padded) in rows.clone().zip(padded.chunks_exact_mut(padded_stride)) {
                // SAFETY: no other task has these outputs of these rows.
                let outputs = unsafe { self.y.slice(row * stride + output, width) };
                padded[..width].copy_from_slice(outputs);
            }
        }
        tile.y = padded.as_mut_ptr();
        tile.stride = padded_stride;
        // SAFETY: as above, with `padded` for `y`.
        unsafe { self.kernel.micro_kernel(self.isas, &tile) };
        for (row, padded) in rows.zip(padded.chunks_exact(padded_stride)) {
            // SAFETY: as above.
            let outputs = unsafe { self.y.slice(row * stride + output, width) };
            outputs.copy_from_slice(&padded[..width]);
        }
    }
}
