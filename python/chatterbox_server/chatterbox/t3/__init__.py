"""T3: text and a voice to speech tokens, for any number of requests at once."""
