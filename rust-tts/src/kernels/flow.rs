//! The flow's estimator.

use std::sync::{Arc, Mutex, PoisonError};

use chatterbox_kernels::flow::{
    Block, Convolution, Estimator, Norm, Resnet, Transformer, Workspace,
};
use chatterbox_kernels::matrix::Layout;
use chatterbox_kernels::{Matrix, Pool, Precision};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::buffers::{ANY, Weights, check};
use super::{pool, value_error};

/// The buffers of a call with more frames than this (30 s, with the reference) are freed after it. Those of others, up to
/// 40 MB, are kept for the next.
const KEPT_FRAMES: usize = 1500;

/// The network of `s3gen/estimator.py` without what makes biases of a step's time.
#[pyclass(frozen, module = "chatterbox_server._core")]
pub struct FlowEstimator {
    pool: Arc<Pool>,
    estimator: Estimator,
    /// Channels of a bias.
    width: usize,
    workspace: Mutex<Workspace>,
}

#[pymethods]
impl FlowEstimator {
    /// `get_weight(name, *shape)` returns a weight as a C-contiguous float32 array of that shape (-1 = any size), or raises; `layers`
    /// are the numbers of transformer layers of the first block, of those in the middle, and of the last; `precision` is
    /// "fp32" or "int8". Raises `ValueError` for what does not fit together.
    #[new]
    fn new(
        get_weight: &Bound<'_, PyAny>,
        layers: (usize, Vec<usize>, usize),
        head_width: usize,
        precision: &str,
    ) -> PyResult<Self> {
        let precision = parse_precision(precision)?;
        let pool = pool();
        let checkpoint = Checkpoint {
            get_weight,
            pool: &pool,
            head_width,
            precision,
        };
        let (down, middle, up) = layers;
        let middle = middle.iter().enumerate();
        let estimator = Estimator {
            down: checkpoint.block("down_blocks.0", down)?,
            down_convolution: checkpoint.convolution("down_blocks.0.2")?,
            middle: middle
                .map(|(index, layers)| checkpoint.block(&format!("mid_blocks.{index}"), *layers))
                .collect::<PyResult<_>>()?,
            up: checkpoint.block("up_blocks.0", up)?,
            up_convolution: checkpoint.convolution("up_blocks.0.2")?,
            final_convolution: checkpoint.convolution("final_block.block.0")?,
            final_norm: checkpoint.norm("final_block.block.2")?,
            projection: checkpoint.convolution("final_proj")?,
        };
        estimator.check().map_err(value_error)?;
        let width = estimator.width();
        Ok(Self {
            pool,
            estimator,
            width,
            workspace: Mutex::default(),
        })
    }

    /// Writes `directions` `[B, T, outputs]` for `x` `[B, T, inputs]` and `biases` `[B, blocks, channels]`, all
    /// C-contiguous float32; row `b` has `lengths[b]` frames, and what is beyond them is left as it is. Raises `ValueError` for
    /// arrays that do not fit or overlap.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a buffer cannot be borrowed from Python's arguments"
    )]
    fn run(
        &self,
        py: Python<'_>,
        x: PyBuffer<f32>,
        biases: PyBuffer<f32>,
        lengths: Vec<usize>,
        directions: PyBuffer<f32>,
    ) -> PyResult<()> {
        let (inputs, outputs) = (self.estimator.inputs(), self.estimator.outputs());
        let (rows, blocks) = (lengths.len(), self.estimator.blocks());
        let frames = x.item_count() / (rows * inputs).max(1);
        check(
            &[
                ("x", &x, &[rows, frames, inputs]),
                ("biases", &biases, &[rows, blocks, self.width]),
            ],
            &[("directions", &directions, &[rows, frames, outputs])],
        )?;
        if lengths.iter().any(|length| *length > frames) {
            return Err(PyValueError::new_err("a row is longer than x"));
        }
        let (noisy, biases, mut velocity) =
            (x.to_vec(py)?, biases.to_vec(py)?, directions.to_vec(py)?);
        py.detach(|| {
            let mut workspace = self
                .workspace
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            for (row, length) in lengths.into_iter().enumerate() {
                let x = &noisy[row * frames * inputs..][..length * inputs];
                let biases = &biases[row * blocks * self.width..][..blocks * self.width];
                let direction = self.estimator.run(&self.pool, x, biases, &mut workspace);
                velocity[row * frames * outputs..][..direction.len()].copy_from_slice(direction);
            }
            if frames > KEPT_FRAMES {
                *workspace = Workspace::default();
            }
        });
        directions.copy_from_slice(py, &velocity)
    }
}

/// The precision of the flow's weights. Raises `ValueError` for a name that there is not.
pub(super) fn parse_precision(name: &str) -> PyResult<Precision> {
    match name {
        "fp32" => Ok(Precision::F32),
        "int8" => Ok(Precision::Int8),
        _ => Err(PyValueError::new_err(format!(
            "precision {name:?} is unknown; fp32 and int8 are there"
        ))),
    }
}

/// The weights of a checkpoint, by name.
struct Checkpoint<'a, 'py> {
    get_weight: &'a Bound<'py, PyAny>,
    pool: &'a Pool,
    head_width: usize,
    precision: Precision,
}

impl Checkpoint<'_, '_> {
    fn array(&self, name: &str, shape: &[usize]) -> PyResult<Weights> {
        Weights::get(self.get_weight, name, shape)
    }

    fn vector(&self, name: &str) -> PyResult<Vec<f32>> {
        Ok(self.array(name, &[ANY])?.to_vec())
    }

    /// A linear layer's weights; those of several of one size side by side.
    fn matrix<const N: usize>(&self, names: [&str; N]) -> PyResult<Matrix> {
        let mut shape = [ANY; 2];
        let mut arrays = Vec::with_capacity(N);
        for name in names {
            let array = self.array(&format!("{name}.weight"), &shape)?;
            shape = [array.shape()[0], array.shape()[1]];
            arrays.push(array);
        }
        let [outputs, inputs] = shape;
        let parts: Vec<&[f32]> = arrays.iter().map(|array| &**array).collect();
        let row = |output: usize| &parts[output / outputs][output % outputs * inputs..][..inputs];
        self.pack(N * outputs, inputs, &row)
    }

    fn pack<'a>(
        &self,
        outputs: usize,
        inputs: usize,
        row: &'a (dyn Fn(usize) -> &'a [f32] + Sync),
    ) -> PyResult<Matrix> {
        if outputs == 0 || inputs == 0 {
            return Err(PyValueError::new_err("a layer has no weights"));
        }
        let layout = Layout::Rows(row);
        let (pool, precision) = (self.pool, self.precision);
        let py = self.get_weight.py();
        Ok(py.detach(|| Matrix::pack_from(pool, outputs, inputs, precision, layout)))
    }

    fn norm(&self, name: &str) -> PyResult<Norm> {
        let gain = self.vector(&format!("{name}.weight"))?;
        Ok(Norm::new(gain, self.vector(&format!("{name}.bias"))?))
    }

    /// Of `[outputs, inputs, kernel]`.
    fn convolution(&self, name: &str) -> PyResult<Convolution> {
        let weights = self.array(&format!("{name}.weight"), &[ANY; 3])?;
        let [outputs, inputs, kernel] =
            [weights.shape()[0], weights.shape()[1], weights.shape()[2]];
        let mut transposed = Vec::with_capacity(weights.len());
        for output in weights.chunks_exact((inputs * kernel).max(1)) {
            for step in 0..kernel {
                transposed.extend(output.iter().skip(step).step_by(kernel));
            }
        }
        let length = inputs * kernel;
        Ok(Convolution {
            weights: self.pack(outputs, length, &|output| {
                &transposed[output * length..][..length]
            })?,
            bias: self.vector(&format!("{name}.bias"))?,
            inputs,
        })
    }

    fn block(&self, name: &str, layers: usize) -> PyResult<Block> {
        let resnet = format!("{name}.0");
        let shortcut = self.convolution(&format!("{resnet}.res_conv"))?;
        Ok(Block {
            resnet: Resnet {
                first: self.convolution(&format!("{resnet}.block1.block.0"))?,
                first_norm: self.norm(&format!("{resnet}.block1.block.2"))?,
                second: self.convolution(&format!("{resnet}.block2.block.0"))?,
                second_norm: self.norm(&format!("{resnet}.block2.block.2"))?,
                shortcut: shortcut.weights,
                shortcut_bias: shortcut.bias,
            },
            layers: (0..layers)
                .map(|index| self.transformer(&format!("{name}.1.{index}")))
                .collect::<PyResult<_>>()?,
        })
    }

    fn transformer(&self, name: &str) -> PyResult<Transformer> {
        let part = |part: &str| format!("{name}.{part}");
        let (query, key, value) = (part("attn1.to_q"), part("attn1.to_k"), part("attn1.to_v"));
        Ok(Transformer {
            head_width: self.head_width,
            quantised: self.precision == Precision::Int8,
            attention_norm: self.norm(&part("norm1"))?,
            projections: self.matrix([&query, &key, &value])?,
            output: self.matrix([&part("attn1.to_out.0")])?,
            output_bias: self.vector(&part("attn1.to_out.0.bias"))?,
            feed_forward_norm: self.norm(&part("norm3"))?,
            up: self.matrix([&part("ff.net.0.proj")])?,
            up_bias: self.vector(&part("ff.net.0.proj.bias"))?,
            down: self.matrix([&part("ff.net.2")])?,
            down_bias: self.vector(&part("ff.net.2.bias"))?,
        })
    }
}
