from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest

from spacy_crf_ner.formats.errors import FormatError
from spacy_crf_ner.formats.inline import NEIGHBOURS
from spacy_crf_ner.formats.sniff import sniff
from spacy_crf_ner.formats.source import Source
from tests.formats.reading import found_in, put

Names = List[Tuple[str, str]]

LINES: "List[Tuple[str, Dict[str, Any], List[Names]]]" = [
    ("王 B-PER 明 I-PER 去 O 沪 B-LOC\n", {"separator": " ", "scheme": "bio"}, [[("王明", "PER"), ("沪", "LOC")]]),
    ("王/B-PER 明/I-PER 去/O\n", {"scheme": "bio"}, [[("王明", "PER")]]),
    ("我们/o 华盛顿/ns 去/o\n", {"scheme": "whole"}, [[("华盛顿", "ns")]]),
    ("华盛顿/ns 北京/ns 去/o\r\n", {"scheme": "whole"}, [[("华盛顿", "ns"), ("北京", "ns")]]),
    ("我们/O 华盛顿/LOC 去/O\n", {"scheme": "bare"}, [[("华盛顿", "LOC")]]),
    ("王 S-PER 去 O\n\n沪 S-LOC\n", {"separator": " ", "scheme": "bios"}, [[("王", "PER")], [("沪", "LOC")]]),
    ("  王/B_PER 　去/O  \n沪/B_LOC", {"scheme": "bio", "spelling": "B_PER"}, [[("王", "PER")], [("沪", "LOC")]]),
    ("1/2/B-NUM 去/O\n", {"scheme": "bio"}, [[("1/2", "NUM")]]),
    (
        "\ufeff王 B-PER 去 O\r去 O 王 B-PER\r",
        {"separator": " ", "scheme": "bio"},
        [[("王", "PER")], [("王", "PER")]],
    ),
]


@pytest.mark.parametrize(("content", "settings", "names"), LINES)
def test_tokens_and_tags_of_a_line(
    tmp_path: Path, content: str, settings: Dict[str, Any], names: List[Names]
) -> None:
    path = put(tmp_path, content)
    guess = sniff(Source(path))
    assert (guess.format, guess.settings) == ("inline", settings)
    assert found_in(path).names == names


@pytest.mark.parametrize(
    ("content", "format"),
    [
        ("王 B-PER\n明 I-PER\n", "bio"),
        ("EU I-NP NNP I-ORG\nsaid I-VP VBZ O\n", "conll"),  # columns, though tags stand in every second
        ("中\tB-PER\t国\tO\n", "conll"),
    ],
)
def test_columns_are_not_taken_for_it(tmp_path: Path, content: str, format: str) -> None:
    path = put(tmp_path, content)
    try:
        assert sniff(Source(path)).format == format
    except FormatError as error:
        assert "column" in error.what


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("我们/O 华盛顿/LOC 北京/LOC\n", "neighbouring tokens have one label; .*scheme=bare .*scheme=whole"),
        ("Ann/NNP/B-PER left/VBD/O\n", "each token has several tags"),
        ("我们/r 去/v 华盛顿/ns\n", "no format that can be told"),  # parts of speech
        ("and/or this or/and that\n", "no format that can be told"),
    ],
)
def test_what_is_not_clear_is_refused(tmp_path: Path, content: str, what: str) -> None:
    with pytest.raises(FormatError, match=rf":1: .*{what}"):
        found_in(put(tmp_path, content))


def test_scheme_decides_of_neighbours_and_they_are_counted(tmp_path: Path) -> None:
    path = put(tmp_path, "我们/O 华盛顿/LOC 北京/LOC\n华盛顿/LOC\n")
    whole = found_in(path, format="inline", scheme="whole")
    assert whole.names == [[("华盛顿", "LOC"), ("北京", "LOC")], [("华盛顿", "LOC")]]
    bare = found_in(path, format="inline", scheme="bare")
    assert bare.names == [[("华盛顿北京", "LOC")], [("华盛顿", "LOC")]]
    assert (whole.counts.notes[NEIGHBOURS], bare.counts.notes[NEIGHBOURS]) == (0, 1)


@pytest.mark.parametrize(
    ("content", "separator", "what"),
    [
        ("王/O 明\n", "/", "token '明' has no tag; write the tag after '/'"),
        ("王/O /O\n", "/", "tag 'O' has no token"),
        ("王/O 明/\n", "/", "token '明' has no tag"),
        ("王 O 明\n", " ", "token '明' has no tag; write the tag after ' '"),
        ("王/X-A\n", "/", "tag 'X-A' is not a tag of bio"),
        ("王/O 明/I-A\n", "/", "tag 'I-A' continues no A entity"),
    ],
)
def test_line_that_is_wrong_is_named(tmp_path: Path, content: str, separator: str, what: str) -> None:
    with pytest.raises(FormatError, match=rf"a\.txt:2: {what}"):
        found_in(put(tmp_path, f"好{separator}O\n{content}"), format="inline", separator=separator)


@pytest.mark.parametrize("separator", ["", "  ", "a b", 3, None])
def test_separator_must_be_one(tmp_path: Path, separator: Any) -> None:
    with pytest.raises(ValueError, match="the setting separator is "):
        found_in(put(tmp_path, "a/O\n"), format="inline", separator=separator)
