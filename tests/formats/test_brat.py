from pathlib import Path
from typing import Any, List

import pytest

from spacy_crf_ner.formats.brat import DISCONTINUOUS, RELATIONS_LEFT
from spacy_crf_ner.formats.doc_builder import DocMaker
from spacy_crf_ner.formats.errors import FormatError
from spacy_crf_ner.formats.reading import read
from tests.formats.json_util import relations
from tests.formats.reading import BLANK, Found, found_in, put

TEXT = "Ann met Bo Li 😊 in New\nYork.\n"
ANN = "T1\tPER 0 3\tAnn\nT2\tPER 8 13\tBo Li\nR1\tMet Arg1:T1 Arg2:T2\t\nT3\tLOC 19 27\tNew York\n"
NAMES = [[("Ann", "PER"), ("Bo Li", "PER"), ("New\nYork", "LOC")]]


def pair(folder: Path, text: str, annotation: str, name: str = "a") -> Path:
    put(folder, annotation, f"{name}.ann")
    return put(folder, text, f"{name}.txt")


def english(path: Path, **settings: Any) -> Found:
    return found_in(path, lang="en", **settings)


def missing(found: Found) -> List[List[str]]:
    return [[token.text for token in doc if token.ent_iob == 0] for doc in found.docs]


@pytest.mark.parametrize("format", ["auto", "brat"])
@pytest.mark.parametrize("named", ["a.txt", "a.ann", ""])
def test_text_and_annotation_are_one_doc(tmp_path: Path, format: str, named: str) -> None:
    pair(tmp_path, TEXT, ANN)
    found = english(tmp_path / named, format=format)
    assert (found.texts, found.names) == ([TEXT], NAMES)
    assert relations(found.docs[0]) == [("Met", (0, 3, "PER"), (8, 13, "PER"))]
    assert str(found.docs[0].user_data["spacy_crf_ner.origin"]) == f"{tmp_path / 'a.txt'}:1"


def test_folder_of_pairs_and_other_files(tmp_path: Path) -> None:
    for name in ("sub/b", "a", "c.1"):
        pair(tmp_path, f"{name} Ann", f"T1\tPER {len(name) + 1} {len(name) + 4}\tAnn\n", name)
    pair(tmp_path, "Nobody", "", "d")
    put(tmp_path, "[entities]\nPER\n", "annotation.conf")
    put(tmp_path, "Ann B-PER\nsang O\n", "z.bio")
    found = english(tmp_path)
    assert found.texts == ["a Ann", "c.1 Ann", "Nobody", "sub/b Ann", "Ann sang"]
    assert found.names == [[("Ann", "PER")], [("Ann", "PER")], [], [("Ann", "PER")], [("Ann", "PER")]]


@pytest.mark.parametrize("final", ["", "\n", "\n\n"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_line_ends_of_the_annotation(tmp_path: Path, final: str, newline: str) -> None:
    path = pair(tmp_path, TEXT, "\ufeff" + (ANN.rstrip("\n") + final).replace("\n", newline))
    assert english(path).names == NAMES


@pytest.mark.parametrize("mark", [0, 1])
@pytest.mark.parametrize("wide", [0, 1])
@pytest.mark.parametrize("crlf", [0, 1])
def test_what_offsets_count_is_told_by_the_texts(tmp_path: Path, mark: int, wide: int, crlf: int) -> None:
    """Whether they count the byte order mark, UTF-16 units, and a carriage return."""
    text = "\ufeff" + TEXT.replace("\n", "\r\n")
    start, end = (i + mark + wide for i in (19, 27 + crlf))
    annotation = f"T1\tPER {mark} {3 + mark}\tAnn\nT3\tLOC {start} {end}\tNew York\nT4\tX {end} {end + 1}\t.\n"
    found = english(pair(tmp_path, text, annotation))
    assert found.texts == [text.removeprefix("\ufeff")]
    assert found.names == [[("Ann", "PER"), ("New\r\nYork", "LOC"), (".", "X")]]


def test_parts_with_white_space_between_are_one(tmp_path: Path) -> None:
    path = pair(tmp_path, "In New\nYork  City", "T1\tLOC 3 6;7 11;13 17\tNew York City\n")
    found = english(path)
    assert (found.ents, +found.counts.notes) == ([[(3, 17, "LOC")]], {})


def test_entity_of_several_parts_is_missing(tmp_path: Path) -> None:
    annotation = "T1\tPART 0 4;15 19\tleft hand\nT2\tPART 9 19\tright hand\nT3\tX 20 22;26 28\tof me\n"
    found = english(pair(tmp_path, "left and right hand of old me", annotation.replace("26 28", "27 29")))
    assert found.names == [[("right hand", "PART")]]
    assert (missing(found), +found.counts.notes) == ([["left", "of", "me"]], {DISCONTINUOUS: 2})


def test_overlapping_and_repeated_entities_are_counted(tmp_path: Path) -> None:
    annotation = "T1\tA 0 3\tAnn\nT2\tB 0 7\tAnn Lee\nT3\tB 0 7\tAnn Lee\n"
    counts = english(pair(tmp_path, "Ann Lee", annotation)).counts
    assert (counts.entities, counts.overlapping, counts.duplicates) == ({"B": 1}, 1, 1)


def test_other_annotation_is_counted(tmp_path: Path) -> None:
    more = "E1\tMeet:T1 Who:T2\nA1\tSure E1\nM1\tNot E1\n*\tAlias T1 T2\nN1\tReference T1 W:3\tAnn\n"
    more += "#1\tAnnotatorNotes T1\tx\nR2\tCause Arg1:E1 Arg2:T1\nT4\tX 0 3;8 10\tAnn Bo\nR3\tOf Arg1:T1 Arg2:T4\n"
    found = english(pair(tmp_path, TEXT, ANN + more))
    assert found.counts.relations == 1
    assert {what.partition(",")[0]: n for what, n in (+found.counts.notes).items() if "left out" in what} == {
        "attributes": 2,
        "events": 1,
        "equivalences": 1,
        "normalisations": 1,
        "notes": 1,
        RELATIONS_LEFT.partition(",")[0]: 2,
    }


@pytest.mark.parametrize("argument", ["Arg1:T1 Arg2:T2", "Anaphora:T1 Antecedent:T2", "Arg1:T1  Arg2:T2\t"])
def test_first_argument_is_the_head(tmp_path: Path, argument: str) -> None:
    path = pair(tmp_path, "a b", f"T2\tX 0 1\ta\nT1\tY 2 3\tb\nR1\tof {argument}\n")
    assert relations(english(path).docs[0]) == [("of", (2, 3, "Y"), (0, 1, "X"))]


@pytest.mark.parametrize(
    ("line", "what", "fix"),
    [
        ("T9\tPER 0 4\tAnn", "entity 'Ann' is at 0 to 4, where the text has 'Ann '", "count characters from 0"),
        ("T9\tPER 1 4\tAnn", "entity 'Ann' is at 1 to 4, where the text has 'nn '", "count characters from 0"),
        ("T9\tPER 29 31\tx", "entity 'x' is at 29 to 31, where the text ends at 29", "count characters from 0"),
        ("T9\tPER 3 3\tAnn", "entity 'PER 3 3' holds no text", "a start before the end"),
        ("T9\tPER 3 0\tAnn", "entity 'PER 3 0' holds no text", "a start before the end"),
        ("T9\tPER 0 3", "no entity: 'PER 0 3'", "T1<TAB>LABEL START END<TAB>TEXT"),
        ("T9\tA B 0 3\tAnn", "no entity: 'A B 0 3\\tAnn'", "the label without spaces"),
        ("T9\tPER -1 3\tAnn", "no entity: 'PER -1 3\\tAnn'", "T1<TAB>LABEL"),
        ("T9 PER 0 3 Ann", "no entity: ''", "T1<TAB>LABEL"),
        ("T1\tPER 0 3\tAnn", "the ID 'T1' is that of line 1 too", "an ID of its own"),
        ("R9\tMet T1 T2", "no relation: 'R9\\tMet T1 T2'", "R1<TAB>LABEL Arg1:T1 Arg2:T2"),
        ("R9\tMet Arg1:T1", "no relation: 'R9\\tMet Arg1:T1'", "R1<TAB>LABEL Arg1:T1 Arg2:T2"),
        ("R9\tMet Arg1:T1 Arg2:T7", "the relation 'Met' names 'T7', which is not there", "an entity of this file"),
        ("Ann B-PER", "no line of brat's: 'Ann B-PER'", "T1<TAB>LABEL START END<TAB>TEXT"),
        ("X1\tPER", "no line of brat's: 'X1\\tPER'", "T1<TAB>LABEL START END<TAB>TEXT"),
    ],
)
def test_what_is_refused(tmp_path: Path, line: str, what: str, fix: str) -> None:
    path = pair(tmp_path, TEXT, f"{ANN}{line}\n")
    with pytest.raises(FormatError) as caught:
        english(path)
    error = caught.value
    assert str(error).startswith(f"{tmp_path / 'a.ann'}:5: ")
    assert (what in error.what, fix in error.fix) == (True, True), str(error)


@pytest.mark.parametrize(
    ("there", "gone", "format"),
    [("a.txt", "a.ann", "brat"), ("a.ann", "a.txt", "brat"), ("a.ann", "a.txt", "auto")],
)
def test_file_that_is_missing_is_named(tmp_path: Path, there: str, gone: str, format: str) -> None:
    pair(tmp_path, TEXT, ANN)
    pair(tmp_path, TEXT, ANN, "b")
    (tmp_path / gone).unlink()
    for path in (tmp_path, tmp_path / there):
        with pytest.raises(FormatError) as caught:
            english(path, format=format)
        assert caught.value.path == tmp_path / there
        assert f"{gone} is not there; write it beside {there}" in str(caught.value)


def test_other_files_are_refused_where_brat_is_named(tmp_path: Path) -> None:
    pair(tmp_path, TEXT, ANN)
    put(tmp_path, "x", "b.md")
    with pytest.raises(FormatError, match=r"b\.md: is neither \.txt nor \.ann; name the text"):
        english(tmp_path, format="brat")


def test_text_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    put(tmp_path, b"a\n\xff", "a.txt")
    put(tmp_path, "T1\tX 0 1\ta\n", "a.ann")
    with pytest.raises(FormatError, match=r"a\.txt:2: not UTF-8"):
        english(tmp_path)


def test_progress_is_the_size_of_both_files(tmp_path: Path) -> None:
    for name in "ab":
        pair(tmp_path, TEXT, ANN, name)
    steps: List[int] = []
    assert len(list(read([tmp_path], DocMaker(lambda: BLANK["en"]), progress=steps.append))) == 2
    assert sum(steps) == sum(path.stat().st_size for path in tmp_path.iterdir())
