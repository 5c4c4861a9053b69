//! The engine that lives in Python.

mod command;

use std::sync::Arc;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyTuple};
use tracing::{debug, warn};

use chatterbox_engine::messages::{Command, EngineInfo, Event, Model};
use chatterbox_engine::{Engine, EngineError, EngineStatus, LoadSettings, Progress, Worker};
pub use command::command;

/// The body of the engine's thread: attaches to Python once, for as long as the engine lives.
pub fn run(worker: Worker, settings: LoadSettings) {
    if !settings.watermark {
        warn!("WATERMARK is off: listeners cannot tell the models' speech from a person's");
    }
    let status = worker.status();
    Python::attach(|py| {
        worker
            .run(|| PythonEngine::load(py, settings, status).map_err(|error| describe(py, &error)));
    });
}

struct PythonEngine<'py> {
    py: Python<'py>,
    engine: Bound<'py, PyAny>,
}

impl<'py> PythonEngine<'py> {
    fn load(py: Python<'py>, settings: LoadSettings, status: Arc<EngineStatus>) -> PyResult<Self> {
        py.import("chatterbox_server.logs")?
            .call_method1("install", (wrap_pyfunction!(log, py)?,))?;
        let engine = py
            .import("chatterbox_server.loading")?
            .call_method1("load", (settings, progress(py, status)?))?;
        Ok(Self { py, engine })
    }

    fn read_info(&self) -> PyResult<EngineInfo> {
        let models: Vec<Model> = self.engine.getattr("models")?.extract()?;
        Ok(EngineInfo {
            device: self.engine.getattr("device")?.extract()?,
            models: models.into_iter().map(Arc::new).collect(),
        })
    }

    fn try_step(&self, commands: Vec<Command>) -> PyResult<Vec<Event>> {
        let step = intern!(self.py, "step");
        self.engine.call_method1(step, (commands,))?.extract()
    }
}

impl Engine for PythonEngine<'_> {
    fn info(&self) -> Result<EngineInfo, EngineError> {
        self.read_info().map_err(|error| describe(self.py, &error))
    }

    fn idle(&self) -> Result<bool, EngineError> {
        let idle = self
            .engine
            .getattr(intern!(self.py, "idle"))
            .and_then(|idle| idle.is_truthy());
        idle.map_err(|error| describe(self.py, &error))
    }

    fn step(&mut self, commands: Vec<Command>) -> Result<Vec<Event>, EngineError> {
        self.try_step(commands)
            .map_err(|error| describe(self.py, &error))
    }

    fn voice_cache_bytes(&self) -> u64 {
        let bytes = self
            .engine
            .getattr(intern!(self.py, "voice_cache_bytes"))
            .and_then(|bytes| bytes.extract());
        bytes.unwrap_or(0)
    }

    fn close(&mut self) {
        if let Err(error) = self.engine.call_method0("close") {
            debug!(%error, "the engine did not close cleanly");
        }
    }

    fn detached<R: Send>(&self, wait: impl FnOnce() -> R + Send) -> R {
        self.py.detach(wait)
    }
}

/// The callback that loading calls with `(what, done, total)`.
fn progress(py: Python<'_>, status: Arc<EngineStatus>) -> PyResult<Bound<'_, PyCFunction>> {
    let report = move |args: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| -> PyResult<()> {
        let (what, done, total) = args.extract()?;
        status.loading(Progress { what, done, total });
        Ok(())
    };
    PyCFunction::new_closure(py, Some(c"progress"), None, report)
}

/// A sentence for people. Where none was written for them, the traceback goes to the log.
fn describe(py: Python<'_>, error: &PyErr) -> EngineError {
    let written_for_people = error
        .get_type(py)
        .name()
        .is_ok_and(|name| name == "LoadError");
    if written_for_people {
        return EngineError(error.value(py).to_string());
    }
    if let Some(Ok(traceback)) = error.traceback(py).map(|traceback| traceback.format()) {
        tracing::error!(target: "chatterbox_server.engine", "{traceback}{error}");
    }
    EngineError(error.to_string())
}

/// Python's log records, into the server's own stream. `level` is Python's numeric level.
#[pyfunction]
pub fn log(level: i32, target: &str, message: &str) {
    // tracing's targets are static, so the logger's name travels as a field.
    match level {
        40.. => tracing::error!(target: "python", logger = target, "{message}"),
        30..40 => tracing::warn!(target: "python", logger = target, "{message}"),
        20..30 => tracing::info!(target: "python", logger = target, "{message}"),
        10..20 => tracing::debug!(target: "python", logger = target, "{message}"),
        _ => tracing::trace!(target: "python", logger = target, "{message}"),
    }
}
