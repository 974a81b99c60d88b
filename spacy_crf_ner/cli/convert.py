"""`python -m spacy crf convert`: a BIO file -> DocBin."""

from pathlib import Path
from shutil import get_terminal_size
from typing import Annotated, List, Optional, Tuple

from spacy.cli._util import Arg, Opt
from tqdm import tqdm  # type: ignore[import-untyped]
from typer import echo
from wasabi import msg

from spacy_crf_ner.cli._app import app
from spacy_crf_ner.cli._errors import one_line_errors, orderly_termination
from spacy_crf_ner.formats.bio import REPAIRS
from spacy_crf_ner.formats.convert import N_DOCS_PER_FILE, ConversionSummary, convert


@app.command("convert")
def convert_cli(
    input_path: Annotated[
        Path,
        Arg(metavar="INPUT", help="BIO file: token, SPACE or TAB, tag; an empty line between sentences"),
    ],
    output: Annotated[
        Path,
        Arg(metavar="OUTPUT", help="Directory for .spacy files, or one file that ends in .spacy"),
    ],
    lang: Annotated[str, Opt("--lang", "-l", help="Language whose blank pipeline tokenizes")] = "zh",
    n_docs_per_file: Annotated[
        Optional[int],
        Opt("--n-docs-per-file", "-n", min=1, help=f"Docs in each file [default: {N_DOCS_PER_FILE}]"),
    ] = None,
    repair: Annotated[
        bool, Opt("--repair", "-r", help="Read an empty tag as O, let a stray I- begin an entity; count both")
    ] = False,
) -> None:
    """
    Convert a BIO file to DocBin for `spacy train`. The tokens are those that the blank pipeline
    of the language makes, so that training and prediction see the same.

    Bad input stops with `FILE:LINE: what it is; what to do` and leaves no output behind.
    """
    # On a terminal only (disable=None) and gone when done. A terminal that tells no size shows it too.
    columns, lines = get_terminal_size()
    with (
        one_line_errors(),
        orderly_termination(),
        tqdm(
            total=_size(input_path),
            unit="B",
            unit_scale=True,
            disable=None,
            leave=False,
            ncols=columns,
            nrows=lines,
        ) as bar,
    ):
        summary = convert(
            input_path,
            output,
            lang=lang,
            n_docs_per_file=n_docs_per_file,
            repair=repair,
            progress=bar.update,
        )
    msg.table(summary_rows(summary), header=("Count", input_path.name), divider=True, aligns=("l", "r"))
    if summary.own_boundaries:
        what = f"the {lang!r} tokenizer changes the text, or makes a token that an entity begins or ends inside"
        mend = f"it and {summary.own_boundaries - 1:,} more sentences keep the file's token boundaries"
        echo(f"{input_path}:{summary.first_own}: {what}; {mend}", err=True)
    msg.good(f"Wrote {summary.sentences:,} docs in {summary.files:,} file(s): {output}")


def _size(path: Path) -> Optional[int]:
    """The file's size in bytes; None where the reader will say what is wrong with it."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def summary_rows(summary: ConversionSummary) -> List[Tuple[str, str]]:
    """The rows of the table that ends a conversion.

    summary (ConversionSummary): The counts.
    RETURNS (List[Tuple[str, str]]): Name and value of each count.
    """
    counts = {
        "Sentences": summary.sentences,
        "Tokens": summary.tokens,
        "Entities": summary.entities.total(),
        **{f"  {label}": summary.entities[label] for label in sorted(summary.entities)},
        "Longest sentence": summary.longest,
        "Repaired": summary.repaired.total(),
        **{f"  {kind}": summary.repaired[kind] for kind in REPAIRS},
        "Skipped": summary.skipped,
        "Retokenized": summary.retokenised,
        "Own boundaries": summary.own_boundaries,
    }
    return [(name, f"{count:,}") for name, count in counts.items()]
