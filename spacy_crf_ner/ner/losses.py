"""Losses on potentials, each with its gradient: gold annotation, an earlier model, and a temperature's fit."""

from dataclasses import replace
from typing import List, Sequence, Tuple, cast

import torch
from thinc.api import Ops, torch2xp, xp2torch
from thinc.types import Floats2d
from torch import Tensor

from spacy_crf_ner.crf.forward_backward import FORBIDDEN
from spacy_crf_ner.crf.kl_divergence import kl_divergence
from spacy_crf_ner.crf.likelihood import log_likelihood
from spacy_crf_ner.ner.chain import Chain, Lattice
from spacy_crf_ner.tagger.potentials import Potentials

NEARBY = 0.05
"""How far from the best temperature, in logs, the likelihood is seen to be lower."""


def negative_log_likelihood(
    ops: Ops, potentials: Potentials, lattices: Sequence[Lattice]
) -> Tuple[float, Potentials]:
    """The summed negative log-likelihood of a batch's gold lattices, and its gradient.

    ops (Ops): Where the potentials lie.
    potentials (Potentials): The batch's potentials.
    lattices (Sequence[Lattice]): The gold tags of each doc.
    RETURNS (Tuple[float, Potentials]): The sum over the docs in nats, and its derivative by each potential.
    RAISES (ValueError): The potentials are not finite numbers, or of another number of tags than the lattices.
    """
    leaves = _leaves(ops, potentials)
    chain = Chain.over(leaves, lattices)
    chain.refuse_odd(
        "lower the learning rate, clip gradients (the optimizer's grad_clip) or switch mixed precision off"
    )
    loss = -_gold_log_likelihood(chain.potentials, chain).sum()
    loss.backward()
    return loss.item(), _gradient(ops, potentials, leaves)


def per_token(loss: float, gradient: Potentials) -> Tuple[float, Potentials]:
    """Divide a loss and its gradient, in place, by the batch's number of tokens.

    loss (float): The sum over the batch.
    gradient (Potentials): Its derivative.
    RETURNS (Tuple[float, Potentials]): Both for a token.
    """
    scale = 1.0 / max(sum(len(emission) for emission in gradient.emissions), 1)
    for array in (*gradient.emissions, gradient.start, gradient.transitions, gradient.end):
        array *= scale
    return loss * scale, gradient


def divergence_from(
    ops: Ops, teacher: Potentials, potentials: Potentials, lattices: Sequence[Lattice]
) -> Tuple[float, Potentials]:
    """The summed Kullback-Leibler divergence of a batch's tag sequences from what a teacher thinks of them.

    A student with more tags than the teacher is asked about the teacher's alone: how likely it holds the others
    has no influence, and gets no gradient.

    ops (Ops): Where the potentials lie.
    teacher (Potentials): The teacher's potentials. Its tags are the first ones of the student's.
    potentials (Potentials): The student's potentials.
    lattices (Sequence[Lattice]): Which of the teacher's tags each token may have.
    RETURNS (Tuple[float, Potentials]): KL(teacher || student), the sum over the docs in nats, and its derivative
        by each of the student's potentials.
    """
    leaves = _leaves(ops, potentials)
    n_tags = teacher.start.shape[0]
    emissions, start, transitions, end = leaves
    known = (emissions[:, :n_tags], start[:n_tags], transitions[:n_tags, :n_tags], end[:n_tags])
    student, old = Chain.over(known, lattices), Chain.over(_leaves(ops, teacher), lattices)
    loss, gradients = kl_divergence(old.potentials, student.potentials, student.sequences, student.lattice)
    torch.autograd.backward(student.potentials, gradients)
    return loss, _gradient(ops, potentials, leaves)


def fit_temperature(ops: Ops, batches: Sequence[Tuple[Potentials, Sequence[Lattice], Sequence[Lattice]]]) -> float:
    """The temperature under which gold annotation is most likely (Guo, Pleiss, Sun, Weinberger 2017, "On
    calibration of modern neural networks", section 4.2, for the scores of whole tag sequences).

    ops (Ops): Where the potentials lie.
    batches (Sequence[Tuple[Potentials, Sequence[Lattice], Sequence[Lattice]]]): Potentials, gold lattices, and the
        lattices of all that is possible.
    RETURNS (float): By what all potentials are to be divided.
    RAISES (ValueError): The likelihood has no maximum at a finite temperature above 0.
    """
    chains = [_possible(ops, *batch) for batch in batches]
    log_temperature = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [log_temperature],
        max_iter=50,
        tolerance_grad=1e-9,
        tolerance_change=1e-9,
        line_search_fn="strong_wolfe",
    )
    n_words = max(sum(len(chain.emissions) for chain in chains), 1)

    def loss_at(at: Tensor) -> float:
        optimizer.zero_grad()
        total = 0.0
        # One backward a batch, so that only one batch's tape is held at a time.
        for chain in chains:
            scale = torch.exp(-at).to(chain.emissions.device)
            emissions, start, transitions, end = (x * scale for x in chain.potentials)
            loss = -_gold_log_likelihood((emissions, start, transitions, end), chain).sum() / n_words
            if loss.requires_grad:
                loss.backward()
            total += loss.item()
        return total

    optimizer.step(lambda: loss_at(log_temperature))
    fitted = log_temperature.detach()
    # A model that makes no mistake is the likelier right the colder it is, and the search ends anywhere.
    if not loss_at(fitted) < min(loss_at(fitted - NEARBY), loss_at(fitted + NEARBY)):
        why = (
            "the model's scores say next to nothing about this data"
            if fitted > 0
            else "the data is too small, or the model makes no mistake on it (calibrate on held-out data)"
        )
        raise ValueError(f"no temperature fits: at {fitted.exp().item():.3g} the likelihood still rises; {why}")
    return fitted.exp().item()


def _possible(ops: Ops, potentials: Potentials, gold: Sequence[Lattice], allowed: Sequence[Lattice]) -> Chain:
    """The chain of gold lattices whose other readings are the allowed ones alone."""
    chain, free = (Chain.of(ops, potentials, lattices) for lattices in (gold, allowed))
    return replace(
        chain, emissions=chain.emissions.masked_fill(~free.lattice.to(chain.emissions.device), FORBIDDEN)
    )


def _gold_log_likelihood(potentials: Tuple[Tensor, Tensor, Tensor, Tensor], chain: Chain) -> Tensor:
    """The log-likelihood of each doc's lattice, under potentials of the chain's shapes. *Shape:* (n_docs,)."""
    return log_likelihood(*potentials, chain.sequences, chain.lattice.int().argmax(dim=1), chain.lattice)


def _leaves(ops: Ops, potentials: Potentials) -> Tuple[Tensor, ...]:
    """The potentials as leaves of a tape: emissions of all docs, start, transitions, end."""
    return tuple(xp2torch(x, requires_grad=True) for x in potentials.flat(ops))


def _gradient(ops: Ops, potentials: Potentials, leaves: Tuple[Tensor, ...]) -> Potentials:
    """What has arrived at the leaves."""
    d_flat, *d_shared = (
        torch2xp(leaf.grad if leaf.grad is not None else torch.zeros_like(leaf)) for leaf in leaves
    )
    lengths = [len(emission) for emission in potentials.emissions]
    d_emissions = cast(List[Floats2d], ops.unflatten(d_flat, lengths))  # type: ignore[call-overload]
    return Potentials(d_emissions, *d_shared)  # type: ignore[arg-type]
