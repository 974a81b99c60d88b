"""The format `csv`: one token and its tag per row, under a header, as in Kaggle's "Annotated Corpus for NER".

Its header is "Sentence #,Word,POS,Tag". The sentence's name is in its first row only or, in the cleaned variant,
in each. A file without such a column has an empty row between sentences.
"""

import csv
from contextlib import suppress
from itertools import groupby
from typing import Any, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

from spacy.tokens import Doc

from spacy_crf_ner.formats.doc_builder import DocMaker
from spacy_crf_ner.formats.guess import Guess, Head, Unclear
from spacy_crf_ner.formats.registry import check_bool, check_choice
from spacy_crf_ner.formats.rows import Row, Rows, sentences
from spacy_crf_ner.formats.sniff_tags import Tags, guess_tags
from spacy_crf_ner.formats.source import Source
from spacy_crf_ner.formats.spelling import STANDARD, check_spelling
from spacy_crf_ner.messages import quote
from spacy_crf_ner.tagging import ALL_SCHEMES

DELIMITERS = (",", ";", "\t")
Column = Union[str, int, None]
"""A column: its name in the header, or its number, from 0."""

MAX_SENTENCE = 10_000
"""No sentence has as many rows: in a file of such, the column of the sentence is not named."""

_TOKENS = ("word", "token", "words", "tokens", "char", "character")
_TAGS = ("tag", "ner_tag", "ner", "label", "tags", "ner_tags", "labels", "iob", "bio")
_SENTENCES = (
    *(
        "sentence #",
        "sentence_id",
        "sentence_idx",
        "sentence id",
        "sentence number",
        "sent_id",
        "sentence",
        "sent",
    ),
    *("sentence_no", "sid"),
)
_NAME_THEM = "name the columns with --set token_column=NAME --set tag_column=NAME (and sentence_column)"


class _Columns(NamedTuple):
    """The numbers of the columns; that of the sentence is None where there is none."""

    token: int
    tag: int
    sentence: Optional[int]
    n: int


def read_csv(
    source: Source,
    make: DocMaker,
    *,
    token_column: Column = None,
    tag_column: Column = None,
    sentence_column: Column = None,
    delimiter: str = ",",
    scheme: str = "bio",
    spelling: str = STANDARD,
    type: Optional[str] = None,
    repair: bool = False,
) -> Iterator[Doc]:
    """Read rows of a token and its tag.

    The first row is the header. What is in other columns is not kept.

    source (Source): The file.
    make (DocMaker): Makes the docs.
    token_column, tag_column, sentence_column (Column): The columns, by name or number. None: told by the header.
    delimiter (str): What separates cells; a cell that holds it is in quotation marks.
    scheme, spelling, type, repair: As of `tag_lists.TagReader`.
    YIELDS (Doc): The docs, one per sentence.
    RAISES (FormatError): The header names no such columns, a row has other columns, or a tag breaks the scheme.
    RAISES (ValueError): A setting is wrong.
    """
    check_choice("scheme", scheme, list(ALL_SCHEMES))
    check_spelling(spelling, type)
    check_bool("repair", repair)
    if not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '"\r\n':
        raise ValueError(f"the setting delimiter is {delimiter!r}; give one character, such as ;")
    rows = _rows(source, delimiter, token_column, tag_column, sentence_column)
    tags = ALL_SCHEMES[scheme]
    for sentence in sentences(rows, tags, source, make, repair=repair, spelling=spelling, type=type):
        yield make.from_tokens(sentence.tokens, sentence.spans, source, sentence.line)


def guess_csv(head: Head) -> Optional[Guess]:
    """Tell a file with a header that names a token and a tag, and with tags in that column.

    head (Head): The beginning of the file.
    RETURNS (Optional[Guess]): What it is taken for; None where it is not of this kind.
    """
    for delimiter in DELIMITERS:
        rows = _head_rows(head, delimiter)
        names = rows[0] if rows else []
        columns = _told(names)
        if columns is None or len(rows) < 2:
            continue
        whole = [row for row in rows[1:] if len(row) == columns.n]
        tags = guess_tags([[row[columns.tag] for row in whole]])
        if 2 * len(whole) > len(rows) - 1 and tags is not None:
            _check_sentences(columns, names, whole)
            _check_tags(columns, names, whole, tags)
            settings = {} if delimiter == "," else {"delimiter": delimiter}
            settings.update(tags.settings())
            return Guess(
                "csv", settings, f"a header with {quote(names[columns.token])} and {quote(names[columns.tag])}"
            )
    return None


def _check_tags(columns: _Columns, names: Sequence[str], rows: Sequence[Sequence[str]], tags: Tags) -> None:
    """Refuse rows with other tags in another column."""
    for number, name in enumerate(names):
        if number in (columns.token, columns.tag, columns.sentence):
            continue
        other = guess_tags([[row[number] for row in rows]])
        if other is not None and other.n_entities and other.entities != tags.entities:
            mine = names[columns.tag]
            what = f"the columns {quote(mine)} ({tags.told()}) and {quote(name)} ({other.told()}) hold tags"
            raise Unclear(what, f"choose one with --format csv --set tag_column={mine} (or {name})")


def _check_sentences(columns: _Columns, names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Refuse rows whose sentences are not told by a column that is known, and may be by another."""
    if columns.sentence is not None:
        return
    for number, name in enumerate(names):
        runs = [value for value, _ in groupby(row[number] for row in rows)]
        is_number = all(value.isdecimal() for value in runs)
        if (
            number not in (columns.token, columns.tag)
            and is_number
            and 1 < len(runs) == len(set(runs)) < len(rows)
        ):
            fix = f"if it does, give --set sentence_column={name}, and otherwise --format csv"
            raise Unclear(f"the column {quote(name)} may name the sentences", fix)


def explain_csv(head: Head) -> Optional[Tuple[str, str]]:
    """What is to be said of a file that looks like CSV and is not told by its header.

    head (Head): The beginning of the file.
    RETURNS (Optional[Tuple[str, str]]): What is wrong, and what to do; None where it is not CSV.
    """
    rows = _head_rows(head, ",")
    width = len(rows[0]) if rows else 0
    if width < 2 or len(rows) < 2 or any(len(row) != width for row in rows):
        return None
    what = f"a CSV file with the columns {', '.join(map(quote, rows[0][:8]))} is of no format that can be told"
    return what, f"if a row is a token and its tag, read it with --format csv and {_NAME_THEM}"


def _head_rows(head: Head, delimiter: str) -> List[List[str]]:
    """The first rows that the head holds whole."""
    lines = [f"{line}\n" for line in head.lines[:200]]
    rows: List[List[str]] = []
    with suppress(csv.Error):  # a cell that goes on after the head, or no CSV
        rows.extend(row for row in csv.reader(lines, delimiter=delimiter, strict=True) if row)
    return rows


def _told(names: Sequence[str]) -> Optional[_Columns]:
    """The columns that a header names; None where it does not name a token and a tag."""
    lower = [name.strip().lower() for name in names]
    token, tag, sentence = (
        next((lower.index(name) for name in known if name in lower), None)
        for known in (_TOKENS, _TAGS, _SENTENCES)
    )
    return None if token is None or tag is None else _Columns(token, tag, sentence, len(names))


def _rows(source: Source, delimiter: str, token: Column, tag: Column, sentence: Column) -> Rows:
    lines = (f"{line.text}\n" for line in source.lines())
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    columns: Optional[_Columns] = None
    current = ""
    n_rows = 0
    line = 1
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            what = f"invalid CSV in the row that begins here: {error}"
            raise source.error(what, 'write a cell that is a quotation mark as """"', line) from None
        if cells is None:
            return
        row: Optional[Row] = None
        if columns is None:
            columns = _columns(source, cells, token, tag, sentence)
        elif any(cells):
            row = _row(source, cells, columns, line)
            name = "" if columns.sentence is None else cells[columns.sentence]
            if name and name != current:
                current, n_rows = name, 0
                yield None
        n_rows = n_rows + 1 if row else 0
        if n_rows > MAX_SENTENCE:
            what = f"a sentence of more than {MAX_SENTENCE:,} rows"
            fix = (
                "name the column of the sentence with --set sentence_column=NAME, or write empty rows between them"
            )
            raise source.error(what, fix, line)
        yield row
        line = reader.line_num + 1


def _row(source: Source, cells: List[str], columns: _Columns, line: int) -> Row:
    if len(cells) != columns.n:
        what = f"{len(cells)} cells where the header has {columns.n}: {quote(' '.join(cells))}"
        raise source.error(what, "write all cells, one that holds the delimiter in quotation marks", line)
    token, tag = cells[columns.token], cells[columns.tag]
    if "\n" in token or "\n" in tag:
        what = f"a cell goes on over several lines: {quote(token if chr(10) in token else tag)}"
        raise source.error(what, 'write a cell that is a quotation mark as """"', line)
    if not token:
        raise source.error(f"tag {quote(tag)} has no token", "write the token", line)
    return Row(token, tag, line)


def _columns(source: Source, names: List[str], token: Column, tag: Column, sentence: Column) -> _Columns:
    told = _told(names)
    if told is None and (token is None or tag is None):
        what = f"the header names no token and tag: {', '.join(map(quote, names[:8]))}"
        raise source.error(what, _NAME_THEM, 1)
    first, second, third = (
        given if given is None else _number(source, names, name, given)
        for name, given in (("token_column", token), ("tag_column", tag), ("sentence_column", sentence))
    )
    if told is not None:
        first, second, third = (
            theirs if ours is None else ours for ours, theirs in zip((first, second, third), told)
        )
    elif third is None:
        lower = [name.strip().lower() for name in names]
        third = next((lower.index(name) for name in _SENTENCES if name in lower), None)
    assert first is not None and second is not None
    if first == second:
        raise source.error(f"the column {quote(names[first])} is named as token and as tag", _NAME_THEM, 1)
    return _Columns(first, second, third, len(names))


def _number(source: Source, names: List[str], setting: str, column: Any) -> int:
    if isinstance(column, str):
        if column in names:
            return names.index(column)
        what = f"the header has no column {quote(column)}: {', '.join(map(quote, names[:8]))}"
        raise source.error(what, f"name one of them with --set {setting}=NAME", 1)
    if type(column) is not int:
        raise ValueError(f"the setting {setting} is {column!r}; give a name of the header, or a number from 0")
    if not 0 <= column < len(names):
        what = f"the header has {len(names)} columns, and {setting} is {column}"
        raise source.error(what, f"count columns from 0, with --set {setting}=NUMBER", 1)
    return column
