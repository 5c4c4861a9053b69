from __future__ import annotations

import pytest
from chatterbox_server.chatterbox.speech_tokens import loop_start, token_limit


@pytest.mark.parametrize("period", [1, 2, 7, 25])
def test_five_second_loop_is_cut_after_first_round(period: int) -> None:
    speech = [1000 + index for index in range(60)]
    loop = [index % period for index in range(125)]
    assert loop_start([*speech, *loop]) == 60 + period
    assert loop_start([*speech, *loop[:-1]]) is None


def test_speech_with_pauses_is_not_loop() -> None:
    pause = [4299] * 49
    assert loop_start([*pause, 1, *pause]) is None
    assert loop_start(list(range(500))) is None
    assert loop_start([]) is None


def test_two_seconds_of_silence_end_speech() -> None:
    speech = list(range(1000, 1040))
    assert loop_start([*speech, *[4299] * 50]) == 41
    assert loop_start([*speech, *[4299] * 49]) is None


def test_cap_in_seconds_is_exact() -> None:
    assert token_limit("A sentence of some length.", 2.4) == 60
    assert token_limit("A sentence of some length.", 0.001) == 1


def test_text_and_upstream_limit_length() -> None:
    assert token_limit("Hi.", 120.0) < 300
    assert token_limit("x" * 300, 120.0) == 1000
    assert token_limit("x" * 300, float("inf")) == 1000
