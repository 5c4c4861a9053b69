"""Times the engine by itself: reads texts (JSON, one a line) and writes the seconds to the first audio of each.

Started with the fields of ``LoadSettings`` as JSON. Each text is one utterance, spoken to its end.
"""

from __future__ import annotations

import json
import sys
import time

from chatterbox_server._core import Audio, Failed, LoadSettings, Speak
from chatterbox_server.engine import Engine
from chatterbox_server.loading import load


def first_audio(engine: Engine, number: int, text: str) -> float:
    """Seconds from submitting ``text`` to its first audio."""
    speak = Speak(
        id=number,
        model=engine.models[0].name,
        text=text,
        seed=number,
        max_audio_seconds=40.0,
        stream=True,
    )
    began = time.perf_counter()
    events = engine.step([speak])
    while not any(isinstance(event, Audio | Failed) for event in events):
        events = engine.step([])
    seconds = time.perf_counter() - began
    while not engine.idle:
        events += engine.step([])
    for event in events:
        if isinstance(event, Failed):
            sys.exit(f"{event.code}: {event.message}")
    return seconds


def main() -> None:
    engine = load(LoadSettings(**json.loads(sys.argv[1])))
    for number, line in enumerate(sys.stdin):
        print(first_audio(engine, number, json.loads(line)), flush=True)


if __name__ == "__main__":
    main()
