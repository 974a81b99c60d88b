"""What every reader and writer of annotation raises."""

from pathlib import Path
from typing import Optional, Union

from spacy_crf_ner.messages import escape, show_path

_MAX_PART = 1000
"""What a file holds is quoted and shortened where a message is made; this is for what was forgotten there."""


class FormatError(ValueError):
    """A file that cannot be read or written as asked, on one line: ``FILE:LINE: what it is; what to do``.

    path (Union[str, Path]): The file, as the user named it.
    what (str): What is wrong.
    fix (str): What the user can do about it.
    line (Optional[int]): The line, counted from 1; None where no line is to blame.
    """

    def __init__(self, path: Union[str, Path], what: str, fix: str, line: Optional[int] = None) -> None:
        super().__init__(path, what, fix, line)
        self.path = Path(path)
        self.what = what
        self.fix = fix
        self.line = line

    def __str__(self) -> str:
        place = show_path(self.path) if self.line is None else f"{show_path(self.path)}:{self.line}"
        return f"{place}: {_shown(self.what)}; {_shown(self.fix)}"


def _shown(part: str) -> str:
    return escape(part if len(part) <= _MAX_PART else f"{part[:_MAX_PART]}…")


class UnknownFormat(FormatError):
    """A file whose format cannot be told. A command lists the formats that there are."""
