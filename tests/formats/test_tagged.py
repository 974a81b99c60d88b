from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any, List

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spacy_crf_ner.formats.doc_builder import DocMaker
from spacy_crf_ner.formats.errors import FormatError
from spacy_crf_ner.formats.source import Source
from spacy_crf_ner.formats.tagged import OUT_OF_ORDER, read_bio
from spacy_crf_ner.tagging import EMPTY_TAG, STRAY_INSIDE
from tests.formats.reading import BLANK, found_in, put
from tests.formats.util import BAD_LINES, REPAIRABLE_LINES, Column, sentences, write_bio
from tests.util import n_drawn


@pytest.mark.parametrize("separator", [" ", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@settings(max_examples=n_drawn(50))
@given(written=st.lists(sentences(), min_size=1, max_size=5))
def test_reads_what_was_written(
    written: List[List[Column]], separator: str, newline: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("bio") / "a.bio"
    write_bio(path, written, separator=separator, newline=newline)
    found = found_in(path, format="bio")
    assert found.texts == ["".join(token for token, _ in columns) for columns in written]
    assert found.counts.tokens == sum(map(len, written))
    labels = [[tag[2:] for _, tag in columns if tag.startswith("B-")] for columns in written]
    assert [[label for _, label in names] for names in found.names] == labels


@pytest.mark.parametrize("end", ["", "\n", "\n\n", "\n\n\n"])
def test_last_sentence_needs_no_empty_line(tmp_path: Path, end: str) -> None:
    assert found_in(put(tmp_path, f"中 O\n\n国 O{end}"), format="bio").texts == ["中", "国"]


@pytest.mark.parametrize("empty", ["", " ", "\t", "\n", "\r"])
def test_line_of_one_separator_ends_a_sentence(tmp_path: Path, empty: str) -> None:
    found = found_in(put(tmp_path, f"中 B-LOC\n{empty}\n国 O\n"), format="bio")
    assert found.texts == ["中", "国"]


def test_tweets_whose_sentences_end_at_a_tab(tmp_path: Path) -> None:
    """As the training file of WNUT17."""
    found = found_in(put(tmp_path, "@paul\tO\nEmpire\tB-location\n\t\nHe\tO\n\t\n"), format="bio", lang="en")
    assert found.texts == ["@paul Empire", "He"]
    assert found.names == [[("Empire", "location")], []]


def test_white_space_and_invisible_characters_are_tokens(tmp_path: Path) -> None:
    """Only TAB and SPACE separate; dev of WNUT17 has tokens of U+200B and U+FEFF."""
    found = found_in(put(tmp_path, "　 O\n\u00a0 B-A\n  I-A\n\u200b O\n\ufeff O\n\u2028 O\n\r O\n"), format="bio")
    assert found.texts == ["　\u00a0 \u200b\ufeff\u2028\r"]
    assert found.ents == [[(1, 3, "A")]]
    assert found.counts.tokens == 7


def test_byte_order_mark_is_dropped_at_the_start_only(tmp_path: Path) -> None:
    assert found_in(put(tmp_path, "\ufeff中 O\n\ufeff O\n"), format="bio").texts == ["中\ufeff"]


@pytest.mark.parametrize("repair", [False, True])
@pytest.mark.parametrize(("line", "what"), BAD_LINES)
def test_bad_line_is_named(tmp_path: Path, line: bytes, what: str, repair: bool) -> None:
    path = put(tmp_path, b"a O\n\nb O\n" + line + b"\nc O\n")
    with pytest.raises(FormatError) as caught:
        found_in(path, format="bio", repair=repair)
    assert caught.value.line == 4
    assert what in caught.value.what
    assert str(caught.value) == f"{path}:4: {caught.value.what}; {caught.value.fix}"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("line", "what"), REPAIRABLE_LINES)
def test_mendable_line_is_an_error_without_repair(tmp_path: Path, line: bytes, what: str) -> None:
    with pytest.raises(FormatError, match="--repair") as caught:
        found_in(put(tmp_path, b"a O\n\nb O\n" + line + b"\nc O\n"), format="bio")
    assert caught.value.line == 4
    assert what in caught.value.what


@pytest.mark.parametrize(
    ("tags", "ents", "empty", "stray"),
    [
        (["", "O"], [], 1, 0),
        (["I-A", "I-A"], [(0, 2, "A")], 0, 1),
        (["O", "I-A", "O"], [(1, 2, "A")], 0, 1),
        (["B-A", "I-B", "I-B"], [(0, 1, "A"), (1, 3, "B")], 0, 1),
        (["B-A", "", "I-A", "I-A"], [(0, 1, "A"), (2, 4, "A")], 1, 1),
        (["B-A", "I-A", "B-A"], [(0, 2, "A"), (2, 3, "A")], 0, 0),
    ],
)
def test_repair_mends_and_counts(
    tmp_path: Path, tags: List[str], ents: List["tuple[int, int, str]"], empty: int, stray: int
) -> None:
    path = put(tmp_path, "".join(f"中\t{tag}\n" for tag in tags))
    found = found_in(path, format="bio", repair=True)
    assert found.ents == [ents]
    assert +found.counts.notes == +Counter({EMPTY_TAG: empty, STRAY_INSIDE: stray})


def test_first_thing_wrong_is_named_though_more_follow(tmp_path: Path) -> None:
    path = put(tmp_path, "中 O\n国 I-A\n\n人 X-B\n")
    with pytest.raises(FormatError, match=r":2: "):
        found_in(path, format="bio")


def test_long_token_is_cut_in_the_message(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"token 'xxxxxxxxxxxxxxxxxxxx…' has no tag"):
        found_in(put(tmp_path, "x" * 1000), format="bio")


def test_reads_no_further_than_asked(tmp_path: Path) -> None:
    docs = read_bio(Source(put(tmp_path, "a O\n\nno-tag\n")), DocMaker(lambda: BLANK["zh"]))
    assert next(docs).text == "a"
    with pytest.raises(FormatError):
        next(docs)


@pytest.mark.parametrize("first", ["B-LOC 中\nI-LOC 国\n", "O 我\nO 在\nB-LOC 中\nI-LOC 国\n"])
@pytest.mark.parametrize("format", ["bio", "iob1"])
def test_tag_that_stands_first_is_told_with_the_settings_that_read_it(
    tmp_path: Path, first: str, format: str
) -> None:
    if format == "iob1":
        first = first.replace("B-", "I-")
    path = put(tmp_path, first)
    with pytest.raises(FormatError, match=r"a\.txt:1: tag '\w' is not a tag of") as caught:
        found_in(path, format=format)
    said = dict(setting.split("=") for setting in caught.value.fix.split() if "=" in setting)
    assert "--format conll" in caught.value.fix
    assert said.get("scheme", "bio") == format
    found = found_in(
        path,
        format="conll",
        token_column=int(said["token_column"]),
        tag_column=int(said["tag_column"]),
        scheme=said.get("scheme", "bio"),
    )
    assert found.names == [[("中国", "LOC")]]


def test_second_format_in_a_file_is_told_where_it_begins(tmp_path: Path) -> None:
    path = put(tmp_path, '中 B-LOC\n国 I-LOC\n\n{"text": "中国", "label": {}}\n')
    with pytest.raises(FormatError, match=r":4: a stray column after"):
        found_in(path, format="bio")
    path = put(tmp_path, "中 B-LOC\n国 I-LOC\n\n中 B-LOC\n国 E-LOC\n")
    with pytest.raises(FormatError, match=r":5: tag 'E-LOC' has the unknown prefix E- .*bioes or bmes"):
        found_in(path, format="bio")


@pytest.mark.parametrize("name", ["repair", "positions"])
@pytest.mark.parametrize("value", ["False", "no", 1])
def test_switch_that_is_neither_true_nor_false_is_refused(tmp_path: Path, name: str, value: Any) -> None:
    """`--set positions=False` is not JSON, and so a string, which Python takes for true."""
    with pytest.raises(ValueError, match=f"{name} is {value!r}"):
        found_in(put(tmp_path, "中0 O\n国1 O\n"), format="bio", **{name: value})


def tagged(*tokens: str) -> str:
    return "".join(f"{token}\tO\n" for token in tokens)


def test_positions_are_taken_away(tmp_path: Path) -> None:
    """As in Weibo NER: the place in the word follows the character."""
    path = put(tmp_path, "科0\tB-ORG.NAM\n技1\tI-ORG.NAM\n全0\tO\n\n　0\tO\n😀0\tO\n")
    found = found_in(path, format="bio", positions=True)
    assert found.texts == ["科技全", "　😀"]
    assert found.ents == [[(0, 2, "ORG.NAM")], []]
    assert not +found.counts.notes
    assert found.counts.characters == 5


def test_positions_have_two_digits_from_the_eleventh_character_on(tmp_path: Path) -> None:
    word = "一二三四五六七八九十甲乙丙"
    path = put(tmp_path, tagged(*(f"{character}{i}" for i, character in enumerate(word))))
    found = found_in(path, format="bio", positions=True)
    assert (found.texts, +found.counts.notes) == ([word], {})


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (["10", "01", "52"], "105"),
        (["00"], "0"),
        (["20", "01", "12", "73", "年0"], "2017年"),
        (["10", "21", "32", "43", "54", "65", "76", "87", "98", "09", "110", "211"], "123456789012"),
        (["第0", "110"], "第11"),
        (["中0", "11", "\n".join(["22\tO", "", "10"])], "中12"),
    ],
)
def test_characters_that_are_digits_keep_theirs(tmp_path: Path, tokens: List[str], text: str) -> None:
    found = found_in(put(tmp_path, tagged(*tokens)), format="bio", positions=True)
    assert found.texts[0] == text
    assert not +found.counts.notes


def test_position_begins_anew_with_each_sentence(tmp_path: Path) -> None:
    found = found_in(put(tmp_path, tagged("中0") + "\n" + tagged("国1")), format="bio", positions=True)
    assert found.texts == ["中", "国"]
    assert +found.counts.notes == {OUT_OF_ORDER: 1}


def test_positions_out_of_order_are_counted_and_taken_away(tmp_path: Path) -> None:
    found = found_in(put(tmp_path, tagged("中0", "国2", "人3", "民1", "们0")), format="bio", positions=True)
    assert found.texts == ["中国人民们"]
    assert +found.counts.notes == {OUT_OF_ORDER: 2}


@pytest.mark.parametrize("token", ["国", "0", "1", "国a", "国１", "国²", "国٣"])
def test_token_without_its_position_is_refused(tmp_path: Path, token: str) -> None:
    with pytest.raises(FormatError, match=r":2: token '.+' does not end in its position .*positions=false"):
        found_in(put(tmp_path, tagged("中0", token)), format="bio", positions=True)


def test_real_tweets(data_dir: Path) -> None:
    path = data_dir / "wnut17" / "wnut17train.conll"
    written: List[List[str]] = [[]]
    for line in path.read_bytes().decode().split("\n"):
        if line in ("", "\t"):
            written.append([])
        else:
            written[-1].append(line.rpartition("\t")[0])
    written = [sentence for sentence in written if sentence]
    found = found_in(path, lang="en")
    assert found.texts == [" ".join(sentence) for sentence in written]
    assert len(found.docs) == 3394
    assert found.counts.tokens == len(list(chain.from_iterable(written)))


@pytest.mark.parametrize(("tag", "fix"), [("b-PER", "B-PER"), ("o", "O"), ("B_PER", "B-PER"), ("i_x-y", "I-x-y")])
def test_tag_that_is_nearly_one_is_mended_in_the_message(tmp_path: Path, tag: str, fix: str) -> None:
    with pytest.raises(FormatError, match=f"; write '{fix}', or .* --set spelling="):
        found_in(put(tmp_path, f"a B-PER\nb {tag}\n"), format="bio")
