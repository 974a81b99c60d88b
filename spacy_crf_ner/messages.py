"""How what others wrote is shown in a message: on one line, escaped, and not too long."""

from pathlib import Path
from reprlib import Repr
from typing import Iterable, Sequence, Union

MAX_QUOTED = 20
"""How many characters of a text a message quotes."""
_MAX_VALUE = 200
_MAX_PATH = 500
_MAX_MESSAGE = 4000
_MAX_LISTED = 10
_MAX_NAME = 120

_repr = Repr()
_repr.maxstring = _repr.maxother = _repr.maxlong = 40
_repr.maxlevel = 3


def quote(value: object) -> str:
    """A value as it may be shown in a message.

    value (object): What a file or a user gave: a text, or whatever is in its place.
    RETURNS (str): Its `repr`, shortened: what does not print is escaped.
    """
    if isinstance(value, str):
        return repr(value if len(value) <= MAX_QUOTED else f"{value[:MAX_QUOTED]}…")
    shown = escape(_repr.repr(value))
    return shown if len(shown) <= _MAX_VALUE else f"{shown[:_MAX_VALUE]}…"


def short(text: str) -> str:
    """A name as it may be shown in a message without quotes, as that of a label: escaped and shortened."""
    return escape(text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}…")


def listed(values: Iterable[object]) -> str:
    """Some values as they may be shown in a message: the first ten quoted, and the others counted."""
    quoted = [quote(value) for value in values]
    more = [f"{len(quoted) - _MAX_LISTED} more"] if len(quoted) > _MAX_LISTED else []
    return ", ".join([*quoted[:_MAX_LISTED], *more])


def some(names: Sequence[str]) -> str:
    """Name the first weights of a list, and count the rest.

    names (Sequence[str]): The names.
    RETURNS (str): Four of them at most.
    """
    more = [f"{len(names) - 4} more"] if len(names) > 4 else []
    return ", ".join([*(escape(name[:_MAX_NAME]) for name in names[:4]), *more])


def escape(text: str) -> str:
    """A text whose characters all print: a name may hold line ends, and sequences that steer a terminal.

    text (str): The text. Bytes of a file name that are not UTF-8 are lone surrogates in it.
    RETURNS (str): The text, ``\\x1b`` in place of an escape character.
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def show_path(path: Union[str, Path]) -> str:
    """A path as it may be shown in a message: as the user wrote it, escaped; only the end of a very long one."""
    text = str(path)
    return escape(text if len(text) <= _MAX_PATH else f"…{text[-_MAX_PATH:]}")


def quote_path(path: Union[str, Path]) -> str:
    """The same in quotes, where the path is inside a sentence."""
    return f"'{show_path(path)}'"


def one_line(text: object) -> str:
    """A message on one line, whoever wrote it.

    text (object): The message, or an error.
    RETURNS (str): Its text without line ends and escaped; the beginning of a very long one.
    """
    joined = " ".join(str(text).split())
    return escape(joined if len(joined) <= _MAX_MESSAGE else f"{joined[:_MAX_MESSAGE]}…")
