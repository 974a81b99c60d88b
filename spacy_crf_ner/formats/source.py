"""An input: a file or standard input, compressed or not, as bytes or as lines of text in any encoding."""

import gzip
import io
import lzma
import sys
import zlib
from contextlib import contextmanager
from errno import EAGAIN
from functools import partial
from os import strerror
from pathlib import Path
from typing import Any, BinaryIO, Callable, Iterator, List, NamedTuple, Optional, Sequence, Union, cast

from spacy_crf_ner.formats.encodings import UTF_8, Recoded, advice, check_encoding, is_utf_8, marked
from spacy_crf_ner.formats.errors import FormatError

STDIN = "-"
HEAD = 1 << 16
"""How many bytes from the beginning can be looked at before the input is read."""
MAX_LINE = 1 << 26
"""No line is this long: what is was not meant to be lines, and would not fit into memory."""

BinaryStream = Any  # io.BufferedReader, which is generic in only some versions of the stubs

_BYTE_ORDER_MARK = "\ufeff"
_GZIP = b"\x1f\x8b"
_XZ = b"\xfd7zXZ\x00"


class Line(NamedTuple):
    """A line, its number counted from 1, and its text without the line's end."""

    number: int
    text: str


class Source:
    """One input. It is read once, from its beginning, in constant memory.

    What gzip or xz compressed is told by its first bytes, whatever it is called. So is a text in UTF-16 or UTF-32
    that begins with a byte order mark.

    path (Union[str, Path]): A file; "-" is standard input.
    encoding (Optional[str]): The encoding of a text; None: that of its byte order mark, or UTF-8.
    progress (Optional[Callable[[int], object]]): Called with the number of bytes read from the file, as they are.
    RAISES (ValueError): There is no such encoding.
    """

    def __init__(
        self,
        path: Union[str, Path],
        *,
        encoding: Optional[str] = None,
        progress: Optional[Callable[[int], object]] = None,
    ) -> None:
        check_encoding(encoding)
        self.path = Path(path)
        self._encoding = encoding
        self._progress = progress
        self._stream: Optional[BinaryStream] = None
        self._text: Optional[BinaryStream] = None
        self._start = b""

    def error(self, what: str, fix: str, line: Optional[int] = None) -> FormatError:
        """An error that names this input, for a reader to raise.

        what (str): What is wrong.
        fix (str): What the user can do about it.
        line (Optional[int]): The line, counted from 1.
        RETURNS (FormatError): The error.
        """
        return FormatError(self.path, what, fix, line)

    def beside(self, suffix: str) -> "Source":
        """The input of the same name with another suffix."""
        return Source(self.path.with_suffix(suffix), encoding=self._encoding, progress=self._progress)

    def head(self) -> bytes:
        """The first bytes, 65,536 if there are as many, decompressed. They are read again afterwards.

        RAISES (FormatError): The file cannot be opened or decompressed.
        """
        with self._explained():
            return self._opened().peek(HEAD)[:HEAD]

    def text_head(self) -> bytes:
        """The same of a text, in UTF-8 and with LF as the line end.

        RAISES (FormatError): The file cannot be opened, decompressed or decoded.
        """
        with self._explained():
            return self._opened_text().peek(HEAD)[:HEAD]

    def read(self) -> bytes:
        """All bytes, decompressed.

        RAISES (FormatError): The file cannot be read.
        """
        with self._explained(), self._opened() as stream:
            return stream.read()

    def text(self) -> str:
        """All of the text, its line ends and byte order mark as they are: offsets may count them.

        RAISES (FormatError): The file cannot be read, or decoded.
        """
        raw = self.read()
        encoding = self._encoding or marked(raw) or UTF_8
        if is_utf_8(encoding):
            return self.decode(raw, 0, 1)
        self._start = raw[:4]
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError as error:
            raise self._undecodable(error, 0, 1) from None

    def chunks(self) -> Iterator[bytes]:
        """The text in UTF-8, some bytes at a time.

        RAISES (FormatError): The file cannot be read or decoded.
        """
        with self._explained(), self._opened_text() as stream:
            while chunk := stream.read(HEAD):
                yield chunk

    def lines(self) -> Iterator[Line]:
        """The lines. Only "\\n" and "\\r\\n" end one, and "\\r" where there is no "\\n" at the beginning of the
        file; a byte order mark at the beginning is dropped.

        RAISES (FormatError): The file cannot be read or decoded, or has a line of 64 MiB.
        """
        offset = 0
        with self._explained(), self._opened_text() as stream:
            for number, raw in enumerate(iter(partial(stream.readline, MAX_LINE), b""), start=1):
                if len(raw) == MAX_LINE:
                    what = f"a line of more than {MAX_LINE:,} bytes"
                    raise self.error(what, "give a text file with line ends", number)
                text = self.decode(raw.removesuffix(b"\n").removesuffix(b"\r"), offset, number)
                offset += len(raw)
                yield Line(number, text.removeprefix(_BYTE_ORDER_MARK) if number == 1 else text)

    def decode(self, raw: bytes, offset: int, line: int) -> str:
        """Decode UTF-8.

        raw (bytes): A line, or any other part that ends with a character.
        offset (int): Of the part in the input, in bytes.
        line (int): Its line, counted from 1.
        RETURNS (str): The text.
        RAISES (FormatError): It is not UTF-8, or holds a NUL; the error names the byte.
        """
        try:
            text = raw.decode("utf8")
        except UnicodeDecodeError as error:
            raise self._undecodable(error, offset, line) from None
        if (at := raw.find(b"\x00")) >= 0:
            # No text holds one. ASCII in UTF-16 or UTF-32 without a byte order mark does, and passes for UTF-8.
            what = f"a NUL character (byte 0x00 at offset {offset + at} of the file)"
            raise self.error(what, advice(raw), line + raw.count(b"\n", 0, at))
        return text

    def _undecodable(self, error: UnicodeDecodeError, offset: int, line: int) -> FormatError:
        """The error that a part of the file is not in its encoding; offset and line are those of the part."""
        raw = error.object
        encoding = self._encoding or marked(self._start) or UTF_8
        place = f"byte 0x{raw[error.start]:02x} at offset {offset + error.start} of the file"
        fix = "correct the text, or its encoding" if not is_utf_8(encoding) else advice(raw)
        if self._encoding and not is_utf_8(encoding):
            fix = "give the file's own --encoding"
        n_lines = len(raw[: error.start].decode(encoding, errors="replace").split("\n")) - 1
        return self.error(f"not {encoding.upper()} ({place})", fix, line + n_lines)

    def _opened_text(self) -> BinaryStream:
        """The text in UTF-8."""
        if self._text is None:
            stream = self._opened()
            head = stream.peek(HEAD)
            self._start = head[:4]
            encoding = self._encoding or marked(head) or UTF_8
            if not is_utf_8(encoding) or (b"\r" in head and b"\n" not in head):
                stream = io.BufferedReader(
                    _Filling(cast(BinaryIO, Recoded(stream, encoding, self._undecodable))), HEAD
                )
            self._text = stream
        return self._text

    def _opened(self) -> BinaryStream:
        if self._stream is None:
            # Unbuffered and buffered again: the head can be looked at only in a buffer that is filled.
            if str(self.path) == STDIN and sys.stdin is None:
                raise self.error("standard input is closed", "give it a file, as with < FILE, or name the file")
            raw = sys.stdin.buffer if str(self.path) == STDIN else self.path.open("rb", buffering=0)
            stream: BinaryStream = io.BufferedReader(_Filling(cast(BinaryIO, raw), self._progress), HEAD)
            magic = stream.peek(len(_XZ))
            if magic.startswith(_GZIP):
                stream = io.BufferedReader(_Filling(cast(BinaryIO, gzip.GzipFile(fileobj=stream))), HEAD)
            elif magic.startswith(_XZ):
                stream = io.BufferedReader(_Filling(cast(BinaryIO, lzma.LZMAFile(stream))), HEAD)  # noqa: SIM115 - closed in it
            self._stream = stream
        return self._stream

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error) as error:
            what = f"the compressed data is damaged or cut off ({error})"
            raise self.error(what, "fetch or compress the file again") from None
        except IsADirectoryError:
            raise self.error("is a directory", "give one file") from None
        except FileNotFoundError:
            raise self.error("no such file", "check the path") from None
        except OSError as error:
            what = f"cannot be read ({error.strerror or error})"
            raise self.error(what, "check that it is a file that you may read") from None


class _Filling(io.RawIOBase):
    """Reads as much as is asked for, however little a pipe or a decompressor gives at a time."""

    def __init__(self, raw: BinaryIO, progress: Optional[Callable[[int], object]] = None) -> None:
        self._raw = raw
        self._progress = progress

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        view = memoryview(buffer)
        n_read = 0
        while n_read < len(view):
            more = self._raw.readinto(view[n_read:])  # type: ignore[attr-defined]
            if more is None:  # a pipe that does not wait
                raise BlockingIOError(EAGAIN, strerror(EAGAIN))
            if not more:
                break
            n_read += more
        if self._progress is not None:
            self._progress(n_read)
        return n_read

    def close(self) -> None:
        if not self.closed and self._raw is not getattr(sys.stdin, "buffer", None):
            self._raw.close()
        super().close()


def find_files(paths: Sequence[Union[str, Path]]) -> List[Path]:
    """The files that some paths mean: themselves, and all below those that are folders.

    paths (Sequence[Union[str, Path]]): Files, folders, or "-" for standard input.
    RETURNS (List[Path]): The files, in the order given, those of a folder by name. What is hidden is left out, and
        links to folders are not followed.
    RAISES (FormatError): A path or what a link names is not there, or a folder holds no file.
    """
    files: List[Path] = []
    for path in map(Path, paths):
        if not path.is_dir():
            if str(path) != STDIN and not path.exists():
                raise FormatError(path, "no such file", "check the path")
            files.append(path)
            continue
        inside = []
        for below in sorted(path.rglob("*")):
            if below.is_symlink() and not below.exists():
                raise FormatError(below, "a link to what is not there", "correct or delete it")
            if below.is_file() and not any(part.startswith(".") for part in below.relative_to(path).parts):
                inside.append(below)
        if not inside:
            raise FormatError(path, "the folder holds no file", "name a file, or a folder that holds some")
        files.extend(inside)
    return files
