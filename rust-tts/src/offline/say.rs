//! `chatterbox-server say`: a text into a file.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use super::{OutputOptions, WorkProgress, run, sink, write};
use crate::shutdown::status;
use crate::telemetry;
use chatterbox_audio::Format;
use chatterbox_speech::params::{SamplingParams, SpeechParams, TextParams};
use chatterbox_speech::service::SpeechService;
use chatterbox_speech::{self as speech, Delivery, SpeechEvent, Summary};

/// A text shorter than this is over before a bar has been drawn, in characters.
const LONG_TEXT: usize = 400;

#[derive(Args)]
pub struct SayOptions {
    /// The text; `-`, or none at all, reads standard input
    text: Option<String>,

    /// Read the text from a file
    #[arg(short, long, value_name = "FILE", conflicts_with = "text")]
    input: Option<PathBuf>,

    #[command(flatten)]
    content: TextParams,
    #[command(flatten)]
    sampling: SamplingParams,

    /// Write the utterances and their speech tokens to a JSON file
    #[arg(long, value_name = "FILE")]
    dump_tokens: Option<PathBuf>,

    #[command(flatten)]
    pub output: OutputOptions,
}

/// Speaks and reports; returns the exit status.
pub fn say(options: &SayOptions) -> i32 {
    // Before the engine is loaded, which takes its time.
    match read_text(options) {
        Ok(text) => run(&options.output, async |service| {
            speak(service, options, text).await
        }),
        Err(problem) => {
            telemetry::print_error(&format!("error: {problem}"));
            status::CANNOT_START
        }
    }
}

fn read_text(options: &SayOptions) -> Result<String, String> {
    if let Some(path) = &options.input {
        return std::fs::read_to_string(path)
            .map_err(|error| format!("{}: {error}", path.display()));
    }
    match options.text.as_deref() {
        Some(text) if text != "-" => Ok(text.to_owned()),
        _ => {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .map_err(|error| format!("standard input: {error}"))?;
            Ok(text)
        }
    }
}

async fn speak(
    service: Arc<SpeechService>,
    options: &SayOptions,
    text: String,
) -> Result<Summary, String> {
    let characters = text.chars().count();
    let bar = WorkProgress::new(characters as u64, characters >= LONG_TEXT);
    let request = options.params(text)?.validate(&service, Format::Wav, false);
    let mut request = request.map_err(|error| error.to_string())?;
    request.return_tokens = options.dump_tokens.is_some();
    request.delivery = Delivery::Stream;
    let encoding = request.output.encoding;
    let texts = speech::whole(&request.text, request.text_chunk_size);
    let speech = speech::start(&service, request.clone(), texts, "say");
    let (sink, summary) = write(speech, &options.output, |event| {
        if let SpeechEvent::Progress { characters } = event {
            bar.0.inc(*characters as u64);
        }
    })
    .await?;
    if let Some(path) = &options.dump_tokens {
        if summary.tokens.is_empty() {
            return Err(format!("{} has no speech tokens", request.model.name));
        }
        sink::write_whole(path, &tokens_json(&summary))?;
    }
    sink.finish(encoding, summary.samples(encoding.sample_rate))?;
    Ok(summary)
}

fn tokens_json(summary: &Summary) -> Vec<u8> {
    let utterances = summary.tokens.iter();
    let utterances = utterances.map(|(text, tokens)| json!({"text": text, "tokens": tokens}));
    let mut text = json!({"utterances": utterances.collect::<Vec<_>>()}).to_string();
    text.push('\n');
    text.into_bytes()
}

impl SayOptions {
    fn params(&self, text: String) -> Result<SpeechParams, String> {
        Ok(SpeechParams {
            text: TextParams {
                text: Some(text),
                ..self.content.clone()
            },
            sampling: self.sampling.clone(),
            output: self.output.params()?,
            ..SpeechParams::default()
        })
    }
}
