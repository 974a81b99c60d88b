"""The oracle is enumeration; for long rows, the textbook's recursion in log space, differentiated by autograd."""

from collections import Counter
from typing import Any, List, Optional, Tuple, Type, Union

import pytest
import torch
from hypothesis import assume, given, settings
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from spacy_crf_ner.crf import forward_backward as module
from spacy_crf_ner.crf.forward_backward import (
    LogPosterior,
    Posterior,
    ScaledPosterior,
    _recurse_on_device,
    _recurse_on_host,
    forward_backward,
)
from spacy_crf_ner.crf.layout import Layout, Sequences
from spacy_crf_ner.crf.likelihood import log_likelihood
from spacy_crf_ner.crf.marginals import token_marginals
from tests.crf.util import (
    ARRANGEMENTS,
    CPU,
    SCHEMES,
    Arrangement,
    Case,
    Potentials,
    Scheme,
    arranged,
    bio,
    cases,
    free,
    legal_paths,
    log_partition,
    random_potentials,
    scores_of,
    tag_shares,
)

Form = Union[Type[ScaledPosterior], Type[LogPosterior]]
forms = pytest.mark.parametrize("form", [ScaledPosterior, LogPosterior])
layouts = pytest.mark.parametrize("how", ARRANGEMENTS)
close = torch.testing.assert_close


def run(form: Form, case: Case, how: str) -> Tuple[Any, Arrangement]:
    """The posterior of a batch under its scheme and its lattice."""
    arrangement = arranged(case.lengths, how)
    layout = Layout.of(arrangement.sequences, CPU)
    filled = case.scheme.on(case.potentials)
    flat = arrangement.spread(filled.emissions.masked_fill(~case.allowed, module.FORBIDDEN))
    return form.run(*filled._replace(emissions=flat[layout.source]), layout), arrangement


def posterior_of_row(row: Potentials, scheme: Scheme, allowed: Optional[Tensor] = None) -> Posterior:
    layout = Layout.of(Sequences.consecutive(torch.tensor([len(row.emissions)])), CPU)
    return forward_backward(*scheme.on(row), layout, allowed)


def is_that_of_the_textbook(
    posterior: Posterior, row: Potentials, scheme: Scheme, allowed: Optional[Tensor] = None
) -> None:
    """Compare partition and expected counts. Numbers of 1e5 nats leave 1e-11 of float64's 16 digits."""
    leaves = row.leaves()
    log_z = log_partition(leaves, scheme, allowed)
    # A row of one token has no transition.
    expected = torch.autograd.grad(log_z + 0 * leaves.transitions.sum(), (leaves.emissions, leaves.transitions))
    close(posterior.log_z[0], log_z.detach(), rtol=1e-12, atol=1e-9)
    actual = posterior.expectations(torch.ones(len(row.emissions), dtype=torch.float64))
    close(actual, expected, rtol=1e-9, atol=1e-9)
    close(actual[0].sum(dim=1), torch.ones(len(row.emissions), dtype=torch.float64), rtol=0, atol=1e-9)


@forms
@layouts
@given(case=cases)
@settings(deadline=None, max_examples=20)
def test_partition_and_expected_counts_are_those_of_enumeration(form: Form, how: str, case: Case) -> None:
    posterior, arrangement = run(form, case, how)
    assume(form is LogPosterior or posterior.holds())
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(sum(case.lengths), generator=generator, dtype=torch.float64)
    source, num_tags = posterior.layout.source, case.scheme.num_tags
    by_position, counts = posterior.expectations(arrangement.spread(weights)[source])
    gamma = by_position.new_zeros(arrangement.n_tokens, num_tags).index_add_(0, source, by_position)
    expected_gamma, expected_counts = [], torch.zeros_like(counts)
    for b, ((row, _, allowed), weight) in enumerate(zip(case.rows(), weights.split(case.lengths))):
        paths = legal_paths(len(allowed), case.scheme, allowed)
        scores = scores_of(row, paths)
        close(posterior.log_z[b], scores.logsumexp(0), rtol=1e-12, atol=1e-12)
        singles, pairs = tag_shares(scores.softmax(0), paths, num_tags)
        expected_gamma.append(singles * weight[:, None])
        expected_counts += (pairs * weight[1:, None, None]).sum(dim=0)
    close(gamma[arrangement.place], torch.cat(expected_gamma), rtol=0, atol=1e-12)
    close(counts, expected_counts, rtol=0, atol=1e-12)


@forms
@layouts
@given(case=cases)
@settings(deadline=None, max_examples=20)
def test_the_next_tag_given_the_one_before_is_that_of_enumeration(form: Form, how: str, case: Case) -> None:
    posterior, arrangement = run(form, case, how)
    assume(form is LogPosterior or posterior.holds())
    layout, num_tags = posterior.layout, case.scheme.num_tags
    for (row, _, allowed), place in zip(case.rows(), arrangement.place.split(case.lengths)):
        paths = legal_paths(len(allowed), case.scheme, allowed)
        singles, pairs = tag_shares(scores_of(row, paths).softmax(0), paths, num_tags)
        for t, i in (singles[:-1] > 1e-9).nonzero().tolist():
            inner = (layout.source[layout.n_first :] == place[t + 1]).nonzero()[:1, 0] + layout.n_first
            following = posterior.next_tag(inner, torch.tensor([i]))[0]
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
    close(scaled.log_z, in_nats.log_z, rtol=1e-12, atol=1e-9)
    weight = torch.rand(arrangement.n_tokens, dtype=torch.float64)[scaled.layout.source]
    close(scaled.expectations(weight), in_nats.expectations(weight), rtol=0, atol=1e-9)


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
    posterior = posterior_of_row(row, scheme, allowed)
    assert isinstance(posterior, ScaledPosterior) == (nats < 80)
    is_that_of_the_textbook(posterior, row, scheme, allowed)


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
        posterior = posterior_of_row(row, bio(2))
        assert isinstance(posterior, ScaledPosterior)
        is_that_of_the_textbook(posterior, row, bio(2))


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
        forward_backward(*flat, Layout.of(arrangement.sequences, CPU))


@layouts
@pytest.mark.parametrize("lengths", [[], [0], [1], [8], [9], [17, 16, 15, 8, 7, 1, 0], [40, 3]])
def test_the_recursion_on_a_device_is_the_one_on_the_host(lengths: List[int], how: str) -> None:
    layout = Layout.of(arranged(lengths, how).sequences, CPU)
    both, step, first = (torch.rand(shape, dtype=torch.float64) for shape in ((len(layout.row), 6), (3, 3), (6,)))
    close(
        _recurse_on_device(both, step, first, layout.sizes),
        _recurse_on_host(both, step, first, layout.sizes),
        rtol=1e-13,
        atol=0,
    )


class CountReads(TorchDispatchMode):
    """Count by operation; `_local_scalar_dense` is what `.item()` runs."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[str(func)] += 1
        return func(*args, **(kwargs or {}))


def test_how_often_the_host_waits_does_not_depend_on_the_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for the recursion and all that follows from it; once more for whether all gold tags are in range."""
    monkeypatch.setattr(module, "_recurse_on_host", _recurse_on_device)
    for length in (3, 30):
        arrangement = arranged([length, 1, 0], "padded")
        leaves = random_potentials(0, arrangement.n_tokens, 3).leaves()
        with CountReads() as recursion:
            layout = Layout.of(arrangement.sequences, CPU)
            forward_backward(*leaves, layout).expectations(torch.ones(len(layout.row), dtype=torch.float64))
        tags = torch.zeros(arrangement.n_tokens, dtype=torch.int64)
        with CountReads() as loss:
            log_likelihood(*leaves, arrangement.sequences, tags).sum().backward()
        for mode, reads in ((recursion, 1), (loss, 2)):
            assert mode.counts["aten._local_scalar_dense.default"] <= reads
            assert not [name for name in mode.counts if "nonzero" in name or "masked_select" in name]


def test_the_host_queues_a_batch_without_its_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The meta device has none to read, and refuses operands that lie elsewhere. No flag is up."""
    monkeypatch.setattr(ScaledPosterior, "holds", lambda self: True)
    monkeypatch.setattr(Tensor, "__bool__", lambda self: False)
    mask = torch.ones(20, 3, dtype=torch.bool, device="meta")
    leaves = random_potentials(0, 60, 3).each(lambda x: x.to("meta")).leaves()
    tags = torch.zeros(60, dtype=torch.int64, device="meta")
    sequences = Sequences.from_mask(mask)
    log_likelihood(*leaves, sequences, tags).sum().backward()
    assert leaves.emissions.grad is not None and leaves.emissions.grad.shape == (60, 3)
    posterior = forward_backward(*leaves, Layout.of(sequences, mask.device))
    assert token_marginals(posterior, 60).shape == (60, 3)


def test_the_log_form_holds_few_cells_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case.random(5, [30, 4, 1], bio(2), 1000.0)
    posterior, arrangement = run(LogPosterior, case, "padded")
    weight = torch.rand(arrangement.n_tokens, dtype=torch.float64)[posterior.layout.source]
    whole = posterior.expectations(weight)
    for cells in (1, 100):
        monkeypatch.setattr(module, "MAX_CELLS", cells)
        close(posterior.expectations(weight), whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("how", ["padded", "padded rows"])
@pytest.mark.parametrize("form, scale", [(ScaledPosterior, 1.0), (LogPosterior, 1000.0)])
def test_what_an_empty_row_points_at_does_not_matter(form: Form, scale: float, how: str) -> None:
    case = Case.random(3, [4, 0, 2], bio(1), scale)
    arrangement = arranged(case.lengths, how)
    layout = Layout.of(arrangement.sequences, CPU)
    filled = case.scheme.on(case.potentials)
    ones = torch.ones(len(layout.row), dtype=torch.float64)
    results: List[Tuple[Tensor, ...]] = []
    for gap in (0.0, torch.nan, torch.inf, -torch.inf, 1e6):
        flat = arrangement.spread(filled.emissions, gap)
        posterior = forward_backward(*filled._replace(emissions=flat), layout)
        assert isinstance(posterior, form)
        results.append((posterior.log_z, *posterior.expectations(ones)))
    for other in results[1:]:
        close(other, results[0], rtol=0, atol=0)


@layouts
@pytest.mark.parametrize("lengths", [[], [0], [0, 0]])
def test_a_batch_without_tokens_has_partitions_of_one_sequence(lengths: List[int], how: str) -> None:
    case = Case.random(0, lengths, free(3), 1.0)
    arrangement = arranged(lengths, how)
    layout = Layout.of(arrangement.sequences, CPU)
    potentials = case.potentials._replace(emissions=arrangement.spread(case.potentials.emissions))
    posterior = forward_backward(*potentials, layout)
    assert posterior.log_z.tolist() == [0.0] * len(lengths)
    gamma, counts = posterior.expectations(torch.ones(len(layout.row), dtype=torch.float64))
    assert gamma.shape == (len(layout.row), 3) and not gamma.any() and not counts.any()
