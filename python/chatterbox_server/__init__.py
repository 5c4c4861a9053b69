"""A speech server: a Rust host and, in this package, the models that it speaks with."""

from importlib.metadata import PackageNotFoundError, version

__all__ = ["__version__"]

try:
    __version__ = version("chatterbox-server")
except PackageNotFoundError:  # imported from a source tree that is not installed
    __version__ = "0.0.0"
