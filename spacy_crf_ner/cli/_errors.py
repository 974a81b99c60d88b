"""How a command tells its user that it cannot go on."""

import sys
from contextlib import contextmanager
from typing import Iterator


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn an expected error into one line on stderr and exit status 1, without a traceback.

    RAISES (SystemExit): An OSError or ValueError was raised inside.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        # Not through wasabi, which writes to stdout: one line that other tools can parse.
        print(" ".join(str(error).split()), file=sys.stderr)
        sys.exit(1)
