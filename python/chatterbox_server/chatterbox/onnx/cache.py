"""Keys and values of past positions as the graph takes and gives them: as a whole, one position longer each time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnxruntime import OrtValue

__all__ = ["Block", "OnnxCache", "Row"]


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """One run's output: for each layer keys, then values, ``[rows, heads, positions, channels]``. Never changed."""

    values: list[OrtValue]

    @property
    def rows(self) -> int:
        return int(self.values[0].shape()[0])

    @property
    def positions(self) -> int:
        return int(self.values[0].shape()[2])

    @property
    def nbytes(self) -> int:
        return sum(value.tensor_size_in_bytes() for value in self.values)


@dataclass(frozen=True, slots=True)
class Row:
    """A sequence: the positions of ``block`` from ``start`` on, as far as they count."""

    block: Block
    index: int
    start: int


class OnnxCache:
    """The rows of a decoder, or the one row of a voice's prefix.

    Unlike ``KeyValueCache`` it holds what the graph gave instead of writing in place: feeding that back costs nothing
    as long as the same rows go on. Others are put together anew: see ``gathered``.
    """

    def __init__(self, most_rows: int) -> None:
        self._most_rows = most_rows
        self._rows: list[Row | None] = []

    @property
    def rows(self) -> int:
        return len(self._rows)

    @property
    def nbytes(self) -> int:
        return sum(block.nbytes for block in {id(row.block): row.block for row in self._rows if row}.values())

    def row(self, number: int) -> Row:
        row = self._rows[number]
        if row is None:
            raise ValueError(f"row {number} holds nothing")
        return row

    def append(self, rows: int) -> int:
        """Add empty ``rows`` at the end and return the first one's number."""
        if self.rows + rows > self._most_rows:
            raise ValueError(f"{self.rows + rows} rows are wanted where {self._most_rows} are the most.")
        self._rows += [None] * rows
        return self.rows - rows

    def paste(self, row: int, other: OnnxCache) -> None:
        """Begin ``row`` with the single row of ``other``; both share it."""
        self._rows[row] = other.row(0)

    def put(self, first: int, block: Block, starts: list[int]) -> None:
        """Make the rows from ``first`` on those of ``block``."""
        for index, start in enumerate(starts):
            self._rows[first + index] = Row(block, index, start)

    def remove(self, row: int, last_length: int) -> None:
        """Drop ``row``; the last one takes its number."""
        last = self._rows.pop()
        if row < self.rows:
            self._rows[row] = last

    def reserve(self, positions: int) -> None:
        """Nothing: the graph makes the space."""

    def fit(self, positions: int) -> None:
        """Nothing: there is no more space than is in use."""

    def settle(self, positions: int) -> None:
        """Nothing: there is no other space to go back to."""

    def gathered(self, numbers: range, lengths: list[int]) -> tuple[Block, list[int]]:
        """A block of the rows ``numbers``, which have ``lengths``, and where each begins in it. They all end together,
        as a graph wants them that puts the next position behind the last one."""
        rows = [self.row(number) for number in numbers]
        block, total = rows[0].block, max(lengths)
        same = all(row.block is block and row.index == index for index, row in enumerate(rows))
        ends = [row.start + length for row, length in zip(rows, lengths, strict=True)]
        if same and block.rows == len(rows) and all(end == block.positions for end in ends):
            return block, [row.start for row in rows]
        starts = [total - length for length in lengths]
        return Block([_stacked(rows, lengths, starts, total, index) for index in range(len(block.values))]), starts


def _stacked(rows: list[Row], lengths: list[int], starts: list[int], total: int, index: int) -> OrtValue:
    """The tensor ``index`` of a block made of ``rows``."""
    known: dict[int, NDArray[np.floating]] = {}
    for row in rows:
        known.setdefault(id(row.block), row.block.values[index].numpy())
    like = rows[0].block.values[index]
    _, heads, _, channels = known[id(rows[0].block)].shape
    # Zeros, because masked positions still enter the sums: with a weight of 0, which does not stop a NaN.
    stacked = np.zeros((len(rows), heads, total, channels), known[id(rows[0].block)].dtype)
    for number, (row, length, start) in enumerate(zip(rows, lengths, starts, strict=True)):
        stacked[number, :, start:] = known[id(row.block)][row.index, :, row.start : row.start + length]
    return OrtValue.ortvalue_from_numpy(stacked, like.device_name())
