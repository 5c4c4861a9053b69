//! T3's backbone and its cache.

// Python's arguments are the function's own.
#![allow(clippy::needless_pass_by_value)]

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chatterbox_kernels::t3::{
    Backbone, Cache, CacheFormat, Gpt2Layer, Linear, LlamaLayer, Norm, Positions,
};
use chatterbox_kernels::{Pool, Precision};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::buffers::{ANY, Weights, check};
use super::value_error;

/// The transformer and the head of a T3.
///
/// Arrays are objects with a buffer of C-contiguous float32, such as numpy's. Raises `ValueError` for what does not fit.
#[pyclass(frozen, module = "chatterbox_server._core")]
pub struct T3Backbone {
    backbone: Backbone,
    pool: Arc<Pool>,
    format: CacheFormat,
}

/// Keys and values of the past positions of some rows.
#[pyclass(frozen, module = "chatterbox_server._core")]
pub struct T3Cache(Mutex<Cache>);

#[pymethods]
impl T3Backbone {
    /// `layers` yields a tuple of arrays for each layer: attention norm, query, key, value, output, feed-forward norm, gate,
    /// up, down; matrices are `[outputs, inputs]`. Each is packed before the next one is asked for.
    #[staticmethod]
    fn llama(
        py: Python<'_>,
        heads: usize,
        precision: &str,
        frequencies: PyBuffer<f32>,
        layers: &Bound<'_, PyAny>,
        norm: PyBuffer<f32>,
        head: PyBuffer<f32>,
    ) -> PyResult<Self> {
        let positions =
            Positions::Rotary(Weights::new("frequencies", frequencies, &[ANY])?.to_vec());
        let norm = Norm::Rms {
            weight: Weights::new("norm", norm, &[ANY])?.to_vec(),
        };
        let mut made = Self::empty(py, heads, precision, positions, norm, (head, None))?;
        for layer in layers.try_iter()? {
            let arrays: [Weights; 9] = layer_weights(&layer?)?;
            let [
                attention_norm,
                query,
                key,
                value,
                output,
                feed_norm,
                gate,
                up,
                down,
            ] = &arrays;
            let layer = LlamaLayer {
                attention_norm,
                query,
                key,
                value,
                output,
                feed_norm,
                gate,
                up,
                down,
            };
            py.detach(|| made.backbone.add_llama(&made.pool, &layer))
                .map_err(value_error)?;
        }
        Ok(made)
    }

    /// `layers` yields a tuple of arrays for each layer: attention norm, projections, output, feed-forward norm, up, down,
    /// each followed by its bias; matrices are `[inputs, outputs]`, the head `[outputs, inputs]`. `positions` is the table
    /// `[most positions, width]`.
    #[staticmethod]
    fn gpt2(
        py: Python<'_>,
        heads: usize,
        precision: &str,
        positions: PyBuffer<f32>,
        layers: &Bound<'_, PyAny>,
        norm: (PyBuffer<f32>, PyBuffer<f32>),
        head: (PyBuffer<f32>, PyBuffer<f32>),
    ) -> PyResult<Self> {
        let positions =
            Positions::Learned(Weights::new("positions", positions, &[ANY; 2])?.to_vec());
        let norm = Norm::Layer {
            weight: Weights::new("norm", norm.0, &[ANY])?.to_vec(),
            bias: Weights::new("norm", norm.1, &[ANY])?.to_vec(),
        };
        let head = (head.0, Some(head.1));
        let mut made = Self::empty(py, heads, precision, positions, norm, head)?;
        for layer in layers.try_iter()? {
            let arrays: [Weights; 12] = layer_weights(&layer?)?;
            let norm = |n: usize| Norm::Layer {
                weight: arrays[n].to_vec(),
                bias: arrays[n + 1].to_vec(),
            };
            let linear = |n: usize| Linear {
                weight: &arrays[n],
                transposed: true,
                bias: &arrays[n + 1],
            };
            let layer = Gpt2Layer {
                attention_norm: norm(0),
                projections: linear(2),
                output: linear(4),
                feed_norm: norm(6),
                up: linear(8),
                down: linear(10),
            };
            py.detach(|| made.backbone.add_gpt2(&made.pool, layer))
                .map_err(value_error)?;
        }
        Ok(made)
    }

    /// An empty cache for this model.
    fn cache(&self) -> T3Cache {
        T3Cache(Mutex::new(self.backbone.cache(self.format)))
    }

    /// Takes `embedded` `[rows, new, width]` through every layer, to `hidden` of the same shape: of each of the cache's rows
    /// from `first` on, the positions from `starts[row]` on. What a row held from there on is forgotten.
    fn forward(
        &self,
        py: Python<'_>,
        embedded: PyBuffer<f32>,
        hidden: PyBuffer<f32>,
        cache: &T3Cache,
        first: usize,
        starts: Vec<usize>,
    ) -> PyResult<()> {
        let (rows, width) = (starts.len(), self.backbone.width());
        let new = embedded.item_count() / (rows * width).max(1);
        let shape = [rows, new, width];
        check(
            &[("embedded", &embedded, &shape)],
            &[("hidden", &hidden, &shape)],
        )?;
        let embedded = embedded.to_vec(py)?;
        let computed = py.detach(|| {
            self.backbone
                .forward(&self.pool, embedded, &mut cache.lock(), first, &starts)
        });
        hidden.copy_from_slice(py, &computed.map_err(value_error)?)
    }

    /// Logits of the next token, to `logits` `[rows, ids]`, from the rows' last position `hidden` `[rows, width]`.
    fn logits(&self, py: Python<'_>, hidden: PyBuffer<f32>, logits: PyBuffer<f32>) -> PyResult<()> {
        let (width, ids) = (self.backbone.width(), self.backbone.ids());
        let rows = hidden.item_count() / width;
        check(
            &[("hidden", &hidden, &[rows, width])],
            &[("logits", &logits, &[rows, ids])],
        )?;
        let hidden = hidden.to_vec(py)?;
        let computed = py.detach(|| self.backbone.logits(&self.pool, &hidden));
        logits.copy_from_slice(py, &computed.map_err(value_error)?)
    }
}

impl T3Backbone {
    /// One without layers; `width` is the norm's.
    fn empty(
        py: Python<'_>,
        heads: usize,
        precision: &str,
        positions: Positions,
        norm: Norm,
        (head, bias): (PyBuffer<f32>, Option<PyBuffer<f32>>),
    ) -> PyResult<Self> {
        let (precision, format) = parse_precision(precision)?;
        let (Norm::Rms { weight } | Norm::Layer { weight, .. }) = &norm;
        let width = weight.len();
        let weight = Weights::new("head", head, &[ANY; 2])?;
        let bias = match bias {
            Some(bias) => Weights::new("head", bias, &[ANY])?.to_vec(),
            None => Vec::new(),
        };
        let head = Linear {
            weight: &weight,
            transposed: false,
            bias: &bias,
        };
        let pool = super::pool();
        let backbone = py
            .detach(|| Backbone::new(&pool, (width, heads), precision, positions, norm, &head))
            .map_err(value_error)?;
        Ok(Self {
            backbone,
            pool,
            format,
        })
    }
}

#[pymethods]
impl T3Cache {
    /// Rows in use.
    #[getter]
    fn rows(&self) -> usize {
        self.lock().rows()
    }

    /// Bytes of keys and values. What rows share counts once for each of them.
    #[getter]
    fn nbytes(&self) -> usize {
        self.lock().bytes()
    }

    /// Add a row at the end that holds nothing yet.
    fn append(&self) {
        self.lock().append();
    }

    /// Make `row` begin as the first row of `other` is. The space is shared until they differ.
    fn paste(&self, row: usize, other: &Self) -> PyResult<()> {
        if std::ptr::eq(self, other) {
            return Err(PyValueError::new_err("a cache is pasted into itself"));
        }
        self.lock()
            .paste(row, &other.lock(), 0)
            .map_err(value_error)
    }

    /// Drop `row`; the last one takes its number.
    fn remove(&self, row: usize) -> PyResult<()> {
        self.lock().remove(row).map_err(value_error)
    }
}

impl T3Cache {
    fn lock(&self) -> MutexGuard<'_, Cache> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The arrays of a layer, a tuple of `N` of them.
fn layer_weights<const N: usize>(layer: &Bound<'_, PyAny>) -> PyResult<[Weights; N]> {
    let mut weights = Vec::with_capacity(N);
    for buffer in layer.extract::<[PyBuffer<f32>; N]>()? {
        let shape = vec![ANY; buffer.dimensions()];
        weights.push(Weights::new("a layer's array", buffer, &shape)?);
    }
    weights
        .try_into()
        .map_err(|_| PyValueError::new_err(format!("a layer has {N} arrays")))
}

/// The formats of weights and of the cached keys and values.
fn parse_precision(precision: &str) -> PyResult<(Precision, CacheFormat)> {
    match precision {
        "fp32" => Ok((Precision::F32, CacheFormat::F32)),
        "bf16" => Ok((Precision::Bf16, CacheFormat::Bf16)),
        "int8" => Ok((Precision::Int8, CacheFormat::Bf16)),
        "int4" => Ok((Precision::Int4, CacheFormat::Bf16)),
        _ => Err(PyValueError::new_err(format!(
            "precision {precision:?} is unknown; fp32, bf16, int8 and int4 are there"
        ))),
    }
}
