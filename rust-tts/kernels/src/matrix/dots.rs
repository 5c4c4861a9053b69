//! Dot products of 8-bit and 4-bit integers, for each instruction set.

#[cfg(target_arch = "x86_64")]
use super::x86;
use crate::isa::{Isa, isa};
use crate::simd::{LANES, Portable, Simd};

/// Elements of `k` that one dot-product instruction multiplies and sums into a 32-bit lane.
pub(crate) const DOT: usize = 4;
/// Elements of `k` that share a scale and a minimum in 4-bit weights.
pub(crate) const GROUP: usize = 32;
/// Dots whose products AVX2 adds in 16 bits before it widens them (every second pair of elements).
pub(crate) const PAIR: usize = 2;
/// The most that those of the four 8-bit weights added in 16 bits which have one sign may add up to.
pub(crate) const MAX_PAIR_SUM: i32 = 182;
/// The same for signed bytes that are multiplied by unsigned ones.
pub(crate) const MAX_SIGNED_PAIR_SUM: i32 = 128;
/// Pairs of dots in a group.
pub(crate) const GROUP_CHUNKS: usize = GROUP / DOT / 2;
/// Bytes of the weights of [`LANES`] columns for one dot, and (4 bits each) for one group.
pub(crate) const DOT_BYTES: usize = DOT * LANES;
pub(crate) const GROUP_BYTES: usize = GROUP * LANES / 2;

/// Instruction sets with dot products of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DotIsa {
    Baseline,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
}

/// The instruction sets that a product is computed with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Isas {
    pub float: Isa,
    pub dot: DotIsa,
}

impl Isas {
    /// The best that this processor has.
    pub(crate) fn best() -> Self {
        let float = isa();
        let dot = DotIsa::all().last().copied().unwrap_or(DotIsa::Baseline);
        Self { float, dot }
    }
}

impl DotIsa {
    /// Those that this processor has, the best last.
    pub(crate) fn all() -> &'static [Self] {
        #[cfg(target_arch = "x86_64")]
        {
            const ALL: [DotIsa; 4] = [
                DotIsa::Baseline,
                DotIsa::Avx2,
                DotIsa::AvxVnni,
                DotIsa::Avx512Vnni,
            ];
            const WITHOUT_AVX_VNNI: [DotIsa; 3] =
                [DotIsa::Baseline, DotIsa::Avx2, DotIsa::Avx512Vnni];
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

/// Dot products for [`LANES`] columns (outputs) at once.
///
/// # Safety
/// The functions may be called only where the processor has the instruction set, and with pointers to as many elements as
/// they say; nothing needs to be aligned.
pub(crate) trait Dots {
    /// The same processor's f32 vectors.
    type Float: Simd;
    /// Sixteen 32-bit accumulators.
    type Acc: Copy;

    /// Rows and panels of a micro-kernel tile with 8-bit weights, and rows with 4-bit weights (one panel).
    const TILE_I8: (usize, usize);
    const MR_I4: usize;
    /// The largest quantised input, and what is added to inputs because the instruction takes them unsigned, for 8-bit
    /// weights.
    const MAX_INPUT: i8;
    const ZERO_POINT: u8;

    /// `initial` and the dot products over `pairs` times [`PAIR`] dots of `R` packed rows `[dot][R]` with `P` panels of
    /// weights `[dot][LANES][DOT]`.
    unsafe fn dot_products<const R: usize, const P: usize>(
        x: *const u32,
        w: [*const i8; P],
        pairs: usize,
        initial: &[[i32; LANES]; P],
    ) -> [[Self::Acc; P]; R];
    /// The same from zero, of signed bytes in the rows, of which no four that are added in 16 bits exceed
    /// [`MAX_SIGNED_PAIR_SUM`], with unsigned bytes `[dot][LANES][DOT]`.
    unsafe fn dot_u8<const R: usize>(x: *const u32, w: *const u8, pairs: usize) -> [Self::Acc; R];
    /// The dot products of one group of weights `[GROUP_CHUNKS][LANES][DOT]`, a dot in the low nibbles and the next in the
    /// high ones, with the bytes of `R` rows `[GROUP / DOT][R][DOT]`. `chunks` is [`GROUP_CHUNKS`], hidden from the compiler,
    /// which would unroll more than the registers hold.
    unsafe fn dot_i4<const R: usize>(w: *const u8, x: *const u32, chunks: usize) -> [Self::Acc; R];
    unsafe fn to_f32(sums: Self::Acc) -> <Self::Float as Simd>::V;
}

/// Adds the dot product of a row's four signed bytes with those of each lane.
#[inline(always)]
fn accumulate<T: Copy + Into<i32>>(x: u32, w: [T; DOT_BYTES], sums: &mut [i32; LANES]) {
    let x = x.to_le_bytes();
    for (sum, w) in sums.iter_mut().zip(w.as_chunks::<DOT>().0) {
        for (&x, &w) in x.iter().zip(w) {
            *sum += i32::from(x.cast_signed()) * w.into();
        }
    }
}

impl Dots for Portable {
    type Float = Self;
    type Acc = [i32; LANES];
    const TILE_I8: (usize, usize) = (4, 1);
    const MR_I4: usize = 4;
    const MAX_INPUT: i8 = i8::MAX;
    const ZERO_POINT: u8 = 0;

    #[inline(always)]
    unsafe fn dot_products<const R: usize, const P: usize>(
        x: *const u32,
        w: [*const i8; P],
        pairs: usize,
        initial: &[[i32; LANES]; P],
    ) -> [[Self::Acc; P]; R] {
        let mut sums = [*initial; R];
        for dot in 0..pairs * PAIR {
            for (r, sums) in sums.iter_mut().enumerate() {
                for (sums, w) in sums.iter_mut().zip(w) {
                    // SAFETY: `x` and `w` point to as many words and bytes.
                    unsafe {
                        let w = w.add(dot * DOT_BYTES).cast::<[i8; DOT_BYTES]>();
                        accumulate(*x.add(dot * R + r), w.read_unaligned(), sums);
                    }
                }
            }
        }
        sums
    }

    #[inline(always)]
    unsafe fn dot_u8<const R: usize>(x: *const u32, w: *const u8, pairs: usize) -> [Self::Acc; R] {
        let mut sums = [[0; LANES]; R];
        for dot in 0..pairs * PAIR {
            for (r, sums) in sums.iter_mut().enumerate() {
                // SAFETY: `x` and `w` point to as many words and bytes.
                unsafe {
                    let w = w.add(dot * DOT_BYTES).cast::<[u8; DOT_BYTES]>();
                    accumulate(*x.add(dot * R + r), w.read_unaligned(), sums);
                }
            }
        }
        sums
    }

    #[inline(always)]
    unsafe fn dot_i4<const R: usize>(w: *const u8, x: *const u32, chunks: usize) -> [Self::Acc; R] {
        let mut sums = [[0; LANES]; R];
        for chunk in 0..chunks {
            // SAFETY: `w` and `x` point to as many bytes and words.
            unsafe {
                let both = w
                    .add(chunk * DOT_BYTES)
                    .cast::<[u8; DOT_BYTES]>()
                    .read_unaligned();
                let low = both.map(|both| (both & 15).cast_signed());
                let high = both.map(|both| (both >> 4).cast_signed());
                for (r, sums) in sums.iter_mut().enumerate() {
                    let x = x.add(2 * chunk * R + r);
                    accumulate(*x, low, sums);
                    accumulate(*x.add(R), high, sums);
                }
            }
        }
        sums
    }

    #[inline(always)]
    unsafe fn to_f32(sums: Self::Acc) -> [f32; LANES] {
        sums.map(|sum| sum as f32)
    }
}
