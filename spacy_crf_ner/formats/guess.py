"""What a file is taken for by its beginning, and what is looked at for that."""

from pathlib import Path
from typing import Any, Mapping, NamedTuple, Sequence


class Guess(NamedTuple):
    """What a file is taken for.

    format (str): The format's name.
    settings (Mapping[str, Any]): Settings of its reader.
    why (str): What in the file says so.
    """

    format: str
    settings: Mapping[str, Any]
    why: str


class Head(NamedTuple):
    """The beginning of a text file.

    path (Path): The file, as the user named it.
    text (str): Its text, without a byte order mark. Where the file goes on, it ends with a line.
    lines (Sequence[str]): The first lines of it, without their ends.
    whole (bool): Whether the text is the whole file.
    """

    path: Path
    text: str
    lines: Sequence[str]
    whole: bool


class Unclear(Exception):
    """A file that can be read in several ways, of which none may be guessed.

    what (str): What is not clear.
    fix (str): How the user says it.
    """

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what, fix)
        self.what = what
        self.fix = fix
