"""The format `cluener`: JSON lines as of CLUENER2020, {"text", "label": {type: {mention: [[start, end], …]}}}.

Offsets count characters, and the end is that of the last character: it is inclusive.

Source: Xu et al. (2020), CLUENER2020: Fine-grained Named Entity Recognition Dataset and Benchmark for Chinese.
"""

from collections import Counter
from typing import Any, Dict, Iterator, List, Optional, Tuple

from spacy.tokens import Doc

from spacy_crf_ner.formats.doc_builder import RELATIONS, DocMaker
from spacy_crf_ner.formats.json_values import values
from spacy_crf_ner.formats.offsets import UTF_16, Offsets
from spacy_crf_ner.formats.records import Record, annotation_of, refuse_unread, shown, to_line, unannotated
from spacy_crf_ner.formats.source import Source
from spacy_crf_ner.formats.text_writer import text_writer
from spacy_crf_ner.labels import LabeledSpan
from spacy_crf_ner.messages import quote, short

NO_RELATIONS = "docs with relations, which CLUENER JSON cannot hold"
_KEYS = ("text", "label")


def read_cluener(source: Source, make: DocMaker) -> Iterator[Doc]:
    """Read CLUENER JSON.

    A record without "label", as of CLUENER's test file, gives a doc whose entity annotation is missing, and is
    counted; one with an empty "label" has no entities. Further keys become the doc's meta.

    source (Source): The file.
    make (DocMaker): Makes the docs.
    YIELDS (Doc): The docs, in order.
    RAISES (FormatError): The file is not JSON of this kind, or a mention is not where the file says.
    """
    for value, line in values(source):
        record = Record(value, line, source)
        text = record.take(value, "text", str, "the record")
        meta = record.meta(_KEYS)
        if "label" not in value:
            refuse_unread(record, _KEYS, text=text, tokens=None, fix='call it "label"')
        spans = list(_spans(record, text)) if "label" in value else []
        doc = make.from_text(text, spans, source, line, meta=meta)
        yield doc if "label" in value else unannotated(doc, make)


@text_writer()
def write_cluener(doc: Doc, notes: "Counter[str]", *, spans_key: Optional[str] = None) -> str:
    """Write a doc as CLUENER JSON.

    doc (Doc): Its meta becomes further keys. One whose entity annotation is missing gets no "label".
    notes (Counter[str]): Counts what the format cannot hold: relations, and meta of its own keys.
    spans_key (Optional[str]): Write `doc.spans[spans_key]`, where overlapping entities are, not `doc.ents`.
    RETURNS (str): One line; labels and mentions are in the order in which they first appear.
    RAISES (FormatError): The doc has entities and not this key.
    """
    fields: Dict[str, Any] = {"text": doc.text}
    annotation = annotation_of(doc, notes, spans_key)
    if annotation is not None:
        label: Dict[str, Dict[str, List[Tuple[int, int]]]] = {}
        for start, end, kind in annotation.spans:
            label.setdefault(kind, {}).setdefault(doc.text[start:end], []).append((start, end - 1))
        fields["label"] = label
    if RELATIONS in doc.user_data:
        notes[NO_RELATIONS] += 1
    return to_line(doc, fields, notes, reserved=_KEYS)


def _spans(record: Record, text: str) -> Iterator[LabeledSpan]:
    types = record.value["label"]
    if isinstance(types, list):
        raise record.error('"label" is a list', "read offsets as [start, end, label] with --format jsonl")
    for label, mentions in record.check(types, dict, '"label"').items():
        of = f"label {quote(label)}"
        for mention, positions in record.check(mentions, dict, of).items():
            for position in record.check(positions, list, f"{of}, {quote(mention)}"):
                yield _span(record, text, label, mention, position)


def _span(record: Record, text: str, label: str, mention: str, position: Any) -> LabeledSpan:
    if not isinstance(position, list) or len(position) != 2:
        what = f"the position of {short(label)} {quote(mention)} is {shown(position)}"
        raise record.error(what, "write [start, end], both counted from 0 and the end inclusive")
    start, end = (
        record.check(offset, int, f"an offset of {short(label)} {quote(mention)}") for offset in position
    )
    if not mention or start < 0 or text[start : end + 1] != mention:
        found = quote(text[start : end + 1]) if 0 <= start <= end and start < len(text) else "no text"
        what = f"{short(label)} {quote(mention)} should be at [{start}, {end}], where there is {found}"
        raise record.error(what, _fix(text, mention, start, end))
    return start, end + 1, label


def _fix(text: str, mention: str, start: int, end: int) -> str:
    """What may have gone wrong with the offsets, as far as the mention tells."""
    if not mention:
        return "write the mention"
    if mention == text[max(start, 0) : max(end, 0)]:
        return "ends are inclusive in this format: take 1 off each"
    if start > 0 and mention == text[start - 1 : end]:
        return "count from 0: take 1 off each offset"
    if mention == Offsets(text, UTF_16).mention(start, end + 1):
        return "count characters (code points), not UTF-16 units"
    at = text.find(mention)
    return f"it is at [{at}, {at + len(mention) - 1}]" if at >= 0 else "the text does not hold it: correct either"
