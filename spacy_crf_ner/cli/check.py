"""`python -m spacy crf check`: in place of `spacy debug data`, which looks for a factory called `ner`."""

import os
from pathlib import Path
from typing import Annotated, Optional, Sequence

import srsly
from spacy.cli._util import import_code
from typer import Argument, Exit, Option, echo
from wasabi import Printer

from spacy_crf_ner.atomic_files import whole_file
from spacy_crf_ner.cli._app import app
from spacy_crf_ner.cli._check_page import CheckPage, print_errors
from spacy_crf_ner.cli._errors import one_line_errors, require_stdout
from spacy_crf_ner.cli._options import (
    CodeOption,
    EncodingOption,
    FormatOption,
    LangOption,
    RepairOption,
    SetOption,
)
from spacy_crf_ner.cli._reading import blank, parse_settings, teller
from spacy_crf_ner.corpus.check import CorpusCheck, CorpusReport
from spacy_crf_ner.corpus.finding import Severity, parse_fail_on
from spacy_crf_ner.corpus.vocabulary import EncoderVocabulary, VectorsVocabulary
from spacy_crf_ner.formats.doc_builder import RENEW_EVERY, DocMaker
from spacy_crf_ner.formats.reading import AUTO, read
from spacy_crf_ner.formats.source import find_files
from spacy_crf_ner.formats.writing import STDOUT

DEFAULT_WINDOW = 128
"""That of this package's models, in tokens or word-pieces."""


@app.command("check")
def check_cli(
    train: Annotated[Path, Argument(help="Training data: a file or a folder, of any format; - is standard input")],
    dev: Annotated[Optional[Path], Argument(help="Dev data")] = None,
    test: Annotated[Optional[Path], Argument(help="Test data")] = None,
    format: FormatOption = AUTO,
    encoding: EncodingOption = None,
    lang: LangOption = "zh",
    repair: RepairOption = False,
    settings: SetOption = None,
    code: CodeOption = None,
    window: Annotated[
        int,
        Option(
            "--window", "-w", min=1, help="What the model sees at a time: word-pieces with --encoder, else tokens"
        ),
    ] = DEFAULT_WINDOW,
    encoder: Annotated[
        Optional[str],
        Option("--encoder", "-e", help="The encoder that will be trained: a name on the hub, or a folder"),
    ] = None,
    vectors: Annotated[
        Optional[Path], Option("--vectors", "-v", help="The vectors of the pipeline, from `spacy init vectors`")
    ] = None,
    json: Annotated[
        Optional[Path], Option("--json", "-j", help="File for all numbers and findings; - is standard output")
    ] = None,
    fail_on: Annotated[
        str, Option("--fail-on", metavar="WHAT", help="Exit with 1 on: error, warning, none, or CODE[,CODE...]")
    ] = Severity.ERROR.value,
    verbose: Annotated[bool, Option("--verbose", "-V", help="Show more examples")] = False,
) -> None:
    """Say what the data holds, what in it will hurt, and what to do about it.

    Exit status 1 if a file cannot be read, or if there is a finding that --fail-on names.
    """
    given = {"train": train, "dev": dev, "test": test}
    paths = {name: path for name, path in given.items() if path is not None}
    with one_line_errors():
        failing = parse_fail_on(fail_on)
        find_files(list(paths.values()))  # what is not there is told before anything is read
        import_code(code)
        parsed, tell = parse_settings(settings, repair), teller()
        check = CorpusCheck(
            window,
            encoder=EncoderVocabulary(encoder) if encoder else None,
            vectors=VectorsVocabulary(vectors) if vectors else None,
        )
        for name, path in paths.items():
            make = DocMaker(lambda: blank(lang), renew_every=RENEW_EVERY)
            check.add(name, read([path], make, format=format, settings=parsed, encoding=encoding, tell=tell), make)
        report = check.report()
        _write(report, list(paths.values()), json, verbose)
    found = {finding.code: True for finding in report.findings if finding.code in failing}
    if found:
        echo(f"--fail-on {fail_on}: {', '.join(found)}", err=True)
        raise Exit(1)


def _write(report: CorpusReport, paths: Sequence[Path], json: Optional[Path], verbose: bool) -> None:
    """Print the report, or write it, or both."""
    if json is not None and str(json) == STDOUT:
        require_stdout()
        echo(srsly.json_dumps(report.to_json(), indent=2))
        print_errors(report.findings)
        return
    msg = Printer()
    CheckPage(msg, report, root=_root(paths), verbose=verbose).print()
    if json is not None:
        with whole_file(json) as part:
            srsly.write_json(part, report.to_json())
        msg.good(f"Saved all numbers and findings to {json}")


def _root(paths: Sequence[Path]) -> str:
    """The folder, with the slash at its end, that all paths are in; "" for none."""
    parents = {path.parent for path in paths}
    parent = parents.pop()
    return "" if parents or parent == Path() else f"{parent}{os.sep}"
