"""What the graphs of S3Gen are made of: layers by their names in a checkpoint, on ``[batch, time, channels]``."""

from __future__ import annotations

import numpy as np

from ...tensors import Tensors
from .graph import Array, Graph, Name

__all__ = ["Layers"]


class Layers:
    """Adds the layers of a checkpoint to a graph. ``scope("encoders.0.")`` is the part below a prefix."""

    def __init__(self, graph: Graph, tensors: Tensors, prefix: str = "") -> None:
        self.graph = graph
        self._tensors = tensors
        self._prefix = prefix

    def scope(self, prefix: str) -> Layers:
        return Layers(self.graph, self._tensors, self._prefix + prefix)

    def __contains__(self, name: str) -> bool:
        return self._prefix + name in self._tensors

    def count(self, prefix: str) -> int:
        """How many layers there are whose names begin with ``prefix`` and go on up to a dot."""
        scope = self._tensors.scope(self._prefix + prefix)
        return len({name.partition(".")[0] for name in scope})

    def array(self, name: str) -> Array:
        array: Array = self._tensors[self._prefix + name].float().numpy()
        return array

    def constant(self, name: str) -> Name:
        return self.graph.once(self._prefix + name, lambda: self.graph.constant(self.array(name)))

    def linear(self, x: Name, name: str, *, bias: bool = True) -> Name:
        def offset() -> Array:
            return self.array(f"{name}.bias")

        return self.graph.linear(
            self._prefix + name, x, lambda: self.array(f"{name}.weight").T, offset if bias else None
        )

    def norm(self, x: Name, name: str, epsilon: float = 1e-5) -> Name:
        weight, bias = self.constant(f"{name}.weight"), self.constant(f"{name}.bias")
        return self.graph.add("LayerNormalization", x, weight, bias, axis=-1, epsilon=epsilon)

    def causal(self, x: Name, name: str, *, ahead: int = 0) -> Name:
        """A convolution that sees ``ahead`` steps to its right and the rest of its kernel to its left.

        As one product with the kernel's steps side by side, so that it is quantised as linear layers are.
        """
        graph = self.graph
        weight = self.array(f"{name}.weight")
        outputs, inputs, kernel = weight.shape
        if kernel > 1:
            padded = graph.add("Pad", x, graph.ints(0, kernel - 1 - ahead, 0, 0, ahead, 0))
            # Ends are counted from the end, so that no length needs to be known.
            steps = [graph.slice(padded, 1, k, k - kernel + 1 or 2**62) for k in range(kernel)]
            x = graph.add("Concat", *steps, axis=-1)
        return graph.linear(
            self._prefix + name,
            x,
            lambda: weight.transpose(2, 1, 0).reshape(kernel * inputs, outputs),
            lambda: self.array(f"{name}.bias"),
        )

    def heads(self, x: Name, heads: int, width: int) -> Name:
        """``[batch, time, width]`` to ``[batch, heads, time, width / heads]``."""
        return self.graph.transpose(self.graph.reshape(x, 0, 0, heads, width // heads), 0, 2, 1, 3)

    def merged(self, x: Name, width: int) -> Name:
        """Back again."""
        return self.graph.reshape(self.graph.transpose(x, 0, 2, 1, 3), 0, 0, width)

    def silu(self, x: Name) -> Name:
        return self.graph.add("Mul", x, self.graph.add("Sigmoid", x))


def folded(direction: Array, length: Array) -> Array:
    """The weight of a convolution of which a file has direction and length (``torch.nn.utils.weight_norm``)."""
    norm = np.sqrt(np.square(direction.astype(np.float64)).sum(axis=(1, 2), keepdims=True))
    return np.asarray(direction * (length / norm), np.float32)
