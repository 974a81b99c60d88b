"""How far one CRF's distribution over tag sequences is from another's."""

from typing import Optional, Tuple

import torch
from torch import Tensor

from spacy_crf_ner.crf.layout import Sequences
from spacy_crf_ner.crf.marginals import posterior_of

Tensors = Tuple[Tensor, Tensor, Tensor, Tensor]


def kl_divergence(
    teacher: Tensors, student: Tensors, sequences: Sequences, lattice: Optional[Tensor] = None
) -> Tuple[float, Tensors]:
    """The Kullback-Leibler divergence KL(teacher || student) over the tag sequences of a batch, and its gradient.

    A score is linear in its potentials, so the expectation of the student's score under the teacher needs the
    teacher's expected counts alone, and the gradient is the student's expected counts less the teacher's.

    teacher, student (Tensors): Emissions, *shape:* (n_tokens, num_tags), start, *shape:* (num_tags,), transitions,
        *shape:* (num_tags, num_tags), and end, *shape:* (num_tags,), in nats. Both forbid the same.
    sequences (Sequences): Where the rows lie in the emissions.
    lattice (Optional[Tensor]): *Shape:* (n_tokens, num_tags), bool: the tags that each token may have; all by
        default.
    RETURNS (Tuple[float, Tensors]): The sum over the rows in nats, and its derivative by the student's potentials.
    """
    counts = []
    log_z = []
    for emissions, start, transitions, end in (teacher, student):
        posterior = posterior_of(emissions, start, transitions, end, sequences, lattice)
        layout = posterior.layout
        gamma, steps = posterior.expectations(torch.ones_like(layout.row, dtype=torch.float64))
        by_token = gamma.new_zeros(emissions.shape).index_add_(0, layout.source, gamma)
        counts.append((by_token, gamma[: layout.n_first].sum(dim=0), steps, layout.at_last(gamma).sum(dim=0)))
        log_z.append(posterior.log_z.sum())
    old, new = counts
    gain = sum(
        (count * (theirs.detach().double() - ours.detach().double())).sum()
        for count, theirs, ours in zip(old, teacher, student)
    )
    gradients = tuple((ours - theirs).to(x.dtype) for ours, theirs, x in zip(new, old, student))
    return float(log_z[1] - log_z[0] + gain), gradients  # type: ignore[return-value]
