//! Weights rounded to 8 bits.

use super::dots::{MOST_TOGETHER, STEP, STEP_BYTES};
use super::extent::{Extent, ROUND, inverse};
use super::quantise::round;
use super::source::Line;
use crate::simd::{LANES, Simd, Task};

/// Packs a panel.
pub(crate) struct Pack<'a> {
    pub lines: &'a [Line],
    /// As [`super::int8::Int8`] has them.
    pub weights: &'a mut [i8],
    pub scales: &'a mut [f32],
    pub totals: &'a mut [i32],
}

impl Task for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let mut extent = Extent::NONE;
        let (rounds, rest) = self.lines.as_chunks::<ROUND>();
        let mut last = [[0.0; LANES]; ROUND];
        last[..rest.len()].copy_from_slice(rest);
        for lines in rounds.iter().chain([&last]) {
            extent.add(lines.each_ref());
        }
        let scales = extent.units(MOST_TOGETHER);
        self.scales.copy_from_slice(&scales);
        let inverses = scales.map(inverse);
        let mut totals = [0; LANES];
        let steps = self.weights.as_chunks_mut::<STEP_BYTES>().0;
        for (packed, lines) in steps.iter_mut().zip(self.lines.chunks(STEP)) {
            let mut bytes = [[0_u32; LANES]; STEP];
            for (bytes, line) in bytes.iter_mut().zip(lines) {
                for lane in 0..LANES {
                    let weight = round(line[lane] * inverses[lane]) as i8;
                    totals[lane] += i32::from(weight);
                    bytes[lane] = u32::from(weight.cast_unsigned());
                }
            }
            let [a, b, c, d] = &bytes;
            for (lane, packed) in packed.as_chunks_mut::<STEP>().0.iter_mut().enumerate() {
                let word = a[lane] | b[lane] << 8 | c[lane] << 16 | d[lane] << 24;
                *packed = word.to_le_bytes().map(u8::cast_signed);
            }
        }
        self.totals.copy_from_slice(&totals);
    }
}
