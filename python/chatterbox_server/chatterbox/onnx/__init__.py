"""Turbo and nano as ONNX graphs, in the layout in which Turbo's are published: run, and made from a checkpoint."""
