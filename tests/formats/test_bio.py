from itertools import chain
from pathlib import Path
from typing import Counter, List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_crf_ner.formats.bio import EMPTY_TAG, STRAY_INSIDE, read_bio
from spacy_crf_ner.formats.errors import FormatError
from tests.formats.util import BAD_LINES, MENDABLE_LINES, sentences, write_bio


def read(path: Path, content: bytes, repair: bool = False) -> List[List[str]]:
    path.write_bytes(content)
    return [sentence.tags for sentence in read_bio(path, repair=repair)]


@pytest.mark.parametrize("separator", [" ", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@given(written=st.lists(sentences(), min_size=1, max_size=5))
def test_reads_back_what_was_written(
    written: List[List[tuple[str, str]]], separator: str, newline: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("bio") / "a.bio"
    write_bio(path, written, separator=separator, newline=newline)
    lines = path.read_bytes().decode("utf8").split(newline)
    found = list(read_bio(path))
    assert [list(zip(sentence.tokens, sentence.tags)) for sentence in found] == written
    for sentence in found:
        assert lines[sentence.line - 1] == f"{sentence.tokens[0]}{separator}{sentence.tags[0]}"
    assert sum(sentence.n_bytes for sentence in found) == path.stat().st_size


@pytest.mark.parametrize("end", ["", "\n", "\n\n", "\n\n\n"])
def test_last_sentence_needs_no_empty_line(tmp_path: Path, end: str) -> None:
    assert read(tmp_path / "a.bio", f"中 O\n\n国 O{end}".encode()) == [["O"], ["O"]]


@pytest.mark.parametrize("empty", ["", " ", "\t", "\n", "\r"])
def test_line_of_one_separator_ends_a_sentence(tmp_path: Path, empty: str) -> None:
    assert read(tmp_path / "a.bio", f"中 B-LOC\n{empty}\n国 O\n".encode()) == [["B-LOC"], ["O"]]


def test_ideographic_space_is_a_token_and_not_an_empty_line(tmp_path: Path) -> None:
    path = tmp_path / "a.bio"
    path.write_text("　 O\n\u00a0 O\n  O\n", encoding="utf8")
    assert [sentence.tokens for sentence in read_bio(path)] == [["　", "\u00a0", " "]]


def test_byte_order_mark_is_dropped_at_the_start_only(tmp_path: Path) -> None:
    path = tmp_path / "a.bio"
    path.write_text("\ufeff中 O\n\ufeff O\n", encoding="utf8")
    assert [sentence.tokens for sentence in read_bio(path)] == [["中", "\ufeff"]]


def test_type_may_hold_hyphens_and_dots(tmp_path: Path) -> None:
    tags = ["B-creative-work", "I-creative-work", "B-PER.NAM"]
    assert read(tmp_path / "a.bio", "".join(f"x {tag}\n" for tag in tags).encode()) == [tags]


@pytest.mark.parametrize("repair", [False, True])
@pytest.mark.parametrize(("line", "what"), BAD_LINES)
def test_bad_line_is_named(tmp_path: Path, line: bytes, what: str, repair: bool) -> None:
    path = tmp_path / "a.bio"
    with pytest.raises(FormatError) as caught:
        read(path, b"a O\n\nb O\n" + line + b"\nc O\n", repair)
    assert caught.value.line == 4
    place, said = str(caught.value).split(": ", 1)
    assert place == f"{path}:4"
    assert what in caught.value.what
    assert said == f"{caught.value.what}; {caught.value.mend}"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("line", "what"), MENDABLE_LINES)
def test_mendable_line_is_an_error_without_repair(tmp_path: Path, line: bytes, what: str) -> None:
    path = tmp_path / "a.bio"
    with pytest.raises(FormatError, match="--repair") as caught:
        read(path, b"a O\n\nb O\n" + line + b"\nc O\n")
    assert caught.value.line == 4
    assert what in caught.value.what


def test_not_utf8_names_the_byte(tmp_path: Path) -> None:
    content = "中 O\n国 O\n".encode() + "中 O\n".encode("gb18030")
    with pytest.raises(FormatError, match="UTF-8") as caught:
        read(tmp_path / "a.bio", content)
    assert caught.value.line == 3
    assert f"offset {content.index(0xD6)} " in caught.value.what


def test_bytes_after_a_byte_order_mark_have_their_offset_in_the_file(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbfab\xff O\n"
    with pytest.raises(FormatError, match=f"offset {content.index(0xFF)} "):
        read(tmp_path / "a.bio", content)


@pytest.mark.parametrize(("content", "line"), [(b"", 1), (b"\n\n\n", 3), (b"\xef\xbb\xbf", 1)])
@pytest.mark.parametrize("repair", [False, True])
def test_file_without_a_sentence(tmp_path: Path, content: bytes, line: int, repair: bool) -> None:
    with pytest.raises(FormatError) as caught:
        read(tmp_path / "a.bio", content, repair)
    assert caught.value.line == line


def test_path_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "none.bio"
    with pytest.raises(FormatError) as caught:
        next(read_bio(path))
    assert str(caught.value) == f"{path}: {caught.value.what}; {caught.value.mend}"
    with pytest.raises(FormatError, match="directory"):
        next(read_bio(tmp_path))


@pytest.mark.parametrize(
    ("tags", "mended", "empty", "stray"),
    [
        (["", "O"], ["O", "O"], 1, 0),
        (["I-A", "I-A"], ["B-A", "I-A"], 0, 1),
        (["O", "I-A", "O"], ["O", "B-A", "O"], 0, 1),
        (["B-A", "I-B", "I-B"], ["B-A", "B-B", "I-B"], 0, 1),
        (["B-A", "", "I-A", "I-A"], ["B-A", "O", "B-A", "I-A"], 1, 1),
        (["B-A", "I-A", "B-A"], ["B-A", "I-A", "B-A"], 0, 0),
    ],
)
def test_repair_mends_and_counts(
    tmp_path: Path, tags: List[str], mended: List[str], empty: int, stray: int
) -> None:
    path = tmp_path / "a.bio"
    path.write_text("".join(f"x\t{tag}\n" for tag in tags), encoding="utf8")
    repairs = Counter[str]()
    assert [sentence.tags for sentence in read_bio(path, repair=True, repairs=repairs)] == [mended]
    assert (repairs[EMPTY_TAG], repairs[STRAY_INSIDE]) == (empty, stray)


def test_entity_does_not_run_on_over_an_empty_line(tmp_path: Path) -> None:
    path = tmp_path / "a.bio"
    path.write_text("x B-A\n\nx I-A\n", encoding="utf8")
    with pytest.raises(FormatError, match=r":3: .*begins the sentence"):
        list(read_bio(path))
    assert [sentence.tags for sentence in read_bio(path, repair=True)] == [["B-A"], ["B-A"]]


def test_reads_no_further_than_asked(tmp_path: Path) -> None:
    path = tmp_path / "a.bio"
    path.write_bytes(b"a O\n\nno-tag\n")
    found = read_bio(path)
    assert next(found).tokens == ["a"]
    with pytest.raises(FormatError):
        next(found)


def test_real_tweets(data_dir: Path) -> None:
    path = data_dir / "wnut17" / "wnut17train.conll"
    found = list(read_bio(path))
    lines = path.read_bytes().split(b"\n")
    tokens = [line.rpartition(b"\t")[0].decode("utf8") for line in lines if line not in (b"", b"\t")]
    assert list(chain.from_iterable(sentence.tokens for sentence in found)) == tokens
    assert len(found) == 3394
