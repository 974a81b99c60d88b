"""The chain under lattices, with and without bonuses for exact entities: enumeration is the oracle."""

from math import inf
from typing import Dict, List, NamedTuple, Tuple

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spacy_crf_ner.crf.chain import Chain
from spacy_crf_ner.crf.forward_backward import posterior
from spacy_crf_ner.crf.layout import Ints
from spacy_crf_ner.crf.marginals import path_probabilities, segment_probabilities
from spacy_crf_ner.crf.viterbi import k_best, viterbi
from spacy_crf_ner.labels import BioTags, LabeledSpan
from spacy_crf_ner.ner.phrase_states import Bonus, with_bonuses
from tests.ner.util import TYPES, log_sum, random_lattices, random_potentials, readings
from tests.util import n_drawn

BIO_TAGS = BioTags(len(TYPES))
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


class Built(NamedTuple):
    """A chain with bonuses, and the tag that each of its states is for."""

    chain: Chain
    tags: Ints

    def rows(self, values: Ints) -> List[Ints]:
        """The values of each row's words."""
        return numpy.split(values, self.chain.sequences.lengths.cumsum()[:-1])

    def spans(self, states: Ints) -> List[LabeledSpan]:
        return [(start, end, TYPES[label]) for start, end, label in BIO_TAGS.spans(self.tags[states])]

    def k_best(self, k: int) -> List[List[Tuple[Ints, float]]]:
        best = k_best(self.chain, k)
        shares = path_probabilities(posterior(self.chain), [scores for _, scores in best])
        return [list(zip(paths, row)) for (paths, _), row in zip(best, shares)]


def built(seed: int, lengths: List[int], bonuses: Bonuses, temperature: float = 1.0) -> Built:
    potentials, lattices = random_potentials(seed, lengths), random_lattices(seed, lengths)
    chain = potentials.to_chain(lattices, temperature=temperature)
    of_docs = [
        [Bonus(start, end, TYPES.index(label), weight) for (start, end, label), weight in doc.items()]
        for doc in bonuses
    ]
    return Built(*with_bonuses(chain, of_docs))


@given(batches())
@settings(deadline=None, max_examples=n_drawn(60))
def test_best_reading_its_probabilities_and_the_next_ones_are_those_of_enumeration(
    batch: Tuple[int, List[int], Bonuses],
) -> None:
    seed, lengths, bonuses = batch
    found_by = built(*batch)
    potentials, lattices = random_potentials(seed, lengths), random_lattices(seed, lengths)
    states = viterbi(found_by.chain)
    continues = BIO_TAGS.continues[found_by.tags][:, found_by.tags]
    best = found_by.k_best(4)
    origins = found_by.chain.sequences.origin.tolist()
    for doc, (origin, path) in enumerate(zip(origins, found_by.rows(states))):
        found = readings(potentials, doc, lattices[doc], bonuses[doc])
        log_z = log_sum(found)
        entities = found_by.spans(path)
        assert tuple(entities) == found[0].entities
        places = numpy.array(
            [(origin + start, origin + end) for start, end, _ in entities], dtype="int64"
        ).reshape(-1, 2)
        starts, ends = places.T
        scores = segment_probabilities(posterior(found_by.chain), states, starts, ends, continues)
        for entity, score in zip(entities, scores):
            share = sum(numpy.exp(other.score - log_z) for other in found if entity in other.entities)
            assert score == pytest.approx(share, abs=1e-12)
        assert len(best[doc]) == min(4, len(found))
        for (hypothesis, probability), reading in zip(best[doc], found):
            assert tuple(found_by.tags[hypothesis].tolist()) == reading.tags
            assert probability == pytest.approx(numpy.exp(reading.score - log_z), abs=1e-12)


def test_a_bonus_raises_the_odds_of_its_entity_by_exactly_its_weight() -> None:
    span = (1, 3, "A")

    def odds(chain: Built) -> float:
        paths = [path for path, _ in chain.k_best(10_000)[0]]
        probabilities = [p for _, p in chain.k_best(10_000)[0]]
        has = [span in chain.spans(path) for path in paths]
        share = sum(p for p, is_there in zip(probabilities, has) if is_there)
        return float(numpy.log(share / (1 - share)))

    without, with_bonus = built(3, [4], [{}]), built(3, [4], [{span: 1.7}])
    assert odds(with_bonus) - odds(without) == pytest.approx(1.7, abs=1e-9)


def test_nothing_to_add_leaves_the_chain_as_it_is() -> None:
    chain, tags = built(0, [3, 2], [{}, {}])
    assert with_bonuses(chain, [[], []])[0] is chain
    assert tags.tolist() == list(range(BIO_TAGS.size))


def test_phrases_that_do_not_overlap_share_their_states() -> None:
    apart = built(0, [5, 5], [{(0, 2, "A"): 1.0, (2, 4, "A"): 1.0}, {(1, 3, "A"): 1.0}])
    overlapping = built(0, [5], [{(0, 3, "A"): 1.0, (1, 4, "A"): 1.0}])
    assert len(apart.tags) == 5 + 5
    assert len(overlapping.tags) == 5 + 2 * 5


def test_temperature_flattens_the_probabilities_and_changes_no_reading() -> None:
    cold, warm = built(7, [5], [{}]), built(7, [5], [{}], temperature=3.0)
    assert viterbi(cold.chain).tolist() == viterbi(warm.chain).tolist()
    (_, p), (_, flatter) = cold.k_best(1)[0][0], warm.k_best(1)[0][0]
    scores = numpy.array(
        [reading.score for reading in readings(random_potentials(7, [5]), 0, random_lattices(7, [5])[0], {})]
    )
    assert flatter < p
    assert flatter == pytest.approx(float(numpy.exp(scores[0] / 3) / numpy.exp(scores / 3).sum()), abs=1e-9)
