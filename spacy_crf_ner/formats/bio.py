"""Reader of BIO files: a token, one SPACE or TAB and a tag per line, an empty line between sentences.

Only "\\n" ends a line and only SPACE or TAB separates: tokens may be any other Unicode whitespace (U+3000 is
common in Chinese text), so nothing here strips or splits on whitespace in general.
"""

from pathlib import Path
from typing import Counter, Iterator, List, NamedTuple, NoReturn, Optional, Tuple, Union

from spacy_crf_ner.formats.errors import FormatError
from spacy_crf_ner.labels import OUTSIDE, split_tag

EMPTY_TAG = "empty tag is O"
STRAY_INSIDE = "I- begins an entity"
REPAIRS = (EMPTY_TAG, STRAY_INSIDE)
"""The kinds of mends that `read_bio` can make."""

_BYTE_ORDER_MARK = "\ufeff"
_SEPARATORS = frozenset(" \t")
_MAX_QUOTED = 20


class Sentence(NamedTuple):
    """One sentence as its file has it.

    tokens (List[str]): The tokens, none of them empty.
    tags (List[str]): One BIO tag a token, legal as a sequence.
    line (int): The line of the first token, counted from 1.
    n_bytes (int): How much of the file was read for it, for progress.
    """

    tokens: List[str]
    tags: List[str]
    line: int
    n_bytes: int = 0


def read_bio(
    path: Union[str, Path], *, repair: bool = False, repairs: Optional[Counter[str]] = None
) -> Iterator[Sentence]:
    """Read a BIO file one sentence at a time.

    A byte order mark is dropped, "\\r\\n" is read as "\\n", and a line that holds one SPACE or TAB and no
    more is an empty line.

    path (Union[str, Path]): The file, UTF-8.
    repair (bool): Mend what has one obvious reading: an empty tag is O, an I- that continues no entity of its
        type begins one.
    repairs (Optional[Counter[str]]): Receives the number of mends of each kind in `REPAIRS`.
    YIELDS (Sentence): The sentences, in order; none is empty.
    RAISES (FormatError): The file cannot be opened, holds no sentence, or a line is not BIO.
    """
    path = Path(path)
    repairs = Counter[str]() if repairs is None else repairs
    tokens: List[str] = []
    tags: List[str] = []
    number = first = n_read = n_bytes = 0
    running = ""  # the entity type that an I- here would continue
    try:
        with path.open("rb") as file_:
            for number, raw in enumerate(file_, start=1):
                line = _decode(path, number, raw, n_read)
                n_read += len(raw)
                n_bytes += len(raw)
                if not line or line in _SEPARATORS:
                    if tokens:
                        yield Sentence(tokens, tags, first, n_bytes)
                        tokens, tags, n_bytes = [], [], 0
                    running = ""
                    continue
                token, tag = _columns(path, number, line)
                if not tag:
                    if not repair:
                        mend = f"write {OUTSIDE} or the missing tag, or read it as {OUTSIDE} with --repair"
                        raise FormatError(path, f"token {_quote(token)} has an empty tag", mend, number)
                    repairs[EMPTY_TAG] += 1
                    tag = OUTSIDE
                prefix, label = _prefix_and_type(path, number, tag)
                if prefix == "I" and label != running:
                    if not repair:
                        what = f"tag {tag!r} continues no {label} entity: {_before(tags)}"
                        mend = f"write 'B-{label}', or begin the entity here with --repair"
                        raise FormatError(path, what, mend, number)
                    repairs[STRAY_INSIDE] += 1
                    tag = f"B-{label}"
                running = label
                first = first if tokens else number
                tokens.append(token)
                tags.append(tag)
    except OSError as error:
        _raise_unreadable(path, error)
    if tokens:
        yield Sentence(tokens, tags, first, n_bytes)
    elif not first:
        what = "the file holds no sentence" if number else "the file is empty"
        raise FormatError(path, what, "give a file with one token and tag a line", max(number, 1))


def _decode(path: Path, number: int, raw: bytes, offset: int) -> str:
    try:
        line = raw.removesuffix(b"\n").removesuffix(b"\r").decode("utf8")
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        what = f"not UTF-8 (byte 0x{byte:02x} at offset {offset + error.start} of the file)"
        mend = "convert the file to UTF-8, for example with iconv -f GB18030 -t UTF-8"
        raise FormatError(path, what, mend, number) from None
    return line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line


def _columns(path: Path, number: int, line: str) -> Tuple[str, str]:
    separator = "\t" if "\t" in line else " "
    token, found, tag = line.rpartition(separator)
    if not found:
        what = f"token {_quote(line)} has no tag"
        raise FormatError(path, what, "write one SPACE or TAB and a tag after it", number)
    if not tag and token in _SEPARATORS:
        what = "a line of blanks is neither an empty line nor a token with its tag"
        raise FormatError(path, what, "delete the blanks, or write the tag", number)
    # A single SPACE may be a token: character-level files of Latin text hold it.
    if " " in tag or "\t" in token or (" " in token and token != " "):
        what = f"a stray column after {_quote(line.replace(separator, ' ').split(' ')[0])}"
        mend = "keep the token, one SPACE or TAB and the tag, with nothing before, between or after"
        raise FormatError(path, what, mend, number)
    if not token:
        raise FormatError(path, f"tag {_quote(tag)} has no token", "write the token before it", number)
    return token, tag


def _prefix_and_type(path: Path, number: int, tag: str) -> Tuple[str, str]:
    try:
        prefix, label = split_tag(tag)
    except ValueError:
        prefix, label = "", ""
    if not prefix or any(map(str.isspace, label)):
        mend = "write O, or B- or I- before an entity type"
        raise FormatError(path, f"unknown tag {_quote(tag)}", mend, number)
    if prefix in "LU":
        mend = "write B- for U- and I- for L-"
        raise FormatError(
            path, f"tag {_quote(tag)} has the unknown prefix {prefix}- (BILUO is not BIO)", mend, number
        )
    return prefix, label


def _before(tags: List[str]) -> str:
    return f"it stands after {tags[-1]!r}" if tags else "it begins the sentence"


def _quote(text: str) -> str:
    return repr(text if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]}…")


def _raise_unreadable(path: Path, error: OSError) -> NoReturn:
    if isinstance(error, IsADirectoryError):
        raise FormatError(path, "is a directory", "give one file") from None
    if isinstance(error, FileNotFoundError):
        raise FormatError(path, "no such file", "check the path") from None
    what = f"cannot be read ({error.strerror})"
    raise FormatError(path, what, "check that it is a file that you may read") from None
