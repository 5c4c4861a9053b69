"""Clients that send or read as slowly as they can: bounded in memory, and cut off."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator

import httpx
import psutil
import pytest
from audio_helpers import clip, refusal, speak
from faults_helpers import upload, wait_until
from running_server import HTTP, Server, StartServer, running

FAKE = ("--engine", "fake", "--fake-rtf", "0")
RUNNING = "chatterbox_requests_running"
STALLED = 'chatterbox_requests_total{route="/api/tts",model="fake",outcome="stalled"}'
MEGABYTE = 1024 * 1024
PATIENCE = 15.0
"""Seconds after which something does not happen any more."""


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server without patience."""
    limits = ("--header-timeout", "0.5", "--body-timeout", "0.5", "--stall-timeout", "1", "--drain-timeout", "5")
    with running(tmp_path_factory.mktemp("hasty"), *FAKE, *limits) as one:
        yield one


def connect(server: Server, buffer: int | None = None) -> socket.socket:
    """A bare connection, with a small buffer for what is received if that is asked for."""
    client = socket.socket()
    if buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    client.settimeout(PATIENCE)
    client.connect(("127.0.0.1", server.port))
    return client


def request(stream: bool) -> bytes:
    """Asks for five minutes of audio, more than sockets buffer."""
    audio = {"format": "pcm_f32le", "sample_rate": 48_000}
    body = json.dumps({"text": "word " * 999, "audio": audio, "stream": stream}).encode()
    return b"POST /api/tts HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def rest(client: socket.socket) -> bytes:
    """Everything until the server closes; a reset is an end too."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while data := client.recv(65_536):
            received += data
    return received


def wait_closed(server: Server, client: socket.socket) -> None:
    """Waits until the server has no connection to this client any more, though the client reads nothing."""
    process, port = psutil.Process(server.process.pid), client.getsockname()[1]
    deadline = time.monotonic() + PATIENCE
    while any(connection.raddr and connection.raddr.port == port for connection in process.net_connections("tcp")):
        assert time.monotonic() < deadline, "the connection is still held"
        time.sleep(0.05)


@pytest.mark.parametrize("rate", [0, 1], ids=["reads nothing", "reads a byte now and then"])
def test_stalled_reader_releases_memory_slot_and_connection(hasty: Server, rate: int) -> None:
    process = psutil.Process(hasty.process.pid)
    speak(hasty.url)
    stalled, before = hasty.metrics().get(STALLED, 0), process.memory_info().rss
    with connect(hasty, 4096) as client:
        client.sendall(request(stream=True))
        assert client.recv(12) == b"HTTP/1.1 200"
        most = 0
        deadline = time.monotonic() + PATIENCE
        while (metrics := hasty.metrics()).get(STALLED, 0) == stalled:
            assert time.monotonic() < deadline, "never counted as stalled"
            most = max(most, process.memory_info().rss)
            client.recv(rate)
            time.sleep(0.05)
        assert metrics[RUNNING] == 0
        # The whole answer would be 58 MB.
        assert most - before < 25 * MEGABYTE
        wait_closed(hasty, client)
        assert len(rest(client)) < 40 * MEGABYTE
    assert speak(hasty.url).status_code == 200


def test_stalled_reader_of_whole_answer_is_cut_off(hasty: Server) -> None:
    with connect(hasty, 4096) as client:
        client.sendall(request(stream=False))
        assert client.recv(12) == b"HTTP/1.1 200"
        wait_closed(hasty, client)
    assert hasty.metrics()[RUNNING] == 0


def test_slow_reader_gets_everything(server: StartServer) -> None:
    one = server(*FAKE, "--stall-timeout", "5")
    with connect(one) as client:
        client.sendall(request(stream=True).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
        received = 0
        while data := client.recv(MEGABYTE):
            received += len(data)
            time.sleep(0.002)
    assert received > 299 * 48_000 * 4
    one.wait_metric('chatterbox_requests_total{route="/api/tts",model="fake",outcome="ok"}', 1)


@pytest.mark.parametrize(
    "sent", [b"", b"P", b"PRI * HTTP/2.0\r\n", b"G", b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Slow: "]
)
def test_missing_headers_close_connection(hasty: Server, sent: bytes) -> None:
    with connect(hasty) as client:
        client.sendall(sent)
        assert HTTP.get(f"{hasty.url}/livez").status_code == 200
        assert b" 200 " not in rest(client)


def test_trickled_headers_close_connection(hasty: Server) -> None:
    with connect(hasty) as client:
        deadline = time.monotonic() + PATIENCE
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while time.monotonic() < deadline:
                client.sendall(b"X")
                time.sleep(0.05)
        assert time.monotonic() < deadline


def test_idle_connection_is_closed(hasty: Server) -> None:
    with connect(hasty) as client:
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert rest(client).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "header", [b"X-Big: " + b"x" * 300_000, b"\r\n".join(b"X-%d: x" % number for number in range(1000))]
)
def test_huge_headers_are_refused(hasty: Server, header: bytes) -> None:
    with connect(hasty) as client:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n" + header + b"\r\n\r\n")
        answer = rest(client)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 431")
    assert HTTP.get(f"{hasty.url}/livez").status_code == 200


@pytest.mark.parametrize("path", ["/api/tts", "/api/voice/default", "/api/voices/upload"])
def test_missing_body_times_out(hasty: Server, path: str) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
    kind = "multipart/form-data; boundary=X" if path.endswith("upload") else "application/json"
    head += f"Content-Type: {kind}\r\n\r\n--X\r\n"
    with connect(hasty) as client:
        client.sendall(head.encode())
        answer = rest(client)
    assert answer.split(b" ")[1] in (b"400", b"408")
    body = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert set(body) == {"error", "code", "request_id"}


TRICKLING = 24
"""More than may be decoded, and than may be converted, at once."""
UPLOADS = [("/api/voices/upload", "file"), ("/api/vc", "file"), ("/voices/register", "voice_file")]


def test_slow_bodies_do_not_block_others(server: StartServer) -> None:
    one = server(*FAKE)
    with contextlib.ExitStack() as stack:
        for number in range(TRICKLING):
            path, part = UPLOADS[number % len(UPLOADS)]
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=X\r\n"
            body = f'--X\r\nContent-Disposition: form-data; name="{part}"; filename="a.wav"\r\n\r\nRIFF'
            client = stack.enter_context(connect(one))
            client.sendall(f"{head}Content-Length: 1000000\r\n\r\n{body}".encode())
        # Far less than the time that a body may take.
        with httpx.Client(timeout=30, trust_env=False) as client_of_others:
            for path, part in UPLOADS:
                answer = client_of_others.post(one.url + path, files={part: ("mine.wav", clip(1))})
                assert answer.status_code == 200, answer.text
            assert client_of_others.get(f"{one.url}/api/voices/mine/preview").status_code == 200


def test_memory_for_bodies_is_bounded(server: StartServer) -> None:
    limit = 16 * MEGABYTE
    one = server(*FAKE, env={"MAX_VOICE_FILE_SIZE": str(limit)})
    head = (
        "POST /api/voices/upload HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=X\r\n"
        f"Content-Length: {limit}\r\n\r\n"
        '--X\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    )
    almost_all = head.encode() + bytes(limit - 1000)
    before = psutil.Process(one.process.pid).memory_info().rss
    with contextlib.ExitStack() as stack:
        # Eight take all of the memory; whoever comes then is asked to come again, and perhaps the eighth was.
        for _ in range(40):
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                stack.enter_context(connect(one)).sendall(almost_all)
            if (refused := upload(one, "mine.wav", clip(1))).status_code != 200:
                break
        refusal(refused, 503, "SERVER_BUSY")
        assert refused.headers["retry-after"] == "1"
        # Buffers grow by doubling, so eight bodies may hold twice their size. Forty would hold 40 times the limit.
        assert psutil.Process(one.process.pid).memory_info().rss - before < 16 * limit
    wait_until(lambda: upload(one, "mine.wav", clip(1)).status_code == 200, "memory for bodies")


def test_truncated_body_is_refused(hasty: Server) -> None:
    with connect(hasty) as client:
        client.sendall(b'POST /api/tts HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{"text": "Hi."}')
        client.shutdown(socket.SHUT_WR)
        assert b" 200 " not in rest(client)
    refusal(HTTP.post(f"{hasty.url}/api/tts", content=b""), 400, "INVALID_JSON")
