"""Long texts as overlapping windows, and how the windows' outputs become one sequence again.

Planned in NumPy, for arrays of any library: the encoder of a window may be a torch module or of another runtime.
"""

from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy
from numpy.typing import NDArray

from spacy_crf_ner.torch_utils.buckets import Arrays, Buckets

LIKENESS = 0.8
"""The least share of the longest that windows padded together have: padding stays below a quarter."""

Ids = NDArray[numpy.int64]


@dataclass(frozen=True)
class Overlaps:
    """Where the rows of whole sequences come from, given the rows of their windows one after the other.

    rows (NDArray): *Shape:* (n_rows,), int64. The window row of each row; of the earlier window where two have it.
    shared (NDArray): *Shape:* (n_shared,), int64. The rows that two windows have.
    later (NDArray): *Shape:* (n_shared,), int64. The later window's row of each of them.
    weight (NDArray): *Shape:* (n_shared,), float32. The later window's weight, in (0, 1); the earlier's is the
        rest.
    """

    rows: Ids
    shared: Ids
    later: Ids
    weight: NDArray[numpy.float32]

    def moved(self, places: Ids) -> "Overlaps":
        """The same plan for window rows that have been moved.

        places (NDArray): *Shape:* (n_window_rows,), int64: where each window row is now.
        RETURNS (Overlaps): The plan.
        """
        return Overlaps(places[self.rows], self.shared, places[self.later], self.weight)

    def merge(self, windows: Any, arrays: Arrays) -> Any:
        """Make one sequence of overlapping windows.

        windows (Any): *Shape:* (n_window_rows, width).
        arrays (Arrays): Their library.
        RETURNS (Any): *Shape:* (n_rows, width).
        """
        merged = arrays.take(windows, arrays.convert(self.rows))
        if not len(self.shared):
            return merged
        shared = arrays.convert(self.shared)
        # shape: (n_shared, width)
        earlier, later = arrays.take(merged, shared), arrays.take(windows, arrays.convert(self.later))
        merged[shared] = earlier + arrays.convert(self.weight[:, None]) * (later - earlier)
        return merged


@dataclass(frozen=True)
class WindowBatch:
    """Windows of word-pieces, and how they make up the texts.

    input_ids (List[NDArray]): *Shape:* (length,) each, int64: a window's word-pieces.
    token_type_ids (Optional[List[NDArray]]): Of the same shapes, where the encoder takes them.
    overlaps (Overlaps): How the windows' rows become those of the texts.
    """

    input_ids: List[Ids]
    token_type_ids: Optional[List[Ids]]
    overlaps: Overlaps


def encode(
    run: Callable[[Dict[str, Ids]], Any],
    batch: WindowBatch,
    arrays: Arrays,
    *,
    pad_id: int,
    max_padded_tokens: int,
) -> Any:
    """Encode texts by a function that encodes windows.

    run (Callable[[Dict[str, NDArray]], Any]): Takes `input_ids`, `attention_mask` and, where the batch has them,
        `token_type_ids`, *shape:* (batch_size, seq_length), int64, and returns *shape:* (batch_size, seq_length,
        width). A torch module, or the session of another runtime.
    batch (WindowBatch): At least one window.
    arrays (Arrays): The library of what `run` returns.
    pad_id (int): The word-piece that fills up.
    max_padded_tokens (int): The most word-pieces of one call, padding counted.
    RETURNS (Any): *Shape:* (n_rows, width): the texts' word-pieces, one text after the other, each with the
        special tokens of its ends.
    """
    lengths = [len(ids) for ids in batch.input_ids]
    buckets = Buckets.from_lengths(lengths, max_padded_tokens, likeness=LIKENESS, batch_first=True)
    columns = {"input_ids": _padded(batch.input_ids, buckets, pad_id)}
    columns["attention_mask"] = [mask.astype("int64") for mask in buckets.masks]
    if batch.token_type_ids is not None:
        columns["token_type_ids"] = _padded(batch.token_type_ids, buckets, 0)
    outputs = [run(dict(zip(columns, inputs))) for inputs in zip(*columns.values())]
    return batch.overlaps.moved(buckets.places).merge(buckets.flatten(outputs, arrays), arrays)


def _padded(ids: List[Ids], buckets: Buckets, fill: int) -> List[Ids]:
    flat = numpy.full(buckets.size, fill, dtype="int64")
    flat[buckets.places] = numpy.concatenate(ids)
    return buckets.cut(flat)


def find_overlaps(windows: Sequence[Sequence[int]], stride: int, *, before: int, after: int) -> Overlaps:
    """Plan how windows become whole sequences.

    Where two windows overlap, each counts by its distance to its own cut edge there: next to the cut it knows
    nothing of what lies beyond, farther in it does. So the weights change over linearly in the overlap.

    windows (Sequence[Sequence[int]]): For each sequence, the lengths of its windows in order, with `before` and
        `after` rows that every window has of its own, for instance [CLS] and [SEP]. The sequence keeps those of
        its first window in front and those of its last one behind. No windows: an empty sequence.
    stride (int): Rows from the start of one window to that of the next. Only neighbours may overlap: a stride is
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
        empty = numpy.empty(0, dtype="int64")
        return Overlaps(empty, empty, empty, numpy.empty(0, dtype="float32"))
    return Overlaps(*(numpy.concatenate(arrays) for arrays in zip(*pieces)))
