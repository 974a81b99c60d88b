from typing import List, Tuple

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_crf_ner.labels import BioTags
from spacy_crf_ner.tagging import BIO

LABELS = ["LOC", "ORG", "PER.NAM"]
BIO_TAGS = BioTags(len(LABELS))

Spans = List[Tuple[int, int, int]]


@st.composite
def spans_in_sequence(draw: st.DrawFn) -> Tuple[int, Spans]:
    """A sequence's length and entities in it, often adjacent, their labels by index."""
    spans, position = [], 0
    labels = st.integers(0, len(LABELS) - 1)
    for gap, width, label in draw(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4), labels))):
        spans.append((position + gap, position + gap + width, label))
        position += gap + width
    return position + draw(st.integers(0, 2)), spans


def path_of(tags: List[str]) -> "numpy.typing.NDArray[numpy.int64]":
    names = BIO_TAGS.names(LABELS)
    return numpy.array([names.index(tag) for tag in tags], dtype="int64")


@given(spans_in_sequence())
def test_spans_are_those_that_the_written_tags_mean(sequence: Tuple[int, Spans]) -> None:
    length, spans = sequence
    written = BIO.write(length, [(start, end, LABELS[label]) for start, end, label in spans])
    assert BIO_TAGS.spans(path_of(written)) == spans


@pytest.mark.parametrize("tags", [["I-LOC"], ["O", "I-LOC"], ["B-LOC", "I-ORG"], ["B-LOC", "O", "I-LOC"]])
def test_a_path_that_is_not_bio_is_refused(tags: List[str]) -> None:
    with pytest.raises(ValueError, match=f"at position {len(tags) - 1} continues no entity"):
        BIO_TAGS.spans(path_of(tags))


def test_a_new_label_moves_no_tag() -> None:
    assert BioTags(2).names(["LOC", "ORG"]) == ("O", "B-LOC", "I-LOC", "B-ORG", "I-ORG")
    assert BioTags(4).names([*LABELS, "NEW"])[: BIO_TAGS.size] == BIO_TAGS.names(LABELS)


def test_tags_by_index_are_those_by_name() -> None:
    names = BIO_TAGS.names(LABELS)
    assert len(names) == BIO_TAGS.size
    for i, label in enumerate(LABELS):
        assert names[BIO_TAGS.begin(i)] == f"B-{label}"
        assert names[BIO_TAGS.inside(i)] == f"I-{label}"
    for i, name in enumerate(names):
        assert BIO_TAGS.is_begin[i] == name.startswith("B-")
        assert BIO_TAGS.is_inside[i] == name.startswith("I-")
        assert BIO_TAGS.label_of(i) == (LABELS.index(name[2:]) if i else -1)
    labels = numpy.arange(len(LABELS))
    assert BIO_TAGS.label_of(BIO_TAGS.begin(labels)).tolist() == labels.tolist()
    assert BIO_TAGS.label_of(BIO_TAGS.inside(labels)).tolist() == labels.tolist()


def test_constraints_are_those_of_bio() -> None:
    names = BIO_TAGS.names(LABELS)
    for i, name in enumerate(names):
        assert BIO_TAGS.legal_starts[i] == (name[0] != "I")
        for j, following in enumerate(names):
            continues = following[0] == "I" and name[2:] == following[2:]
            assert BIO_TAGS.continues[i, j] == continues, (name, following)
            assert BIO_TAGS.legal_transitions[i, j] == (following[0] != "I" or continues), (name, following)


@pytest.mark.parametrize("n_labels", [0, 1, 5])
def test_the_number_of_tags_tells_that_of_labels(n_labels: int) -> None:
    assert BioTags.from_size(BioTags(n_labels).size) == BioTags(n_labels)


@pytest.mark.parametrize("n_tags", [-1, 0, 2, 8])
def test_a_size_that_no_labels_make_is_refused(n_tags: int) -> None:
    with pytest.raises(ValueError, match=f"n_tags must be odd: .* got {n_tags}"):
        BioTags.from_size(n_tags)
