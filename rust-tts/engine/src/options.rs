//! Options of the engine: what it loads, and how.

use std::path::PathBuf;

use chatterbox_settings::{boolean, non_negative, prompt_seconds, text};
use clap::{Args, ValueEnum};

use crate::python::message;

/// Models that an operator may load, in the order in which they are offered to a request that names none.
pub const MODELS: [&str; 5] = ["standard", "turbo", "multilingual", "nano", "lite"];

/// Options of the engine, shared by the server, `say` and `convert`.
#[derive(Args, Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of its own"
)]
#[command(next_help_heading = "Engine")]
pub struct EngineOptions {
    /// Load `standard`, the expressive model (English). The Chatterbox models need `make install-chatterbox`
    #[arg(long, env = "LOAD_STANDARD", value_parser = boolean, default_value = "false")]
    pub load_standard: bool,

    /// Load `turbo`, the fast model (English, with tags such as `[laugh]`)
    #[arg(long, env = "LOAD_TURBO", value_parser = boolean, default_value = "false")]
    pub load_turbo: bool,

    /// Load `multilingual`, for 23 languages
    #[arg(long, env = "LOAD_MULTILINGUAL", value_parser = boolean, default_value = "false")]
    pub load_multilingual: bool,

    /// Load `nano`, the small relative of `turbo`
    #[arg(long, env = "LOAD_NANO", value_parser = boolean, default_value = "false")]
    pub load_nano: bool,

    /// Load `lite`, the embedded English voice that needs no download
    #[arg(long, env = "LOAD_LITE", value_parser = boolean, default_value = "true")]
    pub load_lite: bool,

    #[command(flatten)]
    pub loading: LoadSettings,

    /// Requests that one model decodes together. Default: `MAX_CONCURRENT_REQUESTS`, at most 64 (16 for `PROFILE=latency`,
    /// 256 for `throughput`)
    #[arg(long, env = "ENGINE_SLOTS", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub engine_slots: Option<u32>,

    /// Memory, in MB, for what the models have computed of voices; the least recently used makes room
    #[arg(long, env = "VOICE_CACHE_MB", default_value_t = 512, value_parser = clap::value_parser!(u32).range(16..))]
    pub voice_cache_mb: u32,
}

message! {
    /// How the models are loaded: what the operator chose and, in the fields that are no options, what follows from it.
    #[derive(Args)]
    #[command(next_help_heading = "Engine")]
    pub struct LoadSettings {
        /// `auto` speaks with the loaded models; `fake` plays a tone at a chosen speed, for tests and benchmarks
        #[arg(long, env = "ENGINE", default_value = "auto")]
        pub engine: EngineKind = EngineKind::Auto,

        /// Names, in the order in which they are offered to requests that name none.
        #[arg(skip)]
        pub models: Vec<String> = Vec::new(),

        /// Device that the models run on (the embedded voice `lite` always runs on the CPU)
        #[arg(long, env = "DEVICE", default_value = "auto")]
        pub device: Device = Device::Auto,

        /// Release of the `multilingual` checkpoint
        #[arg(long, env = "MULTILINGUAL_VERSION", default_value = "v2")]
        pub multilingual_version: MultilingualVersion = MultilingualVersion::V2,

        /// Folder of checkpoints (`standard/`, `turbo/`, …, or upstream's files); nothing is downloaded then
        #[arg(long, env = "MODEL_PATH")]
        pub model_path: Option<PathBuf> = None,

        /// What computes the Chatterbox models: `native` (this server's own kernels, on a CPU), `torch`, or `onnx` (ONNX
        /// Runtime on a CPU or CUDA; `turbo` from its published graphs, or `turbo` and `nano` from those of `export-onnx`; it
        /// converts no clips and speaks at its own speed alone)
        #[arg(long, env = "BACKEND", default_value = "auto")]
        pub backend: Backend = Backend::Auto,

        /// Precision of the Chatterbox models' token decoder, and with `BACKEND=onnx` of everything: `native` has fp32, bf16,
        /// int8 and int4, `torch` fp32, bf16 and fp16, `onnx` fp32, fp16, q8, q4 and q4f16 (q8 and int8 are the same, and so
        /// are q4 and int4). `auto` is bf16 on CUDA, with `onnx` fp16, and fp32 elsewhere
        #[arg(long, env = "MODEL_DTYPE", default_value = "auto")]
        pub model_dtype: Dtype = Dtype::Auto,

        #[command(flatten)]
        pub s3gen: S3GenSettings = S3GenSettings::default(),

        /// What a Chatterbox model is to be best at: `latency` (the first audio is early and slices stay small), `throughput`
        /// (the first audio is later, slices are large and more requests are decoded together), or `balanced`. Samples of
        /// streamed audio differ a little from one to the other
        #[arg(long, env = "PROFILE", default_value = "balanced")]
        pub profile: Profile = Profile::Balanced,

        /// Put the inaudible Perth watermark into what the Chatterbox models speak
        #[arg(long, env = "WATERMARK", value_parser = boolean, action = clap::ArgAction::Set, default_value = "on")]
        pub watermark: bool = true,

        /// Requests that a model decodes together.
        #[arg(skip)]
        pub slots: u32 = 8,

        /// Memory for what all models have computed of voices.
        #[arg(skip)]
        pub voice_cache_bytes: u64 = 512 << 20,

        /// Where what was computed of voices is kept across restarts; `None` keeps it in memory alone.
        #[arg(skip)]
        pub voices_dir: Option<PathBuf> = None,

        /// Cache directory of models downloaded from the Hugging Face hub (read by that library)
        #[arg(long, env = "HF_HOME", value_parser = text)]
        pub hf_home: Option<String> = None,

        /// CPU threads of a model. Default: the engine's own choice
        #[arg(id = "engine_threads", long = "engine-threads", env = "ENGINE_THREADS", value_parser = clap::value_parser!(u32).range(1..=1024))]
        pub threads: Option<u32> = None,

        /// Slices of one request's speech tokens that may wait to become audio while tokens are decoded for others; one more,
        /// and they are rendered at once. Fewer bring each listener's audio earlier and others' first audio later. Default: no
        /// limit, a slice is rendered when its listener is about to need it
        #[arg(id = "speech_token_queue_max_size", long = "speech-token-queue-max-size", env = "TTS_SPEECH_TOKEN_QUEUE_MAX_SIZE", value_parser = clap::value_parser!(u32).range(1..=1000))]
        pub waiting_slices: Option<u32> = None,

        /// Fake engine: seconds of computing per second of audio
        #[arg(long, env = "FAKE_RTF", default_value_t = 0.1, value_parser = non_negative)]
        pub fake_rtf: f64 = 0.0,

        /// Fake engine: milliseconds of audio that a step makes for every request
        #[arg(long, env = "FAKE_CHUNK_MS", default_value_t = 200, value_parser = clap::value_parser!(u32).range(10..=5000))]
        pub fake_chunk_ms: u32 = 200,

        /// Fake engine: seconds that loading takes
        #[arg(long, env = "FAKE_LOAD_SECONDS", default_value_t = 0.0, value_parser = non_negative)]
        pub fake_load_seconds: f64 = 0.0,
    }

    /// How `S3Gen` computes, which makes sound of the speech tokens. All but the defaults change what is heard.
    #[derive(Args, Default)]
    #[command(next_help_heading = "Engine")]
    pub struct S3GenSettings {
        /// Precision of `S3Gen`'s flow: `int8` is faster on a CPU (`BACKEND=native`), `bf16` on CUDA; both sound a little different
        #[arg(id = "s3gen_dtype", long = "s3gen-dtype", env = "S3GEN_DTYPE", default_value = "fp32")]
        pub dtype: S3GenDtype = S3GenDtype::Fp32,

        /// `meanflow` speaks through turbo's `S3Gen`, which `standard` and `multilingual` were not trained with, in a tenth of the
        /// work; its file is taken from turbo's folder. `auto` is each model's own
        #[arg(id = "s3gen_decoder", long = "s3gen-decoder", env = "S3GEN_DECODER", default_value = "auto")]
        pub decoder: S3GenDecoder = S3GenDecoder::Auto,

        /// Steps of `S3Gen`'s flow in `standard` and `multilingual`; fewer are faster and coarser. Default: 10, as upstream
        #[arg(id = "s3gen_steps", long = "s3gen-steps", env = "S3GEN_STEPS", value_parser = clap::value_parser!(u32).range(1..=50))]
        pub steps: Option<u32> = None,

        /// Seconds, 1 to 10, of a voice's clip that `S3Gen` listens to again for every slice of audio; fewer are faster and less like
        /// the voice. Default: all that upstream takes, 10
        #[arg(id = "s3gen_prompt_seconds", long = "s3gen-prompt-seconds", env = "S3GEN_PROMPT_SECONDS", value_parser = prompt_seconds)]
        pub prompt_seconds: Option<f64> = None,
    }
}

impl EngineOptions {
    /// What the model package is to load, for so many requests at once. `prepared_voices` is the folder of what was
    /// computed of voices.
    pub fn load_settings(&self, prepared_voices: PathBuf, requests: usize) -> LoadSettings {
        let loading = &self.loading;
        let fake = loading.engine == EngineKind::Fake;
        let wanted = [
            self.load_standard,
            self.load_turbo,
            self.load_multilingual,
            self.load_nano,
            self.load_lite && !fake,
        ];
        let wanted = MODELS.into_iter().zip(wanted).filter(|(_, load)| *load);
        let models = wanted.map(|(name, _)| name).chain(fake.then_some("fake"));
        let most = loading.profile.most_slots();
        let slots = u32::try_from(requests).map_or(most, |slots| slots.min(most));
        LoadSettings {
            models: models.map(str::to_owned).collect(),
            slots: self.engine_slots.unwrap_or(slots),
            voice_cache_bytes: u64::from(self.voice_cache_mb) * 1024 * 1024,
            voices_dir: Some(prepared_voices),
            ..loading.clone()
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EngineKind {
    Auto,
    Fake,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Device {
    Auto,
    Cpu,
    #[value(alias = "gpu")]
    Cuda,
    Mps,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    Auto,
    Native,
    Torch,
    Onnx,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Dtype {
    Auto,
    Fp32,
    Bf16,
    Fp16,
    Int8,
    Int4,
    Q8,
    Q4,
    Q4f16,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum S3GenDtype {
    #[default]
    Fp32,
    Bf16,
    Int8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum S3GenDecoder {
    #[default]
    Auto,
    Meanflow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    Latency,
    Balanced,
    Throughput,
}

impl Profile {
    /// Default limit on a model's slots: each takes memory of the device, and a step with many takes longer.
    fn most_slots(self) -> u32 {
        match self {
            Self::Latency => 16,
            Self::Balanced => 64,
            Self::Throughput => 256,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MultilingualVersion {
    V2,
    V3,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Options {
        #[command(flatten)]
        engine: EngineOptions,
    }

    fn settings(arguments: &[&str], requests: usize) -> LoadSettings {
        let given = Options::try_parse_from([&["test"], arguments].concat()).unwrap();
        given.engine.load_settings(PathBuf::new(), requests)
    }

    #[test]
    fn test_models_load_in_configured_order() {
        assert_eq!(settings(&[], 1).models, ["lite"]);
        let flags = MODELS.map(|name| format!("--load-{name}"));
        let reversed: Vec<_> = flags.iter().rev().map(String::as_str).collect();
        assert_eq!(settings(&reversed, 1).models, MODELS);
        let fake = settings(&["--engine", "fake", "--load-turbo"], 1);
        assert_eq!(fake.models, ["turbo", "fake"]);
    }

    #[test]
    fn test_waiting_slices_default_is_left_to_engine() {
        assert_eq!(settings(&[], 1).waiting_slices, None);
        let limited = settings(&["--speech-token-queue-max-size", "2"], 1);
        assert_eq!(limited.waiting_slices, Some(2));
    }

    #[test]
    fn test_profile_bounds_default_slots() {
        for (profile, kind, most) in [
            ("latency", Profile::Latency, 16),
            ("balanced", Profile::Balanced, 64),
            ("throughput", Profile::Throughput, 256),
        ] {
            let chosen = settings(&["--profile", profile], 1000);
            assert_eq!((chosen.slots, chosen.profile), (most, kind));
            assert_eq!(settings(&["--profile", profile], 8).slots, 8);
            let explicit = settings(&["--profile", profile, "--engine-slots", "100"], 8);
            assert_eq!(explicit.slots, 100);
        }
        assert_eq!(settings(&[], 1000).profile, Profile::Balanced);
    }
}
