"""Every entry of the compiled module refuses arrays that it must not compute with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from chatterbox_server._core import FlowEstimator, LinearLayer, T3Backbone, T3Sampler, VocoderGenerator, biquad
from chatterbox_server.chatterbox.t3.sampling import Sampling
from numpy.typing import NDArray

Array = NDArray[np.float32]
Arrays = dict[str, Array]

WIDTH, HEADS, INNER, IDS = 32, 2, 8, 5
MEL, CHANNELS, BLOCKS = 4, 16, 3
BINS, SAMPLES_PER_FRAME = 9, 16


def zeros(*shape: int) -> Array:
    return np.zeros(shape, np.float32)


@dataclass(frozen=True)
class Entry:
    """A call, arrays that it takes, and which of them it writes."""

    call: Callable[[Arrays], object]
    shapes: dict[str, tuple[int, ...]]
    outputs: tuple[str, ...] = ()
    any_length: frozenset[str] = field(default_factory=frozenset)
    """Arrays whose length the call takes as it is."""

    def arrays(self) -> Arrays:
        return {name: zeros(*shape) for name, shape in self.shapes.items()}


def backbone() -> T3Backbone:
    norm, square, wide = zeros(WIDTH), zeros(WIDTH, WIDTH), zeros(INNER, WIDTH)
    layer = (norm, square, square, square, square, norm, wide, wide, zeros(WIDTH, INNER))
    return T3Backbone.llama(HEADS, "fp32", zeros(WIDTH // HEADS // 2), [layer], norm, zeros(IDS, WIDTH))


def flow_weight(name: str, *shape: int) -> Array:
    layer, inputs = name.removesuffix(".weight"), CHANNELS
    if layer == "final_proj":
        return zeros(MEL, CHANNELS, 1)
    if name == "final_proj.bias":
        return zeros(MEL)
    if layer in ("down_blocks.0.0.block1.block.0", "down_blocks.0.0.res_conv"):
        inputs = 2 * MEL
    if layer in ("up_blocks.0.0.block1.block.0", "up_blocks.0.0.res_conv"):
        inputs = 2 * CHANNELS
    return zeros(*(CHANNELS, inputs, 1 if layer.endswith("res_conv") else 3)[: len(shape)])


def vocoder_weight(name: str, *shape: int) -> Array:
    sizes = {
        "conv_pre.weight": (CHANNELS, MEL, 3),
        "ups.0.weight": (CHANNELS, CHANNELS, 8),
        "source_downs.0.weight": (CHANNELS, 2 * BINS, 1),
        "conv_post.weight": (2 * BINS, CHANNELS, 3),
        "conv_post.bias": (2 * BINS,),
    }
    return zeros(*sizes.get(name, (CHANNELS,) if len(shape) == 1 else (CHANNELS, CHANNELS, 3)))


def entries() -> Iterator[tuple[str, Entry]]:
    linear = LinearLayer(zeros(6, 6), zeros(6), "fp32")
    yield "linear", Entry(lambda a: linear.run(a["x"], a["y"]), {"x": (2, 6), "y": (2, 6)}, ("y",))

    yield (
        "biquad",
        Entry(
            lambda a: biquad(a["samples"], a["out"], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]),
            {"samples": (8,), "out": (8,)},
            ("out",),
        ),
    )

    t3 = backbone()

    def forward(arrays: Arrays) -> None:
        cache = t3.cache()
        cache.append()
        t3.forward(arrays["embedded"], arrays["hidden"], cache, 0, [0])

    shape = (1, 3, WIDTH)
    yield "t3-forward", Entry(forward, {"embedded": shape, "hidden": shape}, ("hidden",))
    yield (
        "t3-logits",
        Entry(lambda a: t3.logits(a["hidden"], a["logits"]), {"hidden": (2, WIDTH), "logits": (2, IDS)}, ("logits",)),
    )

    sampler = T3Sampler(1, IDS, 0, False, 0.0)
    how = Sampling(temperature=0.8, top_p=1.0, min_p=0.0, top_k=0, repetition_penalty=1.0, cfg_weight=0.5, seed=0)
    sampler.join(0, how, 0)
    yield "sampler", Entry(lambda a: sampler.sample(a["logits"], [(0, 0, 1, 0)]), {"logits": (2, IDS)})

    flow = FlowEstimator(flow_weight, (1, [1], 1), CHANNELS, "fp32")
    yield (
        "flow",
        Entry(
            lambda a: flow.run(a["x"], a["biases"], [5, 3], a["directions"]),
            {"x": (2, 5, 2 * MEL), "biases": (2, BLOCKS, CHANNELS), "directions": (2, 5, MEL)},
            ("directions",),
        ),
    )

    vocoder = VocoderGenerator(vocoder_weight, [4], 1, [1])
    samples = (2 * SAMPLES_PER_FRAME,)
    yield (
        "vocoder",
        Entry(
            lambda a: vocoder.run(a["mel"], a["source"], a["samples"]),
            {"mel": (2, MEL), "source": samples, "samples": samples},
            ("samples",),
        ),
    )

    yield (
        "linear-weights",
        Entry(
            lambda a: LinearLayer(a["weights"], a["bias"], "fp32"),
            {"weights": (4, 6), "bias": (4,)},
            any_length=frozenset({"weights"}),
        ),
    )
    square, wide, flat = (WIDTH, WIDTH), (INNER, WIDTH), (WIDTH,)
    llama = {
        "frequencies": (WIDTH // HEADS // 2,),
        "norm": flat,
        "head": (IDS, WIDTH),
        "0": flat,
        "1": square,
        "2": square,
        "3": square,
        "4": square,
        "5": flat,
        "6": wide,
        "7": wide,
        "8": (WIDTH, INNER),
    }
    yield (
        "llama-weights",
        Entry(
            lambda a: T3Backbone.llama(
                HEADS, "fp32", a["frequencies"], [tuple(a[str(n)] for n in range(9))], a["norm"], a["head"]
            ),
            llama,
            any_length=frozenset({"head"}),
        ),
    )
    layer = (flat, flat, (WIDTH, 3 * WIDTH), (3 * WIDTH,), square, flat, flat, flat, (WIDTH, INNER), (INNER,))
    gpt2 = {str(n): shape for n, shape in enumerate((*layer, (INNER, WIDTH), flat))}
    yield (
        "gpt2-weights",
        Entry(
            lambda a: T3Backbone.gpt2(
                HEADS,
                "fp32",
                a["positions"],
                [tuple(a[str(n)] for n in range(12))],
                (a["gain"], a["bias"]),
                (a["head"], a["head_bias"]),
            ),
            {"positions": (9, WIDTH), "gain": flat, "bias": flat, "head": (IDS, WIDTH), "head_bias": (IDS,), **gpt2},
            any_length=frozenset({"positions"}),
        ),
    )

    def altered(weight: Callable[..., Array], name: str, array: Array) -> Callable[..., Array]:
        return lambda asked, *shape: array if asked == name else weight(asked, *shape)

    name = "final_block.block.0.weight"
    yield (
        "flow-weights",
        Entry(
            lambda a: FlowEstimator(altered(flow_weight, name, a[name]), (1, [1], 1), CHANNELS, "fp32"),
            {name: (CHANNELS, CHANNELS, 3)},
            any_length=frozenset({name}),
        ),
    )
    pre = "conv_pre.weight"
    yield (
        "vocoder-weights",
        Entry(lambda a: VocoderGenerator(altered(vocoder_weight, pre, a[pre]), [4], 1, [1]), {pre: (CHANNELS, MEL, 3)}),
    )


ENTRIES = dict(entries())
ARRAYS = [(entry, name) for entry, each in ENTRIES.items() for name in each.shapes]
OUTPUTS = [(entry, name) for entry, each in ENTRIES.items() for name in each.outputs]


@pytest.mark.parametrize("entry", ENTRIES)
def test_valid_arrays_are_accepted(entry: str) -> None:
    ENTRIES[entry].call(ENTRIES[entry].arrays())


@pytest.mark.parametrize(("entry", "name"), ARRAYS)
def test_array_that_is_not_contiguous_is_refused(entry: str, name: str) -> None:
    arrays = ENTRIES[entry].arrays()
    arrays[name] = np.repeat(arrays[name], 2, axis=-1)[..., ::2]
    with pytest.raises(ValueError, match="contiguous"):
        ENTRIES[entry].call(arrays)


@pytest.mark.parametrize(("entry", "name"), [pair for pair in ARRAYS if pair[1] not in ENTRIES[pair[0]].any_length])
def test_array_of_wrong_length_is_refused(entry: str, name: str) -> None:
    arrays = ENTRIES[entry].arrays()
    given = arrays[name]
    for wrong in (np.concatenate([given, given[..., :1]], axis=-1), given[..., :-1].copy()):
        arrays[name] = wrong
        with pytest.raises(ValueError, match=r"has shape|not of \d+|cannot (be|have)|has \d+ biases|even number"):
            ENTRIES[entry].call(arrays)


@pytest.mark.parametrize(("entry", "name"), [pair for pair in ARRAYS if ENTRIES[pair[0]].outputs])
def test_array_of_wrong_dimensions_is_refused(entry: str, name: str) -> None:
    arrays = ENTRIES[entry].arrays()
    arrays[name] = arrays[name][None, None]
    with pytest.raises(ValueError, match=f"{name} has shape"):
        ENTRIES[entry].call(arrays)


@pytest.mark.parametrize(("entry", "name"), OUTPUTS)
def test_output_that_is_read_only_is_refused(entry: str, name: str) -> None:
    arrays = ENTRIES[entry].arrays()
    arrays[name].flags.writeable = False
    with pytest.raises(ValueError, match=f"{name} is read-only"):
        ENTRIES[entry].call(arrays)


@pytest.mark.parametrize(("entry", "name"), OUTPUTS)
def test_output_that_overlaps_input_is_refused(entry: str, name: str) -> None:
    for other in ENTRIES[entry].shapes:
        if other == name:
            continue
        arrays = ENTRIES[entry].arrays()
        # The last number of the one is the first of the other.
        memory = zeros(arrays[other].size + arrays[name].size - 1)
        arrays[other] = memory[: arrays[other].size].reshape(arrays[other].shape)
        arrays[name] = memory[arrays[other].size - 1 :].reshape(arrays[name].shape)
        with pytest.raises(ValueError, match=f"{name} overlaps {other}"):
            ENTRIES[entry].call(arrays)


def test_linear_layer_refuses_its_input_as_its_output() -> None:
    layer, x = LinearLayer(zeros(6, 6), None, "fp32"), zeros(2, 6)
    with pytest.raises(ValueError, match="y overlaps x"):
        layer.run(x, x)


def test_neighbouring_arrays_do_not_overlap() -> None:
    layer, both = LinearLayer(np.eye(6, dtype=np.float32), None, "fp32"), np.arange(24, dtype=np.float32).reshape(4, 6)
    layer.run(both[:2], both[2:])
    assert np.array_equal(both[2:], np.arange(12, dtype=np.float32).reshape(2, 6))
