//! Messages as the objects of `messages.py`.

use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use chatterbox_engine::messages::{
    Command, Convert, Enroll, Event, FailureCode, Model, Params, Slicing, Speak, Stats,
};

/// The classes of `messages.py`.
pub struct Messages<'py> {
    speak: Bound<'py, PyAny>,
    params: Bound<'py, PyAny>,
    slicing: Bound<'py, PyAny>,
    convert: Bound<'py, PyAny>,
    cancel: Bound<'py, PyAny>,
    enroll: Bound<'py, PyAny>,
    forget: Bound<'py, PyAny>,
}

impl<'py> Messages<'py> {
    pub fn import(py: Python<'py>) -> PyResult<Self> {
        let module = py.import("chatterbox_server.messages")?;
        Ok(Self {
            speak: module.getattr("Speak")?,
            params: module.getattr("Params")?,
            slicing: module.getattr("Slicing")?,
            convert: module.getattr("Convert")?,
            cancel: module.getattr("Cancel")?,
            enroll: module.getattr("Enroll")?,
            forget: module.getattr("Forget")?,
        })
    }

    pub fn command(&self, py: Python<'py>, command: &Command) -> PyResult<Bound<'py, PyAny>> {
        let fields = PyDict::new(py);
        let class = match command {
            Command::Speak(speak) => {
                self.fill_speak(&fields, speak)?;
                &self.speak
            }
            Command::Convert(convert) => {
                fill_convert(&fields, convert)?;
                &self.convert
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
        fields.set_item(intern!(py, "return_tokens"), speak.return_tokens)?;
        fields.set_item(intern!(py, "in_hand_seconds"), speak.in_hand_seconds)
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
        self.slicing.call((), Some(&fields))
    }

    pub fn event(event: &Bound<'py, PyAny>) -> PyResult<Event> {
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
    fields.set_item("sample_rate", enroll.sample_rate)?;
    let portable = enroll.portable.as_deref();
    let portable = portable.map(|bytes| PyBytes::new(fields.py(), bytes));
    fields.set_item("portable", portable)
}

fn fill_convert(fields: &Bound<'_, PyDict>, convert: &Convert) -> PyResult<()> {
    fields.set_item("id", convert.id)?;
    fields.set_item("model", &convert.model)?;
    fields.set_item("voice", &convert.voice)?;
    fields.set_item("pcm", write_pcm(fields.py(), &convert.pcm))?;
    fields.set_item("sample_rate", convert.sample_rate)?;
    fields.set_item("seed", convert.seed)?;
    fields.set_item("stream", convert.stream)?;
    fields.set_item("max_audio_seconds", convert.max_audio_seconds)
}

pub fn read_model(model: &Bound<'_, PyAny>) -> PyResult<Model> {
    Ok(Model {
        name: model.getattr("name")?.extract()?,
        sample_rate: model.getattr("sample_rate")?.extract()?,
        can_clone: model.getattr("can_clone")?.extract()?,
        can_convert: model.getattr("can_convert")?.extract()?,
        languages: model.getattr("languages")?.extract()?,
        voices: model.getattr("voices")?.extract()?,
        tags: model.getattr("tags")?.extract()?,
        watermark: model.getattr("watermark")?.extract()?,
    })
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

pub fn write_pcm<'py>(py: Python<'py>, pcm: &[f32]) -> Bound<'py, PyBytes> {
    let bytes: Vec<u8> = pcm.iter().flat_map(|sample| sample.to_le_bytes()).collect();
    PyBytes::new(py, &bytes)
}
