"""Voices: reference clips prepared for the models, the built-in ones, and a cache of both kinds' tensors."""
