//! Attention of quantised queries to packed keys and values.

use super::softmax::Softmax;
use super::{BLOCK_KEYS, Layout, TILE, pack};
use crate::matrix::dots::{DOT, DOT_BYTES, DotTask, Dots, MAX_PAIR_SUM, PAIR};
use crate::matrix::quantize::{Absmax, PAIR_DEPTH, inverse};
use crate::simd::{LANES, Simd};

const _: () = assert!(size_of::<[u32; LANES]>() == DOT_BYTES);

/// The attention of the queries of at most [`LANES`] frames from `first` on, written to `out`.
pub(super) struct Attend<'a> {
    pub layout: Layout,
    pub inputs: &'a [f32],
    pub packed: &'a [u32],
    pub first: usize,
    pub out: &'a mut [f32],
}

/// A head's queries.
struct Queries {
    /// `[dot][LANES]`
    words: Vec<[u32; LANES]>,
    /// Initial values of the products, which correct for the keys' zero point.
    start: [i32; LANES],
    /// Each query's scale, with the softmax's own, to base 2.
    score_scales: [f32; LANES],
}

impl DotTask for Attend<'_> {
    #[inline(always)]
    fn run<D: Dots>(self) {
        let layout = self.layout;
        let (width, channels) = (layout.heads.width, layout.heads.channels());
        let mut scores = vec![[0.0; LANES]; BLOCK_KEYS];
        let mut weights = vec![[0; LANES]; BLOCK_KEYS / DOT];
        let mut acc = vec![[0.0; LANES]; layout.padded_width()];
        for head in 0..layout.heads.count {
            let queries = self.queries::<D>(head);
            acc.fill([0.0; LANES]);
            let mut softmax = Softmax::new();
            let of_head = layout.blocks() * layout.block();
            let blocks = self.packed[head * of_head..][..of_head].chunks_exact(layout.block());
            for (block, packed) in blocks.enumerate() {
                let count = BLOCK_KEYS.min(layout.frames - block * BLOCK_KEYS);
                let (keys, rest) = packed.split_at(layout.keys());
                let (values, scales) = rest.split_at(layout.values());
                queries.score::<D>(keys, &mut scores[..count.next_multiple_of(TILE)]);
                let scale = f32::from_bits(scales[0]);
                let score_scales = queries.score_scales.map(
                    #[inline(always)]
                    |query| query * scale,
                );
                let weights = &mut weights[..count.div_ceil(PAIR_DEPTH) * PAIR];
                let correction = softmax.add::<D>(&scores[..count], &score_scales, weights);
                accumulate::<D>(values, &scales[1..], weights, &correction, &mut acc);
            }
            for acc in &mut acc {
                for (acc, sum) in acc.iter_mut().zip(&softmax.sums) {
                    *acc /= sum;
                }
            }
            for (lane, out) in self.out.chunks_exact_mut(channels).enumerate() {
                for (to, acc) in out[head * width..][..width].iter_mut().zip(&acc) {
                    *to = acc[lane];
                }
            }
        }
    }
}

impl Attend<'_> {
    #[inline(always)]
    fn queries<D: Dots>(&self, head: usize) -> Queries {
        let heads = self.layout.heads;
        let channels = heads.channels();
        let dots = self.layout.dots();
        let mut transposed = vec![[0.0; LANES]; dots * DOT];
        let rows = self.inputs[self.first * 3 * channels..].chunks_exact(3 * channels);
        for (lane, row) in rows.take(LANES).enumerate() {
            for (lanes, value) in transposed
                .iter_mut()
                .zip(&row[head * heads.width..][..heads.width])
            {
                lanes[lane] = *value;
            }
        }
        let mut absmax = Absmax::ZERO;
        for transposed in transposed.as_chunks::<PAIR_DEPTH>().0 {
            absmax.update(transposed.each_ref());
        }
        let score_scales = absmax.scales(MAX_PAIR_SUM);
        let inverses = score_scales.map(inverse);
        let mut words = vec![[0; LANES]; dots];
        let mut start = [0; LANES];
        for (words, transposed) in words.iter_mut().zip(transposed.as_chunks::<DOT>().0) {
            *words = pack::words(transposed.each_ref(), &inverses);
            for (start, word) in start.iter_mut().zip(words) {
                let word = word.cast_signed();
                *start -=
                    (word << 24 >> 24) + (word << 16 >> 24) + (word << 8 >> 24) + (word >> 24);
            }
        }
        let to_base_2 = std::f32::consts::LOG2_E / (heads.width as f32).sqrt();
        Queries {
            words,
            start: start.map(
                #[inline(always)]
                |sum| sum * i32::from(D::ZERO_POINT),
            ),
            score_scales: score_scales.map(
                #[inline(always)]
                |query| query * to_base_2,
            ),
        }
    }
}

impl Queries {
    /// The dot products with keys `[tile][dot][TILE]`, as many as there are scores.
    #[inline(always)]
    fn score<D: Dots>(&self, keys: &[u32], scores: &mut [[f32; LANES]]) {
        let dots = self.words.len();
        let tiles = scores.as_chunks_mut::<TILE>().0.iter_mut();
        for (scores, keys) in tiles.zip(keys.chunks_exact(TILE * dots)) {
            // SAFETY: this is compiled for, and run by, a processor with the instructions of `D`. Dots are whole pairs, and each
            // has `TILE` words of keys and `DOT_BYTES` bytes of queries.
            unsafe {
                let words = self.words.as_ptr().cast();
                let sums =
                    D::dot_products::<TILE, 1>(keys.as_ptr(), [words], dots / PAIR, &[self.start]);
                for (score, [sum]) in scores.iter_mut().zip(sums) {
                    D::Float::store(score.as_mut_ptr(), D::to_f32(sum));
                }
            }
        }
    }
}

/// `acc = correction * acc + weights * values`, of values `[tile][dot][TILE]` with a scale for each channel.
#[inline(always)]
fn accumulate<D: Dots>(
    values: &[u32],
    scales: &[u32],
    weights: &[[u32; LANES]],
    correction: &[f32; LANES],
    acc: &mut [[f32; LANES]],
) {
    let tiles = acc.as_chunks_mut::<TILE>().0.iter_mut();
    for ((acc, values), scales) in tiles
        .zip(values.chunks_exact(TILE * (BLOCK_KEYS / DOT)))
        .zip(scales.chunks_exact(TILE))
    {
        // SAFETY: this is compiled for, and run by, a processor with the instructions of `D`. Weights are whole pairs of dots, of
        // `DOT_BYTES` bytes each, and there are `TILE` words of values for each of them.
        unsafe {
            let weights_at = weights.as_ptr().cast();
            let pairs = weights.len() / PAIR;
            let sums = D::dot_u8::<TILE>(values.as_ptr(), weights_at, pairs);
            let correction = D::Float::load(correction.as_ptr());
            for ((acc, sum), scale) in acc.iter_mut().zip(sums).zip(scales) {
                let scale = D::Float::splat(f32::from_bits(*scale));
                let before = D::Float::mul(D::Float::load(acc.as_ptr()), correction);
                let now = D::Float::mul_add(D::to_f32(sum), scale, before);
                D::Float::store(acc.as_mut_ptr(), now);
            }
        }
    }
}
