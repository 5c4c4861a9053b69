"""The engine: takes commands, steps each model's runner once, returns events.

It has no thread, queue, clock or socket of its own. The host calls ``step`` in a loop from one thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ._core import Audio, Cancel, Convert, Enroll, Failed, Forget, Model, Speak
from .model_runner import Event, ModelRunner, RequestError, failure

__all__ = ["Command", "Engine"]

Command = Speak | Convert | Cancel | Enroll | Forget


class Engine:
    """Routes commands to model runners and collects their events.

    ``device`` names what the models run on, ``models`` what is loaded.
    """

    def __init__(self, runners: Iterable[ModelRunner], *, device: str) -> None:
        self._runners = {runner.model.name: runner for runner in runners}
        self._owners: dict[int, ModelRunner] = {}
        self.device = device
        self.models: tuple[Model, ...] = tuple(runner.model for runner in self._runners.values())

    @property
    def runners(self) -> Mapping[str, ModelRunner]:
        """By the model's name."""
        return self._runners

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do until a command comes."""
        return all(runner.idle for runner in self._runners.values())

    @property
    def voice_cache_bytes(self) -> int:
        """Bytes held by enrolled voices, all models together."""
        return sum(runner.voice_cache_bytes for runner in self._runners.values())

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
                    for runner in self._runners.values():
                        runner.forget(command.voice)
        for runner in self._runners.values():
            if not runner.idle:
                events += self._step(runner)
        return events

    def close(self) -> None:
        """Drop every request and give memory back."""
        for request_id in list(self._owners):
            self._cancel(request_id)
        for runner in self._runners.values():
            runner.release_caches()

    def _runner(self, model: str) -> ModelRunner:
        runner = self._runners.get(model)
        if runner is None:
            loaded = ", ".join(self._runners)
            raise RequestError("INVALID_PARAMETER", f"{model!r} is not loaded; loaded: {loaded}.", field="model")
        return runner

    def _begin(self, command: Speak | Convert | Enroll) -> list[Event]:
        # The host could not distinguish two live requests of one id either: its bug, not a request's.
        if command.id in self._owners:
            raise ValueError(f"request id {command.id} is in use")
        runner: ModelRunner | None = None
        try:
            runner = self._runner(command.model)
            match command:
                case Speak():
                    runner.submit(command)
                case Convert():
                    runner.convert(command)
                case Enroll():
                    runner.enroll(command)
        except (RequestError, MemoryError) as error:
            return [_fail(command.id, error, runner)]
        self._owners[command.id] = runner
        return []

    def _cancel(self, request_id: int) -> None:
        runner = self._owners.pop(request_id, None)
        if runner is not None:
            runner.cancel(request_id)

    def _step(self, runner: ModelRunner) -> list[Event]:
        events: list[Event] = []
        try:
            stepped = runner.step()
        except MemoryError as error:
            # The batch failed as a whole, so none of its requests can go on.
            lost = [request_id for request_id, owner in self._owners.items() if owner is runner]
            for request_id in lost:
                self._cancel(request_id)
                events.append(failure(request_id, error))
            runner.release_caches()
            return events
        for event in stepped:
            if event.id not in self._owners:
                continue
            if not isinstance(event, Audio):
                del self._owners[event.id]
            events.append(event)
        return events


def _fail(request_id: int, error: RequestError | MemoryError, runner: ModelRunner | None) -> Failed:
    if runner is not None and isinstance(error, MemoryError):
        runner.release_caches()
    return failure(request_id, error)
