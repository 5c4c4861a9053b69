//! Quantises keys and values, in the order in which the inner loops read them.

use super::{BLOCK_KEYS, Layout, TILE};
use crate::matrix::dots::{DOT, DotTask, Dots, MAX_SIGNED_PAIR_SUM};
use crate::matrix::quantize::{Absmax, PAIR_DEPTH, inverse, max};
use crate::matrix::quantize::{quantize_row, round};

/// Channels that are quantised at a time.
const CHANNELS: usize = 16;

/// Packs a block of a head's keys and values.
pub(super) struct PackKeysValues<'a> {
    pub layout: Layout,
    pub inputs: &'a [f32],
    /// `head * blocks + block`
    pub index: usize,
    pub packed: &'a mut [u32],
}

impl DotTask for PackKeysValues<'_> {
    #[inline(always)]
    fn run<D: Dots>(self) {
        let layout = self.layout;
        let (keys, rest) = self.packed.split_at_mut(layout.keys());
        let (values, scales) = rest.split_at_mut(layout.values());
        let block = Block {
            layout,
            inputs: self.inputs,
            head: self.index / layout.blocks(),
            first: self.index % layout.blocks() * BLOCK_KEYS,
        };
        scales[0] = block.keys::<D>(keys).to_bits();
        block.values(values, &mut scales[1..]);
    }
}

/// The frames of a block, of one head.
struct Block<'a> {
    layout: Layout,
    inputs: &'a [f32],
    head: usize,
    first: usize,
}

impl Block<'_> {
    /// The block's frames, each with the head's queries (0), keys (1) or values (2).
    #[inline(always)]
    fn rows(&self, which: usize) -> impl Iterator<Item = &[f32]> {
        let heads = self.layout.heads;
        let channels = heads.channels();
        self.inputs[self.first * 3 * channels..]
            .chunks_exact(3 * channels)
            .take(BLOCK_KEYS)
            .map(move |row| &row[which * channels + self.head * heads.width..][..heads.width])
    }

    /// Packs the keys and returns their scale.
    #[inline(always)]
    fn keys<D: Dots>(&self, packed: &mut [u32]) -> f32 {
        let largest = f32::from(D::MAX_INPUT);
        let mut absmax = [0.0; CHANNELS];
        for key in self.rows(1) {
            let (transposed, rest) = key.as_chunks::<CHANNELS>();
            for lanes in transposed {
                for (absmax, value) in absmax.iter_mut().zip(lanes) {
                    *absmax = max(value.abs(), *absmax);
                }
            }
            for (absmax, value) in absmax.iter_mut().zip(rest) {
                *absmax = max(value.abs(), *absmax);
            }
        }
        let absmax = absmax.into_iter().fold(0.0, max);
        let inverse = if absmax > 0.0 { largest / absmax } else { 0.0 };
        let dots = self.layout.dots();
        for (frame, key) in self.rows(1).enumerate() {
            let tile = &mut packed[frame / TILE * TILE * dots..][..TILE * dots];
            quantize_row(
                key,
                inverse,
                D::ZERO_POINT,
                #[inline(always)]
                |dot, word| tile[dot * TILE + frame % TILE] = word,
            );
        }
        absmax / largest
    }

    /// Packs the values, and writes the scale of each channel to `scales`.
    #[inline(always)]
    fn values(&self, packed: &mut [u32], scales: &mut [u32]) {
        let width = self.layout.heads.width;
        for first in (0..width).step_by(CHANNELS) {
            let channels = first..width.min(first + CHANNELS);
            let mut transposed = [[0.0; CHANNELS]; BLOCK_KEYS];
            for (lanes, value) in transposed.iter_mut().zip(self.rows(2)) {
                lanes[..channels.len()].copy_from_slice(&value[channels.clone()]);
            }
            let mut absmax = Absmax::ZERO;
            for transposed in transposed.as_chunks::<PAIR_DEPTH>().0 {
                absmax.update(transposed.each_ref());
            }
            let channel_scales = absmax.scales(MAX_SIGNED_PAIR_SUM);
            let inverses = channel_scales.map(inverse);
            for (dot, transposed) in transposed.as_chunks::<DOT>().0.iter().enumerate() {
                let words = words(transposed.each_ref(), &inverses);
                for (channel, word) in channels.clone().zip(words) {
                    let tile = channel / TILE * TILE * (BLOCK_KEYS / DOT);
                    packed[tile + dot * TILE + channel % TILE] = word;
                }
            }
            for (scale, channel_scale) in scales[channels].iter_mut().zip(channel_scales) {
                *scale = channel_scale.to_bits();
            }
        }
    }
}

/// Quantises the four rows of a dot; the bytes of a column are a word.
#[inline(always)]
pub(super) fn words<const N: usize>(transposed: [&[f32; N]; DOT], inverses: &[f32; N]) -> [u32; N] {
    let mut words = [0; N];
    for (byte, lanes) in transposed.iter().enumerate() {
        for ((word, value), inverse) in words.iter_mut().zip(*lanes).zip(inverses) {
            *word |= (round(value * inverse).cast_unsigned() & 0xff) << (8 * byte);
        }
    }
    words
}
