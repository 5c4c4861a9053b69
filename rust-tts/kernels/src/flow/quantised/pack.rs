//! Keys and values in the order in which they are read.

use super::{KEYS, Layout, TALL};
use crate::matrix::dots::{DotTask, Dots, MOST_UNSIGNED, STEP};
use crate::matrix::extent::{Extent, ROUND, inverse, larger};
use crate::matrix::quantise::{each_step, round};

/// Channels that are treated at a time.
const WIDE: usize = 16;

/// Packs a block of a head's keys and values.
pub(super) struct Pack<'a> {
    pub layout: Layout,
    pub inputs: &'a [f32],
    /// The head's number times the blocks of each, and the block's.
    pub index: usize,
    pub packed: &'a mut [u32],
}

impl DotTask for Pack<'_> {
    #[inline(always)]
    fn run<D: Dots>(self) {
        let layout = self.layout;
        let (keys, rest) = self.packed.split_at_mut(layout.keys());
        let (values, scales) = rest.split_at_mut(layout.values());
        let block = Block {
            layout,
            inputs: self.inputs,
            head: self.index / layout.blocks(),
            first: self.index % layout.blocks() * KEYS,
        };
        scales[0] = block.keys::<D>(keys).to_bits();
        block.values(values, &mut scales[1..]);
    }
}

/// Some frames of a head.
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
            .take(KEYS)
            .map(move |row| &row[which * channels + self.head * heads.width..][..heads.width])
    }

    /// Gives what the keys' bytes are multiples of.
    #[inline(always)]
    fn keys<D: Dots>(&self, packed: &mut [u32]) -> f32 {
        let largest = f32::from(D::LARGEST);
        let mut most = [0.0; WIDE];
        for key in self.rows(1) {
            let (lines, rest) = key.as_chunks::<WIDE>();
            for line in lines {
                for (most, value) in most.iter_mut().zip(line) {
                    *most = larger(value.abs(), *most);
                }
            }
            for (most, value) in most.iter_mut().zip(rest) {
                *most = larger(value.abs(), *most);
            }
        }
        let most = most.into_iter().fold(0.0, larger);
        let inverse = if most > 0.0 { largest / most } else { 0.0 };
        let steps = self.layout.steps();
        for (frame, key) in self.rows(1).enumerate() {
            let tile = &mut packed[frame / TALL * TALL * steps..][..TALL * steps];
            each_step(
                key,
                inverse,
                D::OFFSET,
                #[inline(always)]
                |step, word| tile[step * TALL + frame % TALL] = word,
            );
        }
        most / largest
    }

    /// Writes what the values' bytes of each channel are multiples of into `scales`.
    #[inline(always)]
    fn values(&self, packed: &mut [u32], scales: &mut [u32]) {
        let width = self.layout.heads.width;
        for first in (0..width).step_by(WIDE) {
            let channels = first..width.min(first + WIDE);
            let mut lines = [[0.0; WIDE]; KEYS];
            for (line, value) in lines.iter_mut().zip(self.rows(2)) {
                line[..channels.len()].copy_from_slice(&value[channels.clone()]);
            }
            let mut extent = Extent::NONE;
            for lines in lines.as_chunks::<ROUND>().0 {
                extent.add(lines.each_ref());
            }
            let units = extent.units(MOST_UNSIGNED);
            let inverses = units.map(inverse);
            for (step, lines) in lines.as_chunks::<STEP>().0.iter().enumerate() {
                let words = words(lines.each_ref(), &inverses);
                for (channel, word) in channels.clone().zip(words) {
                    let tile = channel / TALL * TALL * (KEYS / STEP);
                    packed[tile + step * TALL + channel % TALL] = word;
                }
            }
            for (scale, unit) in scales[channels].iter_mut().zip(units) {
                *scale = unit.to_bits();
            }
        }
    }
}

/// The bytes of a step's lines; a column's are a word.
#[inline(always)]
pub(super) fn words<const N: usize>(lines: [&[f32; N]; STEP], inverses: &[f32; N]) -> [u32; N] {
    let mut words = [0; N];
    for (byte, line) in lines.iter().enumerate() {
        for ((word, value), inverse) in words.iter_mut().zip(*line).zip(inverses) {
            *word |= (round(value * inverse).cast_unsigned() & 0xff) << (8 * byte);
        }
    }
    words
}
