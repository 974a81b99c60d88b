"""The formats `jsonl` and `doccano`: one text and its entities per record, as annotation tools export them.

Under which key the entities are, and in which words, differs by the tool:

- Prodigy: {"text", "spans": [{"start", "end", "label"}], "relations": [{"head_span", "child_span", "label"}]}
- doccano: {"text", "label": [[start, end, label]]}, or with relations {"text", "entities": [{"id", "label",
  "start_offset", "end_offset"}], "relations": [{"from_id", "to_id", "type"}]}
- Label Studio: {"data": {"text"}, "annotations": [{"result": [{"type": "labels", "value"}]}]}, or as "JSON-MIN"
  {"text", "label": [{"start", "end", "labels"}]}
- Argilla: {"text", "tokens", "annotation": [[label, start, end]]}
- CMeEE: {"text", "entities": [{"start_idx", "end_idx", "type", "entity"}]}, and CCKS {"originalText", "entities":
  [{"start_pos", "end_pos", "label_type"}]}
- others: {"text", "tags": ["B-PER", ...]}, a tag for each character, or for each of "tokens"

Any of these lists may be under any of `annotation_keys.ENTITY_KEYS`, or under the key that the setting names.
"""

from collections import Counter
from typing import Any, Dict, Iterator, Optional

from spacy.tokens import Doc

from spacy_crf_ner.formats.annotation_keys import ENTITY_KEYS, looks_annotated
from spacy_crf_ner.formats.doc_builder import DocMaker
from spacy_crf_ner.formats.json_values import values
from spacy_crf_ner.formats.records import Record, annotation_of, meta_of, to_line
from spacy_crf_ner.formats.source import Source
from spacy_crf_ner.formats.spelling import STANDARD
from spacy_crf_ner.formats.tag_lists import Names, TagReader
from spacy_crf_ner.formats.text_records import TextRecords
from spacy_crf_ner.formats.text_writer import text_writer

_TELLING = (*ENTITY_KEYS, "completions")


def read_jsonl(
    source: Source,
    make: DocMaker,
    *,
    text_key: str = "text",
    label_key: Optional[str] = None,
    offsets: Optional[str] = None,
    ends: Optional[str] = None,
    verify: bool = True,
    scheme: Optional[str] = None,
    spelling: str = STANDARD,
    type: Optional[str] = None,
    repair: bool = False,
    names: Names = None,
) -> Iterator[Doc]:
    """Read the export of an annotation tool: JSON lines, or one array.

    A record that is not annotated gives a doc whose entity annotation is missing, and is counted. What Prodigy's
    user rejected or ignored is left out and counted, and so are further annotations of a task in Label Studio. A
    span with several labels gives an entity for each. Where something of the annotation cannot be read, the tokens
    outside entities are missing annotation. Further keys of a record become the doc's meta; what Label Studio says
    of an annotation or a region besides (who made it, and when) is not kept.

    source (Source): The file.
    make (DocMaker): Makes the docs.
    text_key (str): The key of the text.
    label_key (Optional[str]): The key of the annotation. None: one of `annotation_keys.ENTITY_KEYS`.
    offsets (Optional[str]): What offsets count: "characters" (code points); "utf-16" units, as old versions of
        Label Studio and doccano have them; or "tokens" of the record, for which `ends` must be given. None:
        characters, refused where they cut the record's tokens.
    ends (Optional[str]): Whether ends are "exclusive", or the last character's: "inclusive". None: exclusive in
        the words of the tools whose ends are; else as the entities' texts show.
    verify (bool): Where the text of an entity is given, check that it is there, white space aside.
    scheme, spelling, type, repair, names: Of tags, as of `TagReader`.
    YIELDS (Doc): The docs, in order.
    RAISES (FormatError): The file is not JSON of this kind.
    RAISES (ValueError): A setting is wrong.
    """
    tags = TagReader(scheme=scheme, spelling=spelling, type=type, repair=repair, names=names)
    read = TextRecords(
        make, tags, text_key=text_key, label_key=label_key, offsets=offsets, ends=ends, verify=verify
    )
    for value, line in values(source):
        doc = read.doc(Record(value, line, source))
        if doc is not None:
            yield doc


@text_writer()
def write_jsonl(doc: Doc, notes: "Counter[str]", *, spans_key: Optional[str] = None) -> str:
    """Write a doc as Prodigy has it.

    doc (Doc): Its meta becomes further keys. One whose entity annotation is missing gets no "spans".
    notes (Counter[str]): Counts what the format cannot hold.
    spans_key (Optional[str]): Write `doc.spans[spans_key]`, where overlapping entities are, not `doc.ents`.
    RETURNS (str): One line.
    RAISES (FormatError): The doc has entities and not this key.
    """
    fields: Dict[str, Any] = {"text": doc.text}
    meta = meta_of(doc)
    annotated = [key for key, value in meta.items() if looks_annotated(key, value, doc.text, meta.get("tokens"))]
    annotation = annotation_of(doc, notes, spans_key)
    if annotation is None:
        return to_line(doc, fields, notes, reserved=("text", *_TELLING, *annotated, "answer"))
    spans = [{"start": start, "end": end, "label": label} for start, end, label in annotation.spans]
    fields["spans"] = spans
    if annotation.links:
        fields["relations"] = [
            {"head_span": spans[head], "child_span": spans[tail], "label": label}
            for label, head, tail in annotation.links
        ]
    refused = () if meta.get("answer", "accept") == "accept" else ("answer",)
    return to_line(doc, fields, notes, reserved=("text", "spans", "relations", "tokens", *annotated, *refused))


@text_writer()
def write_doccano(doc: Doc, notes: "Counter[str]", *, spans_key: Optional[str] = None) -> str:
    """Write a doc as doccano has it: with "entities" if there are relations, and otherwise with "label".

    doc, notes, spans_key, RETURNS, RAISES: As of `write_jsonl`. One whose annotation is missing gets no "label".
    """
    fields: Dict[str, Any] = {"text": doc.text}
    meta = meta_of(doc)
    annotated = [key for key, value in meta.items() if looks_annotated(key, value, doc.text, meta.get("tokens"))]
    annotation = annotation_of(doc, notes, spans_key)
    if annotation is None:
        return to_line(doc, fields, notes, reserved=("text", *_TELLING, *annotated, "answer"))
    if annotation.links:
        fields["entities"] = [
            {"id": i, "label": label, "start_offset": start, "end_offset": end}
            for i, (start, end, label) in enumerate(annotation.spans)
        ]
        fields["relations"] = [
            {"id": i, "from_id": head, "to_id": tail, "type": label}
            for i, (label, head, tail) in enumerate(annotation.links)
        ]
    else:
        fields["label"] = [list(span) for span in annotation.spans]
    return to_line(doc, fields, notes, reserved=("text", *_TELLING, *annotated, "relations"))
