"""T3: text and a voice to speech tokens, for any number of requests at once."""

from .config import SPEECH_IDS, START_SPEECH, STOP_SPEECH, T3Config
from .decoder import Decoder, Token
from .model import T3, Prompt
from .sampling import Draw, Sampling

__all__ = [
    "SPEECH_IDS",
    "START_SPEECH",
    "STOP_SPEECH",
    "T3",
    "Decoder",
    "Draw",
    "Prompt",
    "Sampling",
    "T3Config",
    "Token",
]
