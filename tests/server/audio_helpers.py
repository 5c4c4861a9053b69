"""Clips to upload, and answers as samples."""

from __future__ import annotations

import io
import json
from typing import Any

import httpx
import numpy as np
import soundfile
from numpy.typing import NDArray
from running_server import HTTP

Samples = NDArray[np.float64]

SAMPLE_RATES = (8000, 16_000, 22_050, 24_000, 44_100, 48_000)


def clip(hertz: float = 220.0, seconds: float = 1.5, rate: int = 16_000) -> bytes:
    """A WAV file with a sine: a voice that the server takes."""
    wave = 0.3 * np.sin(np.arange(round(seconds * rate)) * (2 * np.pi * hertz / rate))
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def read_wav(data: bytes) -> tuple[Samples, int]:
    """The samples of a WAV file and their rate, as another program reads them."""
    samples, rate = soundfile.read(io.BytesIO(data), dtype="float64")
    return samples, rate


def read_pcm(data: bytes, name: str) -> Samples:
    """The samples of bare PCM."""
    if name == "pcm_s16le":
        return np.frombuffer(data, "<i2").astype(np.float64) / 32768
    return np.frombuffer(data, "<f4").astype(np.float64)


def pitch(samples: Samples, rate: int) -> float:
    """The strongest frequency in hertz."""
    size = 1 << 17
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), size))
    return float(np.argmax(spectrum)) * rate / size


def speak(url: str, text: str = "Hello there.", /, **fields: Any) -> httpx.Response:
    """Asks for speech."""
    return HTTP.post(f"{url}/api/tts", json={"text": text, **fields})


def refusal(response: httpx.Response, status: int, code: str) -> str:
    """The sentence of an error, whose status, code, form and request id are as they must be."""
    body = json.loads(response.content)
    assert (response.status_code, body.get("code")) == (status, code), body
    field = "error" if response.url.path.startswith("/api/") else "detail"
    assert set(body) - {"field"} == {field, "code", "request_id"}
    assert body["request_id"] == response.headers["x-request-id"]
    assert response.headers["content-type"] == "application/json"
    sentence: str = body[field]
    assert sentence
    return sentence
