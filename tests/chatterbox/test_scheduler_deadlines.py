from __future__ import annotations

from chatterbox_server.chatterbox.scheduler import Deadline
from hypothesis import given
from hypothesis import strategies as st


def test_deadline_follows_played_audio() -> None:
    deadline = Deadline(100.5)
    deadline.add_audio(0.2, 100.1)
    assert deadline.at == 100.3
    deadline.add_audio(1.0, 100.2)
    assert deadline.at == 101.3


def test_deadline_includes_buffered_audio() -> None:
    deadline = Deadline(105.0, playing=True)
    deadline.add_audio(1.0, 100.0)
    assert deadline.at == 106.0


def test_late_audio_is_played_on_arrival() -> None:
    deadline = Deadline(100.5)
    deadline.add_audio(0.5, 103.0)
    assert deadline.at == 103.5
    deadline.add_audio(1.0, 110.0)
    assert deadline.at == 111.0


@given(st.lists(st.tuples(st.floats(0.01, 5.0), st.floats(0.0, 5.0)), min_size=1, max_size=30))
def test_played_audio_never_exceeds_sent(pieces: list[tuple[float, float]]) -> None:
    """Against a player that is asked step by step."""
    deadline, now, plays_until = Deadline(0.5), 0.0, 0.0
    for seconds, pause in pieces:
        now += pause
        deadline.add_audio(seconds, now)
        plays_until = max(plays_until, now) + seconds
        assert abs(deadline.at - plays_until) < 1e-9
        assert deadline.at > now
