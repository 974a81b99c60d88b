from typing import List, Optional, Tuple

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spacy.training import biluo_to_iob, iob_to_biluo

from spacy_crf_ner import labels
from spacy_crf_ner.labels import Span

TYPES = ["LOC", "ORG", "PER.NAM"]


@st.composite
def spans_in_sequence(draw: st.DrawFn) -> Tuple[int, List[Span]]:
    """A sequence's length and entities in it, often adjacent."""
    spans, position = [], 0
    for gap, width, label in draw(
        st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4), st.sampled_from(TYPES)))
    ):
        spans.append((position + gap, position + gap + width, label))
        position += gap + width
    return position + draw(st.integers(0, 2)), spans


@given(spans_in_sequence())
def test_spans_survive_the_round_trip_through_tags(sequence: Tuple[int, List[Span]]) -> None:
    length, spans = sequence
    tags = labels.spans_to_tags(length, reversed(spans))
    assert len(tags) == length
    assert labels.tags_to_spans(tags) == spans


@given(spans_in_sequence())
def test_biluo_input_becomes_the_same_bio(sequence: Tuple[int, List[Span]]) -> None:
    length, spans = sequence
    tags = labels.spans_to_tags(length, spans)
    assert labels.to_bio(iob_to_biluo(tags)) == tags
    assert labels.to_bio(tags) == tags
    assert biluo_to_iob(iob_to_biluo(tags)) == tags


@given(st.lists(st.sampled_from([*labels.bio_tags(TYPES), "L-ORG", "U-ORG", None])))
def test_any_input_becomes_a_sequence_that_the_constraints_allow(tags: List[Optional[str]]) -> None:
    lattice = labels.tag_lattice(tags, TYPES)
    starts, steps = labels.legal_starts(len(TYPES)), labels.legal_transitions(len(TYPES))
    reachable = numpy.ones(len(starts), dtype=bool)
    for i, row in enumerate(lattice):
        reachable = row & (starts if i == 0 else steps[reachable].any(axis=0))
        assert reachable.any(), tags


@pytest.mark.parametrize(
    "tags, bio",
    [
        (["I-LOC", "I-LOC", "B-LOC", "I-LOC"], ["B-LOC", "I-LOC", "B-LOC", "I-LOC"]),  # IOB1
        (["O", "I-LOC", "I-ORG"], ["O", "B-LOC", "B-ORG"]),
        (["U-LOC", "I-LOC"], ["B-LOC", "B-LOC"]),  # a unit is closed
        (["B-LOC", "L-LOC", "L-LOC"], ["B-LOC", "I-LOC", "B-LOC"]),
        (["B-LOC", None, "L-LOC"], ["B-LOC", None, "I-LOC"]),  # the gap may be inside
        (["-", "", "O"], [None, None, "O"]),
    ],
)
def test_to_bio_normalises_each_scheme(tags: List[Optional[str]], bio: List[Optional[str]]) -> None:
    assert labels.to_bio(tags) == bio


@pytest.mark.parametrize("tag", ["X-LOC", "B", "B-", "LOC", "b-LOC", "BLOC", " O"])
def test_an_unknown_tag_is_refused_by_name(tag: str) -> None:
    with pytest.raises(ValueError, match="unknown tag") as error:
        labels.to_bio([tag])
    assert repr(tag) in str(error.value)


def test_types_may_hold_hyphens_and_dots() -> None:
    assert labels.split_tag("B-PER.NAM-x") == ("B", "PER.NAM-x")


def test_a_new_type_moves_no_tag() -> None:
    assert labels.bio_tags(["LOC", "ORG"]) == ("O", "B-LOC", "I-LOC", "B-ORG", "I-ORG")
    assert labels.bio_tags([*TYPES, "NEW"])[: labels.n_tags(3)] == labels.bio_tags(TYPES)


def test_constraints_are_those_of_bio() -> None:
    tags = labels.bio_tags(TYPES)
    steps = labels.legal_transitions(len(TYPES))
    for i, tag in enumerate(tags):
        assert labels.legal_starts(len(TYPES))[i] == (tag[0] != "I")
        for j, following in enumerate(tags):
            legal = following[0] != "I" or tag[2:] == following[2:]
            assert steps[i, j] == legal, (tag, following)


@pytest.mark.parametrize("tags", [["I-LOC"], ["O", "I-LOC"], ["B-LOC", "I-ORG"]])
def test_tags_to_spans_refuses_what_is_not_bio(tags: List[str]) -> None:
    with pytest.raises(ValueError, match=f"position {len(tags) - 1}"):
        labels.tags_to_spans(tags)


@pytest.mark.parametrize("span", [(0, 0, "LOC"), (2, 4, "LOC"), (-1, 1, "LOC"), (0, 1, "")])
def test_spans_to_tags_refuses_spans_that_do_not_fit(span: Span) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        labels.spans_to_tags(3, [span])


def test_spans_to_tags_refuses_overlap() -> None:
    with pytest.raises(ValueError, match="overlaps"):
        labels.spans_to_tags(3, [(0, 2, "LOC"), (1, 3, "ORG")])


def test_tag_lattice_frees_unknown_tokens_and_refuses_unknown_types() -> None:
    lattice = labels.tag_lattice(["B-LOC", None, "O"], ["LOC"])
    assert lattice.tolist() == [[False, True, False], [True, True, True], [True, False, False]]
    with pytest.raises(ValueError, match="'GPE' is not among the labels"):
        labels.tag_lattice(["B-GPE"], ["LOC"])


def test_tag_lattice_ends_an_entity_where_biluo_says_so() -> None:
    """After L- and U- the next token begins something new, also where nothing is known of it."""
    new, any_tag = [True, True, False], [True, True, True]
    assert labels.tag_lattice(["B-LOC", "L-LOC", None, None], ["LOC"])[2:].tolist() == [new, any_tag]
    assert labels.tag_lattice(["U-LOC", None], ["LOC"])[1].tolist() == new
    assert labels.tag_lattice(["B-LOC", "I-LOC", None], ["LOC"])[2].tolist() == any_tag
