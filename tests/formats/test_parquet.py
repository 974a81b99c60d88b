import gzip
import json
import sys
from datetime import date
from pathlib import Path
from typing import Any, Dict, List, Optional

import pytest

from spacy_crf_ner.formats.errors import FormatError
from spacy_crf_ner.formats.records import UNANNOTATED
from tests.formats.reading import Found, found_in, put

pyarrow = pytest.importorskip("pyarrow")

TOKENS = [["Ann", "Lee", "left"], ["Rome"], ["nobody"]]
NUMBERS = [[1, 2, 0], [3], [0]]
NAMES = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
ENTS = [[(0, 7, "PER")], [(0, 4, "LOC")], []]


def write(path: Path, rows: List[Dict[str, Any]], features: Any = None, group: Optional[int] = None) -> Path:
    """Write rows as `datasets` does, with what it says of the columns."""
    from pyarrow import Table
    from pyarrow.parquet import write_table

    keys = dict.fromkeys(key for row in rows for key in row)
    table = Table.from_pylist([dict.fromkeys(keys) | row for row in rows])
    if features is not None:
        said = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": said, "other": "x"})
    write_table(table, path, row_group_size=group)
    return path


def rows(tags: Any = NUMBERS, key: str = "ner_tags") -> List[Dict[str, Any]]:
    return [{"id": str(i), "tokens": tokens, key: tags[i]} for i, tokens in enumerate(TOKENS)]


def read(path: Path, **settings: Any) -> Found:
    return found_in(path, lang="en", **settings)


LABEL = {"names": NAMES, "_type": "ClassLabel"}


@pytest.mark.parametrize(
    "feature", [{"feature": LABEL, "_type": "Sequence"}, {"feature": LABEL, "_type": "List"}, [LABEL]]
)
@pytest.mark.parametrize("key", ["ner_tags", "tags"])
def test_names_of_the_tags_are_in_the_file(tmp_path: Path, feature: Any, key: str) -> None:
    features = {"id": {"dtype": "string", "_type": "Value"}, key: feature}
    found = read(write(tmp_path / "a.parquet", rows(key=key), features, group=1))
    assert found.ents == ENTS
    assert [doc.user_data["meta"] for doc in found.docs] == [{"id": str(i)} for i in range(3)]


def test_names_that_are_given_win(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", rows(), {"ner_tags": {"feature": LABEL}})
    names = ["O", "B-A", "E-A", "S-B"]
    assert read(path, names=names).ents == [[(0, 7, "A")], [(0, 4, "B")], []]


def test_numbers_without_names_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", rows(), {"ner_tags": {"feature": {"dtype": "int64", "_type": "Value"}}})
    with pytest.raises(FormatError, match=r"a\.parquet:1: \"ner_tags\" holds numbers.*--set names=O,B-PER"):
        read(path)
    assert read(path, names=",".join(NAMES)).ents == ENTS


def test_strings(tmp_path: Path) -> None:
    tags = [[NAMES[number] for number in numbers] for numbers in NUMBERS]
    assert read(write(tmp_path / "a.parquet", rows(tags))).ents == ENTS
    assert read(write(tmp_path / "a.parquet", rows(tags, key="gold")), label_key="gold").ents == ENTS


def test_texts_and_spans(tmp_path: Path) -> None:
    records: List[Dict[str, Any]] = [
        {"text": "Ann left", "entities": [{"start": 0, "end": 3, "label": "PER", "text": "Ann"}]},
        {"text": "Rome", "entities": [{"start": 0, "end": 4, "label": "LOC"}], "day": date(2020, 1, 2)},
        {"text": "b", "entities": []},
        {"text": "c", "entities": None, "raw": b"\x00"},
    ]
    found = read(write(tmp_path / "a.parquet", records, group=2))
    assert found.ents == [[(0, 3, "PER")], [(0, 4, "LOC")], [], []]
    assert found.docs[1].user_data["meta"]["day"] == "2020-01-02"
    assert not found.docs[3].has_annotation("ENT_IOB")


def test_tokens_that_are_named_win_over_a_text(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [{"text": "A title", "tokens": ["Ann", "left"], "tags": ["B-PER", "O"]}])
    with pytest.raises(FormatError, match=r":1: token 0, 'Ann', does not follow in the text"):
        read(path)
    found = read(path, token_key="tokens")
    assert (found.texts, found.ents) == (["Ann left"], [[(0, 3, "PER")]])


def test_rows_without_annotation_are_counted(tmp_path: Path) -> None:
    found = read(write(tmp_path / "a.parquet", [{"tokens": ["a"]}, {"tokens": ["b"]}]), format="parquet")
    assert found.counts.notes == {UNANNOTATED: 2}


def test_compressed_once_more_and_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.parquet", rows(), {"ner_tags": [LABEL]})
    assert read(put(tmp_path, gzip.compress(path.read_bytes()), "b.gz")).ents == ENTS
    with path.open("rb") as file_:
        monkeypatch.setattr(sys, "stdin", type("Input", (), {"buffer": file_}))
        assert read(Path("-")).ents == ENTS


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-9],
        lambda data: data[:40],
        lambda data: data[:9] + b"\xff" * 60 + data[69:],
    ],
)
def test_damage_is_told(tmp_path: Path, damage: Any) -> None:
    path = write(tmp_path / "a.parquet", rows())
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(FormatError, match=r"a\.parquet: not Parquet, or damaged .*; fetch the file again"):
        read(path, names=NAMES)


def test_other_files_and_columns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="not Parquet"):
        read(put(tmp_path, "a O\n"), format="parquet")
    path = write(tmp_path / "a.parquet", [{"x": 1, "y": "b"}])
    with pytest.raises(FormatError, match=r"no column of a text or of tokens among 'x', 'y'; .*text_key=NAME"):
        read(path)
    assert read(path, format="parquet", text_key="y").texts == ["b"]


def test_row_that_is_wrong_is_named_by_its_number(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.parquet", [{"tokens": ["a"], "ner_tags": [0]}] * 1500 + [{"tokens": ["a"], "ner_tags": [9]}]
    )
    with pytest.raises(FormatError, match=r"a\.parquet:1501: \"ner_tags\" holds 9"):
        read(path, names=NAMES)


def test_without_pyarrow_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.parquet", rows())
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(FormatError, match=r'not installed; install it: pip install "spacy-crf-ner\[parquet\]"'):
        read(path)
