"""Perth's inaudible mark that tells made speech from recorded, put on while the audio streams."""

from .marker import WatermarkStream
from .network import WatermarkError
from .watermarker import Watermarker

__all__ = ["WatermarkError", "WatermarkStream", "Watermarker"]
