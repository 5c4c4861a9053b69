from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest
from chatterbox_server.chatterbox import reading
from chatterbox_server.chatterbox.reading import ReadingAhead
from chatterbox_server.model_runner import Progress


def quietly(what: str, done: int, total: int) -> None:
    """Ignores progress."""


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "read-ahead"]


def reading_of(paths: list[Path], progress: Progress) -> ReadingAhead:
    return ReadingAhead(packed=[], mapped=[], hashed=paths, progress=progress)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / name for name in ("first", "second", "third", "fourth")]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]) * (1000 + number))
    return paths


def test_fingerprint_covers_all_hashed_files(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BLOCK", 300)
    progress_calls: list[tuple[str, int, int]] = []
    first, second, *rest = paths
    with ReadingAhead(
        packed=[first], mapped=[second], hashed=rest, progress=lambda *progress: progress_calls.append(progress)
    ) as ahead:
        found = ahead.fingerprint()
    content = b"".join(path.read_bytes() for path in rest)
    assert found == hashlib.sha256(content).hexdigest()[:16]
    for path in paths:
        assert (f"reading {path.name}", path.stat().st_size, path.stat().st_size) in progress_calls
    assert readers() == []


def test_read_error_reaches_caller(paths: list[Path]) -> None:
    paths[1].unlink()
    with reading_of(paths, quietly) as ahead, pytest.raises(FileNotFoundError, match="second"):
        ahead.fingerprint()
    assert readers() == []


def test_interrupted_reader_gives_no_fingerprint(paths: list[Path]) -> None:
    def progress(what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with reading_of(paths, progress) as ahead, pytest.raises(KeyboardInterrupt):
        ahead.fingerprint()
    assert readers() == []


def test_stopped_reader_gives_no_fingerprint(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BLOCK", 10)
    begun, going = threading.Event(), threading.Event()

    def progress(what: str, done: int, total: int) -> None:
        begun.set()
        going.wait(10)

    ahead = reading_of(paths, progress)
    with ahead:
        assert begun.wait(10)
        threading.Timer(0.05, going.set).start()
    with pytest.raises(RuntimeError, match="to their ends"):
        ahead.fingerprint()


def test_reading_stops_when_loading_fails(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BLOCK", 10)
    begun, going = threading.Event(), threading.Event()
    progress_calls: list[int] = []

    def progress(what: str, done: int, total: int) -> None:
        progress_calls.append(done)
        begun.set()
        assert going.wait(30)

    class Broken(Exception):
        pass

    ahead = reading_of(paths, progress)

    def fail() -> None:
        with ahead:
            assert begun.wait(30)
            # It goes on when it is to stop, not before.
            threading.Timer(0.05, going.set).start()
            raise Broken

    with pytest.raises(Broken):
        fail()
    assert readers() == []
    assert len(progress_calls) < 50
