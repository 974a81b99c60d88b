import json
from collections import Counter
from typing import Any

import pytest
import spacy
from spacy.tokens import Doc, Span

from spacy_crf_ner.formats.doc_builder import META, ORIGIN, RELATIONS, Origin
from spacy_crf_ner.formats.errors import FormatError
from spacy_crf_ner.formats.records import (
    META_LEFT,
    RELATIONS_LEFT,
    SPANS_LEFT,
    Annotation,
    annotation_of,
    to_line,
)

VOCAB = spacy.blank("en").vocab
PERSONS = [(0, 5, "PER"), (11, 18, "PER")]


@pytest.fixture
def doc() -> Doc:
    doc = Doc(VOCAB, words=["Booth", "shot", "Lincoln"])
    doc.set_ents([Span(doc, 0, 1, "PER"), Span(doc, 2, 3, "PER")])
    return doc


def test_entities_or_spans_are_written(doc: Doc) -> None:
    notes: Counter[str] = Counter()
    doc.spans["sc"] = [Span(doc, 1, 3, "X")]
    assert annotation_of(doc, notes, "sc") == Annotation([(6, 18, "X")], [])
    assert not notes
    assert annotation_of(doc, notes, None) == Annotation(PERSONS, [])
    assert notes == {SPANS_LEFT: 1}


def test_spans_that_are_the_entities_are_no_loss(doc: Doc) -> None:
    notes: Counter[str] = Counter()
    doc.spans["sc"] = list(doc.ents)
    annotation_of(doc, notes, None)
    assert not notes


def test_missing_annotation() -> None:
    doc = Doc(VOCAB, words=["Booth"])
    assert annotation_of(doc, Counter(), None) is None
    assert annotation_of(doc, Counter(), "sc") is None
    doc.spans["sc"] = []
    assert annotation_of(doc, Counter(), "sc") == Annotation([], [])


def test_spans_key_that_the_doc_has_not(doc: Doc) -> None:
    with pytest.raises(FormatError, match=r"^doc: the doc has no spans 'sc'; .*it has none"):
        annotation_of(doc, Counter(), "sc")
    doc.spans["other"] = []
    doc.user_data[ORIGIN] = Origin("x.json", 7)
    with pytest.raises(FormatError, match=r"^x.json:7: the doc has no spans 'sc'; .*it has 'other'"):
        annotation_of(doc, Counter(), "sc")
    doc.set_ents([])
    assert annotation_of(doc, Counter(), "sc") == Annotation([], [])


def test_relations_between_written_entities(doc: Doc) -> None:
    notes: Counter[str] = Counter()
    ends = {"head": [0, 5, "PER"], "tail": [11, 18, "PER"]}
    doc.user_data[RELATIONS] = [{"label": "Kill", **ends}, {"label": "Kill", **ends, "head": [0, 5, "LOC"]}]
    annotation = annotation_of(doc, notes, None)
    assert annotation is not None
    assert annotation.links == [("Kill", 0, 1)]
    assert notes == {RELATIONS_LEFT: 1}


@pytest.mark.parametrize(
    "relation", ["Kill", {"label": "Kill"}, {"label": "Kill", "head": 1, "tail": 2}, {"head": [0, 5, "PER"]}]
)
def test_relations_of_another_making_are_refused(doc: Doc, relation: Any) -> None:
    doc.user_data[RELATIONS] = [relation]
    with pytest.raises(
        FormatError, match=r"doc.user_data\['relations'\].*'label': 'Kill', 'head': \[0, 4, 'Peop'\]"
    ):
        annotation_of(doc, Counter(), None)


@pytest.mark.parametrize(
    "meta", ["text", [1], {"a": {1}}, {"a": float("nan")}, {"a": "\ud83d"}, {"a": b"x"}, {("a", 1): 2}]
)
def test_meta_that_json_cannot_hold_is_counted(doc: Doc, meta: Any) -> None:
    notes: Counter[str] = Counter()
    doc.user_data[META] = meta
    assert to_line(doc, {"text": "a"}, notes, reserved=["text"]) == '{"text": "a"}\n'
    assert notes == {META_LEFT: 1}


def test_reserved_meta_is_counted_by_key(doc: Doc) -> None:
    notes: Counter[str] = Counter()
    doc.user_data[META] = {"text": "b", "id": 1}
    assert json.loads(to_line(doc, {"text": "a"}, notes, reserved=["text", "label"])) == {"text": "a", "id": 1}
    ((note, n_docs),) = notes.items()
    assert "'text'" in note
    assert n_docs == 1
