from pathlib import Path
from typing import Any, Dict, List

import pytest

from spacy_crf_ner.formats.label_studio import (
    CANCELLED,
    OTHER_END,
    OTHERS,
    PREDICTIONS,
    UNLABELLED,
    UNNAMED_RELATION,
)
from spacy_crf_ner.formats.records import INCOMPLETE, UNANNOTATED
from tests.formats.json_util import KEY, all_spans, entities, read, refused, relations, write_records

TEXT = "Booth shot  Lincoln."
BOOTH, LINCOLN = (0, 5, "PER"), (12, 19, "PER")


def region(start: int, end: int, *labels: str, **more: Any) -> Dict[str, Any]:
    """A result as Label Studio writes it."""
    value = {"start": start, "end": end, "labels": list(labels), **more}
    return {"id": f"r{start}", "from_name": "label", "to_name": "text", "type": "labels", "value": value}


def task(*results: Any, key: str = "annotations", text: str = TEXT) -> Dict[str, Any]:
    return {"id": 1, "data": {"text": text}, key: [{"id": 2, "was_cancelled": False, "result": list(results)}]}


def relation(**changes: Any) -> Dict[str, Any]:
    whole = {"type": "relation", "from_id": "r0", "to_id": "r12", "direction": "right", "labels": ["Kill"]}
    return {**whole, **changes}


PERSONS = [region(0, 5, "PER"), region(12, 19, "PER")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tasks.json"


@pytest.mark.parametrize("key", ["annotations", "completions"])
def test_labels(path: Path, key: str) -> None:
    found = read("jsonl", write_records(path, [task(*PERSONS, key=key)]))
    assert entities(found.docs[0]) == [BOOTH, LINCOLN]
    assert found.docs[0].user_data["meta"] == {"id": 1}
    assert not found.notes


def test_several_labels_are_several_entities(path: Path) -> None:
    found = read("jsonl", write_records(path, task(region(0, 5, "PER", "KILLER"))), spans_key=KEY)
    assert all_spans(found.docs[0]) == [BOOTH, (0, 5, "KILLER")]
    assert entities(found.docs[0]) == [BOOTH]
    assert found.make.counts.overlapping == 1


def test_first_annotation_that_was_not_cancelled(path: Path) -> None:
    results: List[Dict[str, Any]] = [
        {"result": [region(6, 10, "V")], "was_cancelled": True},
        {"result": [PERSONS[1]], "was_cancelled": False},
        {"result": [PERSONS[0]]},
        {"result": []},
    ]
    record = {"data": {"text": TEXT}, "annotations": results, "predictions": [{"result": PERSONS}]}
    found = read("jsonl", write_records(path, record))
    assert entities(found.docs[0]) == [LINCOLN]
    assert found.notes == {CANCELLED: 1, OTHERS: 2, PREDICTIONS: 1}


def test_cancelled_alone_is_not_annotated(path: Path) -> None:
    record = {"data": {"text": TEXT}, "annotations": [{"result": PERSONS, "was_cancelled": True}]}
    found = read("jsonl", write_records(path, record))
    assert not found.docs[0].has_annotation("ENT_IOB")
    assert found.notes == {CANCELLED: 1, UNANNOTATED: 1}


def test_what_is_no_entity_is_counted(path: Path) -> None:
    choice = {"type": "choices", "value": {"choices": ["x"]}, "id": "c"}
    found = read("jsonl", write_records(path, task(choice, PERSONS[0], region(6, 10), {**choice, "id": "r0"})))
    assert entities(found.docs[0]) == [BOOTH]
    assert found.notes == {"results of type 'choices', left out": 2, UNLABELLED: 1, INCOMPLETE: 1}


HYPERTEXT = {
    "start": "/div[1]/text()[1]",
    "end": "/div[1]/text()[1]",
    "startOffset": 0,
    "endOffset": 5,
    "globalOffsets": {"start": 0, "end": 5},
    "text": "Booth",
}


def hypertext(without: str = "", kind: str = "hypertextlabels", **changes: Any) -> Dict[str, Any]:
    """A result of a text with markup."""
    value = {**HYPERTEXT, kind: ["PER"], **changes}
    value.pop(without, None)
    return {"id": "h0", "type": kind, "value": value}


@pytest.mark.parametrize(
    "result", [hypertext(), hypertext("text"), hypertext(kind="labels"), hypertext("text", kind="labels")]
)
def test_hypertext_is_read_by_its_offsets_in_the_text(path: Path, result: Dict[str, Any]) -> None:
    link = relation(from_id="h0")
    found = read("jsonl", write_records(path, task(result, PERSONS[1], link)))
    assert entities(found.docs[0]) == [BOOTH, LINCOLN]
    assert relations(found.docs[0]) == [("Kill", BOOTH, LINCOLN)]
    assert not found.notes


def test_hypertext_whose_text_is_elsewhere_is_refused(path: Path) -> None:
    error = refused("jsonl", path, task(hypertext(globalOffsets={"start": 1, "end": 6})))
    assert "'Booth' should be at (1, 6), where there is 'ooth '" in error.what


UNREAD = [
    hypertext("globalOffsets"),
    hypertext("globalOffsets", kind="labels"),
    hypertext(globalOffsets=None),
    region(0, 5),
    {"type": "brushlabels", "value": {"rle": [1]}},
    {"type": "paragraphlabels", "value": {"start": "0", "end": "0", "startOffset": 0, "endOffset": 5}},
    {"id": "t", "type": "taxonomy", "value": {"start": 0, "end": 5, "taxonomy": [["a"]]}},
    {"id": "t", "type": "choices", "value": {**HYPERTEXT, "choices": ["a"]}},
]


@pytest.mark.parametrize("result", UNREAD)
def test_rest_of_a_text_of_which_a_result_is_not_read_is_missing(path: Path, result: Dict[str, Any]) -> None:
    found = read("jsonl", write_records(path, task(result, PERSONS[1])), spans_key=KEY)
    (doc,) = found.docs
    assert entities(doc) == all_spans(doc) == [LINCOLN]
    assert {token.ent_iob for token in doc if not token.ent_type} == {0}
    assert found.notes[INCOMPLETE] == 1
    assert found.notes.total() == 2  # and what it was is counted, too


def test_hypertext_without_its_text_is_not_read_where_there_may_be_markup(path: Path) -> None:
    text = "<b>Booth</b> shot &amp; Lincoln."
    found = read("jsonl", write_records(path, task(hypertext("text"), text=text)))
    assert (entities(found.docs[0]), found.notes[INCOMPLETE]) == ([], 1)


@pytest.mark.parametrize(
    "result",
    [
        {"id": "r12", "type": "taxonomy", "value": {"start": 12, "end": 19, "taxonomy": [["a"]]}},
        {"id": "c", "type": "choices", "value": {"choices": ["a"]}},
        {"id": "c", "type": "rating", "value": {"rating": 3}},
    ],
)
def test_what_says_more_of_an_entity_or_of_the_text_leaves_nothing_missing(
    path: Path, result: Dict[str, Any]
) -> None:
    for results in ([result, *PERSONS], [*PERSONS, result]):
        found = read("jsonl", write_records(path, task(*results)))
        assert [token.ent_iob for token in found.docs[0]].count(0) == 0
        assert found.notes == {f"results of type {result['type']!r}, left out": 1}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [("Kill", BOOTH, LINCOLN)]),
        ({"direction": "left"}, [("Kill", LINCOLN, BOOTH)]),
        ({"direction": "bi"}, [("Kill", BOOTH, LINCOLN), ("Kill", LINCOLN, BOOTH)]),
        ({"labels": ["A", "B"]}, [("A", BOOTH, LINCOLN), ("B", BOOTH, LINCOLN)]),
    ],
)
def test_relations(path: Path, changes: Dict[str, Any], expected: List[Any]) -> None:
    found = read("jsonl", write_records(path, task(relation(**changes), *PERSONS)))
    assert relations(found.docs[0]) == expected
    assert not found.notes


def test_relation_without_label_or_direction(path: Path) -> None:
    bare = {"type": "relation", "from_id": "r12", "to_id": "r0"}
    found = read("jsonl", write_records(path, task(*PERSONS, bare, {**bare, "labels": None})))
    assert relations(found.docs[0]) == [("relation", LINCOLN, BOOTH)] * 2
    assert found.notes == {UNNAMED_RELATION: 2}


def test_relation_begins_at_the_first_of_several_labels(path: Path) -> None:
    found = read("jsonl", write_records(path, task(region(0, 5, "PER", "KILLER"), PERSONS[1], relation())))
    assert relations(found.docs[0]) == [("Kill", BOOTH, LINCOLN)]


@pytest.mark.parametrize("before", [False, True])
def test_relation_of_an_entity_of_which_more_is_said(path: Path, before: bool) -> None:
    more = {"id": "r0", "type": "choices"}
    results = [more, *PERSONS] if before else [*PERSONS, more]
    found = read("jsonl", write_records(path, task(*results, relation())))
    assert relations(found.docs[0]) == [("Kill", BOOTH, LINCOLN)]


@pytest.mark.parametrize("end", [{"id": "r0", "type": "choices"}, region(0, 5)])
def test_relation_of_what_is_no_entity_is_counted(path: Path, end: Dict[str, Any]) -> None:
    found = read("jsonl", write_records(path, task(end, PERSONS[1], relation())))
    assert relations(found.docs[0]) == []
    assert found.notes[OTHER_END] == 1


@pytest.mark.parametrize("mention", ["shot Lincoln", "shot  Lincoln", "shot\\n\\nLincoln", "shotLincoln ", None])
def test_white_space_of_a_mention_may_be_folded(path: Path, mention: Any) -> None:
    docs = read("jsonl", write_records(path, task(region(6, 19, "X", text=mention)))).docs
    assert entities(docs[0]) == [(6, 19, "X")]


def test_another_mention_is_refused_or_trusted(path: Path) -> None:
    record = task(region(6, 10, "X", text="hot "))
    error = refused("jsonl", path, record)
    assert error.what == "'hot ' should be at (6, 10), where there is 'shot'"
    assert "--set verify=false" in error.fix
    assert entities(read("jsonl", write_records(path, record), verify=False).docs[0]) == [(6, 10, "X")]


@pytest.mark.parametrize(
    ("offsets", "other", "place"), [("characters", "utf-16", (3, 5)), ("utf-16", "characters", (2, 4))]
)
def test_mention_tells_the_unit_of_the_offsets(path: Path, offsets: str, other: str, place: Any) -> None:
    record = task(region(*place, "X", text="北京"), text="😀在北京很久")
    error = refused("jsonl", path, record, offsets=offsets)
    assert error.fix == f"give --set offsets={other}"
    assert entities(read("jsonl", write_records(path, record), lang="zh", offsets=other).docs[0]) == [(2, 4, "X")]


@pytest.mark.parametrize(
    ("record", "what", "fix"),
    [
        ({"data": {"text": "a"}, "annotations": {}}, '"annotations" is an object', "write a list"),
        ({"data": {"text": "a"}, "completions": None}, '"completions" is null', "write a list"),
        ({"data": {"text": "a"}, "annotations": [[]]}, "an annotation is a list", 'an object with "result"'),
        ({"data": {"text": "a"}, "annotations": [{}]}, 'an annotation has no "result"', "write it: a list"),
        (task(3), "a result is 3", 'an object with "type"'),
        (task({"id": "x"}), 'a result has no "type"', "write it: a string"),
        (task({"type": "labels"}), "a region is null", 'an object with "start"'),
        (task({"type": "labels", "value": {"start": 0, "labels": ["X"]}}), 'a region has no "end"', "whole"),
        (task(region("0", 5, "X")), "\"start\" of a region is the string '0'", "write a whole number"),  # type: ignore[arg-type]
        (task(region(0, 5, labels="X")), "the \"labels\" of a region is the string 'X'", "write a list"),
        (task(region(0, 5, labels=[None])), "a label is null", "write a string"),
        (task(region(0, 5, "X", text=5)), 'the "text" of a region is 5', "write a string"),
        (task(region(0, 99, "X")), "ends beyond the text of 20 characters", "--set offsets=utf-16"),
        (task(*PERSONS, relation(to_id="zz")), "a relation names 'zz', which no result has as its id", "again"),
        (task(*PERSONS, relation(from_id=1)), '"from_id" of a relation is 1', "write a string"),
        (task(*PERSONS, relation(direction="up")), "\"direction\" of a relation is the string 'up'", "left or bi"),
        (task(*PERSONS, relation(direction=[])), '"direction" of a relation is a list', "left or bi"),
        (task(*PERSONS, relation(labels=[1])), "the label of a relation is 1", "write a string"),
        (task(*PERSONS, relation(labels="Kill")), "\"labels\" of a relation is the string 'Kill'", "write a list"),
    ],
)  # fmt: skip
def test_what_is_refused(path: Path, record: Dict[str, Any], what: str, fix: str) -> None:
    error = refused("jsonl", path, task(*PERSONS), record, line=2)
    assert what in error.what
    assert fix in error.fix
