//! How a model samples, for requests that do not say.

use clap::Args;

use super::values::within;

/// What a request may say for itself, as the operator sets it for all. Unset is each model's own.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Sampling")]
pub struct SamplingOptions {
    /// Emotional intensity, 0 to 2, of requests that name none. Default: the model's own
    #[arg(long, env = "TTS_VOICE_EXAGGERATION_FACTOR", value_parser = to_two)]
    pub voice_exaggeration_factor: Option<f64>,

    /// Weight of classifier-free guidance, 0 to 1, of requests that name none. Default: the model's own
    #[arg(long, env = "TTS_CFG_GUIDANCE_WEIGHT", value_parser = to_one)]
    pub cfg_guidance_weight: Option<f64>,

    /// Sampling temperature, 0 (greedy) to 2, of requests that name none. Default: the model's own
    #[arg(long, env = "TTS_SYNTHESIS_TEMPERATURE", value_parser = to_two)]
    pub synthesis_temperature: Option<f64>,
}

fn to_one(value: &str) -> Result<f64, String> {
    within(value, 1.0)
}

fn to_two(value: &str) -> Result<f64, String> {
    within(value, 2.0)
}
