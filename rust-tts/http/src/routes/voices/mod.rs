//! The voices, in each dialect that manages them.

pub mod consents;
mod fields;
pub mod library;
pub mod native;
pub mod openai;
pub mod register;

use axum::extract::Path;
use axum::extract::rejection::PathRejection;

use chatterbox_speech::error::{Code, Error};
use chatterbox_voices::VoiceCache;

use crate::state::{App, Shared};
use chatterbox_voices::{Voice, VoiceError};

/// The reference at the end of a path. One that is no text leads nowhere.
type Reference = Result<Path<String>, PathRejection>;

fn reference(path: Reference) -> Result<String, Error> {
    let Path(reference) = path.map_err(|_| VoiceError::NotFound)?;
    Ok(reference)
}

/// Runs work that touches the disk away from the threads that serve sockets.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, VoiceError> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|_| {
        Error::new(
            Code::GenerationError,
            "The voices folder could not be used.",
        )
    })??)
}

/// Runs work that decodes what a client has sent, or a clip of the folder, in its turn.
async fn decoding<T: Send + 'static>(
    app: &App,
    work: impl FnOnce() -> Result<T, VoiceError> + Send + 'static,
) -> Result<T, Error> {
    Ok(app.uploads.run(work).await??)
}

/// Prepares a voice that has come, for the sake of the first request that speaks with it.
fn prepare_soon(app: &Shared, voice: &Voice) {
    if app.speech.voice_options.voice_cache == VoiceCache::Lazy {
        return;
    }
    let (app, voice) = (app.clone(), voice.clone());
    // No drain waits for it: it is for requests to come.
    tokio::spawn(async move {
        app.speech
            .enrolments
            .prepare(&app.speech.engine, &app.speech.voices, &voice)
            .await;
    });
}
