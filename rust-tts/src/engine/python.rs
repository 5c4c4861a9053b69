//! The engine that lives in Python. Only this file and `lib.rs` name `pyo3`.

use std::sync::Arc;

use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};
use tracing::debug;

use super::messages::{
    Command, EngineInfo, Enroll, Event, FailureCode, Model, Params, Slicing, Speak, Stats,
};
use super::worker::Worker;
use super::{Engine, EngineError};

/// What `chatterbox_server.loading.load` is given.
#[derive(Clone, Debug)]
pub struct LoadSettings {
    /// `"auto"` or `"fake"`.
    pub engine: String,
    /// `"auto"`, `"cpu"`, `"cuda"` or `"mps"`.
    pub device: String,
    pub models: Vec<String>,
    pub threads: Option<u32>,
    /// Where the hub's library keeps what it downloads.
    pub hf_home: Option<String>,
    pub fake_rtf: f64,
    pub fake_chunk_ms: u32,
    pub fake_load_seconds: f64,
}

/// The body of the engine's thread: attaches to Python once, for as long as the engine lives.
pub fn run(worker: Worker, settings: &LoadSettings) {
    Python::attach(|py| {
        worker.run(|| PythonEngine::load(py, settings).map_err(|error| describe(py, &error)));
    });
}

struct PythonEngine<'py> {
    py: Python<'py>,
    engine: Bound<'py, PyAny>,
    messages: Messages<'py>,
}

impl<'py> PythonEngine<'py> {
    fn load(py: Python<'py>, settings: &LoadSettings) -> PyResult<Self> {
        py.import("chatterbox_server.logs")?
            .call_method1("install", (wrap_pyfunction!(log, py)?,))?;
        if let Some(hf_home) = &settings.hf_home {
            // Python copied the environment before the options were read.
            py.import("os")?
                .getattr("environ")?
                .set_item("HF_HOME", hf_home)?;
        }
        let options = PyDict::new(py);
        options.set_item("engine", &settings.engine)?;
        options.set_item("device", &settings.device)?;
        options.set_item("models", &settings.models)?;
        options.set_item("threads", settings.threads)?;
        options.set_item("fake_rtf", settings.fake_rtf)?;
        options.set_item("fake_chunk_ms", settings.fake_chunk_ms)?;
        options.set_item("fake_load_seconds", settings.fake_load_seconds)?;
        let engine = py
            .import("chatterbox_server.loading")?
            .call_method1("load", (options,))?;
        Ok(Self {
            py,
            engine,
            messages: Messages::import(py)?,
        })
    }

    fn read_info(&self) -> PyResult<EngineInfo> {
        let mut models = Vec::new();
        for model in self.engine.getattr("models")?.try_iter()? {
            models.push(Arc::new(read_model(&model?)?));
        }
        Ok(EngineInfo {
            device: self.engine.getattr("device")?.extract()?,
            models,
        })
    }

    fn try_step(&self, commands: Vec<Command>) -> PyResult<Vec<Event>> {
        let list = PyList::empty(self.py);
        for command in commands {
            list.append(self.messages.command(self.py, &command)?)?;
        }
        let events = self
            .engine
            .call_method1(intern!(self.py, "step"), (list,))?;
        events
            .try_iter()?
            .map(|event| Messages::event(&event?))
            .collect()
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

/// A sentence for the log and for people; the traceback goes to the log alone.
fn describe(py: Python<'_>, error: &PyErr) -> EngineError {
    if let Some(Ok(traceback)) = error.traceback(py).map(|traceback| traceback.format()) {
        tracing::error!(target: "chatterbox_server.engine", "{traceback}{error}");
    }
    let named_load_error = error
        .get_type(py)
        .name()
        .is_ok_and(|name| name == "LoadError");
    let text = if named_load_error {
        error.value(py).to_string()
    } else {
        error.to_string()
    };
    EngineError(text)
}

fn read_model(model: &Bound<'_, PyAny>) -> PyResult<Model> {
    Ok(Model {
        name: model.getattr("name")?.extract()?,
        sample_rate: model.getattr("sample_rate")?.extract()?,
        can_clone: model.getattr("can_clone")?.extract()?,
        languages: model.getattr("languages")?.extract()?,
        voices: model.getattr("voices")?.extract()?,
        watermark: model.getattr("watermark")?.extract()?,
    })
}

/// The classes of `messages.py`.
struct Messages<'py> {
    speak: Bound<'py, PyAny>,
    params: Bound<'py, PyAny>,
    slicing: Bound<'py, PyAny>,
    cancel: Bound<'py, PyAny>,
    enroll: Bound<'py, PyAny>,
    forget: Bound<'py, PyAny>,
}

impl<'py> Messages<'py> {
    fn import(py: Python<'py>) -> PyResult<Self> {
        let module = py.import("chatterbox_server.messages")?;
        Ok(Self {
            speak: module.getattr("Speak")?,
            params: module.getattr("Params")?,
            slicing: module.getattr("Slicing")?,
            cancel: module.getattr("Cancel")?,
            enroll: module.getattr("Enroll")?,
            forget: module.getattr("Forget")?,
        })
    }

    fn command(&self, py: Python<'py>, command: &Command) -> PyResult<Bound<'py, PyAny>> {
        let fields = PyDict::new(py);
        let class = match command {
            Command::Speak(speak) => {
                self.fill_speak(&fields, speak)?;
                &self.speak
            }
            Command::Cancel(id) => {
                fields.set_item("id", id)?;
                &self.cancel
            }
            Command::Enroll(enroll) => {
                fill_enroll(&fields, enroll)?;
                &self.enroll
            }
            Command::Forget(voice) => {
                fields.set_item("voice", voice)?;
                &self.forget
            }
        };
        class.call((), Some(&fields))
    }

    fn fill_speak(&self, fields: &Bound<'py, PyDict>, speak: &Speak) -> PyResult<()> {
        let py = fields.py();
        fields.set_item(intern!(py, "id"), speak.id)?;
        fields.set_item(intern!(py, "model"), &speak.model)?;
        fields.set_item(intern!(py, "text"), &speak.text)?;
        fields.set_item(intern!(py, "language"), &speak.language)?;
        fields.set_item(intern!(py, "voice"), &speak.voice)?;
        fields.set_item(intern!(py, "seed"), speak.seed)?;
        fields.set_item(intern!(py, "params"), self.params(py, &speak.params)?)?;
        fields.set_item(intern!(py, "slicing"), self.slicing(py, &speak.slicing)?)?;
        fields.set_item(intern!(py, "max_audio_seconds"), speak.max_audio_seconds)?;
        fields.set_item(intern!(py, "stream"), speak.stream)?;
        fields.set_item(intern!(py, "return_tokens"), speak.return_tokens)
    }

    fn params(&self, py: Python<'py>, params: &Params) -> PyResult<Bound<'py, PyAny>> {
        let fields = PyDict::new(py);
        fields.set_item(intern!(py, "temperature"), params.temperature)?;
        fields.set_item(intern!(py, "top_p"), params.top_p)?;
        fields.set_item(intern!(py, "min_p"), params.min_p)?;
        fields.set_item(intern!(py, "top_k"), params.top_k)?;
        fields.set_item(intern!(py, "repetition_penalty"), params.repetition_penalty)?;
        fields.set_item(intern!(py, "exaggeration"), params.exaggeration)?;
        fields.set_item(intern!(py, "cfg_weight"), params.cfg_weight)?;
        fields.set_item(intern!(py, "speed"), params.speed)?;
        self.params.call((), Some(&fields))
    }

    fn slicing(&self, py: Python<'py>, slicing: &Slicing) -> PyResult<Bound<'py, PyAny>> {
        let fields = PyDict::new(py);
        fields.set_item(intern!(py, "tokens_per_slice"), slicing.tokens_per_slice)?;
        fields.set_item(intern!(py, "context_window"), slicing.context_window)?;
        fields.set_item(intern!(py, "overlap"), &slicing.overlap)?;
        fields.set_item(intern!(py, "crossfade_ms"), slicing.crossfade_ms)?;
        fields.set_item(intern!(py, "trim_leading_ms"), slicing.trim_leading_ms)?;
        fields.set_item(intern!(py, "trim_trailing_ms"), slicing.trim_trailing_ms)?;
        self.slicing.call((), Some(&fields))
    }

    fn event(event: &Bound<'py, PyAny>) -> PyResult<Event> {
        let py = event.py();
        let id = event.getattr(intern!(py, "id"))?.extract()?;
        let kind = event.get_type();
        match kind.name()?.to_str()? {
            "Audio" => Ok(Event::Audio {
                id,
                pcm: read_pcm(&event.getattr(intern!(py, "pcm"))?)?,
            }),
            "Done" => Ok(Event::Done {
                id,
                stats: read_stats(&event.getattr(intern!(py, "stats"))?)?,
            }),
            "Failed" => {
                let code: String = event.getattr("code")?.extract()?;
                Ok(Event::Failed {
                    id,
                    code: FailureCode::parse(&code),
                    message: event.getattr("message")?.extract()?,
                })
            }
            "Enrolled" => Ok(Event::Enrolled {
                id,
                voice: event.getattr("voice")?.extract()?,
                model: event.getattr("model")?.extract()?,
                cache_bytes: event.getattr("cache_bytes")?.extract()?,
            }),
            other => Err(PyTypeError::new_err(format!("{other} is not an event"))),
        }
    }
}

fn fill_enroll(fields: &Bound<'_, PyDict>, enroll: &Enroll) -> PyResult<()> {
    fields.set_item("id", enroll.id)?;
    fields.set_item("voice", &enroll.voice)?;
    fields.set_item("model", &enroll.model)?;
    fields.set_item("pcm", write_pcm(fields.py(), &enroll.pcm))?;
    fields.set_item("sample_rate", enroll.sample_rate)
}

fn read_stats(stats: &Bound<'_, PyAny>) -> PyResult<Stats> {
    Ok(Stats {
        audio_seconds: stats.getattr("audio_seconds")?.extract()?,
        compute_seconds: stats.getattr("compute_seconds")?.extract()?,
        tokens: stats.getattr("tokens")?.extract()?,
    })
}

/// Little-endian f32, copied at once: no Python object outlives the step.
fn read_pcm(pcm: &Bound<'_, PyAny>) -> PyResult<Vec<f32>> {
    let bytes = pcm.cast::<PyBytes>()?.as_bytes();
    Ok(bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|sample| f32::from_le_bytes(*sample))
        .collect())
}

fn write_pcm<'py>(py: Python<'py>, pcm: &[f32]) -> Bound<'py, PyBytes> {
    let bytes: Vec<u8> = pcm.iter().flat_map(|sample| sample.to_le_bytes()).collect();
    PyBytes::new(py, &bytes)
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

/// One command of every kind, with every field set: for the test that holds the two message files together.
#[pyfunction]
pub fn sample_commands(py: Python<'_>) -> PyResult<Bound<'_, PyList>> {
    let messages = Messages::import(py)?;
    let params = Params {
        temperature: Some(0.5),
        top_p: Some(0.9),
        min_p: Some(0.05),
        top_k: Some(40),
        repetition_penalty: Some(1.2),
        exaggeration: Some(0.7),
        cfg_weight: Some(0.3),
        speed: 1.5,
    };
    let slicing = Slicing {
        tokens_per_slice: Some(35),
        context_window: Some(50),
        overlap: Some("full".into()),
        crossfade_ms: Some(30.0),
        trim_leading_ms: 1.0,
        trim_trailing_ms: 2.0,
    };
    let speak = Speak {
        id: 1,
        model: "fake".into(),
        text: "Grüße 👋".into(),
        language: Some("de".into()),
        voice: Some("tone".into()),
        seed: 9_007_199_254_740_991,
        params,
        slicing,
        max_audio_seconds: 12.5,
        stream: true,
        return_tokens: true,
    };
    let bare = Speak {
        id: 2,
        language: None,
        voice: None,
        params: Params::default(),
        slicing: Slicing::default(),
        stream: false,
        return_tokens: false,
        ..speak.clone()
    };
    let pcm: Arc<[f32]> = Arc::from([0.0, 0.5, -1.0]);
    let enroll = Enroll {
        id: 3,
        voice: "ab".repeat(32),
        model: "fake".into(),
        pcm,
        sample_rate: 16_000,
    };
    let commands = [
        Command::Speak(Box::new(speak)),
        Command::Speak(Box::new(bare)),
        Command::Cancel(1),
        Command::Enroll(enroll),
        Command::Forget("ab".repeat(32)),
    ];
    let list = PyList::empty(py);
    for command in &commands {
        list.append(messages.command(py, command)?)?;
    }
    Ok(list)
}

/// Reads an event as the host does and returns its parts: for the same test.
#[pyfunction]
pub fn read_event<'py>(event: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    let py = event.py();
    match Messages::event(event)? {
        Event::Audio { id, pcm } => ("Audio", id, write_pcm(py, &pcm)).into_pyobject(py),
        Event::Done { id, stats } => (
            "Done",
            id,
            stats.audio_seconds,
            stats.compute_seconds,
            stats.tokens,
        )
            .into_pyobject(py),
        Event::Failed { id, code, message } => {
            ("Failed", id, code.as_str(), message).into_pyobject(py)
        }
        Event::Enrolled {
            id,
            voice,
            model,
            cache_bytes,
        } => ("Enrolled", id, voice, model, cache_bytes).into_pyobject(py),
    }
}
