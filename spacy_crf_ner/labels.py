"""Entity labels and the BIO tags that a tagger has for them, by index.

The tags of n labels are ``O, B-1, I-1, B-2, I-2, ...``. A label that is added later appends two tags and moves
none, so a trained model can grow. How tags are written in files, in BIO and other schemes, is in `tagging`.
"""

from dataclasses import dataclass
from typing import List, Sequence, Tuple, TypeVar

import numpy
from numpy.typing import NDArray

OUTSIDE = "O"

LabeledSpan = Tuple[int, int, str]
"""(start, end, label): token offsets, the end exclusive."""

Index = TypeVar("Index", int, NDArray[numpy.int64])


@dataclass(frozen=True)
class BioTags:
    """The BIO tags of some labels. Tag 0 is O.

    n_labels (int): Number of labels.
    """

    n_labels: int

    @classmethod
    def from_size(cls, n_tags: int) -> "BioTags":
        """The tags of a model that has so many.

        n_tags (int): Number of tags.
        RAISES (ValueError): No number of labels makes so many tags.
        """
        if n_tags < 1 or n_tags % 2 == 0:
            raise ValueError(f"n_tags must be odd: O, and B- and I- of each label; got {n_tags}")
        return cls(n_tags // 2)

    @property
    def size(self) -> int:
        """Number of tags."""
        return 2 * self.n_labels + 1

    @staticmethod
    def begin(label: Index) -> Index:
        """The tag B- of a label, or of each of an array of labels, by index."""
        return 2 * label + 1

    @staticmethod
    def inside(label: Index) -> Index:
        """The tag I- of a label, or of each of an array of labels, by index."""
        return 2 * label + 2

    @staticmethod
    def label_of(tag: Index) -> Index:
        """The label of a tag, or of each of an array of tags; -1 for O."""
        return (tag + 1) // 2 - 1

    @property
    def is_begin(self) -> NDArray[numpy.bool_]:
        """Which tags are B-. *Shape:* (size,)."""
        return numpy.arange(self.size) % 2 == 1

    @property
    def is_inside(self) -> NDArray[numpy.bool_]:
        """Which tags are I-. *Shape:* (size,)."""
        tags = numpy.arange(self.size)
        return (tags > 0) & (tags % 2 == 0)

    def names(self, labels: Sequence[str]) -> Tuple[str, ...]:
        """The tags as they are written.

        labels (Sequence[str]): The labels, in order.
        RETURNS (Tuple[str, ...]): One name per tag, "O" first.
        """
        return (OUTSIDE, *(f"{prefix}-{label}" for label in labels for prefix in "BI"))

    @property
    def legal_starts(self) -> NDArray[numpy.bool_]:
        """Which tags may begin a sequence: all but I-. *Shape:* (size,)."""
        return ~self.is_inside

    @property
    def continues(self) -> NDArray[numpy.bool_]:
        """Which tag continues an entity: I-X after B-X and I-X.

        *Shape:* (size, size); entry ``[i, j]`` is of tag j after tag i.
        """
        label = self.label_of(numpy.arange(self.size))
        return self.is_inside & (label[:, None] == label)

    @property
    def legal_transitions(self) -> NDArray[numpy.bool_]:
        """Which tag may follow which: I-X only B-X and I-X, every other tag any.

        *Shape:* (size, size); entry ``[i, j]`` is the step from tag i to tag j.
        """
        return ~self.is_inside | self.continues

    def spans(self, path: NDArray[numpy.int64]) -> List[Tuple[int, int, int]]:
        """The entities of a tag sequence.

        path (ndarray): *Shape:* (n_tokens,), int64: tags. Sequences that follow one another may be one path: no
            entity runs from one into the next, since no legal sequence begins with I-.
        RETURNS (List[Tuple[int, int, int]]): (start, end, label) in order of their start, the label by index.
        RAISES (ValueError): An I- continues no entity of its label.
        """
        inside = self.is_inside[path]
        label = self.label_of(path)
        orphans = inside.copy()
        orphans[1:] &= label[1:] != label[:-1]
        if orphans.any():
            position = int(orphans.argmax())
            raise ValueError(f"tag {int(path[position])} at position {position} continues no entity of its label")
        starts = numpy.flatnonzero(self.is_begin[path])
        # An entity ends before the next token that does not continue it.
        others = numpy.append(numpy.flatnonzero(~inside), len(path))
        ends = others[numpy.searchsorted(others, starts, side="right")]
        return list(zip(starts.tolist(), ends.tolist(), label[starts].tolist()))
