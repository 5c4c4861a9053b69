"""The command ``chatterbox-server runpod``."""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType

from .. import how_to_install
from ..interpreter import environment, interpreter
from .process import ChildServer, RunningServer, Server, ServerDown

__all__ = ["main"]

PROGRAM = "chatterbox-server runpod"
ABOUT = """Serve RunPod jobs: {"input": {"operation": "tts", "text": "…"}}.

Starts the server as a child on a free port of loopback (its settings are the environment's), waits until the models are
loaded, and takes jobs until SIGTERM; jobs that run then are finished. A server that dies is started again."""
EPILOG = """Other options are given to RunPod's SDK, which takes among others: --rp_serve_api (its local API, for a try
without the platform), --rp_api_host, --rp_api_port, --rp_log_level."""


def main(arguments: Sequence[str]) -> int:
    """Runs until it is stopped; returns the exit status."""
    try:
        given, rest = _parser().parse_known_args(list(arguments))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 2
    missing = [name for name in ("runpod", "httpx") if importlib.util.find_spec(name) is None]
    if missing:
        print(f"error: {' and '.join(missing)} cannot be imported; {how_to_install('runpod')}", file=sys.stderr)
        return 1
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    # A line for each request, which the server writes as well.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    _on_signals(_end)
    if given.server_url is not None:
        _work(RunningServer(given.server_url, given.api_key), given.concurrency, rest)
        return 0
    return _work_with_a_child(given, rest)


def _work_with_a_child(given: argparse.Namespace, rest: list[str]) -> int:
    if given.server_command:
        server = ChildServer(shlex.split(given.server_command))
    else:
        server = ChildServer([*interpreter(), "-m", "chatterbox_server"], environment())
    try:
        server.start()
        _work(server, given.concurrency, rest)
    except ServerDown as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        # Whoever sends another signal does not want to wait for what is still spoken.
        _on_signals(lambda *_: server.terminate())
        server.stop()
    return 0


def _on_signals(handler: Callable[[int, FrameType | None], None]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handler)


def _work(server: Server, concurrency: int, arguments: list[str]) -> None:
    """Takes jobs until the SDK is stopped."""
    if "RUNPOD_DEBUG_LEVEL" not in os.environ:
        # By itself, the SDK would write all audio into the log.
        os.environ.setdefault("RUNPOD_LOG_LEVEL", "INFO")
    import runpod

    from .handler import Worker

    # The SDK reads the command line by itself.
    sys.argv = [PROGRAM, *arguments]
    runpod.serverless.start(
        {
            "handler": Worker(server).handle,
            # The pieces are what /runsync and /status answer with as well.
            "return_aggregate_stream": True,
            "concurrency_modifier": lambda _: concurrency,
        }
    )


def _end(number: int, frame: FrameType | None) -> None:
    """Ends the process in order, where the SDK does not."""
    del frame
    raise SystemExit(0 if number == signal.SIGTERM else 130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description=ABOUT,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        # The SDK's options are not ours to guess at.
        allow_abbrev=False,
    )
    parser.add_argument(
        "--server-url",
        default=os.environ.get("CHATTERBOX_SERVER_URL"),
        type=_http_url,
        metavar="URL",
        help="speak with this server instead of starting one (environment: CHATTERBOX_SERVER_URL)",
    )
    keys = os.environ.get("API_KEY") or os.environ.get("API_TOKEN") or ""
    parser.add_argument(
        "--api-key",
        default=keys.partition(",")[0] or None,
        metavar="KEY",
        help="a key of that server (environment: the first in API_KEY, or in API_TOKEN)",
    )
    parser.add_argument(
        "--server-command",
        default=os.environ.get("CHATTERBOX_SERVER_COMMAND"),
        metavar="COMMAND",
        help="what starts the server, where it is installed apart from the SDK "
        "(environment: CHATTERBOX_SERVER_COMMAND; default: this installation)",
    )
    most = os.environ.get("MAX_CONCURRENT_REQUESTS") or os.environ.get("CONCURRENT_REQUESTS_PER_WORKER")
    parser.add_argument(
        "--concurrency",
        default=most or 3,
        type=_at_least_one,
        metavar="N",
        help="jobs taken at once (environment: MAX_CONCURRENT_REQUESTS, which the server reads too; default: 3)",
    )
    return parser


def _http_url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise ValueError(text)
    return text


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number
