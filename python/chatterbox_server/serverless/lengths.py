"""The length of audio, from the bytes that the server sends."""

from __future__ import annotations

__all__ = ["audio_seconds"]

_WAV_HEAD = 44
_BYTES_PER_SAMPLE = 2
_OPUS_RATE = 48_000
_MPEG1_KBPS = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MPEG2_KBPS = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)


def audio_seconds(output_format: str, sample_rate: int, audio: bytes | bytearray) -> float:
    """The length of a whole ``wav``, ``opus`` (Ogg) or ``mp3`` of this server, in seconds; of mp3 in whole frames."""
    if output_format == "wav":
        return max(0, len(audio) - _WAV_HEAD) / _BYTES_PER_SAMPLE / sample_rate
    return _opus(audio) if output_format == "opus" else _mp3(audio, sample_rate)


def _opus(audio: bytes | bytearray) -> float:
    """The last page says how many samples there are by its end, the first how many of them are skipped."""
    head, page = audio.find(b"OpusHead"), audio.rfind(b"OggS")
    if head < 0 or page < 0:
        return 0.0
    skipped = int.from_bytes(audio[head + 10 : head + 12], "little")
    samples = int.from_bytes(audio[page + 6 : page + 14], "little")
    return max(0, samples - skipped) / _OPUS_RATE


def _mp3(audio: bytes | bytearray, sample_rate: int) -> float:
    at, frames = 0, 0
    if audio[:3] == b"ID3":
        size = 0
        for byte in audio[6:10]:
            size = size << 7 | byte
        at = 10 + size
    mpeg1 = sample_rate >= 32_000
    rates, samples = (_MPEG1_KBPS, 1152) if mpeg1 else (_MPEG2_KBPS, 576)
    while at + 4 <= len(audio) and audio[at] == 0xFF:
        index, padding = audio[at + 2] >> 4, audio[at + 2] >> 1 & 1
        if not 0 < index < len(rates):
            break
        at += samples // 8 * rates[index] * 1000 // sample_rate + padding
        frames += 1
    # The first frame has no audio: it says how the others were made.
    return max(0, frames - 1) * samples / sample_rate
