"""Makes the graphs of a checkpoint. Needs the package ``onnx``, which running them does not."""
