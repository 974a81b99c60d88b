"""How a command tells its user that it cannot go on, and how it ends when it is told to."""

import signal
import sys
from contextlib import contextmanager
from typing import Iterator

from spacy_crf_ner.formats.errors import UnknownFormat
from spacy_crf_ner.formats.examples import reader_examples


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn an expected error into one line on stderr and exit status 1, without a traceback.

    RAISES (SystemExit): An OSError or ValueError was raised inside.
    """
    try:
        yield
    except UnknownFormat as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        for name, looks in reader_examples().items():
            print(f"  {name:<12}{looks}", file=sys.stderr)
        print("  Formats of your own: --code FILE.py (see the README)", file=sys.stderr)
        sys.exit(1)
    except (OSError, ValueError) as error:
        # Not through wasabi, which writes to stdout: one line that other tools can parse.
        print(" ".join(str(error).split()), file=sys.stderr)
        sys.exit(1)


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
