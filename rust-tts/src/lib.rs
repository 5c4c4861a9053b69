//! A Tokio/Axum speech server that lives inside a Python process, or holds one inside itself.
//!
//! `docs/architecture.md` follows one request through the crates.

mod announce;
pub mod cli;
mod doctor;
mod environment;
mod help;
mod kernels;
mod load_progress;
mod log_options;
mod offline;
mod python;
mod server;
mod settings_docs;
pub mod shutdown;
mod telemetry;
mod voice_command;

/// Makes Python import the extension module of this build, whose classes the host exchanges, and not that of the installed
/// package, whose classes are others although they look the same.
#[cfg(feature = "embed")]
pub fn provide_core(py: pyo3::Python<'_>) -> pyo3::PyResult<()> {
    use pyo3::types::PyAnyMethods;

    let module = pyo3::wrap_pymodule!(_core)(py);
    let modules = py.import("sys")?.getattr("modules")?;
    modules.set_item("chatterbox_server._core", module)
}

/// The extension module of the Python package.
#[pyo3::pymodule]
mod _core {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::kernels::biquad::biquad;
    #[pymodule_export]
    use crate::kernels::flow::FlowEstimator;
    #[pymodule_export]
    use crate::kernels::linear::LinearLayer;
    #[pymodule_export]
    use crate::kernels::sampling::T3Sampler;
    #[pymodule_export]
    use crate::kernels::t3::{T3Backbone, T3Cache};
    #[pymodule_export]
    use crate::kernels::vocoder::VocoderGenerator;
    #[pymodule_export]
    use crate::kernels::{available_threads, set_threads};
    #[pymodule_export]
    use crate::python::log;
    #[pymodule_export]
    use chatterbox_engine::messages::{
        Audio, Cancel, Convert, Done, Enroll, Enrolled, Failed, Forget, Model, Params, Slicing,
        Speak, Stats,
    };
    #[pymodule_export]
    use chatterbox_engine::{LoadSettings, S3GenSettings};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", chatterbox_speech::VERSION)
    }

    /// Runs the command line `argv` and returns the exit status.
    #[pyfunction]
    fn main(py: Python<'_>, argv: Vec<String>) -> i32 {
        // The engine's thread needs the interpreter while this one waits.
        py.detach(|| crate::cli::run(argv))
    }
}
