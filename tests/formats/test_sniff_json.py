import json
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest

from spacy_crf_ner.formats.errors import FormatError
from spacy_crf_ner.formats.sniff import sniff
from spacy_crf_ner.formats.sniff_json import explain_json, guess_json
from spacy_crf_ner.formats.source import HEAD, Source
from tests.formats.reading import found_in, put

TOKENS = ["王明", "去"]
RECORDS: List[Tuple[str, Dict[str, Any], Any]] = [
    ("cluener", {}, {"text": "王明去", "label": {"PER": {"王明": [[0, 1]]}}}),
    ("spert", {}, {"tokens": TOKENS, "entities": [{"type": "PER", "start": 0, "end": 1}], "relations": []}),
    ("huggingface", {}, {"tokens": TOKENS, "ner_tags": ["B-PER", "O"]}),
    ("huggingface", {"scheme": "bioes"}, {"tokens": TOKENS, "ner_tags": ["B-PER", "E-PER"]}),
    ("huggingface", {"scheme": "bmes"}, {"words": [*TOKENS] * 2, "tags": ["B-A", "M-A", "M-A", "E-A"]}),
    ("huggingface", {"spelling": "per_b"}, {"tokens": TOKENS, "labels": ["per_b", "o"]}),
    ("gliner", {}, {"tokenized_text": TOKENS, "ner": [[0, 0, "person"]]}),
    ("uie", {}, {"content": "王明去", "result_list": [], "prompt": "人名"}),
    ("spacy2", {}, ["王明去", {"entities": [[0, 2, "PER"]]}]),
    ("jsonl", {}, {"text": "王明去", "spans": [{"start": 0, "end": 2, "label": "PER"}]}),
    ("jsonl", {}, {"text": "王明去", "tags": ["B-PER", "I-PER", "O"]}),
    ("jsonl", {"scheme": "bioes"}, {"text": "王明去", "ner_tags": ["B-PER", "E-PER", "O"]}),
    ("jsonl", {}, {"text": "王明去", "tokens": TOKENS, "annotation": [["PER", 0, 2]]}),
    ("jsonl", {"text_key": "content"}, {"content": "王明去", "labels": [[0, 2, "PER"]]}),
    ("jsonl", {"text_key": "sentence"}, {"sentence": "王明去", "entities": []}),
    ("jsonl", {"text_key": "body"}, {"data": {"body": "王明去"}, "annotations": []}),
]


@pytest.mark.parametrize("style", ["lines", "array", "pretty"])
@pytest.mark.parametrize(("format", "settings", "record"), RECORDS)
def test_each_format_is_told_and_no_other(
    tmp_path: Path, format: str, settings: Dict[str, Any], record: Any, style: str
) -> None:
    line = json.dumps(record, ensure_ascii=False)
    content = {
        "lines": f"{line}\n{line}\n",
        "array": f"[{line},\n{line}]\n",
        "pretty": json.dumps([record, record], indent=1, ensure_ascii=False),
    }[style]
    guess = guess_json(content)
    assert guess is not None
    assert (guess.format, guess.settings) == (format, settings)
    assert guess.why.endswith("in the first record")
    assert found_in(put(tmp_path, content), format=format, **settings).docs  # the reader takes it


def test_first_record_may_say_nothing(tmp_path: Path) -> None:
    quiet: List[Any] = [{"text": "去"}, {"text": "来", "annotation": None}]
    for format, settings, record in RECORDS:
        before = quiet if isinstance(record, dict) and "text" in record else []
        content = "".join(f"{json.dumps(each)}\n" for each in [*before, record])
        guess = guess_json(content)
        assert guess is not None
        assert (guess.format, guess.settings) == (format, settings)
        assert guess.why.endswith("in record 3" if before else "in the first record")


def test_scheme_is_that_of_all_records(tmp_path: Path) -> None:
    records = [{"tokens": TOKENS, "tags": ["B-A", "I-A"]}] * 3 + [{"tokens": TOKENS, "tags": ["S-A", "O"]}]
    guess = guess_json("".join(f"{json.dumps(record)}\n" for record in records))
    assert guess is not None
    assert guess.settings == {"scheme": "bios"}


@pytest.mark.parametrize(
    ("records", "what"),
    [
        ([RECORDS[2][2], RECORDS[6][2]], "huggingface (tokens and ner_tags in the first record), gliner"),
        (
            [RECORDS[0][2], RECORDS[9][2]],
            "cluener (a label that is an object in the first record), jsonl (text and",
        ),
        ([RECORDS[8][2], RECORDS[9][2]], "spacy2 (a text and an object in the first record), jsonl"),
        (
            [{"text": "a b", "tokens": ["a", "b"], "entities": [{"type": "X", "start": 0, "end": 1}]}],
            "the records may be of the format spert or jsonl; name the one with --format",
        ),
    ],
)
def test_what_could_be_of_several_formats_is_refused_with_their_names(
    tmp_path: Path, records: List[Any], what: str
) -> None:
    path = put(tmp_path, "".join(f"{json.dumps(record)}\n" for record in records))
    with pytest.raises(FormatError) as raised:
        sniff(Source(path))
    assert what in str(raised.value)


def test_offsets_tell_characters_from_tokens(tmp_path: Path) -> None:
    entity = {"type": "X", "start": 3, "end": 6}
    record = {"text": "Ann Lee", "tokens": ["Ann", "Lee"], "entities": [entity]}
    path = put(tmp_path, json.dumps(record))
    assert sniff(Source(path)).format == "jsonl"


@pytest.mark.parametrize(
    ("start", "format"),
    [
        ('[["', "spacy2"),
        ('["', "spacy2"),
        ('{"classes": ["A"], "annotations": [["', "spacy2"),
        ('{"ner": [], "tokenized_text": ["', "gliner"),
        ('{"prompt": "X", "result_list": [], "content": "', "uie"),
        ('[{"ner_tags": [0], "tokens": ["', "huggingface"),
        ('{"tokens": [], "entities": [], "x": "', "spert"),
        ('{"text": "', "jsonl"),
    ],
)
def test_record_that_the_head_does_not_hold(start: str, format: str) -> None:
    guess = guess_json(start + "x" * HEAD)
    assert guess is not None
    assert guess.format == format


@pytest.mark.parametrize("first", ["[", "[[", '["', '["x', "{", "null"])
def test_tokens_of_tagged_files_are_no_json(tmp_path: Path, first: str) -> None:
    content = f"{first} O\n国 B-LOC\n人 O\n"
    assert guess_json(content) is None
    assert sniff(Source(put(tmp_path, content))).format == "bio"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"a": 1, "b": 2}', "a record with the keys 'a', 'b' is of no format"),
        ("{}", "a record with the keys of none is of no format"),
        ('[{"a": "中"}]', "a record with the keys 'a' is of no format"),
    ],
)
def test_json_of_no_format_is_explained(content: str, said: str) -> None:
    explained = explain_json(content)
    assert guess_json(content) is None and explained is not None
    what, fix = explained
    assert said in what
    assert "--format jsonl --set text_key=NAME --set label_key=NAME" in fix


@pytest.mark.parametrize("content", ["", "a O\n", "[]", "[1, 2]", "[[1]]", '{"a": ', "[[[[", "null", "3"])
def test_what_is_no_record_is_not_explained(content: str) -> None:
    assert guess_json(content) is None
    assert explain_json(content) is None


def test_key_that_is_not_known_is_left_to_the_reader(tmp_path: Path) -> None:
    path = put(tmp_path, json.dumps({"sentence": "王明去", "ents": [[0, 2, "PER"]]}))
    assert sniff(Source(path)).settings == {"text_key": "sentence"}
    with pytest.raises(FormatError, match="--set label_key=ents"):
        found_in(path)
    assert found_in(path, label_key="ents").names == [[("王明", "PER")]]
