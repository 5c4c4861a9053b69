//! Attention of every frame to every frame without the matrix of all scores (`FlashAttention`, arXiv 2205.14135).
//!
//! Scores are computed and used for a block of queries and a block of keys at a time, in the first-level cache. The lanes of a
//! vector are queries, so that the maxima and sums of the softmax need no work across lanes.

use super::chunks;
use crate::isa::{BASELINE_FMA, Isa, isa, multiply_add};
use crate::math::exp2;
use crate::pool::Pool;

/// Keys, or channels of values, of a tile of the inner loop: with two vectors of queries it fills sixteen registers.
const TILE: usize = 6;
/// Keys of a block.
const BLOCK_KEYS: usize = 32 * TILE;

/// Heads of an attention, and channels of each.
#[derive(Clone, Copy)]
pub(crate) struct Heads {
    pub count: usize,
    pub width: usize,
}

impl Heads {
    /// Channels of a head's values, filled up to whole tiles.
    fn padded_width(self) -> usize {
        self.width.next_multiple_of(TILE)
    }

    /// Elements of a packed block of a head's keys and values.
    fn block(self) -> usize {
        BLOCK_KEYS * (self.width + self.padded_width())
    }

    /// Channels of all heads.
    pub(crate) fn channels(self) -> usize {
        self.count * self.width
    }
}

/// Memory that is kept from call to call.
#[derive(Default)]
pub(crate) struct Attention {
    /// By head and block of keys: its keys, then its values.
    packed: Vec<f32>,
}

impl Attention {
    /// Writes `[frames, channels]` into `out` for `inputs` `[frames, 3 channels]`, which are queries, keys and values.
    pub(crate) fn run(&mut self, pool: &Pool, inputs: &[f32], out: &mut [f32], heads: Heads) {
        self.pack(pool, inputs, heads);
        let packed = self.packed.as_slice();
        let queries_per_task = match isa() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => 32,
            _ => 16,
        };
        chunks(
            pool,
            out,
            queries_per_task * heads.channels(),
            &|index, out| {
                let first = queries_per_task * index;
                match isa() {
                    #[cfg(target_arch = "x86_64")]
                    // SAFETY: the processor has the instructions.
                    Isa::Avx512 => unsafe { attend_avx512(inputs, packed, first, out, heads) },
                    #[cfg(target_arch = "x86_64")]
                    // SAFETY: the processor has the instructions.
                    Isa::Avx2 => unsafe { attend_avx2(inputs, packed, first, out, heads) },
                    Isa::Baseline => attend::<BASELINE_FMA, 16>(inputs, packed, first, out, heads),
                }
            },
        );
    }

    /// Packs keys and values in the order in which the inner loop reads them: keys `[tile][channel][TILE]`, values
    /// `[tile][key][TILE]`, where a tile of values is of channels.
    fn pack(&mut self, pool: &Pool, inputs: &[f32], heads: Heads) {
        let Heads { count, width } = heads;
        let channels = heads.channels();
        let frames = inputs.len() / (3 * channels);
        let blocks = frames.div_ceil(BLOCK_KEYS);
        self.packed.resize(count * blocks * heads.block(), 0.0);
        chunks(pool, &mut self.packed, heads.block(), &|index, packed| {
            let (head, first) = (index / blocks, index % blocks * BLOCK_KEYS);
            let (keys, values) = packed.split_at_mut(BLOCK_KEYS * width);
            for frame in first..frames.min(first + BLOCK_KEYS) {
                let input = &inputs[frame * 3 * channels..(frame + 1) * 3 * channels];
                let key = &input[channels + head * width..][..width];
                let value = &input[2 * channels + head * width..][..width];
                let (tile, lane) = ((frame - first) / TILE, (frame - first) % TILE);
                for (to, from) in keys[tile * TILE * width..].chunks_exact_mut(TILE).zip(key) {
                    to[lane] = *from;
                }
                for (to, from) in values
                    .chunks_exact_mut(BLOCK_KEYS * TILE)
                    .zip(value.chunks(TILE))
                {
                    to[(frame - first) * TILE..][..from.len()].copy_from_slice(from);
                }
            }
        });
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
fn attend_avx512(inputs: &[f32], packed: &[f32], first: usize, out: &mut [f32], heads: Heads) {
    attend::<true, 32>(inputs, packed, first, out, heads);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn attend_avx2(inputs: &[f32], packed: &[f32], first: usize, out: &mut [f32], heads: Heads) {
    attend::<true, 16>(inputs, packed, first, out, heads);
}

/// The attention of the queries of at most `QUERIES` frames from `first` on, written to `out`.
#[inline(always)]
fn attend<const FMA: bool, const QUERIES: usize>(
    inputs: &[f32],
    packed: &[f32],
    first: usize,
    out: &mut [f32],
    heads: Heads,
) {
    let Heads { count, width } = heads;
    let channels = heads.channels();
    let frames = inputs.len() / (3 * channels);
    let scale = std::f32::consts::LOG2_E / (width as f32).sqrt();
    let mut queries = vec![[0.0; QUERIES]; width];
    let mut scores = [[0.0; QUERIES]; BLOCK_KEYS];
    let mut acc = vec![[0.0; QUERIES]; heads.padded_width()];
    for head in 0..count {
        for (lane, input) in inputs[first * 3 * channels..]
            .chunks_exact(3 * channels)
            .take(QUERIES)
            .enumerate()
        {
            for (query, value) in queries.iter_mut().zip(&input[head * width..]) {
                query[lane] = value * scale;
            }
        }
        acc.fill([0.0; QUERIES]);
        let mut max_score = [f32::NEG_INFINITY; QUERIES];
        let mut sums = [0.0; QUERIES];
        let blocks = frames.div_ceil(BLOCK_KEYS);
        let of_head = &packed[head * blocks * heads.block()..][..blocks * heads.block()];
        for (block, packed) in of_head.chunks_exact(heads.block()).enumerate() {
            let keys = BLOCK_KEYS.min(frames - block * BLOCK_KEYS);
            let (packed_keys, packed_values) = packed.split_at(BLOCK_KEYS * width);
            for (scores, tile) in scores[..keys.next_multiple_of(TILE)]
                .as_chunks_mut::<TILE>()
                .0
                .iter_mut()
                .zip(packed_keys.chunks_exact(TILE * width))
            {
                *scores = accumulate_outer_products::<FMA, QUERIES>(
                    tile.as_chunks().0,
                    &queries,
                    [[0.0; QUERIES]; TILE],
                );
            }
            let scores = &mut scores[..keys];
            let correction = online_softmax::<FMA, QUERIES>(scores, &mut max_score, &mut sums);
            for (acc, values) in acc
                .as_chunks_mut::<TILE>()
                .0
                .iter_mut()
                .zip(packed_values.chunks_exact(BLOCK_KEYS * TILE))
            {
                for row in acc.iter_mut() {
                    for (acc, correction) in row.iter_mut().zip(&correction) {
                        *acc *= correction;
                    }
                }
                *acc =
                    accumulate_outer_products::<FMA, QUERIES>(values.as_chunks().0, scores, *acc);
            }
        }
        for acc in &mut acc {
            for (acc, sum) in acc.iter_mut().zip(&sums) {
                *acc /= sum;
            }
        }
        for (lane, out) in out.chunks_exact_mut(channels).enumerate() {
            for (to, acc) in out[head * width..][..width].iter_mut().zip(&acc) {
                *to = acc[lane];
            }
        }
    }
}

/// `sums + sum of a_k b_k^T`: nearly all of the time is spent here.
#[inline(always)]
fn accumulate_outer_products<const FMA: bool, const QUERIES: usize>(
    a: &[[f32; TILE]],
    b: &[[f32; QUERIES]],
    mut sums: [[f32; QUERIES]; TILE],
) -> [[f32; QUERIES]; TILE] {
    for (a, b) in a.iter().zip(b) {
        for (sums, a) in sums.iter_mut().zip(a) {
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum = multiply_add::<FMA>(*a, *b, *sum);
            }
        }
    }
    sums
}

/// Turns scores, which are logarithms to base 2, into weights relative to the largest score so far. Returns the factor that
/// corrects what was accumulated before.
#[inline(always)]
fn online_softmax<const FMA: bool, const QUERIES: usize>(
    scores: &mut [[f32; QUERIES]],
    max_score: &mut [f32; QUERIES],
    sums: &mut [f32; QUERIES],
) -> [f32; QUERIES] {
    let mut block_max = *max_score;
    for scores in scores.iter() {
        for (block_max, score) in block_max.iter_mut().zip(scores) {
            *block_max = if *score > *block_max {
                *score
            } else {
                *block_max
            };
        }
    }
    let mut correction = [0.0; QUERIES];
    for lane in 0..QUERIES {
        correction[lane] = exp2::<FMA>(max_score[lane] - block_max[lane]);
        sums[lane] *= correction[lane];
    }
    let mut total = *sums;
    for scores in scores {
        for lane in 0..QUERIES {
            scores[lane] = exp2::<FMA>(scores[lane] - block_max[lane]);
            total[lane] += scores[lane];
        }
    }
    *max_score = block_max;
    *sums = total;
    correction
}
