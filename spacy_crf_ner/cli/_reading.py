"""The options with which commands read annotated files of any format."""

import json
from pathlib import Path
from typing import Annotated, Any, Callable, Dict, List, Optional, Sequence

import spacy
from spacy.cli._util import Opt
from spacy.language import Language
from typer import echo

from spacy_crf_ner.formats.guess import Guess
from spacy_crf_ner.messages import short, show_path

FormatOption = Annotated[
    str, Opt("--format", "-f", help="Format of the input; auto looks at the beginning of each file")
]
LangOption = Annotated[str, Opt("--lang", "-l", help="Language whose blank pipeline tokenizes")]
EncodingOption = Annotated[
    Optional[str],
    Opt("--encoding", help="Encoding of the input, as gb18030, big5 or cp1252  [default: UTF-8, or by its mark]"),
]
RepairOption = Annotated[
    bool, Opt("--repair", "-r", help="Mend what breaks the tagging scheme and has one obvious reading; count it")
]
SetOption = Annotated[
    Optional[List[str]],
    Opt("--set", "-s", metavar="NAME=VALUE", help="A setting of the format, as tag_column=3; may be repeated"),
]
CodeOption = Annotated[
    Optional[Path],
    Opt("--code", "-c", help="Python file to run before, in which a format of your own is registered"),
]


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
        mend = "choose a language of https://spacy.io/usage/models#languages"
        raise ValueError(f"--lang {short(lang)}: {reason}; {mend}") from None


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
