"""Fetches checkpoint files from the Hugging Face hub into its cache, or finds them there."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from ..model_runner import Progress
from .tensors import CheckpointError

__all__ = ["REVISIONS", "command", "fetch"]

REVISIONS = {
    "ResembleAI/chatterbox": "5bb1f6ee58e50c3b8d408bc82a6d3740c2db6e18",
    "ResembleAI/chatterbox-turbo": "749d1c1a46eb10492095d68fbcf55691ccf137cd",
    "ResembleAI/chatterbox-turbo-ONNX": "d21799bd0354adb85e348b8a0442a8405110a2cf",
    "ResembleAI/chatterbox-nano": "71ccd1d0081b430592cea481f4307e764e07bc64",
}
"""The commit of each repository that is used: weights change with a release of this server, and not by themselves.

A commit also makes a warm start free of requests: what is in the cache under it needs no look at the hub.
"""


def fetch(repository: str, names: Sequence[str], progress: Progress) -> dict[str, Path]:
    """The files ``names`` of ``repository`` in the hub's local cache, downloaded if they are not there.

    A connection that breaks is taken up where it broke, and files that came whole are kept if the next one fails.
    The hub's own settings hold (``HF_HOME``, ``HF_TOKEN``, ``HF_ENDPOINT``, ``HF_HUB_OFFLINE``). Raises
    ``CheckpointError``.
    """
    import huggingface_hub

    found = {}
    for name in names:
        try:
            path = huggingface_hub.hf_hub_download(
                repository,
                name,
                revision=REVISIONS[repository],
                tqdm_class=_reporter(f"downloading {name}", progress),
            )
        except Exception as error:  # the library lets its transport's and its writer's errors through
            raise CheckpointError(f"{repository}: {name} {_trouble(repository, names, error)}") from error
        found[name] = Path(path)
    return found


def command(repository: str, names: Sequence[str], folder: Path | None = None) -> str:
    """The command line that downloads ``names`` by hand, into ``folder`` or else into the cache."""
    words = ["hf", "download", repository, *names, "--revision", REVISIONS[repository]]
    return shlex.join([*words, "--local-dir", str(folder)] if folder else words)


def _trouble(repository: str, names: Sequence[str], error: Exception) -> str:
    from huggingface_hub import constants, errors

    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, errors.HfHubHTTPError):
        error = error.__cause__  # the hub has answered
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if isinstance(error, errors.LocalEntryNotFoundError):
        if constants.is_offline_mode():
            return (
                f"is not in the cache {constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE forbids to download it; unset "
                f"HF_HUB_OFFLINE, or run where there is a network: {command(repository, names)}"
            )
        return "is not in the cache, and the Hugging Face hub cannot be reached; check the network and start again."
    if isinstance(error, errors.GatedRepoError):
        return (
            f"is given only to those who have agreed to its terms: do so at {constants.ENDPOINT}/{repository}, "
            "and set HF_TOKEN to an access token of that account."
        )
    if isinstance(error, OSError) and error.errno is not None:
        return f"cannot be written to the cache {constants.HF_HUB_CACHE} ({error.strerror})."
    return f"cannot be downloaded ({reason}); files that came whole are kept for the next start."


def _reporter(what: str, progress: Progress) -> Any:
    """A stand-in for the progress bar that the hub's library makes for one file."""

    class Reporter:
        def __init__(self, *, total: int | None = None, initial: int = 0, **_: object) -> None:
            self.total = total
            self.n = initial
            self._received = initial
            self._report()

        def __enter__(self) -> Reporter:
            return self

        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None:
            self.close()

        def update(self, count: float | None = 1) -> None:
            """``count`` more bytes have been written."""
            self.n += int(count or 0)
            self._report()

        def update_transfer(self, count: float) -> None:
            """``count`` more bytes have come in; over Xet they are written later, in larger parts."""
            self._received += int(count)
            self._report()

        def _report(self) -> None:
            total = self.total or 0
            progress(what, min(max(self.n, self._received), total or self.n), total)

        def set_postfix_str(self, text: str = "", refresh: bool = True) -> None:
            """The speed, which a reader of the progress can work out."""

        set_transfer_postfix_str = set_postfix_str

        def close(self) -> None:
            """Nothing is held."""

    return Reporter
