//! One WebSocket's conversation as a pure state machine: messages in, frames and actions out. No socket, no clock.

mod messages;
mod stream;

use std::collections::BTreeMap;

use crate::SpeechEvent;
use crate::draft::{Draft, parse_json};
use crate::error::{Code, Error};
use crate::request::SpeechRequest;
use chatterbox_text::Utterance;
use messages::{Append, End, SayFields, ServerMessage, SetVoice, read_fields};
use stream::UtteranceStream;

/// Close codes of RFC 6455 that this server sends.
pub mod close {
    pub const AWAY: u16 = 1001;
    pub const PROTOCOL: u16 = 1002;
    pub const NOT_TEXT: u16 = 1007;
    pub const TOO_BIG: u16 = 1009;
}

/// Longest `id` of a client, in bytes.
const MAX_ID: usize = 256;

/// What the session needs of the server around it.
pub trait Host {
    /// Checks a draft; `more` allows its text to be absent.
    fn validate(&self, draft: Draft, more: bool) -> Result<SpeechRequest, Error>;
    /// Sets the server's default voice and returns its id.
    fn set_default_voice(&self, reference: &str) -> Result<String, Error>;
    /// The id of a voice that exists.
    fn find_voice(&self, reference: &str) -> Result<String, Error>;
}

/// Names one running say inside the server; a client's `id` may come again after its end.
pub type StreamKey = u64;

/// What the socket has to do, in this order.
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
    /// Characters of one say's text, appended text included.
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

    /// A piece of a say's audio, its end or its failure.
    pub fn on_event(&mut self, key: StreamKey, event: Result<SpeechEvent, Error>) -> Vec<Action> {
        // What was cancelled may still have pieces on their way.
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
        let parse_error = |problem: String| (None, Error::new(Code::ParseError, problem));
        let value: serde_json::Value =
            serde_json::from_str(text).map_err(|error| not_json(text, &error))?;
        let Some(fields) = value.as_object() else {
            return Err(parse_error("The message is not a JSON object.".into()));
        };
        let id = fields
            .get("id")
            .and_then(|id| id.as_str())
            .filter(|id| id.len() <= MAX_ID)
            .map(str::to_owned);
        let kind = fields
            .get("type")
            .and_then(|kind| kind.as_str())
            .unwrap_or_default()
            .to_owned();
        let result = match kind.as_str() {
            "say" => self.say(&value, host, out),
            "append" => read_fields(&value).and_then(|append| self.append(append, out)),
            "end" => read_fields(&value).and_then(|end| self.end(end, out)),
            "cancel" => self.cancel(fields.get("id"), out),
            "set_voice" => read_fields(&value).and_then(|voice| self.set_voice(voice, host, out)),
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
        message: &serde_json::Value,
        host: &impl Host,
        out: &mut Vec<Action>,
    ) -> Result<(), Error> {
        if self.draining {
            return Err(Error::new(Code::Draining, "The server is shutting down.").retry_after(5));
        }
        let head: SayFields = read_fields(message)?;
        let mut draft: Draft = read_fields(message)?;
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
        if draft.voice.audio_prompt_path.is_none() {
            draft.voice.audio_prompt_path.clone_from(&self.voice);
        }
        let mut request = host.validate(draft, more)?;
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
        if !more {
            stream.end(out);
        }
        self.streams.insert(id, stream);
        Ok(())
    }

    fn append(&mut self, append: Append, out: &mut Vec<Action>) -> Result<(), Error> {
        let id = append
            .id
            .ok_or_else(|| Error::parameter("id", "is missing"))?;
        let text = append
            .text
            .ok_or_else(|| Error::new(Code::MissingText, "is missing").in_field("text"))?;
        let stream = self.open_stream(&id)?;
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

    fn end(&mut self, end: End, out: &mut Vec<Action>) -> Result<(), Error> {
        let id = end.id.ok_or_else(|| Error::parameter("id", "is missing"))?;
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
    fn cancel(
        &mut self,
        id: Option<&serde_json::Value>,
        out: &mut Vec<Action>,
    ) -> Result<(), Error> {
        let ids = match id {
            None | Some(serde_json::Value::Null) => self.streams.keys().cloned().collect(),
            Some(serde_json::Value::String(id)) => vec![id.clone()],
            Some(_) => return Err(Error::parameter("id", "expected a string")),
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

/// A number that no float holds spoils the whole message; reading it as a draft finds the field.
fn not_json(text: &str, error: &serde_json::Error) -> (Option<String>, Error) {
    let out_of_range = error.to_string().starts_with("number out of range");
    let named = out_of_range
        .then(|| parse_json::<Draft>(text.as_bytes()).err())
        .flatten();
    let named = named.filter(|error| error.code == Code::InvalidParameter);
    let unnamed = || {
        Error::new(
            Code::ParseError,
            format!("The message is not JSON: {error}"),
        )
    };
    (None, named.unwrap_or_else(unnamed))
}

fn send(message: &ServerMessage) -> Action {
    Action::Send(message.frame())
}

#[cfg(test)]
mod tests;
