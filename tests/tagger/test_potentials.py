"""From the model's potentials to a CRF over words, and a gradient's way back."""

import numpy
import pytest

from spacy_crf_ner.crf.chain import ExpectedCounts
from spacy_crf_ner.crf.forward_backward import posterior
from spacy_crf_ner.crf.viterbi import viterbi
from spacy_crf_ner.labels import BioTags
from tests.ner.util import TYPES, log_sum, random_lattices, random_potentials, readings


def test_a_token_that_its_lattice_takes_out_joins_its_neighbours() -> None:
    potentials, lattices = random_potentials(5, [4, 3]), random_lattices(5, [4, 3], share=1.0)
    lattices[0][1] = False
    chain = potentials.to_chain(lattices)
    assert chain.sequences.lengths.tolist() == [3, 3]
    assert (chain.emissions == potentials.emissions.data[[0, 2, 3, 4, 5, 6]]).all()
    found = readings(potentials, 0, lattices[0], {})
    spans = BioTags(len(TYPES)).spans(viterbi(chain)[:3])
    assert [(start, end, TYPES[label]) for start, end, label in spans] == list(found[0].entities)
    assert float(posterior(chain).log_z[0]) == pytest.approx(log_sum(found), abs=1e-9)


def test_potentials_of_other_labels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"scores 5 tags, but the component's labels make 3: .* other labels"):
        random_potentials(0, [2]).to_chain([numpy.ones((2, 3), dtype=bool)])


def test_scores_that_are_not_finite_are_refused_with_the_doc_named() -> None:
    potentials = random_potentials(0, [2, 0, 3])
    potentials.by_doc()[2][1, 0] = numpy.nan
    with pytest.raises(ValueError, match="scores for doc 2 of the batch are not finite numbers; train it anew"):
        potentials.to_chain(random_lattices(0, [2, 0, 3])).check_finite("train it anew")
    potentials = random_potentials(0, [2])
    potentials.end[1] = numpy.inf
    with pytest.raises(ValueError, match="the CRF's transitions are not finite numbers; train it anew"):
        potentials.to_chain(random_lattices(0, [2])).check_finite("train it anew")


def test_a_gradient_arrives_where_its_potential_is_and_nowhere_else() -> None:
    potentials, lattices = random_potentials(0, [3, 0, 2]), random_lattices(0, [3, 0, 2])
    lattices[0][1] = False
    emissions = numpy.arange(1.0, 13.0).reshape(4, 3)
    counts = ExpectedCounts(emissions, numpy.ones(3), numpy.full((3, 3), 2.0), numpy.full(3, 3.0))
    smaller = [lattice[:, :3] for lattice in lattices]
    gradient = potentials.gradient(counts, smaller, -0.5)
    assert gradient.emissions.lengths.tolist() == [3, 0, 2]
    assert gradient.emissions.data[[0, 2, 3, 4], :3].tolist() == (-0.5 * counts.emissions).tolist()
    assert not gradient.emissions.data[1].any() and not gradient.emissions.data[:, 3:].any()
    assert gradient.transitions[:3, :3].tolist() == [[-1.0] * 3] * 3 and gradient.transitions.sum() == -9.0
    assert gradient.start.tolist() == [-0.5] * 3 + [0.0] * 2
    assert gradient.end.tolist() == [-1.5] * 3 + [0.0] * 2
    assert {x.dtype for x in gradient.arrays} == {numpy.dtype("float32")}
