"""The records of a JSON file, one at a time.

Read by the standard library's decoder over a buffer, and not by ijson: that names no line, keeps the second of two
equal keys, and turns a lone surrogate into "?".
"""

import codecs
import json
import re
from collections import Counter
from typing import Any, Dict, Iterator, List, NamedTuple, NoReturn, Tuple

from spacy_crf_ner.formats.errors import FormatError
from spacy_crf_ner.formats.source import Source
from spacy_crf_ner.messages import quote

MAX_RECORD = 1 << 26
"""No record has as many characters: what has was not meant to be records, and would not fit into memory."""
MAX_DEPTH = 100
"""No record has as many lists and objects within each other: what writes it again could not follow."""

_BYTE_ORDER_MARK = "\ufeff"
_WHITE = re.compile(r"[ \t\n\r]*")
_OPENED = re.compile(r"\[[ \t\n\r]*")
_REST_OF_LINE = re.compile(r"[^\n\r]*")
# What may be left of a literal, a number or an escape that is cut.
_PIECE = re.compile(r"[\w\\+.-]*\s*")
_LONGEST_PIECE = len("-Infinity")
_AGAIN = "correct it, or export the file again"


class JsonValue(NamedTuple):
    """A record of a JSON file, and the line where it begins, counted from 1."""

    value: Any
    line: int


def values(source: Source, *, lists: bool = False, max_record: int = MAX_RECORD) -> Iterator[JsonValue]:
    """Read the records of a JSON file, in constant memory.

    The file holds objects one after another, in whatever lines (JSON lines is the common case), or one array of
    objects. A byte order mark at the beginning is dropped.

    source (Source): The file.
    lists (bool): Records may be lists that begin with a string, and nulls, too.
    max_record (int): How many characters a record may have.
    YIELDS (JsonValue): The records; without `lists`, each is an object.
    RAISES (FormatError): The file cannot be read, is not UTF-8, is not JSON or stops in the middle of it; a record
        is not an object, is too long or nested too deeply; an object has a key twice, which would lose the first
        value; a string holds a lone surrogate.
    """
    buffer = _Buffer(source, max_record, '{[n"' if lists else "{")
    if buffer.peek() == "[" and not (lists and buffer.opens_record()):
        yield from _items(buffer)
    else:
        while buffer.peek():
            yield buffer.record()


def _items(buffer: "_Buffer") -> Iterator[JsonValue]:
    """The items of the array that begins here."""
    last = buffer.line
    buffer.skip()
    closed = buffer.peek_on(last) == "]"
    while not closed:
        item = buffer.record()
        yield item
        last = item.line
        separator = buffer.peek_on(last)
        closed = separator == "]"
        if separator == ",":
            buffer.skip()
            if buffer.peek_on(last) == "]":
                raise buffer.error("there is a comma before the array's end", "delete the comma")
        elif not closed:
            raise buffer.error(f"{buffer.quoted()} is in the place of a comma or the array's end", _AGAIN)
    buffer.skip()
    if buffer.peek():
        raise buffer.error(f"{buffer.quoted()} follows the array's end", "delete what follows the array")


class _Buffer:
    """A part of the file, which moves on as it is read.

    line (int): Where it is read, counted from 1.
    """

    def __init__(self, source: Source, max_record: int, openers: str) -> None:
        self.line = 1
        self._openers = openers
        self._source = source
        self._max = max_record
        self._texts = _texts(source)
        self._text = ""
        self._at = 0
        self._column = 0  # how many characters of the line come before the text

    def peek(self) -> str:
        """Go to the next character that is not white space, and tell it; an empty string at the file's end."""
        while True:
            match = _WHITE.match(self._text, self._at)
            assert match is not None
            self._go(match.end())
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def peek_on(self, last: int) -> str:
        """The same in an array, which cannot end here; `last` is the line where its last item begins."""
        character = self.peek()
        if not character:
            raise self._stopped("the array, after what this line begins", last)
        return character

    def opens_record(self) -> bool:
        """Whether the bracket that `peek` told opens a list that begins with a string: a record, and no array."""
        while (match := _OPENED.match(self._text, self._at)) is not None and match.end() == len(self._text):
            if not self._more():
                return False
        return match is not None and self._text[match.end()] == '"'

    def skip(self) -> None:
        """Go past the character that `peek` told."""
        self._at += 1

    def record(self) -> JsonValue:
        """Read the record that begins with the character that `peek` told."""
        if self._text[self._at] not in self._openers:
            what = f"{self.quoted()} is in the place of a record"
            raise self.error(what, 'write each record as an object, as {"text": "…"}, or name another --format')
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
                break
            except json.JSONDecodeError as error:
                self._read_on(error)
            except RecursionError:
                raise self._too_deep() from None
            except ValueError as error:
                raise self.error(str(error), _AGAIN) from None
        self._check_length(end)
        self._check_depth(value, end)
        self._check_surrogates(value, end)
        record = JsonValue(value, self.line)
        self._go(end)
        return record

    def quoted(self) -> str:
        """The rest of the line, for a message."""
        match = _REST_OF_LINE.match(self._text, self._at)
        assert match is not None
        return quote(match.group())

    def error(self, what: str, fix: str) -> FormatError:
        """An error at the character that `peek` told."""
        return self._source.error(what, fix, self.line)

    def _stopped(self, where: str, line: int) -> FormatError:
        """The error that the file ends too early."""
        return self._source.error(f"the file ends inside {where}", "fetch or export it again, whole", line)

    def _read_on(self, error: json.JSONDecodeError) -> None:
        """Add to the text, where it is the end of it that is to blame; raise where it is not."""
        unterminated = error.msg.startswith("Unterminated string")
        if unterminated or len(self._text) - error.pos <= _LONGEST_PIECE:
            self._check_length(len(self._text))
            if self._more():
                return
        if unterminated or _PIECE.fullmatch(self._text, error.pos):
            raise self._stopped("the record that this line begins", self.line) from None
        self._refuse(error)

    def _refuse(self, error: json.JSONDecodeError) -> NoReturn:
        line = self.line + self._text.count("\n", self._at, error.pos)
        begun = "" if line == self.line else f" in the record that line {self.line} begins"
        column = f"column {self._column_of(error.pos) + 1}"
        if error.msg.startswith("Invalid control character"):
            what = f"a string{begun} goes on over {self._text[error.pos]!r} ({column})"
            raise self._source.error(what, "close the string, or write \\n, \\r, \\t or \\u00XX", line) from None
        raise self._source.error(f"invalid JSON{begun}: {error.msg} ({column})", _AGAIN, line) from None

    def _check_length(self, end: int) -> None:
        if end - self._at > self._max:
            raise self.error(f"a record of more than {self._max:,} characters", "give one record for each text")

    def _check_depth(self, value: Any, end: int) -> None:
        # Few records have as many brackets at all.
        if sum(self._text.count(bracket, self._at, end) for bracket in "[{") > MAX_DEPTH and _is_deep(value):
            raise self._too_deep()

    def _too_deep(self) -> FormatError:
        return self.error("a record that is nested too deeply", "write records that are flat")

    def _check_surrogates(self, value: Any, end: int) -> None:
        # Only an escape can make one: whatever is not UTF-8 has been refused.
        if self._text.find("\\ud", self._at, end) < 0 and self._text.find("\\uD", self._at, end) < 0:
            return
        try:
            json.dumps(value, ensure_ascii=False).encode("utf8")
        except UnicodeEncodeError as error:
            what = f"a lone surrogate, {error.object[error.start]!r}"
            raise self.error(what, "write the whole pair, or the character itself") from None

    def _column_of(self, position: int) -> int:
        newline = self._text.rfind("\n", 0, position)
        return position - newline - 1 if newline >= 0 else self._column + position

    def _go(self, to: int) -> None:
        self.line += self._text.count("\n", self._at, to)
        self._at = to

    def _more(self) -> bool:
        """Forget what was read, and double what was not: so a long record is read in linear time."""
        unread = len(self._text) - self._at
        more: List[str] = []
        wanted = min(unread, self._max + 1 - unread)
        for text in self._texts:
            more.append(text)
            wanted -= len(text)
            if wanted <= 0:
                break
        if not more:
            return False
        self._column = self._column_of(self._at)
        self._text = "".join([self._text[self._at :], *more])
        self._at = 0
        return True


def _texts(source: Source) -> Iterator[str]:
    """The text of the file, some at a time."""
    rest, offset, line = b"", 0, 1
    first = True
    for chunk in source.chunks():
        raw = rest + chunk
        try:
            text, n_read = codecs.utf_8_decode(raw, "strict", False)
        except UnicodeDecodeError:
            # It says where.
            text, n_read = source.decode(raw, offset, line), len(raw)
        rest = raw[n_read:]
        offset += n_read
        line += text.count("\n")
        if first and text:
            text, first = text.removeprefix(_BYTE_ORDER_MARK), False
        yield text
    source.decode(rest, offset, line)


def _is_deep(value: Any) -> bool:
    """Whether more than `MAX_DEPTH` lists and objects are within each other."""
    level = [value]
    for _ in range(MAX_DEPTH):
        within = (part.values() if isinstance(part, dict) else part for part in level)
        level = [item for items in within for item in items if isinstance(item, (dict, list))]
        if not level:
            return False
    return True


def _object(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"an object has the key {quote(twice)} twice")
    return made


def _constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)
