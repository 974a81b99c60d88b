"""`python -m spacy crf convert`: annotated files of one format -> another, mostly DocBin."""

from pathlib import Path
from shutil import get_terminal_size
from typing import Annotated, List, Optional, Tuple

from spacy.cli._util import Arg, Opt, import_code
from tqdm import tqdm  # type: ignore[import-untyped]
from typer import echo
from wasabi import Printer, table

from spacy_crf_ner.cli._app import app
from spacy_crf_ner.cli._errors import one_line_errors, orderly_termination
from spacy_crf_ner.cli._options import (
    CodeOption,
    EncodingOption,
    FormatOption,
    LangOption,
    RepairOption,
    SetOption,
    SpansKeyOption,
)
from spacy_crf_ner.cli._reading import blank, parse_settings, teller
from spacy_crf_ner.formats.convert import convert
from spacy_crf_ner.formats.doc_builder import Counts
from spacy_crf_ner.formats.reading import AUTO
from spacy_crf_ner.formats.source import STDIN, find_files
from spacy_crf_ner.formats.writing import N_DOCS_PER_FILE, SPACY, STDOUT, Written
from spacy_crf_ner.messages import escape, short, show_path


@app.command("convert")
def convert_cli(
    inputs: Annotated[List[Path], Arg(metavar="INPUT", help="Files or folders to read; - is standard input")],
    output: Annotated[
        Path,
        Arg(metavar="OUTPUT", help="Directory of .spacy files, or one file; - is standard output"),
    ],
    format: FormatOption = AUTO,
    encoding: EncodingOption = None,
    to: Annotated[str, Opt("--to", "-t", help="Format of the output")] = SPACY,
    lang: LangOption = "zh",
    spans_key: SpansKeyOption = None,
    n_docs_per_file: Annotated[
        Optional[int],
        Opt("--n-docs-per-file", "-n", min=1, help=f"Docs in each file [default: {N_DOCS_PER_FILE}]"),
    ] = None,
    repair: RepairOption = False,
    settings: SetOption = None,
    code: CodeOption = None,
) -> None:
    """
    Convert annotated files, to DocBin for `spacy train` or to another format (--to).

    Reads bio, iob1, bios, bioes, biluo, bmes, bmewo, conll, conllu, conll2012, inline, webanno, brat, csv,
    cluener, jsonl (of Prodigy, doccano, Label Studio and others), huggingface, parquet, gliner, uie, spacy2, spert
    and spacy; writes bio, bioes, bmes, conllu, brat, cluener, jsonl, doccano, label_studio, huggingface and spacy.
    A DocBin goes into a directory of files, or into one file if OUTPUT ends in .spacy; brat goes into a directory,
    a .txt and an .ann file for each doc. The tokens are those that the blank pipeline of the language makes, so
    that training and prediction see the same.

    Bad input stops with `FILE:LINE: what it is; what to do` and leaves no output behind.
    """
    with one_line_errors(), orderly_termination():
        import_code(code)
        # On a terminal only (disable=None) and gone when done. A terminal that tells no size shows it too.
        columns, lines = get_terminal_size()
        with tqdm(
            total=_size(inputs),
            unit="B",
            unit_scale=True,
            disable=None,
            leave=False,
            ncols=columns,
            nrows=lines,
        ) as bar:
            counts, written = convert(
                inputs,
                output,
                lambda: blank(lang),
                format=format,
                settings=parse_settings(settings, repair),
                encoding=encoding,
                to=to,
                spans_key=spans_key,
                n_docs_per_file=n_docs_per_file,
                tell=teller(),
                progress=bar.update,
            )
    to_stdout = str(output) == STDOUT  # where nothing else may go
    name = short(inputs[0].name) + (f" and {len(inputs) - 1} more" if len(inputs) > 1 else "")
    rows = summary_rows(counts, written)
    echo(table(rows, header=("Count", name), divider=True, aligns=("l", "r"), max_col=60), err=to_stdout)
    if counts.own_boundaries:
        what = f"the {lang!r} tokenizer changes the text, or makes a token that an entity begins or ends inside"
        fix = f"it and {counts.own_boundaries - 1:,} more docs keep boundaries of their own"
        echo(f"{escape(str(counts.first_own))}: {what}; {fix}", err=True)
    if not to_stdout:
        Printer().good(f"Wrote {counts.docs:,} docs in {written.files:,} file(s): {show_path(output)}")


def _size(inputs: List[Path]) -> Optional[int]:
    """The size of the files in bytes; None where it is not known or cannot be, as the reader will say."""
    try:
        return None if Path(STDIN) in inputs else sum(path.stat().st_size for path in find_files(inputs))
    except (OSError, ValueError):
        return None


def summary_rows(counts: Counts, written: Written) -> List[Tuple[str, str]]:
    """The rows of the table that ends a conversion.

    counts (Counts): What was read.
    written (Written): What was written.
    RETURNS (List[Tuple[str, str]]): Name and value of each count. What did not happen has no row.
    """
    always = {
        "Sentences": counts.docs,
        "Characters": counts.characters,
        "Tokens": counts.tokens,
        "Entities": counts.entities.total(),
        **{f"  {short(label)}": counts.entities[label] for label in sorted(counts.entities)},
        "Longest (characters)": counts.longest_characters,
        "Longest (tokens)": counts.longest_tokens,
    }
    sometimes = {
        "Relations": counts.relations,
        "Tokens cut by the tokenizer (docs)": counts.retokenised,
        "Boundaries of their own (docs)": counts.own_boundaries,
        **counts.losses(),
        **written.notes,
    }
    rows = {**always, **{name: count for name, count in sometimes.items() if count}}
    return [(name, f"{count:,}") for name, count in rows.items()]
