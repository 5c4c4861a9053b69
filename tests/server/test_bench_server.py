"""``chatterbox-server bench server``: the installed command measures an installed server. No time is judged."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest
from chatterbox_server.bench import server_command
from chatterbox_server.bench.load import Playback, Request, Sweep, percentile
from command_helpers import run
from PIL import Image
from running_server import Server

SHORT = ("--text", "A few words.", "--requests", "4")
REQUEST = Request(url="http://127.0.0.1:1", text="A.", model=None, voice=None, api_key=None, chunk_ms=100)


def test_levels_over_both_transports(fake: Server, tmp_path: Path) -> None:
    files = ("--json", "bench.json", "--plot", "bench.png")
    done = run(
        tmp_path, "bench", "server", "--url", fake.url, "--concurrency", "1,3", *SHORT, "--voice", "tone", *files
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "bench.json").read_text("utf-8"))
    assert results["voice"] == "tone"
    assert sorted(results["transports"]) == ["http", "ws"]
    for levels in results["transports"].values():
        assert [level["concurrency"] for level in levels] == [1, 3]
        assert [level["requests"] for level in levels] == [4, 6]
        for level in levels:
            assert level["errors"] == {}
            assert 0 < level["rtf"]["p50"] <= level["rtf"]["p95"]
            first = level["first_audio_seconds"]
            assert 0 < first["p50"] <= first["p95"] <= first["p99"]
            assert 0 <= level["late_chunks"] < level["chunks"]
            assert level["audio_seconds_per_second"] > 0 < level["requests_per_second"]
    table = done.stdout.decode()
    assert "BENCHMARK REPORT" in table
    assert "Voice ID: tone" in table
    assert table.count("Most streams in real time: ") == 2
    assert "RTF Mean |" in table
    with Image.open(tmp_path / "bench.png") as picture:
        assert picture.format == "PNG"
        picture.load()


def test_server_is_started_and_its_limit_found(tmp_path: Path) -> None:
    # Three times slower than speech: not even one is carried.
    serve = ("--serve", "--engine", "fake", "--fake-rtf", "3", "--voices-dir", str(tmp_path / "voices"))
    search = ("--find-max-concurrency", "--max-concurrency", "2", "--transports", "ws", "--json", "bench.json")
    done = run(tmp_path, "bench", "server", "--text", "Yes.", "--requests", "1", *search, *serve)
    assert done.returncode == 0, done.stderr
    (level,) = json.loads((tmp_path / "bench.json").read_text("utf-8"))["transports"]["ws"]
    assert level["carried"] is False
    assert level["errors"] == {}
    assert "Most streams in real time: none" in done.stdout.decode()


@pytest.mark.parametrize(("transport", "why"), [("ws", "voice"), ("http", "404")])
def test_unknown_voice_is_reported(fake: Server, tmp_path: Path, transport: str, why: str) -> None:
    wanted = ("--voice", "nobody.wav", "--transports", transport)
    done = run(tmp_path, "bench", "server", "--url", fake.url, *SHORT, *wanted)
    assert done.returncode == 1
    (said,) = re.findall(rf"a first request over {transport} failed \((.+)\)", done.stderr.decode())
    assert why in said.lower()


def test_unreachable_server_is_reported(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        done = run(tmp_path, "bench", "server", "--url", f"http://127.0.0.1:{unused.getsockname()[1]}", *SHORT)
    assert done.returncode == 1
    assert b"a first request over ws failed" in done.stderr


def test_failed_server_start_is_reported(tmp_path: Path) -> None:
    done = run(tmp_path, "bench", "server", *SHORT, "--serve", "--engine", "nothing")
    assert done.returncode == 1
    assert b"the server did not start" in done.stderr
    assert b"nothing" in done.stderr


def test_help_and_wrong_options(tmp_path: Path) -> None:
    for name in ("engine", "server"):
        finished = run(tmp_path, "bench", name, "--help")
        assert finished.returncode == 0, finished.stderr
        assert f"chatterbox-server bench {name}".encode() in finished.stdout
    assert run(tmp_path, "bench", "server", "--transports", "smoke").returncode == 2
    assert b"bench" in run(tmp_path, "--help").stdout


def test_chunk_is_late_when_player_underruns(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    playback = Playback(started=now[0])
    # When it comes, how long it is in seconds, and how many were late by then.
    for at, seconds, late in ((0.5, 0.1, 0), (0.6, 0.1, 0), (0.8, 0.1, 1), (0.81, 1.0, 1), (1.5, 0.1, 1)):
        now[0] = 100.0 + at
        playback.take(round(48_000 * seconds))
        assert playback.late == late, at
    now[0] = 102.8
    playback.end()
    assert playback.first_audio == pytest.approx(0.5)
    assert playback.real_time_factor == pytest.approx(2.8 / 1.4)
    silent = Playback(started=now[0])
    silent.end()
    assert silent.error == "no audio came"


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 5, 12, 37, 64])
def test_search_ends_at_limit(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async def level(_sweep: Sweep, concurrency: int) -> dict[str, Any]:
        return {"concurrency": concurrency, "carried": concurrency <= limit}

    monkeypatch.setattr(Sweep, "level", level)
    sweep = Sweep(request=REQUEST, transport="ws", requests=1, first_audio_limit=None, log=lambda what: None)
    levels = asyncio.run(sweep.search(64))
    carried = max((each["concurrency"] for each in levels if each["carried"]), default=0)
    assert limit - max(1, limit // 8) < carried <= limit or carried == limit == 0
    assert [each["concurrency"] for each in levels] == sorted({each["concurrency"] for each in levels})


def test_percentiles_are_observed_values() -> None:
    values = [5.0, 1.0, 3.0, 2.0, 4.0]
    assert [percentile(values, share) for share in (0.0, 0.5, 0.95, 1.0)] == [1.0, 3.0, 5.0, 5.0]
    assert percentile([], 0.5) is None


def test_search_tries_maximum(monkeypatch: pytest.MonkeyPatch) -> None:
    async def level(_sweep: Sweep, concurrency: int) -> dict[str, Any]:
        return {"concurrency": concurrency, "carried": True}

    monkeypatch.setattr(Sweep, "level", level)
    sweep = Sweep(request=REQUEST, transport="ws", requests=1, first_audio_limit=None, log=lambda what: None)
    levels = asyncio.run(sweep.search(100))
    assert [each["concurrency"] for each in levels] == [1, 2, 4, 8, 16, 32, 64, 100]


@pytest.mark.parametrize(
    ("variables", "key"),
    [
        ({}, None),
        ({"API_KEY": "one,two"}, "one"),
        ({"API_KEY": " ,", "API_TOKEN": "three"}, "three"),
        ({"API_TOKEN_FILE": "keys"}, "four"),
        ({"API_KEY_FILE": "there is none"}, None),
    ],
)
def test_benchmark_uses_configured_key(
    variables: dict[str, str], key: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "keys").write_text("four\nfive\n")
    monkeypatch.chdir(tmp_path)
    for name in ("API_KEY", "API_TOKEN", "API_KEY_FILE", "API_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    parser = argparse.ArgumentParser()
    server_command.add_options(parser)
    assert parser.parse_args([]).api_key == key
