//! The backbone: positions, layers, the last norm and the head.

use super::attention::{Attention, MOST_CHANNELS, Rotation};
use super::cache::{Cache, CacheFormat};
use super::elementwise::Norm;
use super::layer::{Gpt2Layer, Layer, LlamaLayer, Workspace};
use super::linear::Linear;
use super::page::{PAGE, Shape};
use crate::Error;
use crate::math::add;
use crate::matrix::{Matrix, Precision};
use crate::pool::Pool;
use crate::simd::LANES;

/// How positions in the sequence are encoded.
pub enum Positions {
    /// Queries and keys are rotated by so many radians per position, for each pair of a head's channels.
    Rotary(Vec<f32>),
    /// A table `[most positions, width]` is added to the embeddings.
    Learned(Vec<f32>),
}

/// The transformer and the head of a T3. Layers are added one by one, so that their weights need not all be at hand.
pub struct Backbone {
    width: usize,
    heads: usize,
    precision: Precision,
    positions: Positions,
    layers: Vec<Layer>,
    norm: Norm,
    head: (Matrix, Vec<f32>),
}

impl Backbone {
    /// One without layers. `norm` and `head` are what comes after them.
    pub fn new(
        pool: &Pool,
        (width, heads): (usize, usize),
        precision: Precision,
        positions: Positions,
        norm: Norm,
        head: &Linear<'_>,
    ) -> Result<Self, Error> {
        let channels = width.checked_div(heads).unwrap_or(0);
        if channels == 0 || channels * heads != width {
            return Err(Error(format!(
                "{width} channels cannot be split into {heads} heads"
            )));
        }
        if !channels.is_multiple_of(LANES) || channels > MOST_CHANNELS {
            return Err(Error(format!(
                "heads of {channels} channels are none of 16 to {MOST_CHANNELS} in steps of 16"
            )));
        }
        let fits = match &positions {
            Positions::Rotary(frequencies) => 2 * frequencies.len() == channels,
            Positions::Learned(table) => !table.is_empty() && table.len().is_multiple_of(width),
        };
        if !fits || !norm.fits(width) {
            return Err(Error(format!(
                "positions or norm are not of {width} channels"
            )));
        }
        // Its errors are the logits' own, and it is a small part of all weights.
        let head_precision = match precision {
            Precision::Int4 => Precision::Int8,
            other => other,
        };
        Ok(Self {
            width,
            heads,
            precision,
            positions,
            layers: Vec::new(),
            norm,
            head: head.pack(pool, width, head_precision)?,
        })
    }

    /// Adds a layer behind the others.
    pub fn add_llama(&mut self, pool: &Pool, layer: &LlamaLayer<'_>) -> Result<(), Error> {
        let layer = Layer::llama(pool, layer, self.width, self.precision)?;
        self.layers.push(layer);
        Ok(())
    }

    /// Adds a layer behind the others.
    pub fn add_gpt2(&mut self, pool: &Pool, layer: Gpt2Layer<'_>) -> Result<(), Error> {
        let layer = Layer::gpt2(pool, layer, self.width, self.precision)?;
        self.layers.push(layer);
        Ok(())
    }

    pub fn width(&self) -> usize {
        self.width
    }

    /// Ids that have logits.
    pub fn ids(&self) -> usize {
        self.head.0.outputs()
    }

    /// An empty cache for this model.
    pub fn cache(&self, format: CacheFormat) -> Cache {
        Cache::new(Shape {
            layers: self.layers.len(),
            heads: self.heads,
            channels: self.width / self.heads,
            format,
        })
    }

    /// Takes `embedded` `[starts, new, width]` through every layer: `new` positions, from `starts[i]` on, of each of the
    /// cache's rows from `first` on. Positions see those of their row that the cache holds before them, and each other
    /// backwards. The result is not yet normed.
    pub fn forward(
        &self,
        pool: &Pool,
        embedded: Vec<f32>,
        cache: &mut Cache,
        first: usize,
        starts: &[usize],
    ) -> Result<Vec<f32>, Error> {
        let new = embedded.len() / (starts.len() * self.width).max(1);
        if new == 0 || embedded.len() != new * starts.len() * self.width {
            return Err(Error(format!(
                "{} numbers are no positions of {} rows",
                embedded.len(),
                starts.len()
            )));
        }
        let mut work = Workspace::new(embedded);
        let rotation = self.encode_positions(&mut work.hidden, starts, new)?;
        if cache.shape() != self.cache(cache.shape().format).shape() {
            return Err(Error("the cache is another model's".to_owned()));
        }
        let attention = Attention::open(cache, first, starts, new)?;
        for (number, layer) in self.layers.iter().enumerate() {
            layer.forward(pool, number, &mut work, &attention, rotation.as_ref());
        }
        Ok(work.hidden)
    }

    /// Of the next token, `[rows, ids]`, from the rows' last position `hidden` `[rows, width]`.
    pub fn logits(&self, pool: &Pool, hidden: &[f32]) -> Result<Vec<f32>, Error> {
        let rows = hidden.len() / self.width;
        if rows * self.width != hidden.len() {
            return Err(Error(format!(
                "{} numbers are no rows of {}",
                hidden.len(),
                self.width
            )));
        }
        let mut normed = vec![0.0; hidden.len()];
        self.norm.apply(pool, hidden, &mut normed);
        let (head, bias) = &self.head;
        let mut logits = vec![0.0; rows * head.outputs()];
        head.multiply_and_add(pool, &normed, bias, &mut logits);
        Ok(logits)
    }

    /// Adds learned positions to `hidden`, or returns the angles of rotary ones.
    fn encode_positions(
        &self,
        hidden: &mut [f32],
        starts: &[usize],
        new: usize,
    ) -> Result<Option<Rotation>, Error> {
        let places = starts.iter().flat_map(|start| *start..start + new);
        match &self.positions {
            Positions::Rotary(frequencies) => {
                let angles = places.flat_map(|position| {
                    frequencies
                        .iter()
                        .map(move |frequency| position as f32 * frequency)
                });
                let (sines, cosines) = angles.map(f32::sin_cos).unzip();
                Ok(Some(Rotation { cosines, sines }))
            }
            Positions::Learned(table) => {
                let most = table.len() / self.width;
                for (position, hidden) in places.zip(hidden.chunks_exact_mut(self.width)) {
                    let from = table.chunks_exact(self.width).nth(position);
                    let from = from.ok_or_else(|| {
                        Error(format!("the model has no more than {most} positions"))
                    })?;
                    add(hidden, from);
                }
                Ok(None)
            }
        }
    }
}

const _: () = assert!(PAGE.is_multiple_of(LANES));
