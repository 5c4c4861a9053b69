//! Speaks one request: queue, slot, one utterance after the other, deadlines.

mod submit;

use std::sync::Arc;
use std::time::Instant;

use tokio::time::{sleep_until, timeout, timeout_at};

use super::audio_pipeline::{AudioPipeline, Silence};
use super::enrolment::VoiceLease;
use super::request::{SpeechRequest, VoiceChoice};
use super::request_stats::RequestStats;
use super::task::{EventSender, Stop};
use super::{AnswerEncoder, EncodedAudio, SpeechEvent, Texts};
use crate::admission::Slot;
use crate::error::{Code, Error};
use crate::service::SpeechService;
use chatterbox_audio::{Extent, Leveler};
use chatterbox_engine::messages::{FailureCode, Stats};
use chatterbox_engine::{Ticket, UtteranceEvent};
use chatterbox_text::{Pause, Utterance};

/// An utterance in the engine.
struct LiveUtterance {
    ticket: Ticket,
    utterance: Utterance,
    index: u64,
    submitted: Instant,
    spoke: bool,
    /// Whether it was submitted again after its voice had been evicted.
    retried: bool,
}

pub struct Driver {
    service: Arc<SpeechService>,
    request: SpeechRequest,
    texts: Texts,
    texts_ended: bool,
    events: EventSender,
    slot: Option<Slot>,
    /// Keeps the voice in the engine, also when its file is deleted.
    voice_lease: Option<VoiceLease>,
    pipeline: AudioPipeline,
    /// Encoded, and not delivered yet.
    encoded: EncodedAudio,
    stats: RequestStats,
    /// Pause before the next utterance that speaks.
    pause: Option<Pause>,
    utterances: u64,
    /// Seconds of audio that the engine has made, silence that was taken out included.
    engine_seconds: f64,
    unspeakable: Option<Error>,
}

impl Driver {
    pub fn new(
        service: Arc<SpeechService>,
        request: SpeechRequest,
        texts: Texts,
        events: EventSender,
    ) -> Self {
        let silence = if request.clip.is_some() {
            Silence::Kept
        } else {
            Silence::Joined
        };
        let rate = request.output.encoding.sample_rate;
        let extent = if request.stream {
            Extent::Stream
        } else {
            Extent::Whole
        };
        let normalization = request.normalization;
        let pipeline = AudioPipeline::new(
            request.model.sample_rate,
            rate,
            silence,
            request.trim,
            normalization.map(|wanted| Leveler::new(wanted, extent, rate)),
            request.max_audio_seconds,
        );
        let voice_lease = match &request.voice {
            VoiceChoice::BuiltIn(_) => None,
            VoiceChoice::Cloned(voice) => Some(service.enrolments.lease(voice)),
            VoiceChoice::Once(voice) => Some(service.enrolments.lease_once(voice)),
        };
        Self {
            service,
            request,
            texts,
            texts_ended: false,
            events,
            slot: None,
            voice_lease,
            pipeline,
            encoded: EncodedAudio::default(),
            stats: RequestStats::begin(),
            pause: None,
            utterances: 0,
            engine_seconds: 0.0,
            unspeakable: None,
        }
    }

    /// The request has, or had, a slot.
    pub fn admitted(&self) -> bool {
        self.slot.is_some()
    }

    /// Gives the slot back, cancels what still runs, and returns the seconds of audio made and what they took.
    pub fn end(self) -> (f64, RequestStats) {
        (self.pipeline.seconds(), self.stats)
    }

    /// Speaks to the end, and returns the last of the encoded audio.
    pub async fn run(&mut self) -> Result<Vec<u8>, Stop> {
        let (delivery, encoding) = (self.request.delivery, self.request.output.encoding);
        let mut encoder = AnswerEncoder::new(delivery, encoding).map_err(Error::from)?;
        let mut next = None;
        while !self.pipeline.is_full() && self.utterance_seconds() > 0.0 {
            let mut current = match next.take() {
                Some(live) => live,
                None => match self.next_utterance().await? {
                    Some(utterance) => self.begin(utterance).await?,
                    None => break,
                },
            };
            self.play(&mut current, &mut next, &mut encoder).await?;
        }
        self.pipeline.finish();
        self.flush(&mut encoder).await?;
        if !self.pipeline.has_begun() {
            return Err(self.no_audio_error().into());
        }
        let last = encoder.finish().map_err(Error::from)?;
        self.announce().await?;
        Ok(last)
    }

    /// Why there is no audio.
    fn no_audio_error(&mut self) -> Error {
        if self.pause.is_some() && self.request.trim.seconds() > 0.0 {
            let field = "remove_leading_milliseconds";
            return Error::parameter(field, "with remove_trailing_milliseconds, nothing is left");
        }
        let nothing = || Error::nothing_to_say();
        self.unspeakable.take().unwrap_or_else(nothing)
    }

    /// Waits for text, but not for ever: a request that is fed piece by piece holds a slot.
    async fn next_utterance(&mut self) -> Result<Option<Utterance>, Stop> {
        if self.texts_ended {
            return Ok(None);
        }
        let patience = self.service.options.limits.stall_timeout;
        let text = timeout(patience, self.texts.recv()).await.map_err(|_| {
            let seconds = patience.as_secs_f64();
            let message = format!("No text came for {seconds} s after `more`; send `end`.");
            Error::new(Code::Timeout, message)
        })?;
        self.texts_ended = text.is_none();
        Ok(text)
    }

    /// Takes a slot if there is none yet, prepares the voice and submits.
    async fn begin(&mut self, utterance: Utterance) -> Result<LiveUtterance, Stop> {
        // The deadline is for the server, not for the client who writes the text.
        self.stats.engine_requested();
        let deadline = self.stats.last_audio() + self.service.options.limits.request_timeout;
        let begun = async {
            if self.slot.is_none() {
                let arrived = Instant::now();
                self.slot = Some(self.service.admission.enqueue()?.slot().await?);
                self.stats.queued(arrived.elapsed());
            }
            self.submit(utterance).await
        };
        match timeout_at(deadline.into(), begun).await {
            Ok(live) => live,
            Err(_) => Err(self.timeout_error().into()),
        }
    }

    /// Delivers `current` to its end; meanwhile, once the engine has finished it, submits the one after it as `next`.
    async fn play(
        &mut self,
        current: &mut LiveUtterance,
        next: &mut Option<LiveUtterance>,
        encoder: &mut AnswerEncoder,
    ) -> Result<(), Stop> {
        let events = self.events.clone();
        let mut generated = false;
        // When the listener last took audio.
        let mut taken = Instant::now();
        // How many tokens the next may have is known when this one's have been counted.
        let ahead = !self.request.return_tokens;
        loop {
            let waiting = !self.encoded.chunks.is_empty();
            // Its tokens come with its end.
            if self.pipeline.is_full() && !waiting && ahead {
                self.stats.generated(current.submitted, Instant::now());
                return Ok(());
            }
            // While audio waits for the listener, however slowly it takes it, the engine need not make more.
            let engine_waited_since = self.stats.last_audio().max(taken);
            let deadline = engine_waited_since + self.service.options.limits.request_timeout;
            let ticket = &mut current.ticket;
            tokio::select! {
                biased;
                permit = events.reserve(), if waiting => {
                    let permit = permit.map_err(|_| Stop::Cancelled)?;
                    permit.send(Ok(SpeechEvent::Audio(std::mem::take(&mut self.encoded))));
                    taken = Instant::now();
                }
                event = ticket.events.recv(), if !waiting => {
                    if self.on_event(event, current, encoder).await? {
                        return Ok(());
                    }
                }
                () = ticket.generated.wait(), if !generated => generated = true,
                text = self.texts.recv(), if generated && next.is_none() && !self.texts_ended && ahead => {
                    match text {
                        Some(utterance) => *next = Some(self.submit(utterance).await?),
                        None => self.texts_ended = true,
                    }
                }
                () = sleep_until(deadline.into()), if !waiting => {
                    return Err(self.timeout_error().into());
                }
            }
        }
    }

    /// Takes one event of the engine; `true` when the utterance has ended.
    async fn on_event(
        &mut self,
        event: Option<UtteranceEvent>,
        current: &mut LiveUtterance,
        encoder: &mut AnswerEncoder,
    ) -> Result<bool, Stop> {
        match event.ok_or_else(Error::engine_gone)? {
            UtteranceEvent::Audio(pcm) => {
                self.on_audio(&pcm, current);
                while !self.pipeline.is_empty() {
                    self.encode(encoder)?;
                }
                // Audio that cannot be encoded is never announced: the answer is an error then, not the start of one.
                if !self.request.delivery.is_live() || !self.encoded.chunks.is_empty() {
                    self.announce().await?;
                }
                Ok(false)
            }
            UtteranceEvent::Done { stats, at } => {
                self.on_done(current, stats, at);
                Ok(true)
            }
            UtteranceEvent::Failed(failed) => match failed.code {
                FailureCode::NothingToSay => {
                    self.unspeakable = Some(failed.into());
                    Ok(true)
                }
                FailureCode::VoiceNotEnrolled if !current.spoke && !current.retried => {
                    self.submit_again(current).await?;
                    Ok(false)
                }
                _ => Err(Error::from(failed).into()),
            },
        }
    }

    fn on_audio(&mut self, pcm: &[f32], current: &mut LiveUtterance) {
        if !current.spoke {
            current.spoke = true;
            if let Some(pause) = self.pause.replace(current.utterance.pause) {
                self.pipeline.pause(pause, self.request.params.speed);
            }
        }
        self.stats.audio_received();
        self.pipeline.push(pcm);
    }

    fn on_done(&mut self, current: &mut LiveUtterance, stats: Stats, at: Instant) {
        self.stats.generated(current.submitted, at);
        self.engine_seconds += stats.audio_seconds;
        let characters = current.utterance.text.chars().count();
        // A listener that is behind can do without.
        let _ = self
            .events
            .try_send(Ok(SpeechEvent::Progress { characters }));
        if let Some(tokens) = stats.tokens {
            let text = std::mem::take(&mut current.utterance.text);
            self.stats.tokens(text, tokens);
        }
    }

    /// Tells the listener, once, that audio follows.
    async fn announce(&mut self) -> Result<(), Stop> {
        if self.stats.has_audio() || !self.pipeline.has_begun() {
            return Ok(());
        }
        let timing = self.stats.first_audio(&self.request.model.name);
        let sent = self.events.send(Ok(SpeechEvent::Started(timing))).await;
        sent.map_err(|_| Stop::Cancelled)
    }

    /// Encodes some of what the pipeline has made.
    fn encode(&mut self, encoder: &mut AnswerEncoder) -> Result<(), Error> {
        let samples = self.pipeline.take();
        self.encoded.chunks.extend(encoder.push(&samples)?);
        self.encoded.samples += samples.len();
        Ok(())
    }

    /// Hands what is left to the listener.
    async fn flush(&mut self, encoder: &mut AnswerEncoder) -> Result<(), Stop> {
        while !self.pipeline.is_empty() {
            self.encode(encoder)?;
            if self.encoded.chunks.is_empty() {
                // A long file is encoded in portions: other requests have their turn in between.
                tokio::task::yield_now().await;
                continue;
            }
            self.announce().await?;
            let audio = std::mem::take(&mut self.encoded);
            let sent = self.events.send(Ok(SpeechEvent::Audio(audio)));
            sent.await.map_err(|_| Stop::Cancelled)?;
        }
        Ok(())
    }

    fn timeout_error(&self) -> Error {
        let seconds = self.service.options.limits.request_timeout.as_secs_f64();
        let retry = self.service.admission.retry_after();
        Error::new(Code::Timeout, format!("No audio came within {seconds} s.")).retry_after(retry)
    }
}
