//! What queries find.

use super::weigh::Softmax;
use super::{KEYS, Layout, TALL, pack};
use crate::matrix::dots::{DotTask, Dots, MOST_TOGETHER, STEP, STEP_BYTES, TOGETHER};
use crate::matrix::extent::{Extent, ROUND, inverse};
use crate::simd::{LANES, Simd};

const _: () = assert!(size_of::<[u32; LANES]>() == STEP_BYTES);

/// What the queries of at most [`LANES`] frames from `first` on find.
pub(super) struct Mix<'a> {
    pub layout: Layout,
    pub inputs: &'a [f32],
    pub packed: &'a [u32],
    pub first: usize,
    pub mixed: &'a mut [f32],
}

/// A head's queries.
struct Queries {
    /// `[step][LANES]`
    words: Vec<[u32; LANES]>,
    /// What products begin with, to take the keys' offset out of them.
    start: [i32; LANES],
    /// What scores are multiples of, to base 2, beside the keys' scale.
    units: [f32; LANES],
}

impl DotTask for Mix<'_> {
    #[inline(always)]
    fn run<D: Dots>(self) {
        let layout = self.layout;
        let (width, channels) = (layout.heads.width, layout.heads.channels());
        let mut scores = vec![[0.0; LANES]; KEYS];
        let mut weights = vec![[0; LANES]; KEYS / STEP];
        let mut found = vec![[0.0; LANES]; layout.tall()];
        for head in 0..layout.heads.count {
            let queries = self.queries::<D>(head);
            found.fill([0.0; LANES]);
            let mut softmax = Softmax::new();
            let of_head = layout.blocks() * layout.block();
            let blocks = self.packed[head * of_head..][..of_head].chunks_exact(layout.block());
            for (block, packed) in blocks.enumerate() {
                let count = KEYS.min(layout.frames - block * KEYS);
                let (keys, rest) = packed.split_at(layout.keys());
                let (values, scales) = rest.split_at(layout.values());
                queries.score::<D>(keys, &mut scores[..count.next_multiple_of(TALL)]);
                let scale = f32::from_bits(scales[0]);
                let units = queries.units.map(
                    #[inline(always)]
                    |unit| unit * scale,
                );
                let weights = &mut weights[..count.div_ceil(ROUND) * TOGETHER];
                let shrink = softmax.add::<D>(&scores[..count], &units, weights);
                mix::<D>(values, &scales[1..], weights, &shrink, &mut found);
            }
            for found in &mut found {
                for (found, sum) in found.iter_mut().zip(&softmax.sums) {
                    *found /= sum;
                }
            }
            for (lane, mixed) in self.mixed.chunks_exact_mut(channels).enumerate() {
                for (to, found) in mixed[head * width..][..width].iter_mut().zip(&found) {
                    *to = found[lane];
                }
            }
        }
    }
}

impl Mix<'_> {
    #[inline(always)]
    fn queries<D: Dots>(&self, head: usize) -> Queries {
        let heads = self.layout.heads;
        let channels = heads.channels();
        let steps = self.layout.steps();
        let mut lines = vec![[0.0; LANES]; steps * STEP];
        let rows = self.inputs[self.first * 3 * channels..].chunks_exact(3 * channels);
        for (lane, row) in rows.take(LANES).enumerate() {
            for (line, value) in lines
                .iter_mut()
                .zip(&row[head * heads.width..][..heads.width])
            {
                line[lane] = *value;
            }
        }
        let mut extent = Extent::NONE;
        for lines in lines.as_chunks::<ROUND>().0 {
            extent.add(lines.each_ref());
        }
        let units = extent.units(MOST_TOGETHER);
        let inverses = units.map(inverse);
        let mut words = vec![[0; LANES]; steps];
        let mut start = [0; LANES];
        for (words, lines) in words.iter_mut().zip(lines.as_chunks::<STEP>().0) {
            *words = pack::words(lines.each_ref(), &inverses);
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
                |sum| sum * i32::from(D::OFFSET),
            ),
            units: units.map(
                #[inline(always)]
                |unit| unit * to_base_2,
            ),
        }
    }
}

impl Queries {
    /// Products with keys, `[tile][step][TALL]`, as many as there are scores.
    #[inline(always)]
    fn score<D: Dots>(&self, keys: &[u32], scores: &mut [[f32; LANES]]) {
        let steps = self.words.len();
        let tiles = scores.as_chunks_mut::<TALL>().0.iter_mut();
        for (scores, keys) in tiles.zip(keys.chunks_exact(TALL * steps)) {
            // SAFETY: this is compiled for, and run by, a processor with the instructions of `D`. Steps are whole rounds, and each
            // has `TALL` words of keys and `STEP_BYTES` bytes of queries.
            unsafe {
                let words = self.words.as_ptr().cast();
                let sums =
                    D::products::<TALL, 1>(keys.as_ptr(), [words], steps / TOGETHER, &[self.start]);
                for (score, [sum]) in scores.iter_mut().zip(sums) {
                    D::Floats::store(score.as_mut_ptr(), D::floats(sum));
                }
            }
        }
    }
}

/// Adds values `[tile][step][TALL]`, each channel with its scale, times `weights` to what was found, which shrinks first.
#[inline(always)]
fn mix<D: Dots>(
    values: &[u32],
    scales: &[u32],
    weights: &[[u32; LANES]],
    shrink: &[f32; LANES],
    found: &mut [[f32; LANES]],
) {
    let tiles = found.as_chunks_mut::<TALL>().0.iter_mut();
    for ((found, values), scales) in tiles
        .zip(values.chunks_exact(TALL * (KEYS / STEP)))
        .zip(scales.chunks_exact(TALL))
    {
        // SAFETY: this is compiled for, and run by, a processor with the instructions of `D`. Weights are whole rounds of steps, of
        // `STEP_BYTES` bytes each, and there are `TALL` words of values for each of them.
        unsafe {
            let weights_at = weights.as_ptr().cast();
            let rounds = weights.len() / TOGETHER;
            let sums = D::unsigned::<TALL>(values.as_ptr(), weights_at, rounds);
            let shrink = D::Floats::load(shrink.as_ptr());
            for ((found, sum), scale) in found.iter_mut().zip(sums).zip(scales) {
                let scale = D::Floats::splat(f32::from_bits(*scale));
                let before = D::Floats::mul(D::Floats::load(found.as_ptr()), shrink);
                let now = D::Floats::mul_add(D::floats(sum), scale, before);
                D::Floats::store(found.as_mut_ptr(), now);
            }
        }
    }
}
