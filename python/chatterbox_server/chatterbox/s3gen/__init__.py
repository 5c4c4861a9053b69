"""S3Gen: speech tokens to a mel spectrogram by flow matching, and the HiFT vocoder from there to samples."""

from .fade import FADE_IN
from .flow import MelJob
from .model import S3Gen
from .noise import Noise
from .vocoder import SAMPLES_PER_FRAME, Vocoder, VocoderStream

__all__ = ["FADE_IN", "SAMPLES_PER_FRAME", "MelJob", "Noise", "S3Gen", "Vocoder", "VocoderStream"]
