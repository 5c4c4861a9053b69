"""Handles a job: checks it, has the server speak it, and streams its audio."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import time
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import httpx

from .job import JobError, SpeechJob, read_job
from .lengths import audio_seconds
from .process import Server, ServerDown

__all__ = ["Worker"]

_LOG = logging.getLogger(__name__)
# The server itself ends requests that take too long; one that does not is given up.
_TIMEOUT = httpx.Timeout(30, read=900)

Item = dict[str, Any]


class Worker:
    """Does jobs, any number at once."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def handle(self, job: Mapping[str, Any]) -> AsyncGenerator[Item, None]:
        """The handler that the SDK calls.

        Each piece of audio is an item of its own: ``index``, ``audio`` (base64; joined in order the pieces are the
        file), ``format``, ``content_type`` and ``sample_rate``. The last item has ``finished``, ``pieces``, ``format``,
        ``sample_rate``, ``model``, ``voice``, ``watermark`` and, unless the job does without, ``metrics``. A job that
        fails ends with ``error``, which the platform looks for, and ``code``.
        """
        name = str(job.get("id", ""))
        try:
            speech = read_job(job.get("input"))
            async with contextlib.aclosing(self._speak(speech, name)) as items:
                async for item in items:
                    yield item
        except JobError as error:
            yield {"error": str(error), "code": "INVALID_PARAMETER"}
        except _Refused as refused:
            yield {"error": str(refused), "code": refused.code}
        except ServerDown as error:
            yield {"error": str(error), "code": "SERVER_BUSY"}
        except (httpx.ConnectError, httpx.ConnectTimeout):
            yield {"error": "the server cannot be reached", "code": "SERVER_BUSY"}
        except httpx.HTTPError as error:
            # An answer that is cut off is the server's way to say that what was sent is not the whole.
            _LOG.error("job %s: %s: %s", name, type(error).__name__, error)
            yield {"error": "the server broke off before the audio was complete", "code": "GENERATION_ERROR"}

    async def _speak(self, speech: SpeechJob, name: str) -> AsyncGenerator[Item, None]:
        clock = _Clock()
        url = await self._server.url()
        # No proxy of the environment stands between the two, and certificates are read where they are looked at.
        async with (
            httpx.AsyncClient(trust_env=False, timeout=_TIMEOUT, verify=url.startswith("https:")) as client,
            client.stream("POST", f"{url}/tts", headers=self._headers(name), **_body(speech)) as answer,
        ):
            if answer.status_code != httpx.codes.OK:
                raise _Refused.from_answer(answer.status_code, await answer.aread())
            common = {"format": speech.format, "sample_rate": speech.sample_rate}
            kind = answer.headers.get("content-type", "")
            # As they come, and at most 64 KiB each: RunPod takes 1 MB at once.
            async for piece in answer.aiter_raw():
                audio = base64.b64encode(piece).decode("ascii")
                yield {"index": clock.add(piece), "audio": audio, "content_type": kind, **common}
        names = ("model", "voice", "watermark")
        last = {"finished": True, "pieces": clock.pieces, **common}
        last |= {header: answer.headers.get(f"x-{header}") for header in names}
        if speech.print_metrics:
            last["metrics"] = metrics = clock.metrics(speech)
            _LOG.info("job %s: %s", name, ", ".join(f"{metric} {value}" for metric, value in metrics.items()))
        yield last

    def _headers(self, name: str) -> dict[str, str]:
        """The job's id goes into the server's log."""
        headers = {"x-request-id": name} if name.isascii() and name.isprintable() else {}
        if self._server.key:
            headers["authorization"] = f"Bearer {self._server.key}"
        return headers


class _Refused(Exception):
    """The server's own error."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code

    @classmethod
    def from_answer(cls, status: int, body: bytes) -> _Refused:
        try:
            error = json.loads(body)
            message, code, field = str(error["detail"]), str(error["code"]), error.get("field")
        except (ValueError, KeyError, TypeError, AttributeError):
            # Something else than this server answers there.
            return cls(f"the server answered with status {status}", "GENERATION_ERROR")
        if field == "voice_file":
            # The only field that a job names otherwise and that is not checked before it is sent.
            message = f"reference_audio{message.removeprefix(field)}"
        return cls(message, code)


class _Clock:
    """A job's sent audio and its times."""

    def __init__(self) -> None:
        self.pieces = 0
        self._began = time.perf_counter()
        self._first_audio = 0.0
        self._audio = bytearray()

    def add(self, piece: bytes) -> int:
        """Takes a piece in; returns its index."""
        if not self.pieces:
            self._first_audio = time.perf_counter() - self._began
        self._audio += piece
        self.pieces += 1
        return self.pieces - 1

    def metrics(self, speech: SpeechJob) -> dict[str, float]:
        """Times in seconds and milliseconds, as the server's own answers name them."""
        took = time.perf_counter() - self._began
        length = audio_seconds(speech.format, speech.sample_rate, self._audio)
        return {
            "duration_seconds": round(length, 3),
            "generation_seconds": round(took, 3),
            "time_to_first_audio_ms": round(self._first_audio * 1000, 1),
            "rtf": round(took / length, 3) if length else 0.0,
        }


def _body(speech: SpeechJob) -> dict[str, Any]:
    """A clip that serves one request alone goes into a form."""
    if speech.clip is None:
        return {"json": speech.fields}
    # The server looks into the file, not at its name.
    clip = {"voice_file": ("reference", speech.clip)}
    return {"data": {name: str(value) for name, value in speech.fields.items()}, "files": clip}
