//! The task behind every request: queue, slot, utterances, deadlines, and what is counted of them.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::{sleep_until, timeout};
use tracing::{Instrument, Span, info};

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

/// Longest audio of one utterance, in seconds: the models' own limit of 1000 speech tokens.
const UTTERANCE_SECONDS: f64 = 40.0;
/// Less than this is not worth another utterance, in seconds.
const SHORTEST_REST: f64 = 0.05;

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
pub async fn run(app: Shared, request: SpeechRequest, texts: Texts, pieces: Pieces, route: &'static str) {
    let model = request.model.name.clone();
    let began = Instant::now();
    let tracker = app.tasks.token();
    let mut driver = Driver::new(app, request, texts, pieces.clone(), began);
    let result = driver.speak().instrument(Span::current()).await;
    // The slot and the tickets go first: whoever sees the end may at once ask again.
    let (samples_seconds, summary) = (driver.audio_seconds(), driver.summary());
    drop(driver);
    let outcome = match &result {
        Ok(()) => Outcome::Ok,
        Err(Stop::Cancelled) => Outcome::Cancelled,
        Err(Stop::Error(error)) => outcome_of(error.code),
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
    // The listener may be gone; then nobody needs to know.
    let _ = match result {
        Ok(()) => pieces.send(Ok(Piece::Finished(summary))).await,
        Err(Stop::Error(error)) => pieces.send(Err(error)).await,
        Err(Stop::Cancelled) => Ok(()),
    };
    drop(tracker);
}

fn outcome_of(code: Code) -> Outcome {
    match code {
        Code::Timeout => Outcome::Timeout,
        Code::Stalled => Outcome::Stalled,
        Code::GenerationError => Outcome::Failed,
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
    model_seconds: f64,
    computed: Duration,
    last_generated: Option<Instant>,
    unspeakable: Option<ApiError>,
    tokens: Vec<(String, Vec<u32>)>,
}

impl Driver {
    fn new(app: Shared, request: SpeechRequest, texts: Texts, pieces: Pieces, began: Instant) -> Self {
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
            model_seconds: 0.0,
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
            if self.rest() < SHORTEST_REST {
                break;
            }
        }
        let tail = self.joiner.finish();
        self.make(&tail);
        let tail = self.resampler.finish();
        self.queue(tail);
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
        let text = tokio::select! {
            () = self.pieces.closed() => return Err(Stop::Cancelled),
            text = timeout(patience, self.texts.recv()) => text,
        };
        let text = text.map_err(|_| {
            let message = format!("No text came for {} s after `more`; send `end`.", patience.as_secs_f64());
            ApiError::new(Code::Timeout, message)
        })?;
        self.texts_ended = text.is_none();
        Ok(text)
    }

    /// Takes a slot if there is none yet, prepares the voice and submits.
    async fn begin(&mut self, utterance: Utterance) -> Result<Live, Stop> {
        if self.slot.is_none() {
            let slot = self.wait_for_slot().await?;
            self.slot = Some(slot);
        }
        // The deadline is for the engine, not for the client who writes the text.
        self.last_audio = Instant::now();
        self.submit(utterance, false).await
    }

    async fn wait_for_slot(&mut self) -> Result<Slot, Stop> {
        let arrived = Instant::now();
        let place = self.app.admission.enqueue()?;
        let deadline = self.app.limits.request_timeout;
        let slot = tokio::select! {
            () = self.pieces.closed() => return Err(Stop::Cancelled),
            slot = timeout(deadline, place.slot()) => slot.map_err(|_| self.too_late())??,
        };
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
        Ok(Live { ticket, utterance, index, submitted, spoke: false, retried })
    }

    async fn submit_at(&self, utterance: &Utterance, index: u64) -> Result<Ticket, Stop> {
        let request = &self.request;
        let voice = match &request.voice {
            VoiceChoice::BuiltIn(name) => name.clone(),
            VoiceChoice::Cloned(voice) => {
                let (engine, store) = (&self.app.engine, &self.app.voices);
                let ready = self.app.enrolments.ensure(engine, store, voice, &request.model.name);
                tokio::select! {
                    () = self.pieces.closed() => return Err(Stop::Cancelled),
                    ready = ready => ready?,
                }
                Some(voice.key.clone())
            }
        };
        let speak = Speak {
            id: 0,
            model: request.model.name.clone(),
            text: utterance.text.clone(),
            language: request.language.clone(),
            voice,
            seed: request.seed + index,
            params: request.params.clone(),
            slicing: request.slicing.clone(),
            max_audio_seconds: self.rest().min(UTTERANCE_SECONDS),
            stream: request.stream,
            return_tokens: request.return_tokens,
        };
        Ok(self.app.engine.speak(speak).await.map_err(|_| ApiError::engine_gone())?)
    }

    /// Delivers `current` to its end; meanwhile, once the engine has finished it, submits the one after it as `next`.
    async fn play(&mut self, current: &mut Live, next: &mut Option<Live>) -> Result<(), Stop> {
        // With a limit on the whole, the rest is known only after each utterance.
        let look_ahead = self.request.max_audio_seconds.is_none();
        let pieces = self.pieces.clone();
        let engine = self.app.engine.clone();
        let engine_failed = engine.status().failed();
        tokio::pin!(engine_failed);
        let mut generated = false;
        loop {
            let deadline = self.deadline();
            let ticket = &mut current.ticket;
            tokio::select! {
                biased;
                () = pieces.closed() => return Err(Stop::Cancelled),
                () = &mut engine_failed => return Err(ApiError::engine_gone().into()),
                permit = pieces.reserve(), if !self.pending.is_empty() => {
                    let permit = permit.map_err(|_| Stop::Cancelled)?;
                    permit.send(Ok(Piece::Audio(std::mem::take(&mut self.pending))));
                }
                event = ticket.events.recv(), if self.pending.is_empty() => {
                    if self.hear(event, current).await? {
                        return Ok(());
                    }
                }
                () = ticket.generated.wait(), if look_ahead && !generated => generated = true,
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
        self.last_audio + if self.pending.is_empty() { limits.request_timeout } else { limits.stall_timeout }
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
            Some(SpeechEvent::Failed { code: FailureCode::NothingToSay, message }) => {
                self.unspeakable = Some(ApiError::from_engine(FailureCode::NothingToSay, message));
                Ok(true)
            }
            Some(SpeechEvent::Failed { code: FailureCode::VoiceNotEnrolled, .. })
                if !current.spoke && !current.retried =>
            {
                if let VoiceChoice::Cloned(voice) = &self.request.voice {
                    self.app.enrolments.evicted(voice, &self.request.model.name).await;
                }
                current.ticket = self.submit_at(&current.utterance, current.index).await?;
                current.retried = true;
                Ok(false)
            }
            Some(SpeechEvent::Failed { code, message }) => Err(ApiError::from_engine(code, message).into()),
            None => Err(ApiError::engine_gone().into()),
        }
    }

    fn hear_audio(&mut self, pcm: &[f32], current: &mut Live) {
        if !current.spoke {
            current.spoke = true;
            if let Some(pause) = self.pause.take() {
                let gap = self.joiner.end_utterance(pause_ms(pause, self.request.params.speed));
                self.make(&gap);
            }
            self.pause = Some(current.utterance.pause);
        }
        let now = Instant::now();
        if self.timing.is_some() {
            metrics::audio_piece_after(now - self.last_audio);
        }
        self.last_audio = now;
        self.model_seconds += pcm.len() as f64 / f64::from(self.request.model.sample_rate);
        let joined = self.joiner.push(pcm);
        self.make(&joined);
    }

    /// Brings samples of the model's rate to the listener's.
    fn make(&mut self, samples: &[f32]) {
        let samples = self.resampler.push(samples);
        self.queue(samples);
    }

    fn queue(&mut self, samples: Vec<f32>) {
        self.samples_out += samples.len() as u64;
        self.pending.extend(samples);
    }

    /// Tells the listener, once, that audio follows.
    async fn announce(&mut self) -> Result<(), Stop> {
        if self.timing.is_some() || self.pending.is_empty() {
            return Ok(());
        }
        let timing = Timing { queued: self.queued, first_audio: self.began.elapsed() };
        self.timing = Some(timing);
        metrics::first_audio_after(&self.request.model.name, timing.first_audio);
        self.pieces.send(Ok(Piece::Started(timing))).await.map_err(|_| Stop::Cancelled)
    }

    fn count(&mut self, live: &mut Live, stats: Stats, at: Instant) {
        let started = self.last_generated.map_or(live.submitted, |last| last.max(live.submitted));
        self.computed += at.saturating_duration_since(started);
        self.last_generated = Some(at);
        let _ = self.pieces.try_send(Ok(Piece::Progress { characters: live.utterance.text.chars().count() }));
        if let Some(tokens) = stats.tokens {
            self.tokens.push((std::mem::take(&mut live.utterance.text), tokens));
        }
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

    /// Seconds of audio that the request may still have.
    fn rest(&self) -> f64 {
        self.request.max_audio_seconds.map_or(f64::INFINITY, |most| most - self.model_seconds)
    }

    fn audio_seconds(&self) -> f64 {
        self.samples_out as f64 / f64::from(self.request.output.sample_rate)
    }

    fn summary(&mut self) -> Summary {
        let audio_seconds = self.audio_seconds();
        Summary {
            timing: self.timing.unwrap_or(Timing { queued: self.queued, first_audio: Duration::ZERO }),
            audio_seconds,
            real_time_factor: self.computed.as_secs_f64() / audio_seconds.max(f64::MIN_POSITIVE),
            tokens: std::mem::take(&mut self.tokens),
        }
    }

    fn too_late(&self) -> ApiError {
        let seconds = self.app.limits.request_timeout.as_secs_f64();
        let retry = self.app.admission.retry_after();
        ApiError::new(Code::Timeout, format!("No audio came within {seconds} s.")).retry_after(retry)
    }

    fn stalled(&self) -> ApiError {
        let seconds = self.app.limits.stall_timeout.as_secs_f64();
        ApiError::new(Code::Stalled, format!("The audio was not read for {seconds} s."))
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
