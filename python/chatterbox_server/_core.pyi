"""The compiled host."""

from .lane import Model
from .messages import Command, Event

__version__: str

def main(argv: list[str]) -> int:
    """Parse ``argv`` (the program's name first) and serve until stopped; returns the exit status."""

def log(level: int, target: str, message: str) -> None:
    """Write a record to the host's log; ``level`` is one of ``logging``'s."""

def read_event(event: Event) -> tuple[object, ...]:
    """The parts of an event as the host reads them, its class's name first; for tests."""

def read_model(model: Model) -> tuple[object, ...]:
    """The parts of a model's description as the host reads them; for tests."""

def sample_commands() -> list[Command]:
    """One command of each kind as the host builds them; for tests."""
