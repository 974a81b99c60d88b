from pathlib import Path
from typing import Any, Dict, List

import pytest

from spacy_crf_ner.formats.errors import FormatError
from spacy_crf_ner.formats.sniff import sniff
from spacy_crf_ner.formats.source import Source
from spacy_crf_ner.formats.webanno import (
    CHAINS_LEFT,
    IN_CHARACTERS,
    NO_TEXT,
    NO_VALUE,
    OTHER_LAYER,
    RELATIONS_LEFT,
)
from tests.formats.reading import Found, found_in, put

DKPRO = "de.tudarmstadt.ukp.dkpro.core.api"
NER = f"#T_SP={DKPRO}.ner.type.NamedEntity|identifier|value\n"
SPAN = "#T_SP=webanno.custom.Span|value\n"
OSLO = "#Text=Ann lives in New York.\n1-1\t0-3\tAnn\tPER\t\n1-2\t4-9\tlives\t_\t\n1-3\t10-12\tin\t_\t\n"
OSLO += "1-4\t13-16\tNew\tLOC[1]\t\n1-5\t17-21\tYork\tLOC[1]\t\n1-6\t21-22\t.\t_\t\n"
GO = "\n#Text=Go\n2-1\t23-25\tGo\t_\t\n"


def export(body: str, *layers: str, version: str = "3.3") -> str:
    return f"#FORMAT=WebAnno TSV {version}\n{''.join(layers or (SPAN,))}\n\n{body}"


def english(folder: Path, content: str, **settings: Any) -> Found:
    return found_in(put(folder, content, "a.tsv"), lang="en", **settings)


def missing(found: Found) -> List[List[str]]:
    return [[token.text for token in doc if token.ent_iob == 0] for doc in found.docs]


def refused(folder: Path, content: str, **settings: Any) -> FormatError:
    with pytest.raises(FormatError) as caught:
        english(folder, content, **settings)
    assert str(caught.value).startswith(f"{folder / 'a.tsv'}:")
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("final", ["", "\n", "\n\n"])
@pytest.mark.parametrize("tab", ["\t", ""])
def test_spans(tmp_path: Path, mark: str, newline: str, final: str, tab: str) -> None:
    content = (export(OSLO + GO).rstrip("\n") + final).replace("\t\n", f"{tab}\n").replace("\n", newline)
    found = english(tmp_path, mark + content)
    assert sniff(Source(tmp_path / "a.tsv"))[:2] == ("webanno", {})
    assert found.texts == ["Ann lives in New York.", "Go"]
    assert found.names == [[("Ann", "PER"), ("New York", "LOC")], []]
    assert not +found.counts.notes


def test_named_entity_layer_with_identifiers(tmp_path: Path) -> None:
    body = "#Sentence.id=x\n#Text=Sv. A\n1-1\t0-2\tSv\thttp://w.org/Q3[1]\tLOC[1]\t\n"
    body += "1-2\t2-3\t.\thttp://w.org/Q3[1]\tLOC[1]\t\n1-3\t4-5\tA\t*\tPER\t\n"
    found = english(tmp_path, export(body, NER))
    assert found.names == [[("Sv.", "LOC"), ("A", "PER")]]
    assert +found.counts.notes == {OTHER_LAYER: 1}
    assert english(tmp_path, export(body, NER), feature="identifier").names == [[("Sv.", "http://w.org/Q3")]]


def test_stacked_annotations(tmp_path: Path) -> None:
    body = "#Text=Ms. Haag\n1-1\t0-3\tMs.\tPER[1]|TITLE[2]\n1-2\t4-8\tHaag\tPER[1]|NAME[3]|X[4]\n"
    found = english(tmp_path, export(body))
    assert (found.names, found.counts.overlapping) == ([[("Ms. Haag", "PER")]], 3)


def test_sub_tokens(tmp_path: Path) -> None:
    body = (
        "#Text=aaaaaa bbbbbb cccccc\n1-1\t0-6\taaaaaa\tA\t\n1-1.1\t3-6\taaa\tB[1]\t\n1-2\t7-13\tbbbbbb\tB[1]\t\n"
    )
    body += "1-2.1\t7-7\t\tC\t\n1-3\t14-20\tcccccc\t_\t\n1-3.1\t14-17\tccc\tB[1]\t\n1-3.2\t18-19\tc\tD\t\n"
    found = english(tmp_path, export(body))
    assert found.ents == [[(3, 17, "B"), (18, 19, "D")]]
    assert (found.counts.overlapping, +found.counts.notes) == (1, {NO_TEXT: 1})


def test_offsets_count_utf_16(tmp_path: Path) -> None:
    body = "#Text=I 😊 it\n1-1\t5-6\tI\t_\n1-2\t7-9\t😊\tE\n1-3\t10-12\tit\tP\n"
    found = english(tmp_path, export(body))
    assert (found.ents, +found.counts.notes) == ([[(2, 3, "E"), (4, 6, "P")]], {})
    found = english(tmp_path, export(body.replace("7-9", "7-8").replace("10-12", "9-11")))
    assert (found.ents, +found.counts.notes) == ([[(2, 3, "E"), (4, 6, "P")]], {IN_CHARACTERS: 1})


@pytest.mark.parametrize(
    ("text", "token", "plain", "version"),
    [
        (r"a \\ b", r"\\", "\\", "3.3"),
        (r"a \t b", r"\t", "\t", "3.3"),
        (r"a \r b", r"\r", "\r", "3.2"),
        (r"a \n b", r"\n", "\n", "3.2"),
        ("a \\\x01 b", "\\\x01", "\x01", "3.3"),
        ("a [ b", r"\[", "[", "3.3"),
        (r"a \u4e2d b", r"\u4e2d", "中", "3.1"),
        (r"a \uD83D\uDE0A b", r"\uD83D\uDE0A", "😊", "3.0"),
    ],
)
def test_escapes(tmp_path: Path, text: str, token: str, plain: str, version: str) -> None:
    end = 2 + len(plain.encode("utf-16-le")) // 2
    body = f"#Text={text}\n1-1\t0-1\ta\t_\n1-2\t2-{end}\t{token}\tX\n1-3\t{end + 1}-{end + 2}\tb\tY\n"
    found = english(tmp_path, export(body, version=version))
    assert found.texts == [f"a {plain} b"]
    assert found.names == [[(plain, "X"), ("b", "Y")]]


def test_escapes_of_labels(tmp_path: Path) -> None:
    body = "#Text=a b c\n1-1\t0-1\ta\tA\\|B\\_C\n1-2\t2-3\tb\t\\_\n1-3\t4-5\tc\tX\\[1\\]|\\*[7]\n"
    assert [label for _, label in english(tmp_path, export(body)).names[0]] == ["A|B_C", "_", "X[1]"]


def test_text_of_several_lines(tmp_path: Path) -> None:
    body = "#Text=New\n#Text=York x\n1-1\t0-3\tNew\tLOC[1]\n1-2\t4-8\tYork\tLOC[1]\n1-3\t9-10\tx\t_\n"
    found = english(tmp_path, export(body))
    assert (found.texts, found.ents) == (["New\nYork x"], [[(0, 8, "LOC")]])


def test_entity_across_sentences_joins_them(tmp_path: Path) -> None:
    body = "#Text=a b\n1-1\t0-1\ta\t_\n1-2\t2-3\tb\tX[1]\n\n#Text=c\n2-1\t4-5\tc\tX[1]|Y[2]\n\n"
    body += "#Text=d\n3-1\t5-6\td\tY[2]\n\n#Text=e\n4-1\t7-8\te\tZ\n"
    found = english(tmp_path, export(body))
    assert found.texts == ["a b cd", "e"]
    assert (found.ents, found.counts.overlapping) == ([[(2, 5, "X")], [(0, 1, "Z")]], 1)


def test_annotation_without_a_value_is_missing(tmp_path: Path) -> None:
    body = "#Text=Ann met Bo Li in Rome\n1-1\t0-3\tAnn\t*\n1-2\t4-7\tmet\t_\n1-3\t8-10\tBo\t*[1]|TITLE[2]\n"
    body += "1-4\t11-13\tLi\t*[1]\n1-5\t14-16\tin\t_\n1-6\t17-21\tRome\tLOC\n"
    found = english(tmp_path, export(body))
    assert found.names == [[("Bo", "TITLE"), ("Rome", "LOC")]]
    assert (missing(found), +found.counts.notes) == ([["Ann", "Li"]], {NO_VALUE: 2})


LAYERS = (
    f"#T_SP={DKPRO}.lexmorph.type.pos.POS|PosValue|coarseValue\n",
    f"#T_SP={DKPRO}.segmentation.type.Lemma|value\n",
    "#T_SP=webanno.custom.Plain|\n",
    SPAN,
    "#T_SP=webanno.custom.Event|kind|ROLE_webanno.custom.Event:args_webanno.custom.EventArgs|uima.tcas.Annotation\n",
    f"#T_CH={DKPRO}.coref.type.CoreferenceLink|referenceType|referenceRelation\n",
    "#T_RL=webanno.custom.Rel|label|BT_webanno.custom.Span\n",
)


def layered(plain: str, span: str, event: str) -> str:
    role = "_\t_" if event == "_" else "who\t1-1"
    first = f"1-1\t0-3\tAnn\tNNP\tPROPN\tAnn\t{plain}\t{span}\t_\t_\t_\tnam[1]\tcoref->1-1\t_\t_\t\n"
    second = f"1-2\t4-8\tsang\tVBD\tVERB\tsing\t_\t_\t{event}\t{role}\t_\t_\tby\t1-1\t\n"
    return export(f"#Text=Ann sang\n{first}{second}", *LAYERS)


def test_other_layers_are_counted(tmp_path: Path) -> None:
    found = english(tmp_path, layered("_", "PER", "_"))
    assert found.names == [[("Ann", "PER")]]
    assert +found.counts.notes == {OTHER_LAYER: 6, RELATIONS_LEFT: 1, CHAINS_LEFT: 1}


def test_layer_is_named_where_several_have_annotations(tmp_path: Path) -> None:
    content = layered("_", "PER", "Perform")
    error = refused(tmp_path, content)
    assert (error.what, error.fix) == (
        "annotations in the layers 'Span', 'Event'",
        "name the layer with --set layer=NAME",
    )
    assert english(tmp_path, content, layer="Event").names == [[("sang", "Perform")]]
    assert english(tmp_path, content, layer="webanno.custom.Span").names == [[("Ann", "PER")]]
    assert english(tmp_path, content, layer="POS", feature="PosValue").names == [[("Ann", "NNP"), ("sang", "VBD")]]
    content = export(GO.replace("_\t", "_\t_\t"), SPAN, SPAN.replace("Span", "B"))
    assert "no annotation in any of the layers 'Span', 'B'" in refused(tmp_path, content).what


@pytest.mark.parametrize(
    ("settings", "what", "fix"),
    [
        ({"layer": "x"}, "0 layers are called 'x'; the header names", "layer=NAME"),
        ({"layer": "Plain"}, "the layer 'Plain' has no feature", "or another layer"),
        ({"layer": "POS"}, "the layer 'POS' has several features: 'PosValue', 'coarseValue'", "feature=NAME"),
        ({"layer": "Span", "feature": "x"}, "the layer 'Span' has no feature 'x': 'value'", "feature=NAME"),
        (
            {"layer": "Event", "feature": "uima.tcas.Annotation"},
            "has no feature 'uima.tcas.Annotation'",
            "feature",
        ),
    ],
)
def test_layer_and_feature_must_be_there(tmp_path: Path, settings: Dict[str, str], what: str, fix: str) -> None:
    error = refused(tmp_path, layered("_", "PER", "_"), **settings)
    assert (what in error.what, fix in error.fix) == (True, True), str(error)


@pytest.mark.parametrize(
    ("content", "line", "what", "fix"),
    [
        (export("#Text=a\n1-1\t0-1\ta\t_\t_\n"), 6, "2 value(s) where the header names 1", "for each feature"),
        (export("#Text=a\n1-1\t0-1\ta\n"), 6, "0 value(s) where the header names 1", "for each feature"),
        (export("#Text=a\nx\t0-1\ta\t_\n"), 6, "no row of a token: 'x'", "SENTENCE-TOKEN"),
        (export("#Text=a\n1-1\t01\ta\t_\n"), 6, "no row of a token: '1-1'", "BEGIN-END"),
        (export(f"#Text=b\n\n{OSLO}"), 5, "a sentence without a token", "write its tokens"),
        (export("1-1\t0-1\ta\t_\n"), 5, "a token without a sentence", "write #Text= before it"),
        (export("#Text=a b\n1-1\t0-1\ta\t_\n1-2\t1-2\tb\t_\n"), 7, "'b' is at 1-2, where the text has ' '", "5"),
        (export("#Text=a b\n1-1\t0-1\ta\t_\n1-2\t2-4\tb\t_\n"), 7, "'b' is at 2-4, where the text ends", "5"),
        (export("#Text= a\n1-1\t1-2\ta\t_\n"), 6, "token 'a' is at 1-2, where the text has ' '", "offsets"),
        (export("#Text=😊b\n1-1\t0-2\t😊\t_\n1-2\t1-2\tb\t_\n"), 7, "token 'b' is at 1-2", "offsets"),
        (export("#Text=a b\n1-1\t0-1\ta\tX[1]\n1-2\t2-3\tb\tY[1]\n"), 7,
         "annotation 'Y[1]' has the number of 'X' in line 6", "a number of its own"),
        (export("#Text=a\n1-1\t0-1\ta\t[1]\n"), 6, "an annotation with an empty value", "or *"),
        (export(GO, "#T_RL=a.B|x|BT_a.C\n"), 1, "the header names no layer of spans", "export"),
        (export(GO, f"#T_SP={DKPRO}.segmentation.type.Lemma|value\n"), 1, "no layer that could be of", "layer"),
        ("#FORMAT=WebAnno TSV 2.0\n\n", 1, "the first line is '#FORMAT=WebAnno TSV …'", "as WebAnno TSV 3"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path: Path, content: str, line: int, what: str, fix: str) -> None:
    error = refused(tmp_path, content)
    assert (error.line, what in error.what, fix in error.fix) == (line, True, True), str(error)


def test_settings_are_checked(tmp_path: Path) -> None:
    for name in ("layer", "feature"):
        with pytest.raises(ValueError, match=f"the setting {name} is 3; give a name"):
            english(tmp_path, export(OSLO), **{name: 3})
