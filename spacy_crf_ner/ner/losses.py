"""Losses on potentials, each with its gradient: gold annotation, an earlier model, and a temperature's fit."""

from typing import List, Optional, Sequence, Tuple

import numpy

from spacy_crf_ner.crf.chain import Chain, Lattice
from spacy_crf_ner.crf.divergences import Divergence, kl_divergence
from spacy_crf_ner.crf.layout import Ints
from spacy_crf_ner.crf.likelihood import log_likelihood
from spacy_crf_ner.tagger.potentials import Potentials

NEARBY = 0.05
"""How far from the best temperature, in logs, the likelihood is seen to be lower."""

Batch = Tuple[Potentials, Sequence[Lattice], Sequence[Lattice]]
"""Potentials, gold lattices, and the lattices of all that is possible."""


def negative_log_likelihood(potentials: Potentials, lattices: Sequence[Lattice]) -> Tuple[float, Potentials]:
    """The negative log-likelihood per token of a batch's gold lattices, and its gradient.

    potentials (Potentials): The batch's potentials.
    lattices (Sequence[Lattice]): The gold tags of each doc.
    RETURNS (Tuple[float, Potentials]): The loss in nats, and its derivative by each potential.
    RAISES (ValueError): The potentials are not finite numbers, or of another number of tags than the lattices.
    """
    gold, everything = _gold_and_chain(potentials, lattices)
    everything.check_finite(
        "lower the learning rate, clip gradients (the optimizer's grad_clip) or switch mixed precision off"
    )
    likelihood = log_likelihood(everything, gold)
    per_token = 1.0 / max(len(potentials.emissions.data), 1)
    gradient = potentials.gradient(likelihood.gradient(), lattices, -per_token)
    return -float(likelihood.values.sum()) * per_token, gradient


def divergence_from(
    teacher: Potentials,
    potentials: Potentials,
    lattices: Sequence[Lattice],
    tags: Optional[Ints] = None,
    *,
    temperature: float = 1.0,
    divergence: Divergence = kl_divergence,
) -> Tuple[float, Potentials]:
    """The divergence per token of a batch's tag sequences from what a teacher thinks of them.

    A student with more tags than the teacher is only asked about the teacher's: how likely it holds the others has
    no influence, and gets no gradient.

    teacher (Potentials): The teacher's potentials.
    potentials (Potentials): The student's potentials.
    lattices (Sequence[Lattice]): Which of the teacher's tags each token may have.
    tags (Optional[ndarray]): *Shape:* (n_tags of the teacher,), int64: the student's tags that are the teacher's.
        None: the first ones.
    temperature (float): By what the potentials of both are divided: the higher, the more counts what the teacher
        holds unlikely. The loss is multiplied by its square, so that the gradient keeps its size (Hinton, Vinyals,
        Dean 2015, "Distilling the knowledge in a neural network", section 2).
    divergence (Divergence): Which: that of whole sequences by default, KL(teacher || student).
    RETURNS (Tuple[float, Potentials]): The divergence in nats, and its derivative by each of the student's
        potentials.
    """
    tags = numpy.arange(teacher.n_tags) if tags is None else tags
    chains = (x.to_chain(lattices, temperature=temperature) for x in (teacher, potentials.of_tags(tags)))
    loss, counts = divergence(*chains)
    factor = temperature / max(len(potentials.emissions.data), 1)
    return loss * factor * temperature, potentials.gradient(counts, lattices, factor, tags)


def fit_temperature(batches: Sequence[Batch]) -> float:
    """The temperature under which gold annotation is most likely (Guo, Pleiss, Sun, Weinberger 2017, "On
    calibration of modern neural networks", section 4.2, for the scores of whole tag sequences).

    batches (Sequence[Batch]): Held-out docs.
    RETURNS (float): By what all potentials are to be divided.
    RAISES (ValueError): The likelihood has no maximum at a finite temperature above 0.
    """
    import torch  # for its optimizer: what predicts does without

    parts: List[Tuple[Lattice, Chain]] = []
    for potentials, gold, allowed in batches:
        known, chain = _gold_and_chain(potentials, gold)
        parts.append((known, chain.under(potentials.to_chain(allowed).lattice)))
    n_words = max(sum(len(chain.emissions) for _, chain in parts), 1)

    def loss_at(log_temperature: float) -> Tuple[float, float]:
        """The loss per word, and its derivative."""
        total = slope = 0.0
        factor = float(numpy.exp(-log_temperature))
        for gold, chain in parts:
            likelihood = log_likelihood(chain.scaled(factor), gold)
            total -= float(likelihood.values.sum())
            counts = zip(likelihood.gradient(), chain.potentials)
            slope += factor * sum(float((count * potential).sum()) for count, potential in counts)
        return total / n_words, slope / n_words

    at = torch.zeros(1, dtype=torch.float64)
    optimizer = torch.optim.LBFGS(
        [at], max_iter=50, tolerance_grad=1e-9, tolerance_change=1e-9, line_search_fn="strong_wolfe"
    )

    def closure() -> float:
        loss, slope = loss_at(at.item())
        at.grad = torch.full_like(at, slope)
        return loss

    optimizer.step(closure)
    fitted = at.item()
    # A model that makes no mistake is the likelier right the colder it is, and the search ends anywhere.
    best, *around = (loss_at(fitted + shift)[0] for shift in (0.0, -NEARBY, NEARBY))
    if not best < min(around):
        why = (
            "the model's scores say next to nothing about this data"
            if fitted > 0
            else "the data is too small, or the model makes no mistake on it (calibrate on held-out data)"
        )
        raise ValueError(f"no temperature fits: at {numpy.exp(fitted):.3g} the likelihood still rises; {why}")
    return float(numpy.exp(fitted))


def _gold_and_chain(potentials: Potentials, lattices: Sequence[Lattice]) -> Tuple[Lattice, Chain]:
    """What gold lattices leave to each word, and the batch in which everything is possible."""
    chain = potentials.to_chain(lattices)
    assert chain.lattice is not None
    return chain.lattice, chain.under(None)
