"""The format `conll`: columns with a tag in one of them, as the shared tasks of CoNLL have them."""

from collections import Counter
from functools import partial
from typing import Callable, Iterator, List, NamedTuple, Optional, Tuple

from spacy.tokens import Doc

from spacy_crf_ner.formats.doc_builder import DocMaker
from spacy_crf_ner.formats.registry import check_bool, check_choice
from spacy_crf_ner.formats.rows import Row, Rows, sentences
from spacy_crf_ner.formats.source import Source
from spacy_crf_ner.formats.spelling import LETTERS, SPELLINGS, STANDARD, Spelling, check_spelling
from spacy_crf_ner.labels import OUTSIDE
from spacy_crf_ner.messages import quote
from spacy_crf_ner.tagging import ALL_SCHEMES, BARE_SCHEMES, Scheme

DOCSTART = "-DOCSTART-"
DOCSTARTS = f"{DOCSTART} lines"
COMMENTS = "comment lines"


def read_conll(
    source: Source,
    make: DocMaker,
    *,
    scheme: str = "bio",
    token_column: Optional[int] = None,
    tag_column: int = -1,
    sentence_column: Optional[int] = None,
    index_column: Optional[int] = None,
    spelling: str = STANDARD,
    type: Optional[str] = None,
    repair: bool = False,
) -> Iterator[Doc]:
    """Read columns.

    They are separated by TAB in a line that holds one, else by any white space. All lines have as many. A line
    that begins with ``-DOCSTART-`` separates sentences. One that begins with ``#`` before the first token of a
    sentence is a comment, unless it reads as a token and its tag. Both are noted, and so are the tags of entities
    in columns that are not read.

    source (Source): The file.
    make (DocMaker): Makes the docs.
    scheme (str): The tagging scheme, one of `tagging.ALL_SCHEMES`. (The shared task of 2003 had IOB1.)
    token_column (Optional[int]): The column of the tokens, from 0, or from -1 backwards; None: the first, which
        then must hold more than numbers or one repeated value.
    tag_column (int): The column of the tags.
    sentence_column (Optional[int]): A column that names the sentence: where it changes, a sentence begins.
    index_column (Optional[int]): A column that counts the tokens: where it does not go up by 1, a sentence begins.
    spelling (str): How tags are spelled, one of `spelling.SPELLINGS`.
    type (Optional[str]): The label of all entities, where tags are only letters.
    repair (bool): Correct what breaks the scheme and has one obvious reading, and count it.
    YIELDS (Doc): The docs, one per sentence.
    RAISES (FormatError): A line has not the columns, or no tag of the scheme.
    RAISES (ValueError): There is no such scheme or spelling, or a column is not an integer.
    """
    check_choice("scheme", scheme, list(ALL_SCHEMES))
    check_bool("repair", repair)
    check_spelling(spelling, type)
    columns = Columns(0 if token_column is None else token_column, tag_column, sentence_column, index_column)
    columns.check_settings()
    is_tag = partial(_is_tag, ALL_SCHEMES[scheme], SPELLINGS[spelling], type)
    rows = _rows(source, make, is_tag, SPELLINGS[spelling], columns)
    if token_column is None:
        rows = _checked(rows, source)
    tags = ALL_SCHEMES[scheme]
    for sentence in sentences(rows, tags, source, make, repair=repair, spelling=spelling, type=type):
        yield make.from_tokens(sentence.tokens, sentence.spans, source, sentence.line)


class Columns(NamedTuple):
    """Which columns hold what, from 0, or from -1 backwards."""

    token_column: int
    tag_column: int
    sentence_column: Optional[int] = None
    index_column: Optional[int] = None

    def check_settings(self) -> None:
        """Check that all are integers, the last two or None.

        RAISES (ValueError): One is something else.
        """
        for name, column in zip(self._fields, self):
            if type(column) is not int and (column is not None or name in ("token_column", "tag_column")):
                raise ValueError(
                    f"the setting {name} is {column!r:.40}; give an integer: 0 is the first column, -1 the last"
                )

    def named(self) -> str:
        """The settings, for a message."""
        return ", ".join(f"{name}={n}" for name, n in zip(self._fields, self) if n is not None)

    def of(self, number: int, columns: List[str], source: Source) -> "Columns":
        """The same from 0, in a line.

        RAISES (FormatError): The line has too few columns, or two of these are one.
        """
        n_columns = len(columns)
        given = [column for column in self if column is not None]
        if any(not -n_columns <= column < n_columns for column in given):
            what = f"{n_columns} column(s), too few for {self.named()}"
            raise source.error(what, "name the columns, from 0, with --set", number)
        if len({column % n_columns for column in given}) < len(given):
            what = f"{n_columns} column(s), of which {self.named()} name one twice"
            raise source.error(what, "name the columns, from 0, with --set", number)
        return Columns(*(None if column is None else column % n_columns for column in self))  # type: ignore[arg-type]


def split_columns(text: str) -> List[str]:
    """The columns of a line: between TABs where it holds one, else between any white space."""
    return text.split("\t") if "\t" in text else text.split()


def _rows(
    source: Source, make: DocMaker, is_tag: Callable[[str], bool], spelling: Spelling, columns: Columns
) -> Rows:
    first = n_columns = 0  # the first line of columns, and how many it has
    place: Optional[Columns] = None  # the columns in it
    before: Optional[Tuple[Optional[str], Optional[str]]] = None  # sentence and index of the row before
    unread: Counter[int] = Counter()
    between = True
    for number, text in source.lines():
        row: Optional[Row] = None
        cells = split_columns(text)
        if text.startswith(DOCSTART):
            make.counts.notes[DOCSTARTS] += 1
        elif between and text.startswith("#") and not _is_row(cells, n_columns, is_tag, columns):
            make.counts.notes[COMMENTS] += 1
        elif any(cells):
            if place is None:
                first, n_columns, place = number, len(cells), columns.of(number, cells, source)
            if len(cells) != n_columns:
                what = f"{len(cells)} column(s) where line {first} has {n_columns}: {quote(text)}"
                fix = "write all columns; where a token is white space, separate by TAB"
                raise source.error(what, fix, number)
            row = _row(number, cells, source, place)
            ids = _ids(cells, place)
            if not between and before is not None and _begins(before, ids, number, source):
                yield None
            before = ids
            if n_columns > 2:
                unread.update(_unread(cells, place, spelling))
        between = row is None
        yield row
    for column, count in sorted(unread.items()):
        make.counts.notes[f"tags in column {column}, which is not read (--set tag_column={column} reads it)"] += (
            count
        )


def _checked(rows: Rows, source: Source) -> Rows:
    """The rows, whose tokens must not all be numbers or equal: that is a column of another kind."""
    n_rows, first, is_text = 0, "", False
    for row in rows:
        if row is not None:
            n_rows += 1
            first = first or row.token
            is_text = is_text or (row.token != first and not any(map(str.isdecimal, row.token)))
        yield row
    if n_rows > 1 and not is_text and not first.isalpha():
        what = f"column 0 holds no text: all its cells hold a digit, or {quote(first)}"
        raise source.error(what, "choose the column of the tokens with --set token_column=N")


def _ids(cells: List[str], columns: Columns) -> Tuple[Optional[str], Optional[str]]:
    sentence = None if columns.sentence_column is None else cells[columns.sentence_column]
    return sentence, None if columns.index_column is None else cells[columns.index_column]


def _begins(
    before: Tuple[Optional[str], Optional[str]],
    ids: Tuple[Optional[str], Optional[str]],
    number: int,
    source: Source,
) -> bool:
    """Whether a sentence begins with a row, by its sentence and index and those of the row before."""
    (last_sentence, last_index), (sentence, index) = before, ids
    if sentence != last_sentence:
        return True
    if index is None or last_index is None:
        return False
    for value in (last_index, index):
        if not (value.isascii() and value.isdecimal()):
            what = f"{quote(value)} in the index_column is not a number"
            raise source.error(what, "name another index_column, or none", number)
    return int(index) != int(last_index) + 1


def _unread(cells: List[str], columns: Columns, spelling: Spelling) -> Iterator[int]:
    """The columns that hold a tag and are not read."""
    for column, cell in enumerate(cells):
        if spelling.separator in cell and len(cell) > 2 and column not in columns:
            letter, hyphen, label = spelling.standard(cell).partition("-")
            if hyphen and label and letter in LETTERS:
                yield column


def _is_row(cells: List[str], n_columns: int, is_tag: Callable[[str], bool], columns: Columns) -> bool:
    """Whether a line that could be a comment has the columns of the others, if there are any, and a tag."""
    if len(cells) < 2 or (n_columns and len(cells) != n_columns):
        return False
    return -len(cells) <= columns.tag_column < len(cells) and is_tag(cells[columns.tag_column])


def _is_tag(scheme: Scheme, spelling: Spelling, type: Optional[str], cell: str) -> bool:
    """Whether a cell is a tag, and no word of a comment. Of bare labels, the one that is not an entity alone."""
    if scheme.name in BARE_SCHEMES:
        return cell.upper() == OUTSIDE
    return scheme.has(spelling.standard(cell)) or (type is not None and cell.upper() in LETTERS)


def _row(number: int, cells: List[str], source: Source, columns: Columns) -> Row:
    token, tag = cells[columns.token_column], cells[columns.tag_column]
    if not token:
        raise source.error(f"tag {quote(tag)} has no token", "write the token", number)
    return Row(token, tag, number)
