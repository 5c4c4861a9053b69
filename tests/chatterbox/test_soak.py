"""Everything at once for a while: nothing may be left over. ``SOAK_REQUESTS=20000`` makes it hours."""

from __future__ import annotations

import gc
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
from chatterbox_server._core import Audio, Cancel, Failed, Forget, Params
from chatterbox_server.engine import Command
from engine_helpers import convert, replace, speak
from tiny_engines import engine_of, enroll, voiced

MODELS = ("standard", "turbo", "multilingual", "nano")
REQUESTS = int(os.environ.get("SOAK_REQUESTS", "160"))
KEYS = tuple(f"{number:064x}" for number in range(6))
TEXTS = (
    "Hi.",
    "The quick brown fox.",
    "?!",
    "word " * 600,
    "[laugh] \u0000 日本 5",
    "Yes, and then they went home again.",
)
CLIP = voiced(1.5).astype("<f4").tobytes()


def commands(chance: random.Random) -> Iterator[Command]:
    """Requests of every kind, good and bad, with cancels in between."""
    for number in range(1, REQUESTS + 1):
        model, key = chance.choice(MODELS), chance.choice(KEYS)
        kind = chance.random()
        if kind < 0.06:
            yield enroll(number, key, model, seconds=chance.choice([0.3, 1.5, 4.0]), pitch=chance.uniform(80, 300))
        elif kind < 0.10:
            yield replace(convert(), id=number, model=model, pcm=CLIP, sample_rate=24_000)
        else:
            params = Params(
                temperature=chance.choice([None, 0.0, 1.3]),
                cfg_weight=chance.choice([None, 0.0, 1.0]),
                top_p=chance.choice([None, 0.7]),
                speed=chance.choice([1.0, 1.0, 1.0, 0.8, 5.0]),
            )
            yield speak(
                number,
                chance.choice(TEXTS),
                model=chance.choice([model] * 9 + ["absent"]),
                voice=chance.choice([None, None, None, key]),
                language=chance.choice([None, None, "en", "zh"]),
                stream=chance.random() < 0.7,
                seed=number,
                max_audio_seconds=chance.choice([0.2, 0.6, 1.0]),
                params=params,
            )
        if chance.random() < 0.15:
            yield Cancel(id=chance.randint(1, number))
        if chance.random() < 0.05:
            yield Forget(voice=key)


def resident() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


def test_soak_leaves_no_state(checkpoints: Callable[[str], Path], tmp_path: Path) -> None:
    root = {checkpoints(model).parent for model in MODELS}.pop()
    engine = engine_of(root, MODELS, voices_dir=tmp_path, watermark=True)
    chance = random.Random(11)
    alive: set[int] = set()
    outcomes: Counter[str] = Counter()
    halfway = 0
    stream = commands(chance)
    exhausted = False
    while not exhausted or not engine.idle:
        batch: list[Command] = []
        # Bursts, and now and then a chance to run empty.
        for _ in range(chance.choice([0, 0, 0, 1, 1, 3]) if len(alive) < 24 else 0):
            command = next(stream, None)
            exhausted = command is None
            if command is None:
                break
            batch.append(command)
            if isinstance(command, Cancel):
                alive.discard(command.id)
            elif not isinstance(command, Forget):
                alive.add(command.id)
                if command.id == REQUESTS // 2:
                    halfway = resident()
        for event in engine.step(batch):
            assert event.id in alive, f"{event} after the request's end"
            if isinstance(event, Audio):
                assert len(event.pcm) > 0
                continue
            alive.remove(event.id)
            outcomes[event.code if isinstance(event, Failed) else type(event).__name__] += 1
    assert not alive, "requests without an ending"
    assert outcomes["Done"] > REQUESTS // 4, outcomes
    assert {"Enrolled", "NOTHING_TO_SAY", "INVALID_PARAMETER", "VOICE_NOT_ENROLLED"} <= set(outcomes), outcomes
    assert "GENERATION_ERROR" not in outcomes, outcomes
    for model in MODELS:
        decoder = engine._runners[model]._parts.decoder  # type: ignore[attr-defined]
        assert decoder.idle
        assert decoder.slots_used == decoder.waiting == 0
    grown = resident() - halfway
    assert grown < 64 << 20, f"{grown / 2**20:.0f} MiB more after the second half"
