"""Values and gradients against those of enumeration, which autograd differentiates; for long rows, of the
textbook's recursion in log space."""

from typing import List, Tuple

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from spacy_crf_ner.crf.autograd import likelihood_from_tensors
from spacy_crf_ner.crf.likelihood import log_likelihood
from tests.crf.util import (
    ARRANGEMENTS,
    SCHEMES,
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
)
from tests.util import n_drawn

layouts = pytest.mark.parametrize("how", ARRANGEMENTS)
schemes = pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES.keys())
close = torch.testing.assert_close


def likelihood_of(case: Case, leaves: Potentials, how: str, partial: bool, gap: float = torch.nan) -> Tensor:
    """What the engine says of a batch. Garbage stands between the rows."""
    arrangement = arranged(case.lengths, how)
    filled = case.scheme.on(leaves)
    flat = filled._replace(emissions=arrangement.spread(filled.emissions, gap))
    if partial:
        return likelihood_from_tensors(*flat, arrangement.sequences, arrangement.spread(case.allowed))
    return likelihood_from_tensors(*flat, arrangement.sequences, arrangement.spread(case.gold, -100))


def enumerated(case: Case, leaves: Potentials, partial: bool) -> Tensor:
    """What the definition says of it."""
    rows = []
    for (_, gold, allowed), row in zip(case.rows(), leaves.rows(case.lengths)):
        wanted = legal_paths(len(gold), case.scheme, allowed) if partial else gold[None]
        total = scores_of(row, legal_paths(len(gold), case.scheme))
        rows.append(scores_of(row, wanted).logsumexp(0) - total.logsumexp(0))
    return torch.stack(rows)


def row_weights(case: Case) -> Tensor:
    return torch.linspace(-2, 3, len(case.lengths), dtype=torch.float64)


def gradients(likelihood: Tensor, leaves: Potentials, weights: Tensor) -> Tuple[Tensor, ...]:
    # What nothing depends on has a gradient of 0.
    total = (likelihood * weights).sum() + sum(0 * x.sum() for x in leaves)
    return torch.autograd.grad(total, leaves)


@layouts
@pytest.mark.parametrize("partial", [False, True])
@given(case=cases)
@settings(deadline=None, max_examples=n_drawn(30))
def test_values_and_gradients_by_row_are_those_of_enumeration(how: str, partial: bool, case: Case) -> None:
    leaves, weights = case.potentials.leaves(), row_weights(case)
    actual = likelihood_of(case, leaves, how, partial)
    expected = enumerated(case, leaves, partial)
    close(actual, expected, rtol=1e-12, atol=1e-11)
    close(gradients(actual, leaves, weights), gradients(expected, leaves, weights), rtol=0, atol=1e-11)


@pytest.mark.parametrize("how", ["consecutive", "with gaps"])
@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("scheme", [free(3), bio(1)], ids=["free", "BIO"])
def test_gradients_pass_the_numerical_check(scheme: Scheme, partial: bool, how: str) -> None:
    case = Case.random(2, [4, 0, 1, 3], scheme, 1.0)
    weights = row_weights(case)

    def weighted(*inputs: Tensor) -> Tensor:
        return likelihood_of(case, Potentials(*inputs), how, partial) * weights

    assert torch.autograd.gradcheck(weighted, tuple(case.potentials.leaves()))


@layouts
@schemes
@pytest.mark.parametrize("scale", [30.0, 100.0, 1000.0])
def test_nothing_is_lost_at_emissions_of_any_size(scheme: Scheme, scale: float, how: str) -> None:
    lengths = [30, 14, 0, 22, 2, 1]
    case = Case.random(4, lengths, scheme, scale, density=0.5)
    shared = [x / scale for x in case.potentials[1:]]
    leaves = Potentials(case.potentials.emissions, *shared).leaves()
    for partial in (False, True):
        likelihood = likelihood_of(case, leaves, how, partial)
        grads = gradients(likelihood, leaves, row_weights(case))
        rows = []
        for (_, gold, allowed), row in zip(case.rows(), leaves.rows(lengths)):
            if not len(gold):
                rows.append(row.start.new_zeros(()))
                continue
            wanted = log_partition(row, scheme, allowed) if partial else scores_of(row, gold[None])[0]
            rows.append(wanted - log_partition(row, scheme))
        expected = torch.stack(rows)
        assert all(x.isfinite().all() for x in (likelihood, *grads))
        close(likelihood, expected, rtol=1e-12, atol=1e-9)
        close(grads, gradients(expected, leaves, row_weights(case)), rtol=0, atol=1e-9)
        # Gold counts and expected counts of a token are both 1.
        close(grads[0].sum(dim=1), torch.zeros(sum(lengths), dtype=torch.float64), rtol=0, atol=1e-9)


@layouts
@pytest.mark.parametrize("gap", [torch.inf, -torch.inf, 1e6])
@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_what_is_masked_does_not_matter_and_gets_no_gradient(scale: float, gap: float, how: str) -> None:
    case = Case.random(6, [3, 0, 5, 1], SCHEMES["BIOES 1"], scale)
    arrangement = arranged(case.lengths, how)
    masked = torch.ones(arrangement.n_tokens, dtype=torch.bool).index_fill(0, arrangement.place, False)
    for partial in (False, True):
        results = []
        for x, tag in ((0.0, 0), (gap, -100)):
            leaves = case.scheme.on(case.potentials)
            leaves = leaves._replace(emissions=arrangement.spread(leaves.emissions, x)).leaves()
            gold = arrangement.spread(case.allowed, tag < 0) if partial else arrangement.spread(case.gold, tag)
            likelihood = likelihood_from_tensors(*leaves, arrangement.sequences, gold)
            results.append((likelihood.detach(), *gradients(likelihood, leaves, row_weights(case))))
        close(results[1], results[0], rtol=0, atol=0)
        assert not results[1][1][masked].any()


@layouts
def test_no_annotation_has_no_loss_and_no_gradient(how: str) -> None:
    case = Case.random(0, [5, 0, 12, 1], bio(2), 3.0)
    case = case._replace(allowed=torch.ones_like(case.allowed))
    leaves = case.potentials.leaves()
    likelihood = likelihood_of(case, leaves, how, partial=True)
    close(likelihood, torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-12)
    for grad in gradients(likelihood, leaves, row_weights(case)):
        close(grad, torch.zeros_like(grad), rtol=0, atol=1e-12)


@layouts
def test_annotation_of_every_token_is_full_annotation_row_by_row(how: str) -> None:
    """Among rows that are not fully annotated too."""
    case = Case.random(1, [5, 2, 0, 7, 1], bio(1), 2.0)
    closed = torch.zeros_like(case.allowed).scatter_(1, case.gold[:, None], True)
    first, rest = case.lengths[0], case.lengths[1:]
    mixed = case._replace(allowed=torch.cat((case.allowed[:first], closed[first:])))
    assert mixed.allowed[:first].sum() > first and rest
    for allowed in (closed, mixed.allowed):
        case = case._replace(allowed=allowed)
        leaves = case.potentials.leaves()
        actual = likelihood_of(case, leaves, how, partial=True)
        expected = enumerated(case, leaves, partial=True) if allowed is not closed else None
        full = likelihood_of(case, leaves, how, partial=False)
        close(actual[1:], full[1:], rtol=0, atol=1e-12)
        close(actual, full if expected is None else expected, rtol=0, atol=1e-11)


@layouts
@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_a_lattice_without_a_legal_path_has_next_to_no_likelihood_and_a_finite_gradient(
    scale: float, how: str
) -> None:
    """I at the first token; I after O; a token without any tag; and one row that is as it should be."""
    case = Case.random(8, [3, 3, 2, 4], bio(1), scale)
    allowed = case.allowed.clone()
    allowed[:2] = torch.tensor([[False, False, True], [True, True, True]])
    allowed[3:5] = torch.tensor([[True, False, False], [False, False, True]])
    allowed[6:8] = torch.tensor([[False, False, False], [True, False, False]])
    case = case._replace(allowed=allowed)
    leaves = case.potentials.leaves()
    likelihood = likelihood_of(case, leaves, how, partial=True)
    assert (likelihood[:3] <= -1e29).all() and likelihood[:3].isfinite().all()
    close(likelihood[3:], enumerated(case, leaves, partial=True)[3:], rtol=1e-12, atol=1e-9)
    grads = gradients(likelihood, leaves, row_weights(case))
    assert all(grad.isfinite().all() for grad in grads)
    alone = case._replace(lengths=[4], gold=case.gold[8:], allowed=allowed[8:])
    by_itself = case.potentials._replace(emissions=case.potentials.emissions[8:]).leaves()
    weights = row_weights(case)[3:]
    expected = gradients(likelihood_of(alone, by_itself, how, partial=True), by_itself, weights)
    close(grads[0][8:], expected[0], rtol=0, atol=1e-11)


def test_a_gold_path_that_is_not_legal_has_next_to_no_likelihood_and_a_finite_gradient() -> None:
    case = Case.random(0, [3], bio(1), 1.0)._replace(gold=torch.tensor([0, 2, 2]))
    leaves = case.potentials.leaves()
    likelihood = likelihood_of(case, leaves, "consecutive", partial=False)
    assert likelihood.isfinite().all() and (likelihood <= -1e29).all()
    assert all(grad.isfinite().all() for grad in gradients(likelihood, leaves, torch.ones(1)))


@layouts
@pytest.mark.parametrize("tag", [-1, -100, 3])
def test_a_tag_out_of_range_is_refused_by_row(tag: int, how: str) -> None:
    case = Case.random(0, [3, 0, 4, 1], free(3), 1.0)
    case.gold[5] = tag
    with pytest.raises(ValueError, match=f"^row 2: tag {tag} at step 2 is out of range: there are 3 tags"):
        likelihood_of(case, case.potentials, how, partial=False)


@schemes
def test_no_gradient_reaches_what_a_scheme_forbids(scheme: Scheme) -> None:
    """Nor what stands in its place, which is what a model without a module to fill it in would train."""
    case = Case.random(0, [9, 4], scheme, 1.0)
    leaves = case.scheme.on(case.potentials).leaves()
    likelihood = likelihood_from_tensors(*leaves, arranged(case.lengths, "consecutive").sequences, case.gold)
    grads = gradients(likelihood, leaves, row_weights(case))
    for grad, legal in zip(grads[1:], scheme):
        assert not grad[~legal].any()


@layouts
@pytest.mark.parametrize("scale", [10.0, 1000.0])
def test_float32_input_keeps_float64_accuracy(scale: float, how: str) -> None:
    case = Case.random(7, [400, 33, 0], bio(2), scale, density=0.6)
    single = case._replace(potentials=case.potentials.each(Tensor.float))
    double = case._replace(potentials=single.potentials.each(Tensor.double))
    for partial in (False, True):
        results = []
        for c in (single, double):
            leaves = c.potentials.leaves()
            likelihood = likelihood_of(c, leaves, how, partial)
            assert likelihood.dtype == torch.float64
            results.append((likelihood, gradients(likelihood, leaves, row_weights(c))))
        close(results[0][0], results[1][0], rtol=1e-14, atol=0)
        for actual, expected in zip(results[0][1], results[1][1]):
            assert actual.dtype == torch.float32
            # The two terms of partial gold are summed in the gradient's own dtype.
            close(actual, expected.float(), rtol=1e-6, atol=2e-7 if partial else 1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_emissions_take_their_own_gradient(dtype: torch.dtype) -> None:
    potentials, tags = random_potentials(0, 6, 3), torch.arange(6) % 3
    half = potentials.emissions.to(dtype).requires_grad_()
    exact = half.detach().double().requires_grad_()
    for x in (half, exact):
        flat = potentials._replace(emissions=x)
        likelihood_from_tensors(*flat, arranged([4, 2], "consecutive").sequences, tags).sum().backward()
    assert half.grad is not None and exact.grad is not None and half.grad.dtype == dtype
    close(half.grad, exact.grad.to(dtype), rtol=1e-2, atol=1e-3)


def test_the_gradient_may_be_taken_twice_and_inputs_stay_as_they_are() -> None:
    case = Case.random(9, [6, 3, 0], bio(1), 1.0)
    leaves = case.scheme.on(case.potentials).leaves()
    before = [x.detach().clone() for x in leaves]
    sequences = arranged(case.lengths, "consecutive").sequences
    for lattice in (None, case.allowed.clone()):
        gold = case.gold.clone()
        total = likelihood_from_tensors(*leaves, sequences, gold if lattice is None else lattice).sum()
        first = torch.autograd.grad(total, leaves, retain_graph=True)
        close(torch.autograd.grad(total, leaves), first, rtol=0, atol=0)
        assert all(torch.equal(x, y) for x, y in zip(leaves, before))
        assert torch.equal(gold, case.gold) and (lattice is None or torch.equal(lattice, case.allowed))


def penalised(likelihood: Tensor, leaves: Potentials, weights: Tensor) -> Tuple[Tensor, ...]:
    """The gradients by row weights, and those of the sum of their squares: incoming gradients that need none."""
    nothing = torch.stack([0 * x.sum() for x in leaves]).sum()
    first = torch.autograd.grad((likelihood * weights).sum() + nothing, leaves, create_graph=True)
    penalty = torch.stack([x.square().sum() for x in first]).sum() + nothing
    return (*first, *torch.autograd.grad(penalty, leaves))


@layouts
@pytest.mark.parametrize("partial", [False, True])
@given(case=cases)
@settings(deadline=None, max_examples=n_drawn(20))
def test_gradients_of_a_gradient_penalty_are_those_of_enumeration(how: str, partial: bool, case: Case) -> None:
    leaves, weights = case.potentials.leaves(), row_weights(case)
    actual = penalised(likelihood_of(case, leaves, how, partial), leaves, weights)
    close(actual, penalised(enumerated(case, leaves, partial), leaves, weights), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("how", ["consecutive", "with gaps"])
@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("scheme", [free(3), bio(1), SCHEMES["BIOES 1"]], ids=["free", "BIO", "BIOES"])
def test_gradients_of_the_gradient_pass_the_numerical_check(scheme: Scheme, partial: bool, how: str) -> None:
    """The incoming gradient, the rows' weights, is an input of its own."""
    case = Case.random(2, [3, 0, 1, 2], scheme, 1.0)

    def weighted(weights: Tensor, *inputs: Tensor) -> Tensor:
        return likelihood_of(case, Potentials(*inputs), how, partial) * weights

    assert torch.autograd.gradgradcheck(weighted, (row_weights(case).requires_grad_(), *case.potentials.leaves()))


def test_a_third_derivative_is_right_too() -> None:
    emissions, start, transitions, end = random_potentials(0, 3, 2)
    sequences, tags = arranged([3], "consecutive").sequences, torch.tensor([0, 1, 1])

    def slope(x: Tensor) -> Tensor:
        likelihood = likelihood_from_tensors(x, start, transitions, end, sequences, tags)
        (grad,) = torch.autograd.grad(likelihood.sum(), x, create_graph=True)
        return grad.square()

    assert torch.autograd.gradgradcheck(slope, (emissions.requires_grad_(),))


def test_each_derivative_is_by_its_argument_alone_where_one_depends_on_another() -> None:
    """Emissions that are made of the transitions, and transitions that are the emissions themselves."""
    _, start, transitions, end = random_potentials(0, 3, 3)
    case = Case.random(0, [3], free(3), 1.0)

    def of_transitions(x: Tensor) -> Tensor:
        return likelihood_of(case, Potentials(x.exp(), start, x, end), "consecutive", partial=True)

    def of_the_same(x: Tensor) -> Tensor:
        return likelihood_of(case, Potentials(x, x[0], x, x[1]), "consecutive", partial=True)

    for function in (of_transitions, of_the_same):
        leaf = transitions.clone().requires_grad_()
        (plain,) = torch.autograd.grad(function(leaf).sum(), leaf)
        (taped,) = torch.autograd.grad(function(leaf).sum(), leaf, create_graph=True)
        close(taped, plain, rtol=1e-10, atol=1e-11)
        assert torch.autograd.gradgradcheck(function, (leaf,))


@pytest.mark.parametrize("wanted", [[0], [1, 3], [2], [0, 1, 2, 3]])
def test_a_second_derivative_may_be_of_some_potentials_alone(wanted: List[int]) -> None:
    case = Case.random(3, [4, 2], bio(1), 1.0)
    results = []
    for chosen in (wanted, range(4)):
        leaves = Potentials(*(x.detach().requires_grad_(i in chosen) for i, x in enumerate(case.potentials)))
        likelihood = likelihood_of(case, leaves, "consecutive", partial=True)
        asked = [leaves[i] for i in wanted]
        first = torch.autograd.grad(likelihood.sum(), asked, create_graph=True)
        penalty = torch.stack([x.square().sum() for x in first]).sum()
        results.append((*first, *torch.autograd.grad(penalty, asked)))
    close(results[0], results[1], rtol=0, atol=1e-12)


@layouts
@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_second_derivatives_are_finite_where_tags_are_forbidden(scale: float, how: str) -> None:
    """By minus infinity, by a lattice, by a lattice that leaves no path; and with garbage between the rows."""
    case = Case.random(8, [3, 0, 2, 4], bio(1), scale)
    allowed = case.allowed.clone()
    allowed[:2] = torch.tensor([[False, False, True], [True, True, True]])
    case = case._replace(allowed=allowed)
    closed = case.potentials.emissions.masked_fill(~allowed, -torch.inf)
    for potentials in (case.potentials, case.potentials._replace(emissions=closed)):
        leaves = potentials.leaves()
        plain = gradients(likelihood_of(case, leaves, how, partial=True), leaves, row_weights(case))
        found = penalised(likelihood_of(case, leaves, how, partial=True), leaves, row_weights(case))
        assert all(x.isfinite().all() for x in found)
        # Where no path is allowed, a gradient has no meaning.
        close(found[0][3:], plain[0][3:], rtol=0, atol=1e-9)


def test_a_gradient_that_is_differentiated_keeps_the_dtype_of_its_input() -> None:
    leaves = random_potentials(0, 4, 3).each(Tensor.float).leaves()
    tags = torch.zeros(4, dtype=torch.int64)
    likelihood = likelihood_from_tensors(*leaves, arranged([4], "consecutive").sequences, tags)
    found = penalised(likelihood, leaves, torch.ones(1, dtype=torch.float64))
    assert {x.dtype for x in found} == {torch.float32} and all(x.any() for x in found[4:])


@layouts
@pytest.mark.parametrize("lengths", [[], [0], [0, 0]])
def test_a_batch_without_tokens_has_no_loss_and_no_gradient(lengths: List[int], how: str) -> None:
    case = Case.random(0, lengths, bio(1), 1.0)
    for partial in (False, True):
        leaves = case.potentials.leaves()
        likelihood = likelihood_of(case, leaves, how, partial)
        assert likelihood.tolist() == [0.0] * len(lengths)
        assert not any(grad.any() for grad in gradients(likelihood, leaves, row_weights(case)))
        again = likelihood_of(case, leaves, how, partial)
        assert not any(grad.any() for grad in penalised(again, leaves, row_weights(case)))


@pytest.mark.parametrize("forbidden", ["step", "emission"])
def test_a_gradient_with_a_tape_is_that_without_where_the_gold_path_is_forbidden(forbidden: str) -> None:
    """No other path shares what is left of the gold path's mass."""
    case = Case.random(0, [4], bio(1), 1.0)._replace(gold=torch.tensor([0, 2, 1, 1]))
    if forbidden == "emission":
        case = case._replace(scheme=free(3))
        case.potentials.emissions[1, 2] = -torch.inf
    leaves = case.potentials.leaves()
    plain = gradients(likelihood_of(case, leaves, "consecutive", partial=False), leaves, torch.ones(1))
    total = likelihood_of(case, leaves, "consecutive", partial=False).sum()
    taped = torch.autograd.grad(total, leaves, create_graph=True, materialize_grads=True)
    close(taped, plain, rtol=0, atol=1e-12)


def test_potentials_may_change_in_their_place_before_the_backward_pass() -> None:
    """Counts do not depend on them."""
    case = Case.random(0, [4, 2], free(3), 1.0)
    leaf = case.potentials.emissions.clone().requires_grad_()
    grads = []
    for factor in (1.0, 2.0):
        emissions = leaf * 1.0
        flat = case.potentials._replace(emissions=emissions)
        likelihood = likelihood_from_tensors(*flat, arranged([4, 2], "consecutive").sequences, case.gold)
        emissions.mul_(factor)
        grads.append(torch.autograd.grad(likelihood.sum(), leaf)[0])
    close(grads[0], grads[1], rtol=0, atol=0)


def test_a_path_that_the_lattice_of_the_batch_forbids_has_next_to_no_likelihood() -> None:
    case = Case.random(0, [3], free(3), 1.0)
    case.potentials.emissions[1, 2] = 5.0
    possible = torch.ones(3, 3, dtype=torch.bool)
    possible[1, 2] = False
    chain = chain_of(case.potentials, arranged([3], "consecutive").sequences, possible)
    for tags in ([0, 2, 1], [0, 1, 1]):
        gold = torch.nn.functional.one_hot(torch.tensor(tags), 3).bool().numpy()
        (value,) = log_likelihood(chain, gold).values
        assert value <= (-1e29 if tags[1] == 2 else 0.0) and (value > -100) == (tags[1] == 1)
