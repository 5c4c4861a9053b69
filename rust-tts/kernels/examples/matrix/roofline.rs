//! Measures the machine's peak rates, with which a product's speed is compared.

use std::hint::black_box;
use std::time::Instant;

use chatterbox_kernels::Pool;

/// Several times what caches hold.
const BYTES: usize = 256 << 20;
/// Bytes of a task, read from so many places at once.
const TASK: usize = 1 << 20;
const STREAMS: usize = 4;
/// Repetitions, of which the best counts: others may use the machine as well.
const REPETITIONS: usize = 12;
/// Multiplications of each chain of a task.
const LENGTH: usize = 200_000;
/// Independent chains: as many as hide the latency of a multiplication.
const CHAINS: usize = 12;

/// The rate at which the threads of `pool` read memory, in bytes per second. Takes a quarter of a gigabyte for a moment.
pub fn bandwidth(pool: &Pool) -> f64 {
    let memory = vec![1_u64; BYTES / size_of::<u64>()];
    let length = TASK / size_of::<u64>();
    let seconds = best(|| {
        pool.run(BYTES / TASK, &|task| {
            let streams = memory[task * length..][..length].chunks_exact(length / STREAMS);
            let mut sums = [0; STREAMS];
            let streams: Vec<_> = streams.collect();
            for at in 0..length / STREAMS {
                for (sum, stream) in sums.iter_mut().zip(&streams) {
                    *sum ^= stream[at];
                }
            }
            black_box(sums);
        });
    });
    BYTES as f64 / seconds
}

/// The rate at which the threads of `pool` multiply and add f32 in registers, in operations per second (two for each
/// multiplication with its addition).
pub fn flops(pool: &Pool) -> f64 {
    let tasks = pool.threads() * 4;
    let (run, lanes) = chains();
    let seconds = best(|| pool.run(tasks, &|_| run()));
    (2 * tasks * CHAINS * LENGTH * lanes) as f64 / seconds
}

fn best(mut run: impl FnMut()) -> f64 {
    let times = (0..REPETITIONS).map(|_| {
        let begun = Instant::now();
        run();
        begun.elapsed().as_secs_f64()
    });
    times.fold(f64::INFINITY, f64::min)
}

/// [`CHAINS`] chains of multiplications in the widest registers of the processor, and the lanes of these.
fn chains() -> (fn(), usize) {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has the instructions.
            return (|| unsafe { avx512() }, 16);
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the processor has the instructions.
            return (|| unsafe { avx2() }, 8);
        }
    }
    (portable, 4)
}

fn portable() {
    let (factor, added) = (black_box(0.9), black_box(0.1));
    let mut values = [[added; 4]; CHAINS];
    for _ in 0..LENGTH {
        for value in values.as_flattened_mut() {
            *value = *value * factor + added;
        }
    }
    black_box(values);
}

#[cfg(target_arch = "x86_64")]
macro_rules! chains {
    ($name:ident, $features:literal, $set:ident, $multiply_add:ident) => {
        #[target_feature(enable = $features)]
        fn $name() {
            use std::arch::x86_64::{$multiply_add, $set};
            let (factor, added) = ($set(black_box(0.9)), $set(black_box(0.1)));
            let mut values = [added; CHAINS];
            for _ in 0..LENGTH {
                for value in &mut values {
                    *value = $multiply_add(*value, factor, added);
                }
            }
            black_box(values);
        }
    };
}
#[cfg(target_arch = "x86_64")]
chains!(avx512, "avx512f", _mm512_set1_ps, _mm512_fmadd_ps);
#[cfg(target_arch = "x86_64")]
chains!(avx2, "avx2,fma", _mm256_set1_ps, _mm256_fmadd_ps);
