//! Attention of every frame to every frame, without a table of all scores.
//!
//! Scores are made, and used up, for a block of queries and a block of keys at a time (arXiv 2205.14135), in the first
//! cache. Queries lie side by side in the vectors, so that a softmax's maxima and sums need no work across lanes.

use super::chunks;
use crate::isa::{BASELINE_FMA, Isa, isa, multiply_add};
use crate::math::exp2;
use crate::pool::Pool;

/// Keys, or channels of the values, that one run of the inner loop treats: beside two vectors of queries that fills sixteen
/// registers.
const TALL: usize = 6;
/// Keys of a block.
const KEYS: usize = 32 * TALL;

/// Heads of an attention, and channels of each.
#[derive(Clone, Copy)]
pub(crate) struct Heads {
    pub count: usize,
    pub width: usize,
}

impl Heads {
    /// Channels of a head's values, filled up to whole tiles.
    fn tall(self) -> usize {
        self.width.next_multiple_of(TALL)
    }

    /// What a block of a head's keys and values takes.
    fn block(self) -> usize {
        KEYS * (self.width + self.tall())
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
    /// Writes `[frames, channels]` into `mixed` for `inputs` `[frames, 3 channels]`, which are queries, keys and values.
    pub(crate) fn run(&mut self, pool: &Pool, inputs: &[f32], mixed: &mut [f32], heads: Heads) {
        self.pack(pool, inputs, heads);
        let packed = self.packed.as_slice();
        let wide = match isa() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => 32,
            _ => 16,
        };
        chunks(pool, mixed, wide * heads.channels(), &|index, mixed| {
            let first = wide * index;
            match isa() {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the processor has the instructions.
                Isa::Avx512 => unsafe { mix_avx512(inputs, packed, first, mixed, heads) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the processor has the instructions.
                Isa::Avx2 => unsafe { mix_avx2(inputs, packed, first, mixed, heads) },
                Isa::Baseline => mix::<BASELINE_FMA, 16>(inputs, packed, first, mixed, heads),
            }
        });
    }

    /// Brings keys and values into the order in which they are read: four keys' channel after channel, and four channels of
    /// all values of a block.
    fn pack(&mut self, pool: &Pool, inputs: &[f32], heads: Heads) {
        let Heads { count, width } = heads;
        let channels = heads.channels();
        let frames = inputs.len() / (3 * channels);
        let blocks = frames.div_ceil(KEYS);
        self.packed.resize(count * blocks * heads.block(), 0.0);
        chunks(pool, &mut self.packed, heads.block(), &|index, packed| {
            let (head, first) = (index / blocks, index % blocks * KEYS);
            let (keys, values) = packed.split_at_mut(KEYS * width);
            for frame in first..frames.min(first + KEYS) {
                let input = &inputs[frame * 3 * channels..(frame + 1) * 3 * channels];
                let key = &input[channels + head * width..][..width];
                let value = &input[2 * channels + head * width..][..width];
                let (tile, lane) = ((frame - first) / TALL, (frame - first) % TALL);
                for (to, from) in keys[tile * TALL * width..].chunks_exact_mut(TALL).zip(key) {
                    to[lane] = *from;
                }
                for (to, from) in values.chunks_exact_mut(KEYS * TALL).zip(value.chunks(TALL)) {
                    to[(frame - first) * TALL..][..from.len()].copy_from_slice(from);
                }
            }
        });
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
fn mix_avx512(inputs: &[f32], packed: &[f32], first: usize, mixed: &mut [f32], heads: Heads) {
    mix::<true, 32>(inputs, packed, first, mixed, heads);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn mix_avx2(inputs: &[f32], packed: &[f32], first: usize, mixed: &mut [f32], heads: Heads) {
    mix::<true, 16>(inputs, packed, first, mixed, heads);
}

/// What the queries of at most `WIDE` frames from `first` on find.
#[inline(always)]
fn mix<const FMA: bool, const WIDE: usize>(
    inputs: &[f32],
    packed: &[f32],
    first: usize,
    mixed: &mut [f32],
    heads: Heads,
) {
    let Heads { count, width } = heads;
    let channels = heads.channels();
    let frames = inputs.len() / (3 * channels);
    let scale = std::f32::consts::LOG2_E / (width as f32).sqrt();
    let mut queries = vec![[0.0; WIDE]; width];
    let mut scores = [[0.0; WIDE]; KEYS];
    let mut found = vec![[0.0; WIDE]; heads.tall()];
    for head in 0..count {
        for (lane, input) in inputs[first * 3 * channels..]
            .chunks_exact(3 * channels)
            .take(WIDE)
            .enumerate()
        {
            for (query, value) in queries.iter_mut().zip(&input[head * width..]) {
                query[lane] = value * scale;
            }
        }
        found.fill([0.0; WIDE]);
        let mut greatest = [f32::NEG_INFINITY; WIDE];
        let mut sums = [0.0; WIDE];
        let blocks = frames.div_ceil(KEYS);
        let of_head = &packed[head * blocks * heads.block()..][..blocks * heads.block()];
        for (block, packed) in of_head.chunks_exact(heads.block()).enumerate() {
            let keys = KEYS.min(frames - block * KEYS);
            let (packed_keys, packed_values) = packed.split_at(KEYS * width);
            for (scores, tile) in scores[..keys.next_multiple_of(TALL)]
                .as_chunks_mut::<TALL>()
                .0
                .iter_mut()
                .zip(packed_keys.chunks_exact(TALL * width))
            {
                *scores = outer::<FMA, WIDE>(tile.as_chunks().0, &queries, [[0.0; WIDE]; TALL]);
            }
            let scores = &mut scores[..keys];
            let shrink = weigh::<FMA, WIDE>(scores, &mut greatest, &mut sums);
            for (found, values) in found
                .as_chunks_mut::<TALL>()
                .0
                .iter_mut()
                .zip(packed_values.chunks_exact(KEYS * TALL))
            {
                for row in found.iter_mut() {
                    for (found, shrink) in row.iter_mut().zip(&shrink) {
                        *found *= shrink;
                    }
                }
                *found = outer::<FMA, WIDE>(values.as_chunks().0, scores, *found);
            }
        }
        for found in &mut found {
            for (found, sum) in found.iter_mut().zip(&sums) {
                *found /= sum;
            }
        }
        for (lane, mixed) in mixed.chunks_exact_mut(channels).enumerate() {
            for (to, found) in mixed[head * width..][..width].iter_mut().zip(&found) {
                *to = found[lane];
            }
        }
    }
}

/// `sums + sum of a_k b_k^T`: all that is heavy here.
#[inline(always)]
fn outer<const FMA: bool, const WIDE: usize>(
    a: &[[f32; TALL]],
    b: &[[f32; WIDE]],
    mut sums: [[f32; WIDE]; TALL],
) -> [[f32; WIDE]; TALL] {
    for (a, b) in a.iter().zip(b) {
        for (sums, a) in sums.iter_mut().zip(a) {
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum = multiply_add::<FMA>(*a, *b, *sum);
            }
        }
    }
    sums
}

/// Turns scores, which are logarithms to base 2, into weights relative to the greatest so far. Gives the factor by which
/// whatever was found with the greatest before shrinks.
#[inline(always)]
fn weigh<const FMA: bool, const WIDE: usize>(
    scores: &mut [[f32; WIDE]],
    greatest: &mut [f32; WIDE],
    sums: &mut [f32; WIDE],
) -> [f32; WIDE] {
    let mut now = *greatest;
    for scores in scores.iter() {
        for (now, score) in now.iter_mut().zip(scores) {
            *now = if *score > *now { *score } else { *now };
        }
    }
    let mut shrink = [0.0; WIDE];
    for lane in 0..WIDE {
        shrink[lane] = exp2::<FMA>(greatest[lane] - now[lane]);
        sums[lane] *= shrink[lane];
    }
    let mut total = *sums;
    for scores in scores {
        for lane in 0..WIDE {
            scores[lane] = exp2::<FMA>(scores[lane] - now[lane]);
            total[lane] += scores[lane];
        }
    }
    *greatest = now;
    *sums = total;
    shrink
}
