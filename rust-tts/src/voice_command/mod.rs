//! `chatterbox-server voice`: lists, shows, deletes and makes voice files, without a server and without a model.

mod reference;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use self::reference::ReferenceBuilder;
use crate::log_options::LogOptions;
use crate::python;
use crate::shutdown::status;
use crate::telemetry;
use chatterbox_audio::decode;
use chatterbox_voices::{Details, Existing, Filter, VoiceError, VoiceOptions, VoiceStore};

/// Largest file of samples that is read, in bytes.
const MAX_SAMPLE_BYTES: u64 = 1 << 30;

#[derive(Subcommand)]
pub enum VoiceCommand {
    /// List the voices: id and length
    List(StoreOptions),
    /// Show everything that is stored about a voice, as JSON
    Show(OneVoice),
    /// Delete a voice
    Delete(OneVoice),
    /// Make a voice of all the recordings in a folder
    Clone(CloneOptions),
    /// Turn voices of Chatterbox's Python package (.pth, .pt) into voices that the server reads
    Convert(ConvertVoiceOptions),
}

#[derive(Args)]
pub struct StoreOptions {
    #[command(flatten)]
    voices: VoiceOptions,
    #[command(flatten)]
    logs: LogOptions,
}

#[derive(Args)]
pub struct OneVoice {
    /// Id of the voice, with or without its extension
    #[arg(value_name = "ID")]
    id: String,

    #[command(flatten)]
    store: StoreOptions,
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
pub struct ConvertVoiceOptions {
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
    store: StoreOptions,
}

impl VoiceCommand {
    fn store_options(&self) -> &StoreOptions {
        match self {
            Self::List(options) => options,
            Self::Show(one) | Self::Delete(one) => &one.store,
            Self::Clone(options) => &options.common.store,
            Self::Convert(options) => &options.common.store,
        }
    }

    pub fn logs(&self) -> &LogOptions {
        &self.store_options().logs
    }

    /// Does it and reports; returns the exit status.
    pub fn run(&self) -> i32 {
        let options = &self.store_options().voices;
        let opened = options.open();
        let done = opened
            .map_err(|error| format!("{}: {error}", options.voices_dir.display()))
            .and_then(|store| match self {
                Self::List(_) => list(&store, options),
                Self::Show(one) => show(&store, &one.id),
                Self::Delete(one) => delete(&store, &one.id),
                Self::Clone(options) => clone(&store, options),
                Self::Convert(options) => convert(&store, options),
            });
        match done {
            Ok(status) => status,
            Err(problem) => {
                telemetry::print_error(&format!("error: {problem}"));
                status::CANNOT_START
            }
        }
    }
}

fn list(store: &VoiceStore, options: &VoiceOptions) -> Result<i32, String> {
    let folder = options.voices_dir.display();
    let voices = store.list(&Filter::default());
    let voices = voices.map_err(|error| format!("{folder}: {error}"))?;
    for voice in &voices {
        telemetry::print_line(&format!("{}\t{:.1} s", voice.id, voice.duration_seconds));
    }
    if voices.is_empty() {
        telemetry::print_error(&format!("No voices in {folder}."));
    }
    Ok(status::OK)
}

fn show(store: &VoiceStore, id: &str) -> Result<i32, String> {
    let voice = store.find(id).map_err(|error| format!("{id}: {error}"))?;
    let json = serde_json::to_string_pretty(&store.describe(voice));
    telemetry::print_line(&json.map_err(|error| format!("{id}: {error}"))?);
    Ok(status::OK)
}

fn delete(store: &VoiceStore, id: &str) -> Result<i32, String> {
    let voice = store.delete(id).map_err(|error| format!("{id}: {error}"))?;
    telemetry::print_line(&format!("{} deleted", voice.path.display()));
    Ok(status::OK)
}

fn clone(store: &VoiceStore, options: &CloneOptions) -> Result<i32, String> {
    // The store chooses the extension; an id with that of audio is the same id.
    let id = options.output_voice_id.trim_end_matches(".wav");
    if id.contains(['/', '\\']) {
        return Err(format!("{id}: {}", VoiceError::BadName));
    }
    let reference = read_folder(&options.input_dir)?;
    let (samples, sample_rate) = reference.joined();
    let details = Details {
        name: options.name.clone(),
        source: Some("voice clone".to_owned()),
        ..Details::default()
    };
    let file = chatterbox_audio::clip_file(&samples, sample_rate);
    let existing = if options.common.overwrite {
        Existing::Replace
    } else {
        Existing::Keep
    };
    let saved = store.save(&format!("{id}.wav"), &file, existing, &details);
    let voice = saved.map_err(|error| format!("{id}: {error}"))?;
    telemetry::print_line(&format!(
        "{}: {:.1} s of {} recordings",
        voice.path.display(),
        voice.duration_seconds,
        reference.len()
    ));
    Ok(status::OK)
}

/// Reads the recordings in a folder; those that are of no use are named.
fn read_folder(folder: &Path) -> Result<ReferenceBuilder, String> {
    let unreadable = |error: std::io::Error| format!("{}: {error}", folder.display());
    let entries = std::fs::read_dir(folder).map_err(unreadable)?;
    let entries = entries.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    let mut paths: Vec<PathBuf> = entries.iter().map(std::fs::DirEntry::path).collect();
    paths.retain(|path| path.is_file());
    paths.sort_unstable();
    let mut reference = ReferenceBuilder::default();
    for path in paths {
        if reference.is_full() {
            telemetry::print_error("The rest is left out: this is as much as a voice may have.");
            break;
        }
        if let Err(problem) = read_clip(&path).and_then(|clip| reference.add(&clip)) {
            telemetry::print_error(&format!("{}: left out: {problem}", path.display()));
        }
    }
    if reference.len() == 0 {
        return Err(format!("{}: there is no speech in it", folder.display()));
    }
    Ok(reference)
}

fn read_clip(path: &Path) -> Result<decode::Clip, String> {
    let size = path.metadata().map_err(|error| error.to_string())?.len();
    if size > MAX_SAMPLE_BYTES {
        return Err("the file is too large".to_owned());
    }
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    decode::decode(&bytes, &decode::Limits::default()).map_err(|error| error.to_string())
}

fn convert(store: &VoiceStore, options: &ConvertVoiceOptions) -> Result<i32, String> {
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
        telemetry::print_line(&voice.path.display().to_string());
    }
    Ok(status::OK)
}
