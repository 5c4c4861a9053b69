//! Multipart bodies with a file in them.

use std::collections::HashMap;

use axum::extract::multipart::{Field, Multipart, MultipartError, MultipartRejection};
use bytes::Bytes;
use tokio::sync::SemaphorePermit;
use tokio::time::timeout;

use crate::error::{ApiError, Code};
use crate::routes::native::timed_out;
use crate::state::App;

/// Most parts that are looked at.
pub const MAX_PARTS: usize = 16;
/// Longest of the parts that are not the file, in bytes.
const MAX_TEXT: usize = 8 * 1024;

/// What a form holds.
pub struct Form<'a> {
    /// The name that the client gave to the file.
    pub file_name: String,
    pub file: Bytes,
    texts: HashMap<String, String>,
    /// Held until the file has been dealt with: each takes a whole file's memory, and its samples'.
    _turn: SemaphorePermit<'a>,
}

impl<'a> Form<'a> {
    /// Reads a form whose file is in the part called `part`.
    pub async fn receive(
        app: &'a App,
        multipart: Result<Multipart, MultipartRejection>,
        part: &str,
    ) -> Result<Self, ApiError> {
        let multipart = multipart
            .map_err(|rejection| ApiError::new(Code::BadRequest, rejection.body_text()))?;
        // Before the body is read: an upload that waits here holds no memory.
        let turn = app.uploads.acquire().await;
        let turn = turn.map_err(|_| ApiError::engine_gone())?;
        let parts = read_parts(multipart, part, app.voice_options.max_voice_file_size);
        // In all: clients that send a little now and then would keep everybody's places for ever.
        let parts = timeout(app.limits.request_timeout, parts).await;
        let late = |_| ApiError::new(Code::SlowBody, "The body did not arrive in time.");
        let (file, texts) = parts.map_err(late)??;
        let none = || {
            let message = format!("The upload has no part named `{part}`.");
            ApiError::new(Code::NoFile, message)
        };
        let (file_name, file) = file.ok_or_else(none)?;
        Ok(Self {
            file_name,
            file,
            texts,
            _turn: turn,
        })
    }

    /// A text that came along; an empty one counts as left out, as forms send them.
    pub fn text(&mut self, name: &str) -> Option<String> {
        let text = self.texts.remove(name)?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// The same, of which there must be one.
    pub fn required(&mut self, name: &str) -> Result<String, ApiError> {
        self.text(name)
            .ok_or_else(|| ApiError::parameter(name, "is missing"))
    }

    /// A switch; off when it is left out.
    pub fn flag(&mut self, name: &str) -> Result<bool, ApiError> {
        match self.text(name).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(ApiError::parameter(name, "expected true or false")),
        }
    }
}

type Parts = (Option<(String, Bytes)>, HashMap<String, String>);

async fn read_parts(
    mut multipart: Multipart,
    wanted: &str,
    limit: usize,
) -> Result<Parts, ApiError> {
    let (mut file, mut texts) = (None, HashMap::new());
    for _ in 0..MAX_PARTS {
        let next = multipart.next_field().await;
        let Some(part) = next.map_err(|error| broken(&error, limit))? else {
            break;
        };
        match part.name().map(str::to_owned) {
            Some(name) if name == wanted => file = Some(read_file(part, wanted, limit).await?),
            // A file under another name is of no use, and is skipped unread.
            Some(name) if part.file_name().is_none() => {
                let text = read_text(part, limit).await?;
                texts.insert(name, text);
            }
            _ => {}
        }
    }
    Ok((file, texts))
}

async fn read_file(
    part: Field<'_>,
    wanted: &str,
    limit: usize,
) -> Result<(String, Bytes), ApiError> {
    let name = part.file_name().map(str::to_owned);
    let nameless = || {
        let message = format!("The part `{wanted}` has no file name.");
        ApiError::new(Code::NoFile, message)
    };
    let name = name.ok_or_else(nameless)?;
    let bytes = part.bytes().await.map_err(|error| broken(&error, limit))?;
    if bytes.len() > limit {
        return Err(too_large(limit));
    }
    Ok((name, bytes))
}

async fn read_text(part: Field<'_>, limit: usize) -> Result<String, ApiError> {
    let bytes = part.bytes().await.map_err(|error| broken(&error, limit))?;
    let text = std::str::from_utf8(&bytes)
        .ok()
        .filter(|text| text.len() <= MAX_TEXT);
    let refused = || {
        let message = format!("A part that is no file must be a text of at most {MAX_TEXT} bytes.");
        ApiError::new(Code::BadRequest, message)
    };
    text.map(str::to_owned).ok_or_else(refused)
}

/// What is said of a file with more than `limit` bytes.
pub fn too_large(limit: usize) -> ApiError {
    let message = format!("The file is larger than {limit} bytes.");
    ApiError::new(Code::FileTooLarge, message)
}

/// Why a multipart body could not be read, if a file may have `limit` bytes.
pub fn broken(error: &MultipartError, limit: usize) -> ApiError {
    match error.status().as_u16() {
        413 => too_large(limit),
        _ if timed_out(error) => ApiError::new(Code::SlowBody, "The body did not arrive in time."),
        _ => ApiError::new(
            Code::BadRequest,
            format!("The multipart body is broken: {}", error.body_text()),
        ),
    }
}
