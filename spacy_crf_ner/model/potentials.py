"""What the model hands to the component: the potentials of a CRF over each doc's tokens."""

from dataclasses import dataclass
from typing import Iterator, List, Sequence, Tuple, cast

import numpy
import torch
from numpy.typing import NDArray
from thinc.api import Ops, torch2xp, xp2torch
from thinc.types import Floats1d, Floats2d
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from spacy_crf_ner.torch_modules import crf
from spacy_crf_ner.torch_modules.buckets import length_mask, padded_buckets

Lattice = NDArray[numpy.bool_]
"""*Shape:* (n_tokens, n_tags): which tags each token may take. A row without any True takes its token out of
the sequence: the token before and the token after are then neighbours."""

MAX_CELLS = 2**22
"""The most (token, tag, tag) cells, padding counted, that one recursion over a bucket of sequences goes through;
training holds a few float64 numbers for each."""


@dataclass
class Potentials:
    """The potentials of one batch, all in nats; also the shape of their gradient.

    emissions (List[Floats2d]): *Shape:* (n_tokens, n_tags) a doc.
    start (Floats1d): *Shape:* (n_tags,).
    transitions (Floats2d): *Shape:* (n_tags, n_tags); ``[i, j]`` is the step from tag i to tag j.
    end (Floats1d): *Shape:* (n_tags,).

    In the potentials of a model, what BIO forbids stands as `crf.FORBIDDEN` in `start` and `transitions`.
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


def negative_log_likelihood(
    ops: Ops, potentials: Potentials, lattices: Sequence[Lattice]
) -> Tuple[float, Potentials]:
    """The summed negative log-likelihood of a batch's gold lattices, and its gradient.

    ops (Ops): Where the potentials lie.
    potentials (Potentials): The batch's potentials.
    lattices (Sequence[Lattice]): The gold tags of each doc.
    RETURNS (Tuple[float, Potentials]): The sum over the docs in nats, and its derivative by each potential.
    """
    lengths = [len(emission) for emission in potentials.emissions]
    arrays = (_flat(ops, potentials), potentials.start, potentials.transitions, potentials.end)
    leaves = tuple(xp2torch(array, requires_grad=True) for array in arrays)
    flat, start, transitions, end = leaves
    total = 0.0
    # One backward a bucket, so that only one bucket's tape is held at a time.
    for _, emissions, lattice, mask in _buckets(flat, lengths, lattices):
        loss = crf.negative_log_likelihood(emissions, start, transitions, end, lattice, mask).sum()
        loss.backward()
        total += loss.item()
    d_flat, *d_shared = (
        torch2xp(leaf.grad if leaf.grad is not None else torch.zeros_like(leaf)) for leaf in leaves
    )
    d_emissions = cast(List[Floats2d], ops.unflatten(d_flat, lengths))  # type: ignore[call-overload]
    return total, Potentials(d_emissions, *d_shared)  # type: ignore[arg-type]


def best_tags(ops: Ops, potentials: Potentials, lattices: Sequence[Lattice]) -> List[NDArray[numpy.int64]]:
    """The best legal tag sequence of each doc.

    ops (Ops): Where the potentials lie.
    potentials (Potentials): The batch's potentials.
    lattices (Sequence[Lattice]): What each doc's tokens may be.
    RETURNS (List[ndarray]): *Shape:* (n_tokens,), int64, a doc; tag 0 (O) for a token that its lattice takes
        out of the sequence.
    RAISES (ValueError): An emission is not a finite number.
    """
    lengths = [len(emission) for emission in potentials.emissions]
    tags = [numpy.zeros(length, dtype="int64") for length in lengths]
    flat = xp2torch(_flat(ops, potentials))
    if not torch.isfinite(flat).all():
        raise ValueError("the model's scores are not finite numbers: its training diverged; train it anew")
    start, transitions, end = (
        xp2torch(array) for array in (potentials.start, potentials.transitions, potentials.end)
    )
    buckets: List[List[int]] = []
    paths: List[Tensor] = []
    for bucket, emissions, lattice, mask in _buckets(flat, lengths, lattices):
        allowed = emissions.masked_fill(~lattice, crf.FORBIDDEN)
        buckets.append(bucket)
        paths.append(crf.viterbi(allowed, start, transitions, end, mask).flatten())
    if paths:
        # One transfer to the host a batch.
        on_host = torch.cat(paths).cpu().numpy()
        cuts = numpy.cumsum([len(path) for path in paths[:-1]])
        for bucket, path in zip(buckets, numpy.split(on_host, cuts)):
            for i, best in zip(bucket, path.reshape(-1, len(bucket)).T):
                words = lattices[i].any(axis=1)
                tags[i][words] = best[: words.sum()]
    return tags


def _flat(ops: Ops, potentials: Potentials) -> Floats2d:
    """The emissions of all docs, one below the other. *Shape:* (n_tokens of the batch, n_tags)."""
    return ops.flatten(potentials.emissions)


def _buckets(
    flat: Tensor, lengths: List[int], lattices: Sequence[Lattice]
) -> Iterator[Tuple[List[int], Tensor, Tensor, Tensor]]:
    """Cut flat emissions into padded buckets of sequences, without the tokens that a lattice takes out.

    YIELDS: Indices of the docs; emissions and lattice, *shape:* (seq_length, batch_size, n_tags); mask.
    """
    sequences, allowed = [], []
    for emission, lattice in zip(flat.split(lengths), lattices):
        words = lattice.any(axis=1)
        if not words.all():
            emission = emission[torch.from_numpy(words.nonzero()[0]).to(flat.device)]
            lattice = lattice[words]
        sequences.append(emission)
        allowed.append(torch.from_numpy(lattice))
    for bucket, emissions, sizes in padded_buckets(sequences, MAX_CELLS // flat.shape[1] ** 2):
        padded = pad_sequence([allowed[i] for i in bucket]).to(flat.device)
        yield bucket, emissions, padded, length_mask(sizes, flat.device)
