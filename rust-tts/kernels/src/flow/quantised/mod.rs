//! Attention as in `attention`, with products of 8-bit integers.
//!
//! Scales are: of queries and softmax weights, one for each query (and block of keys); of keys, one for each head and block; of
//! values, one for each channel, head and block. Scores, softmax and accumulators are f32. Weights are summed after rounding,
//! so that they still add up to one.

mod attend;
mod pack;
mod softmax;

use super::attention::Heads;
use super::chunks;
use crate::matrix::dots::{DOT, Isas, PAIR};
use crate::matrix::quantize::PAIR_DEPTH;
use crate::pool::Pool;
use crate::simd::LANES;
use attend::Attend;
use pack::PackKeysValues;

/// Keys, or channels of values, of a tile of the inner loops.
const TILE: usize = 8;
/// Keys of a block: whole tiles and whole pairs of dots.
const BLOCK_KEYS: usize = 24 * TILE;
const _: () = assert!(BLOCK_KEYS.is_multiple_of(PAIR_DEPTH));

/// Memory that is kept from call to call.
#[derive(Default)]
pub(super) struct QuantisedAttention {
    /// By head and block of keys: words of keys, words of values, scales.
    packed: Vec<u32>,
}

/// The layout of the packed blocks.
#[derive(Clone, Copy)]
struct Layout {
    heads: Heads,
    frames: usize,
}

impl Layout {
    /// Words of a query, four of a head's channels each, filled up to whole pairs.
    fn dots(self) -> usize {
        self.heads.width.div_ceil(PAIR_DEPTH) * PAIR
    }

    /// Channels of a head's values, filled up to whole tiles.
    fn padded_width(self) -> usize {
        self.heads.width.next_multiple_of(TILE)
    }

    /// Words of a block's keys, `[tile][dot][TILE]`.
    fn keys(self) -> usize {
        BLOCK_KEYS * self.dots()
    }

    /// Words of a block's values, `[tile][dot][TILE]`, each of a channel of four keys.
    fn values(self) -> usize {
        BLOCK_KEYS / DOT * self.padded_width()
    }

    /// Words of a block, whose last ones are scales: of its keys, and of each channel of the values.
    fn block(self) -> usize {
        self.keys() + self.values() + 1 + self.padded_width()
    }

    fn blocks(self) -> usize {
        self.frames.div_ceil(BLOCK_KEYS)
    }
}

impl QuantisedAttention {
    /// As `Attention::run`.
    pub(super) fn run(&mut self, pool: &Pool, inputs: &[f32], out: &mut [f32], heads: Heads) {
        let layout = Layout {
            heads,
            frames: inputs.len() / (3 * heads.channels()),
        };
        let isa = Isas::best().dot;
        let size = heads.count * layout.blocks() * layout.block();
        self.packed.resize(size, 0);
        chunks(pool, &mut self.packed, layout.block(), &|index, packed| {
            isa.run(PackKeysValues {
                layout,
                inputs,
                index,
                packed,
            });
        });
        let packed = self.packed.as_slice();
        chunks(pool, out, LANES * heads.channels(), &|index, out| {
            isa.run(Attend {
                layout,
                inputs,
                packed,
                first: LANES * index,
                out,
            });
        });
    }
}
