"""Files in other encodings, and with other line ends, than UTF-8 and LF."""

import gzip
import json
from pathlib import Path
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_crf_ner.formats.doc_builder import DocMaker
from spacy_crf_ner.formats.encodings import suggested
from spacy_crf_ner.formats.errors import FormatError
from spacy_crf_ner.formats.reading import read
from spacy_crf_ner.formats.source import HEAD, Source
from tests.formats.reading import BLANK, Found, found_in, put

SIMPLIFIED = "王明去了北京大学，他说今天是个好日子。"
TRADITIONAL = "王明去了臺北，他說今天是個好日子。"
FRENCH = "Le café de José est à côté d’une école"


def rows(text: str) -> str:
    """A file of tags: the first token is an entity."""
    first, *others = text.split(" ") if " " in text else list(text)
    return f"{first}\tB-PER\n" + "".join(f"{token}\tO\n" for token in others)


def found(path: Path, encoding: Optional[str]) -> Found:
    make = DocMaker(lambda: BLANK["zh"])
    return Found(list(read([path], make, encoding=encoding)), make.counts)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_byte_order_mark_tells_the_encoding(tmp_path: Path, encoding: str, newline: str) -> None:
    content = rows(SIMPLIFIED).replace("\n", newline).encode(encoding)
    assert found_in(put(tmp_path, content)).texts == [SIMPLIFIED]
    assert found_in(put(tmp_path, gzip.compress(content))).names == [[("王", "PER")]]


@pytest.mark.parametrize("mark", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_both_byte_orders(tmp_path: Path, mark: str) -> None:
    assert found_in(put(tmp_path, ("\ufeff" + rows(SIMPLIFIED)).encode(mark))).texts == [SIMPLIFIED]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (SIMPLIFIED, "gb18030"),
        (SIMPLIFIED, "gbk"),
        (TRADITIONAL, "big5"),
        (FRENCH, "cp1252"),
        (SIMPLIFIED, "utf-16-le"),
        ("Ann left", "utf-16-be"),
    ],
)
def test_other_encodings_are_named_by_the_user_and_suggested(tmp_path: Path, text: str, encoding: str) -> None:
    path = put(tmp_path, rows(text).encode(encoding))
    assert found(path, encoding).texts == [text.replace(" ", "")]
    with pytest.raises(FormatError, match=r"a\.txt:\d+: (not UTF-8|a NUL character) .*") as caught:
        found(path, None)
    suggestion = "gb18030" if encoding == "gbk" else encoding
    assert caught.value.fix == f"the bytes suggest {suggestion.upper()}: read it with --encoding {suggestion}"


def test_utf_16_is_not_taken_for_gb18030(tmp_path: Path) -> None:
    """With a byte order mark it is read; without, it is told as what it is."""
    assert suggested(rows(SIMPLIFIED).encode("utf-16-le")) == "utf-16-le"
    assert suggested(rows(FRENCH).encode("utf-16-be")) == "utf-16-be"


@pytest.mark.parametrize("raw", [b"\xff\xfe\xfd", b"abc \x81\x81\x81 def", bytes(range(128, 256))])
def test_bytes_that_suggest_nothing_get_no_advice_of_one_encoding(raw: bytes) -> None:
    assert suggested(raw) is None


def test_records_in_another_encoding(tmp_path: Path) -> None:
    record = json.dumps({"text": SIMPLIFIED, "label": [[0, 2, "PER"]]}, ensure_ascii=False)
    assert found(put(tmp_path, record.encode("gb18030")), "gb18030").names == [[("王明", "PER")]]
    assert found_in(put(tmp_path, record.encode("utf-16"))).names == [[("王明", "PER")]]


@pytest.mark.parametrize(
    ("content", "encoding", "what"),
    [
        (rows(SIMPLIFIED).encode("utf-16")[:-1], None, "19: not UTF-16-LE"),
        (("\ufeff" + "a\tO\n").encode("utf-16-le") + b"\x00\xd8b\x00", None, "2: not UTF-16-LE"),
        (rows(TRADITIONAL).encode("big5"), "gb2312", "1: not GB2312"),
        (b"a\tO\n\x81\tO\n", "cp1252", "2: not CP1252"),
        (b"a\tO\n" * 40_000 + b"\xff\tO\n", "gb18030", "40001: not GB18030"),
    ],
)
def test_what_is_not_in_its_encoding_names_line_and_byte(
    tmp_path: Path, content: bytes, encoding: Optional[str], what: str
) -> None:
    with pytest.raises(FormatError, match=rf"a\.txt:{what} \(byte 0x.. at offset \d+ of the file\); ") as caught:
        found(put(tmp_path, content), encoding)
    assert caught.value.line == int(what.split(":")[0])


@pytest.mark.parametrize("encoding", ["no-such", "hex", "rot13", "a\x00b", ""])
def test_encoding_must_be_one_of_text(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(ValueError, match=r"there is no text encoding .*; give a name that Python knows"):
        Source(put(tmp_path, "a O\n"), encoding=encoding)


@given(
    lines=st.lists(st.text(st.characters(codec="utf-16", exclude_characters="\n\r\x00")), min_size=1),
    encoding=st.sampled_from(["utf-16", "utf-32", "utf-8-sig"]),
    newline=st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_any_line_is_read_in_any_encoding(
    tmp_path_factory: pytest.TempPathFactory, lines: "list[str]", encoding: str, newline: str
) -> None:
    lines = ["中", *lines]
    path = put(tmp_path_factory.mktemp("encodings"), "".join(line + newline for line in lines).encode(encoding))
    assert [text for _, text in Source(path).lines()] == lines


def test_carriage_return_is_a_line_end_where_it_is_the_only_one(tmp_path: Path) -> None:
    path = put(tmp_path, "中\tB-LOC\r国\tI-LOC\r\r去\tO\r")
    assert found_in(path).names == [[("中国", "LOC")], []]
    with pytest.raises(FormatError, match=r"a\.txt:3: "):
        found_in(put(tmp_path, "中\tB-LOC\r国\tI-LOC\r去\tX\r"), format="bio")
    # Beside LF it may be a token, as every other control character.
    assert found_in(put(tmp_path, "中\tB-LOC\n\r\tO\n"), format="bio").texts == ["中\r"]


def test_carriage_returns_beyond_the_head(tmp_path: Path) -> None:
    content = "中\tB-LOC\r国\tI-LOC\r\r" * (HEAD // 10)
    assert found_in(put(tmp_path, content)).counts.entities == {"LOC": HEAD // 10}


def test_nul_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"a\.txt:2: a NUL character \(byte 0x00 at offset 4 of the file\)"):
        found_in(put(tmp_path, b"a O\n\x00 O\n"), format="bio")
