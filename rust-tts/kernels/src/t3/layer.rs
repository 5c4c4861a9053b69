//! The layers of the two kinds of backbone.

use super::attention::{Attention, Rotation};
use super::elementwise::{GATES, Norm, gated, gelu};
use super::linear::{Linear, add_product};
use crate::Error;
use crate::matrix::{Layout, Matrix, Precision};
use crate::pool::Pool;
use crate::shared::SharedSlice;

/// A layer of Llama's: rotary positions, no biases, a gated feed-forward part.
pub struct LlamaLayer<'a> {
    pub attention_norm: &'a [f32],
    /// Each `[width, width]`.
    pub query: &'a [f32],
    pub key: &'a [f32],
    pub value: &'a [f32],
    pub output: &'a [f32],
    pub feed_norm: &'a [f32],
    /// `[inner, width]`, `inner` a multiple of 8.
    pub gate: &'a [f32],
    /// `[inner, width]`
    pub up: &'a [f32],
    /// `[width, inner]`
    pub down: &'a [f32],
}

/// A layer of GPT-2's.
pub struct Gpt2Layer<'a> {
    pub attention_norm: Norm,
    /// Queries, keys and values: `3 * width` outputs.
    pub projections: Linear<'a>,
    pub output: Linear<'a>,
    pub feed_norm: Norm,
    pub up: Linear<'a>,
    pub down: Linear<'a>,
}

/// One layer, packed.
pub(super) struct Layer {
    attention_norm: Norm,
    /// Queries, keys, values.
    projections: (Matrix, Vec<f32>),
    output: (Matrix, Vec<f32>),
    feed_norm: Norm,
    up: Up,
    down: (Matrix, Vec<f32>),
}

/// The first half of a feed-forward part.
enum Up {
    /// Gates and values are interleaved in runs of `GATES`.
    Gated(Matrix),
    Gelu(Matrix, Vec<f32>),
}

/// Buffers of a forward pass, `[positions, …]` each.
pub(super) struct Workspace {
    pub hidden: Vec<f32>,
    next: Vec<f32>,
    normed: Vec<f32>,
    projections: Vec<f32>,
    attended: Vec<f32>,
    up: Vec<f32>,
    inner: Vec<f32>,
}

impl Workspace {
    pub(super) fn new(hidden: Vec<f32>) -> Self {
        let count = hidden.len();
        Self {
            hidden,
            next: vec![0.0; count],
            normed: vec![0.0; count],
            projections: vec![0.0; 3 * count],
            attended: vec![0.0; count],
            up: Vec::new(),
            inner: Vec::new(),
        }
    }
}

impl Layer {
    pub(super) fn llama(
        pool: &Pool,
        layer: &LlamaLayer<'_>,
        width: usize,
        precision: Precision,
    ) -> Result<Self, Error> {
        let square = width * width;
        let inner = layer.gate.len() / width;
        let sizes = [layer.query, layer.key, layer.value, layer.output].map(<[f32]>::len);
        if sizes != [square; 4]
            || [layer.gate, layer.up, layer.down].map(<[f32]>::len) != [inner * width; 3]
            || inner == 0
            || !inner.is_multiple_of(GATES)
        {
            return Err(Error(format!(
                "a layer's weights are not of {width} channels"
            )));
        }
        let thirds = [layer.query, layer.key, layer.value];
        let third = |output: usize| &thirds[output / width][output % width * width..][..width];
        let rotate = |output: usize| {
            let (rotate, position) = (output / GATES, output % GATES);
            let from = [layer.gate, layer.up][rotate % 2];
            &from[(rotate / 2 * GATES + position) * width..][..width]
        };
        let pack = |outputs, inputs, source| {
            let matrix = Matrix::pack_from(pool, outputs, inputs, precision, source);
            (matrix, Vec::new())
        };
        let output = |output: usize| &layer.output[output * width..][..width];
        let down = |output: usize| &layer.down[output * inner..][..inner];
        let rms = |weight: &[f32]| Norm::Rms {
            weight: weight.to_vec(),
        };
        let packed = Self {
            attention_norm: rms(layer.attention_norm),
            projections: pack(3 * width, width, Layout::Rows(&third)),
            output: pack(width, width, Layout::Rows(&output)),
            feed_norm: rms(layer.feed_norm),
            up: Up::Gated(pack(2 * inner, width, Layout::Rows(&rotate)).0),
            down: pack(width, inner, Layout::Rows(&down)),
        };
        packed.checked(width)
    }

    pub(super) fn gpt2(
        pool: &Pool,
        layer: Gpt2Layer<'_>,
        width: usize,
        precision: Precision,
    ) -> Result<Self, Error> {
        let (up, mut up_bias) = layer.up.pack(pool, width, precision)?;
        up_bias.resize(up.outputs(), 0.0);
        let packed = Self {
            attention_norm: layer.attention_norm,
            projections: layer.projections.pack(pool, width, precision)?,
            output: layer.output.pack(pool, width, precision)?,
            feed_norm: layer.feed_norm,
            down: layer.down.pack(pool, up.outputs(), precision)?,
            up: Up::Gelu(up, up_bias),
        };
        packed.checked(width)
    }

    fn checked(self, width: usize) -> Result<Self, Error> {
        let fits = self.attention_norm.fits(width)
            && self.feed_norm.fits(width)
            && self.projections.0.outputs() == 3 * width
            && self.output.0.outputs() == width
            && self.down.0.outputs() == width;
        if fits {
            Ok(self)
        } else {
            Err(Error(format!(
                "a layer's weights are not of {width} channels"
            )))
        }
    }

    /// Takes `work.hidden` through the layer, the `number`-th one.
    pub(super) fn forward(
        &self,
        pool: &Pool,
        number: usize,
        work: &mut Workspace,
        attention: &Attention<'_>,
        rotation: Option<&Rotation>,
    ) {
        self.attention_norm
            .apply(pool, &work.hidden, &mut work.normed);
        let (projections, bias) = &self.projections;
        projections.multiply_and_add(pool, &work.normed, bias, &mut work.projections);
        attention.attend(
            pool,
            number,
            &work.projections,
            rotation,
            &mut work.attended,
        );
        add_product(
            pool,
            &self.output,
            &work.attended,
            &work.hidden,
            &mut work.next,
        );
        self.feed_norm.apply(pool, &work.next, &mut work.normed);
        let inner = self.up(pool, &work.normed, &mut work.up, &mut work.inner);
        add_product(pool, &self.down, inner, &work.next, &mut work.hidden);
    }

    fn up<'w>(
        &self,
        pool: &Pool,
        normed: &[f32],
        up: &'w mut Vec<f32>,
        inner: &'w mut Vec<f32>,
    ) -> &'w [f32] {
        match &self.up {
            Up::Gelu(matrix, bias) => {
                let positions = normed.len() / matrix.inputs();
                up.resize(positions * matrix.outputs(), 0.0);
                matrix.multiply(pool, normed, up, &|_, first, values| {
                    gelu(values, &bias[first..]);
                });
                up
            }
            Up::Gated(matrix) => {
                let positions = normed.len() / matrix.inputs();
                let width = matrix.outputs() / 2;
                up.resize(positions * 2 * width, 0.0);
                inner.resize(positions * width, 0.0);
                let shared = SharedSlice::new(inner);
                matrix.multiply(pool, normed, up, &|row, first, values| {
                    // SAFETY: runs of outputs do not overlap, so neither do their halves.
                    let out = unsafe { shared.slice(row * width + first / 2, values.len() / 2) };
                    gated(values, out);
                });
                inner
            }
        }
    }
}
