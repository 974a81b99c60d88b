"""The linear-chain CRF: likelihood, partial likelihood and Viterbi decoding.

Lafferty, McCallum, Pereira (2001), "Conditional random fields: probabilistic models for segmenting and
labeling sequence data", ICML. The partial likelihood marginalises over unknown tags: Tsuboi, Kashima,
Mori, Oda, Matsumoto (2008), "Training conditional random fields using incomplete annotations", COLING, eq. 4.

The functions take the potentials as tensors, so that a caller that holds potentials alone needs no module;
`LinearChainCRF` is the module around them, with the parameters and the calls of `torchcrf.CRF` 0.7.

All is computed in float64: the recursions add one rounding error a step, which in float32 shows in the fifth
digit of a likelihood at a hundred tokens, and in the best path at a few thousand.
"""

from typing import List, Optional, Tuple

import torch
import torchcrf
from torch import Tensor

FORBIDDEN = -1e30
"""The log potential of what cannot be. Finite, so that no ``inf - inf`` makes a NaN of a log-space gradient,
and so low that its exponential is an exact 0 beside any other."""


def log_partition(emissions: Tensor, start: Tensor, transitions: Tensor, end: Tensor, mask: Tensor) -> Tensor:
    """The log of the summed exponentiated scores of all tag sequences (the forward algorithm).

    emissions (Tensor): *Shape:* (seq_length, batch_size, num_tags), any float dtype, in nats.
    start (Tensor): *Shape:* (num_tags,).
    transitions (Tensor): *Shape:* (num_tags, num_tags); entry ``[i, j]`` is the step from tag i to tag j.
    end (Tensor): *Shape:* (num_tags,).
    mask (Tensor): *Shape:* (seq_length, batch_size), bool, left-aligned, the first row all True.
    RETURNS (Tensor): *Shape:* (batch_size,), float64.
    """
    transitions = transitions.double()
    steps = emissions.double().unbind(0)
    # shape: (batch_size, num_tags)
    alpha = start.double() + steps[0]
    for emission, on in zip(steps[1:], mask[1:].unsqueeze(2).unbind(0)):
        # shape: (batch_size, num_tags, num_tags) -> (batch_size, num_tags)
        following = torch.logsumexp(alpha.unsqueeze(2) + transitions, dim=1) + emission
        alpha = torch.where(on, following, alpha)
    return torch.logsumexp(alpha + end.double(), dim=1)


def path_score(
    emissions: Tensor, start: Tensor, transitions: Tensor, end: Tensor, tags: Tensor, mask: Tensor
) -> Tensor:
    """The score of one given tag sequence a row.

    tags (Tensor): *Shape:* (seq_length, batch_size), int64; values at masked positions are ignored.
    RETURNS (Tensor): *Shape:* (batch_size,), float64. The other arguments are those of `log_partition`.
    """
    # shape: (seq_length, batch_size)
    emitted = emissions.double().gather(2, tags.unsqueeze(2)).squeeze(2)
    stepped = transitions.double()[tags[:-1], tags[1:]]
    # shape: (1, batch_size) -> (batch_size,)
    last = tags.gather(0, mask.sum(dim=0, keepdim=True) - 1).squeeze(0)
    return (
        start.double()[tags[0]]
        + emitted.masked_fill(~mask, 0.0).sum(dim=0)
        + stepped.masked_fill(~mask[1:], 0.0).sum(dim=0)
        + end.double()[last]
    )


def negative_log_likelihood(
    emissions: Tensor, start: Tensor, transitions: Tensor, end: Tensor, lattice: Tensor, mask: Tensor
) -> Tensor:
    """The exact negative log-likelihood of a gold lattice: ``log Z(all) - log Z(allowed)``.

    Where a row's tags are all known, ``log Z(allowed)`` is the score of its one path.

    lattice (Tensor): *Shape:* (seq_length, batch_size, num_tags), bool: the tags that each token may have.
        One True a token is full annotation, several are partial, all are none.
    RETURNS (Tensor): *Shape:* (batch_size,), float64, in nats. About ``-FORBIDDEN`` where no legal path
        lies in the lattice. The other arguments are those of `log_partition`.
    """
    log_z = log_partition(emissions, start, transitions, end, mask)
    partial = ((lattice.sum(dim=2) != 1) & mask).any(dim=0)
    log_gold = path_score(emissions, start, transitions, end, lattice.int().argmax(dim=2), mask)
    if partial.any():
        allowed = emissions[:, partial].double().masked_fill(~lattice[:, partial], FORBIDDEN)
        log_allowed = log_partition(allowed, start, transitions, end, mask[:, partial])
        log_gold = log_gold.masked_scatter(partial, log_allowed)
    return log_z - log_gold


def viterbi(emissions: Tensor, start: Tensor, transitions: Tensor, end: Tensor, mask: Tensor) -> Tensor:
    """The best tag sequence of each row (Viterbi 1967).

    The back-pointers stay on the device of the emissions, and a masked position points at itself, so that the
    way back is one gather a step for the whole batch.

    RETURNS (Tensor): *Shape:* (seq_length, batch_size), int64, on the same device; masked positions repeat the
        row's last tag. Ties go as in `torchcrf`. The arguments are those of `log_partition`.
    """
    length, batch_size, num_tags = emissions.shape
    emissions, transitions = emissions.double(), transitions.double()
    # shape: (batch_size, num_tags)
    score = start.double() + emissions[0]
    stay = torch.arange(num_tags, device=emissions.device).expand(batch_size, num_tags)
    pointers: List[Tensor] = []
    for t in range(1, length):
        on = mask[t].unsqueeze(1)
        # shape: (batch_size, num_tags, num_tags) -> (batch_size, num_tags)
        best, pointer = (score.unsqueeze(2) + transitions).max(dim=1)
        score = torch.where(on, best + emissions[t], score)
        pointers.append(torch.where(on, pointer, stay))
    # shape: (batch_size, 1)
    tag = (score + end.double()).argmax(dim=1, keepdim=True)
    path = [tag]
    for pointer in reversed(pointers):
        tag = pointer.gather(1, tag)
        path.append(tag)
    return torch.cat(path[::-1], dim=1).t()


class LinearChainCRF(torchcrf.CRF):
    """`torchcrf.CRF` with constraints that hold in training and in decoding, computed as above.

    The parameters, their initialisation, ``forward`` (the log-likelihood), ``decode`` and the checks of their
    arguments are those of `torchcrf.CRF`. The constraints are buffers that stay out of the state dict, since
    they follow from the labels. A gold path that breaks them has a likelihood of 0.

    num_tags (int): Number of tags.
    batch_first (bool): Whether ``forward`` and ``decode`` take (batch_size, seq_length, ...).
    legal_starts (Optional[Tensor]): *Shape:* (num_tags,), bool. Which tags may begin a sequence.
    legal_transitions (Optional[Tensor]): *Shape:* (num_tags, num_tags), bool. ``[i, j]``: may j follow i?
    RAISES (ValueError): A constraint is of another shape.
    """

    illegal_starts: Tensor
    illegal_transitions: Tensor

    def __init__(
        self,
        num_tags: int,
        batch_first: bool = False,
        *,
        legal_starts: Optional[Tensor] = None,
        legal_transitions: Optional[Tensor] = None,
    ) -> None:
        super().__init__(num_tags, batch_first)
        for name, legal, shape in (
            ("starts", legal_starts, (num_tags,)),
            ("transitions", legal_transitions, (num_tags, num_tags)),
        ):
            if legal is None:
                legal = torch.ones(shape, dtype=torch.bool)
            if tuple(legal.shape) != shape:
                raise ValueError(f"legal_{name} has shape {tuple(legal.shape)}, but {shape} is needed")
            self.register_buffer(f"illegal_{name}", ~legal, persistent=False)

    def constrained(self) -> Tuple[Tensor, Tensor, Tensor]:
        """The start, transition and end potentials with `FORBIDDEN` where a constraint forbids.

        RETURNS (Tuple[Tensor, Tensor, Tensor]): *Shapes:* (num_tags,), (num_tags, num_tags), (num_tags,).
        """
        return (
            self.start_transitions.masked_fill(self.illegal_starts, FORBIDDEN),
            self.transitions.masked_fill(self.illegal_transitions, FORBIDDEN),
            self.end_transitions.clone(),  # like the others: what is handed out does not change with a step
        )

    # `torchcrf.CRF` checks, transposes and reduces; these three are its computations.

    def _compute_score(self, emissions: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        return path_score(emissions, *self.constrained(), tags, mask.bool())

    def _compute_normalizer(self, emissions: Tensor, mask: Tensor) -> Tensor:
        return log_partition(emissions, *self.constrained(), mask.bool())

    def _viterbi_decode(self, emissions: Tensor, mask: Tensor) -> List[List[int]]:
        mask = mask.bool()
        paths = viterbi(emissions, *self.constrained(), mask).t().tolist()
        return [path[:length] for path, length in zip(paths, mask.sum(dim=0).tolist())]
