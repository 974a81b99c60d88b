"""What the model hands to the component: the potentials of a CRF over each doc's tokens."""

from dataclasses import dataclass
from typing import List

from thinc.api import Ops
from thinc.types import Floats1d, Floats2d


@dataclass
class Potentials:
    """The potentials of one batch, all in nats; also the shape of their gradient.

    emissions (List[Floats2d]): *Shape:* (n_tokens, n_tags) a doc.
    start (Floats1d): *Shape:* (n_tags,).
    transitions (Floats2d): *Shape:* (n_tags, n_tags); ``[i, j]`` is the step from tag i to tag j.
    end (Floats1d): *Shape:* (n_tags,).

    In the potentials of a model, what BIO forbids stands as `posterior.FORBIDDEN` in `start` and `transitions`.
    """

    emissions: List[Floats2d]
    start: Floats1d
    transitions: Floats2d
    end: Floats1d

    @classmethod
    def empty(cls, ops: Ops, n_docs: int, n_tags: int) -> "Potentials":
        """The potentials of docs without tokens."""
        return cls(
            [ops.alloc2f(0, n_tags) for _ in range(n_docs)],
            ops.alloc1f(n_tags),
            ops.alloc2f(n_tags, n_tags),
            ops.alloc1f(n_tags),
        )
