"""What the model hands to the component: the potentials of a CRF over each doc's tokens."""

from dataclasses import dataclass
from typing import List, Tuple

from thinc.api import Ops
from thinc.types import Floats1d, Floats2d


@dataclass
class Potentials:
    """The potentials of one batch, all in nats; also the shape of their gradient.

    emissions (List[Floats2d]): *Shape:* (n_tokens, n_tags) a doc.
    start (Floats1d): *Shape:* (n_tags,).
    transitions (Floats2d): *Shape:* (n_tags, n_tags); ``[i, j]`` is the step from tag i to tag j.
    end (Floats1d): *Shape:* (n_tags,).

    In the potentials of a model, what BIO forbids is `forward_backward.FORBIDDEN` in `start` and `transitions`.
    """

    emissions: List[Floats2d]
    start: Floats1d
    transitions: Floats2d
    end: Floats1d

    def flat(self, ops: Ops) -> Tuple[Floats2d, Floats1d, Floats2d, Floats1d]:
        """The emissions of all docs, one below the other, and the others as they are."""
        n_tags = self.start.shape[0]
        emissions = ops.flatten(self.emissions) if self.emissions else ops.alloc2f(0, n_tags)
        return emissions, self.start, self.transitions, self.end

    @classmethod
    def empty(cls, ops: Ops, n_docs: int, n_tags: int) -> "Potentials":
        """The potentials of docs without tokens."""
        return cls(
            [ops.alloc2f(0, n_tags) for _ in range(n_docs)],
            ops.alloc1f(n_tags),
            ops.alloc2f(n_tags, n_tags),
            ops.alloc1f(n_tags),
        )
