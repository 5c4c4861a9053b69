//! The texts of `-h`, `--help` and `--help-all`.

use clap::Command;

pub const PROGRAM: &str = "chatterbox-server";
/// Settings that every `-h` shows, by the name of the variable.
const ESSENTIAL: [&str; 5] = ["HOST", "PORT", "API_KEY", "VOICES_DIR", "LOAD_TURBO"];
const EXAMPLES: &str = "\
Examples:
  chatterbox-server --port 9000 --load-turbo
  chatterbox-server say \"Hello there.\" -o hello.mp3
  chatterbox-server say -i book.txt -o book.flac --model turbo --voice anna
  chatterbox-server voice clone --input_dir recordings --output_voice_id anna";
const FOOT: &str = "\
A setting is a flag, a variable, or a line of `.env` in the working directory; the first that is set wins.
`--help-all` lists all settings.

Exit status: 0 finished or drained; 1 could not start; 2 a wrong option; 70 the engine failed,
start the server again; 130 ended by a second signal.";

/// The command line with every setting shown, as it is parsed.
pub fn complete(command: Command) -> Command {
    let command = command.mut_args(|arg| {
        let takes_name = arg.get_action().takes_values() && !arg.get_possible_values().is_empty();
        arg.ignore_case(takes_name)
    });
    // A long text of its own has every option described below its name.
    let about = command.get_about().cloned().unwrap_or_default();
    command
        .display_name(PROGRAM)
        .long_about(about)
        .mut_subcommands(complete)
}

/// The short help: only the essential settings are listed.
pub fn short(command: Command) -> Command {
    let settings = command
        .find_subcommand("serve")
        .map(essential_settings)
        .unwrap_or_default();
    let help = format!("Settings that everybody needs:\n{settings}\n{EXAMPLES}\n\n{FOOT}");
    command.mut_subcommands(hide_settings).after_help(help)
}

/// Whether the help that `argv` asks for is that with all settings.
pub fn is_complete(argv: &[String]) -> bool {
    argv.iter()
        .take_while(|word| *word != "--")
        .any(|word| word == "--help-all")
}

fn hide_settings(command: Command) -> Command {
    let essential = |arg: &clap::Arg| {
        arg.get_env()
            .is_none_or(|name| ESSENTIAL.iter().any(|essential| name == *essential))
    };
    let hides = command.get_arguments().any(|arg| !essential(arg));
    let command = command
        .mut_args(|arg| {
            let hidden = arg.is_hide_set() || !essential(&arg);
            arg.hide(hidden)
        })
        .mut_subcommands(hide_settings);
    if hides {
        command.after_help("There are more settings; `--help-all` lists them.")
    } else {
        command
    }
}

fn essential_settings(serve: &Command) -> String {
    let line = |name: &str| {
        let arg = serve
            .get_arguments()
            .find(|arg| arg.get_env().is_some_and(|env| env == name))?;
        let flag = format!("--{}", arg.get_long()?);
        let text = arg.get_help()?.to_string();
        let first = text.split(['.', ';', '(']).next()?.trim_end();
        Some(format!("  {flag:<14} {name:<12} {first}\n"))
    };
    ESSENTIAL.into_iter().filter_map(line).collect()
}
