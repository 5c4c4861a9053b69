"""Downloads, through the hub's real library, from a hub that serves this machine alone."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from chatterbox_server.chatterbox.checkpoint import CheckpointFiles, locate
from chatterbox_server.chatterbox.hub import REVISIONS, _reporter
from chatterbox_server.chatterbox.tensors import CheckpointError
from huggingface_hub import constants
from huggingface_hub.utils._xet_progress_reporting import XetDownloadProgressReporter
from test_checkpoint import FILES

SIZE, PART = 1 << 18, 1 << 14
"""Of a file, and of what the library moves at once, in bytes."""


class Hub(http.server.ThreadingHTTPServer):
    """Serves the files of all repositories.

    A ``status`` other than 200 refuses them with the hub's error ``code``; ``refused`` is a file that is not there.
    ``cut_once`` ends the next connection after so many bytes; ``sent`` counts those that went out.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[str] = []
        self.status = 200
        self.code = ""
        self.refused = ""
        self.sent = 0
        self.cut_once: int | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


def content(path: str) -> bytes:
    return hashlib.sha256(path.encode()).digest() * (SIZE // 32)


class Handler(http.server.BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is printed."""

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        if self.path.startswith("/api/"):  # the library's own business, once a day
            self.send_error(404)
            return
        self.server.requests.append(f"{self.command} {self.path}")
        status = 404 if self.server.refused and self.path.endswith(self.server.refused) else self.server.status
        if status != 200:
            self.send_response(status)
            self.send_header("X-Error-Code", self.server.code)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        repository, _, rest = self.path.lstrip("/").partition("/resolve/")
        assert rest.startswith(REVISIONS[repository] + "/")
        data = content(self.path)
        start = int((self.headers.get("Range") or "bytes=0-")[6:].partition("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", REVISIONS[repository])
        self.send_header("Content-Length", str(len(data) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if body:
            end, self.server.cut_once = self.server.cut_once, None
            self.server.sent += len(data[start:end])
            self.wfile.write(data[start:end])


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub() as hub:
        serving = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", PART)
        monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
        huggingface_hub.close_session()
        yield hub
        huggingface_hub.close_session()
        hub.shutdown()
        serving.join()


class Progress:
    """Keeps what was reported."""

    def __init__(self) -> None:
        self.reports: list[tuple[str, int, int]] = []

    def __call__(self, what: str, done: int, total: int) -> None:
        self.reports.append((what, done, total))


def get(model: str, progress: Progress | None = None, version: str = "v2") -> CheckpointFiles:
    return locate(model, model_path=None, multilingual_version=version, progress=progress or Progress())


@pytest.mark.parametrize("model", FILES)
def test_every_file_of_pinned_commit_is_fetched(hub: Hub, model: str) -> None:
    found = get(model)
    fetched = {request.rpartition("/")[2] for request in hub.requests if request.startswith("GET")}
    assert fetched == set(FILES[model])
    for path in (found.t3, found.s3gen, found.voice_encoder, found.conditionals):
        assert path is not None
        assert path.stat().st_size == SIZE
    assert found.t3.read_bytes() in {content(request.partition(" ")[2]) for request in hub.requests}


def test_multilingual_v3_has_t3_of_its_own(hub: Hub) -> None:
    assert get("multilingual", version="v3").t3.name == "t3_mtl23ls_v3.safetensors"
    assert not any("v2" in request.rpartition("/")[2] for request in hub.requests)


def test_progress_rises_to_size_of_each_file(hub: Hub) -> None:
    progress = Progress()
    get("standard", progress)
    reported = dict.fromkeys(what for what, _, _ in progress.reports)
    assert list(reported) == [f"downloading {name}" for name in FILES["standard"]]
    for what in reported:
        done = [done for each, done, _ in progress.reports if each == what]
        assert done == sorted(done)
        assert done[0] == 0
        assert done[-1] == SIZE
        assert {total for each, _, total in progress.reports if each == what} == {SIZE}


def test_present_files_are_not_requested(hub: Hub) -> None:
    first = get("standard")
    hub.requests.clear()
    progress = Progress()
    assert get("standard", progress) == first
    assert hub.requests == []
    assert progress.reports == []


def test_interrupted_download_is_resumed(hub: Hub) -> None:
    hub.cut_once = SIZE // 2
    progress = Progress()
    assert get("standard", progress).t3.read_bytes() == content(hub.requests[0].partition(" ")[2])
    assert hub.sent == len(FILES["standard"]) * SIZE
    done = [done for what, done, _ in progress.reports if "t3_cfg" in what]
    assert done == sorted(done)
    assert done[-1] == SIZE


def test_complete_files_are_kept_after_failure(hub: Hub) -> None:
    hub.refused = "s3gen.safetensors"
    with pytest.raises(CheckpointError, match=r"ResembleAI/chatterbox: s3gen\.safetensors cannot be downloaded"):
        get("standard")
    hub.requests.clear()
    hub.refused = ""
    get("standard")
    assert not any("t3_cfg" in request for request in hub.requests)


def test_cached_files_are_used_without_network(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    first = get("standard")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert get("standard") == first


def test_offline_error_names_missing_files_and_command(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError) as refused:
        get("turbo")
    said = str(refused.value)
    assert "ResembleAI/chatterbox-turbo: t3_turbo_v1.safetensors is not in the cache" in said
    assert "unset HF_HUB_OFFLINE" in said
    assert f"hf download ResembleAI/chatterbox-turbo {' '.join(sorted(FILES['turbo'], key=said.index))}" in said
    assert hub.requests == []


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (403, "GatedRepo", "agreed to its terms: do so at .*/ResembleAI/chatterbox-nano, and set HF_TOKEN"),
        (404, "RepoNotFound", "cannot be downloaded"),
        (404, "EntryNotFound", "cannot be downloaded"),
        (429, "", "cannot be downloaded"),
    ],
)
def test_hub_refusal_is_reported(hub: Hub, status: int, code: str, reason: str) -> None:
    hub.status, hub.code = status, code
    with pytest.raises(CheckpointError, match=f"ResembleAI/chatterbox-nano: t3_nano_v1.safetensors .*({reason})"):
        get("nano")


def test_unreachable_hub_is_reported(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:1/{repo_id}/resolve/{revision}/{filename}"
    )
    with pytest.raises(CheckpointError, match="the Hugging Face hub cannot be reached; check the network"):
        get("standard")


def test_unwritable_cache_is_reported(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder would be", encoding="utf-8")
    with pytest.raises(CheckpointError, match=rf"cannot be written to the cache {tmp_path}/cache"):
        get("standard")


def test_pins_are_commits() -> None:
    assert set(REVISIONS) == {f"ResembleAI/chatterbox{kind}" for kind in ("", "-turbo", "-nano", "-turbo-ONNX")}
    assert all(len(commit) == 40 and set(commit) <= set("0123456789abcdef") for commit in REVISIONS.values())


def test_xet_progress_counts_received_bytes() -> None:
    """The hub's other way of sending files writes them in large parts; the library's own reporter drives ours."""
    progress = Progress()
    reporter = XetDownloadProgressReporter(
        reconstruction_desc="", total=1_000, log_level=0, tqdm_class=_reporter("downloading weights", progress)
    )
    reports = [(0, 300), (0, 600), (800, 900), (1_000, 950)]
    with reporter:
        for written, received in reports:
            reporter.update_progress(
                SimpleNamespace(
                    total_bytes=1_000,
                    total_bytes_completed=written,
                    total_transfer_bytes_completed=received,
                    total_bytes_completion_rate=1.0,
                    total_transfer_bytes_completion_rate=None,
                )
            )
    done = [done for _, done, _ in progress.reports]
    assert done == sorted(done)
    assert {0, 300, 600, 900, 1_000} <= set(done)
    assert done[-1] == 1_000
    assert {(what, total) for what, _, total in progress.reports} == {("downloading weights", 1_000)}
