"""The engine: takes commands, lets each model's lane work for a moment, returns events.

It has no thread, queue, clock or socket of its own. The host calls ``step`` in a loop from one thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from .lane import Lane, Model, RequestError, failure
from .messages import Audio, Cancel, Command, Convert, Enroll, Event, Failed, Forget, Speak

__all__ = ["Engine"]


class Engine:
    """Routes commands to lanes by model and collects their events.

    ``device`` names what the models run on, ``models`` what is loaded.
    """

    def __init__(self, lanes: Iterable[Lane], *, device: str) -> None:
        self._lanes = {lane.model.name: lane for lane in lanes}
        self._owners: dict[int, Lane] = {}
        self.device = device
        self.models: tuple[Model, ...] = tuple(lane.model for lane in self._lanes.values())

    @property
    def lanes(self) -> Mapping[str, Lane]:
        """By the model's name."""
        return self._lanes

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do until a command comes."""
        return all(lane.idle for lane in self._lanes.values())

    @property
    def voice_cache_bytes(self) -> int:
        """Bytes held by enrolled voices, all models together."""
        return sum(lane.voice_cache_bytes for lane in self._lanes.values())

    def step(self, commands: Sequence[Command]) -> list[Event]:
        """Apply ``commands`` in order, then do one slice of work for every model that has any.

        An exception out of here leaves the engine in no known state: the process must end.
        """
        events: list[Event] = []
        for command in commands:
            match command:
                case Speak() | Convert() | Enroll():
                    events += self._begin(command)
                case Cancel():
                    self._cancel(command.id)
                    events = [event for event in events if event.id != command.id]
                case Forget():
                    for lane in self._lanes.values():
                        lane.forget(command.voice)
        for lane in self._lanes.values():
            if not lane.idle:
                events += self._step(lane)
        return events

    def close(self) -> None:
        """Drop every request and give memory back."""
        for request_id in list(self._owners):
            self._cancel(request_id)
        for lane in self._lanes.values():
            lane.release_caches()

    def _lane(self, model: str) -> Lane:
        lane = self._lanes.get(model)
        if lane is None:
            loaded = ", ".join(self._lanes)
            raise RequestError("INVALID_PARAMETER", f"model: {model!r} is not loaded; loaded: {loaded}.")
        return lane

    def _begin(self, command: Speak | Convert | Enroll) -> list[Event]:
        # Two live requests under one id could not be told apart by the host either: its bug, not a request's.
        if command.id in self._owners:
            raise ValueError(f"request id {command.id} is in use")
        lane: Lane | None = None
        try:
            lane = self._lane(command.model)
            match command:
                case Speak():
                    lane.submit(command)
                case Convert():
                    lane.convert(command)
                case Enroll():
                    lane.enroll(command)
        except (RequestError, MemoryError) as error:
            return [_fail(command.id, error, lane)]
        self._owners[command.id] = lane
        return []

    def _cancel(self, request_id: int) -> None:
        lane = self._owners.pop(request_id, None)
        if lane is not None:
            lane.cancel(request_id)

    def _step(self, lane: Lane) -> list[Event]:
        events: list[Event] = []
        try:
            stepped = lane.step()
        except MemoryError as error:
            # The batch failed as a whole, so none of its requests can go on.
            lost = [request_id for request_id, owner in self._owners.items() if owner is lane]
            for request_id in lost:
                self._cancel(request_id)
                events.append(failure(request_id, error))
            lane.release_caches()
            return events
        for event in stepped:
            if event.id not in self._owners:
                continue
            if not isinstance(event, Audio):
                del self._owners[event.id]
            events.append(event)
        return events


def _fail(request_id: int, error: RequestError | MemoryError, lane: Lane | None) -> Failed:
    if lane is not None and isinstance(error, MemoryError):
        lane.release_caches()
    return failure(request_id, error)
