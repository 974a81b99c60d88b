from typing import Any, List, Tuple

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thinc.types import Ragged

from spacy_crf_ner.ner.lattices import tag_lattice
from spacy_crf_ner.ner.losses import divergence_from, fit_temperature, negative_log_likelihood
from spacy_crf_ner.tagger.potentials import Potentials
from tests.ner.util import TYPES, log_sum, random_lattices, random_potentials, readings
from tests.util import n_drawn

At = Tuple[int, ...]


def numerically(loss: Any, array: Any, at: At, step: float = 1e-2) -> float:
    """The derivative of a loss by one number of an array."""
    array[at] += step
    above = loss()
    array[at] -= 2 * step
    below = loss()
    array[at] += step
    return (above - below) / (2 * step)


def places(potentials: Potentials, d: Potentials) -> List[Tuple[Any, Any, At]]:
    return [
        (potentials.by_doc()[0], d.by_doc()[0], (0, 1)),
        (potentials.by_doc()[2], d.by_doc()[2], (3, 2)),
        (potentials.transitions, d.transitions, (1, 2)),
        (potentials.start, d.start, (1,)),
        (potentials.end, d.end, (0,)),
    ]


def test_gradient_of_the_likelihood_is_its_numerical_derivative() -> None:
    lengths = [4, 0, 6]
    potentials = random_potentials(0, lengths)
    lattices = [tag_lattice([None if i % 3 else "O" for i in range(length)], TYPES) for length in lengths]
    lattices[0][2] = False  # a token out of the sequence
    _, d = negative_log_likelihood(potentials, lattices)
    assert not d.by_doc()[0][2].any()
    for array, derivative, at in places(potentials, d):
        expected = numerically(lambda: negative_log_likelihood(potentials, lattices)[0], array, at)
        assert derivative[at] == pytest.approx(expected, abs=1e-4)


def test_likelihood_is_the_share_of_the_readings_that_are_allowed() -> None:
    potentials, lattices = random_potentials(1, [4, 5]), random_lattices(1, [4, 5])
    loss, _ = negative_log_likelihood(potentials, lattices)
    expected, n_tokens = 0.0, 9
    for doc, lattice in enumerate(lattices):
        everything = readings(potentials, doc, numpy.ones_like(lattice), {})
        expected += log_sum(everything) - log_sum(readings(potentials, doc, lattice, {}))
    assert loss * n_tokens == pytest.approx(expected, abs=1e-9)


@given(st.integers(0, 2**31), st.lists(st.integers(0, 4), min_size=1, max_size=3))
@settings(deadline=None, max_examples=n_drawn(25))
def test_divergence_is_that_of_enumeration_and_asks_for_the_teachers_tags_alone(
    seed: int, lengths: List[int]
) -> None:
    teacher = random_potentials(seed, lengths, n_types=1)
    student = random_potentials(seed + 1, lengths, n_types=2)
    lattices = [numpy.ones((length, 3), dtype=bool) for length in lengths]
    loss, gradient = divergence_from(teacher, student, lattices)
    known = student.of_tags(numpy.arange(3))
    expected = 0.0
    for doc, lattice in enumerate(lattices):
        old, new = (readings(p, doc, lattice, {}) for p in (teacher, known))
        scores = {reading.tags: reading.score - log_sum(new) for reading in new}
        for reading in old:
            log_p = reading.score - log_sum(old)
            expected += float(numpy.exp(log_p) * (log_p - scores[reading.tags]))
    assert loss * max(sum(lengths), 1) == pytest.approx(expected, abs=1e-9)
    assert all(not emission[:, 3:].any() for emission in gradient.by_doc())
    assert not gradient.transitions[3:].any() and not gradient.transitions[:, 3:].any()


def test_gradient_of_the_divergence_is_its_numerical_derivative() -> None:
    lengths = [4, 0, 6]
    teacher, student = random_potentials(2, lengths, n_types=1), random_potentials(3, lengths)
    lattices = [numpy.ones((length, 3), dtype=bool) for length in lengths]
    lattices[0][2] = False
    _, d = divergence_from(teacher, student, lattices)
    for array, derivative, at in places(student, d):
        expected = numerically(lambda: divergence_from(teacher, student, lattices)[0], array, at)
        assert derivative[at] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_a_teacher_is_matched_tag_by_tag_at_a_temperature(temperature: float) -> None:
    """The student has the teacher's label second, and another one first."""
    lengths, tags = [3, 0, 2], numpy.array([0, 3, 4])
    teacher, student = random_potentials(4, lengths, n_types=1), random_potentials(5, lengths, n_types=2)
    lattices = [numpy.ones((length, 3), dtype=bool) for length in lengths]
    loss, d = divergence_from(teacher, student, lattices, tags, temperature=temperature)
    known = student.of_tags(tags)
    assert known.transitions[1, 2] == student.transitions[3, 4]
    expected = 0.0
    for doc, lattice in enumerate(lattices):
        old, new = (
            {reading.tags: reading.score / temperature for reading in readings(p, doc, lattice, {})}
            for p in (teacher, known)
        )
        log_z = [numpy.logaddexp.reduce(list(found.values())) for found in (old, new)]
        for path, score in old.items():
            log_p = score - log_z[0]
            expected += float(numpy.exp(log_p) * (log_p - new[path] + log_z[1]))
    assert loss * sum(lengths) == pytest.approx(expected * temperature**2, abs=1e-9)
    assert not d.transitions[1:3].any() and not d.start[1:3].any() and d.transitions[3:, 3:].any()
    for array, derivative, at in [
        (student.by_doc()[0], d.by_doc()[0], (0, 3)),
        (student.transitions, d.transitions, (3, 4)),
        (student.start, d.start, (3,)),
        (student.end, d.end, (4,)),
    ]:
        found = numerically(
            lambda: divergence_from(teacher, student, lattices, tags, temperature=temperature)[0], array, at
        )
        assert derivative[at] == pytest.approx(found, abs=1e-4)


def everything(lattices: List[Any]) -> List[Any]:
    return [numpy.ones_like(lattice) for lattice in lattices]


def sampled_gold(seed: int, temperature: float) -> List[Tuple[Potentials, List[Any], List[Any]]]:
    """Docs whose gold is drawn from the distribution at a temperature."""
    rng = numpy.random.default_rng(seed)
    lengths = [4] * 400
    potentials = random_potentials(seed, lengths, n_types=1)
    gold = []
    for doc in range(len(lengths)):
        found = readings(potentials, doc, numpy.ones((4, 3), dtype=bool), {})
        weights = numpy.exp(numpy.array([reading.score for reading in found]) / temperature)
        drawn = found[rng.choice(len(found), p=weights / weights.sum())]
        gold.append(numpy.eye(3, dtype=bool)[list(drawn.tags)])
    return [(potentials, gold, everything(gold))]


@pytest.mark.parametrize("temperature", [0.6, 1.0, 2.5])
def test_the_fit_finds_the_temperature_that_the_gold_was_drawn_at(temperature: float) -> None:
    batches = sampled_gold(0, temperature)
    fitted = fit_temperature(batches)
    assert fitted == pytest.approx(temperature, rel=0.15)
    ((potentials, gold, _),) = batches

    def loss(at: float) -> float:
        emissions, start, transitions, end = (x / at for x in potentials.arrays)
        scaled = Potentials(Ragged(emissions, potentials.emissions.lengths), start, transitions, end)
        return negative_log_likelihood(scaled, gold)[0]

    assert loss(fitted) < min(loss(fitted * 1.02), loss(fitted / 1.02))


@pytest.mark.parametrize("sureness", [1.0, 20.0])
def test_a_model_without_mistakes_has_no_temperature(sureness: float) -> None:
    potentials = random_potentials(4, [5] * 20, n_types=1)
    for emission in potentials.by_doc():
        emission *= sureness
    gold = [
        numpy.eye(3, dtype=bool)[list(readings(potentials, doc, numpy.ones((5, 3), dtype=bool), {})[0].tags)]
        for doc in range(20)
    ]
    with pytest.raises(ValueError, match="no temperature fits"):
        fit_temperature([(potentials, gold, everything(gold))])


def test_what_is_not_possible_has_no_part_in_the_fit() -> None:
    """Scores of a type that no word may have say nothing about the temperature."""
    (batch,) = sampled_gold(1, 1.5)
    potentials, gold, allowed = batch
    wider = random_potentials(2, [4] * 400)
    for mine, known in zip(wider.by_doc(), potentials.by_doc()):
        mine[:, :3] = known
        mine[:, 3:] += 5.0
    wider.start[:3], wider.end[:3] = potentials.start, potentials.end
    wider.transitions[:3, :3] = potentials.transitions
    more = [[numpy.pad(lattice, ((0, 0), (0, 2))) for lattice in lattices] for lattices in (gold, allowed)]
    assert fit_temperature([(wider, more[0], more[1])]) == pytest.approx(fit_temperature([batch]), rel=1e-4)
