//! A Tokio/Axum speech server that lives inside a Python process, or holds one inside itself.
//!
//! `ARCHITECTURE.md` tells the way of one request through these modules.

pub mod audio;
pub mod auth;
pub mod cli;
pub mod config;
pub mod connections;
pub mod engine;
pub mod error;
pub mod limits;
pub mod loading;
pub mod machine;
pub mod metrics;
pub mod native;
pub mod offline;
pub mod routes;
pub mod server;
pub mod shutdown;
pub mod speech;
pub mod state;
pub mod telemetry;
pub mod uploads;
pub mod voices;

/// The version of the package, of the wheel and of the binary.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The extension module of the Python package.
#[pyo3::pymodule]
mod _core {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::engine::python::{log, read_event, read_model, sample_commands};
    #[pymodule_export]
    use crate::native::biquad::biquad;
    #[pymodule_export]
    use crate::native::flow::FlowEstimator;
    #[pymodule_export]
    use crate::native::linear::LinearLayer;
    #[pymodule_export]
    use crate::native::sampling::T3Sampler;
    #[pymodule_export]
    use crate::native::t3::{T3Backbone, T3Cache};
    #[pymodule_export]
    use crate::native::vocoder::VocoderGenerator;
    #[pymodule_export]
    use crate::native::{available_threads, set_threads};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", crate::VERSION)
    }

    /// Runs the command line `argv` and returns the exit status.
    #[pyfunction]
    fn main(py: Python<'_>, argv: Vec<String>) -> i32 {
        // The engine's thread needs the interpreter while this one waits.
        py.detach(|| crate::cli::run(argv))
    }
}
