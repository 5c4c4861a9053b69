"""Asks of the voices in each dialect."""

from __future__ import annotations

from typing import Any

import httpx
from running_server import HTTP, Server


def post_file(
    server: Server, path: str, part: str, content: bytes, file_name: str = "v.wav", /, **texts: str
) -> httpx.Response:
    """Sends a form with a file."""
    return HTTP.post(server.url + path, files={part: (file_name, content)}, data=texts)


def get(server: Server, path: str) -> Any:
    """The JSON at a path that must be there."""
    return HTTP.get(server.url + path).raise_for_status().json()


def openai_refusal(response: httpx.Response, status: int, code: str) -> str:
    """The sentence of an error in OpenAI's shape."""
    body = response.json()
    assert (response.status_code, body["error"]["code"]) == (status, code), body
    assert set(body["error"]) == {"message", "type", "param", "code"}
    sentence: str = body["error"]["message"]
    return sentence
