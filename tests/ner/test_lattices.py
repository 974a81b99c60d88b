"""Which tags gold annotation leaves to each token."""

from typing import List, Optional

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_crf_ner.labels import BioTags
from spacy_crf_ner.ner.lattices import tag_lattice

LABELS = ["LOC", "ORG", "PER.NAM"]
BIO_TAGS = BioTags(len(LABELS))


@given(st.lists(st.sampled_from([*BIO_TAGS.names(LABELS), "L-ORG", "U-ORG", None])))
def test_any_annotation_leaves_a_sequence_that_the_constraints_allow(tags: List[Optional[str]]) -> None:
    lattice = tag_lattice(tags, LABELS)
    starts, steps = BIO_TAGS.legal_starts, BIO_TAGS.legal_transitions
    reachable = numpy.ones(len(starts), dtype=bool)
    for i, row in enumerate(lattice):
        reachable = row & (starts if i == 0 else steps[reachable].any(axis=0))
        assert reachable.any(), tags


def test_unknown_tokens_are_free_and_unknown_labels_refused() -> None:
    lattice = tag_lattice(["B-LOC", None, "O"], ["LOC"])
    assert lattice.tolist() == [[False, True, False], [True, True, True], [True, False, False]]
    with pytest.raises(ValueError, match="'GPE' is not among the labels"):
        tag_lattice(["B-GPE"], ["LOC"])


def test_an_entity_ends_where_biluo_says_so() -> None:
    """After L- and U- the next token begins something new, also where nothing is known of it."""
    new, any_tag = [True, True, False], [True, True, True]
    assert tag_lattice(["B-LOC", "L-LOC", None, None], ["LOC"])[2:].tolist() == [new, any_tag]
    assert tag_lattice(["U-LOC", None], ["LOC"])[1].tolist() == new
    assert tag_lattice(["B-LOC", "I-LOC", None], ["LOC"])[2].tolist() == any_tag
