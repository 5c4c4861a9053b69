//! One `say`: its text on the way in, its chunks on the way out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::messages::ServerMessage;
use super::{Action, Frame, StreamKey, send};
use crate::output::Output;
use crate::request::SpeechRequest;
use crate::{SpeechEvent, Summary};
use chatterbox_audio::{Chunker, Encoder, Length, WholeFile, encoder};
use chatterbox_text::Cutter;

pub struct UtteranceStream {
    pub key: StreamKey,
    /// Characters of text so far.
    pub characters: usize,
    /// `None` after the end of the text.
    cutter: Option<Cutter>,
    output: Output,
    audio: Audio,
}

/// How the audio leaves.
enum Audio {
    Chunks {
        /// `None` after the last chunk.
        chunker: Option<Chunker>,
        encoder: Box<dyn Encoder>,
        index: u64,
    },
    /// All of it in one message (`stream: false`); `None` after that.
    Whole(Option<WholeFile>),
}

impl UtteranceStream {
    pub fn new(key: StreamKey, request: &SpeechRequest) -> Self {
        let output = request.output;
        let audio = if request.stream {
            let chunk = u64::from(output.encoding.sample_rate) * u64::from(output.chunk_ms) / 1000;
            let encoder = encoder(output.encoding, Length::Unknown);
            Audio::Chunks {
                chunker: Some(Chunker::new(chunk as usize)),
                encoder,
                index: 0,
            }
        } else {
            Audio::Whole(Some(WholeFile::new(output.encoding)))
        };
        Self {
            key,
            characters: 0,
            cutter: Some(Cutter::new(request.text_chunk_size as usize)),
            output,
            audio,
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
            SpeechEvent::Audio(samples) => {
                self.push(id, &samples, out);
                false
            }
            SpeechEvent::Finished(summary) => {
                self.finish(id, &summary, out);
                true
            }
        }
    }

    fn push(&mut self, id: &str, samples: &[f32], out: &mut Vec<Action>) {
        match &mut self.audio {
            Audio::Whole(file) => {
                if let Some(file) = file {
                    file.push(samples);
                }
            }
            Audio::Chunks {
                chunker,
                encoder,
                index,
            } => {
                for chunk in chunker
                    .as_mut()
                    .map(|chunker| chunker.push(samples))
                    .unwrap_or_default()
                {
                    let mut bytes = if *index == 0 {
                        encoder.head()
                    } else {
                        Vec::new()
                    };
                    bytes.extend(encoder.push(&chunk));
                    send_chunk(id, *index, bytes, false, self.output.binary, out);
                    *index += 1;
                }
            }
        }
    }

    fn finish(&mut self, id: &str, summary: &Summary, out: &mut Vec<Action>) {
        match &mut self.audio {
            Audio::Whole(file) => {
                let Output {
                    encoding, binary, ..
                } = self.output;
                let bytes = file.take().map(WholeFile::finish).unwrap_or_default();
                let data = (!binary).then(|| BASE64.encode(&bytes));
                let duration_seconds = round(summary.audio_seconds, 3);
                out.push(send(&ServerMessage::Audio {
                    id,
                    data: data.as_deref(),
                    sample_rate: encoding.sample_rate,
                    duration_seconds,
                }));
                if binary {
                    out.push(Action::Send(Frame::Binary(bytes)));
                }
            }
            Audio::Chunks {
                chunker,
                encoder,
                index,
            } => {
                let chunk = chunker.take().map(Chunker::finish).unwrap_or_default();
                let mut bytes = if *index == 0 {
                    encoder.head()
                } else {
                    Vec::new()
                };
                bytes.extend(encoder.push(&chunk));
                bytes.extend(encoder.finish());
                send_chunk(id, *index, bytes, true, self.output.binary, out);
            }
        }
        out.push(send(&ServerMessage::Done {
            id,
            duration_seconds: round(summary.audio_seconds, 3),
            time_to_first_audio_ms: round(summary.timing.first_audio.as_secs_f64() * 1000.0, 1),
            real_time_factor: round(summary.real_time_factor, 4),
            cancelled: false,
        }));
    }
}

fn send_chunk(
    id: &str,
    index: u64,
    bytes: Vec<u8>,
    is_last: bool,
    binary: bool,
    out: &mut Vec<Action>,
) {
    if binary {
        out.push(send(&ServerMessage::Chunk {
            id,
            index,
            data: None,
            is_last,
        }));
        out.push(Action::Send(Frame::Binary(bytes)));
    } else {
        let data = BASE64.encode(bytes);
        out.push(send(&ServerMessage::Chunk {
            id,
            index,
            data: Some(&data),
            is_last,
        }));
    }
}

fn round(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}
