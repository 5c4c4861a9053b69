//! Keys and values in the order in which they are read.

use super::Layout;
use crate::flow::attention::{KEYS, TALL};
use crate::matrix::dots::{DotTask, Dots, STEP};
use crate::matrix::quantise::round;

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
        let Layout { heads, steps, .. } = self.layout;
        let (width, channels) = (heads.width, heads.channels());
        let head = self.index / self.layout.blocks();
        let first = self.index % self.layout.blocks() * KEYS;
        let rows = || {
            self.inputs[first * 3 * channels..]
                .chunks_exact(3 * channels)
                .take(KEYS)
        };
        let (keys, rest) = self.packed.split_at_mut(self.layout.keys());
        let (values, scales) = rest.split_at_mut(self.layout.values());
        let largest = f32::from(D::LARGEST);

        let mut most = 0.0_f32;
        for row in rows() {
            for key in &row[channels + head * width..][..width] {
                most = most.max(key.abs());
            }
        }
        scales[0] = (most / largest).to_bits();
        let inverse = if most > 0.0 { largest / most } else { 0.0 };
        for (frame, row) in rows().enumerate() {
            let tile = &mut keys[frame / TALL * TALL * steps..];
            let key = &row[channels + head * width..][..width];
            for (step, key) in key.chunks(STEP).enumerate() {
                let mut word = 0;
                for (byte, value) in key.iter().enumerate() {
                    word |= offset::<D>(value * inverse) << (8 * byte);
                }
                tile[step * TALL + frame % TALL] = word;
            }
        }

        let scales = &mut scales[1..];
        scales.fill(0);
        for row in rows() {
            for (most, value) in scales
                .iter_mut()
                .zip(&row[2 * channels + head * width..][..width])
            {
                *most = f32::from_bits(*most).max(value.abs()).to_bits();
            }
        }
        values.fill(0);
        for (frame, row) in rows().enumerate() {
            let value = &row[2 * channels + head * width..][..width];
            for (channel, (value, most)) in value.iter().zip(scales.iter()).enumerate() {
                let most = f32::from_bits(*most);
                let inverse = if most > 0.0 { largest / most } else { 0.0 };
                let at =
                    channel / TALL * TALL * (KEYS / STEP) + frame / STEP * TALL + channel % TALL;
                values[at] |= offset::<D>(value * inverse) << (8 * (frame % STEP));
            }
        }
        for scale in scales {
            *scale = (f32::from_bits(*scale) / largest).to_bits();
        }
    }
}

/// A byte as the processor's instruction wants it.
#[inline(always)]
fn offset<D: Dots>(value: f32) -> u32 {
    (round(value) + i32::from(D::OFFSET)).cast_unsigned() & 0xff
}
