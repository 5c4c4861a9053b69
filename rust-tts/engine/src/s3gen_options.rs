//! Options of `S3Gen`, which makes sound of the speech tokens. All but their defaults change what is heard.

use clap::{Args, ValueEnum};

use chatterbox_settings::prompt_seconds;

/// How `S3Gen` computes.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Engine")]
pub struct S3GenSettings {
    /// Precision of `S3Gen`'s flow: `int8` is faster on a CPU (`BACKEND=native`), `bf16` on CUDA; both sound a little different
    #[arg(
        id = "s3gen_dtype",
        long = "s3gen-dtype",
        env = "S3GEN_DTYPE",
        default_value = "fp32"
    )]
    pub dtype: S3GenDtype,

    /// `meanflow` speaks through turbo's `S3Gen`, which `standard` and `multilingual` were not trained with, in a tenth of the
    /// work; its file is taken from turbo's folder. `auto` is each model's own
    #[arg(
        id = "s3gen_decoder",
        long = "s3gen-decoder",
        env = "S3GEN_DECODER",
        default_value = "auto"
    )]
    pub decoder: S3GenDecoder,

    /// Steps of `S3Gen`'s flow in `standard` and `multilingual`; fewer are faster and coarser. Default: 10, as upstream
    #[arg(id = "s3gen_steps", long = "s3gen-steps", env = "S3GEN_STEPS", value_parser = clap::value_parser!(u32).range(1..=50))]
    pub steps: Option<u32>,

    /// Seconds, 1 to 10, of a voice's clip that `S3Gen` listens to again for every slice of audio; fewer are faster and less like
    /// the voice. Default: all that upstream takes, 10
    #[arg(id = "s3gen_prompt_seconds", long = "s3gen-prompt-seconds", env = "S3GEN_PROMPT_SECONDS", value_parser = prompt_seconds)]
    pub prompt_seconds: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum S3GenDtype {
    Fp32,
    Bf16,
    Int8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum S3GenDecoder {
    Auto,
    Meanflow,
}
