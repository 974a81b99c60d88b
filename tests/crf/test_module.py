"""The module around the engine: constraints, masks, reductions, errors. Oracles: `torchcrf`, and enumeration."""

from typing import Any, Callable, Dict, List, Tuple

import numpy
import pytest
import torch
import torchcrf
from hypothesis import given, settings
from torch import Tensor

from spacy_crf_ner.crf.module import LinearChainCRF
from spacy_crf_ner.labels import BioTags
from tests.crf.util import (
    SCHEMES,
    Case,
    Scheme,
    as_module,
    bio,
    cases,
    crf_of,
    free,
    legal_paths,
    padded,
    random_case,
    scores_of,
    tag_shares,
)
from tests.util import n_drawn

BIO = bio(2)
close = torch.testing.assert_close
schemes = pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES.keys())
directions = pytest.mark.parametrize("batch_first", [False, True])


@pytest.mark.filterwarnings("ignore:where received a uint8")
@directions
@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "token_mean"])
@pytest.mark.parametrize("lengths", [[1, 40, 17, 2, 33], [8, 8, 8], None])
def test_values_gradients_and_paths_are_those_of_torchcrf(
    lengths: List[int], reduction: str, batch_first: bool
) -> None:
    """None: no mask."""
    case = random_case(free(7), lengths or [9, 9], scale=3.0)
    arguments = padded(case, batch_first, gap=0.0)
    mask = arguments["mask"] if lengths else None
    tags = arguments["tags"].clamp(min=0)
    ours = crf_of(free(7), batch_first)
    theirs = torchcrf.CRF(7, batch_first).double()
    theirs.load_state_dict(ours.state_dict())
    results = []
    for module in (theirs, ours):
        x = arguments["emissions"].clone().requires_grad_()
        likelihood = module(x, tags, mask, reduction=reduction)
        total = (likelihood * torch.arange(1, 1 + likelihood.numel())).sum()
        results.append((likelihood, *torch.autograd.grad(total, (x, *module.parameters()))))
    if mask is not None:
        assert torch.equal(ours(x, tags, mask.byte(), reduction), likelihood)
    close(results[1], results[0], rtol=1e-9, atol=1e-9)
    assert ours.decode(x, mask) == theirs.decode(x, mask)


@pytest.mark.filterwarnings("ignore:where received a uint8")
@directions
@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "token_mean"])
@pytest.mark.parametrize("lengths", [[1, 12, 7, 2], None])
def test_a_gradient_penalty_and_its_gradients_are_those_of_torchcrf(
    lengths: List[int], reduction: str, batch_first: bool
) -> None:
    case = random_case(free(5), lengths or [6, 6], scale=2.0)
    arguments = padded(case, batch_first, gap=0.0)
    mask = arguments["mask"] if lengths else None
    tags = arguments["tags"].clamp(min=0)
    ours = crf_of(free(5), batch_first)
    theirs = torchcrf.CRF(5, batch_first).double()
    theirs.load_state_dict(ours.state_dict())
    results = []
    for module in (theirs, ours):
        leaves = (arguments["emissions"].clone().requires_grad_(), *module.parameters())
        likelihood = module(leaves[0], tags, mask, reduction=reduction).sum()
        first = torch.autograd.grad(likelihood, leaves, create_graph=True)
        penalty = torch.stack([x.square().sum() for x in first]).sum()
        results.append((penalty, *first, *torch.autograd.grad(penalty, leaves)))
    close(results[1], results[0], rtol=1e-9, atol=1e-9)
    assert all(x.any() for x in results[0])


@directions
@pytest.mark.parametrize("gold", ["tags", "lattice"])
@pytest.mark.parametrize("scheme", [free(3), BIO], ids=["free", "BIO"])
def test_gradients_of_the_gradient_pass_the_numerical_check(scheme: Scheme, gold: str, batch_first: bool) -> None:
    module = crf_of(scheme, batch_first)
    x = padded(random_case(scheme, [3, 0, 2]), batch_first, gap=0.0)
    names = [name for name, _ in module.named_parameters()]

    def likelihood(emissions: Tensor, *parameters: Tensor) -> Tensor:
        named = dict(zip(names, parameters))
        found = torch.func.functional_call(module, named, (emissions, x[gold], x["mask"], "none"))
        assert isinstance(found, Tensor)
        return found

    parameters = [parameter.detach().clone().requires_grad_() for parameter in module.parameters()]
    assert torch.autograd.gradgradcheck(likelihood, (x["emissions"].requires_grad_(), *parameters))


def test_parameters_and_state_are_those_of_torchcrf() -> None:
    assert set(crf_of(BIO).state_dict()) == set(torchcrf.CRF(5).state_dict())
    results = []
    for kind in (torchcrf.CRF, LinearChainCRF):
        torch.manual_seed(3)
        results.append(dict(kind(5).named_parameters()))
    assert list(results[0]) == list(results[1])
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


@schemes
@directions
def test_all_that_a_row_gives_is_that_of_enumeration(scheme: Scheme, batch_first: bool) -> None:
    module = crf_of(scheme, batch_first)
    case = as_module(random_case(scheme, [4, 0, 1, 3]), module)
    x = padded(case, batch_first)
    full = module(x["emissions"], x["tags"], x["mask"], reduction="none")
    partial = module(x["emissions"], x["lattice"], x["mask"], reduction="none")
    closed = torch.nn.functional.one_hot(x["tags"].clamp(min=0), scheme.num_tags).bool()
    close(module(x["emissions"], closed, x["mask"], "none"), full, rtol=0, atol=1e-12)
    paths_of = module.decode(x["emissions"], x["mask"])
    k_best_of = module.decode_k_best(x["emissions"], 5, x["mask"])
    gamma = module.marginals(x["emissions"], x["mask"])
    if not batch_first:
        gamma = gamma.transpose(0, 1)
    assert gamma.shape == (4, 4, scheme.num_tags)
    for b, (row, gold, allowed) in enumerate(case.rows()):
        n = len(gold)
        paths = legal_paths(n, case.scheme)
        scores = scores_of(row, paths)
        share = scores.softmax(0)
        close(full[b], scores_of(row, gold[None])[0] - scores.logsumexp(0), rtol=0, atol=1e-11)
        kept = scores_of(row, legal_paths(n, case.scheme, allowed)).logsumexp(0)
        close(partial[b], kept - scores.logsumexp(0), rtol=0, atol=1e-11)
        assert paths_of[b] == paths[int(scores.argmax())].tolist()
        best = scores.argsort(descending=True)[:5]
        assert [path for path, _ in k_best_of[b]] == paths[best].tolist()
        assert [p for _, p in k_best_of[b]] == pytest.approx(share[best].tolist(), abs=1e-12)
        close(gamma[b, :n], tag_shares(share, paths, scheme.num_tags)[0], rtol=0, atol=1e-12)
        assert not gamma[b, n:].any()


@given(case=cases)
@settings(deadline=None, max_examples=n_drawn(20))
def test_all_paths_come_with_probabilities_that_sum_to_one(case: Case) -> None:
    """Where more are asked for than there are; and none of them breaks the scheme."""
    module = crf_of(case.scheme)
    case = as_module(case, module)
    x = padded(case)
    for found, length in zip(module.decode_k_best(x["emissions"], 2000, x["mask"]), case.lengths):
        assert sorted(path for path, _ in found) == legal_paths(length, case.scheme).tolist()
        assert sum(p for _, p in found) == pytest.approx(1.0, abs=1e-12)
        assert [p for _, p in found] == sorted((p for _, p in found), reverse=True)


@directions
@pytest.mark.parametrize("level", [-5.0, -1e4, 5.0])
def test_k_paths_are_found_however_low_all_scores_are(level: float, batch_first: bool) -> None:
    """A level that all emissions share changes no probability, and a long row sums it up 200 times."""
    torch.manual_seed(0)
    module = LinearChainCRF(3, batch_first).double()
    emissions = torch.randn(1, 200, 3, dtype=torch.float64) if batch_first else torch.randn(200, 1, 3).double()
    (expected,) = module.decode_k_best(emissions, 3)
    (found,) = module.decode_k_best(emissions + level, 3)
    assert [path for path, _ in found] == [path for path, _ in expected]
    assert [p for _, p in found] == pytest.approx([p for _, p in expected], rel=1e-6)
    assert len({tuple(path) for path, _ in found}) == 3
    assert found[0][0] == module.decode(emissions + level)[0]


@pytest.mark.parametrize("scheme", [BIO, SCHEMES["BIOES 1"]], ids=["BIO", "BIOES"])
@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_constraints_hold_in_all_decoding(scheme: Scheme, scale: float) -> None:
    module = crf_of(scheme)
    x = padded(random_case(scheme, [40, 13, 2, 1, 0], scale))
    rows = module.decode_k_best(x["emissions"], 6, x["mask"])
    for path in [*module.decode(x["emissions"], x["mask"]), *(path for row in rows for path, _ in row)]:
        assert all(scheme.starts[path[:1]])
        assert all(scheme.transitions[path[:-1], path[1:]])
        assert all(scheme.ends[path[-1:]])
        if scheme is BIO:
            BioTags(2).spans(numpy.array(path, dtype="int64"))  # refuses an illegal one


def test_constraints_normalise_training_over_legal_paths() -> None:
    module, case, legal = crf_of(BIO), random_case(BIO, [4], 5.0), legal_paths(4, BIO)
    emissions = case.potentials.emissions[:, None].expand(-1, len(legal), -1)
    likelihood = module(emissions, legal.t(), reduction="none")
    close(likelihood.exp().sum(), torch.ones((), dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_constraints_give_no_gradient_to_what_they_forbid(scale: float) -> None:
    scheme = SCHEMES["BIOES 1"]
    module, x = crf_of(scheme), padded(random_case(scheme, [12, 5], scale))
    for gold in (x["tags"], x["lattice"]):
        module.zero_grad()
        module(x["emissions"], gold, x["mask"]).backward()
        for parameter, illegal in (
            (module.start_transitions, module.illegal_starts),
            (module.transitions, module.illegal_transitions),
            (module.end_transitions, module.illegal_ends),
        ):
            assert parameter.grad is not None and parameter.grad.isfinite().all()
            assert not parameter.grad[illegal].any() and parameter.grad[~illegal].any()


def test_potentials_handed_out_do_not_change_with_a_step() -> None:
    module = crf_of(BIO)
    handed_out = [x.detach() for x in module.constrained()]
    before = [x.clone() for x in handed_out]
    for parameter in module.parameters():
        parameter.data += 1
    assert all(torch.equal(x, y) for x, y in zip(handed_out, before))


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_an_emission_of_minus_infinity_forbids_a_tag(scale: float) -> None:
    module, x = crf_of(BIO), padded(random_case(BIO, [6, 3], scale))
    emissions = x["emissions"].masked_fill(~x["lattice"], -torch.inf).requires_grad_()
    likelihood = module(emissions, x["tags"], x["mask"], reduction="none")
    likelihood.sum().backward()
    assert likelihood.isfinite().all() and emissions.grad is not None and emissions.grad.isfinite().all()
    every, kept = (module(x["emissions"], gold, x["mask"], "none") for gold in (x["tags"], x["lattice"]))
    close(likelihood, every - kept, rtol=1e-12, atol=1e-9)
    assert module.marginals(emissions, x["mask"]).isfinite().all()


GOOD = padded(random_case(bio(1), [4, 2, 3]))
WHOLE = padded(random_case(bio(1), [4, 4, 4]))
READERS: Dict[str, Callable[..., Any]] = {
    "forward": lambda module, emissions, mask: module(emissions, WHOLE["tags"], mask),
    "forward on a lattice": lambda module, emissions, mask: module(emissions, WHOLE["lattice"], mask),
    "decode": lambda module, emissions, mask: module.decode(emissions, mask),
    "decode_k_best": lambda module, emissions, mask: module.decode_k_best(emissions, 2, mask),
    "marginals": lambda module, emissions, mask: module.marginals(emissions, mask),
}
readers = pytest.mark.parametrize("read", READERS.values(), ids=READERS.keys())


@readers
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_emissions_that_are_no_numbers_are_refused_by_row(read: Callable[..., Any], bad: float) -> None:
    """Minus infinity forbids a tag; here, all of a token's."""
    emissions = GOOD["emissions"].clone()
    emissions[1, 2, [0, 1, 2] if bad < 0 else [1]] = bad
    with pytest.raises(ValueError, match=r"^row 2: .*emissions"):
        read(crf_of(bio(1)), emissions, GOOD["mask"])


@readers
@pytest.mark.parametrize("hole", [0, 1, 2])
def test_a_mask_with_holes_is_refused_by_row(read: Callable[..., Any], hole: int) -> None:
    mask = torch.ones(4, 3, dtype=torch.bool)
    mask[hole, 1] = False
    with pytest.raises(ValueError, match=f"^row 1: .*mask is off at step {hole} "):
        read(crf_of(bio(1)), WHOLE["emissions"], mask)
    with pytest.raises(ValueError, match=f"^row 1: .*mask is off at step {hole} "):
        crf_of(bio(1), batch_first=True).decode(WHOLE["emissions"].transpose(0, 1), mask.t())


@readers
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_parameters_that_are_no_numbers_are_refused_as_such(read: Callable[..., Any], bad: float) -> None:
    for name in ("start_transitions", "transitions", "end_transitions"):
        module = crf_of(bio(1))
        module.get_parameter(name).data[..., 1] = bad
        with pytest.raises(ValueError, match=r"^a start, transition or end potential is NaN or infinite"):
            read(module, WHOLE["emissions"], WHOLE["mask"])


@readers
def test_emissions_or_a_mask_of_another_shape_are_refused(read: Callable[..., Any]) -> None:
    for shape in [(4, 3, 4), (4, 3), (12, 3), (1, 4, 3, 3)]:
        with pytest.raises(ValueError, match=r"^emissions have shape .* 3 tags"):
            read(crf_of(bio(1)), torch.zeros(shape), None)
    for shape in [(4,), (3, 4), (4, 2), (4, 3, 1), (4, 3, 3)]:
        with pytest.raises(ValueError, match=r"^mask .*shape .*, but emissions have \(4, 3, 3\)"):
            read(crf_of(bio(1)), GOOD["emissions"], torch.ones(shape, dtype=torch.bool))


@directions
@pytest.mark.parametrize("tag", [3, -1, -100])
def test_a_tag_out_of_range_is_refused_by_row(tag: int, batch_first: bool) -> None:
    x = padded(random_case(bio(1), [4, 2, 3]), batch_first)
    tags = x["tags"].clone()
    (tags if batch_first else tags.t())[2, 1] = tag
    with pytest.raises(ValueError, match=f"^row 2: tag {tag} at step 1 is out of range: there are 3 tags"):
        crf_of(bio(1), batch_first)(x["emissions"], tags, x["mask"])


def test_an_empty_allowed_set_is_refused_by_row() -> None:
    lattice = GOOD["lattice"].clone()
    lattice[1, 1] = False
    with pytest.raises(ValueError, match=r"^row 1: no tag .* at step 1"):
        crf_of(bio(1))(GOOD["emissions"], lattice, GOOD["mask"])


@pytest.mark.parametrize(
    "shape, dtype",
    [
        *((shape, dtype) for shape in [(4,), (3, 4), (4, 3, 2), (3, 4, 3)] for dtype in (torch.int64, torch.bool)),
        ((4, 3), torch.bool),
        ((4, 3, 3), torch.int64),
        ((4, 3), torch.float32),
    ],
)
def test_tags_of_another_shape_or_kind_are_refused(shape: Tuple[int, ...], dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match=r"^tags are torch\.\w+ of shape .*, emissions of \(4, 3, 3\)"):
        crf_of(bio(1))(GOOD["emissions"], torch.ones(shape, dtype=dtype), GOOD["mask"])


@pytest.mark.parametrize(
    "message, call",
    [
        ("invalid reduction: median", lambda: crf_of(bio(1))(GOOD["emissions"], GOOD["tags"], None, "median")),
        ("k = 0, but a whole number", lambda: crf_of(bio(1)).decode_k_best(GOOD["emissions"], 0, GOOD["mask"])),
        (r"legal_starts has shape \(3,\), but \(5,\)", lambda: LinearChainCRF(5, legal_starts=torch.ones(3) > 0)),
        (r"legal_transitions has shape \(5,", lambda: LinearChainCRF(5, legal_transitions=torch.ones(5, 4) > 0)),
        (r"legal_ends has shape \(1,", lambda: LinearChainCRF(5, legal_ends=torch.ones(1) > 0)),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(message: str, call: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("shape", [(2, 3), (0, 3), (4, 0)])
def test_a_batch_without_tokens_is_no_error(shape: Tuple[int, int]) -> None:
    module = crf_of(bio(1))
    emissions, mask = torch.zeros(*shape, 3, dtype=torch.float64), torch.zeros(shape, dtype=torch.bool)
    likelihood = module(emissions, torch.full(shape, -100), mask, reduction="none")
    likelihood.sum().backward()
    assert likelihood.tolist() == [0.0] * shape[1]
    assert module.decode(emissions, mask) == [[]] * shape[1]
    assert module.decode_k_best(emissions, 2, mask) == [[([], 1.0)]] * shape[1]
    assert not module.marginals(emissions, mask).any()


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32, torch.uint8])
def test_tags_may_be_integers_of_any_width(dtype: torch.dtype) -> None:
    module, tags = crf_of(bio(1)), GOOD["tags"]
    expected = module(GOOD["emissions"], tags, GOOD["mask"])
    assert torch.equal(module(GOOD["emissions"], tags.to(dtype), GOOD["mask"]), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_parameters_may_be_in_half_precision(dtype: torch.dtype) -> None:
    """What is lost is lost in the parameters, not in the computation."""
    module = crf_of(bio(1)).to(dtype)
    wide = crf_of(bio(1))
    wide.load_state_dict(module.state_dict())
    arguments = (GOOD["emissions"], GOOD["tags"].clamp(min=0), GOOD["mask"])
    close(module(*arguments), wide(*arguments), rtol=1e-6, atol=1e-6)
    module(*arguments).backward()
    assert module.transitions.grad is not None and module.transitions.grad.dtype == dtype
