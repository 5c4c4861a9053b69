//! The vocoder's generator.

use std::sync::{Arc, Mutex, PoisonError};

use chatterbox_kernels::Pool;
use chatterbox_kernels::vocoder::{
    Convolution, Generator, Geometry, Pair, Residual, Snake, Stage, Workspace,
};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::buffers::{ANY, Weights, check, shape_error};
use super::{pool, value_error};

/// The buffers of a call for more samples than this (10 s) are freed after it. Those of others, up to 60 MB, are kept for the
/// next.
const KEPT_SAMPLES: usize = 240_000;

/// The network of `s3gen/generator.py`.
#[pyclass(frozen, module = "chatterbox_server._core")]
pub struct VocoderGenerator {
    pool: Arc<Pool>,
    generator: Generator,
    workspace: Mutex<Workspace>,
}

#[pymethods]
impl VocoderGenerator {
    /// `get_weight(name, *shape)` returns a weight as a C-contiguous float32 array of that shape (-1 = any size), or raises; `rates`
    /// are the stages' upsampling; `blocks` residual blocks, as many in each stage, have pairs of convolutions whose first
    /// ones have `dilations`. Raises `ValueError` for what does not fit together.
    #[new]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a list cannot be borrowed from Python's arguments"
    )]
    fn new(
        get_weight: &Bound<'_, PyAny>,
        rates: Vec<usize>,
        blocks: usize,
        dilations: Vec<usize>,
    ) -> PyResult<Self> {
        if rates.contains(&0) || dilations.contains(&0) {
            return Err(PyValueError::new_err("a rate or a dilation is 0"));
        }
        let pool = pool();
        let checkpoint = Checkpoint {
            get_weight,
            pool: &pool,
            dilations: &dilations,
        };
        let per_stage = blocks / rates.len().max(1);
        let mut stages = Vec::with_capacity(rates.len());
        for (index, rate) in rates.iter().enumerate() {
            let of_stage = index * per_stage..(index + 1) * per_stage;
            stages.push(Stage {
                up: checkpoint.transposed(&format!("ups.{index}"), *rate)?,
                rate: *rate,
                source: checkpoint.source(
                    &format!("source_downs.{index}"),
                    rates[index + 1..].iter().product(),
                )?,
                source_block: checkpoint.residual(&format!("source_resblocks.{index}"))?,
                blocks: of_stage
                    .map(|block| checkpoint.residual(&format!("resblocks.{block}")))
                    .collect::<PyResult<_>>()?,
            });
        }
        let (before, after) = (
            checkpoint.convolution("conv_pre", 1)?,
            checkpoint.convolution("conv_post", 1)?,
        );
        let generator = Generator::new(&pool, before, stages, after).map_err(value_error)?;
        Ok(Self {
            pool,
            generator,
            workspace: Mutex::default(),
        })
    }

    /// Writes `samples` `[n]` for `mel` `[T, channels]` and `source` `[n]`, all C-contiguous float32. Raises
    /// `ValueError` for arrays that do not fit or overlap.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a buffer cannot be borrowed from Python's arguments"
    )]
    fn run(
        &self,
        py: Python<'_>,
        mel: PyBuffer<f32>,
        source: PyBuffer<f32>,
        samples: PyBuffer<f32>,
    ) -> PyResult<()> {
        let inputs = self.generator.inputs();
        let frames = mel.item_count() / inputs;
        if frames == 0 {
            return Err(shape_error("mel", &mel));
        }
        let count = frames * self.generator.samples_per_frame();
        check(
            &[
                ("mel", &mel, &[frames, inputs]),
                ("source", &source, &[count]),
            ],
            &[("samples", &samples, &[count])],
        )?;
        let (mel, source) = (mel.to_vec(py)?, source.to_vec(py)?);
        let mut computed = vec![0.0; count];
        py.detach(|| {
            let mut workspace = self
                .workspace
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            self.generator
                .run(&self.pool, &mel, &source, &mut computed, &mut workspace);
            if count > KEPT_SAMPLES {
                *workspace = Workspace::default();
            }
        });
        samples.copy_from_slice(py, &computed)
    }
}

/// The weights of a checkpoint, by name.
struct Checkpoint<'a, 'py> {
    get_weight: &'a Bound<'py, PyAny>,
    pool: &'a Pool,
    dilations: &'a [usize],
}

/// A convolution's weights as they are in the file, `[sizes]`, and its biases.
struct Kernel {
    weights: Weights,
    sizes: [usize; 3],
    bias: Vec<f32>,
}

impl Checkpoint<'_, '_> {
    /// The convolution `name`, of which the size at `outputs` is that of the biases.
    fn kernel(&self, name: &str, outputs: usize) -> PyResult<Kernel> {
        let weights = Weights::get(self.get_weight, &format!("{name}.weight"), &[ANY; 3])?;
        let bias = Weights::get(self.get_weight, &format!("{name}.bias"), &[ANY])?.to_vec();
        let sizes = [weights.shape()[0], weights.shape()[1], weights.shape()[2]];
        if weights.is_empty() || bias.len() != sizes[outputs] {
            return Err(PyValueError::new_err(format!(
                "{name} has weights {sizes:?} and {} biases",
                bias.len()
            )));
        }
        Ok(Kernel {
            weights,
            sizes,
            bias,
        })
    }

    /// A convolution `[outputs, inputs, taps]` centred on each step.
    fn convolution(&self, name: &str, dilation: usize) -> PyResult<Convolution> {
        let kernel = self.kernel(name, 0)?;
        let before = dilation * (kernel.sizes[2] - 1) / 2;
        Ok(self.pack(&kernel, (dilation, 1), before))
    }

    /// A convolution `[outputs, inputs, taps]` with a stride of `rate`.
    fn source(&self, name: &str, rate: usize) -> PyResult<Convolution> {
        let before = if rate == 1 { 0 } else { rate / 2 };
        Ok(self.pack(&self.kernel(name, 0)?, (1, rate), before))
    }

    fn pack(
        &self,
        kernel: &Kernel,
        (dilation, stride): (usize, usize),
        before: usize,
    ) -> Convolution {
        let [outputs, inputs, taps] = kernel.sizes;
        let geometry = Geometry {
            inputs,
            outputs,
            taps,
            dilation,
            stride,
            before,
        };
        Convolution::new(self.pool, geometry, &kernel.bias, &|output, input, tap| {
            kernel.weights[(output * inputs + input) * taps + tap]
        })
    }

    /// A transposed convolution `[inputs, outputs, taps]` with a stride of `rate`.
    fn transposed(&self, name: &str, rate: usize) -> PyResult<Convolution> {
        let kernel = self.kernel(name, 1)?;
        let [inputs, outputs, taps] = kernel.sizes;
        let padding = match taps.checked_sub(rate) {
            Some(both) if both.is_multiple_of(2) => both / 2,
            _ => {
                return Err(PyValueError::new_err(format!(
                    "{name} has {taps} taps for {rate} steps"
                )));
            }
        };
        Ok(Convolution::transposed(
            self.pool,
            (inputs, outputs, taps),
            (rate, padding),
            &kernel.bias,
            &|output, input, tap| kernel.weights[(input * outputs + output) * taps + tap],
        ))
    }

    fn snake(&self, name: &str) -> PyResult<Snake> {
        let alpha = Weights::get(self.get_weight, &format!("{name}.alpha"), &[ANY])?;
        Ok(Snake::new(alpha.to_vec()))
    }

    fn residual(&self, name: &str) -> PyResult<Residual> {
        let pair = |(index, dilation): (usize, &usize)| {
            Ok(Pair {
                first_snake: self.snake(&format!("{name}.activations1.{index}"))?,
                first: self.convolution(&format!("{name}.convs1.{index}"), *dilation)?,
                second_snake: self.snake(&format!("{name}.activations2.{index}"))?,
                second: self.convolution(&format!("{name}.convs2.{index}"), 1)?,
            })
        };
        let pairs = self.dilations.iter().enumerate().map(pair);
        Ok(Residual(pairs.collect::<PyResult<_>>()?))
    }
}
