"""The formats `bio`, `iob1`, `bios`, `bioes`, `biluo`, `bmes` and `bmewo`: a line holds a token, one SPACE or TAB
and a tag.
"""

from bisect import bisect_left
from collections import Counter
from typing import Iterator, List, NamedTuple, Optional, Protocol

from spacy.tokens import Doc, Span

from spacy_crf_ner.formats.doc_builder import (
    META,
    MISSING_WRITTEN,
    ORIGIN,
    RELATIONS,
    DocMaker,
    separator_of,
    unwritable,
)
from spacy_crf_ner.formats.registry import Writer, check_bool
from spacy_crf_ner.formats.rows import Row, Rows, sentences, strict_rows
from spacy_crf_ner.formats.source import Source
from spacy_crf_ner.formats.spelling import STANDARD, check_spelling
from spacy_crf_ner.formats.text_writer import text_writer
from spacy_crf_ner.labels import LabeledSpan
from spacy_crf_ner.messages import quote
from spacy_crf_ner.tagging import SCHEMES, Scheme

OUT_OF_ORDER = "positions out of order"
_FIX = "tags cannot say it: write jsonl or cluener, which hold any text"
SPACING = "docs with spacing that tags cannot hold"


class Word(NamedTuple):
    """A token of the file, and where it begins in the text."""

    text: str
    start: int


class TaggedReader(Protocol):
    """Reads a file of tags in one scheme."""

    def __call__(
        self,
        source: Source,
        make: DocMaker,
        *,
        repair: bool = False,
        positions: bool = False,
        spelling: str = STANDARD,
        type: Optional[str] = None,
    ) -> Iterator[Doc]: ...


def make_reader(scheme: Scheme) -> TaggedReader:
    """Make the reader of a scheme.

    scheme (Scheme): The scheme.
    RETURNS (TaggedReader): A `Reader` with the settings `repair` (correct what breaks the scheme and has one
        obvious reading, and count it), `positions` (each token ends in its position in the word, from 0, as in
        Weibo NER; it is taken away), `spelling` (one of `SPELLINGS`) and `type` (the label of all entities, where
        tags are only letters).
    """

    def read(
        source: Source,
        make: DocMaker,
        *,
        repair: bool = False,
        positions: bool = False,
        spelling: str = STANDARD,
        type: Optional[str] = None,
    ) -> Iterator[Doc]:
        """Read a file of tags.

        source (Source): The file.
        make (DocMaker): Makes the docs.
        repair (bool): Correct what breaks the scheme and has one obvious reading, and count it.
        positions (bool): Each token ends in its position in the word, from 0, as in Weibo NER; it is taken away.
        spelling (str): How tags are spelled, one of `spelling.SPELLINGS`.
        type (Optional[str]): The label of all entities, where tags are letters without one.
        YIELDS (Doc): The docs, one per sentence.
        """
        check_bool("repair", repair)
        check_bool("positions", positions)
        check_spelling(spelling, type)
        rows = strict_rows(source)
        if positions:
            rows = without_positions(rows, source, make)
        for sentence in sentences(rows, scheme, source, make, repair=repair, spelling=spelling, type=type):
            yield make.from_tokens(sentence.tokens, sentence.spans, source, sentence.line)

    return read


def without_positions(rows: Rows, source: Source, make: DocMaker) -> Rows:
    """Take from each token its position in the word.

    rows (Rows): Rows whose tokens end in one more than the token before, or in 0.
    source (Source): The file, for errors.
    make (DocMaker): Counts the tokens that end in another digit, which is taken away all the same.
    YIELDS (Optional[Row]): The rows with only the tokens.
    RAISES (FormatError): A token does not end in a digit, or is nothing else.
    """
    position = -1
    for row in rows:
        if row is None:
            yield None
            position = -1
            continue
        end = position_end(row.token, position)
        if not end:
            what = f"token {quote(row.token)} does not end in its position in the word"
            raise source.error(what, "write 0 for a word's first character, or set positions=false", row.line)
        make.counts.notes[OUT_OF_ORDER] += int(end) not in (0, position + 1)
        position = int(end)
        yield Row(row.token.removesuffix(end), row.tag, row.line)


def position_end(token: str, previous: int) -> str:
    """The digits at a token's end that are its position in the word; "" where there are none.

    token (str): A character with its position, which has two digits from the eleventh on. The character may be a
        digit itself: "110" is a 1 at position 10 if the token before was at 9, and else an 11 at position 0.
    previous (int): The position of the token before.
    """
    for end in (str(previous + 1), "0", token[-1:]):
        if end.isascii() and end.isdecimal() and token.endswith(end) and token != end:
            return end
    return ""


def make_writer(scheme: Scheme) -> Writer:
    """Make the writer of a scheme.

    scheme (Scheme): The scheme.
    RETURNS (Writer): A token, a SPACE and its tag per line, and an empty line after the sentence.
        Where the language writes no spaces, a space is a token of its own, so that no character is lost. Where it
        does, only words are written; a text with other spacing than one space between two is noted.
    """

    @text_writer()
    def write(doc: Doc, notes: "Counter[str]") -> str:
        words = _words(doc)
        spans = [_covered(entity, words, doc) for entity in doc.ents]
        if separator_of(doc.vocab).join(word.text for word in words) != doc.text:
            notes[SPACING] += 1
        if missing := sum(token.ent_iob == 0 for token in doc):
            notes[MISSING_WRITTEN] += missing
        for key in (RELATIONS, META):
            notes[f"docs whose {key} tags cannot hold"] += key in doc.user_data
        tags = scheme.write(len(words), spans)
        return "".join(f"{word.text} {tag}\n" for word, tag in zip(words, tags)) + "\n"

    return write


def _words(doc: Doc) -> List[Word]:
    """What becomes a line each."""
    words: List[Word] = []
    if separator_of(doc.vocab):
        words = [Word(token.text, token.idx) for token in doc if not token.is_space]
    else:
        for token in doc:
            if any(map(str.isspace, token.text)):
                words.extend(Word(character, token.idx + i) for i, character in enumerate(token.text))
            else:
                words.append(Word(token.text, token.idx))
            if token.whitespace_:
                words.append(Word(" ", token.idx + len(token)))
    for word in words:
        inner_space = " " in word.text and not word.text.isspace()
        if inner_space or "\t" in word.text or "\n" in word.text:
            raise unwritable(
                doc.user_data.get(ORIGIN), f"token {quote(word.text)} cannot be in a line of its own", _FIX
            )
    return words


def _covered(entity: Span, words: List[Word], doc: Doc) -> LabeledSpan:
    """The entity, in words."""
    starts = [word.start for word in words]
    start, end = bisect_left(starts, entity.start_char), bisect_left(starts, entity.end_char)
    if start == end:
        raise unwritable(doc.user_data.get(ORIGIN), f"entity {quote(entity.text)} is only white space", _FIX)
    if any(map(str.isspace, entity.label_)):
        raise unwritable(doc.user_data.get(ORIGIN), f"label {quote(entity.label_)} holds white space", _FIX)
    return start, end, entity.label_


read_bio = make_reader(SCHEMES["bio"])
read_iob1 = make_reader(SCHEMES["iob1"])
read_bios = make_reader(SCHEMES["bios"])
read_bioes = make_reader(SCHEMES["bioes"])
read_biluo = make_reader(SCHEMES["biluo"])
read_bmes = make_reader(SCHEMES["bmes"])
read_bmewo = make_reader(SCHEMES["bmewo"])
write_bio = make_writer(SCHEMES["bio"])
write_bioes = make_writer(SCHEMES["bioes"])
write_bmes = make_writer(SCHEMES["bmes"])
