"""The three divergences and their gradients, against the enumeration of all tag sequences."""

from typing import Callable, Dict

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from spacy_crf_ner.crf.divergences import Divergence, k_best_divergence, kl_divergence, token_divergence
from tests.crf.util import (
    ARRANGEMENTS,
    Case,
    arranged,
    bio,
    cases,
    chain_of,
    legal_paths,
    random_potentials,
    scores_of,
    tag_shares,
)


def of_sequences(log_p: Tensor, log_q: Tensor, paths: Tensor, num_tags: int) -> Tensor:
    return (log_p.exp() * (log_p - log_q)).sum()


def of_k_best(log_p: Tensor, log_q: Tensor, paths: Tensor, num_tags: int) -> Tensor:
    best = log_p.topk(min(5, len(log_p)))
    shares = best.values.log_softmax(0)
    return (shares.exp() * (shares - log_q[best.indices])).sum()


def of_tokens(log_p: Tensor, log_q: Tensor, paths: Tensor, num_tags: int) -> Tensor:
    p, q = (tag_shares(x.exp(), paths, num_tags)[0] for x in (log_p, log_q))
    return (p[p > 0] * (p[p > 0].log() - q[p > 0].log())).sum()


ORACLES: Dict[Divergence, Callable[..., Tensor]] = {
    kl_divergence: of_sequences,
    k_best_divergence: of_k_best,
    token_divergence: of_tokens,
}


@pytest.mark.parametrize("divergence", ORACLES, ids=lambda x: x.__name__)
@given(case=cases, how=st.sampled_from(ARRANGEMENTS), seed=st.integers(0, 99))
def test_a_divergence_and_its_gradient_are_those_of_the_enumeration(
    divergence: Divergence, case: Case, how: str, seed: int
) -> None:
    num_tags = case.scheme.num_tags
    teacher = random_potentials(seed, len(case.gold), num_tags)
    student = case.potentials.leaves()
    expected = torch.stack([0.0 * x.sum() for x in student]).sum()
    rows = zip(teacher.rows(case.lengths), student.rows(case.lengths), case.rows())
    for theirs, ours, (_, _, allowed) in rows:
        paths = legal_paths(len(allowed), case.scheme, allowed)
        log_p, log_q = (scores_of(x, paths).log_softmax(0) for x in (theirs, ours))
        expected = expected + ORACLES[divergence](log_p, log_q, paths, num_tags)
    by = torch.autograd.grad(expected, student, materialize_grads=True)

    arrangement = arranged(case.lengths, how)
    chains = [
        chain_of(
            case.scheme.on(x._replace(emissions=arrangement.spread(x.emissions.detach()))),
            arrangement.sequences,
            arrangement.spread(case.allowed, False),
        )
        for x in (teacher, case.potentials)
    ]
    value, gradient = divergence(*chains)
    # The divergence of nearly certain sequences is the difference of large numbers.
    assert value == pytest.approx(float(expected.detach()), rel=1e-6, abs=1e-6)
    found = [gradient.emissions[arrangement.place.numpy()], *gradient[1:]]
    for part, wanted in zip(found, by):
        numpy.testing.assert_allclose(part, wanted.numpy(), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("divergence", [kl_divergence, token_divergence])
def test_nothing_diverges_from_itself(divergence: Divergence) -> None:
    case = Case.random(3, [4, 0, 1], bio(2), 1.0)
    chain = chain_of(case.scheme.on(case.potentials), arranged(case.lengths, "consecutive").sequences)
    value, gradient = divergence(chain, chain)
    assert value == pytest.approx(0, abs=1e-9)
    assert all(numpy.allclose(x, 0, atol=1e-9) for x in gradient)


@pytest.mark.parametrize("k", [1, 3])
def test_as_many_sequences_as_asked_for_have_a_part(k: int) -> None:
    case = Case.random(5, [4], bio(1), 1.0)
    paths = legal_paths(4, case.scheme)
    teacher = random_potentials(1, 4, 3)
    log_p, log_q = (scores_of(x, paths).log_softmax(0) for x in (teacher, case.potentials))
    best = log_p.topk(k)
    shares = best.values.log_softmax(0)
    expected = (shares.exp() * (shares - log_q[best.indices])).sum()
    sequences = arranged(case.lengths, "consecutive").sequences
    chains = [chain_of(case.scheme.on(x), sequences) for x in (teacher, case.potentials)]
    assert k_best_divergence(chains[0], chains[1], k)[0] == pytest.approx(float(expected))
