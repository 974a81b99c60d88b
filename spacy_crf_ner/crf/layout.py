"""Where the tokens of a batch of sequences are, and in which order a recursion goes through them.

The recursions of a CRF take one step for all sequences at a time. A `Layout` lists the positions step by step, so
that a step's rows are one slice, and holds the index arrays that every gather before and after the loop needs; the
loop itself has neither mask nor index.
"""

from dataclasses import dataclass
from typing import Any, List

import numpy
from numpy.typing import NDArray

Ints = NDArray[numpy.int64]


@dataclass(frozen=True, eq=False)
class Sequences:
    """Sequences within a flat array: token t of row b is at ``origin[b] + t * stride``.

    lengths (ndarray): *Shape:* (batch_size,), int64; 0 is fine.
    origin (ndarray): *Shape:* (batch_size,), int64.
    stride (int): 1 where rows follow one another, batch_size where the flat array was (seq_length, batch_size).
    """

    lengths: Ints
    origin: Ints
    stride: int = 1

    @classmethod
    def consecutive(cls, lengths: Ints) -> "Sequences":
        """Rows that follow one another.

        lengths (ndarray): *Shape:* (batch_size,), int64.
        """
        return cls(lengths, lengths.cumsum() - lengths)

    @classmethod
    def from_mask(cls, mask: NDArray[numpy.bool_]) -> "Sequences":
        """The rows of a flattened (seq_length, batch_size) array.

        mask (ndarray): *Shape:* (seq_length, batch_size), bool, left-aligned.
        RAISES (ValueError): A row of the mask has a hole.
        """
        holes = mask[1:] > mask[:-1]
        if holes.any():
            row = int(holes.any(axis=0).argmax())
            raise ValueError(
                f"row {row}: the mask is off at step {int(holes[:, row].argmax())} and on at the next; "
                "a CRF sees no gaps: take the masked tokens out of the sequence"
            )
        batch_size = mask.shape[1]
        return cls(mask.sum(axis=0, dtype="int64"), numpy.arange(batch_size), batch_size)

    def rows(self, chosen: Ints) -> "Sequences":
        """Some of the rows.

        chosen (ndarray): *Shape:* (n,), int64: which.
        """
        return Sequences(self.lengths[chosen], self.origin[chosen], self.stride)


@dataclass(frozen=True, eq=False)
class Layout:
    """The positions of a batch, step by step: those of step t are the next ``sizes[t]``.

    It is packed: longest row first and no padding, as in `torch.nn.utils.rnn.PackedSequence`.

    sizes (List[int]): The rows of each step; never more than in the step before.
    row (ndarray): *Shape:* (n_positions,), int64. Which of the caller's rows a position belongs to.
    source (ndarray): *Shape:* (n_positions,), int64. Where its token is in the flat array.
    mirror (ndarray): *Shape:* (n_positions,), int64. The position as far from the row's end as this one is from
        its start, and the other way round.
    previous (ndarray): *Shape:* (n_positions - n_first,), int64. The position one step earlier in the same row,
        for all positions but those of the first step.
    last (ndarray): *Shape:* (batch_size,), int64. The position of each row's end; 0 for an empty row.
    filled (ndarray): *Shape:* (batch_size,), bool. Which rows are not empty.
    """

    sizes: List[int]
    row: Ints
    source: Ints
    mirror: Ints
    previous: Ints
    last: Ints
    filled: NDArray[numpy.bool_]

    @classmethod
    def from_sequences(cls, sequences: Sequences) -> "Layout":
        """The layout of some sequences."""
        lengths = sequences.lengths
        # The caller's rows, longest first. shape: (n_filled,)
        order = numpy.argsort(-lengths, kind="stable")[: numpy.count_nonzero(lengths)]
        sizes = len(order) - numpy.bincount(lengths.take(order), minlength=1).cumsum()[:-1]
        begins = sizes.cumsum() - sizes
        # shape: (n_positions,)
        positions = numpy.arange(sizes.sum())
        step = numpy.arange(len(sizes)).repeat(sizes)
        slot = positions - begins.repeat(sizes)
        row = order.take(slot)
        last = numpy.zeros_like(lengths)
        last[order] = begins.take(lengths.take(order) - 1) + numpy.arange(len(order))
        return cls(
            sizes.tolist(),
            row=row,
            source=sequences.origin.take(row) + step * sequences.stride,
            mirror=begins.take(lengths.take(row) - 1 - step) + slot,
            # The rows of a step are the first ones of the step before.
            previous=positions[len(order) :] - sizes[:-1].repeat(sizes[1:]),
            last=last,
            filled=lengths > 0,
        )

    @property
    def n_first(self) -> int:
        """The positions of the first step: the rows that are not empty."""
        return self.sizes[0] if self.sizes else 0

    def at_last(self, values: NDArray[Any]) -> NDArray[Any]:
        """What is at each row's last position, 0 for an empty row.

        values (ndarray): *Shape:* (n_positions, ...).
        RETURNS (ndarray): *Shape:* (batch_size, ...).
        """
        if not self.sizes:
            return numpy.zeros((len(self.last), *values.shape[1:]), values.dtype)
        found = values.take(self.last, axis=0)
        found[~self.filled] = 0
        return found

    def per_row(self, values: NDArray[numpy.float64]) -> NDArray[numpy.float64]:
        """Sum the values of each row's positions.

        values (ndarray): *Shape:* (n_positions,).
        RETURNS (ndarray): *Shape:* (batch_size,).
        """
        return numpy.bincount(self.row, values, minlength=len(self.filled)).astype("float64", copy=False)
