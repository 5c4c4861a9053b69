//! `chatterbox-server voice`: makes voice files, without a server and without a model.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::reel::Reel;
use crate::log_options::LogOptions;
use crate::python;
use crate::shutdown::status;
use crate::telemetry;
use chatterbox_audio::decode;
use chatterbox_voices::{Details, VoiceError, VoiceOptions, VoiceStore, wav};

/// Largest file of samples that is read, in bytes.
const MAX_SAMPLE_BYTES: u64 = 1 << 30;

#[derive(Subcommand)]
pub enum VoiceCommand {
    /// Make a voice of all the recordings in a folder
    Clone(CloneOptions),
    /// Turn voices of Chatterbox's Python package (.pth, .pt) into voices that the server reads
    Convert(ConvertOptions),
}

#[derive(Args)]
pub struct CloneOptions {
    /// Folder of recordings of one speaker, in the order of their names: models listen to the first ten seconds most
    #[arg(long = "input_dir", alias = "input-dir", value_name = "FOLDER")]
    input_dir: PathBuf,

    /// Id of the voice
    #[arg(long = "output_voice_id", alias = "output-voice-id", value_name = "ID")]
    output_voice_id: String,

    /// Name that is shown instead of the id
    #[arg(long)]
    name: Option<String>,

    #[command(flatten)]
    common: CommonOptions,
}

#[derive(Args)]
pub struct ConvertOptions {
    /// The files; each keeps its name. Nothing in them is run
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,

    #[command(flatten)]
    common: CommonOptions,
}

#[derive(Args)]
struct CommonOptions {
    /// Replace a voice of the same id
    #[arg(long)]
    overwrite: bool,

    #[command(flatten)]
    voices: VoiceOptions,
    #[command(flatten)]
    logs: LogOptions,
}

impl VoiceCommand {
    pub fn logs(&self) -> &LogOptions {
        match self {
            Self::Clone(options) => &options.common.logs,
            Self::Convert(options) => &options.common.logs,
        }
    }

    /// Does it and reports; returns the exit status.
    pub fn run(&self) -> i32 {
        let done = match self {
            Self::Clone(options) => clone(options),
            Self::Convert(options) => convert(options),
        };
        match done {
            Ok(status) => status,
            Err(problem) => {
                telemetry::complain(&format!("error: {problem}"));
                status::CANNOT_START
            }
        }
    }
}

fn open(options: &VoiceOptions) -> Result<VoiceStore, String> {
    let opened = options.open();
    opened.map_err(|error| format!("{}: {error}", options.voices_dir.display()))
}

fn clone(options: &CloneOptions) -> Result<i32, String> {
    // The extension is the store's matter; whoever names that of audio means the same.
    let id = options.output_voice_id.trim_end_matches(".wav");
    if id.contains(['/', '\\']) {
        return Err(format!("{id}: {}", VoiceError::BadName));
    }
    let store = open(&options.common.voices)?;
    let reel = read_folder(&options.input_dir)?;
    let (samples, sample_rate) = reel.joined();
    let details = Details {
        name: options.name.clone(),
        source: Some("voice clone".to_owned()),
        ..Details::default()
    };
    let file = wav::file(&samples, sample_rate);
    let saved = store.save(
        &format!("{id}.wav"),
        &file,
        options.common.overwrite,
        &details,
    );
    let voice = saved.map_err(|error| format!("{id}: {error}"))?;
    telemetry::tell(&format!(
        "{}: {:.1} s of {} recordings",
        voice.path.display(),
        voice.duration_seconds,
        reel.len()
    ));
    Ok(status::OK)
}

/// Reads the recordings in a folder; those that are of no use are named.
fn read_folder(folder: &Path) -> Result<Reel, String> {
    let unreadable = |error: std::io::Error| format!("{}: {error}", folder.display());
    let entries = std::fs::read_dir(folder).map_err(unreadable)?;
    let entries = entries.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    let mut paths: Vec<PathBuf> = entries.iter().map(std::fs::DirEntry::path).collect();
    paths.retain(|path| path.is_file());
    paths.sort_unstable();
    let mut reel = Reel::default();
    for path in paths {
        if reel.is_full() {
            telemetry::complain("The rest is left out: this is as much as a voice may have.");
            break;
        }
        if let Err(problem) = read_clip(&path).and_then(|clip| reel.add(&clip)) {
            telemetry::complain(&format!("{}: left out: {problem}", path.display()));
        }
    }
    if reel.len() == 0 {
        return Err(format!("{}: there is no speech in it", folder.display()));
    }
    Ok(reel)
}

fn read_clip(path: &Path) -> Result<decode::Clip, String> {
    let size = path.metadata().map_err(|error| error.to_string())?.len();
    if size > MAX_SAMPLE_BYTES {
        return Err("the file is too large".to_owned());
    }
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    decode::decode(&bytes, &decode::Limits::default()).map_err(|error| error.to_string())
}

fn convert(options: &ConvertOptions) -> Result<i32, String> {
    let store = open(&options.common.voices)?;
    let place = tempfile::tempdir().map_err(|error| error.to_string())?;
    let details = Details {
        source: Some("voice convert".to_owned()),
        ..Details::default()
    };
    for file in &options.files {
        let stem = file
            .file_stem()
            .and_then(|stem| stem.to_str())
            .ok_or_else(|| format!("{}: this name cannot be that of a voice", file.display()))?;
        let overwrite = options.common.overwrite;
        let refused = |error: VoiceError| format!("{stem}: {error}");
        store.check_portable(stem, overwrite).map_err(refused)?;
        let made = place.path().join("voice");
        let paths = [file, &made].map(|path| path.display().to_string());
        let converted = python::command("chatterbox_server.chatterbox.voices.convert", &paths);
        if converted != status::OK {
            return Ok(converted);
        }
        let bytes = std::fs::read(&made).map_err(|error| format!("{stem}: {error}"))?;
        let saved = store.save_portable(stem, &bytes, overwrite, &details);
        let voice = saved.map_err(refused)?;
        telemetry::tell(&voice.path.display().to_string());
    }
    Ok(status::OK)
}
