"""The format `conll`: columns with a tag in one of them, as the shared tasks of CoNLL have them."""

from typing import Iterator, List, Optional

from spacy.tokens import Doc

from spacy_crf_ner.formats.docs import DocMaker
from spacy_crf_ner.formats.rows import Row, Rows, quote, sentences
from spacy_crf_ner.formats.schemes import SCHEMES, Scheme
from spacy_crf_ner.formats.settings import check_bool, check_choice
from spacy_crf_ner.formats.source import Source

DOCSTART = "-DOCSTART-"
DOCSTARTS = f"{DOCSTART} lines"
COMMENTS = "comment lines"


def read_conll(
    source: Source,
    make: DocMaker,
    *,
    scheme: str = "bio",
    token_column: int = 0,
    tag_column: int = -1,
    repair: bool = False,
) -> Iterator[Doc]:
    """Read columns.

    They are separated by TAB in a line that holds one, else by any white space. All lines have as many. A line
    that begins with ``-DOCSTART-`` separates sentences. One that begins with ``#`` before the first token of a
    sentence is a comment, unless it reads as a token and its tag. Both are noted.

    source (Source): The file.
    make (DocMaker): Makes the docs.
    scheme (str): The tagging scheme, one of `schemes.SCHEMES`. (The shared task of 2003 had IOB1.)
    token_column, tag_column (int): The columns, from 0, or from -1 backwards.
    repair (bool): Mend what breaks the scheme and has one obvious reading, and count it.
    YIELDS (Doc): The docs, one a sentence.
    RAISES (FormatError): A line has not the columns, or no tag of the scheme.
    RAISES (ValueError): There is no such scheme, or a column is no integer.
    """
    check_choice("scheme", scheme, list(SCHEMES))
    check_bool("repair", repair)
    for name, column in (("token_column", token_column), ("tag_column", tag_column)):
        if type(column) is not int:
            raise ValueError(
                f"the setting {name} is {column!r}; give an integer: 0 is the first column, -1 the last"
            )
    rows = _rows(source, make, SCHEMES[scheme], token_column, tag_column)
    for sentence in sentences(rows, SCHEMES[scheme], source, make, repair=repair):
        yield make.from_tokens(sentence.tokens, sentence.spans, source, sentence.line)


def split_columns(text: str) -> List[str]:
    """The columns of a line: between TABs where it holds one, else between any white space."""
    return text.split("\t") if "\t" in text else text.split()


def _rows(source: Source, make: DocMaker, scheme: Scheme, token_column: int, tag_column: int) -> Rows:
    first = n_columns = 0  # the first line of columns, and how many it has
    between = True
    for number, text in source.lines():
        row: Optional[Row] = None
        columns = split_columns(text)
        if text.startswith(DOCSTART):
            make.counts.notes[DOCSTARTS] += 1
        elif between and text.startswith("#") and not _is_row(columns, n_columns, scheme, tag_column):
            make.counts.notes[COMMENTS] += 1
        elif any(columns):
            if not first:
                first, n_columns = number, len(columns)
            if len(columns) != n_columns:
                what = f"{len(columns)} column(s) where line {first} has {n_columns}: {quote(text)}"
                mend = "write all columns; where a token is white space, separate by TAB"
                raise source.error(what, mend, number)
            row = _row(number, columns, source, token_column, tag_column)
        between = row is None
        yield row


def _is_row(columns: List[str], n_columns: int, scheme: Scheme, tag_column: int) -> bool:
    """Whether a line that could be a comment has the columns of the others, if there are any, and a tag."""
    if len(columns) < 2 or (n_columns and len(columns) != n_columns):
        return False
    return -len(columns) <= tag_column < len(columns) and scheme.has(columns[tag_column])


def _row(number: int, columns: List[str], source: Source, token_column: int, tag_column: int) -> Row:
    n_columns = len(columns)
    try:
        token, tag = columns[token_column], columns[tag_column]
    except IndexError:
        what = f"{n_columns} column(s), too few for token_column={token_column} and tag_column={tag_column}"
        raise source.error(what, "name the columns, from 0, with --set", number) from None
    if token_column % n_columns == tag_column % n_columns:
        what = f"{n_columns} column(s), of which token_column={token_column} and tag_column={tag_column} name one"
        raise source.error(what, "name the columns, from 0, with --set", number)
    if not token:
        raise source.error(f"tag {quote(tag)} has no token", "write the token", number)
    return Row(token, tag, number)
