//! What the test that holds the two message files together calls.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use super::messages::{self, Messages, write_pcm};
use chatterbox_engine::messages::{Command, Convert, Enroll, Event, Params, Slicing, Speak};

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
        in_hand_seconds: 2.5,
    };
    let bare = Speak {
        id: 2,
        language: None,
        voice: None,
        params: Params::default(),
        slicing: Slicing::default(),
        stream: false,
        return_tokens: false,
        in_hand_seconds: 0.0,
        ..speak.clone()
    };
    let pcm: Arc<[f32]> = Arc::from([0.0, 0.5, -1.0]);
    let enroll = Enroll {
        id: 3,
        voice: "ab".repeat(32),
        model: "fake".into(),
        pcm: Arc::clone(&pcm),
        sample_rate: 16_000,
        portable: Some(Arc::from([1, 2, 255])),
    };
    let convert = Convert {
        id: 4,
        model: "fake".into(),
        voice: Some("ab".repeat(32)),
        pcm,
        sample_rate: 44_100,
        seed: 9_007_199_254_740_991,
        stream: true,
        max_audio_seconds: 300.5,
    };
    let bare_convert = Convert {
        id: 5,
        voice: None,
        stream: false,
        ..convert.clone()
    };
    let commands = [
        Command::Speak(Box::new(speak)),
        Command::Speak(Box::new(bare)),
        Command::Cancel(1),
        Command::Enroll(enroll),
        Command::Convert(Box::new(convert)),
        Command::Convert(Box::new(bare_convert)),
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

/// Reads a model as the host does and returns its parts: for the same test.
#[pyfunction]
pub fn read_model<'py>(model: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    let read = messages::read_model(model)?;
    let parts = (
        read.name,
        read.sample_rate,
        read.can_clone,
        read.can_convert,
        read.languages,
        read.voices,
        read.tags,
        read.watermark,
    );
    parts.into_pyobject(model.py())
}
