"""The oracle is the enumeration of all tag sequences."""

from itertools import combinations
from typing import List, Tuple

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from spacy_crf_ner.crf.forward_backward import LogPosterior, Posterior, ScaledPosterior, posterior
from spacy_crf_ner.crf.marginals import (
    path_probabilities,
    segment_probabilities,
    token_marginals,
)
from tests.crf.util import (
    ARRANGEMENTS,
    Arrangement,
    Case,
    Scheme,
    arranged,
    bio,
    cases,
    chain_of,
    free,
    legal_paths,
    scores_of,
    tag_shares,
)
from tests.util import n_drawn

layouts = pytest.mark.parametrize("how", ARRANGEMENTS)
scales = pytest.mark.parametrize("form, scale", [(ScaledPosterior, 1.0), (LogPosterior, 1000.0)])
close = torch.testing.assert_close


def run(case: Case, how: str) -> Tuple[Posterior, Arrangement]:
    """The posterior of a batch under its scheme and its lattice. Nothing but NaN stands between the rows."""
    arrangement = arranged(case.lengths, how)
    filled = case.scheme.on(case.potentials)
    flat = filled._replace(emissions=arrangement.spread(filled.emissions, torch.nan))
    return posterior(chain_of(flat, arrangement.sequences, arrangement.spread(case.allowed))), arrangement


def enumerated(case: Case) -> List[Tuple[Tensor, Tensor]]:
    """The legal paths of each row and their probabilities."""
    rows = []
    for row, _, allowed in case.rows():
        paths = legal_paths(len(allowed), case.scheme, allowed)
        rows.append((paths, scores_of(row, paths).softmax(0)))
    return rows


def going_on(scheme: Scheme) -> Tensor:
    """Which tag goes on with an entity, as if tags were O, B, I, ..., whatever is legal."""
    begin = torch.arange(1, scheme.num_tags - 1, 2)
    continues = torch.zeros_like(scheme.transitions)
    continues[begin, begin + 1] = continues[begin + 1, begin + 1] = True
    return continues


def marginals(found: Posterior, arrangement: Arrangement) -> Tensor:
    return torch.from_numpy(token_marginals(found, arrangement.n_tokens))


def segments_of(found: Posterior, *arguments: Tensor) -> Tensor:
    return torch.from_numpy(segment_probabilities(found, *(x.numpy() for x in arguments)))


def is_right_about_segments(case: Case) -> None:
    """All segments of every row, with the gold tags."""
    found, arrangement = run(case, "consecutive")
    continues = going_on(case.scheme)
    segments: List[Tuple[int, int]] = []
    expected = [torch.zeros(0, dtype=torch.float64)]
    for place, (paths, share), gold in zip(
        arrangement.sequences.origin.tolist(), enumerated(case), case.gold.split(case.lengths)
    ):
        for s, e in combinations(range(len(gold) + 1), 2):
            hit = (paths[:, s:e] == gold[s:e]).all(dim=1)
            if e < len(gold):
                hit &= ~continues[gold[e - 1], paths[:, e]]
            segments.append((place + s, place + e))
            expected.append(share[hit].sum()[None])
    starts, ends = torch.tensor(segments, dtype=torch.int64).view(-1, 2).t()
    actual = segments_of(found, case.gold, starts, ends, continues)
    close(actual, torch.cat(expected), rtol=0, atol=1e-12)


@layouts
@given(case=cases)
@settings(deadline=None, max_examples=n_drawn(40))
def test_the_probability_of_a_tag_at_a_token_is_that_of_enumeration(how: str, case: Case) -> None:
    found, arrangement = run(case, how)
    gamma = marginals(found, arrangement)
    shares = [tag_shares(share, paths, case.scheme.num_tags)[0] for paths, share in enumerated(case)]
    close(gamma, arrangement.spread(torch.cat(shares)), rtol=0, atol=1e-12)


@given(case=cases)
@settings(deadline=None, max_examples=n_drawn(60))
def test_the_probability_of_every_segment_is_that_of_enumeration(case: Case) -> None:
    is_right_about_segments(case)


@scales
def test_so_are_all_in_both_forms(form: type, scale: float) -> None:
    for seed in range(5):
        case = Case.random(seed, [5, 0, 3, 1], bio(2), scale, density=0.8)
        assert isinstance(run(case, "consecutive")[0], form)
        is_right_about_segments(case)


def test_a_segment_as_long_as_its_row_is_the_row_s_path() -> None:
    case = Case.random(1, [300, 2], bio(2), 1.0, density=1.0)
    found, _ = run(case, "consecutive")
    starts, ends = torch.tensor([[0, 300], [300, 302]])
    actual = segments_of(found, case.gold, starts, ends, going_on(case.scheme))
    for row, (potentials, gold, _) in enumerate(case.rows()):
        expected = (scores_of(potentials, gold[None])[0] - found.log_z[row]).exp()
        assert 0 < expected < 1
        close(actual[row], expected, rtol=1e-9, atol=0)


@layouts
def test_all_is_finite_where_a_lattice_leaves_no_path(how: str) -> None:
    case = Case.random(0, [3, 2], bio(1), 1.0)
    case.allowed[0] = torch.tensor([False, False, True])
    found, arrangement = run(case, how)
    gamma = marginals(found, arrangement)
    assert gamma.isfinite().all()
    close(gamma[arrangement.place].sum(dim=1), torch.ones(5, dtype=torch.float64), rtol=0, atol=1e-9)


@pytest.mark.parametrize("lengths", [[], [0], [0, 0]])
@layouts
def test_a_batch_without_tokens_has_no_probabilities(lengths: List[int], how: str) -> None:
    found, arrangement = run(Case.random(0, lengths, free(3), 1.0), how)
    none = torch.zeros(0, dtype=torch.int64)
    assert not marginals(found, arrangement).any()
    continues = going_on(free(3))
    if how == "consecutive":
        assert segments_of(found, none, none, none, continues).shape == (0,)


def test_the_probability_of_a_sequence_is_that_of_enumeration_and_never_above_1() -> None:
    case = Case.random(0, [3, 0, 2, 1], bio(1), 5.0)
    found, _ = run(case, "consecutive")
    paths = [legal_paths(len(allowed), case.scheme, allowed) for _, _, allowed in case.rows()]
    scores = [scores_of(row, every) for (row, _, _), every in zip(case.rows(), paths)]
    actual = path_probabilities(found, [x.numpy() for x in scores])
    for row, expected in zip(actual, scores):
        assert row == pytest.approx(expected.softmax(0).tolist(), abs=1e-12)
    assert path_probabilities(found, [x.logsumexp(0)[None].numpy() + 1e-9 for x in scores]) == [[1.0]] * 4
