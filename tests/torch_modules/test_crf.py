"""The oracle is the enumeration of all tag sequences; at larger sizes, `torchcrf` itself."""

from itertools import pairwise, product
from typing import Callable, List, Tuple

import pytest
import torch
import torchcrf
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spacy_crf_ner import labels
from spacy_crf_ner.torch_modules import crf
from spacy_crf_ner.torch_modules.buckets import length_mask
from spacy_crf_ner.torch_modules.crf import LinearChainCRF

Potentials = Tuple[Tensor, Tensor, Tensor, Tensor]


def random_potentials(seed: int, length: int, batch_size: int, num_tags: int, scale: float = 1.0) -> Potentials:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(length, batch_size, num_tags), (num_tags,), (num_tags, num_tags), (num_tags,)]
    emissions, start, transitions, end = (
        scale * torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes
    )
    return emissions, start, transitions, end


def each(change: Callable[[Tensor], Tensor], potentials: Potentials) -> Potentials:
    emissions, start, transitions, end = potentials
    return change(emissions), change(start), change(transitions), change(end)


def enumerate_paths(potentials: Potentials, row: int, length: int) -> Tuple[List[Tuple[int, ...]], Tensor]:
    """All tag sequences of one row, and their scores, written down from the definition."""
    emissions, start, transitions, end = potentials
    paths = list(product(range(len(start)), repeat=length))
    scores = [
        start[path[0]]
        + sum(emissions[t, row, tag] for t, tag in enumerate(path))
        + sum(transitions[i, j] for i, j in pairwise(path))
        + end[path[-1]]
        for path in paths
    ]
    return paths, torch.stack(scores)


def bio_crf(n_types: int) -> LinearChainCRF:
    return LinearChainCRF(
        labels.n_tags(n_types),
        legal_starts=torch.from_numpy(labels.legal_starts(n_types)),
        legal_transitions=torch.from_numpy(labels.legal_transitions(n_types)),
    )


lengths_strategy = st.lists(st.integers(1, 4), min_size=1, max_size=4)


@given(st.integers(0, 2**31), lengths_strategy, st.sampled_from([0.1, 1.0, 30.0]))
@settings(deadline=None, max_examples=30)
def test_partition_and_best_path_are_those_of_enumeration(seed: int, lengths: List[int], scale: float) -> None:
    potentials = random_potentials(seed, max(lengths), len(lengths), 3, scale)
    mask = length_mask(torch.tensor(lengths), torch.device("cpu"))
    log_z = crf.log_partition(*potentials, mask)
    best = crf.viterbi(*potentials, mask)
    for row, length in enumerate(lengths):
        paths, scores = enumerate_paths(potentials, row, length)
        torch.testing.assert_close(log_z[row], scores.logsumexp(0))
        assert tuple(best[:length, row].tolist()) == paths[int(scores.argmax())]


@given(st.integers(0, 2**31), lengths_strategy)
@settings(deadline=None, max_examples=30)
def test_partial_likelihood_sums_the_allowed_paths(seed: int, lengths: List[int]) -> None:
    potentials = random_potentials(seed, max(lengths), len(lengths), 3)
    mask = length_mask(torch.tensor(lengths), torch.device("cpu"))
    lattice = torch.rand(max(lengths), len(lengths), 3, generator=torch.Generator().manual_seed(seed)) < 0.5
    lattice[..., 1] |= ~lattice.any(dim=2)
    loss = crf.negative_log_likelihood(*potentials, lattice, mask)
    for row, length in enumerate(lengths):
        paths, scores = enumerate_paths(potentials, row, length)
        allowed = torch.tensor([all(lattice[t, row, tag] for t, tag in enumerate(path)) for path in paths])
        torch.testing.assert_close(loss[row], scores.logsumexp(0) - scores[allowed].logsumexp(0))


def test_no_annotation_has_no_loss_and_no_gradient() -> None:
    potentials = each(Tensor.requires_grad_, random_potentials(0, 5, 2, 3))
    lattice = torch.ones(5, 2, 3, dtype=torch.bool)
    loss = crf.negative_log_likelihood(*potentials, lattice, torch.ones(5, 2, dtype=torch.bool))
    loss.sum().backward()
    assert loss.tolist() == [0.0, 0.0]
    for x in potentials:
        assert x.grad is not None
        torch.testing.assert_close(x.grad, torch.zeros_like(x), atol=1e-12, rtol=0.0)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "token_mean"])
def test_values_and_gradients_are_those_of_torchcrf(batch_first: bool, reduction: str) -> None:
    lengths = torch.tensor([1, 40, 17, 2, 33])
    torch.manual_seed(1)
    theirs = torchcrf.CRF(7, batch_first=batch_first).double()
    ours = LinearChainCRF(7, batch_first=batch_first).double()
    ours.load_state_dict(theirs.state_dict())
    mask = length_mask(lengths, torch.device("cpu"))
    tags = torch.randint(0, 7, mask.shape)
    emissions = 3 * torch.randn(*mask.shape, 7, dtype=torch.float64)
    if batch_first:
        mask, tags, emissions = mask.t(), tags.t(), emissions.transpose(0, 1)
    grads = []
    for module in (theirs, ours):
        x = emissions.clone().requires_grad_()
        likelihood = module(x, tags, mask, reduction=reduction)
        likelihood.sum().backward()
        grads.append([likelihood.detach(), x.grad, *(p.grad for p in module.parameters())])
    for expected, actual in zip(*grads):
        torch.testing.assert_close(actual, expected, atol=1e-10, rtol=1e-10)
    assert ours.decode(emissions, mask) == theirs.decode(emissions, mask)


def test_gradients_pass_the_numerical_check_on_ragged_partial_rows() -> None:
    mask = length_mask(torch.tensor([4, 1, 3]), torch.device("cpu"))
    lattice = torch.rand(4, 3, 3, generator=torch.Generator().manual_seed(3)) < 0.6
    lattice[..., 0] |= ~lattice.any(dim=2)
    potentials = each(Tensor.requires_grad_, random_potentials(2, 4, 3, 3))
    assert torch.autograd.gradcheck(
        lambda e, s, t, n: crf.negative_log_likelihood(e, s, t, n, lattice, mask), potentials
    )


def test_what_is_masked_does_not_matter() -> None:
    emissions, start, transitions, end = random_potentials(4, 6, 3, 5)
    mask = length_mask(torch.tensor([6, 2, 1]), torch.device("cpu"))
    other = torch.where(mask.unsqueeze(2), emissions, torch.full_like(emissions, 1e6))
    rest = (start, transitions, end)
    assert torch.equal(crf.log_partition(emissions, *rest, mask), crf.log_partition(other, *rest, mask))
    assert torch.equal(crf.viterbi(emissions, *rest, mask)[mask], crf.viterbi(other, *rest, mask)[mask])


def test_constraints_hold_in_decoding_and_normalise_training_over_legal_paths() -> None:
    module = bio_crf(2).double()
    emissions, *_ = random_potentials(5, 4, 6, module.num_tags, scale=5.0)
    tag_names = labels.bio_tags(["A", "B"])
    for path in module.decode(emissions):
        labels.tags_to_spans([tag_names[tag] for tag in path])  # refuses an illegal one
    legal = [
        path
        for path in product(range(module.num_tags), repeat=4)
        if labels.to_bio(tag_names[tag] for tag in path) == [tag_names[tag] for tag in path]
    ]
    tags = torch.tensor(legal).t()
    each = module(emissions[:, :1].expand(-1, len(legal), -1), tags, reduction="none")
    torch.testing.assert_close(each.exp().sum(), torch.tensor(1.0, dtype=torch.float64))


def test_constraints_give_no_gradient_to_what_they_forbid() -> None:
    module = bio_crf(2).double()
    emissions, *_ = random_potentials(6, 3, 1, module.num_tags)
    module(emissions, torch.tensor([[1], [2], [0]])).backward()
    for parameter, illegal in (
        (module.start_transitions, module.illegal_starts),
        (module.transitions, module.illegal_transitions),
    ):
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()
        assert (parameter.grad[illegal] == 0).all()
        assert (parameter.grad[~illegal] != 0).any()


def test_constraints_stay_out_of_the_state_dict() -> None:
    assert set(bio_crf(2).state_dict()) == set(torchcrf.CRF(5).state_dict())


def test_a_constraint_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"legal_starts has shape \(3,\), but \(5,\)"):
        LinearChainCRF(5, legal_starts=torch.ones(3, dtype=torch.bool))


def test_float32_input_keeps_float64_accuracy() -> None:
    potentials = random_potentials(7, 400, 4, 7, scale=10.0)
    mask = torch.ones(400, 4, dtype=torch.bool)
    exact = crf.log_partition(*each(Tensor.double, each(Tensor.float, potentials)), mask)
    ours = crf.log_partition(*each(Tensor.float, potentials), mask)
    torch.testing.assert_close(ours, exact, atol=1e-9, rtol=1e-12)


def test_the_best_path_of_a_long_text_is_exact_in_float32() -> None:
    """A score that grows with the text must not swallow the differences between tags."""
    emissions, start, transitions, end = each(Tensor.float, random_potentials(8, 5000, 2, 7))
    potentials = (emissions + 8, start, transitions, end)
    mask = torch.ones(5000, 2, dtype=torch.bool)
    assert torch.equal(crf.viterbi(*potentials, mask), crf.viterbi(*each(Tensor.double, potentials), mask))


def test_potentials_handed_out_do_not_change_with_a_step() -> None:
    module = bio_crf(2)
    handed_out = [x.detach() for x in module.constrained()]
    before = [x.clone() for x in handed_out]
    for parameter in module.parameters():
        parameter.data += 1
    for x, y in zip(handed_out, before):
        assert torch.equal(x, y)
