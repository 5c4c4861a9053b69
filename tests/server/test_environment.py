"""Options: flags, environment variables and ``.env``, which of them wins, and what is said of a wrong one."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from audio_helpers import clip, read_wav, refusal, speak
from running_server import COMMAND, HTTP, Server, StartServer, clean_environment

FAKE = ("--engine", "fake", "--fake-rtf", "0")
# fmt: off
VARIABLES = {
    "HOST", "PORT", "API_KEY", "API_TOKEN", "API_KEY_FILE", "API_TOKEN_FILE", "CORS_ORIGINS", "ALLOWED_HOSTS",
    "MAX_CONNECTIONS",
    "MAX_CONCURRENT_REQUESTS", "MAX_QUEUE", "MAX_TEXT_LENGTH", "REQUEST_TIMEOUT", "STALL_TIMEOUT",
    "ENGINE_STALL_TIMEOUT", "DRAIN_TIMEOUT", "HEADER_TIMEOUT", "BODY_TIMEOUT", "MAX_WS_CONNECTIONS",
    "MAX_WS_CONNECTIONS_PER_CLIENT", "MAX_SAYS_PER_CONNECTION", "WS_PING_INTERVAL", "WS_IDLE_TIMEOUT", "ENGINE",
    "DEVICE", "LOAD_STANDARD", "LOAD_TURBO", "LOAD_MULTILINGUAL", "LOAD_LITE", "DEFAULT_MODEL", "HF_HOME",
    "ENGINE_THREADS", "TTS_TEXT_PROCESSING_CHUNK_SIZE", "FAKE_RTF", "FAKE_CHUNK_MS", "FAKE_LOAD_SECONDS",
    "VOICES_DIR", "PRELOADED_VOICES_DIR", "DEFAULT_VOICE", "MAX_VOICE_FILE_SIZE", "VOICE_CACHE", "RUST_LOG",
    "LOG_LEVEL", "LOG_FORMAT", "LOAD_NANO", "MULTILINGUAL_VERSION", "MODEL_PATH", "MODEL_DTYPE", "WATERMARK",
    "ENGINE_SLOTS", "VOICE_CACHE_MB", "MAX_CONVERT_SECONDS", "TTS_AUDIO_TOKENS_PER_SLICE", "TTS_CONTEXT_WINDOW",
    "TTS_CHUNK_OVERLAP_STRATEGY", "TTS_CROSSFADE_DURATION_MILLISECONDS", "TTS_REMOVE_LEADING_MILLISECONDS",
    "TTS_REMOVE_TRAILING_MILLISECONDS", "BACKEND", "PROFILE", "S3GEN_DTYPE", "S3GEN_DECODER", "S3GEN_STEPS",
    "S3GEN_PROMPT_SECONDS", "CONCURRENT_REQUESTS_PER_WORKER", "DEBUG", "PUBLIC_LISTINGS",
    "TTS_VOICE_EXAGGERATION_FACTOR", "TTS_CFG_GUIDANCE_WEIGHT", "TTS_SYNTHESIS_TEMPERATURE",
    "TTS_SPEECH_TOKEN_QUEUE_MAX_SIZE", "TTS_PCM_CHUNK_QUEUE_MAX_SIZE",
}
# fmt: on
KEYS = {"API_KEY", "API_TOKEN", "API_KEY_FILE", "API_TOKEN_FILE"}
WRONG = {
    **dict.fromkeys(("PORT", "MAX_CONNECTIONS", "MAX_CONCURRENT_REQUESTS", "MAX_QUEUE", "MAX_TEXT_LENGTH"), "-1"),
    **dict.fromkeys(("MAX_WS_CONNECTIONS", "MAX_WS_CONNECTIONS_PER_CLIENT", "MAX_SAYS_PER_CONNECTION"), "0"),
    **dict.fromkeys(("REQUEST_TIMEOUT", "STALL_TIMEOUT", "ENGINE_STALL_TIMEOUT", "DRAIN_TIMEOUT"), "NaN"),
    **dict.fromkeys(("HEADER_TIMEOUT", "BODY_TIMEOUT", "WS_PING_INTERVAL", "WS_IDLE_TIMEOUT"), "0"),
    **dict.fromkeys(("ENGINE", "DEVICE", "VOICE_CACHE", "LOG_FORMAT", "LOG_LEVEL"), "blue"),
    **dict.fromkeys(("LOAD_STANDARD", "LOAD_TURBO", "LOAD_MULTILINGUAL", "LOAD_LITE"), "maybe"),
    **dict.fromkeys(("FAKE_RTF", "FAKE_LOAD_SECONDS"), "-0.5"),
    **dict.fromkeys(("LOAD_NANO", "WATERMARK"), "maybe"),
    **dict.fromkeys(("MULTILINGUAL_VERSION", "MODEL_DTYPE", "TTS_CHUNK_OVERLAP_STRATEGY"), "blue"),
    **dict.fromkeys(("ENGINE_SLOTS", "VOICE_CACHE_MB", "MAX_CONVERT_SECONDS", "TTS_AUDIO_TOKENS_PER_SLICE"), "0"),
    **dict.fromkeys(("TTS_CONTEXT_WINDOW", "TTS_CROSSFADE_DURATION_MILLISECONDS"), "1001"),
    **dict.fromkeys(("TTS_REMOVE_LEADING_MILLISECONDS", "TTS_REMOVE_TRAILING_MILLISECONDS"), "10001"),
    **dict.fromkeys(("BACKEND", "PROFILE", "S3GEN_DTYPE", "S3GEN_DECODER"), "blue"),
    **dict.fromkeys(("S3GEN_STEPS", "S3GEN_PROMPT_SECONDS"), "0"),
    **dict.fromkeys(("CONCURRENT_REQUESTS_PER_WORKER", "TTS_SPEECH_TOKEN_QUEUE_MAX_SIZE"), "0"),
    "PUBLIC_LISTINGS": "maybe",
    **dict.fromkeys(("TTS_VOICE_EXAGGERATION_FACTOR", "TTS_SYNTHESIS_TEMPERATURE"), "2.1"),
    "TTS_CFG_GUIDANCE_WEIGHT": "1.1",
    "TTS_PCM_CHUNK_QUEUE_MAX_SIZE": "257",
    "ENGINE_THREADS": "0",
    "TTS_TEXT_PROCESSING_CHUNK_SIZE": "5",
    "FAKE_CHUNK_MS": "fast",
    "MAX_VOICE_FILE_SIZE": "50MB",
    "RUST_LOG": "chatterbox_server=blue",
}


def run(
    *args: str, env: Mapping[str, str] | None = None, folder: Path | None = None, seconds: float = 60
) -> subprocess.CompletedProcess[str]:
    """Runs the command to its end, which must come in so many seconds."""
    environment, command = clean_environment(env or {}), [str(COMMAND), *args]
    return subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=seconds, check=False
    )


@pytest.fixture(scope="module")
def options() -> dict[str, str]:
    """Each variable that ``--help-all`` names, and the text of its option."""
    shown = run("--help-all")
    assert shown.returncode == 0
    parts = re.split(r"\n +(?=(?:-\w, )?--)", shown.stdout)
    named = [(re.search(r"\[env: (\w+)", part), part) for part in parts]
    return {found[1]: part for found, part in named if found}


def test_help_documents_every_option_with_its_variable(options: dict[str, str]) -> None:
    assert set(options) >= VARIABLES
    for name, text in options.items():
        described = text.partition("[env:")[0].split("\n", 1)[1].strip()
        assert len(described) > 10, name


def test_default_port_is_8081(server: StartServer, options: dict[str, str]) -> None:
    assert "[default: 8081]" in options["PORT"]
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    assert server(*FAKE, env={"PORT": str(port)}).port == port


def test_help_shows_no_key() -> None:
    assert "canary" not in run("--help-all", env={"API_KEY": "canary", "API_TOKEN": "canary"}).stdout


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """Status and words of a start with each wrong value."""
    folder = tmp_path_factory.mktemp("refused")

    def start(name: str) -> tuple[int, str]:
        try:
            done = run(*(() if name == "PORT" else ("--port", "0")), env={name: WRONG[name]}, folder=folder, seconds=10)
        except subprocess.TimeoutExpired:
            return 0, "it serves"
        return done.returncode, done.stderr

    with ThreadPoolExecutor(4) as pool:
        return dict(zip(WRONG, pool.map(start, WRONG), strict=True))


@pytest.mark.parametrize("name", WRONG)
def test_wrong_value_ends_with_status_2_and_is_named(refused: dict[str, tuple[int, str]], name: str) -> None:
    status, words = refused[name]
    assert status == 2, words
    assert name in words, "the variable is not named"
    assert WRONG[name] in words or name == "RUST_LOG"
    assert "Traceback" not in words


def test_unknown_flag_ends_with_status_2() -> None:
    wrong = run("--colour", "blue")
    assert wrong.returncode == 2
    assert "--colour" in wrong.stderr


def test_flag_overrides_environment_overrides_file(server: StartServer, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MAX_TEXT_LENGTH=10\nMAX_QUEUE=7\nMAX_CONCURRENT_REQUESTS=11\nFAKE_RTF='0'\n# no\n")
    env = {"ENGINE": "fake", "MAX_TEXT_LENGTH": "20", "MAX_CONCURRENT_REQUESTS": "12"}
    one = server("--max-text-length", "30", env=env, folder=tmp_path)
    assert speak(one.url, "x" * 30).status_code == 200
    assert "30" in refusal(speak(one.url, "x" * 31), 400, "TEXT_TOO_LONG")
    assert one.metrics()["chatterbox_slots"] == 12
    two = server("--port", "0", env={"ENGINE": "fake"}, folder=tmp_path)
    assert "10" in refusal(speak(two.url, "x" * 31), 400, "TEXT_TOO_LONG")
    assert two.metrics()["chatterbox_slots"] == 11


def test_empty_variable_counts_as_unset(server: StartServer) -> None:
    empty = dict.fromkeys(VARIABLES - KEYS - {"VOICES_DIR", "ENGINE"}, "")
    one = server(env={**empty, "ENGINE": "fake"})
    assert speak(one.url).status_code == 200
    assert HTTP.get(f"{one.url}/api/voices").status_code == 200
    assert one.metrics()["chatterbox_slots"] == 3


def status_with_key(one: Server, key: str) -> int:
    return HTTP.get(f"{one.url}/v1/models", headers={"x-api-key": key}).status_code


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("API_KEY=$ecretToken99", "$ecretToken99"),
        ("API_KEY=pa$word1", "pa$word1"),
        ('API_KEY="${HOME}"', "${HOME}"),
        ("export API_KEY = 'a # b' # comment", "a # b"),
        ("API_KEY=a#b # comment", "a#b"),
    ],
)
def test_env_file_values_are_literal(server: StartServer, tmp_path: Path, line: str, key: str) -> None:
    (tmp_path / ".env").write_text(f"\ufeffHOST=127.0.0.1\r\n{line}\r\n")
    one = server(*FAKE, folder=tmp_path)
    assert status_with_key(one, key) == 200
    assert status_with_key(one, "other") == 401


@pytest.mark.parametrize("value", ["", " ", '""', ","])
@pytest.mark.parametrize("name", sorted(KEYS))
def test_empty_key_setting_refuses_to_start(server: StartServer, name: str, value: str) -> None:
    one = server(*FAKE, env={name: value}, wait=False)
    assert one.wait_exit() == 1
    assert name in one.log()


def test_empty_key_in_env_file_refuses_to_start(server: StartServer, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("API_KEY= # later\n")
    one = server(*FAKE, folder=tmp_path, wait=False)
    assert one.wait_exit() == 1
    assert "API_KEY is set, but there is no key in it" in one.log()


def test_empty_keys_and_server_settings_do_not_stop_other_commands(tmp_path: Path) -> None:
    env = {"API_KEY": "", "PORT": "no number", "VOICES_DIR": str(tmp_path)}
    assert run("voice", "list", env=env, folder=tmp_path).returncode == 0


def test_misspelt_name_in_env_file_is_warning(server: StartServer, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("API_KYE=secret\nVOICE_DIR=x\nOPENAI_API_KEY=other\nPUBLISH=8081\nHF_TOKEN=x\n")
    log = server(*FAKE, folder=tmp_path).log()
    assert "WARN" in log
    assert "API_KYE is not a setting; API_KEY is" in log
    assert "VOICE_DIR is not a setting; VOICES_DIR is" in log
    assert log.count("is not a setting") == 2
    assert "secret" not in log


@pytest.mark.parametrize("quote", ['"', "'"])
def test_quotes_around_values_of_environment_are_stripped(server: StartServer, tmp_path: Path, quote: str) -> None:
    def quoted(value: str) -> str:
        return f"{quote}{value}{quote}"

    env = {"API_KEY": quoted("secret"), "API_TOKEN": f"{quoted('one')},two"}
    one = server(*FAKE, env={**env, "VOICES_DIR": quoted(str(tmp_path / "quoted"))})
    assert [status_with_key(one, key) for key in ("secret", "one", "two", quoted("secret"))] == [200, 200, 200, 401]
    assert (tmp_path / "quoted").is_dir()
    for name in ("API_KEY", "API_TOKEN", "VOICES_DIR"):
        assert f"{name} is used without the quotes" in one.log()
    assert "secret" not in one.log()


@pytest.mark.parametrize(
    "env",
    [
        {"DEBUG": "*"},
        {"DEBUG": "express:*"},
        {"DEBUG": "release"},
        {"LOG_LEVEL": "info "},
        {"LOG_LEVEL": "WARNING"},
        {"LOG_LEVEL": "verbose"},
        {"LOG_FORMAT": "JSON"},
        {"DEVICE": "CPU"},
        {"BACKEND": "Auto"},
        {"PORT": "tcp://10.0.0.1:8081"},
        {"MAX_QUEUE": " 7 "},
        {"PUBLIC_LISTINGS": "TRUE "},
    ],
)
def test_foreign_and_misspelt_variables_are_tolerated(tmp_path: Path, env: dict[str, str]) -> None:
    # A port that is taken: the start goes as far as it can without serving.
    with socket.create_server(("127.0.0.1", 0 if "PORT" not in env else 8081)) as taken:
        port = () if "PORT" in env else ("--port", str(taken.getsockname()[1]))
        done = run(*FAKE, *port, env={"VOICES_DIR": str(tmp_path), **env}, folder=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "cannot be listened on" in done.stderr
    for name in set(env) & {"DEBUG", "PORT"}:
        assert f"{name} is ignored" in done.stderr


def test_empty_variables_of_other_programs_are_kept(server: StartServer, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(LIBRARY)
    one = server(*FAKE, env={"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(tmp_path)})
    assert one.stop() == 0
    assert "CUDA_VISIBLE_DEVICES is empty" in one.log()


LIBRARY = """
import atexit, ctypes, sys

getenv = ctypes.CDLL(None).getenv
getenv.restype = ctypes.c_char_p
value = lambda: {b"": "empty", None: "lost"}[getenv(b"CUDA_VISIBLE_DEVICES")]
atexit.register(lambda: print("CUDA_VISIBLE_DEVICES is", value(), file=sys.stderr))
"""
"""Looks at the process's own environment, as a driver does."""


def test_absent_device_is_refused_for_any_model(server: StartServer) -> None:
    one = server("--device", "mps", wait=False)
    assert one.wait_exit() == 1
    assert "DEVICE: mps" in one.log()


def test_taken_port_has_advice(server: StartServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        one = server(*FAKE, "--port", str(taken.getsockname()[1]), wait=False)
        assert one.wait_exit() == 1
    assert "try --port 0" in one.log()


def test_broken_env_file_ends_with_status_2(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("THIS IS = 'not closed\n")
    broken = run("--version", folder=tmp_path)
    assert broken.returncode == 2
    assert ".env" in broken.stderr


def test_step_and_chunk_lengths_are_configurable(server: StartServer) -> None:
    one = server(env={"ENGINE": "fake", "FAKE_RTF": "0", "FAKE_CHUNK_MS": "50", "TTS_TEXT_PROCESSING_CHUNK_SIZE": "20"})
    text = "Here is one. Here is two."
    samples, rate = read_wav(speak(one.url, text).content)
    one.wait_metric("chatterbox_requests_running", 0)
    # Two utterances with a pause between them.
    assert len(samples) / rate == pytest.approx(24 * 0.06 + 0.35, abs=0.1)
    assert one.metrics()["chatterbox_inter_chunk_seconds_count"] == 2 * 15 - 1


def test_voices_come_from_both_folders_and_default_can_be_given(server: StartServer, tmp_path: Path) -> None:
    preloaded = tmp_path / "preloaded"
    preloaded.mkdir()
    (preloaded / "house.wav").write_bytes(clip())
    env = {"PRELOADED_VOICES_DIR": str(preloaded), "DEFAULT_VOICE": "house.wav", "VOICE_CACHE": "lazy"}
    one = server(*FAKE, env=env)
    assert [voice["id"] for voice in HTTP.get(f"{one.url}/api/voices").json()["voices"]] == ["house.wav"]
    assert one.metrics()["chatterbox_voice_cache_bytes"] == 0
    assert speak(one.url).headers["x-voice"] == "house.wav"
    answer = HTTP.post(f"{one.url}/api/voices/upload", files={"file": ("house.wav", clip(300))})
    refusal(answer, 403, "VOICE_READ_ONLY")
    assert (preloaded / "house.wav").read_bytes() == clip()


def test_default_model_can_be_given(server: StartServer) -> None:
    one = server(*FAKE, env={"DEFAULT_MODEL": "lite"})
    assert "DEFAULT_MODEL is lite, which is not loaded" in one.log()
    assert "loaded are fake" in one.log()
    message = refusal(speak(one.url), 404, "MODEL_NOT_LOADED")
    assert "loaded are fake; --load-lite (LOAD_LITE=true) loads it" in message
    assert speak(one.url, model="fake").status_code == 200
