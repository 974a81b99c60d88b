import gzip
import json
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Any, Dict, List, Union

import pytest
from spacy.tokens import Doc, DocBin

from spacy_crf_ner.formats.errors import FormatError
from spacy_crf_ner.formats.guess import Guess
from spacy_crf_ner.formats.sniff import sniff
from spacy_crf_ner.formats.source import HEAD, Source
from spacy_crf_ner.tagging import SCHEMES
from tests.formats.reading import BLANK, found_in, put

LONG = "中" * 30


def guess(folder: Path, content: Union[str, bytes]) -> Guess:
    return sniff(Source(put(folder, content)))


def column(tags: str, separator: str = " ") -> str:
    """A sentence of as many characters as there are tags."""
    rows = zip(cycle("中国人民"), tags.split())
    return "".join(f"{character}{separator}{tag}\n" for character, tag in rows) + "\n"


TAGGED: "List[tuple[str, str, Dict[str, Any]]]" = [
    ("B-A I-A O", "bio", {}),
    ("B-A O B-A", "bio", {}),
    ("O O", "bio", {}),
    ("B-A O I-A", "bio", {}),
    ("O B-A", "bio", {}),
    ("I-A O", "iob1", {}),
    ("I-A B-A O I-B", "iob1", {}),
    ("I-A I-B", "iob1", {}),
    ("S-A B-A I-A", "bios", {}),
    ("B-A I-A E-A S-A", "bioes", {}),
    ("B-A I-A E-A", "bioes", {}),
    ("B-A I-A L-A U-A", "biluo", {}),
    ("O U-A", "biluo", {}),
    ("B-A M-A E-A S-A", "bmes", {}),
    ("B-PER.NAM I-PER.NAM B-creative-work", "bio", {}),
]


@pytest.mark.parametrize("separator", [" ", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize(("tags", "format", "settings"), TAGGED)
def test_schemes_are_told_by_their_letters(
    tmp_path: Path, tags: str, format: str, settings: Dict[str, Any], separator: str, newline: str
) -> None:
    found = guess(tmp_path, column(tags, separator).replace("\n", newline))
    assert (found.format, found.settings) == (format, settings)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_file_of_a_scheme_is_read_with_what_it_was_taken_for(tmp_path: Path, scheme: str) -> None:
    spans = [(0, 3, "A"), (3, 4, "A"), (5, 7, "B"), (8, 9, "A")]
    rows = zip("中国人民在北京的我", SCHEMES[scheme].write(9, spans))
    path = put(tmp_path, "".join(f"{token} {tag}\n" for token, tag in rows))
    assert sniff(Source(path)).format == scheme
    assert found_in(path).ents == [spans]


def test_stray_tags_do_not_make_a_file_iob1(tmp_path: Path) -> None:
    """As in Weibo NER, where a few I- follow O."""
    assert guess(tmp_path, column("B-A I-A O I-B") + column("B-A O")).format == "bio"
    assert guess(tmp_path, column("I-A O") + column("O B-A") * 2).format == "bio"
    assert guess(tmp_path, column("B-A I-A") + column("B-A")).format == "bio"  # an empty line stands between


@pytest.mark.parametrize("bad", ["中 X-A", "中", "中 NN O", "中 E-A", "中 I-B", "中 ", " O", "\ufffd\t\tx"])
@pytest.mark.parametrize(
    ("format", "tags"), {"bio": "B-A I-A O", "bmes": "B-A M-A E-A S-B", "iob1": "I-A O"}.items()
)
def test_line_that_is_wrong_is_left_for_the_reader_to_name(
    tmp_path: Path, bad: str, tags: str, format: str
) -> None:
    path = put(tmp_path, f"{column(tags)}中 O\n{bad}\n\n{column(tags) * 5}")
    assert sniff(Source(path)).format == format
    if (format, bad) not in (("bmes", "中 E-A"), ("iob1", "中 I-B")):
        with pytest.raises(FormatError, match=f":{len(tags.split()) + 3}: "):
            found_in(path)


def test_bytes_that_are_wrong_are_left_for_the_reader_to_name(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r":1: not UTF-8 \(byte 0xd6 "):
        found_in(put(tmp_path, column("B-A I-A O").encode("gb18030")))


@pytest.mark.parametrize("separator", [" ", "\t", "\n"])
def test_empty_tags_and_separator_lines_are_no_obstacle(tmp_path: Path, separator: str) -> None:
    assert guess(tmp_path, f"\n中\tB-A\n国\t\n{separator}\n人\tI-A\n").format == "bio"
    assert guess(tmp_path, f"中\tI-A\n{separator}\n国\tB-A\n{separator}\n" * 2).format == "bio"
    assert guess(tmp_path, f"中\tO\n{separator}\n" * 9) == ("bio", {}, "tags that are all O")


@pytest.mark.parametrize("first", ["[", "{", "x", "x^", "x\x01", "xoxo", "#", "　", " ", "\u2028", "中"])
def test_first_token_does_not_mislead(tmp_path: Path, first: str) -> None:
    path = put(tmp_path, f"{first} O\n国 B-LOC\n人 O\n")
    assert sniff(Source(path)).format == "bio"
    assert found_in(path).names == [[("国", "LOC")]]


def test_byte_order_mark_does_not_mislead(tmp_path: Path) -> None:
    assert guess(tmp_path, "\ufeff" + column("B-A I-A")).format == "bio"
    assert guess(tmp_path, '\ufeff{"text": "中", "label": {}}').format == "cluener"


RECORDS: "List[tuple[str, Dict[str, Any]]]" = [
    ("cluener", {"text": "中国", "label": {"LOC": {"中国": [[0, 1]]}}}),
    ("cluener", {"label": {}, "text": "中国"}),
    ("jsonl", {"text": "中国", "label": [[0, 2, "LOC"]]}),
    ("jsonl", {"text": "中国", "labels": [[0, 2, "LOC"]]}),
    ("jsonl", {"id": 1, "text": "中国", "entities": [], "relations": []}),
    ("jsonl", {"text": "中国", "tokens": [], "spans": [{"start": 0, "end": 2, "label": "LOC"}]}),
    ("jsonl", {"id": 1, "data": {"text": "中国"}, "annotations": []}),
    ("jsonl", {"text": "中国"}),
    ("spert", {"tokens": ["a"], "entities": [], "relations": []}),
]


@pytest.mark.parametrize("style", ["lines", "array", "pretty", "one line array"])
@pytest.mark.parametrize(("format", "record"), RECORDS)
def test_json_is_told_by_the_keys_of_the_first_record(
    tmp_path: Path, format: str, record: Dict[str, Any], style: str
) -> None:
    line = json.dumps(record, ensure_ascii=False)
    content = {
        "lines": f"{line}\n{line}\n",
        "array": f"[\n{line},\n{line}\n]\n",
        "pretty": json.dumps([record, record], indent=4),
        "one line array": f"[{line}, {line}]",
    }[style]
    found = guess(tmp_path, content)
    assert (found.format, found.settings) == (format, {})
    assert "in the first record" in found.why


@pytest.mark.parametrize(
    ("start", "format"),
    [
        ('{"label": {"LOC": {"中": [[0, 0]]}}, "text": "中', "cluener"),
        ('{"spans": [], "text": "中', "jsonl"),
        ('{"label": [], "text": "中', "jsonl"),
        ('{"text": "中', "jsonl"),
        ('[{"relations": [], "entities": [], "tokens": ["中', "spert"),
    ],
)
@pytest.mark.parametrize("pretty", [False, True])
def test_record_that_the_head_does_not_hold_is_told_by_the_keys_in_it(
    tmp_path: Path, start: str, format: str, pretty: bool
) -> None:
    start = start.replace(', "', ',\n "') if pretty else start
    assert guess(tmp_path, start + "国" * HEAD + '"').format == format


@pytest.mark.parametrize("size", [HEAD, HEAD + 1, HEAD + 2, HEAD + 100])
@pytest.mark.parametrize(("column", "format"), [("", "bio"), (" x", "conll")])
def test_head_may_end_inside_a_line_or_a_character(tmp_path: Path, size: int, column: str, format: str) -> None:
    row = f"{LONG}{column} B-A\n{LONG[1:]}国{column} I-A\n\n"
    for shift in range(4):
        content = "\n" * shift + row * HEAD
        assert guess(tmp_path, content.encode()[:size]).format == format


def test_file_without_a_line_end_in_its_head(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="no format that can be told"):
        guess(tmp_path, "中" * HEAD)


def test_what_follows_the_head_is_not_looked_at(tmp_path: Path) -> None:
    path = put(tmp_path, column("B-A I-A") * 6000 + "and text that is of no format\n")
    assert sniff(Source(path)).format == "bio"


@pytest.mark.parametrize(
    ("content", "settings"),
    [
        ("a NN B-A\nb NN I-A\n", {"scheme": "bio"}),
        ("a\tNN\tI-NP\tI-A\nb\tNN\tI-NP\tO\n", {"scheme": "iob1"}),
        ("a NN S-A\nb NN B-A\nb NN E-A\n", {"scheme": "bioes"}),
        ("a  B-A\nb   I-A\n", {"scheme": "bio"}),
        ("a B-A NN\nb I-A VB\n", {"scheme": "bio", "tag_column": 1}),
        ("B-A a\nI-A b\n", {"scheme": "bio", "tag_column": 0, "token_column": 1}),
        ("O a NN\nU-A b VB\n", {"scheme": "biluo", "tag_column": 0, "token_column": 1}),
        ("# text = a b\na B-A\nb I-A\n", {"scheme": "bio"}),
        ("-DOCSTART- -X- O\n\na NN B-A\n", {"scheme": "bio"}),
        ("-DOCSTART-\n\na NN B-A\n", {"scheme": "bio"}),
        ("-DOCSTART- O\n\na B-A\n", {"scheme": "bio"}),
        ("a\tB-A\n\n-DOCSTART-\tO\n\nb\tO\n", {"scheme": "bio"}),
    ],
)
def test_columns_are_told_with_their_settings(tmp_path: Path, content: str, settings: Dict[str, Any]) -> None:
    path = put(tmp_path, content)
    found = sniff(Source(path))
    assert (found.format, found.settings) == ("conll", settings)
    docs = found_in(path, lang="en")
    assert [names for names in docs.names if names] in ([[("a b", "A")]], [[("a", "A")]], [[("b", "A")]],
                                                      [[("a", "A"), ("b b", "A")]])  # fmt: skip
    assert "DOCSTART" not in " ".join(docs.texts)


def test_why_says_what_was_seen(tmp_path: Path) -> None:
    assert guess(tmp_path, "a NN B-A\n").why == "3 columns, tokens in column 0, tags with B- in column 2"
    assert guess(tmp_path, "B-A a\n").why == "2 columns, tokens in column 1, tags with B- in column 0"
    why = guess(tmp_path, "-DOCSTART-\n\na NN B-A\n").why
    assert why == "3 columns, -DOCSTART- lines, tokens in column 0, tags with B- in column 2"
    assert (
        guess(tmp_path, "a\tNN\tB-A\n\t\nb\tNN\tO\n").why
        == "3 columns, tokens in column 0, tags with B- in column 2"
    )
    assert guess(tmp_path, "a O\n").why == "tags that are all O"
    assert guess(tmp_path, column("B-A I-A E-A")).why == "tags with B-, E-, I-"
    assert guess(tmp_path, column("I-A O")).why == "tags with I-, of which I- begins entities"


def test_positions_are_told(tmp_path: Path) -> None:
    path = put(tmp_path, "科0\tB-A\n技1\tI-A\n全0\tO\n\n10\tO\n01\tO\n")
    found = sniff(Source(path))
    assert (found.format, found.settings) == ("bio", {"positions": True})
    assert "position" in found.why
    assert found_in(path).texts == ["科技全", "10"]


def test_positions_are_told_though_a_few_are_out_of_order(tmp_path: Path) -> None:
    assert guess(tmp_path, "科0\tO\n技1\tO\n" * 20 + "全3\tO\n方0\tO\n").settings == {"positions": True}
    assert guess(tmp_path, "科0\tO\n技2\tO\n全1\tO\n" * 20).settings == {}


@pytest.mark.parametrize("rows", ["中0\n国2", "中0\n国0", "中0\n国", "a1\nb2", "COVID19\nSARS2"])
def test_digits_that_are_no_positions_stay(tmp_path: Path, rows: str) -> None:
    content = "".join(f"{token}\tO\n" for token in rows.split("\n"))
    assert guess(tmp_path, content).settings == {}


def test_docbin_is_told_compressed_or_not(tmp_path: Path) -> None:
    data = DocBin(docs=[Doc(BLANK["zh"].vocab, words=["中"], spaces=[False])]).to_bytes()
    assert guess(tmp_path, data).format == guess(tmp_path, gzip.compress(data)).format == "spacy"
    assert found_in(put(tmp_path, gzip.compress(data))).texts == ["中"]


@pytest.mark.parametrize("content", ["", "\n\n", " \t\r\n", "\ufeff", "\ufeff\n", gzip.compress(b"", mtime=0)])
def test_empty_file_is_refused(tmp_path: Path, content: Union[str, bytes]) -> None:
    with pytest.raises(FormatError, match=r"a\.txt:1: holds no text; give a file with annotated sentences"):
        guess(tmp_path, content)


@pytest.mark.parametrize(
    "content",
    [
        "It is a text.\nIt has lines.\n",
        "text,label\n中国,LOC\n",
        "id\ttext\tlabel\n1\t中国\tLOC\n",
        "# A title\n\nA README, as there are many.\n\n    code O\n",
        "中国\n",
        '{"name": "spacy-crf-ner", "version": 1}',
        '[1, 2, {"text": "中"}]',
        "[]",
        '{"a":' * 20_000,
        '{"n": ' + "1" * 5000 + "}",
        "\x00\x01\x02 PNG \n\x89",
        Random(0).randbytes(500) + b"\n\x00",
    ],
    ids=["text", "csv", "tsv", "readme", "line", "json", "array", "empty", "deep", "number", "binary", "random"],
)
def test_what_is_of_no_format_is_refused(tmp_path: Path, content: Union[str, bytes]) -> None:
    with pytest.raises(FormatError, match=r"a\.txt:1: .*(--format|--encoding)"):
        guess(tmp_path, content)


REAL = {
    "msra/*.bio": ("bio", {}),
    "msra_45k/*": ("bio", {}),
    "cluener/*.json": ("cluener", {}),
    "weibo/*": ("bio", {"positions": True}),
    "wnut17/*": ("bio", {}),
    "conll04/*.json": ("spert", {}),
}


@pytest.mark.parametrize(("pattern", "expected"), REAL.items(), ids=[*REAL])
def test_real_files(data_dir: Path, pattern: str, expected: "tuple[str, Dict[str, Any]]") -> None:
    paths = sorted(data_dir.glob(pattern))
    assert paths
    assert [tuple(sniff(Source(path)))[:2] for path in paths] == [expected] * len(paths)


@pytest.mark.parametrize("name", ["char_vectors/tencent_char_200d.vec", "README.md"])
def test_real_files_of_no_format(data_dir: Path, name: str) -> None:
    with pytest.raises(FormatError, match="no format that can be told"):
        sniff(Source(data_dir / name))


@pytest.mark.parametrize(
    ("content", "settings"),
    [
        ("# id = 1\n1\tAnn\tB-PER\t-\n2\tin\tO\t-\n\n1\tRome\tB-LOC\t-\n", {"token_column": 1, "tag_column": 2}),
        ("#\thttp://x\n1\tAnn\tB-PER\tO\n2\tin\tO\tO\n", {"token_column": 1, "tag_column": 2}),
        ("中\tB-LOC\t\n国\tI-LOC\t\n", {"tag_column": 1}),
        ("中\tNN\tO\n国\tNN\tO\n", {}),
    ],
    ids=["CoNLL-U", "GermEval", "trailing TAB", "all O"],
)
def test_columns_are_those_with_the_tokens_and_the_entities(
    tmp_path: Path, content: str, settings: Dict[str, Any]
) -> None:
    found = guess(tmp_path, content)
    assert (found.format, dict(found.settings)) == ("conll", {"scheme": "bio", **settings})


def test_keys_of_a_record_that_is_not_known_are_told(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"keys 'sentence', 'x' is of no format .*text_key=NAME"):
        guess(tmp_path, '{"sentence": "中", "x": 1}\n')
