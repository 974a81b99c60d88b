from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import pytest

from spacy_crf_ner.formats.conll import COMMENTS
from spacy_crf_ner.formats.conllu import EMPTY_NODES, OTHER_TAGS, OTHER_TEXT, PARTS, RANGES, UNTAGGED
from spacy_crf_ner.formats.errors import FormatError
from spacy_crf_ner.formats.records import UNANNOTATED
from spacy_crf_ner.formats.sniff import sniff
from spacy_crf_ner.formats.source import Source
from spacy_crf_ner.tagging import STRAY_INSIDE
from tests.formats.reading import Found, found_in, put

ANN = "1\tAnn\tAnn\tPROPN\tNNP\tNumber=Sing\t2\tnsubj\t_\tname=B-PER\n"
ANN += "2\tlives\tlive\tVERB\tVBZ\t_\t0\troot\t_\tname=O\n"
ANN += "3\tin\tin\tADP\tIN\t_\t4\tcase\t_\tname=O\n"
ANN += "4\tOslo\tOslo\tPROPN\tNNP\t_\t2\tobl\t_\tname=B-LOC|SpaceAfter=No\n"
ANN += "5\t.\t.\tPUNCT\t.\t_\t2\tpunct\t_\tname=O\n"


def rows(*words: str) -> str:
    """Lines of a sentence, each given as ID, FORM and MISC."""
    lines = ""
    for word in words:
        id_, form, misc = word.split()
        lines += f"{id_}\t{form}\t_\tX\t_\t_\t_\t_\t_\t{misc}\n"
    return lines + "\n"


def english(folder: Path, content: "str | bytes", **settings: Any) -> Found:
    return found_in(put(folder, content), lang="en", **settings)


def missing(found: Found) -> List[List[str]]:
    return [[token.text for token in doc if token.ent_iob == 0] for doc in found.docs]


def refused(folder: Path, content: "str | bytes", **settings: Any) -> FormatError:
    with pytest.raises(FormatError) as caught:
        english(folder, content, **{"format": "conllu", **settings})
    assert str(caught.value).startswith(f"{folder / 'a.txt'}:")
    assert "\n" not in str(caught.value)
    return caught.value


def test_tags_in_misc(tmp_path: Path) -> None:
    found = english(tmp_path, f"# sent_id = 1\n# text = Ann lives in Oslo.\n{ANN}\n{rows('1 Go _')}")
    assert sniff(Source(tmp_path / "a.txt")).format == "conllu"
    assert found.texts == ["Ann lives in Oslo.", "Go"]
    assert found.names == [[("Ann", "PER"), ("Oslo", "LOC")], []]
    assert found.counts.notes[COMMENTS] == 1


@pytest.mark.parametrize("content", [ANN, f"\ufeff{ANN}", f"\ufeff# text = Ann lives in Oslo.\n{ANN}"])
@pytest.mark.parametrize("crlf", [False, True])
@pytest.mark.parametrize("final", ["", "\n", "\n\n"])
def test_line_ends_and_byte_order_mark(tmp_path: Path, content: str, crlf: bool, final: str) -> None:
    whole = content.rstrip("\n") + final
    found = english(tmp_path, whole.replace("\n", "\r\n") if crlf else whole)
    assert found.texts == ["Ann lives in Oslo."]
    assert found.names == [[("Ann", "PER"), ("Oslo", "LOC")]]


@pytest.mark.parametrize(
    ("tags", "settings"),
    [
        ("name=B-PER name=I-PER name=O", {}),
        ("NER=B-PER NER=I-PER _", {"key": "NER"}),
        ("Gloss=x|NE=B-PER NE=I-PER _", {"key": "NE"}),
        ("a=b|entity=B-PER entity=E-PER entity=S-LOC", {"key": "entity", "scheme": "bioes"}),
        ("name=B_PER name=I_PER name=O", {"spelling": "B_PER"}),
        ("ner=I-PER ner=I-PER ner=I-LOC", {"key": "ner", "scheme": "iob1"}),
        ("NER=O NER=O NER=O", {"key": "NER"}),
        ("Entity=(1-person 2=1 SpaceAfter=No", {}),
    ],
)
def test_key_scheme_and_spelling_are_told(tmp_path: Path, tags: str, settings: Dict[str, Any]) -> None:
    words = [f"{i} w{i} {misc}" for i, misc in enumerate(tags.split(), start=1)]
    guess = sniff(Source(put(tmp_path, rows(*words))))
    assert (guess.format, guess.settings) == ("conllu", settings)


@pytest.mark.parametrize(
    "content",
    [
        "1\tAnn\t_\t_\t_\t_\t_\t_\t_\tB-PER\n2\tin\t_\t_\t_\t_\t_\t_\t_\tO\n",  # the tag itself in the last column
        "1\tAnn\t_\tB-PER\t_\t_\t_\t_\t_\t_\n2\tin\t_\tO\t_\t_\t_\t_\t_\tSpaceAfter=No\n",  # in another one
        "1\tAnn\tB-PER\n2\tin\tO\n",
    ],
)
def test_columns_of_another_kind_are_not_taken(tmp_path: Path, content: str) -> None:
    found = english(tmp_path, content)
    assert sniff(Source(tmp_path / "a.txt")).format == "conll"
    assert found.names == [[("Ann", "PER")]]


def test_type_and_repair(tmp_path: Path) -> None:
    content = rows("1 Ann name=B", "2 Lee name=I", "3 x name=O", "4 Bo name=I")
    found = english(tmp_path, content, format="conllu", type="GENE", repair=True)
    assert found.names == [[("Ann Lee", "GENE"), ("Bo", "GENE")]]
    assert +found.counts.notes == {STRAY_INSIDE: 1}
    assert "--set type=LABEL" in refused(tmp_path, content).fix
    assert (refused(tmp_path, content, type="G").line, refused(tmp_path, content).line) == (4, 1)


def test_text_is_that_of_the_file(tmp_path: Path) -> None:
    """Two spaces, and none where MISC does not say so."""
    content = "# text =  Ann  (Bo)\n" + rows("1 Ann name=B-A", "2 ( name=O", "3 Bo name=B-B", "4 ) name=O")
    found = english(tmp_path, content)
    assert (found.texts, found.names) == ([" Ann  (Bo)"], [[("Ann", "A"), ("Bo", "B")]])
    assert not +found.counts.notes


@pytest.mark.parametrize("text", ["Ann Bo x", "Ann", "Bo Ann", "AnnBox", "x Ann Bo"])
def test_text_of_other_words_is_not_taken(tmp_path: Path, text: str) -> None:
    found = english(tmp_path, f"# text = {text}\n" + rows("1 Ann name=B-A|SpaceAfter=No", "2 Bo name=O"))
    assert (found.texts, found.names) == (["AnnBo"], [[("Ann", "A")]])
    assert +found.counts.notes == {OTHER_TEXT: 1}


def test_words_are_joined_where_the_language_writes_no_spaces_and_the_file_says_nothing(tmp_path: Path) -> None:
    path = put(tmp_path, rows("1 我 name=O", "2 在 name=O", "3 北京 name=B-LOC", "4 ok name=O"))
    assert (found_in(path).texts, found_in(path).ents) == (["我在北京ok"], [[(2, 4, "LOC")]])
    path = put(tmp_path, rows("1 我 name=O|SpaceAfter=No", "2 在 name=O", "3 北京 name=B-LOC"))
    assert (found_in(path).texts, found_in(path).ents) == (["我在 北京"], [[(3, 5, "LOC")]])


def test_multiword_tokens_and_empty_nodes(tmp_path: Path) -> None:
    content = rows(
        "1 Jean name=B-PER",
        "2-3 du SpaceAfter=No",
        "2 de name=I-PER",
        "3 le name=O",
        "3.1 x name=B-X",
        "4 ! name=O",
        "5-6 don't name=O",
        "5 do name=B-A",
        "6 n't name=B-B",
    )
    found = english(tmp_path, content)
    assert found.texts == ["Jean du! don't"]
    assert found.names == [[("Jean du", "PER"), ("do", "A"), ("n't", "B")]]
    assert +found.counts.notes == {EMPTY_NODES: 1, RANGES: 1, PARTS: 1, OTHER_TAGS: 2}


def test_entities_of_one_multiword_token_overlap(tmp_path: Path) -> None:
    content = rows("1-2 Genf name=O", "1 zu name=B-A", "2 Genua name=B-B", "3 x name=O")
    found = english(tmp_path, content)
    assert (found.names, found.counts.overlapping) == ([[("Genf", "A")]], 1)


def test_word_without_tag_is_outside_where_no_word_says_so(tmp_path: Path) -> None:
    content = rows("1 Go _", "2 on SpaceAfter=No") + rows("1 Ann name=B-PER", "2 sang _")
    found = english(tmp_path, content)
    assert (found.names, missing(found), +found.counts.notes) == ([[], [("Ann", "PER")]], [[], []], {})


def test_word_without_tag_is_not_annotated_where_others_say_o(tmp_path: Path) -> None:
    """Whether the O comes before or after it."""
    content = rows("1 Go _") + rows("1 Ann name=B-PER", "2 saw _", "3 him name=O") + rows("1 Oh _")
    found = english(tmp_path, content)
    assert (found.names, missing(found)) == ([[], [("Ann", "PER")], []], [["Go"], ["saw"], ["Oh"]])
    assert +found.counts.notes == {UNANNOTATED: 2, UNTAGGED: 1}


def test_file_without_the_key_has_no_annotation(tmp_path: Path) -> None:
    content = rows("1 Ann NER=B-PER|SpaceAfter=No", "2 . _")
    error = refused(tmp_path, content)
    assert error.what == "no word has name= in the column MISC; its keys are 'NER', 'SpaceAfter'"
    assert error.fix == "name the key that holds tags with --set key=NAME"
    assert "it has no keys" in refused(tmp_path, rows("1 Ann _")).what
    error = refused(tmp_path, rows("1 Ann Entity=(1-person-1-new)", "2 . _"), format="auto")
    assert "Entity= holds brackets of coreference, which are not read" in error.what


@pytest.mark.parametrize(
    ("content", "line", "what", "fix"),
    [
        (ANN + "6\tx\t_\n", 6, "3 column(s) where CoNLL-U has 10: '6'", "with TABs between"),
        (ANN + "6 x _ X _ _ _ _ _ _\n", 6, "1 column(s)", "with TABs between"),
        (ANN + rows("1 x name=O"), 6, "word 1 where word 6 would follow", "an empty line before each sentence"),
        (ANN + rows("7 x name=O"), 6, "word 7 where word 6 would follow", "count from 1"),
        (ANN + rows("x x name=O"), 6, "ID 'x' is not a number", "count words from 1"),
        (ANN + "6\t \t_\t_\t_\t_\t_\t_\t_\t_\n", 6, "word 6 has no text", "FORM"),
        (ANN + "# text = x\n", 6, "a comment inside a sentence", "an empty line before it"),
        (ANN + rows("6 x name=B-A|name=O"), 6, "MISC gives name= twice: 'name=B-A|name=O'", "keep one"),
        (ANN + rows("6 x name=PER"), 6, "tag 'PER' is not a tag of bio", "before a label"),
        (ANN + rows("6 x name=I-PER"), 6, "continues no PER entity", "--repair"),
        (rows("1-2 du _", "1 de name=O"), 3, "the sentence ends before word 2", "write all its words"),
        (rows("1 de name=O", "1-2 du _", "2 le name=O"), 2, "token 1-2 does not begin at word 2", "before"),
        (rows("1-2 du _", "1-3 du _"), 2, "token 1-3 does not begin", "before its first"),
        (rows("1-1 du _", "1 du name=O"), 1, "token 1-1 does not begin", "before its first"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path: Path, content: str, line: int, what: str, fix: str) -> None:
    error = refused(tmp_path, content)
    assert (error.line, what in error.what, fix in error.fix) == (line, True, True), str(error)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"key": 3}, "the setting key is 3"),
        ({"scheme": "x"}, "the setting scheme is 'x'"),
        ({"spelling": "x"}, "the setting spelling is 'x'"),
        ({"type": "a b"}, "the setting type is 'a b'"),
        ({"repair": "no"}, "the setting repair is 'no'"),
    ],
)
def test_settings_are_checked(tmp_path: Path, settings: Dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        english(tmp_path, ANN, format="conllu", **settings)


def test_sentence_knows_its_line(tmp_path: Path) -> None:
    docs = english(tmp_path, f"# text = Ann lives in Oslo.\n{ANN}\n\n{ANN}").docs
    where: List[Optional[Tuple[str, int]]] = [doc.user_data["spacy_crf_ner.origin"][:2] for doc in docs]
    assert where == [(str(tmp_path / "a.txt"), 2), (str(tmp_path / "a.txt"), 9)]
