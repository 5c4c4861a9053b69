//! The messages of `/ws/tts`, both ways.

use serde::{Deserialize, Serialize};

use super::Frame;
use crate::error::Error;

/// The fields of a `say` beside those of [`SpeechParams`](crate::params::SpeechParams).
#[derive(Debug, Deserialize)]
pub struct SayFields {
    pub id: Option<String>,
    /// Text follows in `append` messages, until `end`.
    pub more: Option<bool>,
}

/// The stream that an `append` or `end` is for.
#[derive(Debug, Deserialize)]
pub struct StreamId {
    pub id: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct SetVoice {
    pub voice_path: Option<String>,
    /// `server` (default) or `connection`.
    pub scope: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerMessage<'a> {
    Ready {
        models: &'a [&'a str],
        device: &'a str,
        version: &'a str,
        sample_rate: u32,
    },
    Chunk {
        id: &'a str,
        index: u64,
        /// Base64; absent when the audio follows as a binary frame.
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<&'a str>,
        is_last: bool,
    },
    Audio {
        id: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<&'a str>,
        sample_rate: u32,
        duration_seconds: f64,
    },
    Done {
        id: &'a str,
        duration_seconds: f64,
        time_to_first_audio_ms: f64,
        real_time_factor: f64,
        cancelled: bool,
    },
    VoiceSet {
        voice_path: &'a str,
    },
    Cancelled {
        id: Option<&'a str>,
    },
    Error {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a str>,
        error: String,
        message: String,
        code: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after: Option<u64>,
    },
    Pong {},
}

impl<'a> ServerMessage<'a> {
    pub fn error(id: Option<&'a str>, error: &'a Error) -> Self {
        let (text, code) = (error.to_string(), error.code.as_str());
        Self::Error {
            id,
            error: text.clone(),
            message: text,
            code,
            retry_after: error.retry_after,
        }
    }

    pub fn frame(&self) -> Frame {
        // Strings and finite numbers always serialise.
        Frame::Text(serde_json::to_string(self).unwrap_or_default())
    }
}
