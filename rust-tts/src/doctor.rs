//! `chatterbox-server doctor` and `models`: what is there, and whether the server could start as it is configured.

use std::net::TcpListener;
use std::path::Path;

use chatterbox_engine::{EngineOptions, LoadSettings};
use chatterbox_http::auth::Keys;
use chatterbox_http::machine;
use chatterbox_settings::name_of;
use clap::{Args, Command};
use serde_json::json;

use crate::cli::ServerOptions;
use crate::python;
use crate::server::bind_host;
use crate::shutdown::status;
use crate::telemetry::print_line;

/// One line of the report.
enum Finding {
    Fine(String),
    /// The server cannot start because of it; and the command to run next.
    Problem(String, String),
}

/// Prints the report; the status is not 0 if the server could not start.
pub fn examine(options: &ServerOptions) -> i32 {
    let version = chatterbox_speech::VERSION;
    let mut next = None;
    let mut report = |subject: &str, finding: Finding| match finding {
        Finding::Fine(text) => print_line(&format!("ok  {subject:<12} {text}")),
        Finding::Problem(text, command) => {
            print_line(&format!("!!  {subject:<12} {text}"));
            next.get_or_insert(command);
        }
    };
    report(
        "server",
        Finding::Fine(format!("chatterbox-server {version}")),
    );
    report("processor", Finding::Fine(processor()));
    report("memory", Finding::Fine(memory()));
    for gpu in machine::gpus() {
        let text = format!("{}, {:.0} GiB", gpu.name, gpu.memory_gb.total);
        report("GPU", Finding::Fine(text));
    }
    let keys = Keys::from_options(&options.http);
    let open = keys.as_ref().is_ok_and(Keys::open);
    report(
        "keys",
        match keys {
            Ok(_) if open => {
                Finding::Fine("none: everybody who reaches the server may use it".into())
            }
            Ok(_) => Finding::Fine("set".into()),
            Err(problem) => Finding::Problem(problem, "chatterbox-server --help-all".into()),
        },
    );
    report("port", port(options, open));
    let voices = &options.voices.voices_dir;
    report("voices", folder(voices, "VOICES_DIR"));
    let settings = options
        .engine
        .load_settings(options.voices.prepared_dir(), 1);
    if let Some(cache) = &settings.hf_home {
        report("downloads", folder(Path::new(cache), "HF_HOME"));
    }
    let models = models(&settings);
    match (next, models) {
        (Some(command), _) => {
            print_line(&format!("Next: {command}"));
            status::CANNOT_START
        }
        (None, status::OK) => {
            print_line("Next: chatterbox-server serve");
            status::OK
        }
        (None, status) => status,
    }
}

/// Checks the models' Python packages; Python prints its own part of the report and the next step.
fn models(settings: &LoadSettings) -> i32 {
    let asked = json!({
        "models": settings.models,
        "device": name_of(&settings.device),
        "backend": name_of(&settings.backend),
        "model_path": settings.model_path,
        "multilingual_version": name_of(&settings.multilingual_version),
    });
    python::command("chatterbox_server.doctor", &[asked.to_string()])
}

fn processor() -> String {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    format!(
        "{threads} threads, {}, {}",
        std::env::consts::ARCH,
        features().join(" ")
    )
}

/// The instruction sets, among those that kernels are written for, that this processor has.
#[cfg(target_arch = "x86_64")]
fn features() -> Vec<&'static str> {
    let known = [
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("f16c", is_x86_feature_detected!("f16c")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
        ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
    ];
    known
        .into_iter()
        .filter_map(|(name, there)| there.then_some(name))
        .collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn features() -> Vec<&'static str> {
    Vec::new()
}

fn memory() -> String {
    let memory = machine::cpu().ram_gb;
    format!("{:.1} of {:.1} GiB free", memory.free, memory.total)
}

fn port(options: &ServerOptions, open: bool) -> Finding {
    let host = bind_host(&options.http, open);
    let port = options.http.port;
    match TcpListener::bind((host.as_str(), port)) {
        Ok(_) => Finding::Fine(format!("{host}:{port} is free")),
        Err(error) => Finding::Problem(
            format!("{host}:{port}: {error}"),
            "chatterbox-server --port 0".into(),
        ),
    }
}

/// Whether files can be made in a folder, which the server makes if it is missing.
fn folder(path: &Path, name: &str) -> Finding {
    let mut nearest = path;
    while !nearest.exists() {
        nearest = match nearest.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
    }
    let shown = path.display();
    match tempfile::tempfile_in(nearest) {
        Ok(_) if nearest == path => Finding::Fine(format!("{shown} is writable")),
        Ok(_) => Finding::Fine(format!("{shown} will be made")),
        Err(error) => Finding::Problem(
            format!("{name} {shown} is not writable: {}", error.kind()),
            format!("chown \"$USER\" {}", nearest.display()),
        ),
    }
}

/// Lists every model, and whether it is loaded as the server is configured.
pub fn list_models(options: &EngineOptions) -> i32 {
    let loaded = options.load_settings(std::path::PathBuf::new(), 1).models;
    let command = EngineOptions::augment_args(Command::new("models"));
    for arg in command.get_arguments() {
        let Some(name) = arg.get_id().as_str().strip_prefix("load_") else {
            continue;
        };
        let state = if loaded.iter().any(|model| model == name) {
            "loaded".to_owned()
        } else {
            format!("--load-{name}")
        };
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let what = help
            .split_once(", ")
            .map_or(help.as_str(), |(_, what)| what);
        print_line(&format!("{name:<13} {state:<20} {what}"));
    }
    status::OK
}
