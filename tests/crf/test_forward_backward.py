"""The oracle is enumeration; for long rows, the textbook's recursion in log space, differentiated by autograd."""

import sys
from types import ModuleType
from typing import Any, List, Optional, Tuple, Type, Union

import numpy
import pytest
import torch
from hypothesis import assume, given, settings
from torch import Tensor

from spacy_crf_ner.crf import forward_backward as module
from spacy_crf_ner.crf.forward_backward import LogPosterior, Posterior, ScaledPosterior, posterior
from spacy_crf_ner.crf.layout import Sequences
from tests.crf.util import (
    ARRANGEMENTS,
    SCHEMES,
    Arrangement,
    Case,
    Potentials,
    Scheme,
    arranged,
    bio,
    cases,
    chain_of,
    free,
    legal_paths,
    log_partition,
    random_potentials,
    scores_of,
    tag_shares,
)
from tests.util import n_drawn

Form = Union[Type[ScaledPosterior], Type[LogPosterior]]
forms = pytest.mark.parametrize("form", [ScaledPosterior, LogPosterior])
layouts = pytest.mark.parametrize("how", ARRANGEMENTS)
close = torch.testing.assert_close


def run(form: Form, case: Case, how: str) -> Tuple[Any, Arrangement]:
    """The posterior of a batch under its scheme and its lattice."""
    arrangement = arranged(case.lengths, how)
    filled = case.scheme.on(case.potentials)
    flat = filled._replace(emissions=arrangement.spread(filled.emissions))
    with numpy.errstate(all="ignore"):
        return form.from_chain(
            chain_of(flat, arrangement.sequences, arrangement.spread(case.allowed))
        ), arrangement


def expected_by(found: Posterior, weight: Tensor) -> Tuple[Tensor, Tensor]:
    """The expected counts of tags and of transitions. weight: (n_positions,)"""
    return torch.from_numpy(found.tag_counts(weight.numpy())), torch.from_numpy(found.step_counts(weight.numpy()))


def posterior_of_row(row: Potentials, scheme: Scheme, allowed: Optional[Tensor] = None) -> Posterior:
    sequences = Sequences.consecutive(numpy.array([len(row.emissions)]))
    return posterior(chain_of(scheme.on(row), sequences, allowed))


def is_that_of_the_textbook(
    found: Posterior, row: Potentials, scheme: Scheme, allowed: Optional[Tensor] = None
) -> None:
    """Compare partition and expected counts. Numbers of 1e5 nats leave 1e-11 of float64's 16 digits."""
    leaves = row.leaves()
    log_z = log_partition(leaves, scheme, allowed)
    # A row of one token has no transition.
    expected = torch.autograd.grad(log_z + 0 * leaves.transitions.sum(), (leaves.emissions, leaves.transitions))
    close(torch.tensor(found.log_z[0]), log_z.detach(), rtol=1e-12, atol=1e-9)
    actual = expected_by(found, torch.ones(len(row.emissions), dtype=torch.float64))
    close(actual, expected, rtol=1e-9, atol=1e-9)
    close(actual[0].sum(dim=1), torch.ones(len(row.emissions), dtype=torch.float64), rtol=0, atol=1e-9)


@forms
@layouts
@given(case=cases)
@settings(deadline=None, max_examples=n_drawn(20))
def test_partition_and_expected_counts_are_those_of_enumeration(form: Form, how: str, case: Case) -> None:
    found, arrangement = run(form, case, how)
    assume(form is LogPosterior or found.holds())
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(sum(case.lengths), generator=generator, dtype=torch.float64)
    source, num_tags = torch.from_numpy(found.layout.source), case.scheme.num_tags
    by_position, counts = expected_by(found, arrangement.spread(weights)[source])
    gamma = by_position.new_zeros(arrangement.n_tokens, num_tags).index_add_(0, source, by_position)
    expected_gamma, expected_counts = [], torch.zeros_like(counts)
    for b, ((row, _, allowed), weight) in enumerate(zip(case.rows(), weights.split(case.lengths))):
        paths = legal_paths(len(allowed), case.scheme, allowed)
        scores = scores_of(row, paths)
        close(torch.tensor(found.log_z[b]), scores.logsumexp(0), rtol=1e-12, atol=1e-12)
        singles, pairs = tag_shares(scores.softmax(0), paths, num_tags)
        expected_gamma.append(singles * weight[:, None])
        expected_counts += (pairs * weight[1:, None, None]).sum(dim=0)
    close(gamma[arrangement.place], torch.cat(expected_gamma), rtol=0, atol=1e-12)
    close(counts, expected_counts, rtol=0, atol=1e-12)


@forms
@layouts
@given(case=cases)
@settings(deadline=None, max_examples=n_drawn(20))
def test_the_next_tag_given_the_one_before_is_that_of_enumeration(form: Form, how: str, case: Case) -> None:
    found, arrangement = run(form, case, how)
    assume(form is LogPosterior or found.holds())
    layout, num_tags = found.layout, case.scheme.num_tags
    for (row, _, allowed), place in zip(case.rows(), arrangement.place.split(case.lengths)):
        paths = legal_paths(len(allowed), case.scheme, allowed)
        singles, pairs = tag_shares(scores_of(row, paths).softmax(0), paths, num_tags)
        for t, i in (singles[:-1] > 1e-9).nonzero().tolist():
            inner = numpy.flatnonzero(layout.source[layout.n_first :] == int(place[t + 1])) + layout.n_first
            following = torch.from_numpy(found.next_tag(inner, numpy.array([i]))[0])
            # A share of 1e-9 has seven digits that float64 has not.
            close(following * singles[t, i], pairs[t, i], rtol=1e-6, atol=1e-14)
            close(following.sum(), following.new_ones(()), rtol=0, atol=1e-12)


@layouts
@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES.keys())
def test_the_scaled_form_and_the_log_form_agree_where_both_hold(scheme: Scheme, how: str) -> None:
    case = Case.random(11, [200, 0, 1, 77, 8, 9, 16], scheme, scale=10.0, density=1.0)
    scaled, arrangement = run(ScaledPosterior, case, how)
    in_nats, _ = run(LogPosterior, case, how)
    assert scaled.holds()
    assert scaled.log_z == pytest.approx(in_nats.log_z, rel=1e-12, abs=1e-9)
    weight = torch.rand(arrangement.n_tokens, dtype=torch.float64)[scaled.layout.source]
    close(expected_by(scaled, weight), expected_by(in_nats, weight), rtol=0, atol=1e-9)


def preferring(tag: int, nats: float, length: int, num_tags: int) -> Potentials:
    """Emissions that prefer one tag, and little else."""
    row = random_potentials(0, length, num_tags, scale=0.1)
    row.emissions[:, tag] += nats
    return row


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("nats", [0.0, 10.0, 80.0, 1000.0])
def test_a_path_that_only_the_far_end_makes_necessary_is_not_lost(nats: float, backwards: bool) -> None:
    """BIO, with O preferred, and I at the end: nothing but a B at the start leads there."""
    row, scheme = preferring(0, nats, 32, 3), bio(1)
    allowed = torch.ones(32, 3, dtype=torch.bool)
    allowed[1:, 1] = False
    allowed[-1] = torch.tensor([False, False, True])
    if backwards:
        scheme = Scheme(scheme.ends, scheme.transitions.t(), scheme.starts)
        allowed = allowed.flip(0)
    found = posterior_of_row(row, scheme, allowed)
    assert isinstance(found, ScaledPosterior) == (nats < 80)
    is_that_of_the_textbook(found, row, scheme, allowed)


UNREACHABLE = Scheme(*(legal.index_fill(-1, torch.tensor([2]), False) for legal in free(3)))
"""Tag 2 is never legal."""


@pytest.mark.parametrize("nats", [30.0, 50.0, 60.0, 75.0, 100.0])
def test_every_token_may_prefer_a_tag_that_is_not_legal_at_any_length(nats: float) -> None:
    """All that is legal shrinks from step to step, and is rescaled at steps that depend on the length."""
    for length in range(1, 35):
        row = preferring(2, nats, length, 3)
        is_that_of_the_textbook(posterior_of_row(row, UNREACHABLE), row, UNREACHABLE)


@pytest.mark.parametrize("nats", [200.0, 600.0, 691.0, 720.0, 2000.0])
def test_one_token_may_prefer_a_tag_that_is_not_legal_at_any_place(nats: float) -> None:
    for length in (7, 8, 13, 14, 15, 16):
        for token in range(length):
            row = random_potentials(length, length, 3)
            row.emissions[token, 2] += nats
            is_that_of_the_textbook(posterior_of_row(row, UNREACHABLE), row, UNREACHABLE)


@pytest.mark.parametrize("scale", [30.0, 100.0, 300.0, 1000.0, 1e5])
@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES.keys())
def test_potentials_of_any_size_give_exact_results(scheme: Scheme, scale: float) -> None:
    for seed, length in enumerate((1, 2, 14, 22, 40)):
        row = random_potentials(seed, length, scheme.num_tags, scale)
        is_that_of_the_textbook(posterior_of_row(row, scheme), row, scheme)


def test_neither_a_long_row_nor_a_level_that_all_potentials_share_needs_the_log_form() -> None:
    level = random_potentials(0, 50, 5).each(lambda x: x - 1000)
    for row in (random_potentials(0, 3000, 5), level):
        found = posterior_of_row(row, bio(2))
        assert isinstance(found, ScaledPosterior)
        is_that_of_the_textbook(found, row, bio(2))


@layouts
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("token", range(4))
def test_emissions_that_are_no_numbers_are_refused_by_row(token: int, bad: float, how: str) -> None:
    """Minus infinity forbids a tag; here, all of a token's."""
    case = Case.random(0, [4, 0, 4, 3], free(3), 1.0)
    case.potentials.emissions[4 + token, 0 if bad < 0 else 1 :] = bad
    arrangement = arranged(case.lengths, how)
    flat = case.potentials._replace(emissions=arrangement.spread(case.potentials.emissions))
    with pytest.raises(ValueError, match=r"^row 2: "):
        posterior(chain_of(flat, arrangement.sequences))


def test_the_log_form_holds_few_cells_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case.random(5, [30, 4, 1], bio(2), 1000.0)
    found, arrangement = run(LogPosterior, case, "with gaps")
    weight = torch.rand(arrangement.n_tokens, dtype=torch.float64)[found.layout.source]
    whole = expected_by(found, weight)
    for cells in (1, 100):
        monkeypatch.setattr(module, "MAX_CELLS", cells)
        close(expected_by(found, weight), whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("how", ["time-major", "with gaps"])
@pytest.mark.parametrize("form, scale", [(ScaledPosterior, 1.0), (LogPosterior, 1000.0)])
def test_what_is_between_the_rows_does_not_matter(form: Form, scale: float, how: str) -> None:
    case = Case.random(3, [4, 0, 2], bio(1), scale)
    arrangement = arranged(case.lengths, how)
    filled = case.scheme.on(case.potentials)
    results: List[Tuple[Tensor, ...]] = []
    for gap in (0.0, torch.nan, torch.inf, -torch.inf, 1e6):
        flat = filled._replace(emissions=arrangement.spread(filled.emissions, gap))
        found = posterior(chain_of(flat, arrangement.sequences))
        assert isinstance(found, form)
        ones = torch.ones(len(found.layout.row), dtype=torch.float64)
        results.append((torch.from_numpy(found.log_z), *expected_by(found, ones)))
    for other in results[1:]:
        close(other, results[0], rtol=0, atol=0)


@layouts
@pytest.mark.parametrize("lengths", [[], [0], [0, 0]])
def test_a_batch_without_tokens_has_partitions_of_one_sequence(lengths: List[int], how: str) -> None:
    case = Case.random(0, lengths, free(3), 1.0)
    arrangement = arranged(lengths, how)
    potentials = case.potentials._replace(emissions=arrangement.spread(case.potentials.emissions))
    found = posterior(chain_of(potentials, arrangement.sequences))
    assert found.log_z.tolist() == [0.0] * len(lengths)
    ones = numpy.ones(len(found.layout.row))
    gamma, counts = found.tag_counts(ones), found.step_counts(ones)
    assert gamma.shape == (len(found.layout.row), 3) and not gamma.any() and not counts.any()


def test_a_torch_that_is_not_there_or_not_whole_changes_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case.random(1, [9, 4], bio(2), 3.0)
    with_torch, _ = run(ScaledPosterior, case, "consecutive")
    for stub in (None, ModuleType("torch")):
        chain = chain_of(case.scheme.on(case.potentials), arranged([9, 4], "consecutive").sequences, case.allowed)
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "torch", stub)
            log_z = posterior(chain).log_z
        assert log_z == pytest.approx(with_torch.log_z, rel=1e-14)
