//! The task behind every request: queue, slot, utterances, deadlines, and what is counted of them.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::{sleep_until, timeout, timeout_at};
use tracing::info;

use super::request::{SpeechRequest, VoiceChoice};
use super::text::{Pause, Utterance};
use super::{Piece, Summary, Texts, Timing};
use crate::audio::{Joiner, Resampler};
use crate::engine::messages::{FailureCode, Speak, Stats};
use crate::engine::{SpeechEvent, Ticket};
use crate::error::{ApiError, Code};
use crate::limits::Slot;
use crate::metrics::{self, Outcome};
use crate::state::Shared;

/// Longest audio of one utterance, in seconds: a guard against a model that does not end. A long number read slowly takes
/// more than a minute; models that speak in tokens have a lower limit of their own.
const UTTERANCE_SECONDS: f64 = 120.0;
/// How often a voice that is replaced again and again is looked up.
const VOICE_ATTEMPTS: u32 = 3;
/// Silence that a model may put around an utterance, in seconds.
const LEAD_AND_TAIL: f64 = 1.5;
/// A cut fades over 5 ms.
const FADES_PER_SECOND: u32 = 200;

type Pieces = mpsc::Sender<Result<Piece, ApiError>>;

/// Why a request ended before its end.
enum Stop {
    /// The listener went away.
    Cancelled,
    Error(ApiError),
}

impl From<ApiError> for Stop {
    fn from(error: ApiError) -> Self {
        Self::Error(error)
    }
}

/// Speaks a request to its end, tells the listener how it ended and counts it.
pub async fn run(
    app: Shared,
    request: SpeechRequest,
    texts: Texts,
    pieces: Pieces,
    route: &'static str,
) {
    let model = request.model.name.clone();
    let began = Instant::now();
    let tracker = app.tasks.token();
    let engine = app.engine.clone();
    let mut driver = Driver::new(app, request, texts, pieces.clone(), began);
    // A listener that went away, or a dead engine, ends a request wherever it is.
    let result = tokio::select! {
        biased;
        () = pieces.closed() => Err(Stop::Cancelled),
        () = engine.status().failed() => Err(ApiError::engine_gone().into()),
        result = driver.speak() => result,
    };
    let admitted = driver.slot.is_some();
    // The slot and the tickets go first: whoever sees the end may at once ask again.
    let (samples_seconds, summary) = (driver.audio_seconds(), driver.summary());
    drop(driver);
    let outcome = match &result {
        Ok(()) => Outcome::Ok,
        Err(Stop::Cancelled) => Outcome::Cancelled,
        Err(Stop::Error(error)) => outcome_of(error.code, admitted),
    };
    metrics::request_ended(route, &model, outcome, began.elapsed());
    let factor = (samples_seconds > 0.0).then_some(summary.real_time_factor);
    metrics::spoken(&model, samples_seconds, factor);
    info!(
        route,
        model,
        ?outcome,
        audio_seconds = samples_seconds,
        first_audio_ms = summary.timing.first_audio.as_millis() as u64,
        "spoken"
    );
    // The connection that listens is waited for on its own.
    drop(tracker);
    // The listener may be gone; then nobody needs to know.
    let _ = match result {
        Ok(()) => pieces.send(Ok(Piece::Finished(summary))).await,
        Err(Stop::Error(error)) => pieces.send(Err(error)).await,
        Err(Stop::Cancelled) => Ok(()),
    };
}

/// What is refused after it was admitted failed, unless the client asked for what cannot be.
fn outcome_of(code: Code, admitted: bool) -> Outcome {
    match code {
        Code::Timeout => Outcome::Timeout,
        Code::Stalled => Outcome::Stalled,
        Code::GenerationError => Outcome::Failed,
        Code::ServerBusy if admitted => Outcome::Failed,
        _ => Outcome::Rejected,
    }
}

/// An utterance in the engine.
struct Live {
    ticket: Ticket,
    utterance: Utterance,
    index: u64,
    submitted: Instant,
    spoke: bool,
    /// It was submitted again after its voice had been evicted.
    retried: bool,
}

struct Driver {
    app: Shared,
    request: SpeechRequest,
    texts: Texts,
    texts_ended: bool,
    pieces: Pieces,
    began: Instant,
    slot: Option<Slot>,
    joiner: Joiner,
    resampler: Resampler,
    /// Made, and not yet taken by the listener.
    pending: Vec<f32>,
    /// Pause before the next utterance that speaks.
    pause: Option<Pause>,
    utterances: u64,
    timing: Option<Timing>,
    queued: Duration,
    last_audio: Instant,
    samples_out: u64,
    computed: Duration,
    last_generated: Option<Instant>,
    unspeakable: Option<ApiError>,
    tokens: Vec<(String, Vec<u32>)>,
}

impl Driver {
    fn new(
        app: Shared,
        request: SpeechRequest,
        texts: Texts,
        pieces: Pieces,
        began: Instant,
    ) -> Self {
        let rate = request.model.sample_rate;
        let resampler = Resampler::new(rate, request.output.sample_rate);
        Self {
            app,
            request,
            texts,
            texts_ended: false,
            pieces,
            began,
            slot: None,
            joiner: Joiner::new(rate),
            resampler,
            pending: Vec::new(),
            pause: None,
            utterances: 0,
            timing: None,
            queued: Duration::ZERO,
            last_audio: began,
            samples_out: 0,
            computed: Duration::ZERO,
            last_generated: None,
            unspeakable: None,
            tokens: Vec::new(),
        }
    }

    async fn speak(&mut self) -> Result<(), Stop> {
        let mut next = None;
        loop {
            let mut current = match next.take() {
                Some(live) => live,
                None => match self.next_utterance().await? {
                    Some(utterance) => self.begin(utterance).await?,
                    None => break,
                },
            };
            self.play(&mut current, &mut next).await?;
            if self.full() {
                break;
            }
        }
        let tail = self.joiner.finish();
        self.make(&tail);
        let tail = self.resampler.finish();
        self.queue(&tail);
        self.flush().await?;
        match self.unspeakable.take() {
            Some(error) if self.samples_out == 0 => Err(error.into()),
            _ if self.samples_out == 0 => Err(nothing_to_say().into()),
            _ => Ok(()),
        }
    }

    /// Waits for text, but not for ever: a request that is fed piece by piece holds a slot.
    async fn next_utterance(&mut self) -> Result<Option<Utterance>, Stop> {
        if self.texts_ended {
            return Ok(None);
        }
        let patience = self.app.limits.stall_timeout;
        let text = timeout(patience, self.texts.recv()).await.map_err(|_| {
            let seconds = patience.as_secs_f64();
            let message = format!("No text came for {seconds} s after `more`; send `end`.");
            ApiError::new(Code::Timeout, message)
        })?;
        self.texts_ended = text.is_none();
        Ok(text)
    }

    /// Takes a slot if there is none yet, prepares the voice and submits.
    async fn begin(&mut self, utterance: Utterance) -> Result<Live, Stop> {
        // The deadline is for the server, not for the client who writes the text.
        self.last_audio = Instant::now();
        let deadline = self.last_audio + self.app.limits.request_timeout;
        let begun = async {
            if self.slot.is_none() {
                self.slot = Some(self.wait_for_slot().await?);
            }
            self.submit(utterance, false).await
        };
        match timeout_at(deadline.into(), begun).await {
            Ok(live) => live,
            Err(_) => Err(self.too_late().into()),
        }
    }

    async fn wait_for_slot(&mut self) -> Result<Slot, Stop> {
        let arrived = Instant::now();
        let slot = self.app.admission.enqueue()?.slot().await?;
        self.queued = arrived.elapsed();
        metrics::queued_for(self.queued);
        Ok(slot)
    }

    async fn submit(&mut self, utterance: Utterance, retried: bool) -> Result<Live, Stop> {
        let index = self.utterances;
        self.utterances += 1;
        let submitted = Instant::now();
        let ticket = self.submit_at(&utterance, index).await?;
        metrics::characters(utterance.text.chars().count());
        Ok(Live {
            ticket,
            utterance,
            index,
            submitted,
            spoke: false,
            retried,
        })
    }

    /// The engine's name of the voice, which is prepared if it is not.
    async fn prepared_voice(&mut self) -> Result<Option<String>, ApiError> {
        let (engine, store) = (&self.app.engine, &self.app.voices);
        let model = &self.request.model.name;
        let mut attempts = 0;
        loop {
            let voice = match &self.request.voice {
                VoiceChoice::BuiltIn(name) => return Ok(name.clone()),
                VoiceChoice::Cloned(voice) => voice.clone(),
            };
            let ready = self
                .app
                .enrolments
                .ensure(engine, store, &voice, model)
                .await;
            match ready {
                Ok(()) => return Ok(Some(voice.key)),
                // Its file was replaced while the request waited: the one that is there now will do, until the first
                // word is spoken.
                Err(error)
                    if error.code == Code::VoiceNotFound
                        && self.timing.is_none()
                        && attempts < VOICE_ATTEMPTS =>
                {
                    attempts += 1;
                    let found = tokio::task::block_in_place(|| store.find(&voice.id))?;
                    self.request.voice = VoiceChoice::Cloned(found);
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn submit_at(&mut self, utterance: &Utterance, index: u64) -> Result<Ticket, Stop> {
        let voice = self.prepared_voice().await?;
        let request = &self.request;
        let speak = Speak {
            id: 0,
            model: request.model.name.clone(),
            text: utterance.text.clone(),
            language: request.language.clone(),
            voice,
            seed: request.seed + index,
            params: request.params.clone(),
            slicing: request.slicing.clone(),
            max_audio_seconds: self.utterance_seconds(),
            stream: request.stream,
            return_tokens: request.return_tokens,
        };
        Ok(self
            .app
            .engine
            .speak(speak)
            .await
            .map_err(|_| ApiError::engine_gone())?)
    }

    /// Delivers `current` to its end; meanwhile, once the engine has finished it, submits the one after it as `next`.
    async fn play(&mut self, current: &mut Live, next: &mut Option<Live>) -> Result<(), Stop> {
        let pieces = self.pieces.clone();
        let mut generated = false;
        loop {
            if self.full() && self.pending.is_empty() {
                self.count_time(current, Instant::now());
                return Ok(());
            }
            let deadline = self.deadline();
            let ticket = &mut current.ticket;
            tokio::select! {
                biased;
                permit = pieces.reserve(), if !self.pending.is_empty() => {
                    let permit = permit.map_err(|_| Stop::Cancelled)?;
                    permit.send(Ok(Piece::Audio(std::mem::take(&mut self.pending))));
                }
                event = ticket.events.recv(), if self.pending.is_empty() => {
                    if self.hear(event, current).await? {
                        return Ok(());
                    }
                }
                () = ticket.generated.wait(), if !generated => generated = true,
                text = self.texts.recv(), if generated && next.is_none() && !self.texts_ended => {
                    match text {
                        Some(utterance) => *next = Some(self.submit(utterance, false).await?),
                        None => self.texts_ended = true,
                    }
                }
                () = sleep_until(deadline.into()) => {
                    let late = if self.pending.is_empty() { self.too_late() } else { self.stalled() };
                    return Err(late.into());
                }
            }
        }
    }

    /// The client has `stall_timeout` to take what is made; the engine has `request_timeout` to make more.
    fn deadline(&self) -> Instant {
        let limits = &self.app.limits;
        self.last_audio
            + if self.pending.is_empty() {
                limits.request_timeout
            } else {
                limits.stall_timeout
            }
    }

    /// Takes one event of the engine; `true` when the utterance has ended.
    async fn hear(&mut self, event: Option<SpeechEvent>, current: &mut Live) -> Result<bool, Stop> {
        match event {
            Some(SpeechEvent::Audio(pcm)) => {
                self.hear_audio(&pcm, current);
                self.announce().await?;
                Ok(false)
            }
            Some(SpeechEvent::Done { stats, at }) => {
                self.count(current, stats, at);
                Ok(true)
            }
            Some(SpeechEvent::Failed {
                code: FailureCode::NothingToSay,
                message,
            }) => {
                self.unspeakable = Some(ApiError::from_engine(FailureCode::NothingToSay, message));
                Ok(true)
            }
            Some(SpeechEvent::Failed {
                code: FailureCode::VoiceNotEnrolled,
                ..
            }) if !current.spoke && !current.retried => {
                if let VoiceChoice::Cloned(voice) = &self.request.voice {
                    self.app.enrolments.evicted(voice, &self.request.model.name);
                }
                current.ticket = self.submit_at(&current.utterance, current.index).await?;
                current.retried = true;
                Ok(false)
            }
            Some(SpeechEvent::Failed { code, message }) => {
                Err(ApiError::from_engine(code, message).into())
            }
            None => Err(ApiError::engine_gone().into()),
        }
    }

    fn hear_audio(&mut self, pcm: &[f32], current: &mut Live) {
        if !current.spoke {
            current.spoke = true;
            if let Some(pause) = self.pause.take() {
                let gap = self
                    .joiner
                    .end_utterance(pause_ms(pause, self.request.params.speed));
                self.make(&gap);
            }
            self.pause = Some(current.utterance.pause);
        }
        let now = Instant::now();
        if self.timing.is_some() {
            metrics::audio_piece_after(now - self.last_audio);
        }
        self.last_audio = now;
        let joined = self.joiner.push(pcm);
        self.make(&joined);
    }

    /// Brings samples of the model's rate to the listener's.
    fn make(&mut self, samples: &[f32]) {
        let samples = self.resampler.push(samples);
        self.queue(&samples);
    }

    fn queue(&mut self, samples: &[f32]) {
        let room = self.max_samples().map_or(usize::MAX, |most| {
            most.saturating_sub(self.samples_out) as usize
        });
        let taken = samples.len().min(room);
        self.samples_out += taken as u64;
        self.pending.extend(&samples[..taken]);
        if taken < samples.len() && taken > 0 {
            self.fade_out();
        }
    }

    /// Takes the click out of a cut.
    fn fade_out(&mut self) {
        let fade = (self.request.output.sample_rate / FADES_PER_SECOND) as usize;
        let start = self.pending.len().saturating_sub(fade);
        let tail = &mut self.pending[start..];
        let count = tail.len() as f32;
        for (at, sample) in tail.iter_mut().enumerate() {
            *sample *= 1.0 - (at + 1) as f32 / count;
        }
    }

    /// Tells the listener, once, that audio follows.
    async fn announce(&mut self) -> Result<(), Stop> {
        if self.timing.is_some() || self.pending.is_empty() {
            return Ok(());
        }
        let timing = Timing {
            queued: self.queued,
            first_audio: self.began.elapsed(),
        };
        self.timing = Some(timing);
        metrics::first_audio_after(&self.request.model.name, timing.first_audio);
        self.pieces
            .send(Ok(Piece::Started(timing)))
            .await
            .map_err(|_| Stop::Cancelled)
    }

    fn count(&mut self, live: &mut Live, stats: Stats, at: Instant) {
        self.count_time(live, at);
        let _ = self.pieces.try_send(Ok(Piece::Progress {
            characters: live.utterance.text.chars().count(),
        }));
        if let Some(tokens) = stats.tokens {
            self.tokens
                .push((std::mem::take(&mut live.utterance.text), tokens));
        }
    }

    /// Utterances overlap when one is submitted ahead: no moment is counted twice.
    fn count_time(&mut self, live: &Live, at: Instant) {
        let started = self
            .last_generated
            .map_or(live.submitted, |last| last.max(live.submitted));
        self.computed += at.saturating_duration_since(started);
        self.last_generated = Some(at);
    }

    /// Hands what is left to the listener.
    async fn flush(&mut self) -> Result<(), Stop> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.announce().await?;
        let piece = Piece::Audio(std::mem::take(&mut self.pending));
        match timeout(self.app.limits.stall_timeout, self.pieces.send(Ok(piece))).await {
            Ok(sent) => sent.map_err(|_| Stop::Cancelled),
            Err(_) => Err(self.stalled().into()),
        }
    }

    /// Samples that the request may have in all.
    fn max_samples(&self) -> Option<u64> {
        let rate = f64::from(self.request.output.sample_rate);
        self.request
            .max_audio_seconds
            .map(|most| (most * rate) as u64)
    }

    fn full(&self) -> bool {
        self.max_samples()
            .is_some_and(|most| self.samples_out >= most)
    }

    /// What an utterance may have, in seconds: the rest of the request's, and the silence around it that is taken out.
    fn utterance_seconds(&self) -> f64 {
        let rest = self
            .request
            .max_audio_seconds
            .map_or(f64::INFINITY, |most| most - self.audio_seconds());
        // Tokens are counted from the first one on.
        let margin = if self.request.return_tokens {
            0.0
        } else {
            LEAD_AND_TAIL
        };
        (rest + margin).min(UTTERANCE_SECONDS)
    }

    fn audio_seconds(&self) -> f64 {
        self.samples_out as f64 / f64::from(self.request.output.sample_rate)
    }

    fn summary(&mut self) -> Summary {
        let audio_seconds = self.audio_seconds();
        Summary {
            timing: self.timing.unwrap_or(Timing {
                queued: self.queued,
                first_audio: Duration::ZERO,
            }),
            audio_seconds,
            real_time_factor: self.computed.as_secs_f64() / audio_seconds.max(f64::MIN_POSITIVE),
            tokens: std::mem::take(&mut self.tokens),
        }
    }

    fn too_late(&self) -> ApiError {
        let seconds = self.app.limits.request_timeout.as_secs_f64();
        let retry = self.app.admission.retry_after();
        ApiError::new(Code::Timeout, format!("No audio came within {seconds} s."))
            .retry_after(retry)
    }

    fn stalled(&self) -> ApiError {
        let seconds = self.app.limits.stall_timeout.as_secs_f64();
        ApiError::new(
            Code::Stalled,
            format!("The audio was not read for {seconds} s."),
        )
    }
}

fn nothing_to_say() -> ApiError {
    ApiError::new(Code::MissingText, "text: there is nothing to say")
}

/// Silence between two utterances, in milliseconds: what a person reading aloud leaves there.
fn pause_ms(pause: Pause, speed: f64) -> u32 {
    let ms = match pause {
        Pause::Clause => 140.0,
        Pause::Sentence => 350.0,
        Pause::Paragraph => 700.0,
    };
    (ms / speed) as u32
}
