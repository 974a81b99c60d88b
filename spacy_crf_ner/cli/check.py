"""`python -m spacy crf check`: in place of `spacy debug data`, which looks for a factory called `ner`."""

from pathlib import Path
from typing import Annotated, Optional, Sequence

from spacy import util
from typer import Argument, Exit, Option, echo
from wasabi import Printer

from spacy_crf_ner.cli._app import app
from spacy_crf_ner.cli._errors import one_line_errors
from spacy_crf_ner.evaluation.corpus_check import (
    TRAIN,
    Findings,
    SplitStats,
    all_types,
    find_problems,
    split_stats,
)
from spacy_crf_ner.evaluation.files import read_docs


@app.command("check")
def check_cli(
    train: Annotated[Path, Argument(help="Training docs: a .spacy file or a directory of them")],
    dev: Annotated[Path, Argument(help="Dev docs")],
    test: Annotated[Optional[Path], Argument(help="Test docs")] = None,
    lang: Annotated[str, Option("--lang", "-l", help="Language of the docs' vocabulary")] = "zh",
) -> None:
    """Count what the data splits hold, and say what in them will hurt.

    Exit status 1 if a split cannot be read or is useless as it is.
    """
    paths = {TRAIN: train, "dev": dev, "test": test}
    with one_line_errors():
        try:
            vocab = util.get_lang_class(lang)().vocab
        except ImportError as error:
            raise ValueError(f"--lang {lang}: {error}") from error
        splits = [split_stats(name, read_docs(path, vocab)) for name, path in paths.items() if path is not None]
    msg = Printer()
    _print_stats(msg, splits)
    _print_unseen(msg, splits)
    _report(msg, find_problems(splits))


def _print_stats(msg: Printer, splits: Sequence[SplitStats]) -> None:
    """Print what each split holds, a column a split."""
    types = all_types(splits)
    rows = [
        ("Docs", *(split.docs for split in splits)),
        ("Docs without entity", *(split.docs_without_entity for split in splits)),
        ("Empty docs", *(split.empty_docs for split in splits)),
        ("Longest doc (tokens)", *(split.longest for split in splits)),
        ("Tokens", *(split.tokens for split in splits)),
        ("Tokens without annotation", *(split.missing_tokens for split in splits)),
        ("Entities", *(split.entities for split in splits)),
        ("Adjacent entities", *(split.adjacent for split in splits)),
        ("Whitespace at entity edge", *(split.whitespace_edges for split in splits)),
    ]
    settings = {"header": ("", *(split.name for split in splits)), "divider": True}
    aligns = ("l", *("r" for _ in splits))
    msg.table(rows, title="Data", aligns=aligns, **settings)
    if types:
        per_type = [(label, *(split.types[label] for split in splits)) for label in types]
        msg.table(per_type, title="Entities per type", aligns=aligns, **settings)


def _print_unseen(msg: Printer, splits: Sequence[SplitStats]) -> None:
    """Print which share of the held-out mentions the training data never shows."""
    train, *held_out = splits
    for split in held_out:
        if not split.entities:
            continue
        unseen = split.unseen(train)
        counts = [(label, split.types[label], n) for label, n in unseen.items()]
        counts.append(("all", split.entities, sum(unseen.values())))
        msg.table(
            [(label, total, n, f"{100 * n / total:.1f}") for label, total, n in counts],
            title=f"Mentions of {split.name} never seen in train",
            header=("", "mentions", "unseen", "%"),
            aligns=("l", "r", "r", "r"),
            divider=True,
        )


def _report(msg: Printer, findings: Findings) -> None:
    """Print warnings to stdout and errors to stderr.

    RAISES (Exit): There are errors.
    """
    msg.divider("Findings")
    for warning in findings.warnings:
        msg.warn(warning)
    for error in findings.errors:
        echo(error, err=True)
    if findings.errors:
        raise Exit(1)
    if not findings.warnings:
        msg.good("Nothing to mend")
