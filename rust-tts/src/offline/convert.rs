//! `chatterbox-server convert`: a clip, spoken again in another voice, into a file.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::{OutputOptions, WorkProgress, run, write};
use crate::shutdown::status;
use crate::telemetry;
use chatterbox_speech::convert::{Conversion, decode_clip};
use chatterbox_speech::params::Names;
use chatterbox_speech::service::SpeechService;
use chatterbox_speech::{self as speech, Delivery, SpeechEvent, Summary};

#[derive(Args)]
pub struct ConvertOptions {
    /// The clip (wav, mp3, flac, ogg, opus, webm, m4a); `-` reads standard input
    #[arg(value_name = "IN")]
    input: PathBuf,

    #[command(flatten)]
    pub output: OutputOptions,
}

/// Converts and reports; returns the exit status.
pub fn convert(options: &ConvertOptions) -> i32 {
    // Before the engine is loaded, which takes its time.
    match read_clip(options) {
        Ok(bytes) => run(&options.output, async |service| {
            speak(service, options, &bytes).await
        }),
        Err(error) => {
            telemetry::print_error(&format!("error: {}: {error}", options.input.display()));
            status::CANNOT_START
        }
    }
}

fn read_clip(options: &ConvertOptions) -> std::io::Result<Vec<u8>> {
    if options.input.as_os_str() == "-" {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes)?;
        return Ok(bytes);
    }
    std::fs::read(&options.input)
}

async fn speak(
    service: Arc<SpeechService>,
    options: &ConvertOptions,
    bytes: &[u8],
) -> Result<Summary, String> {
    let output = &options.output;
    let longest = service.options.limits.max_convert_seconds;
    let clip = tokio::task::block_in_place(|| decode_clip(bytes, longest));
    let clip = clip.map_err(|error| error.to_string())?;
    let bar = WorkProgress::new((clip.duration_seconds() * 1000.0) as u64, true);
    let conversion = Conversion {
        clip,
        place: None,
        output: output.params()?,
        names: Names::default(),
    };
    let request = conversion.validate(&service);
    let mut request = request.map_err(|error| error.to_string())?;
    request.delivery = Delivery::Stream;
    let encoding = request.output.encoding;
    let rate = u64::from(encoding.sample_rate);
    let speech = speech::start(&service, request, speech::clip(), "convert");
    let (sink, summary) = write(speech, output, |event| {
        if let SpeechEvent::Audio(audio) = event {
            bar.0.inc(audio.samples as u64 * 1000 / rate);
        }
    })
    .await?;
    sink.finish(encoding, summary.samples(encoding.sample_rate))?;
    Ok(summary)
}
