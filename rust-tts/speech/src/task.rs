//! The task behind every request: runs its driver, whatever ends it, and counts how it ended.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::driver::Driver;
use super::request::SpeechRequest;
use super::{SpeechEvent, Texts};
use crate::error::{Code, Error};
use crate::metrics::{self, Outcome};
use crate::service::SpeechService;

pub type EventSender = mpsc::Sender<Result<SpeechEvent, Error>>;

/// Why a request ended before its end.
pub enum Stop {
    /// The listener went away.
    Cancelled,
    Error(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// Speaks a request to its end, sends the listener its outcome and counts it.
pub async fn run(
    service: Arc<SpeechService>,
    request: SpeechRequest,
    texts: Texts,
    events: EventSender,
    stalled: CancellationToken,
    route: &'static str,
) {
    let (model, names) = (request.model.name.clone(), request.names.clone());
    let tracked = service.tasks.token();
    let engine = service.engine.clone();
    let stall_timeout = service.options.limits.stall_timeout;
    let mut driver = Driver::new(service, request, texts, events.clone());
    // A listener that stalled or went away, or a dead engine, ends a request wherever it is.
    let result = tokio::select! {
        biased;
        () = stalled.cancelled() => Err(Error::stalled(stall_timeout).into()),
        () = events.closed() => Err(Stop::Cancelled),
        () = engine.status().failed() => Err(Error::engine_gone().into()),
        result = driver.run() => result,
    };
    let outcome = match &result {
        Ok(_) => Outcome::Ok,
        Err(Stop::Cancelled) => Outcome::Cancelled,
        Err(Stop::Error(error)) => outcome_of(error.code, driver.admitted()),
    };
    // The slot is released before the outcome is sent: a client that sees the end may ask again at once.
    let (audio_seconds, stats) = driver.end();
    metrics::request_ended(route, &model, outcome, stats.elapsed());
    let summary = stats.summary(audio_seconds);
    let factor = (audio_seconds > 0.0).then_some(summary.real_time_factor);
    metrics::spoken(&model, audio_seconds, factor);
    let first_audio_ms = summary.timing.first_audio.as_millis() as u64;
    info!(
        route,
        model,
        ?outcome,
        audio_seconds,
        first_audio_ms,
        "spoken"
    );
    // The connection that listens is waited for on its own.
    drop(tracked);
    // The listener may have been dropped.
    let _ = match result {
        Ok(last) => {
            events
                .send(Ok(SpeechEvent::Finished { last, summary }))
                .await
        }
        Err(Stop::Error(error)) => events.send(Err(names.in_errors(error))).await,
        Err(Stop::Cancelled) => Ok(()),
    };
}

/// The outcome of a request that ended with an error. A busy server is a failure once the request was admitted.
fn outcome_of(code: Code, admitted: bool) -> Outcome {
    match code {
        Code::Timeout => Outcome::Timeout,
        Code::Stalled => Outcome::Stalled,
        Code::GenerationError => Outcome::Failed,
        Code::ServerBusy if admitted => Outcome::Failed,
        _ => Outcome::Rejected,
    }
}
