//! One `say`: its text on the way in, its chunks on the way out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::wire::ServerMessage;
use super::{Action, Frame, StreamKey, send};
use crate::fields::Wtf8;
use crate::request::{Output, SpeechRequest};
use crate::{Delivery, SpeechEvent, Summary};
use chatterbox_text::Cutter;

pub struct UtteranceStream {
    pub key: StreamKey,
    /// Characters of text so far.
    pub characters: usize,
    /// The half of a character that the text so far ends with.
    pub half: Wtf8,
    /// `None` after the end of the text.
    cutter: Option<Cutter>,
    output: Output,
    /// All audio comes in one message (`stream: false`).
    whole: bool,
    /// Index of the chunk that is sent next.
    next_chunk: u64,
}

impl UtteranceStream {
    pub fn new(key: StreamKey, request: &SpeechRequest) -> Self {
        Self {
            key,
            characters: 0,
            half: Wtf8::default(),
            cutter: Some(Cutter::new(request.text_chunk_size as usize)),
            output: request.output,
            whole: request.delivery == Delivery::Whole,
            next_chunk: 0,
        }
    }

    pub fn takes_text(&self) -> bool {
        self.cutter.is_some()
    }

    pub fn append(&mut self, text: &str, out: &mut Vec<Action>) {
        self.characters += text.chars().count();
        if let Some(cutter) = self.cutter.as_mut() {
            let utterances = cutter.push(text);
            if !utterances.is_empty() {
                out.push(Action::Text {
                    key: self.key,
                    utterances,
                });
            }
        }
    }

    pub fn end(&mut self, out: &mut Vec<Action>) {
        if let Some(mut cutter) = self.cutter.take() {
            let utterances = cutter.finish();
            if !utterances.is_empty() {
                out.push(Action::Text {
                    key: self.key,
                    utterances,
                });
            }
            out.push(Action::EndText { key: self.key });
        }
    }

    /// Turns a piece into frames; `true` when it was the last.
    pub fn on_event(&mut self, id: &str, event: SpeechEvent, out: &mut Vec<Action>) -> bool {
        match event {
            SpeechEvent::Started(_) | SpeechEvent::Progress { .. } => false,
            SpeechEvent::Audio(audio) => {
                for chunk in audio.chunks {
                    self.send_chunk(id, chunk, false, out);
                }
                false
            }
            SpeechEvent::Finished { last, summary } => {
                self.finish(id, last, &summary, out);
                true
            }
        }
    }

    fn finish(&mut self, id: &str, last: Vec<u8>, summary: &Summary, out: &mut Vec<Action>) {
        if self.whole {
            let data = (!self.output.binary).then(|| BASE64.encode(&last));
            out.push(send(&ServerMessage::Audio {
                id,
                data: data.as_deref(),
                sample_rate: self.output.encoding.sample_rate,
                duration_seconds: round(summary.audio_seconds, 3),
            }));
            if self.output.binary {
                out.push(Action::Send(Frame::Binary(last)));
            }
        } else {
            self.send_chunk(id, last, true, out);
        }
        out.push(send(&ServerMessage::Done {
            id,
            duration_seconds: round(summary.audio_seconds, 3),
            time_to_first_audio_ms: round(summary.timing.first_audio.as_secs_f64() * 1000.0, 1),
            real_time_factor: round(summary.real_time_factor, 4),
            cancelled: false,
        }));
    }

    fn send_chunk(&mut self, id: &str, bytes: Vec<u8>, is_last: bool, out: &mut Vec<Action>) {
        let binary = self.output.binary;
        let data = (!binary).then(|| BASE64.encode(&bytes));
        out.push(send(&ServerMessage::Chunk {
            id,
            index: self.next_chunk,
            data: data.as_deref(),
            is_last,
        }));
        if binary {
            out.push(Action::Send(Frame::Binary(bytes)));
        }
        self.next_chunk += 1;
    }
}

fn round(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}
