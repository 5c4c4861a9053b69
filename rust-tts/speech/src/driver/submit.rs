//! From an utterance, or a clip, to a command for the engine, in a voice that is prepared.

use std::time::Instant;

use super::{Driver, LiveUtterance};
use crate::error::{Code, Error};
use crate::metrics;
use crate::request::VoiceChoice;
use crate::task::Stop;
use chatterbox_engine::Ticket;
use chatterbox_engine::messages::{Convert, Speak};
use chatterbox_text::Utterance;

/// Longest audio of one utterance, in seconds: a guard against a model that does not end. A long number read slowly takes
/// more than a minute; models that speak in tokens have a lower limit of their own.
const UTTERANCE_SECONDS: f64 = 120.0;
/// Most lookups of a voice that is replaced repeatedly.
const VOICE_ATTEMPTS: u32 = 3;
/// Silence that a model may put around an utterance, in seconds.
const LEAD_AND_TAIL: f64 = 1.5;

impl Driver {
    pub(super) async fn submit(&mut self, utterance: Utterance) -> Result<LiveUtterance, Stop> {
        let index = self.utterances;
        self.utterances += 1;
        let submitted = Instant::now();
        let ticket = self.ticket(&utterance, index).await?;
        metrics::characters(utterance.text.chars().count());
        Ok(LiveUtterance {
            ticket,
            utterance,
            index,
            submitted,
            spoke: false,
            retried: false,
        })
    }

    async fn ticket(&mut self, utterance: &Utterance, index: u64) -> Result<Ticket, Error> {
        let voice = self.prepared_voice().await?;
        let max_audio_seconds = self.utterance_seconds();
        let request = &self.request;
        if let Some(clip) = &request.clip {
            let convert = Convert {
                id: 0,
                model: request.model.name.clone(),
                voice,
                pcm: clip.pcm.clone(),
                sample_rate: clip.sample_rate,
                seed: request.seed,
                stream: request.stream,
                max_audio_seconds,
            };
            let converting = self.service.engine.convert(convert).await;
            return converting.map_err(|_| Error::engine_gone());
        }
        let speak = Speak {
            id: 0,
            model: request.model.name.clone(),
            text: utterance.text.clone(),
            language: request.language.clone(),
            voice,
            seed: request.seed + index,
            params: request.params.clone(),
            slicing: request.slicing.clone(),
            max_audio_seconds,
            stream: request.stream,
            return_tokens: request.return_tokens,
            in_hand_seconds: self.stats.buffered_seconds(self.pipeline.seconds()),
        };
        let spoken = self.service.engine.speak(speak).await;
        spoken.map_err(|_| Error::engine_gone())
    }

    /// The engine's name of the voice, which is prepared if it is not.
    async fn prepared_voice(&mut self) -> Result<Option<String>, Error> {
        let (engine, store) = (&self.service.engine, &self.service.voices);
        let model = &self.request.model.name;
        let mut attempts = 0;
        loop {
            let voice = match &self.request.voice {
                VoiceChoice::BuiltIn(name) => return Ok(name.clone()),
                VoiceChoice::Once(voice) => {
                    self.service
                        .enrolments
                        .ensure_once(engine, voice, model)
                        .await?;
                    return Ok(Some(voice.key.clone()));
                }
                VoiceChoice::Cloned(voice) => voice.clone(),
            };
            let ready = self.service.enrolments.ensure(engine, store, &voice, model);
            match ready.await {
                Ok(()) => return Ok(Some(voice.key)),
                // Its file was replaced while the request waited: the one that is there now will do, until the first
                // word is spoken.
                Err(error)
                    if error.code == Code::VoiceNotFound
                        && !self.stats.has_audio()
                        && attempts < VOICE_ATTEMPTS =>
                {
                    attempts += 1;
                    let found = tokio::task::block_in_place(|| store.find(&voice.id))?;
                    self.voice_lease = Some(self.service.enrolments.lease(&found));
                    self.request.voice = VoiceChoice::Cloned(found);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// What an utterance may have, in seconds: the rest of the request's, and the silence around it that is taken out.
    pub(super) fn utterance_seconds(&self) -> f64 {
        let most = self.request.max_audio_seconds.unwrap_or(f64::INFINITY);
        if self.request.return_tokens {
            // Tokens are counted from the first one on, whatever becomes of their audio; a millisecond is none.
            let rest = most - self.engine_seconds;
            return if rest < 0.001 {
                0.0
            } else {
                rest.min(UTTERANCE_SECONDS)
            };
        }
        let longest = match &self.request.clip {
            Some(clip) => clip.seconds() + LEAD_AND_TAIL,
            None => UTTERANCE_SECONDS,
        };
        let rest = most - self.pipeline.seconds() + self.request.trim.seconds();
        (rest + LEAD_AND_TAIL).min(longest)
    }

    /// The engine has evicted the voice since it was prepared.
    pub(super) async fn submit_again(&mut self, current: &mut LiveUtterance) -> Result<(), Error> {
        if let Some(key) = self.request.voice.key() {
            self.service
                .enrolments
                .evicted(key, &self.request.model.name);
        }
        current.ticket = self.ticket(&current.utterance, current.index).await?;
        current.retried = true;
        Ok(())
    }
}
