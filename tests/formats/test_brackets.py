from pathlib import Path
from typing import Any, Dict

import pytest

from spacy_crf_ner.formats.brackets import DOCUMENT_LINES
from spacy_crf_ner.formats.conll import COMMENTS
from spacy_crf_ner.formats.errors import FormatError
from spacy_crf_ner.formats.sniff import sniff
from spacy_crf_ner.formats.source import Source
from tests.formats.reading import found_in, put

ROW = "bc/cctv/00/cctv_0001   0  {:2d}  {:>9}  NNP  {:>10}  -  -  -  Speaker#1  {:>8}  (ARG0*  *  (12)\n"
BEGIN = "#begin document (bc/cctv/00/cctv_0001); part 000\n"
OSLO = ROW.format(0, "Ann", "(TOP(S(NP*", "(PERSON*") + ROW.format(1, "Lee", "*)", "*)")
OSLO += ROW.format(2, "left", "(VP*", "*") + ROW.format(3, "Oslo", "*)))", "(GPE)")
SHORTER = "bc/cctv/00/cctv_0001 0 0 Go VB (TOP(S*)) - - - Speaker#1 * -\n"
STANDARD = f"{BEGIN}{OSLO}\n{SHORTER}\n#end document\n"
PEOPLE = [[("Ann Lee", "PERSON"), ("Oslo", "GPE")], []]


def test_the_shared_task(tmp_path: Path) -> None:
    path = put(tmp_path, STANDARD)
    assert sniff(Source(path))[:2] == ("conll2012", {})
    found = found_in(path, lang="en")
    assert (found.texts, found.names) == (["Ann Lee left Oslo", "Go"], PEOPLE)
    assert +found.counts.notes == {DOCUMENT_LINES: 2}


@pytest.mark.parametrize("content", [STANDARD, f"\ufeff{STANDARD}", f"\ufeff{OSLO}\n{SHORTER}"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("final", ["", "\n", "\n\n"])
def test_line_ends_and_byte_order_mark(tmp_path: Path, content: str, newline: str, final: str) -> None:
    path = put(tmp_path, (content.rstrip("\n") + final).replace("\n", newline))
    assert found_in(path, lang="en").names == PEOPLE


@pytest.mark.parametrize(
    ("content", "settings"),
    [
        ("Ann\t(PER*\nLee\t*)\nleft\t*\nOslo\t(LOC)\n", {"token_column": 0, "tag_column": 1}),
        ("(PER* Ann\n*) Lee\n* left\n(LOC) Oslo\n", {"token_column": 1, "tag_column": 0}),
        ("1 Ann N (PER*\n2 Lee N *)\n3 left V *\n4 Oslo N (LOC)\n", {"token_column": 1, "tag_column": 3}),
        (
            "# id\nAnn\t(S(NP*\t(PER*\t(A0*\nLee\t*)\t*)\t*)\nleft\t*\t*\t(V*)\nOslo\t*)\t(LOC)\t(A1*)\n",
            {"token_column": 0, "tag_column": 2},
        ),
    ],
)
def test_other_columns_are_told(tmp_path: Path, content: str, settings: Dict[str, int]) -> None:
    path = put(tmp_path, content)
    assert sniff(Source(path))[:2] == ("conll2012", settings)
    found = found_in(path, lang="en")
    assert (found.texts, found.names) == (["Ann Lee left Oslo"], [[("Ann Lee", "PER"), ("Oslo", "LOC")]])
    assert found.counts.notes[COMMENTS] == content.startswith("#")


@pytest.mark.parametrize(
    "content",
    [
        "(\tO\nAnn\tB-PER\n)\tO\n*\tO\n",  # brackets that are tokens
        "a\t(12)\tB-PER\nb\t-\tO\n",  # coreference
        "a\t(S*\tB-PER\nb\t*)\tO\n",  # a parse alone
        "a\t(A0*\tB-PER\nb\t*)\tO\n",  # roles alone
        "a\t*\tB-PER\nb\t*\tO\n",
    ],
)
def test_other_brackets_are_not_taken(tmp_path: Path, content: str) -> None:
    assert sniff(Source(put(tmp_path, content))).format != "conll2012"


def test_columns_that_could_both_be_the_entities_are_not_guessed(tmp_path: Path) -> None:
    path = put(tmp_path, "a (PER) (X)\nb * *\nc * (Y)\n")
    with pytest.raises(FormatError, match="of no format that can be told"):
        found_in(path)
    assert found_in(path, format="conll2012", token_column=0, tag_column=-1).names == [[("a", "X"), ("c", "Y")]]


@pytest.mark.parametrize(
    ("tags", "entities", "overlapping"),
    [
        ("(A(B*) * *)", [(0, 3, "A")], 1),
        ("(A* (B)) *", [(0, 2, "A")], 1),
        ("(A(B)) * (C*)", [(0, 1, "A"), (2, 3, "C")], 1),
        ("((A*", [], 0),
        ("(A*) (A) (A*)", [(0, 1, "A"), (1, 2, "A"), (2, 3, "A")], 0),
        ("(A* (B* *))", [(0, 3, "A")], 1),
        ("(WORK_OF_ART* *) *", [(0, 2, "WORK_OF_ART")], 0),
    ],
)
def test_brackets_inside_brackets(tmp_path: Path, tags: str, entities: Any, overlapping: int) -> None:
    path = put(tmp_path, "".join(f"{'甲乙丙'[i]}\t{tag}\n" for i, tag in enumerate(tags.split())))
    settings: Dict[str, Any] = {"format": "conll2012", "token_column": 0, "tag_column": 1}
    if not entities:
        with pytest.raises(FormatError, match=r"a.txt:1: tag '\(\(A\*' of token '甲' has no brackets"):
            found_in(path, **settings)
        return
    found = found_in(path, **settings)
    assert (found.ents, found.counts.overlapping) == ([entities], overlapping)


@pytest.mark.parametrize(
    ("content", "line", "what", "fix"),
    [
        ("a\t(A*\nb\t*\n\nc\t*\n", 1, "the bracket '(A' is not closed in the sentence", "write '*)'"),
        ("a\t(A*\nb\t(B*\nc\t*)\n", 1, "the bracket '(A' is not closed", "write '*)'"),
        ("a\t(A)\nb\t*)\n", 2, "tag '*)' closes a bracket that is not open", "delete ')'"),
        ("a\t(A*))\nb\t*\n", 1, "closes a bracket that is not open", "delete ')'"),
        ("a\t(A)\nb\tO\n", 2, "tag 'O' of token 'b' has no brackets", "write *, (LABEL*, *) or (LABEL)"),
        ("a\t(A)\nb\t(B\n", 2, "tag '(B' of token 'b' has no brackets", "--set tag_column=NUMBER"),
        ("a\t(A)\nb\t()\n", 2, "tag '()' of token 'b' has no brackets", "write *, (LABEL*"),
        ("a\t(A)\nb\t\n", 2, "tag '' of token 'b' has no brackets", "write *, (LABEL*"),
        ("a\t(A)\nb\t*\tc\n", 2, "3 column(s) where line 1 has 2", "write all columns"),
        ("a\t(A)\nb\n", 2, "1 column(s) where line 1 has 2", "write all columns"),
        ("[WORD]\t(A)\n", 1, "the token is [WORD]: the words were taken out", "a file that has them"),
        ("a\t(A)\n\t*\n", 2, "tag '*' has no token", "write the token"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path: Path, content: str, line: int, what: str, fix: str) -> None:
    with pytest.raises(FormatError) as caught:
        found_in(put(tmp_path, content), format="conll2012", token_column=0, tag_column=1)
    error = caught.value
    assert (error.line, what in error.what, fix in error.fix) == (line, True, True), str(error)


def test_columns_are_checked(tmp_path: Path) -> None:
    path = put(tmp_path, "a\t(A)\n")
    with pytest.raises(
        FormatError, match=r":1: 2 column\(s\), of which token_column=3 and tag_column=10 name no two"
    ):
        found_in(path, format="conll2012")
    with pytest.raises(FormatError, match="token_column=0 and tag_column=-2 name no two"):
        found_in(path, format="conll2012", token_column=0, tag_column=-2)
    with pytest.raises(ValueError, match="the setting tag_column is 'x'; give an integer"):
        found_in(path, format="conll2012", tag_column="x")
