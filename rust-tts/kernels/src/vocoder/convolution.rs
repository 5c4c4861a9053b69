//! Convolutions over time.

use super::direct::Direct;
use super::winograd::Winograd;
use crate::pool::Pool;

/// `weight(output, input, tap)`
pub type Weight<'a> = dyn Fn(usize, usize, usize) -> f32 + Sync + 'a;

/// `epilogue(first output, outputs)`, called on runs of neighbouring outputs of each step once they are complete, from any
/// thread.
pub(super) type Epilogue<'a> = dyn Fn(usize, &mut [f32]) + Sync + 'a;

/// Whether the values that an output holds already are overwritten or added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accumulate {
    Overwrite,
    Add,
}

/// Sizes of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    pub inputs: usize,
    pub outputs: usize,
    pub taps: usize,
    /// Steps from tap to tap.
    pub dilation: usize,
    /// Steps of the input for each of the output.
    pub stride: usize,
    /// Steps of the input from the first tap to the output's own.
    pub before: usize,
}

impl Geometry {
    /// Steps of the input from the output's own to the last tap.
    pub fn after(&self) -> usize {
        (self.taps.saturating_sub(1) * self.dilation).saturating_sub(self.before)
    }

    /// Elements of the input that `rows` steps of the output depend on.
    pub(super) fn input_rows(&self, rows: usize) -> usize {
        match rows {
            0 => 0,
            _ => ((rows - 1) * self.stride + (self.taps - 1) * self.dilation + 1) * self.inputs,
        }
    }
}

/// Weights, packed once, and biases.
pub struct Convolution {
    pub(super) geometry: Geometry,
    algorithm: Algorithm,
}

enum Algorithm {
    Direct(Direct),
    Winograd(Winograd),
}

impl Convolution {
    /// Packs `weight`; `bias` has an element for each output.
    ///
    /// # Panics
    /// If a size is zero, or `bias` has another size.
    pub fn new(pool: &Pool, geometry: Geometry, bias: &[f32], weight: &Weight) -> Self {
        let algorithm = if Winograd::fits(&geometry) {
            Algorithm::Winograd(Winograd::new(pool, geometry, bias, weight))
        } else {
            Algorithm::Direct(Direct::new(pool, geometry, bias, weight))
        };
        Self {
            geometry,
            algorithm,
        }
    }

    /// A transposed convolution, which makes `rate` steps of each: an input adds to `taps` steps, from `padding` before its own
    /// first one on.
    ///
    /// It is packed as a plain convolution with `rate * outputs` outputs for each step of the input.
    ///
    /// # Panics
    /// As [`Convolution::new`], or if `rate` is zero.
    pub fn transposed(
        pool: &Pool,
        (inputs, outputs, taps): (usize, usize, usize),
        (rate, padding): (usize, usize),
        bias: &[f32],
        weight: &Weight,
    ) -> Self {
        let before = taps.saturating_sub(padding + 1) / rate;
        let geometry = Geometry {
            inputs,
            outputs: rate * outputs,
            taps: before + 1 + padding.div_ceil(rate),
            dilation: 1,
            stride: 1,
            before,
        };
        let of_neighbour = |output: usize, input: usize, neighbour: usize| {
            let latest = output / outputs + padding + before * rate;
            match latest.checked_sub(neighbour * rate) {
                Some(tap) if tap < taps => weight(output % outputs, input, tap),
                _ => 0.0,
            }
        };
        Self::new(pool, geometry, &bias.repeat(rate), &of_neighbour)
    }

    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Whether it has stride 1 and depends on as many steps before as after.
    pub(super) fn is_centred(&self) -> bool {
        self.geometry.stride == 1 && self.geometry.before == self.geometry.after()
    }

    /// Computes `y` `[steps, outputs]` from `x` `[steps, inputs]`, which begins [`Geometry::before`] the first step; then calls
    /// `epilogue`.
    ///
    /// The result does not depend on the number of threads. The last bits of a step may depend on its position, as `winograd`
    /// computes four together.
    pub(super) fn run(
        &self,
        pool: &Pool,
        x: &[f32],
        y: &mut [f32],
        accumulate: Accumulate,
        epilogue: &Epilogue,
    ) {
        let rows = y.len() / self.geometry.outputs;
        assert!(
            y.len() == rows * self.geometry.outputs && x.len() >= self.geometry.input_rows(rows),
            "{} inputs do not output_transform {} outputs",
            x.len(),
            y.len()
        );
        match &self.algorithm {
            Algorithm::Direct(direct) => direct.run(pool, x, y, accumulate, epilogue),
            Algorithm::Winograd(winograd) => winograd.run(pool, x, y, accumulate, epilogue),
        }
    }
}
