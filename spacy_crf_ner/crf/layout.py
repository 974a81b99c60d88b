"""Where the tokens of a batch of sequences lie, and in which order a recursion goes through them.

The recursions of a CRF take one step for all sequences at a time. A `Layout` lists the positions step by step, so
that a step's rows are one slice, and holds the index tensors that every gather before and after the loop needs;
the loop itself has neither mask nor index.
"""

from dataclasses import dataclass
from typing import Any, List, Optional

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Sequences:
    """Sequences within a flat array: token t of row b stands at ``origin[b] + t * stride``.

    lengths (Tensor): *Shape:* (batch_size,), int64; 0 is fine.
    origin (Tensor): *Shape:* (batch_size,), int64, on the device of `lengths`.
    stride (int): 1 where rows follow one another, batch_size where the flat array was (seq_length, batch_size).
    longest (Optional[int]): An upper bound of the lengths. With it they are never read by the host; without it
        they must lie on the CPU.
    """

    lengths: Tensor
    origin: Tensor
    stride: int
    longest: Optional[int] = None

    @classmethod
    def consecutive(cls, lengths: Tensor) -> "Sequences":
        """Rows that follow one another.

        lengths (Tensor): *Shape:* (batch_size,), int64, on the CPU.
        """
        return cls(lengths, lengths.cumsum(0) - lengths, 1)

    @classmethod
    def from_mask(cls, mask: Tensor) -> "Sequences":
        """The rows of a flattened (seq_length, batch_size) array.

        mask (Tensor): *Shape:* (seq_length, batch_size), bool, left-aligned. Of one on a device the host reads but
            whether it has holes.
        RAISES (ValueError): A row of the mask has a hole.
        """
        length, batch_size = mask.shape
        refuse_holes(mask)
        longest = None if mask.device.type == "cpu" else length
        return cls(mask.sum(dim=0), torch.arange(batch_size, device=mask.device), batch_size, longest)

    def repeated(self, rows: Tensor) -> "Sequences":
        """These rows, and then some of them once more.

        rows (Tensor): *Shape:* (n,), int64.
        """
        lengths, origin = (torch.cat((x, x[rows])) for x in (self.lengths, self.origin))
        return Sequences(lengths, origin, self.stride, self.longest)


def refuse_holes(mask: Tensor) -> None:
    """mask: (seq_length, batch_size), bool. RAISES (ValueError): A row of it is not left-aligned."""
    holes = mask[1:] > mask[:-1]
    if holes.any():
        row = int(holes.any(dim=0).int().argmax())
        raise ValueError(
            f"row {row}: the mask is off at step {int(holes[:, row].int().argmax())} and on at the next; "
            "a CRF sees no gaps: take the masked tokens out of the sequence"
        )


@dataclass(frozen=True, eq=False)
class Layout:
    """The positions of a batch, step by step: those of step t are the next ``sizes[t]``.

    Where the host knows the lengths the layout is packed: longest row first and no padding, as in
    `torch.nn.utils.rnn.PackedSequence`. Else it is padded: every step has all rows, and those that are over go on
    as `real` says; nothing flows back from there.

    sizes (List[int]): The rows of each step; never more than in the step before.
    row (Tensor): *Shape:* (n_positions,), int64. Which of the caller's rows a position belongs to.
    source (Tensor): *Shape:* (n_positions,), int64. Where its token stands in the flat array.
    mirror (Tensor): *Shape:* (n_positions,), int64. The position as far from the row's end as this one is from
        its start, and the other way round.
    previous (Tensor): *Shape:* (n_positions - sizes[0],), int64. The position one step earlier in the same row,
        for all positions but those of the first step.
    last (Tensor): *Shape:* (batch_size,), int64. The position of each row's end; 0 for an empty row.
    filled (Tensor): *Shape:* (batch_size,), bool. Which rows are not empty.
    real (Optional[Tensor]): *Shape:* (n_positions,), bool; None where all are.
    """

    sizes: List[int]
    row: Tensor
    source: Tensor
    mirror: Tensor
    previous: Tensor
    last: Tensor
    filled: Tensor
    real: Optional[Tensor]

    @classmethod
    def of(cls, sequences: Sequences, device: torch.device) -> "Layout":
        """The layout of some sequences.

        sequences (Sequences): The rows.
        device (torch.device): Where the tensors shall lie.
        """
        if sequences.longest is None:
            return cls._packed(sequences, device)
        return cls._padded(sequences, sequences.longest)

    @classmethod
    def _packed(cls, sequences: Sequences, device: torch.device) -> "Layout":
        # In NumPy: a score of operations on small arrays, each of which costs torch several times as much.
        lengths, origin = sequences.lengths.numpy(), sequences.origin.numpy()
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

        def on_device(array: NDArray[Any]) -> Tensor:
            tensor = torch.from_numpy(array)
            return tensor if device.type == "cpu" else tensor.to(device, non_blocking=True)

        return cls(
            sizes.tolist(),
            row=on_device(row),
            source=on_device(origin.take(row) + step * sequences.stride),
            mirror=on_device(begins.take(lengths.take(row) - 1 - step) + slot),
            # The rows of a step are the first ones of the step before.
            previous=on_device(positions[len(order) :] - sizes[:-1].repeat(sizes[1:])),
            last=on_device(last),
            filled=on_device(lengths > 0),
            real=None,
        )

    @classmethod
    def _padded(cls, sequences: Sequences, longest: int) -> "Layout":
        lengths = sequences.lengths
        batch_size = len(lengths)
        row = torch.arange(batch_size, device=lengths.device).repeat(longest)
        step = torch.arange(longest, device=lengths.device).repeat_interleave(batch_size)
        real = step < lengths[row]
        # Past its end a row stays on its last token.
        inside = torch.where(real, step, (lengths[row] - 1).clamp(min=0))
        rows = torch.arange(batch_size, device=lengths.device)
        return cls(
            [batch_size] * longest,
            row=row,
            source=sequences.origin[row] + inside * sequences.stride,
            mirror=(lengths[row] - 1 - inside).clamp(min=0) * batch_size + row,
            previous=torch.arange(max(longest - 1, 0) * batch_size, device=lengths.device),
            last=(lengths - 1).clamp(min=0) * batch_size + rows,
            filled=lengths > 0,
            real=real,
        )

    @property
    def n_first(self) -> int:
        """The positions of the first step: the rows that are not empty, where the layout is packed."""
        return self.sizes[0] if self.sizes else 0

    def at_real(self, values: Tensor, instead: float = 0.0) -> Tensor:
        """Put a number in place of what stands at padding, be it finite or not.

        values (Tensor): *Shape:* (n_positions, ...).
        instead (float): The number.
        RETURNS (Tensor): *Shape:* that of `values`.
        """
        if self.real is None:
            return values
        return torch.where(self.real.view(-1, *[1] * (values.dim() - 1)), values, instead)

    def at_last(self, values: Tensor) -> Tensor:
        """What stands at each row's last position, 0 for an empty row.

        values (Tensor): *Shape:* (n_positions, ...).
        RETURNS (Tensor): *Shape:* (batch_size, ...).
        """
        if not self.sizes:
            return values.new_zeros(len(self.last), *values.shape[1:])
        return self.at_filled(values.index_select(0, self.last))

    def at_filled(self, values: Tensor) -> Tensor:
        """Put 0 in place of what stands at empty rows, be it finite or not.

        values (Tensor): *Shape:* (batch_size, ...).
        RETURNS (Tensor): *Shape:* that of `values`.
        """
        if self.real is None and self.n_first == len(self.filled):
            return values
        return torch.where(self.filled.view(-1, *[1] * (values.dim() - 1)), values, 0)

    def per_row(self, values: Tensor) -> Tensor:
        """Sum the values of each row's positions.

        values (Tensor): *Shape:* (n_positions,).
        RETURNS (Tensor): *Shape:* (batch_size,).
        """
        return values.new_zeros(len(self.filled)).index_add_(0, self.row, self.at_real(values))
