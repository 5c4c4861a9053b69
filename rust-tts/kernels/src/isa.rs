//! Function multiversioning: plain loops that the compiler vectorises, compiled for several instruction sets, of which the best
//! that the processor has is chosen at run time.

/// Instruction sets that loops are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isa {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// The instructions of every processor of the target.
    Baseline,
}

/// Whether the baseline multiplies and adds in one instruction. Where it does not, `mul_add` would be a call into a library.
pub(crate) const BASELINE_FMA: bool = cfg!(any(target_arch = "aarch64", target_feature = "fma"));

/// The best set that this processor has.
pub(crate) fn isa() -> Isa {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            let wider = is_x86_feature_detected!("avx512f");
            return if wider { Isa::Avx512 } else { Isa::Avx2 };
        }
    }
    Isa::Baseline
}

/// `a b + c`, rounded once if `FMA`.
#[inline(always)]
pub(crate) fn multiply_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// Defines a function that is compiled for every instruction set from `body::<FMA>`, which must be `#[inline(always)]`.
macro_rules! vectorised {
    ($(#[$attribute:meta])* $visibility:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) = $body:ident) => {
        $(#[$attribute])*
        $visibility fn $name($($argument: $type),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx2,fma")]
            fn avx512($($argument: $type),*) {
                $body::<true>($($argument),*);
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($argument: $type),*) {
                $body::<true>($($argument),*);
            }
            match $crate::isa::isa() {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the processor has the instructions.
                $crate::isa::Isa::Avx512 => unsafe { avx512($($argument),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the processor has the instructions.
                $crate::isa::Isa::Avx2 => unsafe { avx2($($argument),*) },
                $crate::isa::Isa::Baseline => $body::<{ $crate::isa::BASELINE_FMA }>($($argument),*),
            }
        }
    };
}
pub(crate) use vectorised;
