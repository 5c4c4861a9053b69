"""The command line: ``say``, ``voice``, help and ``--version``."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import socket
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from audio_helpers import SAMPLE_RATES, clip, pitch, read_pcm, read_wav, speak
from chatterbox_server import _core
from chatterbox_server.fake import frequency
from command_helpers import FIGURES, run
from running_server import COMMAND, WITHOUT_ROOTS_RIGHTS, Server, clean_environment

FAKE = ("--engine", "fake", "--fake-rtf", "0")


def test_say_writes_file_and_prints_figures(tmp_path: Path) -> None:
    done = run(tmp_path, "say", "Hello there.", "-o", "hello.wav", "--seed", "3", *FAKE)
    assert done.returncode == 0, done.stderr
    samples, rate = soundfile.read(tmp_path / "hello.wav")
    assert len(samples) / rate == pytest.approx(0.72, abs=0.01)
    assert pitch(samples, rate) == pytest.approx(frequency("fake", "tone", 3), abs=1)
    data = (tmp_path / "hello.wav").read_bytes()
    assert int.from_bytes(data[4:8], "little") == len(data) - 8
    words = done.stderr.decode()
    assert "hello.wav" in words
    figures = FIGURES.search(words)
    assert figures
    assert float(figures[1]) == pytest.approx(0.72, abs=0.01)
    assert done.stdout == b""


@pytest.mark.parametrize("source", ["argument", "stdin", "dash", "file"])
def test_say_reads_text_from_argument_file_and_stdin(tmp_path: Path, source: str) -> None:
    text = "Grüße aus dem Text."
    (tmp_path / "text.txt").write_text(text, "utf-8")
    args = {"argument": [text], "stdin": [], "dash": ["-"], "file": ["--input", "text.txt"]}[source]
    done = run(tmp_path, "say", *args, "-o", "-", "--format", "pcm_f32le", *FAKE, text=text.encode())
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) == 4 * round(0.06 * len(text) * 24_000)
    assert FIGURES.search(done.stderr.decode())


def test_say_to_standard_output_is_wav_stream(tmp_path: Path) -> None:
    done = run(tmp_path, "say", "Hello there.", "-o", "-", *FAKE)
    samples, rate = read_wav(done.stdout)
    assert len(samples) / rate == pytest.approx(0.72, abs=0.01)
    assert list(tmp_path.glob("*.wav")) == []


@pytest.mark.parametrize(
    ("name", "args", "sample_bytes"),
    [
        ("a.wav", [], 0),
        ("a.pcm", [], 2),
        ("a.pcm_f32le", [], 4),
        ("a.raw", ["--format", "pcm_s16le"], 2),
        ("noname", [], 0),
        ("a.wav", ["--format", "pcm_f32le"], 4),
    ],
)
def test_say_chooses_format_by_option_or_by_name(tmp_path: Path, name: str, args: list[str], sample_bytes: int) -> None:
    assert run(tmp_path, "say", "Hello there.", "-o", name, *args, *FAKE).returncode == 0
    data = (tmp_path / name).read_bytes()
    if sample_bytes:
        assert len(data) == sample_bytes * round(0.72 * 24_000)
    else:
        assert len(read_wav(data)[0]) == round(0.72 * 24_000)


def test_say_honours_rate_speed_and_length(tmp_path: Path) -> None:
    rate = SAMPLE_RATES[-1]
    options = ("--sample-rate", str(rate), "--speed", "2", "--max-audio-seconds", "0.3", "--model", "fake")
    assert run(tmp_path, "say", "Hello there, you.", "-o", "a.wav", *options, *FAKE).returncode == 0
    samples, found = soundfile.read(tmp_path / "a.wav")
    assert found == rate
    assert len(samples) / rate == pytest.approx(0.3, abs=0.02)


def test_say_accepts_sampling_options(tmp_path: Path) -> None:
    options = {
        "--temperature": "0.5",
        "--top-p": "0.9",
        "--min-p": "0.1",
        "--top-k": "20",
        "--repetition-penalty": "1.3",
        "--exaggeration": "0.7",
        "--cfg-weight": "0.3",
        "--audio-tokens-per-slice": "30",
        "--context-window": "20",
        "--chunk-overlap-method": "zero",
        "--crossfade-duration-milliseconds": "20",
    }
    args = [part for option in options.items() for part in option]
    assert run(tmp_path, "say", "Hello.", "-o", "-", *args, *FAKE).returncode == 0
    for option in ("--top-p", "--min-p", "--cfg-weight"):
        wrong = run(tmp_path, "say", "Hello.", "-o", "-", option, "1.5", *FAKE)
        assert wrong.returncode == 1
        assert option.strip("-").replace("-", "_") in wrong.stderr.decode()


def test_say_trims_by_option_or_by_variable(tmp_path: Path) -> None:
    say = ("say", "Hello there.", "-o", "-", "--format", "pcm_s16le", *FAKE)
    whole = len(run(tmp_path, *say).stdout)
    assert len(run(tmp_path, *say, "--remove-leading-milliseconds", "100").stdout) == whole - 2 * 2400
    env = {"TTS_REMOVE_TRAILING_MILLISECONDS": "50"}
    assert len(run(tmp_path, *say, env=env).stdout) == whole - 2 * 1200


def test_say_writes_tokens_of_all_utterances_in_order(tmp_path: Path) -> None:
    text = "This is the first one. Here is the second."
    done = run(tmp_path, "say", text, "-o", "a.wav", "--dump-tokens", "tokens.json", *FAKE)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "tokens.json").read_text())
    parts = ["This is the first one.", "Here is the second."]
    # Of the fake engine: 25 tokens a second, counted from 0.
    wanted = [{"text": part, "tokens": list(range(round(len(part) * 0.06 * 25)))} for part in parts]
    assert found == {"utterances": wanted}


@pytest.mark.parametrize("seconds", ["0.4", "1.0", "2.0"])
def test_say_dumps_no_more_tokens_than_length_allows(tmp_path: Path, seconds: str) -> None:
    text = "This is the first one of all. Here is the second."
    args = ("--max-audio-seconds", seconds, "--dump-tokens", "tokens.json")
    assert run(tmp_path, "say", text, "-o", "a.wav", *args, *FAKE).returncode == 0
    utterances = json.loads((tmp_path / "tokens.json").read_text())["utterances"]
    assert sum(len(utterance["tokens"]) for utterance in utterances) <= round(25 * float(seconds))
    first = min(float(seconds), 29 * 0.06)
    assert len(utterances[0]["tokens"]) == round(25 * first)
    samples, rate = soundfile.read(tmp_path / "a.wav")
    assert len(samples) / rate <= float(seconds)


def test_model_without_tokens_is_error(tmp_path: Path) -> None:
    done = run(tmp_path, "say", "Hello.", "-o", "a.wav", "--dump-tokens", "tokens.json")
    assert done.returncode == 1
    assert b"error: lite has no speech tokens" in done.stderr
    assert list(tmp_path.glob("*.[wj]*")) == []


def test_say_equals_server(tmp_path: Path, lite: Server) -> None:
    text = "The same words, by every way. They are cut alike."
    done = run(tmp_path, "say", text, "-o", "-", "--seed", "11", "--format", "pcm_f32le")
    assert done.returncode == 0, done.stderr
    served = speak(lite.url, text, seed=11, audio={"format": "pcm_f32le"})
    assert len(served.content) > 4 * 24_000
    np.testing.assert_array_equal(read_pcm(done.stdout, "pcm_f32le"), read_pcm(served.content, "pcm_f32le"))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["   "], "text"),
        (["Hello.", "--model", "turbo"], "model"),
        (["Hello.", "--voice", "nobody.wav"], "voice"),
        (["Hello.", "--speed", "9"], "speed"),
        (["Hello.", "-o", "no/such/folder.wav"], "no/such/folder.wav"),
        (["--input", "missing.txt"], "missing.txt"),
        (["It will [[fail]]."], "failure"),
        (["It will [[fail-late]]."], "failure"),
        (["It will [[raise]]."], "engine"),
    ],
)
def test_say_error_is_one_sentence(tmp_path: Path, args: list[str], said: str) -> None:
    done = run(tmp_path, "say", *args, *FAKE)
    assert done.returncode == 1, done.stderr
    words = done.stderr.decode()
    assert re.search(rf"^error: .*{re.escape(said)}", words, re.MULTILINE | re.IGNORECASE), words
    assert not list(tmp_path.glob("*.wav")), "half a file was left behind"


def test_unknown_format_of_say_lists_formats(tmp_path: Path) -> None:
    done = run(tmp_path, "say", "Hello.", "--format", "vorbis", *FAKE)
    assert done.returncode == 2
    listed = re.search(r"possible values: (.+)]", done.stderr.decode())
    assert listed
    assert listed[1].split(", ") == ["wav", "mp3", "fmp4", "webm", "opus", "flac", "aac", "pcm_s16le", "pcm_f32le"]
    for alias in ("PCM", "ogg"):
        assert run(tmp_path, "say", "Hello.", "-o", "-", "--format", alias, *FAKE).returncode == 0


def test_say_refuses_text_and_file_at_once(tmp_path: Path) -> None:
    assert run(tmp_path, "say", "Hello.", "--input", "a.txt", *FAKE).returncode == 2


def test_say_draws_bar_in_terminal(tmp_path: Path) -> None:
    text = "This sentence is one of many in a long text. " * 20
    command = [str(COMMAND), "say", text, "-o", "a.wav", "--engine", "fake", "--fake-rtf", "0.02"]
    ours, theirs = pty.openpty()
    env = clean_environment({"TERM": "xterm"})
    drawn = b""
    with subprocess.Popen(command, env=env, cwd=tmp_path, stdin=subprocess.DEVNULL, stderr=theirs) as process:
        os.close(theirs)
        try:
            while data := os.read(ours, 4096):
                drawn += data
        except OSError:
            # Linux says so when the other end of a terminal is closed.
            pass
        finally:
            os.close(ours)
        assert process.wait(60) == 0
    shown = [int(found) for found in re.findall(rb"(\d+) ?%, ", drawn)]
    assert len(set(shown)) > 2, drawn
    assert shown == sorted(shown)
    assert FIGURES.search(drawn.decode())
    assert b"%" not in run(tmp_path, "say", text, "-o", "a.wav", *FAKE).stderr


@pytest.mark.parametrize("output", ["a.xyz", "speech.txt", "a.wav.bak"])
def test_say_refuses_unknown_file_extension_before_it_loads(tmp_path: Path, output: str) -> None:
    done = run(tmp_path, "say", "Hello.", "-o", output, env={"ENGINE": "fake", "FAKE_LOAD_SECONDS": "90"})
    assert done.returncode == 1
    words = done.stderr.decode()
    assert words.startswith(f"error: {output}: no audio format is called {output.rpartition('.')[2]}; there are wav, ")
    assert list(tmp_path.glob("*.*")) == []


def test_errors_name_no_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    for folder in ("nowhere", "locked"):
        args = [*WITHOUT_ROOTS_RIGHTS, str(COMMAND), "say", "Hello.", "-o", f"{folder}/a.wav", *FAKE]
        done = subprocess.run(
            args, cwd=tmp_path, env=clean_environment({}), capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert done.stderr.startswith(f"error: {folder}/a.wav: ")
        assert ".tmp" not in done.stderr


def test_voice_list_prints_ids_and_lengths(tmp_path: Path) -> None:
    (tmp_path / "voices").mkdir()
    empty = run(tmp_path, "voice", "list")
    assert (empty.returncode, empty.stdout) == (0, b"")
    assert b"No voices" in empty.stderr
    (tmp_path / "voices" / "anna.wav").write_bytes(clip(seconds=1.5))
    (tmp_path / "voices" / "notes.txt").write_text("no voice")
    assert run(tmp_path, "voice", "list").stdout == b"anna.wav\t1.5 s\n"
    (tmp_path / "file").touch()
    wrong = run(tmp_path, "voice", "list", "--voices-dir", "file")
    assert wrong.returncode == 1
    assert b"error: file" in wrong.stderr


def test_voice_show_and_delete_find_voice_by_its_id(tmp_path: Path) -> None:
    (tmp_path / "voices").mkdir()
    (tmp_path / "voices" / "anna.wav").write_bytes(clip(seconds=1.5))
    shown = json.loads(run(tmp_path, "voice", "show", "anna").stdout)
    assert (shown["id"], shown["name"], shown["duration_seconds"]) == ("anna.wav", "anna", 1.5)
    assert run(tmp_path, "voice", "delete", "anna.wav").returncode == 0
    assert not (tmp_path / "voices" / "anna.wav").exists()
    for command in ("show", "delete"):
        done = run(tmp_path, "voice", command, "anna")
        assert done.returncode == 1
        assert done.stderr.startswith(b"error: anna: ")


def test_version(tmp_path: Path) -> None:
    shown = f"chatterbox-server {_core.__version__}\n"
    assert run(tmp_path, "--version").stdout.decode() == shown
    assert run(tmp_path, "--port", "1", "--version").stdout.decode() == shown


@pytest.mark.parametrize(
    "command",
    [
        ["--help"],
        ["-h"],
        ["say", "--help"],
        ["voice", "--help"],
        ["help", "say"],
        ["--help-all"],
        ["say", "--help-all"],
    ],
)
def test_help_ends_with_status_0(tmp_path: Path, command: list[str]) -> None:
    done = run(tmp_path, *command)
    assert done.returncode == 0
    assert b"Usage: chatterbox-server" in done.stdout


def test_short_help_shows_examples_and_essential_settings(tmp_path: Path) -> None:
    shown = run(tmp_path, "-h").stdout.decode()
    assert len(shown.splitlines()) <= 60
    examples = re.findall(r"^  (chatterbox-server .+)$", shown.partition("Examples:")[2], re.MULTILINE)
    assert len(examples) == 4
    for example in examples:
        # `--version` after the example's own arguments: those are checked first.
        done = run(tmp_path, *shlex.split(example)[1:], "--version")
        assert done.returncode == 0, done.stderr
    for name in ("HOST", "PORT", "API_KEY", "VOICES_DIR", "LOAD_TURBO"):
        assert f" {name} " in shown


@pytest.mark.parametrize("command", ["serve", "say", "convert"])
def test_commands_help_leaves_settings_to_help_all(tmp_path: Path, command: str) -> None:
    shown = run(tmp_path, command, "-h").stdout.decode()
    assert len(shown.splitlines()) <= 60
    assert "VOICES_DIR" in shown
    assert "--help-all" in shown
    assert "PROFILE" not in shown
    assert "PROFILE" in run(tmp_path, command, "--help-all").stdout.decode()


def test_serve_is_default_command(tmp_path: Path) -> None:
    assert b"Usage: chatterbox-server serve" in run(tmp_path, "--port", "1", "--help").stdout
    assert run(tmp_path, "--help-all").stdout == run(tmp_path, "serve", "--help-all").stdout


def test_typos_get_suggestions(tmp_path: Path) -> None:
    for args, tip in ((["serv"], "serve"), (["--prot", "1"], "--port"), (["say", "x", "--sped", "1"], "--speed")):
        done = run(tmp_path, *args)
        assert done.returncode == 2
        assert re.search(rf"tip: .*'{tip}'", done.stderr.decode())


def test_completions_are_shell_scripts(tmp_path: Path) -> None:
    script = run(tmp_path, "completions", "bash").stdout
    assert b"--load-turbo" in script
    assert subprocess.run(["bash", "-n"], input=script, check=False).returncode == 0


def test_models_are_listed_with_flag_that_loads_them(tmp_path: Path) -> None:
    lines = run(tmp_path, "models", "--load-nano").stdout.decode().splitlines()
    states = {line.split()[0]: line.split()[1] for line in lines}
    assert states == {
        "standard": "--load-standard",
        "turbo": "--load-turbo",
        "multilingual": "--load-multilingual",
        "nano": "loaded",
        "lite": "loaded",
    }


def doctor(folder: Path, *args: str, **env: str) -> tuple[int, str]:
    """Status and words of ``doctor``."""
    port = () if "--port" in args else ("--port", "0")
    done = run(folder, "doctor", *port, *args, env={"VOICES_DIR": str(folder / "voices"), **env})
    assert done.stderr == b""
    return done.returncode, done.stdout.decode()


def test_doctor_says_what_is_there_and_what_to_run_next(tmp_path: Path) -> None:
    status, words = doctor(tmp_path)
    assert (status, words.splitlines()[-1]) == (0, "Next: chatterbox-server serve")
    assert "!!" not in words
    for subject in ("server", "processor", "memory", "keys", "port", "voices", "python", "lite", "torch", "turbo"):
        assert re.search(rf"^(ok|--)  {subject} ", words, re.MULTILINE), subject
    assert not (tmp_path / "voices").exists()


@pytest.mark.parametrize(
    ("args", "env", "subject", "step"),
    [
        ((), {"API_KEY": ""}, "keys", "--help-all"),
        ((), {"VOICES_DIR": "/proc/voices"}, "voices", "chown"),
        (("--device", "mps"), {}, "device", "--device auto"),
        (("--load-turbo", "--model-path", "nowhere"), {}, "turbo", "--load-turbo false"),
    ],
)
def test_doctor_fails_where_server_could_not_start(
    tmp_path: Path, args: tuple[str, ...], env: dict[str, str], subject: str, step: str
) -> None:
    status, words = doctor(tmp_path, *args, **env)
    assert status == 1
    assert re.findall(r"^!!  (\S+)", words, re.MULTILINE) == [subject]
    assert step in words.splitlines()[-1]
    assert words.count("Next: ") == 1


def test_doctor_finds_taken_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        status, words = doctor(tmp_path, "--port", str(taken.getsockname()[1]))
    assert status == 1
    assert words.splitlines()[-1] == "Next: chatterbox-server --port 0"


@pytest.mark.parametrize(("document", "path"), [("settings", "docs/configuration.md"), ("env-example", ".env.example")])
def test_generated_documents_are_fresh(tmp_path: Path, document: str, path: str) -> None:
    written = (Path(__file__).parents[2] / path).read_bytes()
    assert run(tmp_path, "docs", document).stdout == written, "run: make docs"


def test_example_of_env_file_holds_defaults(tmp_path: Path) -> None:
    example = run(tmp_path, "docs", "env-example").stdout.decode()
    lines = re.sub(r"^#([A-Z0-9_]+=.+)$", r"\1", example, flags=re.MULTILINE)
    (tmp_path / ".env").write_text(lines)
    done = run(tmp_path, "serve", "--version")
    assert done.returncode == 0
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused = run(tmp_path, "--port", str(taken.getsockname()[1]), "--voices-dir", "voices")
    assert b"cannot be listened on" in refused.stderr
    assert b"WARN" not in refused.stderr
