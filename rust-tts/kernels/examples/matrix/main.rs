//! The speed of matrix products beside what the machine can do at most.
//!
//! `cargo run --release -p chatterbox-kernels --example matrix [threads]` prints, for each precision, the rate at which weights
//! are read with few rows, beside the memory's, and the rate of operations with many rows, beside the processor's. Others
//! on the machine disturb it: each figure is the best of some runs.

mod roofline;

use std::time::Instant;

use chatterbox_kernels::matrix::Layout;
use chatterbox_kernels::{Matrix, Pool, Precision};

const PRECISIONS: [Precision; 4] = [
    Precision::F32,
    Precision::Bf16,
    Precision::Int8,
    Precision::Int4,
];
/// Outputs and inputs of the matrices of a decoder, of which there are more than caches hold.
const LAYER: (usize, usize) = (4096, 1024);
const LAYERS: usize = 12;
const FEW_ROWS: [usize; 6] = [1, 2, 4, 8, 16, 64];
/// Rows, inputs, outputs.
const SHAPES: [(usize, usize, usize); 5] = [
    (417, 1024, 3072),
    (550, 256, 1024),
    (1100, 256, 1024),
    (1100, 1024, 256),
    (1100, 768, 256),
];
const RUNS: usize = 15;

fn main() {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = std::env::args().nth(1).and_then(|count| count.parse().ok());
    let pool = Pool::new(threads.unwrap_or(cores));
    let (bandwidth, flops) = (roofline::bandwidth(&pool), roofline::flops(&pool));
    println!(
        "{} threads: memory {:.1} GB/s, f32 {:.0} GFLOP/s",
        pool.threads(),
        bandwidth / 1e9,
        flops / 1e9
    );
    for precision in PRECISIONS {
        few_rows(&pool, precision, bandwidth);
        many_rows(&pool, precision, flops);
    }
}

fn few_rows(pool: &Pool, precision: Precision, bandwidth: f64) {
    let (outputs, inputs) = LAYER;
    let weights = noise(outputs * inputs);
    let row = |output: usize| &weights[output * inputs..][..inputs];
    let begun = Instant::now();
    let layers: Vec<_> = (0..LAYERS)
        .map(|_| Matrix::pack_from(pool, outputs, inputs, precision, Layout::Rows(&row)))
        .collect();
    let packed = (LAYERS * size_of_val(&*weights)) as f64 / begun.elapsed().as_secs_f64();
    let bytes: usize = layers.iter().map(Matrix::bytes).sum();
    println!(
        "{precision:?}: packs {:.2} GB/s of f32; GB/s of weights (part of the memory's) for rows:",
        packed / 1e9
    );
    for rows in FEW_ROWS {
        let x = noise(rows * inputs);
        let mut y = vec![0.0; rows * outputs];
        let seconds = best(|| {
            for layer in &layers {
                layer.multiply(pool, &x, &mut y, &|_, _, _| ());
            }
        });
        let rate = bytes as f64 / seconds;
        println!("  {rows:4}: {:5.1} ({:.2})", rate / 1e9, rate / bandwidth);
    }
}

fn many_rows(pool: &Pool, precision: Precision, flops: f64) {
    println!("  GFLOP/s (part of the processor's with f32) for rows x inputs x outputs:");
    for (rows, inputs, outputs) in SHAPES {
        let weights = noise(outputs * inputs);
        let matrix = Matrix::pack(&weights, outputs, inputs, (inputs, 1), precision);
        let x = noise(rows * inputs);
        let mut y = vec![0.0; rows * outputs];
        let seconds = best(|| matrix.multiply(pool, &x, &mut y, &|_, _, _| ()));
        let rate = (2 * rows * inputs * outputs) as f64 / seconds;
        println!(
            "  {rows:4} x {inputs:4} x {outputs:4}: {:5.0} ({:.2})",
            rate / 1e9,
            rate / flops
        );
    }
}

fn best(mut run: impl FnMut()) -> f64 {
    let times = (0..RUNS).map(|_| {
        let begun = Instant::now();
        run();
        begun.elapsed().as_secs_f64()
    });
    times.fold(f64::INFINITY, f64::min)
}

/// Numbers between -1 and 1.
fn noise(count: usize) -> Vec<f32> {
    let mut state = 1_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as f32 / u32::MAX as f32 * 2.0 - 1.0
    };
    (0..count).map(|_| next()).collect()
}
