import gzip
from pathlib import Path
from typing import Any, Dict

import pytest

from spacy_crf_ner.formats import csv_records
from spacy_crf_ner.formats.errors import FormatError
from spacy_crf_ner.formats.sniff import sniff
from spacy_crf_ner.formats.source import Source
from tests.formats.reading import found_in, put

KAGGLE = """\
Sentence #,Word,POS,Tag
Sentence: 1,Ann,NNP,B-per
,"said",VBD,O
,\"\"\"\",``,O
,"1,000",CD,O
Sentence: 2,New,NNP,B-geo
,York,NNP,I-geo
"""
ENTS = [[(0, 3, "per")], [(0, 8, "geo")]]
TEXTS = ['Ann said " 1,000', "New York"]
CLEANED = KAGGLE.replace("\n,", "\nSentence: 1,", 3).replace("\n,", "\nSentence: 2,")


@pytest.mark.parametrize(
    "content",
    [
        KAGGLE,
        KAGGLE.replace("\n", "\r\n"),
        "\ufeff" + KAGGLE,
        CLEANED,
        KAGGLE.replace("Sentence #,Word,POS,Tag", "sentence_id,token,pos,ner_tag"),
        "\n".join(",".join(line.split(",", 3)[1:]) if i else "Word,POS,Tag" for i, line in enumerate(
            KAGGLE.replace("Sentence: 2", "\n,").replace("\n,,", "\n\n,").split("\n"))),
    ],
    ids=["Kaggle", "CRLF", "mark", "cleaned", "other names", "empty rows"],
)  # fmt: skip
def test_sentences(tmp_path: Path, content: str) -> None:
    path = put(tmp_path, content)
    if content.startswith("Word"):
        content = content.replace("\n,\n", "\n\n")
    for format in ("csv", "auto"):
        found = found_in(path, format=format, lang="en")
        assert (found.texts, found.ents) == (TEXTS, ENTS)


@pytest.mark.parametrize(
    ("content", "settings"),
    [
        ("Word;Tag\nAnn;B-PER\n", {"delimiter": ";"}),
        ("word\tpos\ttag\nAnn\tNNP\tB-PER\nleft\tVBD\tO\n", {"delimiter": "\t"}),
    ],
)
def test_delimiter_is_told_by_the_header(tmp_path: Path, content: str, settings: Dict[str, Any]) -> None:
    path = put(tmp_path, content)
    assert tuple(sniff(Source(path)))[:2] == ("csv", settings)
    assert found_in(path, lang="en").names == [[("Ann", "PER")]]


@pytest.mark.parametrize(
    "settings",
    [
        {"token_column": "form", "tag_column": "gold", "sentence_column": "s"},
        {"token_column": 1, "tag_column": 2, "sentence_column": 0},
        {"token_column": 1, "tag_column": "gold", "sentence_column": "s"},
    ],
)
def test_columns_that_are_named(tmp_path: Path, settings: Dict[str, Any]) -> None:
    path = put(tmp_path, "s,form,gold\n1,Ann,B-PER\n2,left,O\n")
    assert found_in(path, format="csv", lang="en", **settings).names == [[("Ann", "PER")], []]
    # Those that are named win over those of the header.
    path = put(tmp_path, "sentence_id,word,form,tag,gold\n1,x,Ann,O,B-PER\n1,x,Lee,O,I-PER\n")
    named = {"token_column": "form", "tag_column": "gold"}
    assert found_in(path, format="csv", lang="en", **named).names == [[("Ann Lee", "PER")]]
    assert found_in(path, format="csv", lang="en").names == [[]]


@pytest.mark.parametrize(
    ("tags", "settings"),
    [
        ("B-PER,E-PER", {"scheme": "bioes"}),
        ("PER_B,PER_I", {"spelling": "PER_B"}),
        ("B,I", {"type": "PER"}),
        ("I-PER,I-PER", {"repair": True}),
    ],
)
def test_tags_in_other_schemes(tmp_path: Path, tags: str, settings: Dict[str, Any]) -> None:
    first, second = tags.split(",")
    path = put(tmp_path, f"word,tag\nAnn,{first}\nLee,{second}\n")
    assert found_in(path, format="csv", lang="en", **settings).names == [[("Ann Lee", "PER")]]


@pytest.mark.parametrize(
    ("content", "settings", "said"),
    [
        ("a,b\nAnn,O\n", {}, r":1: the header names no token and tag: 'a', 'b'; .*--set token_column=NAME"),
        ("a,b\nAnn,O\n", {"token_column": "a", "tag_column": "c"}, r":1: the header has no column 'c': 'a', 'b'"),
        (
            "a,b\nAnn,O\n",
            {"token_column": 0, "tag_column": 2},
            r":1: the header has 2 columns, and tag_column is 2",
        ),
        (
            "a,b\nAnn,O\n",
            {"token_column": 0, "tag_column": "a"},
            r":1: the column 'a' is named as token and as tag",
        ),
        ("word,tag\nAnn,O\nLee\n", {}, r":3: 1 cells where the header has 2: 'Lee'"),
        ("word,tag\nAnn,O\nLee,O,O\n", {}, r":3: 3 cells where the header has 2: 'Lee O O'"),
        ("word,tag\n,B-PER\n", {}, r":2: tag 'B-PER' has no token"),
        ("word,tag\nAnn,\n", {}, r":2: token 'Ann' has an empty tag"),
        ("word,tag\nAnn,S-PER\n", {}, r":2: tag 'S-PER' has the unknown prefix S-"),
        ('word,tag\n"Ann,O\nLee,O\n', {}, r":2: invalid CSV in the row that begins here"),
        ('word,tag\nAnn,O\n"A"b,O\n', {}, r":3: invalid CSV in the row that begins here"),
        ('pos,word,tag\n"N\nN",A,O\n,Lee,XX\n', {}, r":4: tag 'XX' is not a tag of bio"),
        # Unescaped quotation marks would swallow what is between them.
        ('word\ttag\n"\tO\nLee\tO\n"\tO\n', {"delimiter": "\t"}, r":2: a cell goes on over several lines"),
    ],
)
def test_what_is_refused(tmp_path: Path, content: str, settings: Dict[str, Any], said: str) -> None:
    with pytest.raises(FormatError, match=said):
        found_in(put(tmp_path, content), format="csv", lang="en", **settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"delimiter": "::"}, "the setting delimiter is '::'; give one character"),
        ({"token_column": 1.5, "tag_column": 0}, "the setting token_column is 1.5; give a name of the header"),
        ({"scheme": "x"}, "the setting scheme is 'x'"),
        ({"repair": 1}, "the setting repair is 1"),
    ],
)
def test_wrong_settings(tmp_path: Path, settings: Dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        found_in(put(tmp_path, KAGGLE), format="csv", **settings)


def test_sentences_that_nothing_separates_are_not_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_records, "MAX_SENTENCE", 3)
    with pytest.raises(FormatError, match=r":5: a sentence of more than 3 rows; .*--set sentence_column=NAME"):
        found_in(put(tmp_path, "word,tag\n" + "a,O\n" * 4), format="csv", lang="en")
    assert found_in(put(tmp_path, "word,tag\n" + "a,O\n\n" * 4), format="csv", lang="en").texts == ["a"] * 4


def test_compressed(tmp_path: Path) -> None:
    assert found_in(put(tmp_path, gzip.compress(KAGGLE.encode())), lang="en").ents == ENTS


@pytest.mark.parametrize(
    "content",
    [
        "text,label\n中国,LOC\n",
        "Sentence #,Sentence,POS,Tag\nSentence: 1,a b,\"['NN', 'NN']\",\"['O', 'O']\"\n",
        "word,tag\nAnn,person\nleft,none\n",
    ],
)
def test_other_csv_is_not_told_and_the_settings_are_named(tmp_path: Path, content: str) -> None:
    with pytest.raises(FormatError, match=r":1: a CSV file with the columns .* --format csv .*token_column=NAME"):
        found_in(put(tmp_path, content))


def test_columns_of_other_formats_are_not_taken_for_csv(tmp_path: Path) -> None:
    assert sniff(Source(put(tmp_path, "word\tO\nToken\tB-A\n"))).format == "bio"
    assert sniff(Source(put(tmp_path, "word, O\n中 B-A\n国 I-A\n"))).format == "bio"
