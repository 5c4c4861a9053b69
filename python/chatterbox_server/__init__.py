"""A speech server: a Rust host and, in this package, its models."""

from importlib.metadata import PackageNotFoundError, version

__all__ = ["DISTRIBUTION", "__version__", "how_to_install"]

DISTRIBUTION = "chatterbox-speech-server"
"""The name of the wheel. The package index has an unrelated project under the name of the command."""

try:
    __version__ = version(DISTRIBUTION)
except PackageNotFoundError:  # imported from a source tree that is not installed
    __version__ = "0.0.0"


def how_to_install(extra: str) -> str:
    """What to run where a package is missing that belongs to the extra ``chatterbox``, ``bench``, or ``runpod``."""
    wheel = f"pip install '{DISTRIBUTION}[{extra}]' in the environment that has the wheel"
    if extra == "chatterbox":
        # Its dependencies contradict the extra's newer versions, so pip may not see them.
        return f"run: make install-chatterbox, or: {wheel}, then: pip install --no-deps chatterbox-tts==0.1.7"
    return f"run: {wheel}"
