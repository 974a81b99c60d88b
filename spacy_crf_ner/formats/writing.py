"""Writes docs in any format: all of the output or none of it, in constant memory."""

import sys
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, Callable, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Union

from spacy.tokens import Doc
from spacy.util import minibatch

from spacy_crf_ner.atomic_files import whole_directory, whole_file
from spacy_crf_ner.formats.docbin import SUFFIX
from spacy_crf_ner.formats.errors import FormatError
from spacy_crf_ner.formats.registry import Files, files_of, get_writer
from spacy_crf_ner.formats.source import STDIN, find_files
from spacy_crf_ner.messages import show_path

SPACY = "spacy"
STDOUT = STDIN
_COMPRESSED = (".gz", ".xz")
_TEXT = (".bio", ".bioes", ".bmes", ".conll", ".conllu", ".csv", ".json", ".jsonl", ".parquet", ".tsv", ".txt")
N_DOCS_PER_FILE = 5000
MAX_FILES = 100_000
"""`spacy.Corpus.v1` sorts a directory by name, which is in order while the numbers have five digits."""


class Written(NamedTuple):
    """What was written.

    files (int): How many files.
    notes (Counter[str]): How often there was something that the format could not hold, by what it is.
    """

    files: int
    notes: "Counter[str]"


def write(
    docs: Iterable[Doc],
    output: Union[str, Path],
    *,
    format: str = SPACY,
    settings: Optional[Mapping[str, Any]] = None,
    n_docs_per_file: Optional[int] = None,
    inputs: Sequence[Union[str, Path]] = (),
) -> Written:
    """Write docs. The same docs give the same bytes.

    All is written under a temporary name and moved into place at the end. On an error or an interrupt nothing of
    it stays, and what the output held before is untouched. Only a process that is killed outright cannot clean up.

    docs (Iterable[Doc]): The docs.
    output (Union[str, Path]): A file; "-" is standard output. Of a format whose `Files` have suffixes, as "spacy"
        has ".spacy", a path that ends so becomes one file, and any other a directory of files
        ``NAME-00000.spacy``, in order, in constant memory; those in a directory that is there already, and holds
        nothing else, are replaced. Of a format with several files per doc, it is such a directory too.
    format (str): A format that has a writer.
    settings (Optional[Mapping[str, Any]]): Settings of the writer.
    n_docs_per_file (Optional[int]): Docs in each file of a directory, 5,000 by default.
    inputs (Sequence[Union[str, Path]]): What the docs are read from; the output must be none of it.
    RETURNS (Written): What was written.
    RAISES (FormatError): The format cannot hold a doc, or the output cannot be written.
    RAISES (ValueError): There is no such format, or it has no such setting.
    """
    if n_docs_per_file is not None and n_docs_per_file < 1:
        raise ValueError(f"n_docs_per_file is {n_docs_per_file}; give 1 or more")
    settings = dict(settings or {})
    writer = get_writer(format, settings)
    files = files_of(writer)
    notes: Counter[str] = Counter()
    to_stdout = str(output) == STDOUT
    output = Path(output)
    in_directory = bool(files.suffixes) and (files.per_doc or output.suffix not in files.suffixes)
    if n_docs_per_file is not None:
        _check_n_docs_per_file(output, format, files, in_directory)
    if to_stdout:
        _write_to_stdout(output, format, files, lambda stream: writer(docs, stream, notes, **settings))
        return Written(1, notes)
    _check_output(output, inputs)
    _check_suffix(output, format, files)
    try:
        if in_directory:
            with whole_directory(output, suffix=files.suffixes) as made:
                made.mkdir()
                numbered = _Numbered(made, output, files)
                if files.per_doc:
                    for doc in docs:
                        with numbered.open() as streams:
                            writer(doc, streams, notes, **settings)
                else:
                    for batch in minibatch(docs, n_docs_per_file or N_DOCS_PER_FILE):
                        with numbered.open() as (stream,):
                            writer(batch, stream, notes, **settings)
            return Written(numbered.n_files, notes)
        with whole_file(output) as part, part.open("wb") as stream:
            writer(docs, stream, notes, **settings)
        return Written(1, notes)
    except OSError as error:
        raise output_error(output, error) from error


class _Numbered:
    """The files of a directory, numbered in the order in which they are opened."""

    def __init__(self, made: Path, output: Path, files: Files) -> None:
        self.n_files = 0
        self._made, self._output, self._files = made, output, files

    @contextmanager
    def open(self) -> Iterator[List[IO[bytes]]]:
        """The next file; of a format with several per doc, the next doc's."""
        number = self.n_files // len(self._files.suffixes)
        if number == MAX_FILES:
            if self._files.per_doc:
                what = f"would take the files of more than {MAX_FILES:,} docs"
                raise FormatError(self._output, what, "convert fewer files at a time")
            what = f"would take more than {MAX_FILES:,} files"
            raise FormatError(self._output, what, "give a larger --n-docs-per-file")
        with ExitStack() as stack:
            paths = [self._made / f"{self._made.name}-{number:05}{suffix}" for suffix in self._files.suffixes]
            yield [stack.enter_context(path.open("wb")) for path in paths]
        self.n_files += len(self._files.suffixes)


def _write_to_stdout(output: Path, format: str, files: Files, write_to: Callable[[IO[bytes]], None]) -> None:
    if files.suffixes:
        of = "directory" if files.per_doc else "file"
        what = f"files of the format {format} do not go to standard output"
        raise FormatError(output, what, f"name a {of} or another format with --to")
    if sys.stdout is None:
        raise FormatError(output, "standard output is closed", "name a file")
    try:
        write_to(sys.stdout.buffer)
        sys.stdout.buffer.flush()
    except OSError as error:
        raise output_error(output, error) from error


def _check_n_docs_per_file(output: Path, format: str, files: Files, in_directory: bool) -> None:
    """Refuse a number of docs per file where the format or the output's name has settled it."""
    if files.per_doc:
        what = f"--n-docs-per-file is not for {format}, which has one doc per file"
        raise FormatError(output, what, "leave the option away")
    if not in_directory:
        what = "--n-docs-per-file asks for several files and the output is one"
        elsewhere = f", or name a directory without {output.suffix}" if files.suffixes else ""
        raise FormatError(output, what, f"leave the option away{elsewhere}")


def _check_suffix(output: Path, format: str, files: Files) -> None:
    """Refuse a name that says something else than the format."""
    suffix = output.suffix.lower()
    if files.per_doc and suffix in files.suffixes:
        raise FormatError(output, f"{format} is written as a directory of files", f"leave {output.suffix} away")
    if suffix in _COMPRESSED:
        raise FormatError(
            output, "the output is not compressed", f"leave {output.suffix} away, and compress it then"
        )
    if files.suffixes and suffix in _TEXT:
        what = f"the output has the format {format}, and the name of a {suffix} file"
        raise FormatError(output, what, f"name the format with --to, or a directory{_or_file(files)}")
    if suffix == SUFFIX and suffix not in files.suffixes:
        raise FormatError(output, f"a file of the format {format} would be called {SUFFIX}", "choose another name")


def _or_file(files: Files) -> str:
    return "" if files.per_doc else f" or a {files.suffixes[0]} file"


def _check_output(output: Path, inputs: Sequence[Union[str, Path]]) -> None:
    for folder in map(Path, inputs):
        if folder.is_dir() and _is_below(output, folder):
            raise FormatError(output, f"lies in the input {show_path(folder)}", "choose another output")
    for path in find_files(inputs):
        if str(path) != STDIN and output.exists() and (output.samefile(path) or _is_below(path, output)):
            raise FormatError(output, "is the input itself, or holds it", "choose another output")


def _is_below(path: Path, folder: Path) -> bool:
    return folder.resolve() in path.resolve().parents


def output_error(output: Path, error: OSError) -> FormatError:
    """What is said of an output that cannot be written.

    output (Path): The output, as the user named it.
    error (OSError): The system's error, or one of `spacy_crf_ner.atomic_files`.
    RETURNS (FormatError): The error to raise.
    """
    place = f"{show_path(output)}: "
    if error.strerror is None and str(error).startswith(place):  # one of `atomic_files`, which says all
        what, _, fix = str(error).removeprefix(place).partition("; ")
        return FormatError(output, what, fix)
    what = f"cannot be written ({error.strerror or error})"
    return FormatError(output, what, "choose an output that you may write and that has room")
