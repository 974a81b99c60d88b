"""How tests run a command within their own process."""

from typing import Tuple

from spacy.cli._util import app
from typer.testing import CliRunner

import spacy_crf_ner.cli  # noqa: F401


def invoke(command: str, *args: object) -> Tuple[int, str, str]:
    """Exit code, stdout and stderr of `spacy crf COMMAND`."""
    result = CliRunner().invoke(app, ["crf", command, *map(str, args)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result.exit_code, result.stdout, result.stderr
