"""How a command tells its user that it cannot go on, and how it ends when it is told to."""

import os
import signal
import sys
from contextlib import contextmanager, suppress
from typing import Any, Iterator, List

from typer.core import TyperGroup

from spacy_crf_ner.formats.errors import UnknownFormat
from spacy_crf_ner.formats.examples import reader_examples
from spacy_crf_ner.messages import one_line, short, show_path

_FULL = "check that there is room, and that whatever reads it goes on reading"


class OneLineErrors(TyperGroup):
    """Commands whose errors are one line, also where their own output cannot be written out at the end."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command.

        RAISES (SystemExit): It cannot go on, or what it printed cannot be written.
        """
        with one_line_errors():
            result = super().invoke(ctx)
            if sys.stdout is not None:
                sys.stdout.flush()
            return result


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn an expected error into one line on stderr and exit status 1, without a traceback.

    RAISES (SystemExit): An OSError or ValueError was raised inside.
    """
    try:
        yield
    except (OSError, ValueError, RecursionError) as error:
        # Not through wasabi, which writes to stdout: one line that other tools can parse.
        if sys.stderr is not None:
            with suppress(OSError):
                print(_said(error), *_formats(error), sep="\n", file=sys.stderr)
        _forget_output()
        sys.exit(1)


def require_stdout() -> None:
    """Refuse to write to a standard output that is closed, where Python would write nothing and say nothing.

    RAISES (OSError): It is closed.
    """
    if sys.stdout is None:
        raise OSError("standard output: is closed; name a file")


def _formats(error: BaseException) -> List[str]:
    """The formats that there are, a line each, where that of a file cannot be told."""
    if not isinstance(error, UnknownFormat):
        return []
    return [f"  {short(name):<12}{one_line(looks)}" for name, looks in reader_examples().items()]


def _said(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "the input is nested too deeply; write it flat"
    if isinstance(error, OSError) and error.strerror is not None:
        # What fails without a name is what the process was given: files are named where they are written.
        if error.filename is None:
            return f"standard output: cannot be written ({error.strerror}); {_FULL}"
        return (
            f"{show_path(os.fsdecode(error.filename))}: {error.strerror}; check the path, and that you may use it"
        )
    return one_line(error)


def _forget_output() -> None:
    """Drop what cannot be written, or Python would try once more at its end, and say so in lines of its own."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, sys.stdout.fileno())
            os.close(nothing)


@contextmanager
def orderly_termination() -> Iterator[None]:
    """Let SIGTERM unwind the stack as an interrupt does, so that temporary files are removed.

    RAISES (SystemExit): The signal came; the status is 143, as if it had killed the process.
    """

    def leave(number: int, frame: object) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
