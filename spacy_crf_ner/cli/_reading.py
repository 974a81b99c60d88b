"""How commands read annotated files of any format: what their options mean, and what is said of the files."""

import json
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Sequence

import spacy
from spacy.language import Language
from typer import echo

from spacy_crf_ner.formats.guess import Guess
from spacy_crf_ner.messages import short, show_path


def blank(lang: str) -> Language:
    """A blank pipeline.

    lang (str): The language, as `spacy.blank` takes it.
    RETURNS (Language): The pipeline.
    RAISES (ValueError): spaCy has no such language, or its tokenizer is not installed.
    """
    try:
        return spacy.blank(lang)
    except ImportError as error:
        # spaCy says which, in several lines.
        reason = " ".join(str(error).split())
        fix = "choose a language of https://spacy.io/usage/models#languages"
        raise ValueError(f"--lang {short(lang)}: {reason}; {fix}") from None


def parse_settings(given: Optional[Sequence[str]], repair: bool) -> Dict[str, Any]:
    """The settings of a format from the command line.

    given (Optional[Sequence[str]]): NAME=VALUE, the value as JSON or, if it is none, a string.
    repair (bool): Whether `--repair` is given.
    RETURNS (Dict[str, Any]): The settings.
    RAISES (ValueError): One has no "=".
    """
    settings: Dict[str, Any] = {"repair": True} if repair else {}
    for setting in given or ():
        name, equals, value = setting.partition("=")
        if not equals:
            raise ValueError(f"--set {short(setting)}: no value; write NAME=VALUE")
        try:
            settings[name.replace("-", "_")] = json.loads(value)
        except (ValueError, RecursionError):
            settings[name.replace("-", "_")] = value
    return settings


def teller() -> Callable[[Path, Guess], None]:
    """Says on stderr what `auto` took the files for, once for files that follow each other and are alike."""
    last: Optional[Guess] = None

    def tell(path: Path, guess: Guess) -> None:
        nonlocal last
        if guess != last:
            settings = "".join(f" --set {name}={json.dumps(value)}" for name, value in guess.settings.items())
            echo(f"{show_path(path)}: read as --format {guess.format}{settings} ({guess.why})", err=True)
        last = guess

    return tell
