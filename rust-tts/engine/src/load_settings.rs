//! What the model package is asked to load.

use std::path::PathBuf;

/// What `chatterbox_server.loading.load` is given.
#[derive(Clone, Debug)]
pub struct LoadSettings {
    /// `"auto"` or `"fake"`.
    pub engine: String,
    /// `"auto"`, `"cpu"`, `"cuda"` or `"mps"`.
    pub device: String,
    pub models: Vec<String>,
    pub threads: Option<u32>,
    /// Folder of checkpoints; nothing is downloaded then.
    pub model_path: Option<String>,
    /// `"auto"`, `"native"`, `"torch"` or `"onnx"`.
    pub backend: String,
    /// `"auto"`, or a precision's name.
    pub model_dtype: String,
    /// `"fp32"`, `"bf16"` or `"int8"`.
    pub s3gen_dtype: String,
    /// `"auto"` or `"meanflow"`.
    pub s3gen_decoder: String,
    pub s3gen_steps: Option<u32>,
    pub s3gen_prompt_seconds: Option<f64>,
    pub watermark: bool,
    /// `"v2"` or `"v3"`.
    pub multilingual_version: String,
    /// Requests that a model decodes together.
    pub slots: u32,
    /// `"latency"`, `"balanced"` or `"throughput"`.
    pub profile: String,
    /// Slices of one request that may wait to be rendered; `None`: any number.
    pub waiting_slices: Option<u32>,
    pub voice_cache_bytes: u64,
    /// Where what was computed of voices is kept across restarts.
    pub voices_dir: PathBuf,
    /// Where the hub's library keeps what it downloads.
    pub hf_home: Option<String>,
    pub fake_rtf: f64,
    pub fake_chunk_ms: u32,
    pub fake_load_seconds: f64,
}
