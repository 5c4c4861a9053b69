"""Reads the line that ``chatterbox-server --announce json`` prints when it is ready."""

from __future__ import annotations

import json

__all__ = ["ANNOUNCE_JSON", "ready_url"]

ANNOUNCE_JSON = {"ANNOUNCE": "json"}
"""The environment variable that asks for the line."""


def ready_url(line: str) -> str | None:
    """The server's address, if ``line`` announces that it is ready."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    if isinstance(event, dict) and event.get("event") == "ready":
        return str(event["url"])
    return None
