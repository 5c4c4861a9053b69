//! What queries find.

use super::{Layout, MOST};
use crate::flow::attention::{KEYS, TALL};
use crate::math::exp2;
use crate::matrix::dots::{DotTask, Dots, STEP, STEP_BYTES};
use crate::matrix::quantise::round;
use crate::simd::{LANES, Simd};

/// What the queries of at most [`LANES`] frames from `first` on find.
pub(super) struct Mix<'a> {
    pub layout: Layout,
    pub inputs: &'a [f32],
    pub packed: &'a [u32],
    pub first: usize,
    pub mixed: &'a mut [f32],
}

impl DotTask for Mix<'_> {
    #[inline(always)]
    fn run<D: Dots>(self) {
        let Layout {
            heads,
            steps,
            frames,
        } = self.layout;
        let (width, channels) = (heads.width, heads.channels());
        let mut scores = vec![[0.0; LANES]; KEYS];
        let mut weights = vec![[0; LANES]; KEYS / STEP];
        let mut found = vec![[0.0; LANES]; heads.tall()];
        let mut products = [[0.0; LANES]; TALL];
        for head in 0..heads.count {
            let (queries, units) = self.queries(head);
            let start = beginning::<D>(&queries);
            found.fill([0.0; LANES]);
            let mut greatest = [f32::NEG_INFINITY; LANES];
            let mut sums = [0.0; LANES];
            let of_head = self.layout.blocks() * self.layout.block();
            let blocks = self.packed[head * of_head..][..of_head].chunks_exact(self.layout.block());
            for (block, packed) in blocks.enumerate() {
                let count = KEYS.min(frames - block * KEYS);
                let (keys, rest) = packed.split_at(self.layout.keys());
                let (values, scales) = rest.split_at(self.layout.values());
                let tiles = scores.as_chunks_mut::<TALL>().0.iter_mut();
                for (scores, keys) in tiles
                    .zip(keys.chunks_exact(TALL * steps))
                    .take(count.div_ceil(TALL))
                {
                    products_of::<D>(keys, &queries, &start, scores);
                }
                let scale = f32::from_bits(scales[0]);
                let mut unit = [0.0; LANES];
                for lane in 0..LANES {
                    unit[lane] = units[lane] * scale;
                }
                let used = &mut weights[..count.div_ceil(STEP)];
                let shrink = weigh::<D>(&mut scores, count, &unit, &mut greatest, &mut sums, used);
                let start = beginning::<D>(used);
                let tiles = found.as_chunks_mut::<TALL>().0.iter_mut();
                for ((found, values), scales) in tiles
                    .zip(values.chunks_exact(TALL * (KEYS / STEP)))
                    .zip(scales[1..].chunks_exact(TALL))
                {
                    products_of::<D>(values, used, &start, &mut products);
                    for ((found, product), scale) in found.iter_mut().zip(&products).zip(scales) {
                        let scale = f32::from_bits(*scale);
                        for lane in 0..LANES {
                            found[lane] = found[lane] * shrink[lane] + product[lane] * scale;
                        }
                    }
                }
            }
            for found in &mut found {
                for (found, sum) in found.iter_mut().zip(&sums) {
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
    /// The words of a head's queries, `[steps][LANES]`, and what their bytes are multiples of, for scores to base 2.
    #[inline(always)]
    fn queries(&self, head: usize) -> (Vec<[u32; LANES]>, [f32; LANES]) {
        let Layout { heads, steps, .. } = self.layout;
        let channels = heads.channels();
        let mut words = vec![[0; LANES]; steps];
        let mut units = [0.0; LANES];
        let rows = self.inputs[self.first * 3 * channels..].chunks_exact(3 * channels);
        for (lane, row) in rows.take(LANES).enumerate() {
            let query = &row[head * heads.width..][..heads.width];
            let most = query
                .iter()
                .fold(0.0_f32, |most, value| most.max(value.abs()));
            let inverse = if most > 0.0 { MOST / most } else { 0.0 };
            for (words, query) in words.iter_mut().zip(query.chunks(STEP)) {
                let mut word = 0;
                for (byte, value) in query.iter().enumerate() {
                    word |= (round(value * inverse).cast_unsigned() & 0xff) << (8 * byte);
                }
                words[lane] = word;
            }
            units[lane] = most / MOST * std::f32::consts::LOG2_E / (heads.width as f32).sqrt();
        }
        (words, units)
    }
}

/// What takes the offset of the other side's bytes out of products with `words`.
#[inline(always)]
fn beginning<D: Dots>(words: &[[u32; LANES]]) -> [i32; LANES] {
    let mut sums = [0; LANES];
    for words in words {
        for (sum, word) in sums.iter_mut().zip(words) {
            let word = word.cast_signed();
            *sum -= (word << 24 >> 24) + (word << 16 >> 24) + (word << 8 >> 24) + (word >> 24);
        }
    }
    sums.map(
        #[inline(always)]
        |sum| sum * i32::from(D::OFFSET),
    )
}

/// Products of `TALL` packed rows with all lanes, from `start` on.
#[inline(always)]
fn products_of<D: Dots>(
    rows: &[u32],
    lanes: &[[u32; LANES]],
    start: &[i32; LANES],
    products: &mut [[f32; LANES]; TALL],
) {
    assert!(rows.len() >= lanes.len() * TALL);
    // SAFETY: this is compiled for, and run by, a processor with the instructions of `D`. Lanes are of `STEP_BYTES` bytes each,
    // and there are `TALL` words of rows for each of them.
    unsafe {
        let mut sums = [D::sums(start.as_ptr()); TALL];
        let mut word = rows.as_ptr();
        for lanes in lanes {
            let lanes = D::weights(lanes.as_ptr().cast());
            for (row, sum) in sums.iter_mut().enumerate() {
                *sum = D::dot(word.add(row), lanes, *sum);
            }
            word = word.add(TALL);
        }
        for (product, sum) in products.iter_mut().zip(sums) {
            D::Floats::store(product.as_mut_ptr(), D::floats(sum));
        }
    }
}

const _: () = assert!(size_of::<[u32; LANES]>() == STEP_BYTES);

#[inline(always)]
fn power<D: Dots>(x: f32) -> f32 {
    if D::Floats::FMA {
        exp2::<true>(x)
    } else {
        exp2::<false>(x)
    }
}

/// Turns `count` rows of scores, of which `unit` makes logarithms to base 2, into words of weights relative to the greatest so
/// far, and adds them to `sums`. Gives the factor by which whatever was found with the greatest before shrinks.
#[inline(always)]
fn weigh<D: Dots>(
    scores: &mut [[f32; LANES]],
    count: usize,
    unit: &[f32; LANES],
    greatest: &mut [f32; LANES],
    sums: &mut [f32; LANES],
    weights: &mut [[u32; LANES]],
) -> [f32; LANES] {
    let mut now = *greatest;
    for scores in &mut scores[..count] {
        for lane in 0..LANES {
            scores[lane] *= unit[lane];
            now[lane] = if scores[lane] > now[lane] {
                scores[lane]
            } else {
                now[lane]
            };
        }
    }
    // Beyond the last key nothing weighs.
    for scores in &mut scores[count..weights.len() * STEP] {
        *scores = [f32::MIN; LANES];
    }
    let mut shrink = [0.0; LANES];
    for lane in 0..LANES {
        shrink[lane] = power::<D>(greatest[lane] - now[lane]);
    }
    let mut total = [0; LANES];
    for (weights, scores) in weights.iter_mut().zip(scores.as_chunks::<STEP>().0) {
        *weights = [0; LANES];
        for (byte, scores) in scores.iter().enumerate() {
            for lane in 0..LANES {
                let weight = round(MOST * power::<D>(scores[lane] - now[lane]));
                total[lane] += weight;
                weights[lane] |= weight.cast_unsigned() << (8 * byte);
            }
        }
    }
    for lane in 0..LANES {
        sums[lane] = sums[lane] * shrink[lane] + total[lane] as f32;
    }
    *greatest = now;
    shrink
}
