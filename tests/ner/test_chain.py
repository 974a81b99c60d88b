"""The chain under lattices, with and without bonuses for exact entities: enumeration is the oracle."""

from math import inf
from typing import Dict, List, Tuple

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spacy_crf_ner.labels import BioTags, LabeledSpan
from spacy_crf_ner.ner.chain import Chain
from spacy_crf_ner.ner.phrase_states import Bonus, with_bonuses
from tests.ner.util import OPS, TYPES, log_sum, random_lattices, random_potentials, readings

Bonuses = List[Dict[LabeledSpan, float]]


@st.composite
def batches(draw: st.DrawFn) -> Tuple[int, List[int], Bonuses]:
    """A seed, the lengths of docs and, for each, what entities are worth."""
    lengths = draw(st.lists(st.integers(0, 5), min_size=1, max_size=3))
    bonuses: Bonuses = []
    for length in lengths:
        spans = (
            st.tuples(st.integers(0, length - 1), st.integers(1, 5), st.sampled_from(TYPES))
            if length
            else st.nothing()
        )
        weights = st.sampled_from([0.5, 3.0, -2.0, -inf])
        drawn = draw(st.dictionaries(spans, weights, max_size=4)) if length else {}
        bonuses.append(
            {(start, min(start + n, length), label): weight for (start, n, label), weight in drawn.items()}
        )
    return draw(st.integers(0, 2**31)), lengths, bonuses


def built(seed: int, lengths: List[int], bonuses: Bonuses, temperature: float = 1.0) -> Chain:
    potentials, lattices = random_potentials(seed, lengths), random_lattices(seed, lengths)
    chain = Chain.of(OPS, potentials, lattices, temperature=temperature)
    origins = chain.sequences.origin.tolist()
    return with_bonuses(
        chain,
        [
            Bonus(origin + start, origin + end, TYPES.index(label), weight)
            for origin, doc in zip(origins, bonuses)
            for (start, end, label), weight in doc.items()
        ],
    )


@given(batches())
@settings(deadline=None, max_examples=60)
def test_best_reading_its_probabilities_and_the_next_ones_are_those_of_enumeration(
    batch: Tuple[int, List[int], Bonuses],
) -> None:
    seed, lengths, bonuses = batch
    chain = built(*batch)
    potentials, lattices = random_potentials(seed, lengths), random_lattices(seed, lengths)
    states = chain.best()
    entities = chain.entities(states, TYPES)
    scores = chain.entity_probabilities(states, entities)
    best = chain.k_best(4)
    for doc in range(len(lengths)):
        found = readings(potentials, doc, lattices[doc], bonuses[doc])
        log_z = log_sum(found)
        assert tuple(entities[doc]) == found[0].entities
        for entity, score in zip(entities[doc], scores[doc]):
            share = sum(numpy.exp(other.score - log_z) for other in found if entity in other.entities)
            assert score == pytest.approx(share, abs=1e-12)
        assert len(best[doc]) == min(4, len(found))
        for (path, probability), reading in zip(best[doc], found):
            assert tuple(chain.tags[path].tolist()) == reading.tags
            assert probability == pytest.approx(numpy.exp(reading.score - log_z), abs=1e-12)


def test_a_bonus_raises_the_odds_of_its_entity_by_exactly_its_weight() -> None:
    span = (1, 3, "A")

    def odds(chain: Chain) -> float:
        paths = [path for path, _ in chain.k_best(10_000)[0]]
        probabilities = [p for _, p in chain.k_best(10_000)[0]]
        has = [span in chain.read(path, TYPES) for path in paths]
        share = sum(p for p, is_there in zip(probabilities, has) if is_there)
        return float(numpy.log(share / (1 - share)))

    without, with_bonus = built(3, [4], [{}]), built(3, [4], [{span: 1.7}])
    assert odds(with_bonus) - odds(without) == pytest.approx(1.7, abs=1e-9)


def test_nothing_to_add_leaves_the_chain_as_it_is() -> None:
    chain = built(0, [3, 2], [{}, {}])
    assert with_bonuses(chain, []) is chain
    assert len(chain.tags) == BioTags(len(TYPES)).size


def test_phrases_that_do_not_overlap_share_their_states() -> None:
    apart = built(0, [5, 5], [{(0, 2, "A"): 1.0, (2, 4, "A"): 1.0}, {(1, 3, "A"): 1.0}])
    overlapping = built(0, [5], [{(0, 3, "A"): 1.0, (1, 4, "A"): 1.0}])
    assert len(apart.tags) == 5 + 5
    assert len(overlapping.tags) == 5 + 2 * 5


def test_a_token_that_its_lattice_takes_out_joins_its_neighbours() -> None:
    potentials, lattices = random_potentials(5, [4, 3]), random_lattices(5, [4, 3], share=1.0)
    lattices[0][1] = False
    chain = Chain.of(OPS, potentials, lattices)
    assert [words.tolist() for words in chain.words] == [[0, 2, 3], [0, 1, 2]]
    found = readings(potentials, 0, lattices[0], {})
    assert tuple(chain.entities(chain.best(), TYPES)[0]) == found[0].entities
    assert float(chain.posterior.log_z[0]) == pytest.approx(log_sum(found), abs=1e-9)


def test_temperature_flattens_the_probabilities_and_changes_no_reading() -> None:
    cold, warm = built(7, [5], [{}]), built(7, [5], [{}], temperature=3.0)
    assert cold.best().tolist() == warm.best().tolist()
    (_, p), (_, flatter) = cold.k_best(1)[0][0], warm.k_best(1)[0][0]
    scores = numpy.array(
        [reading.score for reading in readings(random_potentials(7, [5]), 0, random_lattices(7, [5])[0], {})]
    )
    assert flatter < p
    assert flatter == pytest.approx(float(numpy.exp(scores[0] / 3) / numpy.exp(scores / 3).sum()), abs=1e-9)


def test_potentials_of_other_labels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"scores 5 tags, but the component's labels make 3: .* other labels"):
        Chain.of(OPS, random_potentials(0, [2]), [numpy.ones((2, 3), dtype=bool)])


def test_scores_that_are_not_finite_are_refused_with_the_doc_named() -> None:
    potentials = random_potentials(0, [2, 0, 3])
    potentials.emissions[2][1, 0] = numpy.nan
    with pytest.raises(ValueError, match="scores for doc 2 of the batch are not finite"):
        Chain.of(OPS, potentials, random_lattices(0, [2, 0, 3])).best()
