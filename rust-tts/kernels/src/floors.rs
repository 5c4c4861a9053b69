//! What the machine can do at most, measured: what a product's speed is to be compared with.

use std::hint::black_box;
use std::time::Instant;

use crate::isa::isa;
use crate::memory::Buffer;
use crate::pool::Pool;
use crate::simd::{self, LANES, Simd, Task};

/// Several times what caches hold.
const BYTES: usize = 256 << 20;
/// Bytes of a task, read from so many places at once.
const PART: usize = 1 << 20;
const STREAMS: usize = 4;
/// Repetitions, of which the best counts: others may use the machine as well.
const TIMES: usize = 12;
/// Multiplications of each chain of a task.
const LENGTH: usize = 200_000;

/// The rate at which the threads of `pool` read memory, in bytes per second. Takes a quarter of a gigabyte for a moment.
pub fn bandwidth(pool: &Pool) -> f64 {
    let mut memory = Buffer::<f32>::zeroed(BYTES / size_of::<f32>());
    memory.fill(1.0);
    let part = PART / size_of::<f32>();
    let seconds = best(|| {
        pool.run(BYTES / PART, &|task| {
            let part = &memory[task * part..][..part];
            black_box(simd::run(isa(), Read(part)));
        });
    });
    BYTES as f64 / seconds
}

/// The rate at which the threads of `pool` multiply and add floats in registers, in operations per second (two for each
/// multiplication with its addition).
pub fn flops(pool: &Pool) -> f64 {
    let tasks = pool.threads() * 4;
    let chains = simd::run(isa(), Chains);
    let seconds = best(|| {
        pool.run(tasks, &|_| {
            black_box(simd::run(isa(), Multiply));
        });
    });
    (2 * tasks * chains * LENGTH * LANES) as f64 / seconds
}

fn best(mut run: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..TIMES {
        let begun = Instant::now();
        run();
        best = best.min(begun.elapsed().as_secs_f64());
    }
    best
}

struct Read<'a>(&'a [f32]);

impl Task for Read<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self) -> f32 {
        let length = self.0.len() / STREAMS;
        let mut total = [0.0; LANES];
        // SAFETY: compiled for `S`, and all reads are inside of the slice.
        unsafe {
            let mut sums = [S::splat(0.0); STREAMS];
            let mut p = self.0.as_ptr();
            for _ in 0..length / LANES {
                for (stream, sum) in sums.iter_mut().enumerate() {
                    let p = p.add(stream * length);
                    simd::prefetch(p);
                    *sum = S::add(*sum, S::load(p));
                }
                p = p.add(LANES);
            }
            let mut all = sums[0];
            for &sum in &sums[1..] {
                all = S::add(all, sum);
            }
            S::store(total.as_mut_ptr(), all);
        }
        total.iter().sum()
    }
}

/// Independent multiplications: as many as hide the time that one takes, which is more than half of the registers.
struct Chains;

impl Task for Chains {
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd>(self) -> usize {
        if S::GROUPS > 1 { 12 } else { 6 }
    }
}

struct Multiply;

impl Task for Multiply {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self) -> f32 {
        // SAFETY: compiled for `S`.
        unsafe {
            if Chains.run::<S>() == 12 {
                chains::<S, 12>()
            } else {
                chains::<S, 6>()
            }
        }
    }
}

/// # Safety
/// The processor must have the instruction set.
#[inline(always)]
unsafe fn chains<S: Simd, const N: usize>() -> f32 {
    let mut total = [0.0; LANES];
    // SAFETY: the caller's promise.
    unsafe {
        let factor = S::splat(black_box(0.9));
        let added = S::splat(black_box(0.1));
        let mut values = [added; N];
        for (at, value) in values.iter_mut().enumerate() {
            *value = S::splat(black_box(at as f32));
        }
        for _ in 0..LENGTH {
            for value in &mut values {
                *value = S::mul_add(*value, factor, added);
            }
        }
        let mut all = values[0];
        for &value in &values[1..] {
            all = S::add(all, value);
        }
        S::store(total.as_mut_ptr(), all);
    }
    total.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_possible() {
        let pool = Pool::new(1);
        for rate in [bandwidth(&pool), flops(&pool)] {
            assert!(rate.is_finite() && rate > 1e6, "{rate}");
        }
    }
}
