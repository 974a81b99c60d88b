"""Files of one format -> files of another."""

from itertools import chain
from pathlib import Path
from typing import Any, Callable, Mapping, Optional, Sequence, Tuple, Union

from spacy.language import Language

from spacy_crf_ner.formats.doc_builder import RENEW_EVERY, Counts, DocMaker
from spacy_crf_ner.formats.guess import Guess
from spacy_crf_ner.formats.reading import AUTO, read
from spacy_crf_ner.formats.registry import get_writer, keywords
from spacy_crf_ner.formats.writing import SPACY, Written, write


def convert(
    inputs: Sequence[Union[str, Path]],
    output: Union[str, Path],
    make_nlp: Callable[[], Language],
    *,
    format: str = AUTO,
    settings: Optional[Mapping[str, Any]] = None,
    encoding: Optional[str] = None,
    to: str = SPACY,
    spans_key: Optional[str] = None,
    n_docs_per_file: Optional[int] = None,
    tell: Optional[Callable[[Path, Guess], object]] = None,
    progress: Optional[Callable[[int], object]] = None,
) -> Tuple[Counts, Written]:
    """Convert files, in constant memory, all of the output or none of it.

    inputs (Sequence[Union[str, Path]]): Files, folders of files, or "-" for standard input.
    output (Union[str, Path]): Where to write, as `write` takes it.
    make_nlp (Callable[[], Language]): Gives a pipeline whose tokenizer is used, a new one each time.
    format (str): Format of the input; "auto" looks at the beginning of each file.
    settings (Optional[Mapping[str, Any]]): Settings of the input's format.
    encoding (Optional[str]): Encoding of the input; None: that of its byte order mark, or UTF-8.
    to (str): Format of the output.
    spans_key (Optional[str]): The key of `doc.spans` that holds all entities, where they overlap.
    n_docs_per_file (Optional[int]): Docs in each file of a directory of DocBins, 5,000 by default.
    tell (Optional[Callable[[Path, Guess], object]]): Called with each file that was looked at, and what it was
        taken for.
    progress (Optional[Callable[[int], object]]): Called with the number of bytes read since the last call.
    RETURNS (Tuple[Counts, Written]): What was read, and what was written.
    RAISES (FormatError): The input cannot be read, or the output not written.
    RAISES (ValueError): There is no such format, or it has no such setting.
    """
    keyed = {"spans_key": spans_key} if spans_key is not None else {}
    if keyed.keys() - keywords(get_writer(to, {})).keys():
        what = f"{to} holds no entities that overlap"
        raise ValueError(
            f"--spans-key {spans_key}: {what}; leave it away, or write jsonl, doccano, cluener or label_studio"
        )
    make = DocMaker(make_nlp, spans_key=spans_key, renew_every=RENEW_EVERY)
    docs = read(inputs, make, format=format, settings=settings, encoding=encoding, tell=tell, progress=progress)
    docs = chain([next(docs)], docs)  # an unreadable input is told before anything else
    written = write(docs, output, format=to, settings=keyed, n_docs_per_file=n_docs_per_file, inputs=inputs)
    return make.counts, written
