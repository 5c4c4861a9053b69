"""Keys and values of past positions, and attention over them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["KeyValueCache", "Span"]

POSITION_BLOCK = 128
"""Positions are added in blocks of this many: growing copies everything, so it must not come with each token."""


@dataclass(frozen=True, slots=True)
class Span:
    """The positions that a forward pass adds to some neighbouring rows."""

    first: int
    """First row."""
    positions: Tensor
    """``[rows, new]`` int64, each row's consecutive."""
    start: int | None
    """First new position, where all rows have the same; ``None`` otherwise."""
    end: int
    """Positions that are looked at: up to the last one of any row, or more."""
    targets: Tensor | None
    """``[rows, 1]`` int64, which rows of the cache are written, where ``start`` is ``None``."""
    mask: Tensor | None
    """Which keys a query may see, to ``[rows, heads, new, end]``, as booleans or as what is added to the scores.
    ``None``: all, save as ``causal`` says."""
    causal: bool
    """New positions see each other only backwards. Needs ``start`` 0 and no mask."""

    @classmethod
    def prompt(cls, first: int, rows: int, start: int, count: int, device: torch.device) -> Span:
        """``count`` positions from ``start`` on.

        Rows may be padded at the end: nothing looks forward, so what stands there reaches no position before it, and
        the next tokens overwrite it.
        """
        new = torch.arange(start, start + count, device=device)
        # Causal attention needs no mask if there are only new positions, and one new position sees all.
        mask = torch.arange(start + count, device=device) <= new[:, None] if start and count > 1 else None
        return cls(first, new.expand(rows, -1), start, start + count, None, mask, causal=not start and count > 1)

    @classmethod
    def token(cls, lengths: list[int], positions: Tensor) -> Span:
        """One position for each of the first rows, which hold ``lengths`` positions; ``positions`` is the same."""
        end = max(lengths) + 1
        positions = positions[:, None]
        if end == min(lengths) + 1:
            return cls(0, positions, end - 1, end, None, None, causal=False)
        targets = torch.arange(len(lengths), device=positions.device)[:, None]
        mask = (torch.arange(end, device=positions.device) <= positions)[:, None, None]
        return cls(0, positions, None, end, targets, mask, causal=False)

    @classmethod
    def fixed_token(cls, positions: Tensor, targets: Tensor, end: int, dtype: torch.dtype) -> Span:
        """As ``token``, the same launches whatever ``positions`` and ``targets``, both ``[rows]``, hold.

        ``positions`` are below ``end``. The first rows are read, ``targets`` are written.
        """
        positions = positions[:, None]
        hidden = torch.arange(end, device=positions.device) > positions
        # Added to the scores, since booleans would be converted to such numbers again in every layer.
        mask = torch.zeros(hidden.shape, device=positions.device, dtype=dtype).masked_fill_(hidden, float("-inf"))
        return cls(0, positions, None, end, targets[:, None], mask[:, None, None], causal=False)


class KeyValueCache:
    """For each layer ``[rows, heads, positions, channels]`` of keys and of values, written in place.

    Rows in use are the first ``rows`` ones, without gaps. Space grows with them and with their length, and is given
    back when the last one goes. After ``fix`` it stays where it is, and only rows that are too long for it move to
    space that grows.
    """

    def __init__(
        self, *, layers: int, heads: int, channels: int, most_rows: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.rows = 0
        self._layers = layers
        self._heads = heads
        self._channels = channels
        self._most_rows = most_rows
        self._device = device
        self._dtype = dtype
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        self.in_place = False
        """Whether keys and values are in the space that ``fix`` made."""
        # Keys, then values of all layers.
        self._fixed: Tensor | None = None
        self.clear()

    def clear(self) -> None:
        """Drop every row."""
        self.rows = 0
        if self._fixed is None:
            self._allocate(0, 0)
        else:
            if not self.in_place:
                self.wipe()
            self._take(self._fixed)

    def fix(self, positions: int) -> None:
        """Drop every row and make space once for the most rows, each of ``positions``, and for the scratch row."""
        shape = (2 * self._layers, self._most_rows + 1, self._heads, positions, self._channels)
        self._fixed = torch.zeros(shape, device=self._device, dtype=self._dtype)
        self.clear()

    def unfix(self) -> None:
        """Drop every row and give back the space that ``fix`` made."""
        self._fixed, self.in_place = None, False
        self.clear()

    def wipe(self) -> None:
        """Make all of the fixed space zeros."""
        if self._fixed is not None:
            self._fixed.zero_()

    def fixed_bytes(self, positions: int) -> int:
        """The arguments of ``fix``."""
        row = 2 * self._layers * self._heads * self._channels * self._dtype.itemsize * positions
        return (self._most_rows + 1) * row

    def settle(self, positions: int) -> None:
        """Go back to the fixed space, if there is one and rows of ``positions`` fit it."""
        if self._fixed is None or self.in_place or positions > self._fixed.shape[3]:
            return
        self.wipe()
        kept = min(positions, self.position_capacity)
        for fixed, tensor in zip(self._fixed.unbind(), (*self.keys, *self.values), strict=True):
            fixed[: self.rows, :, :kept] = tensor[: self.rows, :, :kept]
        self._take(self._fixed)

    @property
    def scratch_row(self) -> int:
        """The row of the fixed space that is written and never read."""
        return self._most_rows

    @property
    def nbytes(self) -> int:
        elsewhere = 0 if self._fixed is None or self.in_place else self._fixed.nbytes
        return elsewhere + sum(tensor.nbytes for tensor in (*self.keys, *self.values))

    @property
    def row_capacity(self) -> int:
        return self.keys[0].shape[0]

    @property
    def position_capacity(self) -> int:
        return self.keys[0].shape[2]

    def append(self, rows: int) -> int:
        """Add ``rows`` at the end and return the first one's number. Their content is undefined."""
        first = self.rows
        wanted = first + rows
        if wanted > self._most_rows:
            raise ValueError(f"{wanted} rows are wanted where {self._most_rows} are the most.")
        if wanted > self.row_capacity:
            # Doubling: the cost of copying stays in proportion to what was added.
            doubled = 1 << (wanted - 1).bit_length()
            self._allocate(min(doubled, self._most_rows), self.position_capacity)
        self.rows = wanted
        return first

    def reserve(self, positions: int) -> None:
        """Make room for ``positions`` in every row."""
        if positions > self.position_capacity:
            rows = self.rows if self.in_place else self.row_capacity
            self._allocate(rows, -(-positions // POSITION_BLOCK) * POSITION_BLOCK)

    def fit(self, positions: int) -> None:
        """Make the space exactly the rows in use by ``positions``. Fixed space stays as it is."""
        if not self.in_place:
            self._allocate(self.rows, positions)

    def paste(self, row: int, other: KeyValueCache) -> None:
        """Put all of the single row of ``other`` at the start of ``row``."""
        length = other.position_capacity
        for mine, theirs in zip((*self.keys, *self.values), (*other.keys, *other.values), strict=True):
            mine[row, :, :length] = theirs[0]

    def remove(self, row: int, last_length: int) -> None:
        """Drop ``row``; the last one, of which ``last_length`` positions count, takes its number."""
        last = self.rows - 1
        if self.in_place and self._fixed is not None:
            # This space is never given back: a NaN left in it would reach the row's next request.
            if row != last:
                self._fixed[:, row, :, :last_length] = self._fixed[:, last, :, :last_length]
                self._fixed[:, row, :, last_length:] = 0
            self._fixed[:, last] = 0
        elif row != last:
            for tensor in (*self.keys, *self.values):
                tensor[row, :, :last_length] = tensor[last, :, :last_length]
        self.rows = last
        if not last:
            self.clear()

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, span: Span) -> Tensor:
        """Store the new keys and values and attend to all that came before; each is ``[rows, new, heads, channels]``.

        Gives ``[rows, new, heads * channels]``.
        """
        rows, new = span.positions.shape
        keys = self.keys[layer][span.first : span.first + rows]
        values = self.values[layer][span.first : span.first + rows]
        if span.start is not None:
            keys[:, :, span.start : span.end] = key.transpose(1, 2)
            values[:, :, span.start : span.end] = value.transpose(1, 2)
        else:
            self.keys[layer][span.targets, :, span.positions] = key
            self.values[layer][span.targets, :, span.positions] = value
        attended = functional.scaled_dot_product_attention(
            query.transpose(1, 2),
            keys[:, :, : span.end],
            values[:, :, : span.end],
            attn_mask=span.mask,
            is_causal=span.causal,
        )
        return attended.transpose(1, 2).reshape(rows, new, -1)

    def _take(self, fixed: Tensor) -> None:
        tensors = fixed.unbind()
        self.keys, self.values = list(tensors[: self._layers]), list(tensors[self._layers :])
        self.in_place = True

    def _allocate(self, rows: int, positions: int) -> None:
        self.in_place = False
        # One tensor after the other, so that growing takes no second copy of the whole cache.
        for tensors in (self.keys, self.values):
            for layer in range(self._layers):
                # Zeros, because masked positions still enter the sums: with a weight of 0, which does not stop a NaN.
                grown = torch.zeros(
                    rows, self._heads, positions, self._channels, device=self._device, dtype=self._dtype
                )
                if layer == len(tensors):
                    tensors.append(grown)
                    continue
                length = min(positions, tensors[layer].shape[2])
                kept = min(self.rows, rows)
                grown[:kept, :, :length] = tensors[layer][:kept, :, :length]
                tensors[layer] = grown
