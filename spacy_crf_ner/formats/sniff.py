"""A look at the beginning of a file, to tell its format."""

import json
import re
from collections import Counter
from itertools import pairwise
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

from spacy_crf_ner.formats import brackets, brat, conllu, webanno
from spacy_crf_ner.formats.conll import DOCSTART, split_columns
from spacy_crf_ner.formats.errors import FormatError
from spacy_crf_ner.formats.guess import Guess, Head
from spacy_crf_ner.formats.rows import quote
from spacy_crf_ner.formats.schemes import SCHEMES, Scheme
from spacy_crf_ner.formats.source import HEAD, Source
from spacy_crf_ner.formats.tagged import position_end
from spacy_crf_ner.labels import OUTSIDE

_BYTE_ORDER_MARK = "\ufeff"
_ZLIB = b"\x78\x9c"
MAX_LINES = 2000
"""How many lines of columns are looked at."""

_MAX_COLUMNS = 64

Sentences = List[List[List[str]]]
"""The columns of the lines of the sentences."""


def sniff(source: Source) -> Guess:
    """Tell the format of a file by its beginning. The source can be read from its beginning afterwards.

    source (Source): The file.
    RETURNS (Guess): What it is taken for.
    RAISES (FormatError): It is of none of the formats that come with this package.
    """
    head = source.head()
    if head.startswith(_ZLIB):  # no text in UTF-8 begins so
        return Guess("spacy", {}, "the bytes of a DocBin")
    # A head that is full may end inside a line; one that is not UTF-8 is told when it is read.
    whole = head if len(head) < HEAD else head[: head.rfind(b"\n") + 1] or head
    text = whole.decode("utf8", errors="replace").removeprefix(_BYTE_ORDER_MARK)
    lines = [line.removesuffix("\r") for line in text.split("\n", MAX_LINES)[:MAX_LINES]]
    for recognise in (brat.recognise, webanno.recognise, conllu.recognise, brackets.recognise):
        told = recognise(Head(source.path, text, lines, len(head) < HEAD))
        if told is not None:
            return told
    if not text.strip():
        raise source.error("holds no text", "give a file with annotated sentences", 1)
    guess = _as_json(head.decode("utf8", errors="replace").removeprefix(_BYTE_ORDER_MARK)) or _as_tags(text)
    if guess is None:
        raise _untold(source, head, text)
    return guess


def _untold(source: Source, head: bytes, text: str) -> FormatError:
    """The error that a file is of no format that can be told, with what can be said of it."""
    try:
        source.decode(head if len(head) < HEAD else head[: head.rfind(b"\n") + 1], 0, 1)
    except FormatError as error:
        return error
    try:
        record, _ = json.JSONDecoder().raw_decode(text.lstrip("[ \t\r\n"))
    except (ValueError, RecursionError):
        record = None
    if isinstance(record, dict):
        keys = ", ".join(map(quote, list(record)[:8]))
        mend = "name it with --format; --format jsonl --set text_key=NAME where the text has another key"
        return source.error(
            f"a record with the keys {keys or 'of none'} is of no format that can be told", mend, 1
        )
    line = next(line for line in text.split("\n") if line.strip())
    what = f"the first lines are of no format that can be told: {quote(line)}"
    return source.error(what, "name it with --format, or name the files without this one", 1)


def _as_json(text: str) -> Optional[Guess]:
    start = text.lstrip()
    array = start.startswith("[")
    start = start[1:].lstrip() if array else start
    if not start.startswith("{"):
        return None
    try:
        record, _ = json.JSONDecoder().raw_decode(start)
    except (ValueError, RecursionError):
        record = None
    # A record that the head does not hold whole is told by the keys that stand in it.
    if isinstance(record["label"], dict) if record and "label" in record else _LABEL_OBJECT.search(start):
        return Guess("cluener", {}, "a label that is an object, in the first record")
    for name, keys in _JSON_KEYS:
        if all(key in record if record is not None else f'"{key}"' in start for key in keys):
            return Guess(name, {}, f"{' and '.join(keys)} in the first record")
    return None


_LABEL_OBJECT = re.compile(r'"label"\s*:\s*\{')

_JSON_KEYS: Sequence[Tuple[str, Tuple[str, ...]]] = (
    ("spert", ("tokens", "entities")),
    ("jsonl", ("text", "spans")),
    ("jsonl", ("text", "label")),
    ("jsonl", ("text", "labels")),
    ("jsonl", ("text", "entities")),
    ("jsonl", ("data", "label")),
    ("jsonl", ("data", "annotations")),
    ("jsonl", ("data", "completions")),
    ("jsonl", ("data", "predictions")),
    ("jsonl", ("text",)),
)


def _as_tags(text: str) -> Optional[Guess]:
    # A carriage return, a form feed or U+2028 may be a token: "\n" alone ends a line.
    lines = [line.removesuffix("\r") for line in text.split("\n", MAX_LINES)[:MAX_LINES]]
    # What `conll` alone reads past.
    if any(line.startswith(DOCSTART) or _is_comment(line, before) for before, line in pairwise(["", *lines])):
        return _as_conll(lines)
    sentences = _in_two_columns(lines)
    found = _scheme([[row[1] for row in sentence] for sentence in sentences])
    if found is not None:
        scheme, why = found
        if _has_positions(sentences):
            return Guess(scheme, {"positions": True}, f"{why}, tokens that end in their position in the word")
        return Guess(scheme, {}, why)
    return _as_conll(lines)


def _is_comment(line: str, before: str) -> bool:
    return (
        line.startswith("#") and len(split_columns(line)) != 2 and (not before.strip() or before.startswith("#"))
    )


def _in_two_columns(lines: Sequence[str]) -> Sentences:
    """The lines as a token and, after one SPACE or TAB, something without blanks; none where most are not so."""
    sentences: Sentences = [[]]
    n_other = 0
    for line in lines:
        if line in ("", " ", "\t"):
            sentences.append([])
            continue
        token, found, tag = line.rpartition("\t" if "\t" in line else " ")
        if not found or not token or " " in tag or "\t" in token or (" " in token and token != " "):
            n_other += 1
        else:
            sentences[-1].append([token, tag])
    # What a few lines have wrong is for the reader to say, which names them.
    return sentences if n_other < sum(map(len, sentences)) else []


def _as_conll(lines: Sequence[str]) -> Optional[Guess]:
    sentences: Sentences = [[]]
    why = ""
    for line in lines:
        columns = split_columns(line)
        if line.startswith(DOCSTART) or not any(columns):
            why = f", {DOCSTART} lines" if any(columns) else why
            sentences.append([])
        elif sentences[-1] or not line.startswith("#"):
            sentences[-1].append(columns)
    widths = Counter(len(row) for sentence in sentences for row in sentence)
    if not widths or max(widths) > _MAX_COLUMNS:
        return None
    ((width, n_rows),) = widths.most_common(1)
    if width < 2 or 2 * n_rows <= widths.total():
        return None
    rows = [[row for row in sentence if len(row) == width] for sentence in sentences]
    found = {column: _scheme([[row[column] for row in sentence] for sentence in rows]) for column in range(width)}
    # The last column with tags, but one without entities only if none has any.
    for entities in (True, False):
        for column in range(width - 1, -1, -1):
            scheme = found[column]
            if scheme is None or (
                entities and not _has_entities(row[column] for sentence in rows for row in sentence)
            ):
                continue
            settings: Dict[str, Any] = {"scheme": scheme[0]}
            if column != width - 1:
                settings["tag_column"] = column
            token_column = 1 if column == 0 or _counts_up(rows) else 0
            if token_column:
                settings["token_column"] = token_column
            if token_column == column:
                continue
            where = f"tokens in column {token_column}, {scheme[1]} in column {column}"
            return Guess("conll", settings, f"{width} columns{why}, {where}")
    return None


def _has_entities(tags: Iterable[str]) -> bool:
    return any(tag not in ("", OUTSIDE) for tag in tags)


def _counts_up(sentences: Sequence[Sequence[Sequence[str]]]) -> bool:
    """Whether the first column counts the tokens of each sentence from 1, as in CoNLL-U."""
    return all(row[0] == str(i) for sentence in sentences for i, row in enumerate(sentence, start=1))


def _scheme(sentences: Sequence[Sequence[str]]) -> Optional[Tuple[str, str]]:
    """The scheme that the tags of some sentences break least, and what letters they have; None if most are no
    tags.

    Of schemes that are broken equally, the first of `SCHEMES`: what is BIO may be BIOS as well.
    """
    n_tags = sum(map(len, sentences))
    faults = {name: _faults(scheme, sentences) for name, scheme in SCHEMES.items()}
    name = min(faults, key=lambda name: sum(faults[name]))
    if not any(tag for sentence in sentences for tag in sentence) or 2 * faults[name][0] >= n_tags:
        return None
    letters = {tag.partition("-")[0] for sentence in sentences for tag in sentence if SCHEMES[name].has(tag)}
    begun = sorted(f"{letter}-" for letter in letters - {OUTSIDE})
    why = f"tags with {', '.join(begun)}" if begun else "tags that are all O"
    return name, f"{why}, of which I- begins entities" if name == "iob1" else why


def _faults(scheme: Scheme, sentences: Sequence[Sequence[str]]) -> Tuple[int, int]:
    """How many tags are none of the scheme, and how often the others break it."""
    n_unknown = n_broken = 0

    def complain(i: int, what: str, mend: str, kind: str) -> None:
        nonlocal n_broken
        n_broken += 1

    for sentence in sentences:
        known = [tag if scheme.has(tag) else OUTSIDE for tag in sentence]
        n_unknown += sum(tag != "" and tag != mine for tag, mine in zip(sentence, known))
        scheme.read(known, complain)
    return n_unknown, n_broken


def _has_positions(sentences: Sentences) -> bool:
    """Whether each token ends in a digit, and that is mostly 0 or one more than that of the token before."""
    n_tokens = n_in_order = highest = 0
    for sentence in sentences:
        position = -1
        for token, *_ in sentence:
            end = position_end(token, position)
            if not end:
                return False
            n_tokens += 1
            n_in_order += int(end) in (0, position + 1)
            position = int(end)
            highest = max(highest, position)
    return highest > 0 and n_in_order > 0.9 * n_tokens
