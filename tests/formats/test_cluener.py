import json
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spacy_crf_ner.formats.cluener import NO_RELATIONS, write_cluener
from spacy_crf_ner.formats.records import UNANNOTATED
from tests.formats.json_util import (
    KEY,
    all_spans,
    annotated,
    assert_same,
    back,
    entities,
    make_docs,
    read,
    refused,
    write_records,
)
from tests.formats.reading import text_of

NESTED = {
    "text": "题为《招商银行：投资永隆银行》的文章",
    "label": {
        "book": {"《招商银行：投资永隆银行》": [[2, 14]]},
        "company": {"招商银行": [[3, 6]], "永隆银行": [[10, 13]]},
    },
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cluener.json"


def test_end_is_inclusive(path: Path) -> None:
    record = {"text": "温格的球队", "label": {"name": {"温格": [[0, 1]]}, "organization": {"队": [[4, 4]]}}}
    found = read("cluener", write_records(path, record), lang="zh")
    assert entities(found.docs[0]) == [(0, 2, "name"), (4, 5, "organization")]
    assert not found.notes


def test_mention_at_several_positions(path: Path) -> None:
    record = {"text": "曼联胜曼联，曼城", "label": {"organization": {"曼联": [[3, 4], [0, 1]], "曼城": [[6, 7]]}}}
    docs = read("cluener", write_records(path, record), lang="zh").docs
    assert entities(docs[0]) == [(0, 2, "organization"), (3, 5, "organization"), (6, 8, "organization")]


def test_longest_of_nested_entities(path: Path) -> None:
    found = read("cluener", write_records(path, NESTED), lang="zh")
    assert entities(found.docs[0]) == [(2, 15, "book")]
    assert found.make.counts.overlapping == 2


def test_spans_key_keeps_nested_entities(path: Path) -> None:
    found = read("cluener", write_records(path, NESTED), lang="zh", spans_key=KEY)
    assert all_spans(found.docs[0]) == [(2, 15, "book"), (3, 7, "company"), (10, 14, "company")]
    assert text_of(write_cluener, found.docs[0], spans_key=KEY) == json.dumps(NESTED, ensure_ascii=False) + "\n"


def test_record_without_label_is_not_annotated(path: Path) -> None:
    records = [
        {"id": 0, "text": "四川敦煌学"},
        {"text": "中国", "label": {}},
        {"text": "", "label": {}},
        {"text": ""},
    ]
    found = read("cluener", write_records(path, *records), lang="zh", spans_key=KEY)
    missing, none, *empty = found.docs
    assert not missing.has_annotation("ENT_IOB")
    assert list(missing.spans) == []
    assert none.has_annotation("ENT_IOB")
    assert [token.ent_iob_ for token in none] == ["O", "O"]
    assert [len(doc) for doc in empty] == [0, 0]
    assert found.notes == {UNANNOTATED: 1}
    assert found.make.counts.empty == 2
    assert [text_of(write_cluener, doc) for doc in (missing, none)] == [
        '{"text": "四川敦煌学", "id": 0}\n',
        '{"text": "中国", "label": {}}\n',
    ]


def test_other_keys_are_meta(path: Path) -> None:
    record = {"id": 7, "text": "中国", "label": {}, "source": {"page": [1, None]}}
    doc = read("cluener", write_records(path, record)).docs[0]
    assert doc.user_data["meta"] == {"id": 7, "source": {"page": [1, None]}}


def test_array_and_pretty_print_are_read(path: Path) -> None:
    path.write_text(json.dumps([NESTED, NESTED], indent=1), encoding="utf8")
    docs = read("cluener", path, lang="zh").docs
    assert [entities(doc) for doc in docs] == [[(2, 15, "book")]] * 2


@pytest.mark.parametrize(
    ("record", "what", "fix"),
    [
        ({"label": {}}, 'the record has no "text"', "write it: a string"),
        ({"text": None, "label": {}}, '"text" of the record is null', "write a string"),
        ({"text": "a", "label": None}, '"label" is null', "write an object"),
        ({"text": "a", "label": [[0, 1, "X"]]}, '"label" is a list', "--format jsonl"),
        ({"text": "a", "label": {"X": ["a"]}}, "label 'X' is a list", "write an object"),
        ({"text": "a", "label": {"X": {"a": 0}}}, "label 'X', 'a' is 0", "write a list"),
        ({"text": "a", "label": {"X": {"a": [0, 0]}}}, "the position of X 'a' is 0", "end inclusive"),
        ({"text": "a", "label": {"X": {"a": [[0]]}}}, "the position of X 'a' is a list", "[start, end]"),
        ({"text": "a", "label": {"X": {"a": [["0", 0]]}}}, "an offset of X 'a' is the string '0'", "a whole"),
        ({"text": "a", "label": {"X": {"a": [[0, 0.0]]}}}, "an offset of X 'a' is 0.0", "a whole number"),
        ({"text": "a", "label": {"X": {"a": [[False, 0]]}}}, "an offset of X 'a' is false", "a whole number"),
        ({"text": "a", "label": {"": {"a": [[0, 0]]}}}, "has no label", "write its label"),
        ({"text": "a", "label": {"X": {"": [[0, -1]]}}}, "where there is no text", "write the mention"),
        ({"text": "a", "label": {}, "id": 2**64}, "the value of 'id' cannot be kept", "as a string"),
    ],
)  # fmt: skip
def test_what_is_refused(path: Path, record: Dict[str, Any], what: str, fix: str) -> None:
    error = refused("cluener", path, {"text": "b", "label": {}}, record, line=2)
    assert what in error.what
    assert fix in error.fix


@pytest.mark.parametrize(
    ("text", "mention", "position", "there", "fix"),
    [
        ("在北京市", "北京", [1, 3], "'北京市'", "ends are inclusive in this format: take 1 off each"),
        ("北京市", "北京", [0, 2], "'北京市'", "ends are inclusive"),
        ("在北京市", "北京", [2, 3], "'京市'", "count from 0: take 1 off each offset"),
        ("在😀北京市", "北京", [3, 4], "'京市'", "count from 0"),
        ("😀😀在北京市", "北京", [5, 6], "'市'", "code points"),
        ("在北京市", "北京", [7, 8], "no text", "it is at [1, 2]"),
        ("在北京市", "北京", [-3, -2], "no text", "it is at [1, 2]"),
        ("在北京市", "北京", [2, 1], "no text", "it is at [1, 2]"),
        ("在北京市", "南京", [1, 2], "'北京'", "the text does not hold it"),
        ("在北京市", "市区", [3, 4], "'市'", "the text does not hold it"),
    ],
)
def test_mention_that_is_not_there(
    path: Path, text: str, mention: str, position: List[int], there: str, fix: str
) -> None:
    error = refused("cluener", path, {"text": text, "label": {"address": {mention: [position]}}})
    assert error.what == f"address {mention!r} should be at {position}, where there is {there}"
    assert fix in error.fix


@pytest.mark.parametrize("position", [[-1, 0], [-2, -1]])
def test_offset_before_the_text_does_not_count_from_its_end(path: Path, position: List[int]) -> None:
    assert "should be at" in refused("cluener", path, {"text": "ab", "label": {"X": {"ab"[-2:]: [position]}}}).what


def test_types_and_mentions_in_order_of_first_appearance(path: Path) -> None:
    record = {
        "text": "曼联温格曼城曼联",
        "label": {"name": {"温格": [[2, 3]]}, "org": {"曼城": [[4, 5]], "曼联": [[6, 7], [0, 1]]}},
    }
    doc = read("cluener", write_records(path, record), lang="zh").docs[0]
    label = json.loads(text_of(write_cluener, doc))["label"]
    assert json.dumps(label, ensure_ascii=False) == (
        '{"org": {"曼联": [[0, 1], [6, 7]], "曼城": [[4, 5]]}, "name": {"温格": [[2, 3]]}}'
    )


def test_relations_that_cannot_be_written_are_counted(path: Path) -> None:
    entity = {"type": "Loc", "start": 0, "end": 1}
    record = {"tokens": ["a"], "entities": [entity], "relations": [{"type": "In", "head": 0, "tail": 0}]}
    notes: Counter[str] = Counter()
    line = text_of(write_cluener, read("spert", write_records(path, record)).docs[0], notes)
    assert line == '{"text": "a", "label": {"Loc": {"a": [[0, 0]]}}}\n'
    assert notes == {NO_RELATIONS: 1}


def test_meta_of_the_format_s_own_keys_is_counted(path: Path) -> None:
    doc = read("jsonl", write_records(path, {"text": "a", "spans": [], "label": "x", "id": 1})).docs[0]
    notes: Counter[str] = Counter()
    assert text_of(write_cluener, doc, notes) == '{"text": "a", "label": {}, "id": 1}\n'
    assert notes.total() == 1
    assert "'label'" in next(iter(notes))


@pytest.mark.parametrize("lang", ["zh", "en"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(annotated(overlapping=False, related=False), min_size=1, max_size=3))
def test_round_trip(path: Path, lang: str, texts: List[Any]) -> None:
    docs = list(make_docs(texts, path, lang=lang, spans_key=None))
    assert_same(docs, back("cluener", path, docs, lang=lang).docs)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(annotated(overlapping=True, related=False), min_size=1, max_size=3))
def test_round_trip_of_overlapping_entities(path: Path, texts: List[Any]) -> None:
    docs = list(make_docs(texts, path, lang="zh", spans_key=KEY))
    assert_same(docs, back("cluener", path, docs, lang="zh", spans_key=KEY).docs, spans_key=KEY)


@pytest.mark.parametrize(
    ("name", "n_docs", "n_characters", "n_entities", "n_nested"),
    [("train", 10_748, 401_764, 23_971, 2), ("dev", 1_343, 50_260, 3_072, 0)],
)
def test_the_corpus(
    data_dir: Path, path: Path, name: str, n_docs: int, n_characters: int, n_entities: int, n_nested: int
) -> None:
    docs, make = read("cluener", data_dir / "cluener" / f"{name}.json", lang="zh", spans_key=KEY)
    counts = make.counts
    assert (counts.docs, counts.characters, counts.longest_characters) == (n_docs, n_characters, 50)
    assert (counts.entities.total(), counts.overlapping) == (n_entities - n_nested, n_nested)
    assert sum(len(doc.spans[KEY]) for doc in docs) == n_entities
    assert (counts.duplicates, counts.own_boundaries, +counts.notes) == (0, 0, {})
    if n_nested:
        assert len(docs[1506].spans[KEY]) == 3
        assert [entity.label_ for entity in docs[1506].ents] == ["book"]
    docs = docs[1400:1600] or docs
    assert_same(docs, back("cluener", path, docs, lang="zh", spans_key=KEY).docs, spans_key=KEY)
