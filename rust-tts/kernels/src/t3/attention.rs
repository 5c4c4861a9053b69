//! Causal attention of new positions to those in the cache, which their keys and values are stored into.

use super::attention_kernels::{QUERIES, WeightedSum, softmax, store_position};
use super::cache::Cache;
use super::page::{OpenRow, PAGE};
use crate::Error;
use crate::pool::Pool;
use crate::shared::SharedSlice;

/// The most channels of a head.
pub(super) const MOST_CHANNELS: usize = 128;

/// Rotary embedding: cosines and sines of the angles of queries and keys, `[rows * new, channels / 2]` each.
pub(super) struct Rotation {
    pub cosines: Vec<f32>,
    pub sines: Vec<f32>,
}

impl Rotation {
    /// Rotates a head's channels (pairs are a channel of the first half and one of the second) as at the `index`-th position.
    fn rotate(&self, index: usize, channels: &mut [f32]) {
        let half = channels.len() / 2;
        let (first, second) = channels.split_at_mut(half);
        let angles = self.cosines[index * half..][..half]
            .iter()
            .zip(&self.sines[index * half..][..half]);
        for ((a, b), (cosine, sine)) in first.iter_mut().zip(second).zip(angles) {
            (*a, *b) = (*a * cosine - *b * sine, *b * cosine + *a * sine);
        }
    }
}

/// The rows of a cache while a pass adds `new` positions to each of them.
pub(super) struct Attention<'a> {
    rows: Vec<OpenRow<'a>>,
    starts: &'a [usize],
    new: usize,
    heads: usize,
    channels: usize,
}

/// State that the tasks of one layer share.
struct Task<'a> {
    layer: usize,
    projections: &'a [f32],
    rotation: Option<&'a Rotation>,
    attended: &'a SharedSlice<'a, f32>,
}

impl<'a> Attention<'a> {
    /// Makes room for the positions from `starts[i]` on in each of the rows from `first` on.
    pub(super) fn open(
        cache: &'a mut Cache,
        first: usize,
        starts: &'a [usize],
        new: usize,
    ) -> Result<Self, Error> {
        let shape = cache.shape();
        Ok(Self {
            rows: cache.open(first, starts, new)?,
            starts,
            new,
            heads: shape.heads,
            channels: shape.channels,
        })
    }

    /// Stores the keys and values of `layer`'s `projections` `[rows * new, 3 * width]` (queries, keys, values), and writes the
    /// attention of the queries to `attended` `[rows * new, width]`.
    pub(super) fn attend(
        &self,
        pool: &Pool,
        layer: usize,
        projections: &[f32],
        rotation: Option<&Rotation>,
        attended: &mut [f32],
    ) {
        let attended = SharedSlice::new(attended);
        let task = Task {
            layer,
            projections,
            rotation,
            attended: &attended,
        };
        let rows = self.rows.len();
        // The rows of a head follow each other: pages that they share are in the processor's cache then.
        pool.run(rows * self.heads, &|number| {
            self.head(&task, number % rows, number / rows);
        });
    }

    fn head(&self, task: &Task<'_>, row: usize, head: usize) {
        self.store(task, row, head);
        let end = self.starts[row] + self.new;
        let mut scores = vec![0.0; QUERIES.min(self.new) * end.next_multiple_of(PAGE)];
        let together = self.new - self.new % QUERIES;
        for first in (0..together).step_by(QUERIES) {
            self.queries::<QUERIES>(task, row, head, first, &mut scores);
        }
        for first in together..self.new {
            self.queries::<1>(task, row, head, first, &mut scores);
        }
    }

    /// A head's channels in the projections of the row's `index`-th new position: 0 = query, 1 = key, 2 = value.
    fn projection<'p>(
        &self,
        task: &Task<'p>,
        row: usize,
        head: usize,
        index: usize,
        which: usize,
    ) -> &'p [f32] {
        let position = (row * self.new + index) * 3 + which;
        &task.projections[(position * self.heads + head) * self.channels..][..self.channels]
    }

    fn store(&self, task: &Task<'_>, row: usize, head: usize) {
        let mut rotated = [0.0; MOST_CHANNELS];
        let rotated = &mut rotated[..self.channels];
        for index in 0..self.new {
            rotated.copy_from_slice(self.projection(task, row, head, index, 1));
            if let Some(rotation) = task.rotation {
                rotation.rotate(row * self.new + index, rotated);
            }
            let position = self.starts[row] + index;
            // SAFETY: the head's task is the only one that touches its part of the row, and nothing is borrowed of it.
            let page = unsafe { self.rows[row].store(task.layer, head, position / PAGE) };
            let value = self.projection(task, row, head, index, 2);
            store_position(position % PAGE, rotated, value, page);
        }
    }

    /// `Q` queries from the row's `first` new position on; each sees the positions up to its own.
    fn queries<const Q: usize>(
        &self,
        task: &Task<'_>,
        row: usize,
        head: usize,
        first: usize,
        scores: &mut [f32],
    ) {
        let channels = self.channels;
        let mut rotated = [0.0; QUERIES * MOST_CHANNELS];
        let scale = 1.0 / (channels as f32).sqrt();
        for (query, rotated) in rotated.chunks_exact_mut(channels).take(Q).enumerate() {
            rotated.copy_from_slice(self.projection(task, row, head, first + query, 0));
            if let Some(rotation) = task.rotation {
                rotation.rotate(row * self.new + first + query, rotated);
            }
            for channel in rotated {
                *channel *= scale;
            }
        }
        let seen = self.starts[row] + first + 1;
        let last = seen + Q - 1;
        let stride = last.next_multiple_of(PAGE);
        let scores = &mut scores[..Q * stride];
        scores.fill(0.0);
        let pages = last.div_ceil(PAGE);
        // SAFETY: the head's task is the only one that touches its part of the row, and has stored what it stores.
        let keys = |page| unsafe { self.rows[row].keys(task.layer, head, page) };
        // SAFETY: as for the keys.
        let values = |page| unsafe { self.rows[row].values(task.layer, head, page) };
        for page in 0..pages {
            let scores = &mut scores[page * PAGE..];
            WeightedSum::<Q> {
                factors: &rotated,
                factor_stride: channels,
                count: channels,
                matrix: keys(page),
                next: if page + 1 < pages {
                    keys(page + 1)
                } else {
                    values(0)
                },
                lanes: PAGE,
                out: scores,
                out_stride: stride,
            }
            .add();
        }
        for (query, scores) in scores.chunks_exact_mut(stride).enumerate() {
            let (seen, hidden) = scores.split_at_mut(seen + query);
            softmax(seen);
            hidden.fill(0.0);
        }
        let mut sums = [0.0; QUERIES * MOST_CHANNELS];
        for page in 0..pages {
            let count = (last - page * PAGE).min(PAGE);
            let weights = &scores[page * PAGE..];
            WeightedSum::<Q> {
                factors: weights,
                factor_stride: stride,
                count,
                matrix: values(page),
                next: values((page + 1).min(pages - 1)),
                lanes: channels,
                out: &mut sums,
                out_stride: channels,
            }
            .add();
        }
        for (query, sums) in sums.chunks_exact(channels).take(Q).enumerate() {
            let position = row * self.new + first + query;
            let start = (position * self.heads + head) * channels;
            // SAFETY: no two heads have a channel in common.
            unsafe { task.attended.slice(start, channels) }.copy_from_slice(sums);
        }
    }
}
