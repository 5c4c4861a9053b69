"""``chatterbox-server bench``: the engine measured beside upstream's package, and a server under load."""
