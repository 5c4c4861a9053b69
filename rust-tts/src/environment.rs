//! Variables: those of the process, those of `.env`, and what people and other programs put into them.

use std::collections::BTreeMap;
use std::env;

use chatterbox_settings::{boolean, env_file};
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Command};

const FILE: &str = ".env";
/// Prefixes of misspelt names of ours: other programs' names end alike, as `OPENAI_API_KEY` does.
const PREFIXES: [&str; 2] = ["CHATTERBOX_", "TTS_"];
/// Names for Compose, which reads the same file.
const OF_COMPOSE: [&str; 3] = ["PUBLISH", "VOICES", "MODELS"];
/// How alike two names must be (Jaro-Winkler) for one to be the other, misspelt.
const ALIKE: f64 = 0.92;

/// The settings' values from the environment and `.env`, and the problems found in them.
#[derive(Debug, Default)]
pub struct Environment {
    /// Variables that were set by the file.
    from_file: BTreeMap<String, String>,
    /// Sentences for the log, which is not there before the variables have been read.
    pub warnings: Vec<String>,
}

/// Reads `.env` and prepares the variables for the command line: nothing of another program stops the start.
pub fn prepare(command: &Command) -> Result<Environment, String> {
    let mut environment = Environment::default();
    match std::fs::read(FILE) {
        Ok(bytes) => {
            let text = String::from_utf8(bytes).map_err(|_| format!("{FILE}: not UTF-8"))?;
            let variables =
                env_file::parse(&text).map_err(|problem| format!("{FILE}: {problem}"))?;
            environment.from_file = variables.into_iter().collect();
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(format!("{FILE}: {error}")),
    }
    environment
        .from_file
        .retain(|name, _| env::var_os(name).is_none());
    let settings = settings(command);
    for (name, value) in &environment.from_file {
        if !settings.contains_key(name.as_str())
            && let Some(meant) = misspelt(name, settings.keys().copied())
        {
            environment.warnings.push(format!(
                "{FILE}: {name} is not a setting; {meant} is, and was perhaps meant"
            ));
        }
        // SAFETY: neither the runtime nor the engine has been started; this is the only thread that runs.
        unsafe { env::set_var(name, value) };
    }
    for (name, arg) in settings {
        let Ok(value) = env::var(name) else { continue };
        let written_by_hand = environment.from_file.contains_key(name);
        let change = clean(name, arg, &value, written_by_hand);
        if let Some(warning) = change.warning {
            environment.warnings.push(warning);
        }
        // SAFETY: as above.
        match change.value {
            None => unsafe { env::remove_var(name) },
            Some(cleaned) if cleaned != value => unsafe { env::set_var(name, cleaned) },
            Some(_) => {}
        }
    }
    Ok(environment)
}

/// Every setting of every command by the name of its variable.
pub fn settings(command: &Command) -> BTreeMap<&str, &Arg> {
    let own = command.get_arguments();
    let mut found: BTreeMap<_, _> = own
        .filter_map(|arg| Some((arg.get_env()?.to_str()?, arg)))
        .collect();
    for subcommand in command.get_subcommands() {
        found.extend(settings(subcommand));
    }
    found
}

struct Change {
    /// The value to use; `None` removes the variable.
    value: Option<String>,
    warning: Option<String>,
}

/// Normalises a variable's value. `PORT=` in a compose file means that it is not set.
fn clean(name: &str, arg: &Arg, value: &str, from_file: bool) -> Change {
    let ignored = |why: &str| Change {
        value: None,
        warning: Some(format!("{name} is ignored: {why}")),
    };
    let mut value = value.trim();
    let mut warning = None;
    // The file's reader has taken off the quotes that are no part of a value.
    let inner;
    if !from_file && let Some(found) = unquoted(value, arg.get_value_delimiter()) {
        warning = Some(format!(
            "{name} is used without the quotes around its value; Docker keeps them, so remove them there"
        ));
        inner = found;
        value = inner.trim();
    }
    // A key that is lost would open the server: it stays, and is refused.
    if value.is_empty() && !arg.is_hide_env_values_set() {
        return Change {
            value: None,
            warning,
        };
    }
    if name == "DEBUG" && boolean(value).is_err() {
        return ignored("its value is neither true nor false, as other programs use this name");
    }
    if name == "PORT" && ["tcp://", "udp://"].iter().any(|s| value.starts_with(s)) {
        return ignored("its value is an address, as Kubernetes sets it for a service");
    }
    Change {
        value: Some(value.to_owned()),
        warning,
    }
}

/// `value` without the quotes that enclose it, or parts of a list; `None` where there are none.
fn unquoted(value: &str, delimiter: Option<char>) -> Option<String> {
    if let Some(inner) = quoted(value) {
        return Some(inner.to_owned());
    }
    let delimiter = delimiter?;
    let parts: Vec<_> = value.split(delimiter).map(str::trim).collect();
    let inner = parts.iter().map(|part| quoted(part).unwrap_or(part));
    let inner: Vec<_> = inner.collect();
    (inner != parts).then(|| inner.join(&delimiter.to_string()))
}

/// `value` without a pair of quotes that encloses all of it.
fn quoted(value: &str) -> Option<&str> {
    ['"', '\''].into_iter().find_map(|quote| {
        let inner = value.strip_prefix(quote)?.strip_suffix(quote)?;
        (!inner.contains(quote)).then_some(inner)
    })
}

/// The setting that is meant by a name that is none, if it is close to one.
fn misspelt<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if OF_COMPOSE.contains(&name) {
        return None;
    }
    let upper = name.to_uppercase().replace(['-', '.'], "_");
    let bare = PREFIXES
        .iter()
        .find_map(|prefix| upper.strip_prefix(prefix))
        .unwrap_or(&upper);
    let likeness = |setting: &str| {
        [&upper, bare]
            .into_iter()
            .map(|name| strsim::jaro_winkler(name, setting))
            .fold(0.0, f64::max)
    };
    known
        .map(|setting| (likeness(setting), setting))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, setting)| setting)
}

impl Environment {
    /// Adds to an error about a value the variable that it comes from.
    pub fn name_source(&self, error: &mut clap::Error, command: &Command, argv: &[String]) {
        let Some(ContextValue::String(wrong)) = error.get(ContextKind::InvalidArg) else {
            return;
        };
        // `--port <PORT>`
        let flag = wrong.split(' ').next().unwrap_or_default().to_owned();
        let long = flag.strip_prefix("--");
        let settings = settings(command);
        let found = settings.iter().find(|(_, arg)| arg.get_long() == long);
        let Some((name, _)) = found.filter(|_| long.is_some()) else {
            return;
        };
        let given = |word: &String| word.split('=').next() == Some(flag.as_str());
        if argv.iter().any(given) || env::var_os(name).is_none() {
            return;
        }
        let place = if self.from_file.contains_key(*name) {
            FILE
        } else {
            "the environment"
        };
        let tip = format!("the value is that of the variable {name}, set in {place}");
        error.insert(
            ContextKind::Suggested,
            ContextValue::StyledStrs(vec![tip.into()]),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 8] = [
        "API_KEY",
        "API_TOKEN",
        "VOICES_DIR",
        "LOAD_TURBO",
        "LOAD_NANO",
        "CORS_ORIGINS",
        "MODEL_PATH",
        "HOST",
    ];

    #[test]
    fn test_misspelt_settings_are_found() {
        for (name, meant) in [
            ("API_KYE", Some("API_KEY")),
            ("APIKEY", Some("API_KEY")),
            ("api_key", Some("API_KEY")),
            ("API-KEY", Some("API_KEY")),
            ("API_KEYS", Some("API_KEY")),
            ("CHATTERBOX_API_KEY", Some("API_KEY")),
            ("VOICE_DIR", Some("VOICES_DIR")),
            ("LOAD_TRUBO", Some("LOAD_TURBO")),
            ("CORS_ORIGIN", Some("CORS_ORIGINS")),
            ("HSOT", Some("HOST")),
            ("OPENAI_API_KEY", None),
            ("HF_TOKEN", None),
            ("VOICES", None),
            ("MODELS", None),
            ("PUBLISH", None),
            ("POSTGRES_PASSWORD", None),
            ("CUDA_VISIBLE_DEVICES", None),
        ] {
            assert_eq!(misspelt(name, KNOWN.into_iter()), meant, "{name}");
        }
    }

    #[test]
    fn test_paired_quotes_are_stripped() {
        for (value, inner) in [
            ("\"secret\"", Some("secret")),
            ("'/x'", Some("/x")),
            ("\"\"", Some("")),
            ("\"", None),
            ("'a\"", None),
            ("it's", None),
            ("\"a\",\"b\"", None),
        ] {
            assert_eq!(unquoted(value, None).as_deref(), inner, "{value}");
        }
        assert_eq!(unquoted("'a', 'b'", Some(',')).as_deref(), Some("a,b"));
        assert_eq!(unquoted("'a', b", Some(',')).as_deref(), Some("a,b"));
        assert_eq!(unquoted("a,\"\"", Some(',')).as_deref(), Some("a,"));
        assert_eq!(unquoted("a, b", Some(',')), None);
    }
}
