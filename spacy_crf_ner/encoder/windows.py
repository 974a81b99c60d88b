"""Long sequences as overlapping windows, and how the windows' outputs become one sequence again."""

from dataclasses import dataclass
from typing import List, Sequence, Tuple

import numpy
import torch
from torch import Tensor


@dataclass(frozen=True)
class Overlaps:
    """Where the rows of whole sequences come from, given the rows of their windows one after the other.

    rows (Tensor): *Shape:* (n_rows,), int64. The window row of each row; of the earlier window where two have it.
    shared (Tensor): *Shape:* (n_shared,), int64. The rows that two windows have.
    later (Tensor): *Shape:* (n_shared,), int64. The later window's row of each of them.
    weight (Tensor): *Shape:* (n_shared,), float32. The later window's weight, in (0, 1); the earlier's is the
        rest.
    """

    rows: Tensor
    shared: Tensor
    later: Tensor
    weight: Tensor

    def over(self, places: Tensor) -> "Overlaps":
        """The same plan for window rows that have been moved.

        places (Tensor): *Shape:* (n_window_rows,), int64: where each window row stands now.
        RETURNS (Overlaps): The plan.
        """
        return Overlaps(places[self.rows], self.shared, places[self.later], self.weight)

    def merge(self, windows: Tensor) -> Tensor:
        """Make one sequence of overlapping windows.

        windows (Tensor): *Shape:* (n_window_rows, width).
        RETURNS (Tensor): *Shape:* (n_rows, width).
        """
        merged = windows.index_select(0, self.rows.to(windows.device))
        if not len(self.shared):
            return merged
        shared, later = self.shared.to(windows.device), self.later.to(windows.device)
        weight = self.weight.to(windows).unsqueeze(1)
        blend = torch.lerp(merged.index_select(0, shared), windows.index_select(0, later), weight)
        return merged.index_copy(0, shared, blend)


def find_overlaps(windows: Sequence[Sequence[int]], stride: int, *, before: int, after: int) -> Overlaps:
    """Plan how windows become whole sequences.

    Where two windows overlap, each counts by its distance to its own cut edge there: next to the cut it knows
    nothing of what lies beyond, farther in it does. So the weights change over linearly in the overlap.

    windows (Sequence[Sequence[int]]): For each sequence, the lengths of its windows in order, with `before` and
        `after` rows that every window has of its own, for instance [CLS] and [SEP]. The sequence keeps those of
        its first window in front and those of its last one behind. No windows: an empty sequence.
    stride (int): Rows from the start of one window to that of the next. Neighbours alone may overlap: a stride is
        at least half of a window without its own rows, and at most all of it.
    RETURNS (Overlaps): The plan.
    """
    pieces: List[Tuple[numpy.ndarray, ...]] = []
    begin = place = 0
    for lengths in windows:
        if not lengths:
            continue
        begins = begin + numpy.cumsum([0, *lengths[:-1]])
        inner = numpy.asarray(lengths) - before - after
        starts = stride * numpy.arange(len(lengths))
        length = int(starts[-1] + inner[-1])
        steps = numpy.arange(length)
        # The last window that holds each step, and whether the one before holds it too.
        last = numpy.minimum(steps // stride, len(lengths) - 1)
        previous = numpy.maximum(last - 1, 0)
        end = starts[previous] + inner[previous]
        both = (last > 0) & (steps < end)
        first = numpy.where(both, previous, last)
        rows = begins[first] + before + steps - starts[first]
        own_before = begin + numpy.arange(before)
        own_after = begins[-1] + lengths[-1] - after + numpy.arange(after)
        shared = steps[both]
        to_start = shared - starts[last[both]] + 1
        to_end = end[both] - shared
        pieces.append(
            (
                numpy.concatenate([own_before, rows, own_after]),
                place + before + shared,
                begins[last[both]] + before + shared - starts[last[both]],
                (to_start / (to_start + to_end)).astype("float32"),
            )
        )
        begin = int(begins[-1]) + lengths[-1]
        place += length + before + after
    if not pieces:
        empty = torch.empty(0, dtype=torch.int64)
        return Overlaps(empty, empty, empty, torch.empty(0))
    return Overlaps(*(torch.from_numpy(numpy.concatenate(arrays)) for arrays in zip(*pieces)))
