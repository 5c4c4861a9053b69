"""Perth's inaudible watermark of generated speech, added while the audio streams."""
