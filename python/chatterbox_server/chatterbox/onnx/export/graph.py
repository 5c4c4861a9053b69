"""Builds a graph node by node, with layers made of a checkpoint's tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from ...tensors import Tensors
from ..graphs import SUFFIXES

__all__ = ["PRECISIONS", "Graph", "Layers", "Precision"]


OPSET = 20
IR_VERSION = 9
"""The oldest that goes with the opset, so that older runtimes read the files too."""
_CONTRIB = "com.microsoft"
_EMBEDDED_BYTES = 1024
"""Smaller constants stay in the graph's own file, where the runtime's shape inference sees them."""
_ALIGNMENT = 4096
"""Of large tensors in the data file: a page, so that it can be mapped."""
_BLOCK = 32
"""Inputs that share a scale in quantised weights."""

Array = NDArray[Any]
Name = str
"""Of a value in a graph."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """How the matrix products of a graph are computed; everything else is float32."""

    suffix: str
    """Of the files' names."""
    bits: int | None = None
    """Of quantised weights."""
    half: bool = False
    """Whether what is not quantised is float16, and T3's cache too."""


PRECISIONS = {
    "fp32": Precision(suffix=SUFFIXES["fp32"]),
    "fp16": Precision(suffix=SUFFIXES["fp16"], half=True),
    "q8": Precision(suffix=SUFFIXES["q8"], bits=8),
    "q4": Precision(suffix=SUFFIXES["q4"], bits=4),
    "q4f16": Precision(suffix=SUFFIXES["q4f16"], bits=4, half=True),
}
"""The variants of the published layout, by the names of ``MODEL_DTYPE``."""


@dataclass(frozen=True, slots=True)
class _Packed:
    """A layer's weights as the graph has them."""

    weight: Name
    scales: Name | None
    """Of quantised ones."""
    inputs: int
    outputs: int


class Graph:
    """A graph under construction. Its methods add nodes and give the names of what these make.

    Large constants go to ``NAME.onnx_data`` at once, so that no more than one of them is in memory.
    """

    def __init__(self, folder: Path, name: str, precision: Precision = PRECISIONS["fp32"]) -> None:
        self.precision = precision
        self._path = folder / f"{name}{precision.suffix}.onnx"
        self._data_path = self._path.with_suffix(".onnx_data")
        self._data = _part(self._data_path).open("wb")
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._known: dict[object, Name] = {}
        self._packed: dict[str, _Packed] = {}

    def input(self, name: Name, dtype: int, *shape: str | int) -> Name:
        self._inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def output(self, value: Name, name: Name, dtype: int, *shape: str | int) -> None:
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, dtype, shape))

    def add(self, kind: str, *inputs: Name, domain: str = "", **attributes: Any) -> Name:
        """A node with one output. An empty name leaves an optional input out."""
        return self.split(kind, 1, *inputs, domain=domain, **attributes)[0]

    def split(self, kind: str, outputs: int, *inputs: Name, domain: str = "", **attributes: Any) -> list[Name]:
        """A node with several outputs."""
        names = [f"v{len(self._nodes)}_{index}" for index in range(outputs)]
        self._nodes.append(helper.make_node(kind, inputs, names, domain=domain, **attributes))
        return names

    def once(self, key: object, make: Callable[[], Name]) -> Name:
        """The result of ``make``, called once for each ``key``: layers that run twice share their weights."""
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]

    def constant(self, array: Array) -> Name:
        name = f"c{len(self._constants)}"
        array = np.ascontiguousarray(array)
        if array.nbytes <= _EMBEDDED_BYTES:
            self._constants.append(onnx.numpy_helper.from_array(array, name))
            return name
        self._data.write(bytes(-self._data.tell() % _ALIGNMENT))
        tensor = TensorProto(
            name=name,
            data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
            dims=array.shape,
            data_location=TensorProto.EXTERNAL,
        )
        place = {"location": self._data_path.name, "offset": self._data.tell(), "length": array.nbytes}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        self._data.write(array.data)
        self._constants.append(tensor)
        return name

    def ints(self, *numbers: int) -> Name:
        """A vector of int64, as shapes and axes are."""
        return self.once(numbers, lambda: self.constant(np.array(numbers, np.int64)))

    def number(self, value: float) -> Name:
        """A float32 scalar."""
        return self.once(("number", value), lambda: self.constant(np.array(value, np.float32)))

    def size(self, value: Name, axis: int) -> Name:
        """``[1]`` int64: how long ``value`` is along ``axis``."""
        return self.add("Shape", value, start=axis, end=axis + 1)

    def shape(self, *sizes: int | Name) -> Name:
        """A shape, some of whose sizes are known when the graph runs."""
        return self.add("Concat", *(self.ints(size) if isinstance(size, int) else size for size in sizes), axis=0)

    def reshape(self, x: Name, *sizes: int | Name) -> Name:
        """0 keeps a size, -1 is what is left."""
        known = [size for size in sizes if isinstance(size, int)]
        return self.add("Reshape", x, self.ints(*known) if len(known) == len(sizes) else self.shape(*sizes))

    def transpose(self, x: Name, *order: int) -> Name:
        return self.add("Transpose", x, perm=order)

    def slice(self, x: Name, axis: int, start: int | Name, end: int | Name = 2**62) -> Name:
        first, last = (self.ints(place) if isinstance(place, int) else place for place in (start, end))
        return self.add("Slice", x, first, last, self.ints(axis))

    def indices(self, count: Name) -> Name:
        """0 to ``count`` - 1, where ``count`` is ``[1]``."""
        scalar = self.add("Squeeze", count, self.ints(0))
        return self.add("Range", self._integer(0), scalar, self._integer(1))

    def _integer(self, value: int) -> Name:
        return self.once(("integer", value), lambda: self.constant(np.array(value, np.int64)))

    def cast(self, x: Name, dtype: int) -> Name:
        return self.add("Cast", x, to=dtype)

    def linear(self, key: str, x: Name, weight: Callable[[], Array], bias: Callable[[], Array] | None = None) -> Name:
        """``x W + b`` for ``[inputs, outputs]`` weights, in the graph's precision; ``key`` names the layer."""
        product = self._product(key, x, weight)
        if bias is None:
            return product
        return self.add("Add", product, self.once((key, "bias"), lambda: self.constant(_single(bias()))))

    def _product(self, key: str, x: Name, weight: Callable[[], Array]) -> Name:
        if key not in self._packed:
            self._packed[key] = self._pack(_single(weight()))
        packed, half = self._packed[key], self.precision.half
        x = self.cast(x, TensorProto.FLOAT16) if half else x
        if packed.scales is None:
            product = self.add("MatMul", x, packed.weight)
        else:
            product = self.add(
                "MatMulNBits",
                *(x, packed.weight, packed.scales),
                domain=_CONTRIB,
                K=packed.inputs,
                N=packed.outputs,
                bits=self.precision.bits,
                block_size=_BLOCK,
                # Inputs are quantised to 8 bits as well, for which CPUs have the fastest instructions.
                accuracy_level=0 if half else 4,
            )
        return self.cast(product, TensorProto.FLOAT) if half else product

    def _pack(self, weight: Array) -> _Packed:
        inputs, outputs = weight.shape
        dtype = np.float16 if self.precision.half else np.float32
        if self.precision.bits is None or inputs % _BLOCK:
            return _Packed(self.constant(weight.astype(dtype)), None, inputs, outputs)
        packed, scales = quantised(weight.T, self.precision.bits)
        return _Packed(self.constant(packed), self.constant(scales.astype(dtype)), inputs, outputs)

    def save(self) -> Path:
        """Write the graph beside its data, both in place of what may be there: a server that has it open keeps it."""
        self._data.close()
        graph = helper.make_graph(self._nodes, self._path.stem, self._inputs, self._outputs, self._constants)
        domains = [helper.make_opsetid("", OPSET), helper.make_opsetid(_CONTRIB, 1)]
        model = helper.make_model(
            graph, opset_imports=domains, ir_version=IR_VERSION, producer_name="chatterbox-server"
        )
        _part(self._path).write_bytes(model.SerializeToString())
        for path in (self._data_path, self._path):
            _part(path).replace(path)
        return self._path


def quantised(weight: Array, bits: int) -> tuple[Array, Array]:
    """Weights ``[outputs, inputs]`` as ``MatMulNBits`` takes them, and their scales ``[outputs, blocks]``.

    Symmetric around the middle of the numbers that ``bits`` can hold. Of each block the largest weight, sign and all,
    is met exactly, so that the range's longer, negative side is used.
    """
    outputs, inputs = weight.shape
    blocks = weight.reshape(outputs, inputs // _BLOCK, _BLOCK)
    middle = 1 << (bits - 1)
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(-1)[..., None], -1)
    scales = largest / -middle
    safe = np.where(scales == 0, 1, scales)
    numbers = np.clip(np.rint(blocks / safe) + middle, 0, 2 * middle - 1).astype(np.uint8)
    if bits == 4:
        numbers = numbers[..., 0::2] | numbers[..., 1::2] << 4
    return numbers, scales[..., 0].astype(np.float32)


def _part(path: Path) -> Path:
    """Where a file is written before it is whole."""
    return path.with_name(f"{path.name}.part")


def _single(array: Array) -> Array:
    return np.asarray(array, np.float32)


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
        """The number of layers whose names are ``prefix`` and a number."""
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
