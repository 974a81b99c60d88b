from itertools import islice
from math import cos, pi
from typing import Any, Callable, Dict, List

import pytest
from thinc.api import registry, warmup_linear

from spacy_crf_ner.training.schedules import warmup_cosine
from tests.training.util import UNIT, Weights, plain


def test_the_cosine_is_that_of_the_formula() -> None:
    rates = list(islice(warmup_cosine(0.2, 4, 12), 15))
    assert rates[:4] == pytest.approx([0.0, 0.05, 0.1, 0.15])
    assert rates[4:12] == pytest.approx([0.1 * (1 + cos(pi * k / 8)) for k in range(8)])
    assert rates[4] == 0.2
    assert rates[12:] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("warmup, total", [(0, 10), (3, 10), (10, 10), (4, 2), (0, 0)])
def test_warm_up_and_end_are_those_of_thincs_linear(warmup: int, total: int) -> None:
    ours, thincs = (list(islice(f(1.0, warmup, total), 20)) for f in (warmup_cosine, warmup_linear))
    assert ours[:warmup] == thincs[:warmup]
    assert ours[max(warmup, total) :] == thincs[max(warmup, total) :] == [0.0] * (20 - max(warmup, total))


def test_the_schedule_is_found_by_its_registered_name() -> None:
    assert registry.get("schedules", "spacy-crf-ner.warmup_cosine.v1") is warmup_cosine


SERIES: Dict[str, Callable[..., Any]] = {"linear": warmup_linear, "cosine": warmup_cosine}


@pytest.mark.parametrize("name", list(SERIES))
def test_the_schedule_is_a_factor_of_all_rates(name: str) -> None:
    groups = {"half": {"pattern": "half", "learn_rate": UNIT / 2}}
    optimizer = plain(groups=groups, schedule=SERIES[name](1.0, 2, 6))
    expected = list(islice(SERIES[name](1.0, 2, 6), 6))
    one, half = (1, "W"), (2, "half")
    weights = Weights(one, half)
    steps: List[float] = []
    for _ in range(6):
        before = weights[one][0]
        assert optimizer.learn_rate == pytest.approx(UNIT * expected[len(steps)])
        weights.give(optimizer, one, 1.0)
        weights.give(optimizer, half, 1.0)
        optimizer.step_schedules()
        steps.append(before - weights[one][0])
    assert steps == pytest.approx(expected, abs=2e-4)
    assert weights[half][0] == pytest.approx(-sum(expected) / 2, abs=2e-4)


def own_loop(optimizer: Any) -> None:
    """Nobody steps: the optimizer does."""


def step_only(optimizer: Any) -> None:
    optimizer.step()


def schedules_only(optimizer: Any) -> None:
    optimizer.step_schedules()


def both(optimizer: Any) -> None:
    optimizer.step()
    optimizer.step_schedules()


@pytest.mark.parametrize("drive", [own_loop, step_only, schedules_only, both])
def test_the_schedule_counts_steps_whoever_makes_them(drive: Callable[[Any], None]) -> None:
    optimizer = plain(schedule=iter([1.0, 10.0, 100.0, 1000.0]))
    key = (1, "W")
    weights = Weights(key)
    for _ in range(4):
        weights.give(optimizer, key, 1.0)
        drive(optimizer)
    assert weights[key] == [pytest.approx(-1111.0, rel=1e-4)]


def test_an_exhausted_schedule_keeps_its_last_factor() -> None:
    optimizer = plain(schedule=iter([1.0, 0.5]))
    key = (1, "W")
    weights = Weights(key)
    for _ in range(4):
        weights.give(optimizer, key, 1.0)
        optimizer.step_schedules()
    assert weights[key] == [-2.5]


@pytest.mark.parametrize("factor", [-1.0, float("nan"), float("inf")])
def test_a_factor_out_of_range_is_refused(factor: float) -> None:
    optimizer = plain(schedule=iter([1.0, factor]))
    with pytest.raises(ValueError, match="schedule, a factor of all rates"):
        optimizer.step_schedules()


def test_step_schedules_advances_without_gradients() -> None:
    optimizer = plain(schedule=iter([1.0, 0.5, 0.25]))
    optimizer.step_schedules()
    assert optimizer.learn_rate == UNIT / 2
    optimizer.step()
    assert optimizer.learn_rate == UNIT / 2


def test_setting_learn_rate_scales_all_rates_and_the_schedule_goes_on() -> None:
    groups = {"fast": {"pattern": "fast", "learn_rate": 4 * UNIT}}
    optimizer = plain(groups=groups, schedule=iter([1.0, 0.5]))
    one, fast = (1, "W"), (2, "fast")
    weights = Weights(one, fast)
    optimizer.learn_rate *= 0.1
    assert optimizer.learn_rate == pytest.approx(0.1 * UNIT)
    for key in (one, fast):
        weights.give(optimizer, key, 1.0)
    optimizer.step_schedules()
    assert (weights[one], weights[fast]) == ([-0.1], [-0.4])
    assert optimizer.learn_rate == pytest.approx(0.05 * UNIT)
    optimizer.learn_rate = 0.0
    optimizer.learn_rate = UNIT
    assert optimizer.learn_rate == pytest.approx(UNIT)


def test_learn_rate_cannot_be_set_where_no_factor_leads_to_it() -> None:
    optimizer = plain(schedule=warmup_linear(1.0, 2, 6))
    with pytest.raises(ValueError, match="the schedule's factor is 0 now"):
        optimizer.learn_rate = 1.0
    for wrong in (-1.0, float("nan"), "fast"):
        with pytest.raises(ValueError, match=r"optimizer\.learn_rate = "):
            optimizer.learn_rate = wrong  # type: ignore[assignment]
