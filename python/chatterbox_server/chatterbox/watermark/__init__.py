"""Perth's inaudible mark that tells made speech from recorded, put on while the audio streams."""
