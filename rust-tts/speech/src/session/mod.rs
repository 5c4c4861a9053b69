//! One WebSocket's conversation as a pure state machine: messages in, frames and actions out. No socket, no clock.

mod stream;
mod wire;

use std::collections::BTreeMap;

use crate::SpeechEvent;
use crate::error::{Code, Error};
use crate::fields::{Fields, NotAnObject, Wtf8};
use crate::params::SpeechParams;
use crate::request::SpeechRequest;
use chatterbox_text::Utterance;
use stream::UtteranceStream;
use wire::{SayFields, ServerMessage, SetVoice, StreamId};

/// Close codes of RFC 6455 that this server sends.
pub mod close {
    pub const AWAY: u16 = 1001;
    pub const PROTOCOL: u16 = 1002;
    pub const NOT_TEXT: u16 = 1007;
    pub const POLICY: u16 = 1008;
    pub const TOO_BIG: u16 = 1009;
}

/// Longest `id` of a client, in bytes.
const MAX_ID: usize = 256;

/// The session's interface to the server.
pub trait Host {
    /// Checks parameters; `more` allows the text to be absent.
    fn validate(&self, params: SpeechParams, more: bool) -> Result<SpeechRequest, Error>;
    /// Sets the server's default voice and returns its id.
    fn set_default_voice(&self, reference: &str) -> Result<String, Error>;
    /// The id of a voice that exists.
    fn find_voice(&self, reference: &str) -> Result<String, Error>;
}

/// Identifies one running stream inside the server; a client's `id` may come again after its end.
pub type StreamKey = u64;

/// Actions for the socket, in this order.
#[derive(Debug)]
pub enum Action {
    Send(Frame),
    /// Begin to speak; utterances follow as `Text`.
    Start {
        key: StreamKey,
        request: Box<SpeechRequest>,
    },
    Text {
        key: StreamKey,
        utterances: Vec<Utterance>,
    },
    /// No more text comes.
    EndText {
        key: StreamKey,
    },
    Cancel {
        key: StreamKey,
    },
    Close {
        code: u16,
        reason: &'static str,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    Text(String),
    Binary(Vec<u8>),
}

#[derive(Clone, Copy, Debug)]
pub struct SessionLimits {
    pub max_streams: usize,
    /// Characters of one stream's text, appended text included.
    pub max_text_length: usize,
}

pub struct Session {
    limits: SessionLimits,
    /// By the client's id.
    streams: BTreeMap<String, UtteranceStream>,
    /// Set with `"scope": "connection"`.
    voice: Option<String>,
    draining: bool,
    closed: bool,
    next_key: StreamKey,
}

impl Session {
    pub fn new(limits: SessionLimits) -> Self {
        Self {
            limits,
            streams: BTreeMap::new(),
            voice: None,
            draining: false,
            closed: false,
            next_key: 1,
        }
    }

    /// The server's first message.
    pub fn ready(models: &[&str], device: &str) -> Frame {
        ServerMessage::Ready {
            models,
            device,
            version: crate::VERSION,
            sample_rate: 24_000,
        }
        .frame()
    }

    /// Nothing is being said.
    pub fn idle(&self) -> bool {
        self.streams.is_empty()
    }

    pub fn draining(&self) -> bool {
        self.draining
    }

    /// A text frame from the client.
    pub fn on_text(&mut self, text: &str, host: &impl Host) -> Vec<Action> {
        let mut out = Vec::new();
        if let Err((id, error)) = self.handle(text, host, &mut out) {
            out.push(send(&ServerMessage::error(id.as_deref(), &error)));
        }
        self.close_if_drained(&mut out);
        out
    }

    /// A binary frame from the client: none has a meaning.
    pub fn on_binary(&self) -> Vec<Action> {
        let error = Error::new(Code::ParseError, "Messages are JSON text, not binary.");
        vec![send(&ServerMessage::error(None, &error))]
    }

    /// A chunk of a stream's audio, its end or its failure.
    pub fn on_event(&mut self, key: StreamKey, event: Result<SpeechEvent, Error>) -> Vec<Action> {
        // A cancelled stream may still have audio on its way.
        let Some(id) = self
            .streams
            .iter()
            .find(|(_, stream)| stream.key == key)
            .map(|(id, _)| id.clone())
        else {
            return Vec::new();
        };
        let mut out = Vec::new();
        let ended = match event {
            Ok(event) => self
                .streams
                .get_mut(&id)
                .is_some_and(|stream| stream.on_event(&id, event, &mut out)),
            Err(error) => {
                out.push(send(&ServerMessage::error(Some(&id), &error)));
                true
            }
        };
        if ended {
            self.streams.remove(&id);
            self.close_if_drained(&mut out);
        }
        out
    }

    /// The server shuts down: what is being said is finished, nothing else begins.
    pub fn drain(&mut self) -> Vec<Action> {
        let mut out = Vec::new();
        if !self.draining {
            self.draining = true;
            self.close_if_drained(&mut out);
        }
        out
    }

    /// The client has stopped reading: each of its streams fails.
    pub fn on_stalled(&mut self, error: &Error) -> Vec<Action> {
        let ids = std::mem::take(&mut self.streams).into_keys();
        ids.map(|id| send(&ServerMessage::error(Some(&id), error)))
            .collect()
    }

    fn close_if_drained(&mut self, out: &mut Vec<Action>) {
        if self.draining && self.streams.is_empty() && !self.closed {
            self.closed = true;
            out.push(Action::Close {
                code: close::AWAY,
                reason: "the server is shutting down",
            });
        }
    }

    /// The error goes back with the id of the message that caused it, if it has one.
    fn handle(
        &mut self,
        text: &str,
        host: &impl Host,
        out: &mut Vec<Action>,
    ) -> Result<(), (Option<String>, Error)> {
        let parse_error = |problem: NotAnObject| {
            let message = format!("The message {problem}.");
            (None, Error::new(Code::ParseError, message))
        };
        let fields = Fields::from_json(text.as_bytes()).map_err(parse_error)?;
        let word = |name| fields.text(name).ok().flatten().map(Wtf8::to_text);
        let id = word("id").filter(|id| id.len() <= MAX_ID);
        let result = match word("type").unwrap_or_default().as_str() {
            "say" => self.say(fields, host, out),
            "append" => self.append(&fields, out),
            "end" => self.end(&fields, out),
            "cancel" => self.cancel(&fields, out),
            "set_voice" => fields
                .read()
                .and_then(|voice| self.set_voice(voice, host, out)),
            "ping" => {
                out.push(send(&ServerMessage::Pong {}));
                Ok(())
            }
            _ => {
                let known = "say, append, end, cancel, set_voice, ping";
                Err(
                    Error::new(Code::UnknownType, format!("expected one of {known}"))
                        .in_field("type"),
                )
            }
        };
        result.map_err(|error| (id, error))
    }

    fn say(
        &mut self,
        fields: Fields,
        host: &impl Host,
        out: &mut Vec<Action>,
    ) -> Result<(), Error> {
        if self.draining {
            return Err(Error::new(Code::Draining, "The server is shutting down.").retry_after(5));
        }
        let head: SayFields = fields.read()?;
        let mut half = Wtf8::default();
        if let Some(text) = fields.text("text")? {
            text.joined_to(&mut half);
        }
        let mut params = SpeechParams::read(fields, &[])?;
        let id = head.id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        if id.is_empty() || id.len() > MAX_ID {
            return Err(Error::parameter(
                "id",
                format!("expected 1 to {MAX_ID} bytes"),
            ));
        }
        if self.streams.contains_key(&id) {
            return Err(Error::parameter("id", "a say with this id is running"));
        }
        if self.streams.len() >= self.limits.max_streams {
            let message = format!(
                "{} says are running on this connection, the most that are allowed.",
                self.streams.len()
            );
            return Err(Error::new(Code::TooManyRequests, message).retry_after(1));
        }
        let more = head.more.unwrap_or(false);
        if params.output.voice_id.is_none() {
            params.output.voice_id.clone_from(&self.voice);
        }
        let mut request = host.validate(params, more)?;
        if request.stream {
            request.delivery = request.output.chunks();
        }
        let key = self.next_key;
        self.next_key += 1;
        let text = std::mem::take(&mut request.text);
        let mut stream = UtteranceStream::new(key, &request);
        out.push(Action::Start {
            key,
            request: Box::new(request),
        });
        stream.append(&text, out);
        stream.half = half;
        if !more {
            stream.end(out);
        }
        self.streams.insert(id, stream);
        Ok(())
    }

    fn append(&mut self, fields: &Fields, out: &mut Vec<Action>) -> Result<(), Error> {
        let StreamId { id } = fields.read()?;
        let id = id.ok_or_else(|| Error::parameter("id", "is missing"))?;
        let missing = || Error::new(Code::MissingText, "is missing").in_field("text");
        let text = fields.text("text")?.ok_or_else(missing)?;
        let stream = self.open_stream(&id)?;
        let text = text.joined_to(&mut stream.half);
        stream.append(&text, out);
        let (key, length) = (stream.key, stream.characters);
        if length > self.limits.max_text_length {
            // Half a text is not spoken as if it were the whole.
            out.clear();
            out.push(Action::Cancel { key });
            self.streams.remove(&id);
            let most = self.limits.max_text_length;
            return Err(Error::too_long(length, most));
        }
        Ok(())
    }

    fn end(&mut self, fields: &Fields, out: &mut Vec<Action>) -> Result<(), Error> {
        let StreamId { id } = fields.read()?;
        let id = id.ok_or_else(|| Error::parameter("id", "is missing"))?;
        self.open_stream(&id)?.end(out);
        Ok(())
    }

    fn open_stream(&mut self, id: &str) -> Result<&mut UtteranceStream, Error> {
        let open = self
            .streams
            .get_mut(id)
            .filter(|stream| stream.takes_text());
        open.ok_or_else(|| Error::parameter("id", "no say with this id takes more text"))
    }

    /// One that is not running is acknowledged all the same: it may just have ended.
    fn cancel(&mut self, fields: &Fields, out: &mut Vec<Action>) -> Result<(), Error> {
        let ids = match fields.text("id")? {
            None => self.streams.keys().cloned().collect(),
            Some(id) => vec![id.to_text()],
        };
        if ids.is_empty() {
            out.push(send(&ServerMessage::Cancelled { id: None }));
        }
        for id in ids {
            if let Some(stream) = self.streams.remove(&id) {
                out.push(Action::Cancel { key: stream.key });
            }
            out.push(send(&ServerMessage::Cancelled { id: Some(&id) }));
        }
        Ok(())
    }

    fn set_voice(
        &mut self,
        message: SetVoice,
        host: &impl Host,
        out: &mut Vec<Action>,
    ) -> Result<(), Error> {
        let reference = message.voice_path.filter(|path| !path.trim().is_empty());
        let reference = reference.ok_or_else(|| {
            Error::new(Code::MissingVoicePath, "is missing").in_field("voice_path")
        })?;
        let voice_path = match message.scope.as_deref() {
            None | Some("server") => host.set_default_voice(&reference)?,
            Some("connection") => {
                let id = host.find_voice(&reference)?;
                self.voice = Some(id.clone());
                id
            }
            Some(_) => {
                return Err(Error::parameter("scope", "expected server or connection"));
            }
        };
        out.push(send(&ServerMessage::VoiceSet {
            voice_path: &voice_path,
        }));
        Ok(())
    }
}

fn send(message: &ServerMessage) -> Action {
    Action::Send(message.frame())
}

#[cfg(test)]
mod tests;
