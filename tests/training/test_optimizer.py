"""When steps happen, and what they do to weights that are handed in one by one."""

import copy
import pickle
from typing import Any, Callable, List

import numpy
import pytest
import torch

import spacy_crf_ner.training.optimizer as module
from spacy_crf_ner.training.optimizer import AdamW
from tests.training.util import UNIT, Weights, adamw, plain

A, B, C = (1, "head.weight"), (2, "crf.transitions"), (7, "W")


def test_the_factory_makes_what_spacys_schema_asks_for() -> None:
    import thinc.api

    optimizer = AdamW()
    assert isinstance(optimizer, AdamW) and isinstance(optimizer, thinc.api.Optimizer)
    assert (optimizer.learn_rate, optimizer.b1, optimizer.b2, optimizer.averages) == (0.001, 0.9, 0.999, None)
    with pytest.raises(AttributeError):
        optimizer.learn_rat = 1.0  # type: ignore[attr-defined]


def test_a_step_waits_for_all_gradients_and_zeroes_them() -> None:
    optimizer = plain()
    weights = Weights(A, B)
    for key in (A, B):
        assert weights.give(optimizer, key, 3.0) == [0.0]
    assert (weights[A], weights[B]) == ([0.0], [0.0])
    optimizer.step_schedules()
    assert (weights[A], weights[B]) == ([-3.0], [-3.0])
    optimizer.step_schedules()
    optimizer.step()
    assert (weights[A], weights[B]) == ([-3.0], [-3.0])


@pytest.mark.parametrize("clip, factor", [(2.5, 0.5), (5.1, 1.0), (0.0, 1.0)])
def test_the_norm_is_that_of_all_gradients_together(clip: float, factor: float) -> None:
    """Of two shims and a node: (2, 2, 1, 4) is 5 long."""
    optimizer = plain(grad_clip=clip)
    weights = Weights(A, B, C)
    weights.arrays[C] = numpy.zeros(2, dtype="float32")
    weights.give(optimizer, A, 2.0)
    weights.give(optimizer, B, 2.0)
    weights.give(optimizer, C, 1.0, 4.0)
    optimizer.step()
    found = [*weights[A], *weights[B], *weights[C]]
    assert found == pytest.approx([-2 * factor, -2 * factor, -factor, -4 * factor], abs=1e-4)


def test_only_what_has_come_in_is_stepped() -> None:
    optimizer = plain()
    weights = Weights(A, B)
    for key in (A, B):
        weights.give(optimizer, key, 1.0)
    optimizer.step_schedules()
    weights.give(optimizer, A, 1.0)
    optimizer.step_schedules()
    assert (weights[A], weights[B]) == ([-2.0], [-1.0])


def test_in_an_own_loop_only_the_first_step_is_late() -> None:
    optimizer = plain()
    weights = Weights(A, B, C)
    seen = []
    for _ in range(4):
        for key in (A, B, C):
            weights.give(optimizer, key, 1.0)
        seen.append([weights[key][0] for key in (A, B, C)])
    assert seen == [[0.0] * 3, [-2.0] * 3, [-3.0] * 3, [-4.0] * 3]


def test_the_gradients_of_an_own_loops_step_are_of_one_update() -> None:
    """The norm of each step is that of one update's gradients: (3, 4) clipped to half their length."""
    optimizer = plain(grad_clip=2.5)
    weights = Weights(A, B)
    for _ in range(5):
        weights.give(optimizer, A, 3.0)
        weights.give(optimizer, B, 4.0)
    assert weights[A] + weights[B] == pytest.approx([-7.5, -10.0], abs=1e-4)


def test_an_own_loop_may_come_to_train_more_or_less() -> None:
    optimizer = plain()
    weights = Weights(A, B, C)
    for keys in ([A, B], [A, B], [A], [A], [A, B, C], [A, B, C], [A, B, C]):
        for key in keys:
            weights.give(optimizer, key, 1.0)
    optimizer.step()
    assert [weights[key] for key in (A, B, C)] == [[-7.0], [-5.0], [-3.0]]


def test_who_calls_step_schedules_drives() -> None:
    """From then on nothing is stepped by itself, also where parameters of an earlier step are complete."""
    optimizer = plain()
    weights = Weights(A, B)
    for _ in range(2):
        weights.give(optimizer, A, 1.0)
    optimizer.step_schedules()
    for _ in range(3):
        before = weights[A]
        weights.give(optimizer, A, 1.0)
        weights.give(optimizer, B, 1.0)
        assert weights[A] == before
        optimizer.step_schedules()
        assert weights[A] == [before[0] - 1.0]


def test_updates_between_two_calls_of_step_schedules_are_all_stepped() -> None:
    """Such as once an epoch."""
    optimizer = plain()
    weights = Weights(A)
    for epoch in range(1, 4):
        for _ in range(5):
            weights.give(optimizer, A, 1.0)
        optimizer.step_schedules()
        assert weights[A] == [-5.0 * epoch]


def test_the_rate_scale_of_a_call_is_a_factor_of_that_parameter() -> None:
    optimizer = plain()
    weights = Weights(A, B)
    weights.give(optimizer, A, 1.0, lr_scale=0.25)
    weights.give(optimizer, B, 1.0)
    optimizer.step()
    assert (weights[A], weights[B]) == ([-0.25], [-1.0])
    weights.give(optimizer, A, 1.0)
    optimizer.step()
    assert weights[A] == [-1.25]


def test_weights_may_lie_in_new_memory_at_each_call() -> None:
    """The moments are those of the parameter, not of its array."""
    optimizer = adamw(0.1, groups={}, weight_decay=0.0, grad_clip=0.0)
    ours = Weights(A)
    theirs = torch.nn.Parameter(torch.zeros(1))
    reference = torch.optim.AdamW([theirs], lr=0.1, weight_decay=0.0)
    for gradient in (1.0, -3.0, 0.5, 2.0):
        ours.arrays[A] = ours.arrays[A].copy()
        ours.give(optimizer, A, gradient)
        optimizer.step()
        theirs.grad = torch.tensor([gradient])
        reference.step()
        assert ours.arrays[A].tolist() == theirs.tolist()


def test_the_settings_of_thincs_optimizer_may_be_set() -> None:
    optimizer = adamw(0.1, groups={}, weight_decay=0.0)
    optimizer.L2, optimizer.grad_clip, optimizer.eps, optimizer.b1, optimizer.b2 = 0.5, 2.0, UNIT, 0.0, 0.0
    optimizer.learn_rate = UNIT
    weights = Weights(A)
    weights.give(optimizer, A, 4.0)
    optimizer.L2 = 0.1 / UNIT
    weights.arrays[A] += 1.0
    optimizer.step()
    assert weights[A] == [pytest.approx(1.0 - 0.1 - 2.0, abs=1e-4)]


def test_empty_arrays_are_passed_by() -> None:
    optimizer = plain()
    Weights(A, size=0).give(optimizer, A)
    optimizer.step_schedules()
    assert optimizer.state_bytes == 0


@pytest.mark.parametrize("clip", [1.0, 0.0])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_gradient_that_is_not_finite_is_named_and_changes_nothing(clip: float, value: float) -> None:
    optimizer = adamw(grad_clip=clip)
    weights = Weights(A, B)
    for key in (A, B):
        weights.give(optimizer, key, 1.0)
    optimizer.step_schedules()
    before = weights[A] + weights[B]
    weights.give(optimizer, A, 1.0)
    assert weights.give(optimizer, B, value) == [0.0]
    with pytest.raises(ValueError) as error:
        optimizer.step_schedules()
    message = str(error.value)
    assert message.startswith("step 2:") and "'crf.transitions' of 2" in message and "head.weight" not in message
    assert weights[A] + weights[B] == before
    # What was wrong is gone, and training may go on.
    for key in (A, B):
        weights.give(optimizer, key, 1.0)
    optimizer.step_schedules()
    assert all(numpy.isfinite(weights[A] + weights[B])) and weights[A] + weights[B] != before


def test_a_changed_shape_is_refused() -> None:
    optimizer = plain()
    Weights(A, size=2).give(optimizer, A, 1.0, 1.0)
    optimizer.step()
    with pytest.raises(ValueError, match=r"\(1, 'head.weight'\): \(3,\) of .* moments of \(2,\).*new optimizer"):
        Weights(A, size=3).give(optimizer, A, 1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match=r"weights of \(3,\), but a gradient of \(1,\)"):
        Weights(A, size=3).give(optimizer, A, 1.0)


def test_memory_that_torch_does_not_share_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "get_torch_default_device", lambda: torch.device("mps"))
    with pytest.raises(ValueError, match="Apple GPU"):
        Weights(A).give(plain(), A, 1.0)


def test_a_group_that_matches_nothing_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    groups = {
        "head": {"pattern": "^head", "learn_rate": 1.0},
        "crf": {"pattern": "^crf", "learn_rate": 1.0},
        "typo": {"pattern": "^haed", "learn_rate": 1.0},
    }
    optimizer = plain(groups=groups)
    weights = Weights(A, (1, "crf.end_transitions"))
    for step in range(14):
        weights.give(optimizer, A, 1.0)
        if step == 5:  # one that comes late, as after an overflow in half precision, is not an error
            weights.give(optimizer, (1, "crf.end_transitions"), 1.0)
        optimizer.step_schedules()
    (message,) = [record.getMessage() for record in caplog.records]
    assert "'typo'" in message and "'^haed'" in message and "head.weight" in message
    caplog.clear()
    default = adamw()
    for _ in range(14):
        Weights(A).give(default, A, 1.0)
        default.step()
    assert not caplog.records


def test_the_state_is_of_what_is_trained() -> None:
    optimizer = adamw(ema_decay=0.9)
    weights = Weights(A, B, size=10)
    weights.give(optimizer, A, *range(10))
    optimizer.step()
    assert optimizer.state_bytes == 10 * 4 * 3
    plainer = adamw()
    weights.give(plainer, A, *range(10))
    plainer.step()
    assert plainer.state_bytes == 10 * 4 * 2


def through_pickle(optimizer: Any) -> Any:
    return pickle.loads(pickle.dumps(optimizer))


@pytest.mark.parametrize("copied", [copy.deepcopy, through_pickle])
def test_a_copy_goes_on_as_the_original_does(copied: Callable[[Any], Any]) -> None:
    generator = numpy.random.default_rng(0)
    first = adamw(0.1, ema_decay=0.9)
    ours = Weights(A, B)

    def train(optimizer: Any, weights: Weights, gradients: List[List[float]]) -> None:
        for pair in gradients:
            for key, gradient in zip((A, B), pair):
                weights.give(optimizer, key, gradient)
            optimizer.step_schedules()

    train(first, ours, generator.normal(size=(5, 2)).tolist())
    second, theirs = copied(first), copy.deepcopy(ours)
    rest = generator.normal(size=(5, 2)).tolist()
    train(first, ours, rest)
    midway = ours[A] + ours[B]
    train(second, theirs, rest)
    assert theirs[A] + theirs[B] == midway == ours[A] + ours[B]
    assert second.averages.keys() == first.averages.keys()  # type: ignore
    for key, average in first.averages.items():  # type: ignore
        assert second.averages[key] == pytest.approx(average)


def test_an_average_over_updates_is_for_one_step() -> None:
    optimizer = plain()
    weights = Weights(A, B)
    optimizer.average_over(4)
    weights.give(optimizer, A, 8.0)
    optimizer.average_over(4)
    weights.give(optimizer, B, 8.0)
    optimizer.step_schedules()
    assert (weights[A], weights[B]) == ([-2.0], [-2.0])
    for key in (A, B):
        weights.give(optimizer, key, 8.0)
    optimizer.step_schedules()
    assert (weights[A], weights[B]) == ([-10.0], [-10.0])


def test_an_average_is_clipped_as_an_average() -> None:
    optimizer = plain(grad_clip=1.5)
    weights = Weights(A)
    weights.give(optimizer, A, 8.0)
    optimizer.average_over(4)
    optimizer.step()
    assert weights[A] == [pytest.approx(-1.5, abs=1e-4)]


def test_in_an_own_loop_each_average_is_that_of_its_gradients() -> None:
    """The first step is made when the second one's number is known already."""
    optimizer = plain()
    weights = Weights(A)
    for n_updates in (4, 2, 1):
        optimizer.average_over(n_updates)
        weights.give(optimizer, A, 8.0)
    assert weights[A] == [-2.0 - 4.0 - 8.0]


def test_an_average_over_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="n_updates = 0"):
        plain().average_over(0)


def test_a_gradient_that_is_left_to_the_optimizer_is_not_copied() -> None:
    """Two optimizers, one of which is given gradients for good: they step alike, and count alike."""
    given, kept = adamw(0.1, ema_decay=0.5), adamw(0.1, ema_decay=0.5)
    theirs, ours = Weights(A, B), Weights(A, B)
    for step in range(4):
        for key, value in ((A, 1.0 + step), (B, -2.0)):
            theirs.give(given, key, value)
            gradient = numpy.array([value], dtype="float32")
            kept.keep(key, ours.arrays[key], gradient)  # type: ignore[arg-type]
            assert gradient[0] == value
        for optimizer in (given, kept):
            optimizer.average_over(1 + step)
            optimizer.step_schedules()
        assert theirs.arrays[A] == ours.arrays[A] != 0 and theirs.arrays[B] == ours.arrays[B] != 0
    assert given.state_bytes == kept.state_bytes
    with pytest.raises(ValueError, match="a gradient of"):
        kept.keep(A, ours.arrays[A], numpy.zeros(2, dtype="float32"))  # type: ignore[arg-type]
