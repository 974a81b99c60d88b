"""Writes docs in any format: all of the output or none of it, in constant memory."""

import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Iterable, Mapping, Optional, Sequence, Union, cast

from spacy.tokens import Doc
from spacy.util import minibatch

from spacy_crf_ner.atomic_files import whole_directory, whole_file
from spacy_crf_ner.formats.docbin import make_doc_bin
from spacy_crf_ner.formats.errors import FormatError
from spacy_crf_ner.formats.registry import FolderWriter, Frame, frame_of, get_writer
from spacy_crf_ner.formats.source import STDIN, find_files
from spacy_crf_ner.messages import show_path

SPACY = "spacy"
SUFFIX = ".spacy"
STDOUT = STDIN
_COMPRESSED = (".gz", ".xz")
_TEXT = (".bio", ".bioes", ".bmes", ".conll", ".conllu", ".csv", ".json", ".jsonl", ".parquet", ".tsv", ".txt")
N_DOCS_PER_FILE = 5000
MAX_FILES = 100_000
"""`spacy.Corpus.v1` sorts a directory by name, which is in order while the numbers have five digits."""

_BYTE_ORDER_MARK = "\ufeff"


@dataclass
class Written:
    """What was written: how many files, and what the format could not hold."""

    files: int = 0
    notes: "Counter[str]" = field(default_factory=Counter)


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
    output (Union[str, Path]): A file; "-" is standard output. Of the format "spacy", a path that ends in ".spacy"
        becomes one file, which takes memory in proportion to its size, and any other a directory of files
        ``NAME-00000.spacy``, in order, in constant memory; those in a directory that is there already, and holds
        nothing else, are replaced. Of a format whose writer is a `FolderWriter`, it is such a directory too, and
        each doc has files of its own.
    format (str): "spacy", or a format that has a writer.
    settings (Optional[Mapping[str, Any]]): Settings of the writer.
    n_docs_per_file (Optional[int]): Docs in each file of a directory, 5,000 by default.
    inputs (Sequence[Union[str, Path]]): What the docs are read from; the output must be none of it.
    RETURNS (Written): What was written.
    RAISES (FormatError): The format cannot hold a doc, or the output cannot be written.
    RAISES (ValueError): There is no such format, or it has no such setting.
    """
    if n_docs_per_file is not None and n_docs_per_file < 1:
        raise ValueError(f"n_docs_per_file is {n_docs_per_file}; give 1 or more")
    to_stdout = str(output) == STDOUT
    output = Path(output)
    written = Written()
    settings = dict(settings or {})
    write_doc = None if format == SPACY else get_writer(format, settings)
    frame = Frame() if write_doc is None else frame_of(write_doc)
    # What the names of the files of a doc end in, where each has its own.
    suffixes: Sequence[str] = getattr(write_doc, "suffixes", ())
    directory = bool(suffixes) or (format == SPACY and output.suffix != SUFFIX)
    if n_docs_per_file is not None and (suffixes or not directory):
        what = "--n-docs-per-file asks for several files and the output is one"
        mend = f"leave the option away, or name a directory without {SUFFIX}"
        if suffixes:
            what, mend = (
                f"--n-docs-per-file is not for {format}, which has one doc a file",
                "leave the option away",
            )
        raise FormatError(output, what, mend)
    if to_stdout and (write_doc is None or suffixes):
        what = f"{'a DocBin' if write_doc is None else format} does not go to standard output"
        mend = f"name a {'directory' if suffixes else 'file'} or another format with --to"
        raise FormatError(output, what, mend)

    def text(doc: Doc) -> str:
        assert write_doc is not None
        return write_doc(doc, written.notes, **settings)

    def texts(doc: Doc) -> Sequence[str]:
        return cast(FolderWriter, write_doc)(doc, written.notes, **settings)

    if to_stdout:
        if sys.stdout is None:
            raise FormatError(output, "standard output is closed", "name a file")
        try:
            _write_text(map(text, docs), sys.stdout.buffer, frame)
        except OSError as error:
            raise output_error(output, error) from error
        written.files = 1
        return written
    _check_output(output, inputs)
    _check_suffix(output, format, suffixes)
    try:
        if directory:
            with whole_directory(output, suffix=suffixes or SUFFIX) as made:
                made.mkdir()
                if suffixes:
                    written.files = _write_files(map(texts, docs), suffixes, made, output)
                else:
                    size = n_docs_per_file or N_DOCS_PER_FILE
                    written.files = _write_directory(docs, size, made, output)
            return written
        with whole_file(output) as part:
            if write_doc is None:
                make_doc_bin(docs).to_disk(part)
            else:
                with part.open("wb") as file_:
                    _write_text(map(text, docs), file_, frame)
        written.files = 1
    except OSError as error:
        raise output_error(output, error) from error
    return written


def _check_suffix(output: Path, format: str, suffixes: Sequence[str]) -> None:
    """Refuse a name that says something else than the format."""
    suffix = output.suffix.lower()
    if suffix in suffixes:
        raise FormatError(output, f"{format} is written as a directory of files", f"leave {output.suffix} away")
    if suffix in _COMPRESSED:
        raise FormatError(
            output, "the output is not compressed", f"leave {output.suffix} away, and compress it then"
        )
    if format == SPACY and suffix in _TEXT:
        what = f"a DocBin would be called {output.suffix}"
        raise FormatError(output, what, f"name the format with --to, or a directory or a {SUFFIX} file")
    if format != SPACY and suffix == SUFFIX:
        raise FormatError(output, f"a file of the format {format} would be called {SUFFIX}", "choose another name")


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
        what, _, mend = str(error).removeprefix(place).partition("; ")
        return FormatError(output, what, mend)
    what = f"cannot be written ({error.strerror or error})"
    return FormatError(output, what, "choose an output that you may write and that has room")


def _write_text(texts: Iterable[str], file_: IO[bytes], frame: Frame) -> None:
    file_.write(frame.begin.encode())
    for i, text in enumerate(texts):
        if i:
            file_.write(frame.between.encode())
        # A byte order mark at the beginning is dropped when the file is read: one that is text needs another.
        file_.write(
            f"{_BYTE_ORDER_MARK}{text}".encode() if not i and text.startswith(_BYTE_ORDER_MARK) else text.encode()
        )
    file_.write(frame.end.encode())
    file_.flush()


def _write_directory(docs: Iterable[Doc], size: int, made: Path, output: Path) -> int:
    n_files = 0
    for n_files, batch in enumerate(minibatch(docs, size), start=1):
        if n_files > MAX_FILES:
            what = f"would take more than {MAX_FILES:,} files"
            raise FormatError(output, what, "give a larger --n-docs-per-file")
        make_doc_bin(batch).to_disk(made / f"{made.name}-{n_files - 1:05}{SUFFIX}")
    return n_files


def _write_files(docs: Iterable[Sequence[str]], suffixes: Sequence[str], made: Path, output: Path) -> int:
    n_docs = 0
    for n_docs, texts in enumerate(docs, start=1):
        if n_docs > MAX_FILES:
            what = f"would take the files of more than {MAX_FILES:,} docs"
            raise FormatError(output, what, "convert fewer files at a time")
        for suffix, text in zip(suffixes, texts):
            with (made / f"{made.name}-{n_docs - 1:05}{suffix}").open("wb") as file_:
                _write_text([text], file_, Frame())
    return n_docs * len(suffixes)
