from pathlib import Path
from typing import Any, Dict, List

import pytest

from spacy_crf_ner.formats.doc_builder import DocMaker
from spacy_crf_ner.formats.jsonl import read_jsonl
from spacy_crf_ner.formats.records import UNANNOTATED
from spacy_crf_ner.formats.source import Source
from spacy_crf_ner.formats.text_records import TOKEN_RELATIONS
from tests.formats.json_util import BLANK, KEY, all_spans, entities, read, refused, relations, write_records

TEXT = "Booth shot President Lincoln."
BOOTH, LINCOLN = (0, 5, "PER"), (21, 28, "PER")
SPANS = [{"start": 0, "end": 5, "label": "PER"}, {"start": 21, "end": 28, "label": "PER"}]
REGIONS = [
    {"start": 0, "end": 5, "labels": ["PER"]},
    {"start": 21, "end": 28, "text": "Lincoln", "labels": ["PER"]},
]
TASK = {
    "data": {"text": TEXT},
    "annotations": [{"result": [{"type": "labels", "value": value} for value in REGIONS]}],
}
LISTS = [[0, 5, "PER"], [21, 28, "PER"]]
ENTITIES: List[Dict[str, Any]] = [
    {"id": 7, "label": "PER", "start_offset": 0, "end_offset": 5},
    {"id": 3, "label": "PER", "start_offset": 21, "end_offset": 28},
]
LINK = {"id": 1, "from_id": 7, "to_id": 3, "type": "Kill"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "export.jsonl"


@pytest.mark.parametrize(
    "record",
    [
        {"text": TEXT, "spans": SPANS},
        {"text": TEXT, "spans": SPANS, "answer": "accept", "label": "other"},
        {"text": TEXT, "label": LISTS},
        {"text": TEXT, "labels": LISTS},
        {"data": TEXT, "label": LISTS},
        {"text": TEXT, "label": LISTS, "data": {"source": 1}},
        {"text": TEXT, "entities": ENTITIES, "relations": []},
        {"text": TEXT, "entities": [{**entity, "id": str(entity["id"])} for entity in ENTITIES]},
        {"text": TEXT, "label": REGIONS},
        TASK,
    ],
)
def test_each_tool_s_records(path: Path, record: Dict[str, Any]) -> None:
    found = read("jsonl", write_records(path, record, record))
    assert [(doc.text, entities(doc)) for doc in found.docs] == [(TEXT, [BOOTH, LINCOLN])] * 2
    assert not found.notes
    assert found.make.counts.overlapping == found.make.counts.duplicates == 0


def test_tools_may_be_mixed_and_stand_in_an_array(path: Path) -> None:
    docs = read(
        "jsonl", write_records(path, [TASK, {"text": TEXT, "spans": SPANS}, {"text": TEXT, "label": LISTS}])
    ).docs
    assert [entities(doc) for doc in docs] == [[BOOTH, LINCOLN]] * 3


@pytest.mark.parametrize(
    "record",
    [
        {"text": TEXT, "spans": []},
        {"text": TEXT, "answer": "accept"},
        {"text": TEXT, "label": []},
        {"text": TEXT, "labels": []},
        {"text": TEXT, "entities": []},
        {"data": {"text": TEXT}, "annotations": [{"result": []}]},
    ],
)
def test_annotated_without_entities(path: Path, record: Dict[str, Any]) -> None:
    found = read("jsonl", write_records(path, record), spans_key=KEY)
    assert found.docs[0].has_annotation("ENT_IOB")
    assert entities(found.docs[0]) == all_spans(found.docs[0]) == []
    assert not found.notes


@pytest.mark.parametrize(
    "record",
    [
        {"text": TEXT},
        {"text": TEXT, "meta": {"source": "x"}},
        {"text": TEXT, "answer": "42"},
        {"data": TEXT},
        {"data": {"text": TEXT}},
        {"data": {"text": TEXT}, "annotations": []},
    ],
)
def test_not_annotated(path: Path, record: Dict[str, Any]) -> None:
    found = read("jsonl", write_records(path, record), spans_key=KEY)
    assert found.docs[0].text == TEXT
    assert not found.docs[0].has_annotation("ENT_IOB")
    assert list(found.docs[0].spans) == []
    assert found.notes == {UNANNOTATED: 1}


def test_what_is_not_accepted_is_left_out_and_counted(path: Path) -> None:
    answers = ["accept", "reject", "ignore", "reject", None]
    records: List[Dict[str, Any]] = [
        {"text": str(i), "spans": [], "answer": answer} for i, answer in enumerate(answers)
    ]
    del records[-1]["answer"]
    found = read("jsonl", write_records(path, *records, {"text": "x", "answer": "ignore"}))
    assert [doc.text for doc in found.docs] == ["0", "4"]
    assert sorted(found.notes.values()) == [2, 2]
    assert all("'reject'" in note or "'ignore'" in note for note in found.notes)


def test_an_answer_of_another_tool_is_meta(path: Path) -> None:
    found = read("jsonl", write_records(path, {"text": TEXT, "label": LISTS, "answer": "reject"}))
    assert found.docs[0].user_data["meta"] == {"answer": "reject"}


@pytest.mark.parametrize(
    ("record", "meta"),
    [
        ({"text": "a", "spans": [], "tokens": [{"id": 0}], "_input_hash": -5}, {"_input_hash": -5}),
        ({"text": "a", "spans": [], "meta": {"x": 1}}, {"meta": {"x": 1}}),
        ({"text": "a", "spans": [], "answer": "accept", "relations": []}, {"answer": "accept"}),
        ({"text": "a", "label": [], "id": 1, "Comments": []}, {"id": 1, "Comments": []}),
        ({"text": "a", "labels": [], "data": 3, "relations": 4}, {"data": 3, "relations": 4}),
        ({"data": "a", "label": [], "labels": 5}, {"labels": 5}),
        ({"text": "a", "entities": [], "relations": [], "cats": ["x"]}, {"cats": ["x"]}),
        ({"data": {"text": "a", "url": "u"}, "annotations": [], "id": 2}, {"id": 2, "data": {"url": "u"}}),
        ({"data": {"text": "a"}, "predictions": [], "completions": []}, None),
        ({"text": "a", "data": {"x": 1}}, {"data": {"x": 1}}),
        ({"text": "a"}, None),
    ],
)  # fmt: skip
def test_other_keys_are_meta(path: Path, record: Dict[str, Any], meta: Any) -> None:
    assert read("jsonl", write_records(path, record)).docs[0].user_data.get("meta") == meta


def test_keys_of_spans_that_are_left_out_are_counted(path: Path) -> None:
    spans = [{**span, "token_start": 0, "token_end": 0, "score": 0.5} for span in SPANS]
    notes = read("jsonl", write_records(path, {"text": TEXT, "spans": spans})).notes
    assert notes == {"'score' of spans, left out": 2}


def test_overlapping_and_equal_spans(path: Path) -> None:
    record = {"text": TEXT, "label": [[21, 28, "PER"], [11, 28, "TITLE"], [21, 28, "PER"]]}
    found = read("jsonl", write_records(path, record), spans_key=KEY)
    assert entities(found.docs[0]) == [(11, 28, "TITLE")]
    assert all_spans(found.docs[0]) == [(21, 28, "PER"), (11, 28, "TITLE")]
    assert (found.make.counts.overlapping, found.make.counts.duplicates) == (1, 1)


def test_text_of_another_key(path: Path) -> None:
    records = [{"content": "a b", "label": [[2, 3, "X"]]}, {"data": {"content": "a b", "text": "c"}}]
    docs = read("jsonl", write_records(path, *records), text_key="content").docs
    assert [(doc.text, entities(doc)) for doc in docs] == [("a b", [(2, 3, "X")]), ("a b", [])]
    assert docs[1].user_data["meta"] == {"data": {"text": "c"}}


def test_offsets_count_characters(path: Path) -> None:
    records = [
        {"text": "😀𠮷京", "spans": [{"start": 1, "end": 2, "label": "X"}]},
        {"text": "😀𠮷京", "label": [[2, 3, "X"]]},
    ]
    docs = read("jsonl", write_records(path, *records), lang="zh").docs
    assert [entities(doc) for doc in docs] == [[(1, 2, "X")], [(2, 3, "X")]]


@pytest.mark.parametrize(
    "record",
    [
        {"text": "😀𠮷京", "spans": [{"start": 2, "end": 4, "label": "X"}, {"start": 4, "end": 5, "label": "Y"}]},
        {"text": "😀𠮷京", "label": [[2, 4, "X"], [4, 5, "Y"]]},
        {
            "text": "😀𠮷京",
            "label": [{"start": 2, "end": 4, "labels": ["X"]}, {"start": 4, "end": 5, "labels": ["Y"]}],
        },
        {
            "text": "😀𠮷京",
            "entities": [
                {"start_offset": 2, "end_offset": 4, "label": "X"},
                {"start_offset": 4, "end_offset": 5, "label": "Y"},
            ],
        },
    ],
)
def test_offsets_count_utf_16_units_if_they_are_said_to(path: Path, record: Dict[str, Any]) -> None:
    docs = read("jsonl", write_records(path, record), lang="zh", offsets="utf-16").docs
    assert entities(docs[0]) == [(1, 2, "X"), (2, 3, "Y")]


@pytest.mark.parametrize(
    ("setting", "value", "allowed"),
    [("offsets", "utf-8", "choose one of characters, utf-16"), ("verify", "no", "give true or false")],
)
def test_wrong_setting(path: Path, setting: str, value: Any, allowed: str) -> None:
    make = DocMaker(lambda: BLANK["en"])
    with pytest.raises(ValueError, match=f"{setting} is '{value}'; {allowed}"):
        list(read_jsonl(Source(write_records(path, {"text": ""})), make, **{setting: value}))


def span(**changes: Any) -> Dict[str, Any]:
    return {"text": "ab", "spans": [{"start": 0, "end": 1, "label": "X", **changes}]}


def link(**changes: Any) -> Dict[str, Any]:
    return {"text": "ab", "spans": [], "relations": [{"label": "R", **changes}]}


def nested(depth: int) -> Any:
    return [nested(depth - 1)] if depth else 0


def linked(**changes: Any) -> Dict[str, Any]:
    return {"text": TEXT, "entities": ENTITIES, "relations": [{**LINK, **changes}]}


@pytest.mark.parametrize(
    ("record", "what", "fix"),
    [
        ({"spans": []}, 'the record has no "text"', "--set text_key=NAME"),
        ({"data": {"content": "a"}, "annotations": []}, '"data" has no "text"', "--set text_key=content"),
        ({"tokens": ["a"], "entities": []}, 'the record has no "text"', "--format spert"),
        ({"text": None}, '"text" of the record is null', "write a string"),
        ({"text": 1, "spans": []}, '"text" of the record is 1', "write a string"),
        ({"text": "a", "completions": []}, 'has "completions" and no "data"', "doccano as JSONL"),
        ({"text": "a", "label": {"X": {"a": [[0, 0]]}}}, '"label" is an object', "--format cluener"),
        ({"text": "a", "label": None}, '"label" is null', "write a list"),
        ({"text": "a", "label": "POS"}, "\"label\" is the string 'POS'", "write a list"),
        ({"text": "a", "labels": ["POS"]}, "\"labels\" holds the string 'POS'", "[start, end, label]"),
        ({"text": "a", "label": [[0, 1]]}, '"label" holds a list', "[start, end, label]"),
        ({"text": "a", "label": [[0, 1, "X", 2]]}, '"label" holds a list', "[start, end, label]"),
        ({"text": "a", "label": [["0", 1, "X"]]}, "an offset is the string '0'", "a whole number"),
        ({"text": "a", "label": [[0, 1.0, "X"]]}, "an offset is 1.0", "a whole number"),
        ({"text": "a", "label": [[False, 1, "X"]]}, "an offset is false", "a whole number"),
        ({"text": "a", "label": [[0, 1, None]]}, "a label is null", "write a string"),
        ({"text": "a", "label": [[0, 1, 4]]}, "a label is 4", "write a string"),
        ({"text": "a", "label": [[0, 1, " "]]}, "has no label", "write its label"),
        ({"text": "a", "annotations": [{"label": 4, "start_offset": 0, "end_offset": 1}]}, "is 4", "a string"),
        ({"text": "a", "label": [{"start": 0, "labels": ["X"]}]}, 'a region has no "end"', "a whole number"),
        ({"text": "a", "spans": None}, '"spans" is null', "write a list"),
        ({"text": "a", "spans": {}}, '"spans" is an object', "write a list"),
        ({"text": "a", "spans": [3]}, '"spans" holds 3', "[start, end, label]"),
        ({"text": "a", "spans": [{"start": 0, "end": 1}]}, 'a span has no "label"', "write it: a string"),
        ({"text": "a", "spans": [{"start": 0, "label": "X"}]}, 'a span has no "end"', "write it: a whole number"),
        ({"text": "a", "spans": [], "answer": "maybe"}, "\"answer\" is the string 'maybe'", "reject or ignore"),
        ({"text": "a", "spans": [], "answer": []}, '"answer" is a list', "accept, reject or ignore"),
        ({"text": "a", "spans": [], "relations": None}, '"relations" is null', "write a list"),
        ({"text": "a", "spans": [], "relations": [{}]}, 'a relation has no "label"', "write it: a string"),
        (link(head_span=3), "the end of a relation is 3", "an object"),
        (link(child_span={"label": "X", "start": 0}), 'the end of a relation has no "end"', "a whole number"),
        ({"text": "a", "spans": [], "x": [[1]], "y": 10**30}, "the value of 'y' cannot be kept", "a string"),
        ({"text": "a", "spans": [], "x": nested(600)}, "nested too deeply", "flat"),
        (span(label=None), '"label" of a span is null', "write a string"),
        (span(start="0"), "\"start\" of a span is the string '0'", "write a whole number"),
        (span(end=1.5), '"end" of a span is 1.5', "write a whole number"),
        (span(end=True), '"end" of a span is true', "write a whole number"),
        (span(text=3), 'the "text" of a span is 3', "write a string"),
        (span(text="b"), "'b' should be at (0, 1), where there is 'a'", "--set verify=false"),
        (span(end=3), "entity (0, 3, 'X') ends beyond the text of 2 characters", "--set offsets=utf-16"),
        (span(start=-1), "entity (-1, 1, 'X') holds no text", "from 0"),
        (span(start=2), "entity (2, 1, 'X') holds no text", "a start before the end"),
        (span(start=1), "entity (1, 1, 'X') holds no text", "exclusive"),
        ({"text": "a", "entities": [{"label": "X", "start_offset": 0}]}, 'no "end_offset"', "a whole number"),
        ({"text": "a", "entities": {}}, '"entities" is an object', "write a list"),
        ({"text": TEXT, "entities": [ENTITIES[0]] * 2}, "two entities have the id 7", "its own"),
        ({"text": TEXT, "entities": [{**ENTITIES[0], "id": None}]}, '"id" of an entity or relation is', "whole"),
        (linked(from_id=4), "a Kill relation names entity 4, which is not there", "write its id"),
        (linked(to_id="3"), "a Kill relation names entity '3', which is not there", "write its id"),
        (linked(to_id=[3]), '"to_id" of an entity or relation is a list', "a whole number"),
        (linked(type=None), '"type" of a relation is null', "write a string"),
    ],
)  # fmt: skip
def test_what_is_refused(path: Path, record: Dict[str, Any], what: str, fix: str) -> None:
    error = refused("jsonl", path, {"text": "b"}, record, line=2)
    assert what in error.what
    assert fix in error.fix


def test_text_of_a_span_is_not_compared_if_that_is_said(path: Path) -> None:
    assert entities(read("jsonl", write_records(path, span(text="b")), verify=False).docs[0]) == [(0, 1, "X")]


def test_doccano_s_relations_name_ids(path: Path) -> None:
    docs, make = read("jsonl", write_records(path, linked(), linked(from_id=3, to_id=7)))
    assert [relations(doc) for doc in docs] == [[("Kill", BOOTH, LINCOLN)], [("Kill", LINCOLN, BOOTH)]]
    assert make.counts.relations == 2


def test_prodigy_s_relations_name_spans(path: Path) -> None:
    token = {"start": 6, "end": 10, "label": None}
    ends = [(SPANS[1], SPANS[0]), (SPANS[0], token), (token, SPANS[0]), ({**token, "label": "V"}, SPANS[1])]
    listed: List[Dict[str, Any]] = [
        {"head": 3, "child": 0, "head_span": head, "child_span": child, "label": "Kill"} for head, child in ends
    ]
    listed.append({"head": 3, "child": 0, "label": "Kill"})
    found = read("jsonl", write_records(path, {"text": TEXT, "spans": SPANS, "relations": listed}))
    assert relations(found.docs[0]) == [("Kill", LINCOLN, BOOTH)]
    assert found.notes == {TOKEN_RELATIONS: 4}


def test_entities_as_spacy_once_had_them(path: Path) -> None:
    record = {"text": "张三去上海", "entities": [[0, 2, "PER"], [3, 5, "LOC"]]}
    (doc,) = read("jsonl", write_records(path, record), lang="zh").docs
    assert entities(doc) == [(0, 2, "PER"), (3, 5, "LOC")]
    assert "meta" not in doc.user_data
