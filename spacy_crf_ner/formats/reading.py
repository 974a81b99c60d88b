"""Reads files of any format."""

from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, Optional, Sequence, Union

from spacy.tokens import Doc

from spacy_crf_ner.formats.brat import BRAT, without_companions
from spacy_crf_ner.formats.doc_builder import ORIGIN, DocMaker
from spacy_crf_ner.formats.guess import Guess
from spacy_crf_ner.formats.label_studio import PREDICTIONS
from spacy_crf_ner.formats.registry import get_reader
from spacy_crf_ner.formats.sniff import sniff
from spacy_crf_ner.formats.source import Source, find_files

AUTO = "auto"


def read(
    paths: Sequence[Union[str, Path]],
    make: DocMaker,
    *,
    format: str = AUTO,
    settings: Optional[Mapping[str, Any]] = None,
    encoding: Optional[str] = None,
    tell: Optional[Callable[[Path, Guess], object]] = None,
    progress: Optional[Callable[[int], object]] = None,
) -> Iterator[Doc]:
    """Read docs, one at a time.

    paths (Sequence[Union[str, Path]]): Files, folders of files, or "-" for standard input.
    make (DocMaker): Makes the docs and counts what was met.
    format (str): Name of the format of all files; "auto" looks at the beginning of each. Of
        brat, the annotation ``x.ann`` is read with its text ``x.txt``.
    settings (Optional[Mapping[str, Any]]): Settings of the format. They win over what a look at the file says.
    encoding (Optional[str]): The encoding of all files; None: that of the byte order mark, or UTF-8.
    tell (Optional[Callable[[Path, Guess], object]]): Called with each file that was looked at, and what it was
        taken for.
    progress (Optional[Callable[[int], object]]): Called with the number of bytes read since the last call.
    YIELDS (Doc): The docs; an empty text gives none.
    RAISES (FormatError): A file is not there, cannot be read or is not of its format, or holds no text. Where the
        format was told by its beginning, the file must hold annotation.
    RAISES (ValueError): There is no such format or encoding, or the format has no such setting.
    """
    settings = dict(settings or {})
    if format != AUTO:
        get_reader(format, settings)
    files = find_files(paths)
    for path in without_companions(files) if format in (AUTO, BRAT) else files:
        source = Source(path, encoding=encoding, progress=progress)
        name, own = format, settings
        if format == AUTO:
            guess = sniff(source, settings)
            if tell is not None:
                tell(path, guess)
            name, own = guess.format, {**guess.settings, **settings}
        docs = get_reader(name, own)(source, make, **own)
        if docs is None:
            raise ValueError(f"the reader of the format {name!r} gives no docs; let it yield them")
        n_docs = 0
        annotated = format != AUTO or name == "spacy"
        for number, doc in enumerate(docs, start=1):
            if ORIGIN not in doc.user_data and len(doc):  # the reader has made it itself
                make.adopt(doc, source, number)
            if len(doc):
                n_docs += 1
                annotated = annotated or doc.has_annotation("ENT_IOB")
                yield doc
        if not n_docs:
            raise source.error(f"holds no text in the format {name}", "name another file, or its --format")
        if not annotated:
            what = f"read as {name}, and none of its {n_docs:,} texts has annotation"
            fix = f"if they shall have none, give --format {name}"
            if make.counts.notes[PREDICTIONS]:
                fix = f"read the predictions with --set label_key=predictions or, {fix}"
            raise source.error(what, fix)
