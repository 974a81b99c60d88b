"""Files of one token and its tag per line, with an empty line between sentences."""

from typing import Iterator, List, NamedTuple, Optional, Sequence

from spacy_crf_ner.formats.doc_builder import DocMaker
from spacy_crf_ner.formats.source import Line, Source
from spacy_crf_ner.formats.spelling import LETTERS, SPELLINGS, STANDARD
from spacy_crf_ner.labels import OUTSIDE, LabeledSpan
from spacy_crf_ner.messages import quote
from spacy_crf_ner.tagging import EMPTY_TAG, SCHEMES, Scheme

_SEPARATORS = frozenset(" \t")


class Row(NamedTuple):
    """A token, its tag, and the line where they are, counted from 1."""

    token: str
    tag: str
    line: int


class Sentence(NamedTuple):
    """The tokens of a sentence, its entities in tokens, and the line of the first token."""

    tokens: List[str]
    spans: List[LabeledSpan]
    line: int


Rows = Iterator[Optional[Row]]
"""The rows of a file; None where a line separates sentences."""


def sentences(
    rows: Rows,
    scheme: Scheme,
    source: Source,
    make: DocMaker,
    *,
    repair: bool = False,
    spelling: str = STANDARD,
    type: Optional[str] = None,
) -> Iterator[Sentence]:
    """Gather rows into sentences and read their entities.

    rows (Rows): The rows of a file.
    scheme (Scheme): The scheme of the tags.
    source (Source): The file, for errors.
    make (DocMaker): Counts the corrections, each under its kind in `tagging.REPAIRS`.
    repair (bool): Correct what breaks the scheme and has one obvious reading, an empty tag too.
    spelling (str): How tags are spelled, one of `SPELLINGS`; labels without letters are taken as they are.
    type (Optional[str]): The label of all entities, where tags are letters without one.
    YIELDS (Sentence): The sentences, none of them empty.
    RAISES (FormatError): A tag is none of the scheme, or is where the scheme does not allow it.
    """
    if scheme.name in SCHEMES:
        rows = _respelled(rows, source, spelling, type)
    for sentence in _gathered(rows):

        def complain(i: int, what: str, fix: str, kind: str, sentence: List[Row] = sentence) -> None:
            if not repair:
                raise source.error(what, f"{fix}, or let --repair correct it", sentence[i].line)
            make.counts.notes[kind] += 1

        tags = [row.tag for row in sentence]
        for i, row in enumerate(sentence):
            if row.tag:
                _check_tag(row, scheme, source, sentence)
            else:
                what = f"token {quote(row.token)} has an empty tag"
                complain(i, what, f"write {OUTSIDE} or the missing tag", EMPTY_TAG)
                tags[i] = OUTSIDE
        yield Sentence([row.token for row in sentence], scheme.read(tags, complain), sentence[0].line)


def strict_rows(source: Source) -> Rows:
    """The rows of a file whose lines are the token, one SPACE or TAB, and the tag.

    Only SPACE or TAB separates: tokens may be any other white space (U+3000 is common in Chinese text), and a
    single SPACE may be a token. A line that holds one SPACE or TAB and no more is an empty line.

    source (Source): The file.
    YIELDS (Optional[Row]): A row; None for an empty line.
    RAISES (FormatError): A line has no tag, or more than two columns.
    """
    for line in source.lines():
        if not line.text or line.text in _SEPARATORS:
            yield None
        else:
            yield _split(line, source)


def _respelled(rows: Rows, source: Source, spelling: str, type: Optional[str]) -> Rows:
    """The rows with their tags as schemes read them: "O", or letter, hyphen and label."""
    respell = SPELLINGS[spelling].standard
    for row in rows:
        # Most tags of most files are as they should be: this is a loop over all tokens.
        if row is None or (spelling == STANDARD and len(row.tag) > 1) or row.tag == OUTSIDE:
            yield row
            continue
        tag = respell(row.tag)
        if type is not None and tag == OUTSIDE.lower():
            tag = OUTSIDE
        if tag.upper() in LETTERS:
            if type is None:
                what = f"tag {quote(row.tag)} of token {quote(row.token)} has no label"
                raise source.error(what, "give the label of all entities with --set type=LABEL", row.line)
            tag = f"{tag.upper()}-{type}"
        yield Row(row.token, tag, row.line)


def _gathered(rows: Rows) -> Iterator[List[Row]]:
    sentence: List[Row] = []
    for row in rows:
        if row is not None:
            sentence.append(row)
        elif sentence:
            yield sentence
            sentence = []
    if sentence:
        yield sentence


def _check_tag(row: Row, scheme: Scheme, source: Source, sentence: List[Row]) -> None:
    try:
        scheme.split(row.tag)
    except ValueError as error:
        fix = f"write {OUTSIDE}, or {_listed(scheme.prefixes)} before a label, or name another --format"
        try:
            first = [scheme.split(row.token) for row in sentence]
        except ValueError:
            first = []
        if any(label for _, label in first):
            fix = (
                "if the tag is first, read it with --format conll --set token_column=1 --set tag_column=0"
                f" --set scheme={scheme.name}"
            )
        near = {name: way.standard(row.tag) for name, way in SPELLINGS.items()}
        spelling = next((name for name, tag in near.items() if scheme.has(tag)), None)
        if spelling is not None:
            fix = f"write {quote(near[spelling])}, or read tags of this spelling with --set spelling={spelling}"
        raise source.error(f"tag {quote(row.tag)} {error}", fix, row.line) from None


def _listed(prefixes: Sequence[str]) -> str:
    *most, last = (f"{prefix}-" for prefix in prefixes)
    return f"{', '.join(most)} or {last}"


def _split(line: Line, source: Source) -> Row:
    number, text = line
    separator = "\t" if "\t" in text else " "
    token, found, tag = text.rpartition(separator)
    if not found:
        what = f"token {quote(text)} has no tag"
        raise source.error(what, "write one SPACE or TAB and a tag after it", number)
    if not tag and token in _SEPARATORS:
        what = "a line of blanks is neither an empty line nor a token with its tag"
        raise source.error(what, "delete the blanks, or write the tag", number)
    # A single SPACE may be a token: character-level files of Latin text hold it.
    if " " in tag or "\t" in token or (" " in token and token != " "):
        what = f"a stray column after {quote(text.replace(separator, ' ').split(' ')[0])}"
        fix = "keep only the token, one SPACE or TAB, and the tag, or read the columns with --format conll"
        raise source.error(what, fix, number)
    if not token:
        raise source.error(f"tag {quote(tag)} has no token", "write the token before it", number)
    return Row(token, tag, number)
