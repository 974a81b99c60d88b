import json
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spacy_crf_ner.formats.jsonl import write_doccano, write_jsonl
from spacy_crf_ner.formats.records import RELATIONS_LEFT
from tests.formats.json_util import (
    KEY,
    annotated,
    assert_same,
    back,
    entities,
    make_docs,
    read,
    relations,
    write_records,
)
from tests.formats.reading import text_of

TEXT = "Booth shot President Lincoln."
BOOTH = (0, 5, "PER")
SPANS: List[Any] = [{"start": 0, "end": 5, "label": "PER"}, {"start": 21, "end": 28, "label": "PER"}]
LISTS = [[0, 5, "PER"], [21, 28, "PER"]]
ENTITIES: List[Dict[str, Any]] = [
    {"id": 7, "label": "PER", "start_offset": 0, "end_offset": 5},
    {"id": 3, "label": "PER", "start_offset": 21, "end_offset": 28},
]
LINK = {"id": 1, "from_id": 7, "to_id": 3, "type": "Kill"}
LINKED = {"text": TEXT, "entities": ENTITIES, "relations": [LINK]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "export.jsonl"


@pytest.mark.parametrize("write", [write_jsonl, write_doccano])
def test_what_is_written(path: Path, write: Any) -> None:
    records = [
        {"text": TEXT, "label": LISTS, "id": 1},
        {"text": "é京", "spans": []},
        {"text": "a", "id": "x"},
        LINKED,
    ]
    notes: Counter[str] = Counter()
    written = [json.loads(text_of(write, doc, notes)) for doc in read("jsonl", write_records(path, *records)).docs]
    if write is write_jsonl:
        relation: Dict[str, Any] = {"head_span": SPANS[0], "child_span": SPANS[1], "label": "Kill"}
        assert written[0] == {"text": TEXT, "spans": SPANS, "id": 1}
        assert written[1] == {"text": "é京", "spans": []}
        assert written[3] == {"text": TEXT, "spans": SPANS, "relations": [relation]}
    else:
        numbered = [{**entity, "id": i} for i, entity in enumerate(ENTITIES)]
        relation = {"id": 0, "from_id": 0, "to_id": 1, "type": "Kill"}
        assert written[0] == {"text": TEXT, "label": LISTS, "id": 1}
        assert written[1] == {"text": "é京", "label": []}
        assert written[3] == {"text": TEXT, "entities": numbered, "relations": [relation]}
    assert written[2] == {"text": "a", "id": "x"}
    assert not notes


def test_characters_are_written_as_they_are(path: Path) -> None:
    docs = read("jsonl", write_records(path, {"text": "京😀\n", "spans": []})).docs
    assert text_of(write_jsonl, docs[0]) == '{"text": "京😀\\n", "spans": []}\n'


@pytest.mark.parametrize("write", [write_jsonl, write_doccano])
@pytest.mark.parametrize(
    "record",
    [
        {"text": "a", "label": {}, "spans": 1, "entities": 2, "relations": 3, "tokens": 4, "answer": "reject"},
        {
            "text": "a",
            "spans": 1,
            "entities": 2,
            "labels": 3,
            "annotations": 4,
            "completions": 5,
            "answer": "reject",
        },
        {"text": "a", "answer": "accept"},
    ],
)
def test_meta_cannot_be_taken_for_annotation(path: Path, write: Any, record: Dict[str, Any]) -> None:
    """What is written is read as the same annotation; what was left out for that is counted."""
    doc = read("cluener", write_records(path, record)).docs[0]
    notes: Counter[str] = Counter()
    path.write_text(text_of(write, doc, notes), encoding="utf8")
    (again,) = read("jsonl", path).docs
    assert again.has_annotation("ENT_IOB") == ("label" in record)
    kept = again.user_data.get("meta", {})
    assert kept.items() <= doc.user_data["meta"].items()
    assert notes.total() == len(doc.user_data["meta"]) - len(kept)
    assert all(repr(key) in " ".join(notes) for key in doc.user_data["meta"].keys() - kept.keys())


@pytest.mark.parametrize("write", [write_jsonl, write_doccano])
def test_relation_of_an_entity_that_is_not_written_is_counted(path: Path, write: Any) -> None:
    listed: List[Any] = [*ENTITIES, {"id": 9, "label": "TITLE", "start_offset": 11, "end_offset": 28}]
    record: Dict[str, Any] = {"text": TEXT, "entities": listed, "relations": [LINK, {**LINK, "to_id": 9}]}
    (doc,) = read("jsonl", write_records(path, record), spans_key=KEY).docs
    notes: Counter[str] = Counter()
    path.write_text(text_of(write, doc, notes), encoding="utf8")
    assert notes[RELATIONS_LEFT] == 1
    assert relations(read("jsonl", path).docs[0]) == [("Kill", BOOTH, (11, 28, "TITLE"))]


@pytest.mark.parametrize("format", ["jsonl", "doccano"])
@pytest.mark.parametrize("lang", ["zh", "en"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(annotated(overlapping=False, related=True), min_size=1, max_size=3))
def test_round_trip(path: Path, format: str, lang: str, texts: List[Any]) -> None:
    docs = list(make_docs(texts, path, lang=lang, spans_key=None))
    assert_same(docs, back(format, path, docs, lang=lang).docs)


@pytest.mark.parametrize("format", ["jsonl", "doccano"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(annotated(overlapping=True, related=True), min_size=1, max_size=3))
def test_round_trip_of_overlapping_entities(path: Path, format: str, texts: List[Any]) -> None:
    docs = list(make_docs(texts, path, lang="zh", spans_key=KEY))
    found = back(format, path, docs, lang="zh", spans_key=KEY).docs
    assert_same(docs, found, spans_key=KEY)
    # The entities stand in order: of those equally long the same one is chosen.
    assert [entities(doc) for doc in found] == [entities(doc) for doc in docs]


@pytest.mark.parametrize("format", ["jsonl", "doccano"])
def test_the_corpus_in_another_format(data_dir: Path, path: Path, format: str) -> None:
    docs = read("cluener", data_dir / "cluener" / "dev.json", lang="zh").docs
    assert_same(docs, back(format, path, docs, lang="zh").docs)
