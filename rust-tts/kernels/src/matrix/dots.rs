//! Products of small integers, for each instruction set.

#[cfg(target_arch = "x86_64")]
use super::x86;
use crate::isa::{Isa, isa};
use crate::simd::{LANES, Portable, Simd};

/// Inputs that one step of a dot product takes.
pub(crate) const STEP: usize = 4;
/// Inputs of a group of 4-bit weights.
pub(crate) const GROUP: usize = 32;
/// Steps whose products a processor may add in 16 bits, of every second pair of inputs: see [`Dots`] for AVX2.
pub(crate) const TOGETHER: usize = 2;
/// The most that the 8-bit weights of one sign among those four of an output add up to.
pub(crate) const MOST_TOGETHER: i32 = 182;
/// The same of bytes that are multiplied with unsigned ones.
pub(crate) const MOST_UNSIGNED: i32 = 128;
/// Pairs of steps in a group.
pub(crate) const GROUP_CHUNKS: usize = GROUP / STEP / 2;
/// Bytes of the weights of [`LANES`] outputs for one step, and (4 bits each) for one group.
pub(crate) const STEP_BYTES: usize = STEP * LANES;
pub(crate) const GROUP_BYTES: usize = GROUP * LANES / 2;

/// Instructions for dot products of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DotSet {
    Baseline,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
}

/// What a product is computed with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Set {
    pub floats: Isa,
    pub dots: DotSet,
}

impl Set {
    /// The best that this processor has.
    pub(crate) fn best() -> Self {
        let floats = isa();
        let dots = DotSet::all().last().copied().unwrap_or(DotSet::Baseline);
        Self { floats, dots }
    }
}

impl DotSet {
    /// Those that this processor has, the best last.
    pub(crate) fn all() -> &'static [Self] {
        #[cfg(target_arch = "x86_64")]
        {
            const ALL: [DotSet; 4] = [
                DotSet::Baseline,
                DotSet::Avx2,
                DotSet::AvxVnni,
                DotSet::Avx512Vnni,
            ];
            const WITHOUT_AVX_VNNI: [DotSet; 3] =
                [DotSet::Baseline, DotSet::Avx2, DotSet::Avx512Vnni];
            let avx_vnni = is_x86_feature_detected!("avxvnni");
            match isa() {
                Isa::Baseline => &ALL[..1],
                Isa::Avx512
                    if is_x86_feature_detected!("avx512bw")
                        && is_x86_feature_detected!("avx512vnni") =>
                {
                    if avx_vnni {
                        &ALL
                    } else {
                        &WITHOUT_AVX_VNNI
                    }
                }
                _ if avx_vnni => &ALL[..3],
                _ => &ALL[..2],
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        &[Self::Baseline]
    }

    /// Runs `task` compiled for this set, which must be one that this processor has.
    #[inline]
    pub(crate) fn run<T: DotTask>(self, task: T) {
        match self {
            Self::Baseline => task.run::<Portable>(),
            // SAFETY: the caller's promise.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { x86::run_avx2(task) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => unsafe { x86::run_avx_vnni(task) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => unsafe { x86::run_avx512_vnni(task) },
        }
    }
}

/// A loop over some instruction set; `run` must be `#[inline(always)]`, and what it calls as well.
pub(crate) trait DotTask {
    fn run<D: Dots>(self);
}

/// Dot products for [`LANES`] outputs at once.
///
/// # Safety
/// The functions may be called only where the processor has the instruction set, and with pointers to as many elements as
/// they say; nothing needs to be aligned.
pub(crate) trait Dots {
    /// The same processor's floats.
    type Floats: Simd;
    /// Sixteen sums of 32 bits.
    type Sums: Copy;

    /// Rows and panels of a tile, with 8-bit and with 4-bit weights.
    const SHAPE8: (usize, usize);
    const ROWS4: usize;
    /// The largest input, and what is added to inputs because the instruction wants them unsigned, for 8-bit weights.
    const LARGEST: i8;
    const OFFSET: u8;

    /// `starts` and the products of `rounds` times [`TOGETHER`] steps of `R` rows' ready inputs `[step][R]` with `P` times the
    /// weights `[step][LANES][STEP]`.
    unsafe fn products<const R: usize, const P: usize>(
        x: *const u32,
        w: [*const i8; P],
        rounds: usize,
        starts: &[[i32; LANES]; P],
    ) -> [[Self::Sums; P]; R];
    /// The same, from zero, of signed bytes in the rows, of which no four that are added in 16 bits exceed
    /// [`MOST_UNSIGNED`], with unsigned ones `[step][LANES][STEP]`.
    unsafe fn unsigned<const R: usize>(
        x: *const u32,
        w: *const u8,
        rounds: usize,
    ) -> [Self::Sums; R];
    /// The products of [`GROUP_BYTES`] of weights `[GROUP_CHUNKS][LANES][STEP]`, each byte that of a step in its low half
    /// and that of the next in its high one, with the bytes of `R` rows `[GROUP / STEP][R][STEP]`. `chunks` is
    /// [`GROUP_CHUNKS`], not known to the compiler, which would unroll more than the registers hold.
    unsafe fn group<const R: usize>(w: *const u8, x: *const u32, chunks: usize) -> [Self::Sums; R];
    unsafe fn floats(sums: Self::Sums) -> <Self::Floats as Simd>::V;
}

/// Adds the products of a row's bytes, signed ones, with those of each lane.
#[inline(always)]
fn dot<T: Copy + Into<i32>>(x: u32, w: [T; STEP_BYTES], sums: &mut [i32; LANES]) {
    let x = x.to_le_bytes();
    for (sum, w) in sums.iter_mut().zip(w.as_chunks::<STEP>().0) {
        for (&x, &w) in x.iter().zip(w) {
            *sum += i32::from(x.cast_signed()) * w.into();
        }
    }
}

impl Dots for Portable {
    type Floats = Self;
    type Sums = [i32; LANES];
    const SHAPE8: (usize, usize) = (4, 1);
    const ROWS4: usize = 4;
    const LARGEST: i8 = i8::MAX;
    const OFFSET: u8 = 0;

    #[inline(always)]
    unsafe fn products<const R: usize, const P: usize>(
        x: *const u32,
        w: [*const i8; P],
        rounds: usize,
        starts: &[[i32; LANES]; P],
    ) -> [[Self::Sums; P]; R] {
        let mut sums = [*starts; R];
        for step in 0..rounds * TOGETHER {
            for (r, sums) in sums.iter_mut().enumerate() {
                for (sums, w) in sums.iter_mut().zip(w) {
                    // SAFETY: `x` and `w` point to as many words and bytes.
                    unsafe {
                        let w = w.add(step * STEP_BYTES).cast::<[i8; STEP_BYTES]>();
                        dot(*x.add(step * R + r), w.read_unaligned(), sums);
                    }
                }
            }
        }
        sums
    }

    #[inline(always)]
    unsafe fn unsigned<const R: usize>(
        x: *const u32,
        w: *const u8,
        rounds: usize,
    ) -> [Self::Sums; R] {
        let mut sums = [[0; LANES]; R];
        for step in 0..rounds * TOGETHER {
            for (r, sums) in sums.iter_mut().enumerate() {
                // SAFETY: `x` and `w` point to as many words and bytes.
                unsafe {
                    let w = w.add(step * STEP_BYTES).cast::<[u8; STEP_BYTES]>();
                    dot(*x.add(step * R + r), w.read_unaligned(), sums);
                }
            }
        }
        sums
    }

    #[inline(always)]
    unsafe fn group<const R: usize>(w: *const u8, x: *const u32, chunks: usize) -> [Self::Sums; R] {
        let mut sums = [[0; LANES]; R];
        for chunk in 0..chunks {
            // SAFETY: `w` and `x` point to as many bytes and words.
            unsafe {
                let both = w
                    .add(chunk * STEP_BYTES)
                    .cast::<[u8; STEP_BYTES]>()
                    .read_unaligned();
                let low = both.map(|both| (both & 15).cast_signed());
                let high = both.map(|both| (both >> 4).cast_signed());
                for (r, sums) in sums.iter_mut().enumerate() {
                    let x = x.add(2 * chunk * R + r);
                    dot(*x, low, sums);
                    dot(*x.add(R), high, sums);
                }
            }
        }
        sums
    }

    #[inline(always)]
    unsafe fn floats(sums: Self::Sums) -> [f32; LANES] {
        sums.map(|sum| sum as f32)
    }
}
