"""Writes the format `brat`: for each doc its text ``x.txt`` and its annotation ``x.ann``."""

import re
from collections import Counter
from typing import IO, Optional, Sequence

from spacy.tokens import Doc

from spacy_crf_ner.formats.brat import SUFFIXES
from spacy_crf_ner.formats.doc_builder import META, MISSING_WRITTEN, ORIGIN, unwritable
from spacy_crf_ner.formats.records import annotation_of
from spacy_crf_ner.formats.registry import Files, written_to
from spacy_crf_ner.formats.text_writer import write_texts
from spacy_crf_ner.labels import LabeledSpan
from spacy_crf_ner.messages import quote

META_LEFT = "docs whose meta brat cannot hold, which is left out"
_LINE = re.compile(r"[^\r\n]+")
_BLANKS = str.maketrans("\t\r\n", "   ")


@written_to(Files(SUFFIXES, per_doc=True))
def write_brat(
    doc: Doc, streams: Sequence[IO[bytes]], notes: "Counter[str]", *, spans_key: Optional[str] = None
) -> None:
    """Write a doc as brat's standoff. What runs across a line end has a part for each line, as brat itself writes
    it.

    doc (Doc): The doc.
    streams (Sequence[IO[bytes]]): The files of its text and of its annotation.
    notes (Counter[str]): Counts what brat cannot hold.
    spans_key (Optional[str]): Write `doc.spans[spans_key]`, not `doc.ents`.
    RAISES (FormatError): brat cannot hold a label.
    """
    found = annotation_of(doc, notes, spans_key)
    if found is None:
        notes[MISSING_WRITTEN] += len(doc)
    notes[META_LEFT] += META in doc.user_data
    spans, links = (found.spans, found.links) if found is not None else ([], [])
    lines = [_entity(i, span, doc) for i, span in enumerate(spans, start=1)]
    for i, (label, head, tail) in enumerate(links, start=1):
        lines.append(f"R{i}\t{_checked(label, doc)} Arg1:T{head + 1} Arg2:T{tail + 1}\n")
    for text, stream in zip((doc.text, "".join(lines)), streams):
        write_texts([text], stream)


def _entity(number: int, span: LabeledSpan, doc: Doc) -> str:
    start, end, label = span
    text = doc.text[start:end]
    parts = [(start + part.start(), start + part.end()) for part in _LINE.finditer(text)]
    if not parts or parts[0][0] != start or parts[-1][1] != end:
        parts = [(start, end)]  # it begins or ends with a line end, which would be lost
    offsets = ";".join(f"{begin} {stop}" for begin, stop in parts)
    return f"T{number}\t{_checked(label, doc)} {offsets}\t{text.translate(_BLANKS)}\n"


def _checked(label: str, doc: Doc) -> str:
    if not label or any(map(str.isspace, label)):
        what = f"label {quote(label)} {'holds white space' if label else 'is empty'}, which brat cannot hold"
        raise unwritable(doc.user_data.get(ORIGIN), what, "rename it, or write jsonl")
    return label
