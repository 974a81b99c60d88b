"""Which columns hold tokens, tags and sentences, by what is in them: nothing is guessed without evidence."""

from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest

from spacy_crf_ner.formats.errors import FormatError
from spacy_crf_ner.formats.sniff import sniff
from spacy_crf_ner.formats.source import Source
from tests.formats.reading import found_in, put

TWO = ["Ann left", "Bob left"]
ANN_AND_BOB = [[("Ann", "PER")], [("Bob", "PER")]]

NO_TEXT = {
    "index": "1\tAnn\tB-PER\n2\tleft\tO\n\n3\tBob\tB-PER\n4\tleft\tO\n\n",
    "index from 0": "0\tAnn\tB-PER\n1\tleft\tO\n\n0\tBob\tB-PER\n1\tleft\tO\n",
    "index that restarts": "1\tAnn\tB-PER\n2\tleft\tO\n1\tBob\tB-PER\n2\tleft\tO\n",
    "index from 0 that restarts": "0\tAnn\tB-PER\n1\tleft\tO\n0\tBob\tB-PER\n1\tleft\tO\n",
    "document and index": "doc1\t1\tAnn\tB-PER\ndoc1\t2\tleft\tO\n\ndoc1\t1\tBob\tB-PER\ndoc1\t2\tleft\tO\n",
    "documents and index": "d1\t1\tAnn\tB-PER\nd1\t2\tleft\tO\nd2\t1\tBob\tB-PER\nd2\t2\tleft\tO\n",
    "sentence": "1\tAnn\tB-PER\n1\tleft\tO\n2\tBob\tB-PER\n2\tleft\tO",
    "named sentence": "s-1 Ann B-PER\ns-1 left O\ns-2 Bob B-PER\ns-2 left O\n",
    "sentence at the end": "Ann\tB-PER\t1\nleft\tO\t1\nBob\tB-PER\t2\nleft\tO\t2\n",
    "document and sentence": "d1\t1\tAnn\tB-PER\nd1\t1\tleft\tO\nd1\t2\tBob\tB-PER\nd1\t2\tleft\tO\n",
    "one value": "_\tAnn\tB-PER\n_\tleft\tO\n\n_\tBob\tB-PER\n_\tleft\tO\n",
    "one word": "news\tAnn\tB-PER\nnews\tleft\tO\n\nnews\tBob\tB-PER\nnews\tleft\tO\n",
    "offsets": "0\t3\tAnn\tB-PER\n4\t8\tleft\tO\n\n9\t12\tBob\tB-PER\n13\t17\tleft\tO\n",
    "scores": "Ann\tB-PER\t0.98\nleft\tO\t0.99\n\nBob\tB-PER\t0.5\nleft\tO\t1.0\n",
    "parts of speech": "NNP Ann B-PER\nVBD left O\n\nNNP Bob B-PER\nVBD left O\n",
    "CR as the only line end": "1\tAnn\tB-PER\r2\tleft\tO\r\r1\tBob\tB-PER\r2\tleft\tO\r",
}


@pytest.mark.parametrize("content", NO_TEXT.values(), ids=[*NO_TEXT])
def test_column_of_something_else_is_not_taken_for_the_text(tmp_path: Path, content: str) -> None:
    path = put(tmp_path, content)
    found = found_in(path, lang="en")
    assert (found.texts, found.names) == (TWO, ANN_AND_BOB)
    why = sniff(Source(path)).why
    assert "tokens in column" in why and "tags with B-" in why


def test_words_outnumber_parts_of_speech_in_a_longer_file(tmp_path: Path) -> None:
    """Parts of speech in lower case look like words; that there are few of them tells."""
    rows = "".join(f"n{'v' * (i % 3)} word{chr(97 + i % 26)}x {'B-A' if i % 9 == 0 else 'O'}\n" for i in range(60))
    path = put(tmp_path, rows.replace(" word", " w"))
    assert sniff(Source(path)).settings == {"scheme": "bio", "token_column": 1}


SEVERAL: List[Tuple[str, str]] = [
    ("Ann\tAnn\tB-PER\nleft\tleave\tO\n", "token_column=N"),  # form and lemma
    ("王 nr B-PER\n去 v O\n沪 ns B-LOC\n", "token_column=N"),
    ("1\tB-PER\n2\tO\n\n1\tO\n2\tO\n", "token_column=N"),  # the tokens are not there
    ("_ B-PER\n_ I-PER\n_ O\n", "token_column=N"),
    ("1\t5\tB-PER\n2\t9\tO\n", "token_column=N"),
    ("1\tAnn\tB-PER\tO\n2\tLee\tI-PER\tO\n3\tging\tO\tO\n4\tRom\tB-LOC\tB-LOC\n\n", "tag_column=N"),  # GermEval
    ("Ann B-PER B-PER\nleft O B-LOC\nRom B-LOC B-LOC\n", "tag_column=N"),  # gold, predicted
    ("Ann B-PER B-LOC\nleft O O\n", "tag_column=N"),
    ("1\tAnn\tB-PER\n1\tleft\tO\n2\tBob\tB-PER\n", "sentence_column=0 or --set index_column=0"),
]


@pytest.mark.parametrize(("content", "setting"), SEVERAL)
def test_what_two_columns_would_do_for_is_refused(tmp_path: Path, content: str, setting: str) -> None:
    with pytest.raises(FormatError, match=rf"a\.txt:1: .*{setting}"):
        found_in(put(tmp_path, content))


def test_refusal_says_what_the_columns_hold(tmp_path: Path) -> None:
    with pytest.raises(FormatError) as caught:
        found_in(put(tmp_path, SEVERAL[5][0]))
    assert caught.value.what == (
        "several columns hold tags: column 2 (2 entities: LOC, PER), column 3 (1 entity: LOC)"
    )
    with pytest.raises(FormatError, match=r"column 0 \('Ann', 'left'\) and column 1 \('Ann', 'leave'\)"):
        found_in(put(tmp_path, SEVERAL[0][0]))


@pytest.mark.parametrize(
    ("content", "settings", "names"),
    [
        (SEVERAL[5][0], {"tag_column": 2}, [[("Ann Lee", "PER"), ("Rom", "LOC")]]),
        (SEVERAL[5][0], {"tag_column": 3}, [[("Rom", "LOC")]]),
        (SEVERAL[5][0], {"tag_column": -1}, [[("Rom", "LOC")]]),
        (SEVERAL[6][0], {"tag_column": 1}, [[("Ann", "PER"), ("Rom", "LOC")]]),
        (SEVERAL[0][0], {"token_column": 1}, [[("Ann", "PER")]]),
        (SEVERAL[2][0], {"token_column": 0}, [[("1", "PER")], []]),
        (SEVERAL[8][0], {"sentence_column": 0}, ANN_AND_BOB),
        (SEVERAL[8][0], {"index_column": 0}, [[("Ann", "PER")], [("Bob", "PER")]]),
    ],
)
def test_setting_decides_and_the_rest_is_told(
    tmp_path: Path, content: str, settings: Dict[str, Any], names: List[List[Tuple[str, str]]]
) -> None:
    assert found_in(put(tmp_path, content), lang="en", **settings).names == names


def test_chunks_beside_entities_are_told_and_not_read(tmp_path: Path) -> None:
    """The chunks of CoNLL-2003 are tags, too."""
    path = put(tmp_path, "EU NNP I-NP I-ORG\nsaid VBZ I-VP O\n\nPeter NNP I-NP I-PER\nleft VBD I-VP O\n")
    guess = sniff(Source(path))
    assert (guess.format, guess.settings) == ("conll", {"scheme": "iob1"})
    assert guess.why.endswith("column 2 holds 4 entities: NP, VP (--set tag_column=2 reads it)")
    found = found_in(path, lang="en")
    assert found.names == [[("EU", "ORG")], [("Peter", "PER")]]
    assert found.counts.notes["tags in column 2, which is not read (--set tag_column=2 reads it)"] == 4


def test_tags_beside_those_read_are_counted_wherever_they_begin(tmp_path: Path) -> None:
    """Beyond what is looked at, a nested entity shows in the counts."""
    row = "Ann\tB-PER\tO\nleft\tO\tO\n\n"
    found = found_in(put(tmp_path, row * 1500 + "Rom\tB-LOC\tB-LOC\nleft\tO\tO\n"), lang="en")
    assert found.counts.entities == {"PER": 1500, "LOC": 1}
    assert found.counts.notes["tags in column 2, which is not read (--set tag_column=2 reads it)"] == 1


def test_equal_tag_columns_are_no_choice(tmp_path: Path) -> None:
    path = put(tmp_path, "Ann B-PER B-PER\nleft O O\n")
    assert found_in(path, lang="en").names == [[("Ann", "PER")]]


@pytest.mark.parametrize(
    "content", ["1\tAnn\tB-PER\n2\tleft\tO\n", "_ Ann B-PER\n_ left O\n", "0 Ann B-A\n0 x O\n"]
)
def test_first_column_without_text_is_refused_where_the_format_is_given(tmp_path: Path, content: str) -> None:
    path = put(tmp_path, content)
    with pytest.raises(FormatError, match=r"column 0 holds no text: .*token_column=N"):
        found_in(path, format="conll", lang="en")
    assert found_in(path, format="conll", lang="en", token_column=1).names[0][0][0] == "Ann"


def test_index_column_must_hold_numbers(tmp_path: Path) -> None:
    path = put(tmp_path, "1\tAnn\tB-PER\nx\tleft\tO\n")
    with pytest.raises(FormatError, match=r":2: 'x' in the index_column is not a number"):
        found_in(path, format="conll", token_column=1, index_column=0)


BARE = [
    (
        "London\tlocation-GPE\nof\tO\nNew\tlocation\nYork\tlocation\nis\tO\n",
        [("London", "location-GPE"), ("New York", "location")],
    ),
    ("Ann PER\nLee PER\nRom LOC\nwent O\n", [("Ann Lee", "PER"), ("Rom", "LOC")]),
    ("I O\nsaw O\nit O\nin O\nRom LOC\n", [("Rom", "LOC")]),
]


@pytest.mark.parametrize(("content", "names"), BARE)
def test_bare_labels_of_neighbours_are_one_entity(
    tmp_path: Path, content: str, names: List[Tuple[str, str]]
) -> None:
    path = put(tmp_path, content)
    assert sniff(Source(path)).settings == {"scheme": "bare"}
    assert found_in(path, lang="en").names == [names]


@pytest.mark.parametrize(
    ("tags", "spelling"),
    [
        ("B_PER I_PER O", "B_PER"),
        ("PER-B PER-I O", "PER-B"),
        ("PER_B PER_I O", "PER_B"),
        ("b-PER i-PER o", "b-per"),
        ("b_PER i_PER O", "b_per"),
        ("PER-b PER-i o", "per-b"),
        ("PER_b PER_i o", "per_b"),
    ],
)
@pytest.mark.parametrize("more", ["", "\tx"])
def test_tags_of_other_spellings_are_told(tmp_path: Path, tags: str, spelling: str, more: str) -> None:
    rows = zip(["Ann", "Lee", "left"], tags.split())
    path = put(tmp_path, "".join(f"{token}{more}\t{tag}\n" for token, tag in rows))
    assert sniff(Source(path)).settings["spelling"] == spelling
    assert found_in(path, lang="en").names == [[("Ann Lee", "PER")]]


@pytest.mark.parametrize("tags", ["B I O", "b i o", "B E O", "B L O"])
@pytest.mark.parametrize("more", ["", " NN"])
def test_tags_without_a_label_need_one(tmp_path: Path, tags: str, more: str) -> None:
    rows = zip(["p53", "gene", "is"], tags.split())
    path = put(tmp_path, "".join(f"{token}{more} {tag}\n" for token, tag in rows))
    assert found_in(path, lang="en", type="GENE").names == [[("p53 gene", "GENE")]]
    with pytest.raises(FormatError, match=r":1: tag .* has no label; .*--set type=LABEL"):
        found_in(path, lang="en")


@pytest.mark.parametrize("type", ["", "a b", 3, ["GENE"]])
def test_label_of_all_must_be_one(tmp_path: Path, type: Any) -> None:
    with pytest.raises(ValueError, match=r"the setting type is .*; give a label"):
        found_in(put(tmp_path, "a B\n"), format="bio", type=type)


def test_bmewo(tmp_path: Path) -> None:
    path = put(tmp_path, "Ann W-PER\nin O\nNew B-LOC\nYork M-LOC\nCity E-LOC\n")
    assert sniff(Source(path)).format == "bmewo"
    assert found_in(path, lang="en").names == [[("Ann", "PER"), ("New York City", "LOC")]]


CHARACTERS = "王明去了北京大学他说今天是个好日子呢我们走吧"


@pytest.mark.parametrize(
    "other", ["w{i}", "{i}:{j}", "[{i},{j}]", "{i}_{j}", "00:00:{i}.1", "http://x/{i}", "Rom:{i}"]
)
@pytest.mark.parametrize("first", [True, False])
def test_names_places_and_times_that_all_differ_are_no_text(tmp_path: Path, other: str, first: bool) -> None:
    """They have more values than the characters of a text."""
    rows = []
    for i in range(150):
        cells = [CHARACTERS[i % len(CHARACTERS)], other.format(i=i, j=i + 1)]
        rows.append([*(reversed(cells) if first else cells), "B-PER" if i % 9 == 0 else "O"])
    path = put(tmp_path, "".join("\t".join(row) + "\n" for row in rows))
    assert sniff(Source(path)).settings.get("token_column", 0) == int(first)


@pytest.mark.parametrize(
    "content",
    [
        "SOCCER n O\nJAPAN n B-LOC\nWIN v O\nCHINA n B-LOC\n",
        "SOCCER Noun O\nJAPAN Noun B-LOC\nWIN Verb O\nCHINA Noun B-LOC\n",
        "1998 CD O\n12 NN B-PER\n13 CD O\n",
        "12\tNUM\tB-X\n13\tNOUN\tO\n\n14\tNUM\tO\n",
        "a O O\nb O O\n",
        "王明去 ||| B-PER I-PER O\n",
    ],
)
def test_tokens_in_capitals_or_numbers_are_not_passed_over(tmp_path: Path, content: str) -> None:
    with pytest.raises(FormatError, match=r"a\.txt:1: .*(token|tag)_column=N"):
        found_in(put(tmp_path, content))


@pytest.mark.parametrize(
    "tags", ["B:PER I:PER", "B.PER I.PER", "PER/B PER/I", "BEGIN-PER INSIDE-PER", "BPER IPER"]
)
@pytest.mark.parametrize("line", ["{}\t{}\n", "{}/{} "])
def test_tags_in_a_spelling_that_is_not_known_are_no_labels(tmp_path: Path, tags: str, line: str) -> None:
    rows = zip(["Ann", "Lee", "left", "x"], [*tags.split(), "O", "O"])
    with pytest.raises(FormatError, match=r"of no format that can be told|has no label"):
        found_in(put(tmp_path, "".join(line.format(token, tag) for token, tag in rows)))


@pytest.mark.parametrize("tag", ["B-PER,B-LOC", "B-PER|I-LOC", "B-PER\u200b", "B-PER\x02I-PER"])
def test_several_tags_and_what_does_not_print_are_no_label(tmp_path: Path, tag: str) -> None:
    with pytest.raises(FormatError):
        found_in(put(tmp_path, f"Ann\t{tag}\nleft\tO\n"))


@pytest.mark.parametrize(
    "content", ["Ann 2 B-PER\nbig 2 O\nleft 3 O\nx 0 O\n", "Ann B-PER 0.9\nleft O 0.8\nRom O 0.8\n"]
)
def test_heads_and_scores_are_no_sentences(tmp_path: Path, content: str) -> None:
    assert len(found_in(put(tmp_path, content), lang="en").docs) == 1


@pytest.mark.parametrize(
    "content",
    [
        "SOCCER NN I-NP O\nJAPAN NNP I-NP I-LOC\nLUCKY NNP I-NP O\n",
        "-DOCSTART- -X- O O\n\nEl DA O O\nAbogado NC O B-PER\n",
    ],
)
def test_files_of_the_shared_tasks_have_the_token_first(tmp_path: Path, content: str) -> None:
    assert "token_column" not in sniff(Source(put(tmp_path, content))).settings


@pytest.mark.parametrize("content", ["doc1\t1\tAnn\tB-PER\ndoc2\t2\tleft\tO\n", "1.1\tAnn\tB-PER\n1.2\tleft\tO\n"])
def test_column_whose_cells_all_hold_a_digit_is_no_text_for_conll(tmp_path: Path, content: str) -> None:
    with pytest.raises(FormatError, match="column 0 holds no text"):
        found_in(put(tmp_path, content), format="conll")


def test_csv_asks_which_column_holds_the_tags_and_the_sentences(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"'Tag' .* and 'Pred' .* hold tags; .* --set tag_column=Tag"):
        found_in(put(tmp_path, "Word,Tag,Pred\nAnn,B-PER,O\nleft,O,B-LOC\n"))
    with pytest.raises(FormatError, match=r"'doc' may name the sentences; .* --set sentence_column=doc"):
        found_in(put(tmp_path, "doc,x,word,tag\n1,1,Ann,B-PER\n1,1,left,O\n2,1,Bob,B-PER\n"))
    assert found_in(put(tmp_path, "Word,Tag\nAnn,S-PER\nleft,O\n"), lang="en").names == [[("Ann", "PER")]]


def test_label_studio_text_that_could_be_one_of_several_is_asked_for(tmp_path: Path) -> None:
    task = '[{"data": {"id": "7", "my": "Ann left"}, "annotations": [{"result": []}]}]'
    with pytest.raises(FormatError, match="text_key=NAME"):
        found_in(put(tmp_path, task))


def test_units_of_single_characters_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"scheme=bare .* scheme=whole"):
        found_in(put(tmp_path, "王/nr 明/nr 去/o 北/ns 京/ns\n"))


def test_encoding_that_asks_for_a_mark(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"a\.txt:1: not UTF-16 .* --encoding"):
        list(Source(put(tmp_path, "王 O\n".encode("utf-16-le")), encoding="utf-16").lines())
