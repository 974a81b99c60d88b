import gzip
import json
import re
from pathlib import Path
from typing import Any, List, Tuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spacy_crf_ner.formats.errors import FormatError
from spacy_crf_ner.formats.json_values import values
from spacy_crf_ner.formats.source import HEAD, Source

# Whatever JSON text may hold, lone surrogates apart.
CHARACTERS = st.characters(exclude_categories=["Cs"])
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(CHARACTERS, max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(CHARACTERS, max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
RECORDS = st.lists(st.dictionaries(st.text(CHARACTERS, max_size=4), JSON, max_size=3), max_size=5)


def read(path: Path, content: "str | bytes", **limits: Any) -> List[Tuple[Any, int]]:
    path.write_bytes(content.encode("utf8") if isinstance(content, str) else content)
    return [tuple(value) for value in values(Source(path), **limits)]


def refused(path: Path, content: "str | bytes", **limits: int) -> FormatError:
    with pytest.raises(FormatError) as raised:
        read(path, content, **limits)
    assert "\n" not in str(raised.value)
    assert raised.value.path == path
    assert raised.value.fix
    return raised.value


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "records.json"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    records=RECORDS,
    layout=st.sampled_from(["lines", "pretty", "joined", "array", "pretty array"]),
    ascii_only=st.booleans(),
    newline=st.sampled_from(["\n", "\r\n"]),
    mark=st.sampled_from(["", "\ufeff"]),
)
def test_any_layout_gives_the_records(
    path: Path, records: List[Any], layout: str, ascii_only: bool, newline: str, mark: str
) -> None:
    indent = 2 if "pretty" in layout else None
    if "array" in layout:
        content = json.dumps(records, ensure_ascii=ascii_only, indent=indent)
    else:
        separator = "" if layout == "joined" else "\n"
        content = separator.join(json.dumps(record, ensure_ascii=ascii_only, indent=indent) for record in records)
    read_records = read(path, mark + content.replace("\n", newline))
    assert [record for record, _ in read_records] == records
    lines = [line for _, line in read_records]
    if layout == "lines":
        assert lines == list(range(1, len(records) + 1))
    assert lines == sorted(lines)


def test_empty_lines_are_skipped_and_counted(path: Path) -> None:
    assert read(path, '\n{"a": 1}\n\r\n \t\n{"a": 2}') == [({"a": 1}, 2), ({"a": 2}, 5)]


def test_array_over_several_lines_names_the_line_of_each_record(path: Path) -> None:
    content = '[\n  {\n    "a": 1\n  },\n\n  {"a": 2}, {"a": 3}\n]\n'
    assert read(path, content) == [({"a": 1}, 2), ({"a": 2}, 6), ({"a": 3}, 6)]


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff", "[]", " [ \n ]\n"])
def test_no_records(path: Path, content: str) -> None:
    assert read(path, content) == []


def test_mark_inside_a_string_stays(path: Path) -> None:
    assert read(path, '\ufeff{"a": "\ufeff"}') == [({"a": "\ufeff"}, 1)]


@pytest.mark.parametrize("array", [False, True])
@pytest.mark.parametrize("shift", range(4))
def test_records_across_chunks(path: Path, array: bool, shift: int) -> None:
    """Each kind of value and a character of every length stand at the end of some chunk."""
    records = [
        {"pad": "x" * (i % 61), "text": "é中😀" * 9, "n": -12.5e-3, "flags": [True, None, False], "e": "\n\\"}
        for i in range(3000)
    ]
    lines = [json.dumps(record, ensure_ascii=i % 2 == 0) for i, record in enumerate(records)]
    content = " " * shift + (f"[{', '.join(lines)}]" if array else "\n".join(lines))
    assert len(content.encode()) > 8 * HEAD
    found = read(path, content)
    assert [record for record, _ in found] == records
    assert [line for _, line in found] == ([1] * 3000 if array else list(range(1, 3001)))


def test_record_longer_than_many_chunks(path: Path) -> None:
    record = {"text": "中" * (3 * HEAD), "n": list(range(HEAD))}
    assert read(path, f"{json.dumps(record)}\n{json.dumps(record, ensure_ascii=False)}") == [
        (record, 1),
        (record, 2),
    ]


def test_compressed(path: Path) -> None:
    assert read(path, gzip.compress(b'{"a": 1}\n')) == [({"a": 1}, 1)]


def test_records_come_before_the_file_is_read_to_its_end(path: Path) -> None:
    path.write_bytes(b"[" + b'{"a": 1},\n' * (HEAD // 2) + b"\xff")
    n_read: List[int] = []
    records = values(Source(path, progress=n_read.append))
    assert next(records).value == {"a": 1}
    assert sum(n_read) <= HEAD < path.stat().st_size / 4


CUT = [
    '{"a": 1}\n{"text": "abc", "label": {}',
    '{"a": 1}\n{"text": "ab',
    '{"a": 1}\n{"text": "ab\\',
    '{"a": 1}\n{"text": "ab\\u4e',
    '{"a": 1}\n{"text": ',
    '{"a": 1}\n{"text": tr',
    '{"a": 1}\n{"text": -',
    '{"a": 1}\n{"text": 1.5e+',
    '{"a": 1}\n{"text"',
    '{"a": 1}\n{"text": "a",',
    '{"a": 1}\n{',
    '{"a": 1}\n{\n  "text": "a",\n',
    '{"a": 1}\n{"text": [1,\n2,\n',
    '[{"a": 1},\n{"text": "ab',
    '[{"a": 1},\n{"text": {}',
]


@pytest.mark.parametrize("content", CUT)
def test_file_that_ends_inside_a_record(path: Path, content: str) -> None:
    error = refused(path, content)
    assert (error.line, error.what) == (2, "the file ends inside the record that this line begins")
    assert "again" in error.fix


@pytest.mark.parametrize("content", ['[{"a": 1},\n{"a": 2}', '[{"a": 1},\n{"a": 2},\n\n', "\n["])
def test_file_that_ends_inside_an_array(path: Path, content: str) -> None:
    error = refused(path, content)
    assert (error.line, error.what) == (2, "the file ends inside the array, after what this line begins")


@pytest.mark.parametrize(
    ("content", "line", "what"),
    [
        ('{"text": "ab\n{"text": "b"}\n', 1, r"a string goes on over '\\n' \(column 13\)"),
        ('{"a": 1}\n{"text": "a", "l":\n{"text": "b"}\n{"text": "c"}\n{}\n', 4, "record that line 2 begins.*1"),
        ('{\n"a": "b\n"}', 2, r"a string in the record that line 1 begins goes on over '\\n' \(column 8\)"),
        ('{"a": 1}\n{"b": 1]\n', 2, r"invalid JSON: Expecting ',' delimiter \(column 8\)"),
        ("{'a': 1}\n", 1, r"invalid JSON: Expecting property name enclosed in double quotes.*\(column 2\)"),
        ('{"a": "\\q", "padding": 12345}', 1, r"Invalid \\+escape.*\(column 8\)"),
        ('{"a": NaN}', 1, "NaN is not JSON"),
        ('{}\n{"a": [-Infinity]}', 2, "-Infinity is not JSON"),
        ('{"a": 1, "b": 2, "a": 3}', 1, "an object has the key 'a' twice"),
        ('{"x": {"b": 1, "b": 1}}', 1, "an object has the key 'b' twice"),
        ('{"a": ' + "9" * 5000 + "}", 1, "Exceeds the limit"),
        ('{"a": 1} trailing', 1, "'trailing' is in the place of a record"),
        ('{"a": 1},\n{"a": 2}', 1, "',' is in the place of a record"),
        ('{"a": 1}\n[{"a": 2}]', 2, "is in the place of a record"),
        ('{"a": 1}\n中 B-LOC\n', 2, "'中 B-LOC' is in the place of a record"),
        ('{"a": 1}\n"text"\n', 2, "is in the place of a record"),
        ("null", 1, "'null' is in the place of a record"),
        ('[\n"text"]', 2, "is in the place of a record"),
        ('{"a": 1}\n\u3000{"a": 2}', 2, r"'\\u3000.*is in the place of a record"),
        ('[{"a": 1},\n]', 2, "there is a comma before the array's end"),
        ('[{"a": 1},\n,{}]', 2, "is in the place of a record"),
        ('[{"a": 1}\n{"a": 2}]', 2, "is in the place of a comma or the array's end"),
        ('[{"a": 1}]\n{"a": 2}', 2, "follows the array's end"),
        ('{"a": 1}\n{"text": "\\ud83d"}', 2, r"a lone surrogate, '\\ud83d'"),
        ('{"text": "\\uDE00\\uD83D"}', 1, r"a lone surrogate, '\\ude00'"),
        ('{"\\udc00": 1}', 1, "a lone surrogate"),
        ('{"a": ' + "[" * 100_000, 1, "nested too deeply"),
    ],
)  # fmt: skip
def test_what_is_refused(path: Path, content: str, line: int, what: str) -> None:
    error = refused(path, content)
    assert error.line == line
    assert re.search(what, error.what)


def test_column_counts_from_the_line_s_beginning_across_chunks(path: Path) -> None:
    first = json.dumps({"a": "中" * (HEAD - 100)}, ensure_ascii=False)
    content = f'{{}}\n{first} {{"b": "{"x" * 300}", !}}'
    column = content.splitlines()[1].index("!") + 1
    assert re.search(rf"double quotes \(column {column}\)", refused(path, content + " " * 50).what)


def test_fault_is_found_before_the_rest_is_read(path: Path) -> None:
    path.write_bytes(b'{"a": 1}\n{"b": !}\n' + b'{"a": 1}\n' * (HEAD // 2))
    n_read: List[int] = []
    with pytest.raises(FormatError, match="invalid JSON"):
        list(values(Source(path, progress=n_read.append)))
    assert sum(n_read) <= HEAD < path.stat().st_size / 4


def test_escaped_surrogate_pair_is_a_character(path: Path) -> None:
    assert read(path, '{"a": "\\ud83d\\ude00", "b": "\\\\ud83d"}') == [({"a": "😀", "b": "\\ud83d"}, 1)]


@pytest.mark.parametrize(
    ("content", "line", "offset"),
    [
        ('{"a": 1}\n{"text": "café"}\n'.encode("latin1"), 2, 22),
        ('{"a": "中"}\n'.encode() * 9000 + b'{"a": "\xff"}', 9001, 9000 * 13 + 7),
        ('{"a": 1}\n{"b": "中'.encode()[:-1], 2, 16),
        (b'{"a": 1}\n' + '{"a": 1}'.encode("utf-16"), 2, 9),
    ],
)
def test_not_utf8_names_line_and_byte(path: Path, content: bytes, line: int, offset: int) -> None:
    error = refused(path, content)
    assert error.line == line
    assert "not UTF-8" in error.what
    assert f"offset {offset} " in error.what


@pytest.mark.parametrize("array", [False, True])
@pytest.mark.parametrize("whole", [False, True])
def test_record_that_is_too_long(path: Path, array: bool, whole: bool) -> None:
    record = json.dumps({"a": "x" * (5 * HEAD)})
    limits = {"max_record": len(record) - 1}
    begin = '[{"a": 1},\n' if array else '{"a": 1}\n'
    error = refused(path, begin + (record if whole else f"{record[:-1]} "), **limits)
    assert (error.line, error.what) == (2, f"a record of more than {len(record) - 1:,} characters")
    rest = "]" if array else ""
    assert len(read(path, f"{begin}{record}{rest}", max_record=len(record))) == 2


def test_much_white_space_is_no_record(path: Path) -> None:
    content = " \n" * HEAD + '{"a": 1}' + "\n" * HEAD + "{}"
    assert read(path, content, max_record=8) == [({"a": 1}, HEAD + 1), ({}, 2 * HEAD + 1)]


PAIR = ["a", {"entities": []}]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('["a", {"entities": []}]\n["a", {"entities": []}]\n', [(PAIR, 1), (PAIR, 2)]),
        ('\n[\n"a", {"entities": []}]', [(PAIR, 2)]),
        ('[["a", {"entities": []}],\n null, ["a", {"entities": []}]]', [(PAIR, 1), (None, 2), (PAIR, 2)]),
        ('[[["a"]]]', [([["a"]], 1)]),
        ('{"a": 1}\n["a"]', [({"a": 1}, 1), (["a"], 2)]),
        ("[]", []),
    ],
)
def test_lists_and_nulls_are_records_if_they_may_be(path: Path, content: str, expected: Any) -> None:
    assert read(path, content, lists=True) == expected


@pytest.mark.parametrize("gap", [HEAD - 1, HEAD, HEAD + 1])
def test_list_that_begins_after_much_white_space(path: Path, gap: int) -> None:
    assert read(path, " " * gap + '["a", {"entities": []}]', lists=True) == [(PAIR, 1)]
    assert read(path, "[" + " " * gap + '"a", {"entities": []}]', lists=True) == [(PAIR, 1)]
    assert read(path, "[" + " " * gap + '["a", {"entities": []}]]', lists=True) == [(PAIR, 1)]


def test_numbers_are_no_records_though_lists_may_be(path: Path) -> None:
    path.write_text('[["a", {}], 3]')
    with pytest.raises(FormatError, match=r":1: '3\]' is in the place of a record"):
        list(values(Source(path), lists=True))
