from pathlib import Path
from typing import Any, Dict

import pytest

from spacy_crf_ner.formats.records import UNANNOTATED
from tests.formats.json_util import (
    KEY,
    all_spans,
    assert_same,
    back,
    entities,
    read,
    refused,
    relations,
    write_records,
)

LINCOLN = {
    "tokens": ["Booth", "shot", "President", "Lincoln", "."],
    "entities": [{"type": "Peop", "start": 2, "end": 4}, {"type": "Peop", "start": 0, "end": 1}],
    "relations": [{"type": "Kill", "head": 1, "tail": 0}],
    "orig_id": 5178,
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spert.json"


def test_entities_relations_and_other_keys(path: Path) -> None:
    docs, make = read("spert", write_records(path, LINCOLN))
    doc = docs[0]
    assert doc.text == "Booth shot President Lincoln ."
    assert entities(doc) == [(0, 5, "Peop"), (11, 28, "Peop")]
    assert relations(doc) == [("Kill", (0, 5, "Peop"), (11, 28, "Peop"))]
    assert doc.user_data["meta"] == {"orig_id": 5178}
    assert make.counts.relations == 1


def test_chinese_tokens_are_joined_without_spaces(path: Path) -> None:
    record = {"tokens": ["北京", "在", "中国"], "entities": [{"type": "Loc", "start": 2, "end": 3}]}
    doc = read("spert", write_records(path, record), lang="zh").docs[0]
    assert (doc.text, entities(doc)) == ("北京在中国", [(3, 5, "Loc")])
    assert "relations" not in doc.user_data


def test_array_is_read(path: Path) -> None:
    docs = read("spert", write_records(path, [LINCOLN, LINCOLN])).docs
    assert [entities(doc) for doc in docs] == [[(0, 5, "Peop"), (11, 28, "Peop")]] * 2


def test_relation_of_nested_entities_is_kept_whole(path: Path) -> None:
    record = {
        "tokens": ["University", "of", "Illinois"],
        "entities": [{"type": "Loc", "start": 2, "end": 3}, {"type": "Org", "start": 0, "end": 3}],
        "relations": [{"type": "In", "head": 1, "tail": 0}],
    }
    docs, make = read("spert", write_records(path, record), spans_key=KEY)
    assert entities(docs[0]) == [(0, 22, "Org")]
    assert all_spans(docs[0]) == [(14, 22, "Loc"), (0, 22, "Org")]
    assert relations(docs[0]) == [("In", (0, 22, "Org"), (14, 22, "Loc"))]
    assert make.counts.overlapping == 1


def test_record_without_entities_is_not_annotated(path: Path) -> None:
    docs, make = read("spert", write_records(path, {"tokens": ["a", "b"]}, {"tokens": ["a"], "entities": []}))
    assert [doc.text for doc in docs] == ["a b", "a"]
    assert [doc.has_annotation("ENT_IOB") for doc in docs] == [False, True]
    assert make.counts.notes == {UNANNOTATED: 1}


def test_no_tokens_is_an_empty_text(path: Path) -> None:
    docs, make = read("spert", write_records(path, {"tokens": [], "entities": []}))
    assert [len(doc) for doc in docs] == [0]
    assert make.counts.empty == 1


def entity(**changes: Any) -> Dict[str, Any]:
    """The record of one token, one entity and no relation, with an entity that is changed."""
    whole = {"type": "X", "start": 0, "end": 1, **changes}
    return {"tokens": ["a"], "entities": [{key: value for key, value in whole.items() if value != "absent"}]}


def relation(**changes: Any) -> Dict[str, Any]:
    whole = {"type": "R", "head": 0, "tail": 0, **changes}
    return {**entity(), "relations": [{key: value for key, value in whole.items() if value != "absent"}]}


@pytest.mark.parametrize(
    ("record", "what", "fix"),
    [
        ({"text": "a"}, 'the record has no "tokens"', "write it: a list"),
        ({"tokens": "a b", "entities": []}, "\"tokens\" of the record is the string 'a b'", "write a list"),
        ({"tokens": ["a", None], "entities": []}, "token 1 is null", "write a string"),
        ({"tokens": ["a", ""], "entities": []}, "token 1 is empty", "delete it"),
        ({"tokens": ["a"], "entities": {}}, '"entities" is an object', "write a list"),
        ({"tokens": ["a"], "entities": [[0, 1]]}, "an entity is a list", 'an object with "type"'),
        (entity(type="absent"), 'an entity has no "type"', "write it: a string"),
        (entity(type=None), '"type" of an entity is null', "write a string"),
        (entity(type=""), "has no label", "write its label"),
        (entity(start="0"), "\"start\" of an entity is the string '0'", "write a whole number"),
        (entity(end=1.0), '"end" of an entity is 1.0', "write a whole number"),
        (entity(end=True), '"end" of an entity is true', "write a whole number"),
        (entity(end="absent"), 'an entity has no "end"', "write it: a whole number"),
        (entity(end=2), "entity (0, 2, 'X') does not fit a text of 1 tokens", "from 0"),
        (entity(start=-1), "entity (-1, 1, 'X') does not fit", "from 0"),
        (entity(start=1), "entity (1, 1, 'X') does not fit", "exclusive"),
        ({**entity(), "relations": None}, '"relations" is null', "write a list"),
        (relation(type=1), '"type" of a relation is 1', "write a string"),
        (relation(head="0"), "\"head\" of a relation is the string '0'", "write a whole number"),
        (relation(tail="absent"), 'a relation has no "tail"', "write it: a whole number"),
        (relation(tail=1), "a relation 'R' names entity 1, and there are 1", "counted from 0"),
        (relation(head=-1), "a relation 'R' names entity -1, and there are 1", "counted from 0"),
        ({"tokens": ["a"], "relations": relation()["relations"]}, "names entity 0, and there are 0", "from 0"),
    ],
)  # fmt: skip
def test_what_is_refused(path: Path, record: Dict[str, Any], what: str, fix: str) -> None:
    error = refused("spert", path, LINCOLN, record, line=2)
    assert what in error.what
    assert fix in error.fix


@pytest.mark.parametrize(
    ("name", "n_docs", "n_entities", "n_relations"),
    [("train", 922, 3_377, 1_283), ("dev", 231, 893, 343), ("test", 288, 1_079, 422)],
)
def test_the_corpus(data_dir: Path, path: Path, name: str, n_docs: int, n_entities: int, n_relations: int) -> None:
    docs, make = read("spert", data_dir / "conll04" / f"conll04_{name}.json")
    counts = make.counts
    assert (counts.docs, counts.entities.total(), counts.relations) == (n_docs, n_entities, n_relations)
    assert (counts.overlapping, counts.duplicates, counts.own_boundaries, +counts.notes) == (0, 0, 0, {})
    assert all("orig_id" in doc.user_data["meta"] for doc in docs)
    for format in ("jsonl", "doccano"):
        assert_same(docs, back(format, path, docs, lang="en").docs)
