"""Length-sorted buckets: padding that cannot run away. Planned in NumPy, for arrays of any library."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, List, NamedTuple, Sequence, Tuple

import numpy
from numpy.typing import NDArray


class Arrays(NamedTuple):
    """What one array library calls in its own way. Slicing and reshaping are the same in all.

    zeros (Callable): Makes an array of zeros of a shape, a tuple.
    concatenate (Callable): Joins arrays along their first axis.
    take (Callable): Takes rows of an array by their indices, an array of the library.
    convert (Callable): Makes an array of the library, where its others are, of a NumPy array.
    """

    zeros: Callable[[Tuple[int, ...]], Any]
    concatenate: Callable[[List[Any]], Any]
    take: Callable[[Any, Any], Any]
    convert: Callable[[NDArray[Any]], Any]


NUMPY = Arrays(
    zeros=partial(numpy.zeros, dtype="float32"),
    concatenate=numpy.concatenate,
    take=partial(numpy.take, axis=0),
    convert=lambda array: array,
)


@dataclass(frozen=True)
class Buckets:
    """Sequences of like length, padded together.

    masks (List[NDArray]): *Shape:* that of the bucket, (seq_length, batch_size) or batch first, bool: True on real
        positions.
    places (NDArray): *Shape:* (n_tokens,), int64: the place of each token of the sequences among the buckets, all
        of them flat and one after the other.
    """

    masks: List[NDArray[numpy.bool_]]
    places: NDArray[numpy.int64]

    @classmethod
    def from_lengths(
        cls, lengths: Sequence[int], max_padded: int, *, likeness: float = 0.5, batch_first: bool = False
    ) -> "Buckets":
        """Plan the buckets of some sequences.

        lengths (Sequence[int]): Number of tokens of each sequence; 0 is fine.
        max_padded, likeness: As of `length_buckets`.
        batch_first (bool): The buckets are (batch_size, seq_length), not (seq_length, batch_size).
        RETURNS (Buckets): The buckets, those of the longest sequences first.
        """
        ends = numpy.cumsum([0, *lengths])
        masks: List[NDArray[numpy.bool_]] = []
        places = numpy.empty(ends[-1], dtype="int64")
        begin = 0
        for bucket in length_buckets(lengths, max_padded, likeness=likeness):
            longest = lengths[bucket[0]]
            # shape: (batch_size, seq_length)
            mask = numpy.arange(longest) < numpy.asarray([[lengths[i]] for i in bucket])
            masks.append(mask if batch_first else mask.T)
            # shape: that of the bucket -> (batch_size, seq_length)
            place = begin + numpy.arange(mask.size).reshape(masks[-1].shape)
            for row, i in zip(place if batch_first else place.T, bucket):
                places[ends[i] : ends[i + 1]] = row[: lengths[i]]
            begin += mask.size
        return cls(masks, places)

    @property
    def size(self) -> int:
        """Number of tokens in all buckets, padding counted."""
        return sum(mask.size for mask in self.masks)

    def cut(self, flat: Any) -> List[Any]:
        """Cut what lies flat, one bucket after the other, into the buckets.

        flat (Any): *Shape:* (size, ...), an array of any library.
        RETURNS (List[Any]): Views of it, *shape:* that of the bucket and (...).
        """
        ends = numpy.cumsum([0, *(mask.size for mask in self.masks)]).tolist()
        return [
            flat[start:end].reshape(*mask.shape, *flat.shape[1:])
            for mask, start, end in zip(self.masks, ends, ends[1:])
        ]

    def flatten(self, outputs: Sequence[Any], arrays: Arrays) -> Any:
        """Lay the buckets' outputs flat, one after the other: what `places` points into.

        outputs (Sequence[Any]): *Shape:* that of the bucket and (width,), at least one.
        arrays (Arrays): Their library.
        RETURNS (Any): *Shape:* (size, width).
        """
        return arrays.concatenate([output.reshape(-1, output.shape[-1]) for output in outputs])


def map_buckets(
    run: Callable[[Any, Any], Any], rows: Any, lengths: Sequence[int], max_padded: int, arrays: Arrays
) -> Any:
    """Run a function of padded sequences over sequences of any length, in buckets of like length.

    run (Callable[[Any, Any], Any]): Takes the padded sequences, *shape:* (seq_length, batch_size, width), zero
        where padded, and their mask, *shape:* (seq_length, batch_size), bool; returns *shape:* (seq_length,
        batch_size, new_width), with anything where padded. A torch module, or the session of another runtime.
    rows (Any): *Shape:* (sum of lengths, width): the sequences one after the other, with at least one token.
    lengths (Sequence[int]): Number of tokens of each sequence; 0 is fine.
    max_padded (int): See `length_buckets`.
    arrays (Arrays): The library of `rows`.
    RETURNS (Any): *Shape:* (sum of lengths, new_width), in the order of `rows`.
    """
    buckets = Buckets.from_lengths(lengths, max_padded)
    places = arrays.convert(buckets.places)
    padded = arrays.zeros((buckets.size, *rows.shape[1:]))
    padded[places] = rows
    outputs = [run(x, arrays.convert(mask)) for x, mask in zip(buckets.cut(padded), buckets.masks)]
    return arrays.take(buckets.flatten(outputs, arrays), places)


def length_buckets(lengths: Sequence[int], max_padded: int, *, likeness: float = 0.5) -> List[List[int]]:
    """Group sequences of like length so that no group's padded size passes a budget.

    A group also ends where a sequence is shorter than a share of its longest, so no group is padded by more than
    one over that share, and there are only logarithmically many groups more than the budget asks for.

    lengths (Sequence[int]): Number of tokens of each sequence; empty sequences are left out of the groups.
    max_padded (int): The most tokens of a group, padding counted. A longer sequence has a group of its own.
    likeness (float): The least share of a group's longest sequence that its shortest has, in (0, 1].
    RETURNS (List[List[int]]): Indices into `lengths`, longest first.
    """
    buckets: List[List[int]] = []
    longest = 0
    for i in sorted((i for i, n in enumerate(lengths) if n), key=lambda i: -lengths[i]):
        if not buckets or (len(buckets[-1]) + 1) * longest > max_padded or lengths[i] < likeness * longest:
            buckets.append([])
            longest = lengths[i]
        buckets[-1].append(i)
    return buckets
