"""A batch of sequences under a linear-chain CRF, as everything in this folder takes it."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, Optional, Tuple

import numpy
from numpy.typing import NDArray

from spacy_crf_ner.crf.layout import Ints, Layout, Sequences

Floats = NDArray[numpy.float64]

Lattice = NDArray[numpy.bool_]
"""*Shape:* (n_tokens, n_tags): which tags each token may have."""

FORBIDDEN = -1e30
"""The log potential of what cannot be. Finite, so that no ``inf - inf`` makes a NaN of a gradient, and so low that
its exponential is an exact 0 beside any other."""


class ExpectedCounts(NamedTuple):
    """Expected counts of tags and steps; also the gradient by the potentials, since a score is linear in them.

    emissions (ndarray): *Shape:* (n_tokens, n_tags), float64; 0 for tokens in no row.
    start, transitions, end (ndarray): *Shapes:* (n_tags,), (n_tags, n_tags), (n_tags,), float64.
    """

    emissions: Floats
    start: Floats
    transitions: Floats
    end: Floats


@dataclass(frozen=True, eq=False)
class Chain:
    """A batch of sequences, its potentials in nats, and what is allowed.

    emissions (ndarray): *Shape:* (n_tokens, n_tags), float64: a flat array of all tokens.
    start (ndarray): *Shape:* (n_tags,), float64.
    transitions (ndarray): *Shape:* (n_tags, n_tags), float64; entry ``[i, j]`` is the step from tag i to tag j.
    end (ndarray): *Shape:* (n_tags,), float64.
    sequences (Sequences): Where the rows are in the flat array.
    lattice (Optional[ndarray]): *Shape:* (n_tokens, n_tags), bool: the tags that each token may have. None: all.
    """

    emissions: Floats
    start: Floats
    transitions: Floats
    end: Floats
    sequences: Sequences
    lattice: Optional[Lattice] = None

    @property
    def potentials(self) -> Tuple[Floats, Floats, Floats, Floats]:
        """Emissions, start, transitions, end."""
        return self.emissions, self.start, self.transitions, self.end

    @property
    def n_tags(self) -> int:
        """Number of tags."""
        return len(self.start)

    @cached_property
    def layout(self) -> Layout:
        """The order in which the recursions go through the batch."""
        return Layout.from_sequences(self.sequences)

    def tokens(self) -> Floats:
        """The emissions in the layout's order, `FORBIDDEN` where the lattice forbids.

        RETURNS (ndarray): *Shape:* (n_positions, n_tags), float64; a new array.
        """
        source = self.layout.source
        tokens = self.emissions.take(source, axis=0)
        if self.lattice is not None:
            tokens[~self.lattice.take(source, axis=0)] = FORBIDDEN
        return tokens

    def rows(self, chosen: Ints) -> "Chain":
        """The same batch with some of its rows.

        chosen (ndarray): *Shape:* (n,), int64: which.
        """
        return replace(self, sequences=self.sequences.rows(chosen))

    def under(self, lattice: Optional[Lattice]) -> "Chain":
        """The same batch under another lattice.

        lattice (Optional[ndarray]): *Shape:* (n_tokens, n_tags), bool. None: every tag is allowed.
        """
        return replace(self, lattice=lattice)

    def scaled(self, factor: float) -> "Chain":
        """The same batch, every potential times a factor."""
        emissions, start, transitions, end = (x * factor for x in self.potentials)
        return replace(self, emissions=emissions, start=start, transitions=transitions, end=end)

    def check_finite(self, advice: str) -> None:
        """Look for potentials that are not finite numbers.

        advice (str): What to do about it, for the message.
        RAISES (ValueError): There are some; the message names the row of an emission.
        """
        for row, (length, origin) in enumerate(zip(self.sequences.lengths, self.sequences.origin)):
            places = slice(origin, origin + length * self.sequences.stride, self.sequences.stride)
            if not numpy.isfinite(self.emissions[places]).all():
                raise ValueError(f"the model's scores for doc {row} of the batch are not finite numbers; {advice}")
        if not all(numpy.isfinite(x).all() for x in (self.start, self.transitions, self.end)):
            raise ValueError(f"the CRF's transitions are not finite numbers; {advice}")
