import json
from pathlib import Path
from typing import Any

import pytest

from spacy_crf_ner.formats.errors import FormatError
from spacy_crf_ner.formats.records import UNANNOTATED
from spacy_crf_ner.formats.spacy2 import NULLS
from tests.formats.json_util import entities, read
from tests.formats.reading import found_in, put

PAIR = ["Ann left Rome", {"entities": [[0, 3, "PER"], [9, 13, "LOC"]]}]
NONE = ["nobody left", {"entities": []}]
SPANS = [(0, 3, "PER"), (9, 13, "LOC")]
LINES = f"{json.dumps(PAIR)}\n{json.dumps(NONE)}\n"


@pytest.mark.parametrize(
    "content",
    [
        json.dumps([PAIR, NONE]),
        json.dumps([PAIR, NONE], indent=2),
        LINES,
        f"\ufeff[\n{LINES}",
        json.dumps({"classes": ["PER", "LOC"], "annotations": [PAIR, NONE]}),
        json.dumps({"classes": ["PER", "LOC"], "annotations": [PAIR, NONE]}, indent=2),
    ],
    ids=["array", "pretty", "lines", "cut", "ner-annotator", "ner-annotator pretty"],
)
def test_texts_and_entities(tmp_path: Path, content: str) -> None:
    path = put(tmp_path, content)
    if content.startswith("\ufeff"):
        with pytest.raises(FormatError, match=r":3: .*is in the place of a comma or the array's end"):
            found_in(path, lang="en")
        return
    assert [entities(doc) for doc in read("spacy2", path).docs] == [SPANS, []]
    assert found_in(path, lang="en").ents == [SPANS, []]


@pytest.mark.parametrize("wrap", [list, lambda pairs: {"classes": [], "annotations": pairs}])
def test_nulls_are_skipped_and_counted(tmp_path: Path, wrap: Any) -> None:
    path = put(tmp_path, json.dumps(wrap([None, PAIR, None])))
    found = found_in(path, lang="en")
    assert (found.ents, found.counts.notes) == ([SPANS], {NULLS: 2})


def test_what_else_is_said_is_meta_and_no_entities_are_missing_annotation(tmp_path: Path) -> None:
    path = put(tmp_path, json.dumps([[PAIR[0], {**PAIR[1], "cats": {"A": 1}}], ["a", {"cats": {}}]]))  # type: ignore[dict-item]
    docs, make = read("spacy2", path)
    assert docs[0].user_data["meta"] == {"cats": {"A": 1}}
    assert not docs[1].has_annotation("ENT_IOB")
    assert make.counts.notes == {UNANNOTATED: 1}


def test_lines_before_a_pair_that_is_cut_are_read(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r":2: the file ends inside the record that this line begins"):
        found_in(put(tmp_path, LINES[:-5]), lang="en")


def test_long_text_is_told_by_its_beginning(tmp_path: Path) -> None:
    for content in (
        json.dumps([["a" * 100_000, {"entities": []}]]),
        json.dumps(["a" * 100_000, {"entities": []}]),
    ):
        assert found_in(put(tmp_path, content), lang="en").texts == ["a" * 100_000]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (["a"], "a text is a list; write"),
        (["a", {}, 1], "a text is a list"),
        ([1, {}], "a text is 1"),
        (["a", []], "what follows the text 'a' is a list"),
        (["a", {"entities": {}}], '"entities" is an object; write a list'),
        (["a", {"entities": [[0, 9, "X"]]}], "ends beyond the text of 1 characters"),
        (["a", {"entities": [[0, "X"]]}], '"entities" holds a list'),
        ({"text": "a"}, 'the record has no "annotations"'),
        (3, "'3' is in the place|'3]' is in the place"),
    ],
)
def test_what_is_refused(tmp_path: Path, content: Any, what: str) -> None:
    path = put(tmp_path, json.dumps([PAIR, content]))
    with pytest.raises(FormatError, match=":1: ") as raised:
        read("spacy2", path)
    assert any(part in str(raised.value) for part in what.split("|"))
