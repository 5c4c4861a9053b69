from __future__ import annotations

import dataclasses

import pytest
from chatterbox_server import messages
from chatterbox_server.messages import Params, Speak
from engine_helpers import SPEAK, speak

CLASSES = [getattr(messages, name) for name in messages.__all__ if name not in ("Command", "Event")]


@pytest.mark.parametrize("message", CLASSES, ids=lambda message: message.__name__)
def test_messages_take_keywords_only(message: type) -> None:
    fields = dataclasses.fields(message)
    assert fields
    assert all(field.kw_only for field in fields)
    assert set(message.__slots__) == {field.name for field in fields}  # type: ignore[attr-defined]


def test_messages_do_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SPEAK.text = "other"  # type: ignore[misc]
    assert speak() == speak()


def test_only_what_most_leave_out_has_a_default() -> None:
    defaulted = [
        (message.__name__, field.name)
        for message in CLASSES
        for field in dataclasses.fields(message)
        if field.default is not dataclasses.MISSING
    ]
    assert sorted(defaulted) == [("Enroll", "portable"), ("Params", "speed")]


def test_a_missing_field_is_refused() -> None:
    with pytest.raises(TypeError, match="text"):
        Speak(id=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Params(1.0)  # type: ignore[call-arg]
