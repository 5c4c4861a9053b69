//! Attention as in `attention`, whose products are of bytes.
//!
//! Queries and weights of a softmax are rounded for each query (and block of keys), keys for each head and block, values for
//! each channel and block as well. Scores, softmax and what is found are f32. Weights are summed as they were rounded, so that
//! together they are still one.

mod mix;
mod pack;

use super::attention::{Heads, KEYS};
use super::chunks;
use crate::matrix::dots::{MOST_PAIR, STEP, Set};
use crate::pool::Pool;
use crate::simd::LANES;
use mix::Mix;
use pack::Pack;

/// The largest byte of a query or a weight: of two neighbours' sum the processor may want no more than `MOST_PAIR`.
const MOST: f32 = (MOST_PAIR / 2) as f32;

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
    /// Words of a query: four of a head's channels each.
    steps: usize,
    frames: usize,
}

impl Layout {
    fn keys(self) -> usize {
        KEYS * self.steps
    }

    fn values(self) -> usize {
        KEYS / STEP * self.heads.tall()
    }

    fn block(self) -> usize {
        self.keys() + self.values() + 1 + self.heads.tall()
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
            steps: heads.width.div_ceil(STEP),
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
