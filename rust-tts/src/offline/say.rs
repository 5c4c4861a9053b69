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
use chatterbox_speech::draft::{AudioDraft, Draft, VoiceDraft};
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

    /// Language of the text
    #[arg(long)]
    language: Option<String>,

    /// Pace; 2 is twice as fast
    #[arg(long)]
    speed: Option<f64>,

    /// Sampling temperature; 0 is greedy
    #[arg(long)]
    temperature: Option<f64>,

    /// Nucleus threshold, 0 to 1
    #[arg(long)]
    top_p: Option<f64>,

    /// Least share of the likeliest token's probability, 0 to 1
    #[arg(long)]
    min_p: Option<f64>,

    /// Candidates kept; 0 keeps all
    #[arg(long)]
    top_k: Option<u32>,

    /// Penalty on tokens already spoken, 1 (none) to 10
    #[arg(long, value_name = "FACTOR")]
    repetition_penalty: Option<f64>,

    /// Emotional intensity, 0 to 2
    #[arg(long)]
    exaggeration: Option<f64>,

    /// Weight of classifier-free guidance, 0 to 1
    #[arg(long)]
    cfg_weight: Option<f64>,

    /// Longest audio in seconds
    #[arg(long, value_name = "SECONDS")]
    max_audio_seconds: Option<f64>,

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
    let request = options.draft(text)?.validate(&service, Format::Wav, false);
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
    fn draft(&self, text: String) -> Result<Draft, String> {
        let output = &self.output;
        Ok(Draft {
            text: Some(text),
            model: output.model.clone(),
            language_id: self.language.clone(),
            voice: VoiceDraft {
                audio_prompt_path: output.voice.clone(),
                exaggeration: self.exaggeration,
                cfg_weight: self.cfg_weight,
                temperature: self.temperature,
                top_p: self.top_p,
                repetition_penalty: self.repetition_penalty,
                ..VoiceDraft::default()
            },
            audio: AudioDraft {
                format: output.format()?,
                sample_rate: output.sample_rate,
                bitrate: output.bitrate,
                ..AudioDraft::default()
            },
            seed: output.seed,
            min_p: self.min_p,
            top_k: self.top_k,
            speed: self.speed,
            // Into a file, which has time to be measured.
            stream: Some(false),
            audio_normalization: output.audio_normalization.clone(),
            max_audio_seconds: self.max_audio_seconds,
            ..Draft::default()
        })
    }
}
