"""In which encoding a text may be: told by its byte order mark, named by the user, or suggested by its bytes."""

import codecs
import io
from typing import Any, Callable, Dict, Optional, Tuple

UTF_8 = "utf-8"

_MARKS: Tuple[Tuple[bytes, str], ...] = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16's, with which it begins
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_CHUNK = 1 << 16

# The first bytes of the characters that are in common use, and of punctuation: level 1 of GB 2312 and of Big5.
_COMMON: Dict[str, Tuple[Tuple[int, int], ...]] = {
    "gb18030": ((0xA1, 0xA3), (0xB0, 0xD7)),
    "big5": ((0xA1, 0xA3), (0xA4, 0xC6)),
}
_LATIN = "cp1252"
_ENOUGH = 0.6
"""The share of the characters beyond ASCII that must be common in an encoding, for it to be suggested."""


def check_encoding(encoding: Optional[str]) -> None:
    """Check the name of an encoding.

    RAISES (ValueError): Python has no text encoding of this name.
    """
    if encoding is None:
        return
    try:
        "a".encode(encoding)
    except (LookupError, TypeError, ValueError):
        what = f"there is no text encoding {encoding!r:.40}"
        raise ValueError(f"{what}; give a name that Python knows, such as gb18030, big5 or cp1252") from None


def is_utf_8(encoding: str) -> bool:
    """Whether this is a name of UTF-8."""
    return codecs.lookup(encoding).name in ("utf-8", "utf-8-sig")


def marked(head: bytes) -> Optional[str]:
    """The encoding that a byte order mark names, but for that of UTF-8; None where there is none.

    head (bytes): The first bytes of a file.
    """
    return next((name for mark, name in _MARKS if head.startswith(mark)), None)


def suggested(raw: bytes) -> Optional[str]:
    """The encoding that bytes suggest which are not UTF-8; None where they suggest none.

    raw (bytes): Some lines.
    """
    if b"\x00" in raw:
        # Every second byte of ASCII in UTF-16: the second of each pair where the low byte comes first.
        even, odd = raw[::2].count(0), raw[1::2].count(0)
        return "utf-16-le" if odd > even else "utf-16-be" if even > odd else None
    shares = {name: _share_of_common(raw, name) for name in _COMMON}
    shares[_LATIN] = _share_of_single(raw)
    best = max(shares, key=lambda name: shares[name])
    return best if shares[best] >= _ENOUGH else None


def advice(raw: bytes) -> str:
    """What to do about bytes that are not UTF-8."""
    encoding = suggested(raw)
    if encoding is None:
        return "name the encoding with --encoding, such as gb18030, big5 or cp1252"
    return f"the bytes suggest {encoding.upper()}: read it with --encoding {encoding}"


def _share_of_common(raw: bytes, encoding: str) -> float:
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        if error.end < len(raw) or error.start == 0:
            return 0.0
        text = raw[: error.start].decode(encoding)  # cut inside the last character
    firsts = [character.encode(encoding)[0] for character in text if character > "\x7f"]
    common = sum(any(low <= first <= high for low, high in _COMMON[encoding]) for first in firsts)
    return common / len(firsts) if firsts else 0.0


def _share_of_single(raw: bytes) -> float:
    """The share of the bytes beyond ASCII that have none beside them and a letter of ASCII."""
    try:
        text = raw.decode(_LATIN)
    except UnicodeDecodeError:
        return 0.0
    beyond = [i for i, character in enumerate(text) if character > "\x7f"]
    single = 0
    for i in beyond:
        before, after = text[max(i - 1, 0) : i], text[i + 1 : i + 2]
        single += before.isascii() and after.isascii() and (before.isalpha() or after.isalpha())
    return single / len(beyond) if beyond else 0.0


class Recoded(io.RawIOBase):
    """A text in another encoding, as UTF-8. Where CR is its only line end, each becomes LF.

    stream (BinaryIO): The text.
    encoding (str): Its encoding.
    fail (Callable[[UnicodeDecodeError, int, int], Exception]): Makes the error that is raised where a part cannot
        be decoded, of the decoder's own, the offset of the part in bytes and its line, counted from 1.
    """

    def __init__(
        self, stream: Any, encoding: str, fail: Callable[[UnicodeDecodeError, int, int], Exception]
    ) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)("strict")
        self._encoding = encoding
        self._newlines: Optional[io.IncrementalNewlineDecoder] = None
        self._fail = fail
        self._first, self._ended = True, False
        self._offset, self._line = 0, 1
        self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready and not self._ended:
            self._ready = self._next().encode("utf8")
        n_read = min(len(buffer), len(self._ready))
        buffer[:n_read] = self._ready[:n_read]
        self._ready = self._ready[n_read:]
        return n_read

    def _next(self) -> str:
        raw = self._stream.read(_CHUNK)
        self._ended = not raw
        # What the decoder holds back of the part before belongs to this one.
        held = len(self._decoder.getstate()[0])
        try:
            text = self._decoder.decode(raw, final=self._ended)
        except UnicodeDecodeError as error:
            raise self._fail(error, self._offset - held, self._line) from None
        except UnicodeError as error:  # no byte order mark where the encoding's name asks for one
            first = UnicodeDecodeError(self._encoding, raw, 0, 1, str(error))
            raise self._fail(first, self._offset - held, self._line) from None
        self._offset += len(raw)
        self._line += text.count("\n")
        if self._first and "\r" in text and "\n" not in text:
            self._newlines = io.IncrementalNewlineDecoder(None, translate=True)
        self._first = self._first and not text
        return text if self._newlines is None else self._newlines.decode(text, final=self._ended)
