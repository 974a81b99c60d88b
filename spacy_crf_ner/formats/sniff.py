"""A look at the beginning of a file, to tell its format."""

import codecs
from typing import Any, Callable, Mapping, Optional, Sequence

from spacy_crf_ner.formats import brackets, brat, conllu, inline, webanno
from spacy_crf_ner.formats.csv_records import explain_csv, guess_csv
from spacy_crf_ner.formats.errors import FormatError, UnknownFormat
from spacy_crf_ner.formats.guess import Guess, Head, Unclear
from spacy_crf_ner.formats.parquet import MAGIC
from spacy_crf_ner.formats.sniff_columns import guess_columns
from spacy_crf_ner.formats.sniff_json import explain_json, guess_json
from spacy_crf_ner.formats.source import HEAD, Source
from spacy_crf_ner.messages import quote

_BYTE_ORDER_MARK = "\ufeff"
_DOCBIN = ".spacy"
_ZIP = b"PK\x03\x04"
_ZLIB = b"\x78\x9c"
MAX_LINES = 2000
"""How many lines are looked at."""

_RECOGNISERS: Sequence[Callable[[Head], Optional[Guess]]] = (
    brat.recognise,
    webanno.recognise,
    conllu.recognise,
    brackets.recognise,
    guess_csv,
    inline.recognise,
)


def sniff(source: Source, given: Optional[Mapping[str, Any]] = None) -> Guess:
    """Tell the format of a file by its beginning. The source can be read from its beginning afterwards.

    source (Source): The file.
    given (Optional[Mapping[str, Any]]): Settings that the user gives: what they say is not asked.
    RETURNS (Guess): What it is taken for.
    RAISES (FormatError): It is of none of the formats that come with this package, or may be of several.
    """
    start = source.head()
    if start.startswith(_ZLIB):  # no text in UTF-8 begins so
        return Guess("spacy", {}, "the bytes of a DocBin")
    if start.startswith(MAGIC):
        return Guess("parquet", {}, "the bytes of Parquet")
    if start.startswith(_ZIP):
        raise source.error("is a ZIP archive", "unpack it, and name its files or their folder")
    if start and source.path.suffix == _DOCBIN:
        raise source.error("not a DocBin (its first bytes are others)", "write it again, or rename the file")
    # A text beside its annotation, whatever is in it: its bytes are read as they are.
    if (guess := brat.recognise(Head(source.path, "", [], False))) is not None:
        return guess
    raw = source.text_head()
    # A head that is full may end inside a line.
    whole = len(raw) < HEAD
    text = source.decode(raw if whole else raw[: raw.rfind(b"\n") + 1] or _cut(raw), 0, 1)
    text = text.removeprefix(_BYTE_ORDER_MARK)
    # A carriage return, a form feed or U+2028 may be a token: only "\n" ends a line.
    lines = [line.removesuffix("\r") for line in text.split("\n", MAX_LINES)[:MAX_LINES]]
    head = Head(source.path, text, lines, whole)
    if not text.strip():
        raise source.error("holds no text", "give a file with annotated sentences", 1)
    try:
        json_text = raw.decode("utf8", errors="ignore").removeprefix(_BYTE_ORDER_MARK)
        guess = guess_json(json_text) or _as_text(head, given or {})
    except Unclear as unclear:
        raise source.error(unclear.what, unclear.fix, 1) from None
    if guess is None:
        raise _untold(source, head)
    return guess


def _cut(raw: bytes) -> bytes:
    """The bytes without a character at the end that is not whole."""
    return raw[: codecs.utf_8_decode(raw, "ignore", False)[1]]


def _as_text(head: Head, given: Mapping[str, Any]) -> Optional[Guess]:
    guesses = [guess for guess in (recognise(head) for recognise in _RECOGNISERS) if guess is not None]
    if len(guesses) > 1:
        seen = " or ".join(f"{guess.format} ({guess.why})" for guess in guesses)
        raise Unclear(f"may be {seen}", "choose one with --format")
    return guesses[0] if guesses else guess_columns(head.lines, given)


def _untold(source: Source, head: Head) -> FormatError:
    """The error that a file is of no format that can be told, with what can be said of it."""
    said = explain_json(head.text) or explain_csv(head)
    if said is not None:
        return UnknownFormat(source.path, *said, 1)
    line = next(line for line in head.text.split("\n") if line.strip())
    what = f"the first lines are of no format that can be told: {quote(line)}"
    return UnknownFormat(source.path, what, "name its --format, one of those below, or add one with --code", 1)
