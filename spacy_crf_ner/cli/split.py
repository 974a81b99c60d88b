"""`python -m spacy crf split`: annotated files -> train, dev and test."""

from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Iterator, List, Optional, Sequence, Tuple

from spacy.cli._util import Arg, Opt, import_code
from wasabi import Printer

from spacy_crf_ner.atomic_files import whole_directory
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
from spacy_crf_ner.corpus.split import Split, check_asked, split
from spacy_crf_ner.formats.doc_builder import DocMaker
from spacy_crf_ner.formats.docbin import SUFFIX, write_spacy
from spacy_crf_ner.formats.errors import FormatError
from spacy_crf_ner.formats.reading import AUTO, read
from spacy_crf_ner.formats.source import STDIN
from spacy_crf_ner.formats.writing import output_error
from spacy_crf_ner.messages import short, show_path


@app.command("split")
def split_cli(
    data: Annotated[List[Path], Arg(help="Files or folders to read, - for stdin")],
    dev: Annotated[
        Optional[float], Opt("--dev", "-d", help="Share of the sentences, as 0.1, or their number, as 500")
    ] = None,
    test: Annotated[Optional[float], Opt("--test", "-t", help="The same for a test part")] = None,
    output: Annotated[
        Path, Opt("--output", "-o", help="Directory for train.spacy, dev.spacy and test.spacy")
    ] = Path("split"),
    seed: Annotated[int, Opt("--seed", min=0, help="Another seed gives another split")] = 0,
    force: Annotated[
        bool, Opt("--force", "-F", help="Replace what is in a directory that holds only .spacy files")
    ] = False,
    format: FormatOption = AUTO,
    encoding: EncodingOption = None,
    lang: LangOption = "zh",
    spans_key: SpansKeyOption = None,
    repair: RepairOption = False,
    settings: SetOption = None,
    code: CodeOption = None,
) -> None:
    """
    Split annotated files into train, dev and test without leaks: sentences of equal text stay together, equal but
    for width and white space. Each label gets the share asked for in each part, as near as possible, and
    train gets all labels. The order of the files is kept. The same seed gives the same bytes.

    All of the corpus is held in memory. What cannot be read or written stops with one line that says so and leaves
    no output behind.
    """
    held_out = {name: asked for name, asked in (("dev", dev), ("test", test)) if asked is not None}
    with one_line_errors(), orderly_termination():
        check_asked(held_out)
        import_code(code)
        _check_output(output, data, force)
        with _whole(output, force) as made:
            make = DocMaker(lambda: blank(lang), spans_key=spans_key)
            parsed = parse_settings(settings, repair)
            docs = list(read(data, make, format=format, settings=parsed, encoding=encoding, tell=teller()))
            found = split(docs, held_out, seed=seed)
            made.mkdir()
            for name, part in found.parts.items():
                with (made / f"{name}{SUFFIX}").open("wb") as stream:
                    write_spacy((docs[i] for i in part.indices), stream, Counter())
    msg = Printer()
    header = ("", "all", *(cell for name in found.parts for cell in (name, "%")))
    aligns = ("l", *("r" for _ in header[1:]))
    msg.table(table_rows(found), header=header, divider=True, aligns=aligns)
    if found.repeated_texts:
        n = found.repeated_sentences
        msg.info(f"{n:,} sentences that share a text with another, {found.repeated_texts:,} texts: kept together")
    for what, number in make.counts.losses().items():
        msg.warn(f"{what}: {number:,}")
    for shortfall in found.shortfalls():
        msg.warn(shortfall)
    msg.good(f"Wrote {', '.join(show_path(output / f'{name}{SUFFIX}') for name in found.parts)}")


def _check_output(output: Path, data: Sequence[Path], force: bool) -> None:
    target = output.resolve()
    for path in data:
        place = path.resolve()
        if str(path) != STDIN and (place == target or place in target.parents or target in place.parents):
            what = f"is the input {show_path(path)}, holds it or lies in it"
            raise FormatError(output, what, "name a directory elsewhere with --output")
    if not force and output.is_dir() and any(output.iterdir()):
        fix = f"name another with --output, or replace its {SUFFIX} files with --force"
        raise FormatError(output, "the directory is not empty", fix)


@contextmanager
def _whole(output: Path, force: bool) -> Iterator[Path]:
    try:
        with whole_directory(output, suffix=SUFFIX if force else None) as made:
            yield made
    except OSError as error:
        raise output_error(output, error) from error


def table_rows(found: Split) -> List[Tuple[str, ...]]:
    """The rows of the table that ends a split.

    found (Split): The split.
    RETURNS (List[Tuple[str, ...]]): What is counted, its number in the corpus and, for each part, its number there
        and which share that is, in percent.
    """
    parts = list(found.parts.values())
    rows = {
        "Sentences": [len(part.indices) for part in parts],
        "  without entity": [part.without_entity for part in parts],
        "Entities": [part.entities.total() for part in parts],
        **{f"  {short(label)}": [part.entities[label] for part in parts] for label in sorted(found.entities)},
    }
    return [(name, *_cells(numbers)) for name, numbers in rows.items()]


def _cells(numbers: Sequence[int]) -> List[str]:
    total = sum(numbers)
    shares = [f"{100 * number / total:.2f}" if total else "-" for number in numbers]
    return [f"{total:,}", *(cell for number, share in zip(numbers, shares) for cell in (f"{number:,}", share))]
