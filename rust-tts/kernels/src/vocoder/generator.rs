//! The vocoder's network.

use super::convolution::Accumulate;
use super::convolution::Convolution;
use super::functions::{leaky, spectrum};
use super::residual::{Residual, Scratch};
use super::stft::{BINS, HOP, SHORTEST, Stft};
use super::{padded, rows};
use crate::Error;
use crate::math::add;
use crate::pool::Pool;

/// Slopes of the leaky rectifiers before the stages and before the last convolution.
const SLOPE: f32 = 0.1;
const LAST_SLOPE: f32 = 0.01;
const LOUDEST: f32 = 0.99;
const LARGEST_MAGNITUDE: f32 = 1e2;
/// Elements of a row, for activations that do not depend on the channel.
const ROW: usize = 256;

/// The upsampling from one rate to the next, and its residual blocks.
pub struct Stage {
    /// See [`Convolution::transposed`].
    pub up: Convolution,
    /// Steps that `up` makes of one.
    pub rate: usize,
    /// Brings the source's spectrum to the stage's rate.
    pub source: Convolution,
    pub source_block: Residual,
    /// The stage's output is their mean.
    pub blocks: Vec<Residual>,
}

impl Stage {
    /// Channels of its output.
    fn width(&self) -> usize {
        self.source.geometry.outputs
    }

    /// Whether it is one of `inputs` channels whose steps are `stride` of the spectrum's.
    fn fits(&self, inputs: usize, stride: usize) -> bool {
        let (up, source) = (&self.up.geometry, &self.source.geometry);
        let (taps, before) = if stride == 1 {
            (1, 0)
        } else {
            (2 * stride, stride / 2)
        };
        (up.inputs, up.outputs) == (inputs, self.rate * self.width())
            && (source.inputs, source.stride) == (2 * BINS, stride)
            && (source.taps, source.before) == (taps, before)
            && !self.blocks.is_empty()
            && self.source_block.fits(self.width())
            && self.blocks.iter().all(|block| block.fits(self.width()))
    }
}

/// Weights of the network.
pub struct Generator {
    before: Convolution,
    stages: Vec<Stage>,
    after: Convolution,
    stft: Stft,
}

/// Buffers that are kept from call to call, as large as the longest signal needs.
#[derive(Default)]
pub struct Workspace {
    spectrum: Vec<f32>,
    padded: Vec<f32>,
    x: Vec<f32>,
    source: Vec<f32>,
    total: Vec<f32>,
    scratch: Scratch,
}

impl Generator {
    /// `after` makes logarithms of magnitudes, then numbers whose sines are phases.
    ///
    /// # Errors
    /// Says which layers do not fit together.
    pub fn new(
        pool: &Pool,
        before: Convolution,
        stages: Vec<Stage>,
        after: Convolution,
    ) -> Result<Self, Error> {
        let mut width = before.geometry.outputs;
        let mut stride: usize = stages.iter().map(|stage| stage.rate).product();
        if stride * HOP < SHORTEST {
            return Err(Error(format!("a frame has only {} samples", stride * HOP)));
        }
        for (index, stage) in stages.iter().enumerate() {
            stride /= stage.rate;
            if !stage.fits(width, stride) {
                return Err(Error(format!(
                    "stage {index} is not one from {width} channels"
                )));
            }
            width = stage.width();
        }
        if (after.geometry.inputs, after.geometry.outputs) != (width, 2 * BINS) {
            return Err(Error(format!(
                "the last layer is not one from {width} channels"
            )));
        }
        if !before.is_centred() || !after.is_centred() {
            return Err(Error(
                "the first or the last layer has an even number of taps".into(),
            ));
        }
        Ok(Self {
            before,
            stages,
            after,
            stft: Stft::new(pool),
        })
    }

    /// Channels of a mel's frame.
    pub fn inputs(&self) -> usize {
        self.before.geometry.inputs
    }

    /// Samples that a frame becomes.
    pub fn samples_per_frame(&self) -> usize {
        HOP * self
            .stages
            .iter()
            .map(|stage| stage.rate)
            .product::<usize>()
    }

    /// Writes `samples`, in -0.99 to 0.99, for `mel` `[frames, inputs]` and `source`, as long as `samples` is.
    ///
    /// # Panics
    /// If they have not as many frames as each other, or none.
    pub fn run(
        &self,
        pool: &Pool,
        mel: &[f32],
        source: &[f32],
        samples: &mut [f32],
        workspace: &mut Workspace,
    ) {
        let frames = mel.len() / self.inputs();
        assert!(
            frames > 0
                && source.len() == frames * self.samples_per_frame()
                && samples.len() == source.len(),
            "a frame has {} samples",
            self.samples_per_frame()
        );
        let Workspace {
            spectrum: wide_spectrum,
            padded: signal,
            x,
            source: steps,
            total,
            scratch,
        } = workspace;
        let width = 2 * BINS;
        // The stages' convolutions reach more or less far beyond its ends.
        let sources = self.stages.iter().map(|stage| &stage.source.geometry);
        let edge = sources.map(|source| source.before).max().unwrap_or(0);
        let spectra = samples.len() / HOP + 1;
        let inside = padded(wide_spectrum, spectra * width, edge * width, edge * width);
        self.stft.forward(pool, source, inside, signal);

        padded_input(&self.before, mel.len(), signal).copy_from_slice(mel);
        total.resize(frames * self.before.geometry.outputs, 0.0);
        self.before
            .run(pool, signal, total, Accumulate::Overwrite, &|_, _| ());
        let mut scale = 1.0;
        for (index, stage) in self.stages.iter().enumerate() {
            let inside = padded_input(&stage.up, total.len(), signal);
            activate(pool, total, inside, scale, SLOPE);
            let made = inside.len() / stage.up.geometry.inputs * stage.up.geometry.outputs;
            // A spectrum has one frame more than its signal has hops, before which a step is mirrored.
            let mirrored = usize::from(index + 1 == self.stages.len()) * stage.width();
            x.resize(mirrored + made, 0.0);
            stage.up.run(
                pool,
                signal,
                &mut x[mirrored..],
                Accumulate::Overwrite,
                &|_, _| (),
            );
            x.copy_within(2 * mirrored..3 * mirrored, 0);

            steps.resize(x.len(), 0.0);
            let unused = (edge - stage.source.geometry.before) * width;
            stage.source.run(
                pool,
                &wide_spectrum[unused..],
                steps,
                Accumulate::Overwrite,
                &|_, _| (),
            );
            stage.source_block.run(pool, steps, scratch);
            rows(pool, steps, x, stage.width(), &|x, y| add(y, x));

            let (first, others) = (&stage.blocks[0], &stage.blocks[1..]);
            total.clone_from(x);
            first.run(pool, total, scratch);
            for block in others {
                steps.copy_from_slice(x);
                block.run(pool, steps, scratch);
                rows(pool, steps, total, stage.width(), &|x, y| add(y, x));
            }
            scale = 1.0 / stage.blocks.len() as f32;
        }
        let inside = padded_input(&self.after, total.len(), signal);
        activate(pool, total, inside, scale, LAST_SLOPE);
        x.resize(spectra * width, 0.0);
        self.after
            .run(pool, signal, x, Accumulate::Overwrite, &|_, _| ());
        let room = self.stft.room(signal, spectra);
        rows(pool, x, room, width, &|x, y| {
            spectrum(x, y, BINS, LARGEST_MAGNITUDE);
        });
        self.stft.inverse(pool, signal, samples);
        for sample in samples {
            *sample = sample.clamp(-LOUDEST, LOUDEST);
        }
    }
}

/// Resizes `signal` to `length` elements with the zeros around them that `convolution` reads, and returns the elements.
fn padded_input<'a>(
    convolution: &Convolution,
    length: usize,
    signal: &'a mut Vec<f32>,
) -> &'a mut [f32] {
    let geometry = &convolution.geometry;
    let (before, after) = (geometry.before, geometry.after());
    padded(
        signal,
        length,
        before * geometry.inputs,
        after * geometry.inputs,
    )
}

/// `y = leaky_relu(scale x)`
fn activate(pool: &Pool, x: &[f32], y: &mut [f32], scale: f32, slope: f32) {
    rows(pool, x, y, ROW, &|x, y| leaky(x, y, scale, slope));
}
