"""The formats `jsonl` and `doccano`: a text and its entities a record, as annotation tools export them.

Which tool a record is of is told by its keys:

- Prodigy: {"text", "spans": [{"start", "end", "label"}], "relations": [{"head_span", "child_span", "label"}]}
- doccano: {"text", "label": [[start, end, label]]}, or with relations {"text", "entities": [{"id", "label",
  "start_offset", "end_offset"}], "relations": [{"from_id", "to_id", "type"}]}
- Label Studio: {"data": {"text"}, "annotations": [{"result": [{"type": "labels", "value"}]}]}, or as "JSON-MIN"
  {"text", "label": [{"start", "end", "labels"}]}

Ends are exclusive.
"""

from collections import Counter
from functools import partial
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

from spacy.tokens import Doc

from spacy_crf_ner.formats.docs import DocMaker
from spacy_crf_ner.formats.json_values import values
from spacy_crf_ner.formats.label_studio import annotation_of_task, check_mention, labelled
from spacy_crf_ner.formats.offsets import CHARACTERS, UNITS, Offsets
from spacy_crf_ner.formats.records import (
    Annotation,
    Link,
    Record,
    annotation_of,
    meta_of,
    shown,
    to_line,
    unannotated,
)
from spacy_crf_ner.formats.settings import check_bool, check_choice
from spacy_crf_ner.formats.source import Source
from spacy_crf_ner.labels import Span
from spacy_crf_ner.messages import quote, short

TOKEN_RELATIONS = "relations left out, an end of which is no entity"

_ANSWERS = ("accept", "reject", "ignore")
_TELLING = ("spans", "entities", "label", "labels", "annotations", "completions")
_SPAN_KEYS = frozenset({"start", "end", "label", "token_start", "token_end", "text"})


class _Dialect(NamedTuple):
    """How a tool writes: the keys that are read, and what reads them."""

    keys: Tuple[str, ...]
    read: "Callable[[Record, Offsets, Counter[str], bool], Optional[Annotation]]"


def read_jsonl(
    source: Source, make: DocMaker, *, offsets: str = CHARACTERS, text_key: str = "text", verify: bool = True
) -> Iterator[Doc]:
    """Read the export of an annotation tool: JSON lines, or one array.

    A record that is not annotated gives a doc whose entity annotation is missing, and is counted. What Prodigy's
    user rejected or ignored is left out and counted, and so are further annotations of a task in Label Studio. A
    span with several labels gives an entity for each. Further keys of a record become the doc's meta; what Label
    Studio says of an annotation or a region besides (who made it, and when) is not kept.

    source (Source): The file.
    make (DocMaker): Makes the docs.
    offsets (str): What offsets count: "characters" (code points) or, as old versions of Label Studio and doccano
        have them, "utf-16" units.
    text_key (str): The key of the text.
    verify (bool): Where the text of an entity is given, check that it stands there, white space aside.
    YIELDS (Doc): The docs, in order.
    RAISES (FormatError): The file is no such JSON.
    RAISES (ValueError): A setting is wrong.
    """
    check_choice("offsets", offsets, UNITS)
    check_bool("verify", verify)
    notes = make.counts.notes
    for value, line in values(source):
        record = Record(value, line, source)
        dialect = _dialect(record, text_key)
        if dialect is _PRODIGY and not _accepted(record, notes):
            continue
        text, text_keys, more = _text(record, text_key)
        keys = (*text_keys, *(dialect.keys if dialect else ()))
        meta = record._replace(value={**value, **more}).meta([key for key in keys if key not in more])
        annotation = dialect.read(record, Offsets(text, offsets), notes, verify) if dialect else None
        spans, links = annotation or ([], [])
        doc = make.from_text(text, spans, source, line, meta=meta, relations=links)
        yield doc if annotation is not None else unannotated(doc, make)


def write_jsonl(doc: Doc, notes: "Counter[str]", *, spans_key: Optional[str] = None) -> str:
    """Write a doc as Prodigy has it.

    doc (Doc): Its meta becomes further keys. One whose entity annotation is missing gets no "spans".
    notes (Counter[str]): Counts what the format cannot hold.
    spans_key (Optional[str]): Write `doc.spans[spans_key]`, where overlapping entities are, not `doc.ents`.
    RETURNS (str): One line.
    RAISES (FormatError): The doc has entities and not this key.
    """
    fields: Dict[str, Any] = {"text": doc.text}
    annotation = annotation_of(doc, notes, spans_key)
    if annotation is None:
        return to_line(doc, fields, notes, reserved=("text", *_TELLING, "answer"))
    spans = [{"start": start, "end": end, "label": label} for start, end, label in annotation.spans]
    fields["spans"] = spans
    if annotation.links:
        fields["relations"] = [
            {"head_span": spans[head], "child_span": spans[tail], "label": label}
            for label, head, tail in annotation.links
        ]
    refused = () if meta_of(doc).get("answer", "accept") == "accept" else ("answer",)
    return to_line(doc, fields, notes, reserved=("text", *_PRODIGY.keys, *refused))


def write_doccano(doc: Doc, notes: "Counter[str]", *, spans_key: Optional[str] = None) -> str:
    """Write a doc as doccano has it: with "entities" if there are relations, and otherwise with "label".

    doc, notes, spans_key, RETURNS, RAISES: As of `write_jsonl`. One whose annotation is missing gets no "label".
    """
    fields: Dict[str, Any] = {"text": doc.text}
    annotation = annotation_of(doc, notes, spans_key)
    if annotation is None:
        return to_line(doc, fields, notes, reserved=("text", *_TELLING, "answer"))
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
    return to_line(doc, fields, notes, reserved=("text", *_TELLING, "relations"))


def _dialect(record: Record, text_key: str) -> Optional[_Dialect]:
    """What the record is written in; None where it has no annotation."""
    value = record.value
    if "spans" in value:
        return _PRODIGY
    if isinstance(value.get("data"), dict) and text_key not in value:
        return _LABEL_STUDIO
    if "entities" in value and not _are_lists(value["entities"]):
        return _DOCCANO
    for key in ("label", "labels", "entities"):
        if key in value:
            return _Dialect((key,), partial(_labels, key))
    for key in ("annotations", "completions"):
        if key in value:
            mend = 'export Label Studio as "JSON", or doccano as JSONL with the names of its labels'
            raise record.error(f'the record has "{key}" and no "data"', mend)
    return _PRODIGY if value.get("answer") in _ANSWERS else None


def _are_lists(items: Any) -> bool:
    """Whether entities are [start, end, label], as spaCy's training data once had them."""
    return isinstance(items, list) and any(isinstance(item, list) for item in items)


def _text(record: Record, key: str) -> Tuple[str, Tuple[str, ...], Dict[str, Any]]:
    """The text, the keys that hold it, and what is left of their values."""
    value = record.value
    data = value.get("data")
    if key in value:
        return record.take(value, key, str, "the record"), (key,), {}
    if isinstance(data, str):
        return data, ("data",), {}
    if isinstance(data, dict) and key in data:
        rest = {other: data[other] for other in data if other != key}
        return record.take(data, key, str, '"data"'), ("data",), {"data": rest} if rest else {}
    mend = (
        "read it with --format spert" if "tokens" in value else "name the key of the text with --set text_key=NAME"
    )
    raise record.error(f'''{'"data"' if isinstance(data, dict) else "the record"} has no "{key}"''', mend)


def _accepted(record: Record, notes: "Counter[str]") -> bool:
    answer = record.value.get("answer", "accept")
    if answer not in _ANSWERS:
        raise record.error(f'"answer" is {shown(answer)}', f"write {', '.join(_ANSWERS[:-1])} or {_ANSWERS[-1]}")
    if answer != "accept":
        notes[f"records with the answer {answer!r}, left out"] += 1
    return answer == "accept"


def _prodigy(record: Record, offsets: Offsets, notes: "Counter[str]", verify: bool) -> Annotation:
    spans: List[Span] = []
    for span in record.check(record.value.get("spans", []), list, '"spans"'):
        start, end, label = _place(record, span, "start", "end", "a span")
        spans.append(offsets.span(record, start, end, label))
        if verify and span.get("text") is not None:
            mention = record.check(span["text"], str, 'the "text" of a span')
            check_mention(record, offsets, start, end, mention)
        for key in span.keys() - _SPAN_KEYS:
            notes[f"{quote(key)} of spans, left out"] += 1
    places = {span: i for i, span in enumerate(spans)}
    links: List[Link] = []
    for relation in record.check(record.value.get("relations", []), list, '"relations"'):
        label = record.take(relation, "label", str, "a relation")
        ends = [_end(record, relation.get(key), offsets, places) for key in ("head_span", "child_span")]
        head, tail = ends
        if head is None or tail is None:
            notes[TOKEN_RELATIONS] += 1
        else:
            links.append((label, head, tail))
    return Annotation(spans, links)


def _end(record: Record, span: Any, offsets: Offsets, places: Dict[Span, int]) -> Optional[int]:
    """Which span a relation begins or ends at; None where it is a token that is no entity."""
    if span is None or (isinstance(span, dict) and span.get("label") is None):
        return None
    return places.get(offsets.span(record, *_place(record, span, "start", "end", "the end of a relation")))


def _doccano(record: Record, offsets: Offsets, notes: "Counter[str]", verify: bool) -> Annotation:
    spans: List[Span] = []
    places: Dict[Any, int] = {}
    for i, entity in enumerate(record.take(record.value, "entities", list, "the record")):
        start, end, label = _place(record, entity, "start_offset", "end_offset", "an entity")
        spans.append(offsets.span(record, start, end, label))
        if "id" in entity and places.setdefault(_id(record, entity, "id"), i) != i:
            raise record.error(f"two entities have the id {quote(entity['id'])}", "give each its own")
    links: List[Link] = []
    for relation in record.check(record.value.get("relations", []), list, '"relations"'):
        label = record.take(relation, "type", str, "a relation")
        ends = [_id(record, relation, key) for key in ("from_id", "to_id")]
        for end in ends:
            if end not in places:
                raise record.error(
                    f"a {short(label)} relation names entity {quote(end)}, which is not there", "write its id"
                )
        links.append((label, places[ends[0]], places[ends[1]]))
    return Annotation(spans, links)


def _id(record: Record, part: Dict[str, Any], key: str) -> Any:
    value = part.get(key)
    return value if isinstance(value, str) else record.take(part, key, int, "an entity or relation")


def _place(record: Record, part: Any, start: str, end: str, of: str) -> Tuple[int, int, str]:
    label = record.take(part, "label", str, of)
    return record.take(part, start, int, of), record.take(part, end, int, of), label


def _labels(key: str, record: Record, offsets: Offsets, notes: "Counter[str]", verify: bool) -> Annotation:
    """Read doccano's [start, end, label], or the regions of Label Studio's JSON-MIN."""
    items = record.value[key]
    if isinstance(items, dict):
        raise record.error(f'"{key}" is an object', "read types and mentions with --format cluener")
    spans: List[Span] = []
    for item in record.check(items, list, f'"{key}"'):
        if isinstance(item, dict):
            spans.extend(labelled(record, item, offsets, notes, verify))
        elif isinstance(item, list) and len(item) == 3:
            start, end = (record.check(offset, int, "an offset") for offset in item[:2])
            spans.append(offsets.span(record, start, end, record.check(item[2], str, "a label")))
        else:
            what = f'"{key}" holds {shown(item)}'
            raise record.error(what, "write [start, end, label]; classes of whole texts are no entities")
    return Annotation(spans, [])


def _label_studio(record: Record, offsets: Offsets, notes: "Counter[str]", verify: bool) -> Optional[Annotation]:
    return annotation_of_task(record, offsets, notes, verify=verify)


_PRODIGY = _Dialect(("spans", "relations", "tokens"), _prodigy)
_DOCCANO = _Dialect(("entities", "relations"), _doccano)
_LABEL_STUDIO = _Dialect(("annotations", "completions", "predictions"), _label_studio)
