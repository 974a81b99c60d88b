"""Annotation files -> spaCy's DocBin, in constant memory, all of the output or none of it."""

import tempfile
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Callable, Counter, Iterator, Optional, Tuple, Union

import spacy
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from spacy.util import minibatch

from spacy_crf_ner.formats.bio import Sentence, read_bio
from spacy_crf_ner.formats.docs import Boundaries, sentence_to_doc
from spacy_crf_ner.formats.errors import FormatError

SUFFIX = ".spacy"
ATTRS = ("ENT_IOB", "ENT_TYPE")
N_DOCS_PER_FILE = 5000
MAX_FILES = 100_000
"""`spacy.Corpus.v1` sorts a directory by name, which is in order while the numbers have five digits."""


@dataclass
class ConversionSummary:
    """What a conversion met; "tokens" and "longest" count the file's own tokens.

    first_own (Optional[int]): The line of the first sentence that kept the file's token boundaries.
    """

    sentences: int = 0
    tokens: int = 0
    entities: Counter[str] = field(default_factory=Counter)
    longest: int = 0
    repaired: Counter[str] = field(default_factory=Counter)
    skipped: int = 0
    retokenised: int = 0
    own_boundaries: int = 0
    first_own: Optional[int] = None
    files: int = 0

    def add(self, sentence: Sentence, boundaries: Boundaries) -> None:
        """Count one sentence in."""
        self.sentences += 1
        self.tokens += len(sentence.tokens)
        self.entities.update(tag[2:] for tag in sentence.tags if tag.startswith("B-"))
        self.longest = max(self.longest, len(sentence.tokens))
        self.retokenised += boundaries is Boundaries.TOKENIZER
        if boundaries is Boundaries.FILE:
            self.own_boundaries += 1
            self.first_own = self.first_own or sentence.line


def convert(
    input_path: Union[str, Path],
    output: Union[str, Path],
    *,
    lang: str = "zh",
    n_docs_per_file: Optional[int] = None,
    repair: bool = False,
    progress: Optional[Callable[[int], object]] = None,
) -> ConversionSummary:
    """Convert a BIO file to DocBin. The same input gives the same bytes.

    Everything is written beside the output, or in a hidden directory inside one that is there already, and moved
    into place at the end. On an error or an interrupt nothing of it stays, and what the output held before is
    untouched. Only a process that is killed outright cannot clean up.

    input_path (Union[str, Path]): The BIO file.
    output (Union[str, Path]): A path that ends in ".spacy" becomes one file, which takes memory in proportion
        to its size. Any other becomes a directory of files ``NAME-00000.spacy``, in order, in constant
        memory. In a directory that is there already, and holds nothing but ".spacy" files, they are replaced.
    lang (str): The language whose blank pipeline tokenizes.
    n_docs_per_file (Optional[int]): Docs in each file of a directory, 5,000 by default.
    repair (bool): Mend what `read_bio` can mend.
    progress (Optional[Callable[[int], object]]): Called with the number of bytes read since the last call.
    RETURNS (ConversionSummary): The counts.
    RAISES (FormatError): The input is not BIO, the language is unknown, or the output cannot be written.
    """
    if n_docs_per_file is not None and n_docs_per_file < 1:
        raise ValueError(f"n_docs_per_file is {n_docs_per_file}; give 1 or more")
    input_path, output = Path(input_path), Path(output)
    single = output.suffix == SUFFIX
    summary = ConversionSummary()

    def count(sentence: Sentence, boundaries: Boundaries) -> None:
        summary.add(sentence, boundaries)
        if progress is not None:
            progress(sentence.n_bytes)

    sentences = read_bio(input_path, repair=repair, repairs=summary.repaired)
    sentences = chain([next(sentences)], sentences)  # an unreadable input is told before anything else
    sentences = _not_too_long(sentences, input_path, _blank(lang).max_length)
    try:
        _check_output(output, input_path, single, n_docs_per_file)
        # Links are followed, so that a link to a directory stays one.
        target = output.resolve()
        # On the target's own file system, and nothing to clean up but itself.
        ancestor = next(path for path in (target, *target.parents) if path.is_dir())
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=ancestor) as scratch:
            made = Path(scratch) / target.name
            size = None if single else n_docs_per_file or N_DOCS_PER_FILE
            bins = _doc_bins(_docs(sentences, lang), size, count)
            summary.files = _write(bins, made, single, output)
            _move(made, target, Path(scratch) / "previous")
    except OSError as error:
        what = f"cannot be written ({error.strerror or error})"
        raise FormatError(output, what, "choose an output that you may write and that has room") from error
    return summary


def _check_output(output: Path, input_path: Path, single: bool, n_docs_per_file: Optional[int]) -> None:
    if single and n_docs_per_file is not None:
        what = f"--n-docs-per-file asks for several files and {SUFFIX} for one"
        raise FormatError(output, what, f"leave the option away, or name a directory without {SUFFIX}")
    if not output.exists():
        return
    if output.samefile(input_path):
        raise FormatError(output, "is the input itself", "choose another output")
    if single:
        if output.is_dir():
            raise FormatError(output, "is a directory", f"choose another, or one without {SUFFIX}")
        return
    if not output.is_dir():
        raise FormatError(output, "is a file, and no directory", f"choose another, or end it in {SUFFIX}")
    for path in sorted(output.iterdir()):
        if path.suffix != SUFFIX or not path.is_file():
            what = f"the directory holds {path.name!r}, which is no {SUFFIX} file"
            raise FormatError(output, what, "choose another output, or move that away")


def _blank(lang: str) -> Language:
    try:
        return spacy.blank(lang)
    except ImportError as error:
        # An unknown language, or one whose tokenizer is not installed: spaCy says which, in several lines.
        reason = " ".join(str(error).split())
        mend = "choose a language of https://spacy.io/usage/models#languages"
        raise FormatError(f"--lang {lang}", reason, mend) from None


def _not_too_long(sentences: Iterator[Sentence], path: Path, limit: int) -> Iterator[Sentence]:
    for sentence in sentences:
        if len(sentence.tokens) + sum(map(len, sentence.tokens)) > limit:
            what = f"a sentence of {len(sentence.tokens)} tokens, too long for one Doc"
            raise FormatError(path, what, "separate sentences by empty lines", sentence.line)
        yield sentence


def _docs(sentences: Iterator[Sentence], lang: str) -> Iterator[Tuple[Sentence, Doc, Boundaries]]:
    for batch in minibatch(sentences, N_DOCS_PER_FILE):
        # A vocab keeps every string it meets, and a memory zone frees the strings but not their table.
        nlp = _blank(lang)
        for sentence in batch:
            yield sentence, *sentence_to_doc(nlp, sentence)


def _doc_bins(
    docs: Iterator[Tuple[Sentence, Doc, Boundaries]],
    size: Optional[int],
    count: Callable[[Sentence, Boundaries], None],
) -> Iterator[DocBin]:
    doc_bin = DocBin(attrs=ATTRS)
    for sentence, doc, boundaries in docs:
        if len(doc_bin) == size:
            yield doc_bin
            doc_bin = DocBin(attrs=ATTRS)
        doc_bin.add(doc)
        count(sentence, boundaries)
    yield doc_bin


def _write(bins: Iterator[DocBin], made: Path, single: bool, output: Path) -> int:
    if single:
        next(bins).to_disk(made)
        return 1
    made.mkdir()
    n_files = 0
    for n_files, doc_bin in enumerate(bins, start=1):
        if n_files > MAX_FILES:
            what = f"would take more than {MAX_FILES:,} files"
            raise FormatError(output, what, "give a larger --n-docs-per-file")
        doc_bin.to_disk(made / f"{made.name}-{n_files - 1:05}{SUFFIX}")
    return n_files


def _move(made: Path, target: Path, previous: Path) -> None:
    """Put what was made in place. A directory that is there already stays itself, and its files are exchanged."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.is_dir():
        made.replace(target)
        return
    previous.mkdir()
    try:
        _move_files(target, previous)
        _move_files(made, target)
    except BaseException:
        _move_files(target, made)
        _move_files(previous, target)
        raise


def _move_files(source: Path, target: Path) -> None:
    for path in sorted(source.glob(f"*{SUFFIX}")):
        path.rename(target / path.name)
