//! Attention as in `attention`, whose products are of bytes.
//!
//! Queries and weights of a softmax are rounded for each query (and block of keys), keys for each head and block, values for
//! each channel and block as well. Scores, softmax and what is found are f32. Weights are summed as they were rounded, so that
//! together they are still one.

mod mix;
mod pack;
mod weigh;

use super::attention::Heads;
use super::chunks;
use crate::matrix::dots::{STEP, Set, TOGETHER};
use crate::matrix::extent::ROUND;
use crate::pool::Pool;
use crate::simd::LANES;
use mix::Mix;
use pack::Pack;

/// Keys, or channels of the values, that one run of the inner loop treats.
const TALL: usize = 8;
/// Keys of a block: whole tiles and whole rounds.
const KEYS: usize = 24 * TALL;
const _: () = assert!(KEYS.is_multiple_of(ROUND));

/// Memory that is kept from call to call.
#[derive(Default)]
pub(super) struct QuantisedAttention {
    /// By head and block of keys: the words of its keys, those of its values, and what their bytes are multiples of.
    packed: Vec<u32>,
}

/// Where the parts of a packed block are.
#[derive(Clone, Copy)]
struct Layout {
    heads: Heads,
    frames: usize,
}

impl Layout {
    /// Words of a query, four of a head's channels each, filled up to whole rounds.
    fn steps(self) -> usize {
        self.heads.width.div_ceil(ROUND) * TOGETHER
    }

    /// Channels of a head's values, filled up to whole tiles.
    fn tall(self) -> usize {
        self.heads.width.next_multiple_of(TALL)
    }

    /// Words of a block's keys, `[tile][step][TALL]`.
    fn keys(self) -> usize {
        KEYS * self.steps()
    }

    /// Words of a block's values, `[tile][step][TALL]`, each of a channel of four keys.
    fn values(self) -> usize {
        KEYS / STEP * self.tall()
    }

    /// Words of a block, whose last ones are scales: of its keys, and of each channel of the values.
    fn block(self) -> usize {
        self.keys() + self.values() + 1 + self.tall()
    }

    fn blocks(self) -> usize {
        self.frames.div_ceil(KEYS)
    }
}

impl QuantisedAttention {
    /// As `Attention::run`.
    pub(super) fn run(&mut self, pool: &Pool, inputs: &[f32], mixed: &mut [f32], heads: Heads) {
        let layout = Layout {
            heads,
            frames: inputs.len() / (3 * heads.channels()),
        };
        let dots = Set::best().dots;
        let size = heads.count * layout.blocks() * layout.block();
        self.packed.resize(size, 0);
        chunks(pool, &mut self.packed, layout.block(), &|index, packed| {
            dots.run(Pack {
                layout,
                inputs,
                index,
                packed,
            });
        });
        let packed = self.packed.as_slice();
        chunks(pool, mixed, LANES * heads.channels(), &|index, mixed| {
            dots.run(Mix {
                layout,
                inputs,
                packed,
                first: LANES * index,
                mixed,
            });
        });
    }
}
