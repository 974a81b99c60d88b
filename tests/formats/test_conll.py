from pathlib import Path
from typing import Any, Dict, List

import pytest

from spacy_crf_ner.formats.conll import COMMENTS, DOCSTARTS
from spacy_crf_ner.formats.errors import FormatError
from spacy_crf_ner.tagging import EMPTY_TAG, SCHEMES, STRAY_INSIDE
from tests.formats.reading import Found, found_in, put

CONLL_2003 = """\
-DOCSTART- -X- -X- O

U.N. NNP I-NP I-ORG
official NN I-NP O
Ekeus NNP I-NP I-PER
Baghdad NNP I-NP I-LOC
Iraq NNP I-NP B-LOC
. . O O

-DOCSTART- -X- -X- O

Peter NNP I-NP I-PER
"""


def read(folder: Path, content: str, lang: str = "en", **settings: Any) -> Found:
    return found_in(put(folder, content), format="conll", lang=lang, **settings)


@pytest.mark.parametrize("separator", [" ", "\t", "  ", " \u3000 ", "\x0b", "\u00a0"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_columns_are_separated_by_tab_or_any_white_space(tmp_path: Path, separator: str, newline: str) -> None:
    rows = [["Empire", "NN", "B-LOC"], ["State", "NN", "I-LOC"], [], ["is", "VB", "O"]]
    found = read(tmp_path, "".join(separator.join(row) + newline for row in rows))
    assert found.texts == ["Empire State", "is"]
    assert found.names == [[("Empire State", "LOC")], []]


def test_white_space_is_a_token_between_tabs(tmp_path: Path) -> None:
    found = read(tmp_path, "中\tx\tO\n \tx\tB-A\n　\tx\tI-A\n\t\t\n国\tx\tO\n", lang="zh")
    assert found.texts == ["中 　", "国"]
    assert found.names == [[(" 　", "A")], []]


def test_token_between_tabs_may_hold_a_space(tmp_path: Path) -> None:
    found = read(tmp_path, "New York\tB-LOC\nis\tO\n")
    assert (found.names, found.counts.tokens) == ([[("New York", "LOC")]], 2)


def test_lines_of_conll_2003(tmp_path: Path) -> None:
    found = read(tmp_path, CONLL_2003, scheme="iob1")
    assert found.texts == ["U.N. official Ekeus Baghdad Iraq .", "Peter"]
    assert found.names == [
        [("U.N.", "ORG"), ("Ekeus", "PER"), ("Baghdad", "LOC"), ("Iraq", "LOC")],
        [("Peter", "PER")],
    ]
    unread = "tags in column 2, which is not read (--set tag_column=2 reads it)"
    assert +found.counts.notes == {DOCSTARTS: 2, unread: 6}


def test_docstart_ends_a_sentence_and_may_have_other_columns(tmp_path: Path) -> None:
    found = read(tmp_path, "a x B-A\n-DOCSTART-\nb x O\n-DOCSTART- (1 of 2)\n")
    assert (found.texts, found.counts.notes[DOCSTARTS]) == (["a", "b"], 2)
    with pytest.raises(FormatError, match=r":3: .*begins the sentence"):
        read(tmp_path, "a x B-A\n-DOCSTART-\nb x I-A\n")


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({}, [("a", "Z")]),
        ({"tag_column": 3}, [("a", "Z")]),
        ({"tag_column": 1}, [("a", "X")]),
        ({"tag_column": -2}, [("b", "Y")]),
        ({"token_column": -4, "tag_column": -3}, [("a", "X")]),
        ({"token_column": 2, "tag_column": 1}, [("O", "X")]),
    ],
)
def test_columns_are_chosen(tmp_path: Path, settings: Dict[str, Any], names: List["tuple[str, str]"]) -> None:
    assert read(tmp_path, "a B-X O B-Z\nb O B-Y O\n", **settings).names == [names]


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_any_scheme_is_set(tmp_path: Path, scheme: Any) -> None:
    spans = [(0, 3, "A"), (3, 4, "A"), (5, 7, "B")]
    rows = "".join(f"{token} x {tag}\n" for token, tag in zip("中国人民在北京", scheme.write(7, spans)))
    assert read(tmp_path, rows, lang="zh", scheme=scheme.name).ents == [spans]
    if scheme.name != "bio":
        with pytest.raises(FormatError):
            read(tmp_path, rows, lang="zh")


def test_repair_mends_and_counts(tmp_path: Path) -> None:
    content = "a\tx\tI-A\nb\tx\t\n"
    with pytest.raises(FormatError, match="--repair"):
        read(tmp_path, content)
    found = read(tmp_path, content, repair=True)
    assert found.names == [[("a", "A")]]
    assert +found.counts.notes == {EMPTY_TAG: 1, STRAY_INSIDE: 1}


def test_comments_before_a_sentence_are_noted(tmp_path: Path) -> None:
    content = "# newdoc id = 1\n# text = a b\na x O\nb x B-A\n\n#\n# sent_id = 2 O\nc x O\n\n# end\n"
    found = read(tmp_path, content)
    assert (found.texts, found.names) == (["a b", "c"], [[("b", "A")], []])
    assert +found.counts.notes == {COMMENTS: 5}


def test_hashtag_is_a_token_wherever_it_stands(tmp_path: Path) -> None:
    content = "#happy\tO\nday\tO\n#Bieber\tB-person\n\n#\tO\n1\tO\n"
    found = read(tmp_path, content)
    assert found.texts == ["#happy day #Bieber", "# 1"]
    assert found.names == [[("#Bieber", "person")], []]
    assert not +found.counts.notes


def test_comment_has_other_columns_or_no_tag(tmp_path: Path) -> None:
    found = read(tmp_path, "# a\n\nb O\n\n# a comment here O\n# nothing\nc O\n")
    assert found.texts == ["b", "c"]
    assert +found.counts.notes == {COMMENTS: 3}


def test_line_with_a_hash_within_a_sentence_is_no_comment(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r":2: 3 column\(s\) where line 1 has 2: '# a comment'"):
        read(tmp_path, "a O\n# a comment\nb O\n")


@pytest.mark.parametrize("row", ["b O", "b x x O", "b\tx", "b"])
def test_line_with_other_columns_is_refused(tmp_path: Path, row: str) -> None:
    with pytest.raises(FormatError, match=r"where line 2 has 3: '.*; write all columns") as caught:
        read(tmp_path, f"\na x O\n\nb x O\n{row}\n")
    assert caught.value.line == 5
    assert f"{len(row.split())} column(s)" in caught.value.what


def test_token_that_is_white_space_is_told_to_need_tabs(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r":2: 2 column\(s\) .*where a token is white space, separate by TAB"):
        read(tmp_path, "中 x O\n　 x O\n", lang="zh")


@pytest.mark.parametrize("settings", [{"token_column": 2}, {"tag_column": 2}, {"tag_column": -3}])
def test_column_that_is_not_there_is_refused(tmp_path: Path, settings: Dict[str, Any]) -> None:
    with pytest.raises(FormatError, match=r":3: 2 column\(s\), too few for .*--set") as caught:
        read(tmp_path, "-DOCSTART-\n\na O\n", **settings)
    assert all(f"{name}={value}" in caught.value.what for name, value in settings.items())


def test_row_without_a_token_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r":2: tag 'O' has no token"):
        read(tmp_path, "a\tx\tO\n\tx\tO\n")


def test_unknown_tag_is_refused_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r":2: tag 'NN' is not a tag of bio"):
        read(tmp_path, "a O\nb NN\n")


def test_unknown_scheme_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="scheme is 'iob2'; choose one of bio, iob1, bios, bioes, biluo, bmes, bmewo, bare, whole"
    ):
        read(tmp_path, "a O\n", scheme="iob2")


@pytest.mark.parametrize("value", ["3", 1.0, True])
@pytest.mark.parametrize("name", ["token_column", "tag_column", "sentence_column", "index_column"])
def test_column_that_is_no_integer_is_refused(tmp_path: Path, name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} is {value!r}; give an integer"):
        read(tmp_path, "a O\n", **{name: value})


@pytest.mark.parametrize(
    ("row", "settings"),
    [("O", {}), ("a O", {"token_column": 1}), ("O a", {"tag_column": 0}), ("a O", {"token_column": -1})],
)
def test_one_column_for_token_and_tag_is_refused(tmp_path: Path, row: str, settings: Dict[str, Any]) -> None:
    """Else the tags would be read as a text."""
    with pytest.raises(ValueError, match="column"):
        read(tmp_path, f"{row}\n{row}\n", **settings)


def test_file_of_comments_alone_holds_no_text(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="holds no text in the format conll"):
        read(tmp_path, "# a\n-DOCSTART-\n\n")
