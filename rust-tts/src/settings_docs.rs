//! `chatterbox-server docs`: `docs/configuration.md` and `.env.example`, written from the options' definitions.

use std::fmt::Write as _;

use clap::{Arg, Command, ValueEnum};

const WIDTH: usize = 118;
const PAGE: &str = "\
# Configuration

<!-- Written by `make docs` from the options' definitions; change those. -->

A setting is a flag, a variable in the environment, or a line of a file `.env` in the working directory. A flag wins over the
environment, and the environment over the file. `chatterbox-server --help-all` shows the same list.

* In `.env`, values stand as they are written: nothing is substituted, so a key may have a `$`. Quotes around a value,
  `export`, spaces around the `=`, blank lines and comments (`# …`, or ` # …` after a value) are allowed. A name that is close to
  that of a setting, and is none, is logged as a warning.
* An empty variable counts as not set, except the settings of keys (`API_KEY`, `API_TOKEN`, `API_KEY_FILE`, `API_TOKEN_FILE`):
  one that is there without a key refuses to start, since the server would be open.
* Quotes that are part of a variable's value, as Docker's `--env-file` keeps them, are taken off, with a warning.
* Names of values are read in any case. A boolean is `true`, `false`, `1`, `0`, `yes`, `no`, `on` or `off`.
* A wrong value ends the start with status 2 and names the variable. `DEBUG` and `PORT` are ignored, with a warning, where other
  programs have set them to something else (`DEBUG=*`, `PORT=tcp://…`).
* `chatterbox-server doctor` checks whether the server could start with the settings as they are.
";
const ENV_HEAD: &str = "\
# Settings of the server: copy to .env, and remove the # of what you set. The value shown is the default.
# Written by `make docs`. Values stand as they are written: nothing is substituted in them.
";
const ENV_FOOT: &str = "
# ---- Compose alone ----

# The host's address and port, a folder (or volume) for the voices and one for downloaded weights.
#PUBLISH=127.0.0.1:8081
#VOICES=voices
#MODELS=models";

/// The documents that can be generated.
#[derive(Clone, Copy, ValueEnum)]
pub enum Document {
    /// docs/configuration.md
    Settings,
    /// .env.example
    EnvExample,
}

/// The text of a document about the settings of `serve`, without the last line's end.
pub fn write(document: Document, serve: &Command) -> String {
    let mut text = String::new();
    let groups = groups(serve);
    match document {
        Document::Settings => {
            text.push_str(PAGE);
            for (heading, settings) in groups {
                let _ = write!(
                    text,
                    "\n## {heading}\n\n| variable | flag | default | meaning |\n|---|---|---|---|\n"
                );
                for setting in settings {
                    text.push_str(&setting.row());
                }
            }
        }
        Document::EnvExample => {
            text.push_str(ENV_HEAD);
            for (heading, settings) in groups {
                let _ = write!(text, "\n# ---- {heading} ----\n");
                for setting in settings {
                    text.push_str(&setting.lines());
                }
            }
            text.push_str(ENV_FOOT);
        }
    }
    text.trim_end().to_owned()
}

struct Setting<'a> {
    name: &'a str,
    flag: &'a str,
    help: String,
    default: String,
    values: Vec<String>,
}

/// The settings by heading, in the order of the definitions.
fn groups(serve: &Command) -> Vec<(&str, Vec<Setting<'_>>)> {
    let mut groups: Vec<(&str, Vec<Setting<'_>>)> = Vec::new();
    for arg in serve.get_arguments() {
        let Some(setting) = Setting::new(arg) else {
            continue;
        };
        let heading = arg.get_help_heading().unwrap_or("Others");
        match groups.iter_mut().find(|(known, _)| *known == heading) {
            Some((_, settings)) => settings.push(setting),
            None => groups.push((heading, vec![setting])),
        }
    }
    groups
}

impl<'a> Setting<'a> {
    /// An option that can be set by a variable.
    fn new(arg: &'a Arg) -> Option<Self> {
        let values = arg.get_possible_values();
        let default: Vec<_> = arg.get_default_values().iter().collect();
        Some(Self {
            name: arg.get_env()?.to_str()?,
            flag: arg.get_long()?,
            help: arg.get_help()?.to_string(),
            default: default
                .first()
                .map(|value| value.to_string_lossy().into_owned())
                .unwrap_or_default(),
            values: values
                .iter()
                .filter(|value| !value.is_hide_set())
                .map(|value| value.get_name().to_owned())
                .collect(),
        })
    }

    /// The help, and the legal values where there are names of them.
    fn meaning(&self) -> String {
        let help = self.help.trim_end_matches('.');
        if self.values.is_empty() {
            return format!("{help}.");
        }
        let values: Vec<_> = self
            .values
            .iter()
            .map(|value| format!("`{value}`"))
            .collect();
        format!("{help}. One of {}.", values.join(", "))
    }

    fn row(&self) -> String {
        let default = match self.default.as_str() {
            "" => String::new(),
            default => format!("`{default}`"),
        };
        let meaning = self.meaning().replace('|', "\\|").replace('<', "&lt;");
        format!(
            "| `{}` | `--{}` | {default} | {meaning} |\n",
            self.name, self.flag
        )
    }

    fn lines(&self) -> String {
        let mut text = String::from("\n#");
        let mut width = 1;
        for word in self.meaning().split(' ') {
            let length = word.chars().count() + 1;
            if width + length > WIDTH {
                text.push_str("\n#");
                width = 1;
            }
            text.push(' ');
            text.push_str(word);
            width += length;
        }
        let _ = write!(text, "\n#{}={}\n", self.name, self.default);
        text
    }
}
