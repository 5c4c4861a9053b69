//! Speaks one request: queue, slot, one utterance after the other, deadlines.

mod submit;

use std::sync::Arc;
use std::time::Instant;

use tokio::time::{sleep_until, timeout, timeout_at};

use super::enrolment::Hold;
use super::request::{SpeechRequest, VoiceChoice};
use super::shaper::{Shaper, Silence};
use super::tally::Tally;
use super::task::{Pieces, Stop};
use super::{Piece, Texts};
use crate::admission::Slot;
use crate::error::{Code, Error};
use crate::service::SpeechService;
use chatterbox_audio::{Extent, Leveler};
use chatterbox_engine::messages::{FailureCode, Stats};
use chatterbox_engine::{SpeechEvent, Ticket};
use chatterbox_text::{Pause, Utterance};

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

pub struct Driver {
    service: Arc<SpeechService>,
    request: SpeechRequest,
    texts: Texts,
    texts_ended: bool,
    pieces: Pieces,
    slot: Option<Slot>,
    /// Keeps the voice in the engine, whatever becomes of its file.
    hold: Option<Hold>,
    shaper: Shaper,
    tally: Tally,
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
        pieces: Pieces,
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
        let shaper = Shaper::new(
            request.model.sample_rate,
            rate,
            silence,
            request.trim,
            normalization.map(|wanted| Leveler::new(wanted, extent, rate)),
            request.max_audio_seconds,
        );
        let hold = match &request.voice {
            VoiceChoice::BuiltIn(_) => None,
            VoiceChoice::Cloned(voice) => Some(service.enrolments.hold(voice)),
            VoiceChoice::Once(voice) => Some(service.enrolments.hold_once(voice)),
        };
        Self {
            service,
            request,
            texts,
            texts_ended: false,
            pieces,
            slot: None,
            hold,
            shaper,
            tally: Tally::begin(),
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
    pub fn end(self) -> (f64, Tally) {
        (self.shaper.seconds(), self.tally)
    }

    /// Speaks to the end.
    pub async fn speak(&mut self) -> Result<(), Stop> {
        let mut next = None;
        while !self.shaper.is_full() && self.utterance_seconds() > 0.0 {
            let mut current = match next.take() {
                Some(live) => live,
                None => match self.next_utterance().await? {
                    Some(utterance) => self.begin(utterance).await?,
                    None => break,
                },
            };
            self.play(&mut current, &mut next).await?;
        }
        self.shaper.finish();
        self.flush().await?;
        if self.tally.has_spoken() {
            return Ok(());
        }
        Err(self.silent().into())
    }

    /// Why there is no audio.
    fn silent(&mut self) -> Error {
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
    async fn begin(&mut self, utterance: Utterance) -> Result<Live, Stop> {
        // The deadline is for the server, not for the client who writes the text.
        self.tally.engine_asked();
        let deadline = self.tally.last_audio() + self.service.options.limits.request_timeout;
        let begun = async {
            if self.slot.is_none() {
                let arrived = Instant::now();
                self.slot = Some(self.service.admission.enqueue()?.slot().await?);
                self.tally.queued(arrived.elapsed());
            }
            self.submit(utterance).await
        };
        match timeout_at(deadline.into(), begun).await {
            Ok(live) => live,
            Err(_) => Err(self.too_late().into()),
        }
    }

    /// Delivers `current` to its end; meanwhile, once the engine has finished it, submits the one after it as `next`.
    async fn play(&mut self, current: &mut Live, next: &mut Option<Live>) -> Result<(), Stop> {
        let pieces = self.pieces.clone();
        let mut generated = false;
        // How many tokens the next may have is known when this one's have been counted.
        let ahead = !self.request.return_tokens;
        loop {
            let waiting = !self.shaper.is_empty();
            // Its tokens come with its end.
            if self.shaper.is_full() && !waiting && ahead {
                self.tally.generated(current.submitted, Instant::now());
                return Ok(());
            }
            // The client has its time to take what is made; the engine has its own to make more.
            let limits = &self.service.options.limits;
            let patience = if waiting {
                limits.stall_timeout
            } else {
                limits.request_timeout
            };
            let deadline = self.tally.last_audio() + patience;
            let ticket = &mut current.ticket;
            tokio::select! {
                biased;
                permit = pieces.reserve(), if waiting => {
                    let permit = permit.map_err(|_| Stop::Cancelled)?;
                    permit.send(Ok(Piece::Audio(self.shaper.take())));
                }
                event = ticket.events.recv(), if !waiting => {
                    if self.hear(event, current).await? {
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
                () = sleep_until(deadline.into()) => {
                    let late = if waiting { self.stalled() } else { self.too_late() };
                    return Err(late.into());
                }
            }
        }
    }

    /// Takes one event of the engine; `true` when the utterance has ended.
    async fn hear(&mut self, event: Option<SpeechEvent>, current: &mut Live) -> Result<bool, Stop> {
        match event.ok_or_else(Error::engine_gone)? {
            SpeechEvent::Audio(pcm) => {
                self.hear_audio(&pcm, current);
                self.announce().await?;
                Ok(false)
            }
            SpeechEvent::Done { stats, at } => {
                self.hear_done(current, stats, at);
                Ok(true)
            }
            SpeechEvent::Failed { code, message } => match code {
                FailureCode::NothingToSay => {
                    self.unspeakable = Some(Error::from_engine(code, message));
                    Ok(true)
                }
                FailureCode::VoiceNotEnrolled if !current.spoke && !current.retried => {
                    self.submit_again(current).await?;
                    Ok(false)
                }
                _ => Err(Error::from_engine(code, message).into()),
            },
        }
    }

    fn hear_audio(&mut self, pcm: &[f32], current: &mut Live) {
        if !current.spoke {
            current.spoke = true;
            if let Some(pause) = self.pause.replace(current.utterance.pause) {
                self.shaper.pause(pause, self.request.params.speed);
            }
        }
        self.tally.heard_audio();
        self.shaper.push(pcm);
    }

    fn hear_done(&mut self, current: &mut Live, stats: Stats, at: Instant) {
        self.tally.generated(current.submitted, at);
        self.engine_seconds += stats.audio_seconds;
        let characters = current.utterance.text.chars().count();
        // A listener that is behind can do without.
        let _ = self.pieces.try_send(Ok(Piece::Progress { characters }));
        if let Some(tokens) = stats.tokens {
            let text = std::mem::take(&mut current.utterance.text);
            self.tally.tokens(text, tokens);
        }
    }

    /// Tells the listener, once, that audio follows.
    async fn announce(&mut self) -> Result<(), Stop> {
        if self.tally.has_spoken() || !self.shaper.has_begun() {
            return Ok(());
        }
        let timing = self.tally.first_audio(&self.request.model.name);
        let sent = self.pieces.send(Ok(Piece::Started(timing))).await;
        sent.map_err(|_| Stop::Cancelled)
    }

    /// Hands what is left to the listener.
    async fn flush(&mut self) -> Result<(), Stop> {
        while !self.shaper.is_empty() {
            self.announce().await?;
            let sent = self.pieces.send(Ok(Piece::Audio(self.shaper.take())));
            match timeout(self.service.options.limits.stall_timeout, sent).await {
                Ok(sent) => sent.map_err(|_| Stop::Cancelled)?,
                Err(_) => return Err(self.stalled().into()),
            }
        }
        Ok(())
    }

    fn too_late(&self) -> Error {
        let seconds = self.service.options.limits.request_timeout.as_secs_f64();
        let retry = self.service.admission.retry_after();
        Error::new(Code::Timeout, format!("No audio came within {seconds} s.")).retry_after(retry)
    }

    fn stalled(&self) -> Error {
        let seconds = self.service.options.limits.stall_timeout.as_secs_f64();
        let message = format!("The audio was not read for {seconds} s.");
        Error::new(Code::Stalled, message)
    }
}
