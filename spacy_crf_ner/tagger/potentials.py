"""What the model hands to the component: the potentials of a CRF over the tokens of a batch."""

from dataclasses import dataclass
from typing import Any, List, Optional, Sequence, Tuple, cast

import numpy
from numpy.typing import NDArray
from thinc.api import Ops
from thinc.backends import get_array_ops
from thinc.types import Floats1d, Floats2d, Ints1d, Ragged

from spacy_crf_ner.crf.chain import Chain, ExpectedCounts, Lattice
from spacy_crf_ner.crf.layout import Ints, Sequences


@dataclass
class Potentials:
    """The potentials of one batch, all in nats; also the shape of their gradient.

    emissions (Ragged): ``data``, *shape:* (n_tokens, n_tags): all docs, one after the other; ``lengths``, *shape:*
        (n_docs,), int, on the CPU.
    start (Floats1d): *Shape:* (n_tags,).
    transitions (Floats2d): *Shape:* (n_tags, n_tags); ``[i, j]`` is the step from tag i to tag j.
    end (Floats1d): *Shape:* (n_tags,).

    In the potentials of a model, what BIO forbids is `crf.chain.FORBIDDEN` in `start` and `transitions`.
    """

    emissions: Ragged
    start: Floats1d
    transitions: Floats2d
    end: Floats1d

    @classmethod
    def empty(cls, ops: Ops, n_docs: int, n_tags: int) -> "Potentials":
        """The potentials of docs without tokens."""
        return cls(
            Ragged(ops.alloc2f(0, n_tags), cast(Ints1d, numpy.zeros(n_docs, dtype="int32"))),
            ops.alloc1f(n_tags),
            ops.alloc2f(n_tags, n_tags),
            ops.alloc1f(n_tags),
        )

    @property
    def n_tags(self) -> int:
        """Number of tags."""
        return self.start.shape[0]

    @property
    def arrays(self) -> Tuple[Floats2d, Floats1d, Floats2d, Floats1d]:
        """The emissions of all tokens, start, transitions and end."""
        return self.emissions.dataXd, self.start, self.transitions, self.end  # type: ignore[return-value]

    def by_doc(self) -> List[Floats2d]:
        """The emissions of each doc. *Shape:* (n_tokens of the doc, n_tags) each."""
        ends = numpy.cumsum(numpy.asarray(self.emissions.lengths)).tolist()
        starts = [0, *ends[:-1]]
        return [self.emissions.dataXd[start:end] for start, end in zip(starts, ends)]  # type: ignore[misc]

    def of_docs(self, places: Sequence[int]) -> "Potentials":
        """The potentials of some of the docs.

        places (Sequence[int]): Which, in which order.
        RETURNS (Potentials): Theirs, where these are.
        """
        emissions, lengths = self.by_doc(), numpy.asarray(self.emissions.lengths)
        xp: Any = get_array_ops(self.start).xp
        rows = xp.concatenate([self.emissions.dataXd[:0], *(emissions[i] for i in places)])
        chosen = Ragged(rows, cast(Ints1d, lengths[list(places)]))
        return Potentials(chosen, self.start, self.transitions, self.end)

    def of_tags(self, tags: Ints) -> "Potentials":
        """The potentials of some of the tags.

        tags (ndarray): *Shape:* (n,), int64: which, in which order.
        RETURNS (Potentials): Theirs, where these are.
        """
        emissions, start, transitions, end = cast(Tuple[Any, ...], self.arrays)
        at: Any = get_array_ops(self.start).asarray1i(tags)
        chosen = Ragged(emissions[:, at], self.emissions.lengths)
        return Potentials(chosen, start[at], transitions[at][:, at], end[at])

    def plus(self, other: "Potentials", share: float) -> "Potentials":
        """A share of other potentials, and the rest of these: of two gradients, that of the mixed loss.

        other (Potentials): Those of the same docs and tags.
        share (float): The share of the others, from 0 to 1.
        """
        ours, theirs = (cast(Tuple[Any, ...], x.arrays) for x in (self, other))
        emissions, *rest = (x + share * (y - x) for x, y in zip(ours, theirs))
        return Potentials(Ragged(emissions, self.emissions.lengths), *rest)

    def to_chain(self, lattices: Sequence[Lattice], *, temperature: float = 1.0) -> Chain:
        """The CRF over the words of a batch: the tokens that the lattices leave in. The only gather on the way.

        lattices (Sequence[Lattice]): For each doc, *shape:* (n_tokens of the doc, n_tags), bool: which tags each
            token may have. A row without any takes its token out of the sequence: the token before and the token
            after are then neighbours.
        temperature (float): By what all potentials are divided.
        RETURNS (Chain): One row per doc, on the CPU.
        RAISES (ValueError): The potentials are of another number of tags than the lattices.
        """
        for lattice in lattices:
            if lattice.shape[1] != self.n_tags:
                raise ValueError(
                    f"the model scores {self.n_tags} tags, but the component's labels make {lattice.shape[1]}: "
                    "the model was built for other labels"
                )
        # shape: (n_tokens, n_tags)
        allowed = numpy.concatenate([numpy.zeros((0, self.n_tags), dtype=bool), *lattices])
        kept = _words(allowed)
        lengths = numpy.array([numpy.count_nonzero(lattice.any(axis=1)) for lattice in lattices], dtype="int64")
        arrays = [get_array_ops(x).to_numpy(x).astype("float64") for x in self.arrays]
        # shape: (n_words, n_tags)
        emissions = arrays[0] if len(kept) == len(allowed) else arrays[0].take(kept, axis=0)
        emissions, start, transitions, end = (x / temperature for x in (emissions, *arrays[1:]))
        return Chain(emissions, start, transitions, end, Sequences.consecutive(lengths), allowed[kept])

    def gradient(
        self, counts: ExpectedCounts, lattices: Sequence[Lattice], factor: float, tags: Optional[Ints] = None
    ) -> "Potentials":
        """The gradient by these potentials.

        counts (ExpectedCounts): The gradient by those of `to_chain`, or by those of `of_tags`; the other tags have
            none.
        lattices (Sequence[Lattice]): As of `to_chain`.
        factor (float): What it is multiplied by.
        tags (Optional[ndarray]): *Shape:* (n,), int64: the tags of the counts. None: all.
        RETURNS (Potentials): The gradient, where these potentials are.
        """
        n_tags = len(counts.start)
        tags = numpy.arange(n_tags) if tags is None else tags
        d_emissions, d_start, d_transitions, d_end = (numpy.zeros(x.shape, dtype=x.dtype) for x in self.arrays)
        kept = _words(numpy.concatenate([numpy.zeros((0, n_tags), dtype=bool), *lattices]))
        d_emissions[kept[:, None], tags] = factor * counts.emissions
        d_start[tags] = factor * counts.start
        d_transitions[tags[:, None], tags] = factor * counts.transitions
        d_end[tags] = factor * counts.end
        ops = get_array_ops(self.start)
        return Potentials(
            Ragged(ops.asarray2f(d_emissions, dtype=d_emissions.dtype), self.emissions.lengths),
            ops.asarray1f(d_start, dtype=d_start.dtype),
            ops.asarray2f(d_transitions, dtype=d_transitions.dtype),
            ops.asarray1f(d_end, dtype=d_end.dtype),
        )


def _words(lattice: Lattice) -> NDArray[numpy.int64]:
    """The tokens that may have a tag."""
    return numpy.flatnonzero(lattice.any(axis=1))
