from pathlib import Path
from typing import Any, Dict

import pytest

from spacy_crf_ner.formats.records import UNANNOTATED
from tests.formats.json_util import entities, read, refused, write_records
from tests.formats.reading import found_in

RECORD = {"tokenized_text": ["Ann", "Lee", "left", "Rome"], "ner": [[0, 1, "person"], [3, 3, "city"]], "id": 4}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.json"


@pytest.mark.parametrize("array", [False, True])
def test_ends_are_inclusive(path: Path, array: bool) -> None:
    docs = read("gliner", write_records(path, *([[RECORD, RECORD]] if array else [RECORD, RECORD]))).docs
    assert [entities(doc) for doc in docs] == [[(0, 7, "person"), (13, 17, "city")]] * 2
    assert docs[0].user_data["meta"] == {"id": 4}
    assert found_in(path, lang="en").ents == [entities(doc) for doc in docs]


def test_record_without_entities(path: Path) -> None:
    docs, make = read(
        "gliner", write_records(path, {"tokenized_text": ["a"]}, {"tokenized_text": ["a"], "ner": []})
    )
    assert [doc.has_annotation("ENT_IOB") for doc in docs] == [False, True]
    assert make.counts.notes == {UNANNOTATED: 1}


@pytest.mark.parametrize(
    ("record", "what", "fix"),
    [
        ({"ner": []}, 'the record has no "tokenized_text"', "a list"),
        ({"tokenized_text": ["a"], "ner": {}}, '"ner" is an object', "write a list"),
        ({"tokenized_text": ["a"], "ner": [[0, 0]]}, '"ner" holds a list', "[start, end, label]"),
        ({"tokenized_text": ["a"], "ner": [{"start": 0}]}, '"ner" holds an object', "[start, end, label]"),
        ({"tokenized_text": ["a"], "ner": [[0, 1, "X"]]}, "[0, 1, 'X'] does not fit a text of 1 tokens", "from 0"),
        ({"tokenized_text": ["a", "b"], "ner": [[1, 0, "X"]]}, "[1, 0, 'X'] does not fit", "last token"),
        ({"tokenized_text": ["a"], "ner": [[0, 0, 5]]}, "a label is 5", "a string"),
        ({"tokenized_text": ["a"], "ner": [[0.0, 0, "X"]]}, "an offset is 0.0", "a whole number"),
        ({"tokenized_text": ["a"], "ner": [[0, 0, ""]]}, "has no label", "write its label"),
    ],
)
def test_what_is_refused(path: Path, record: Dict[str, Any], what: str, fix: str) -> None:
    error = refused("gliner", path, RECORD, record, line=2)
    assert what in error.what
    assert fix in error.fix
