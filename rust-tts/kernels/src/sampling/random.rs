//! Random numbers that depend on a seed and a place in its stream, and on nothing else: `SplitMix64` (Steele, Lea and
//! Flood, 2014), whose n-th number is a function of n.

/// By which the state grows with each number.
const INCREMENT: u64 = 0x9E37_79B9_7F4A_7C15;
/// Steps lie this far apart in a seed's stream.
const NUMBERS_PER_STEP: u64 = 8192;
/// Of each word that are used: enough for numbers so small that they decide a draw for an unlikely token.
const BITS: u32 = 40;

/// The state before the numbers that draw the `step`-th token in the stream from `start` on.
pub(super) fn step_state(start: u64, step: u64) -> u64 {
    start.wrapping_add(step.wrapping_mul(NUMBERS_PER_STEP).wrapping_mul(INCREMENT))
}

/// The generator's output function.
pub(super) fn mix(state: u64) -> u64 {
    let state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    state ^ (state >> 31)
}

/// A number above 0 and up to 1, of the id `id` behind `state`, spread evenly.
pub(super) fn uniform(state: u64, id: u32) -> f32 {
    const SCALE: f32 = (1_u64 << (BITS + 1)) as f32;
    let word = mix(state.wrapping_add((u64::from(id) + 1).wrapping_mul(INCREMENT)));
    // Odd, so that none is 0; the nearest float may be 1.
    let odd = (word >> (u64::BITS - BITS)) * 2 + 1;
    odd as f32 / SCALE
}

/// The exponentially distributed number of a `uniform` one: infinite for 1, and never below it.
pub(super) fn exponential(uniform: f32) -> f32 {
    -(-uniform).ln_1p()
}
