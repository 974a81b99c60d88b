"""JSON records <-> docs: what the JSON formats share."""

import json
from collections import Counter
from typing import Any, Collection, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Type, TypeVar

import srsly
from spacy.tokens import Doc

from spacy_crf_ner.formats.annotation_keys import looks_annotated
from spacy_crf_ner.formats.doc_builder import (
    META,
    MISSING_WRITTEN,
    ORIGIN,
    RELATIONS,
    DocMaker,
    Relation,
    unwritable,
)
from spacy_crf_ner.formats.errors import FormatError
from spacy_crf_ner.formats.source import Source
from spacy_crf_ner.labels import LabeledSpan
from spacy_crf_ner.messages import quote

UNANNOTATED = "texts without annotation: their entities are missing, which is not to say that there are none"
INCOMPLETE = "docs with partial annotation: what is outside their entities is missing, and not O"
SPANS_LEFT = "docs with doc.spans, of which only the entities are written (set spans_key)"
RELATIONS_LEFT = "relations left out, whose entities are not written (set spans_key)"
META_LEFT = "docs with meta that JSON cannot hold, which is left out"

_EXAMPLE = Relation("Kill", (0, 4, "Peop"), (6, 10, "Peop")).as_dict()

T = TypeVar("T")
Link = Tuple[str, int, int]
"""A relation: (label, head, tail), the last two indices of a list of spans."""

_KINDS = {
    dict: "an object",
    list: "a list",
    str: "a string",
    int: "a whole number",
    float: "a number with a point",
    bool: "true or false",
    type(None): "null",
}


class Annotation(NamedTuple):
    """The entities of a text, as (start, end, label) in characters, the end exclusive, and their relations.

    whole (bool): Whether all that the file says of entities is read. What is left out may be anywhere in the text.
    """

    spans: List[LabeledSpan]
    links: List[Link]
    whole: bool = True


class Record(NamedTuple):
    """A record, where it begins (line, counted from 1), and the file."""

    value: Dict[str, Any]
    line: int
    source: Source

    def error(self, what: str, fix: str) -> FormatError:
        """An error in this record."""
        return self.source.error(what, fix, self.line)

    def take(self, part: Any, key: str, kind: Type[T], of: str) -> T:
        """Take a value out of an object of this record.

        part (Any): What should be the object.
        key (str): The key.
        kind (Type[T]): Of what type the value must be; True and False are no `int`.
        of (str): What the object is called, for the error.
        RETURNS (T): The value.
        RAISES (FormatError): It is not an object, has no such key, or the value is of another type.
        """
        if type(part) is not dict:
            raise self.error(f"{of} is {shown(part)}", f'write an object with "{key}"')
        if key not in part:
            raise self.error(f'{of} has no "{key}"', f"write it: {_KINDS[kind]}")
        return self.check(part[key], kind, f'"{key}" of {of}')

    def check(self, value: Any, kind: Type[T], of: str) -> T:
        """Check the type of a value; arguments, value and error as of `take`."""
        if type(value) is not kind:
            raise self.error(f"{of} is {shown(value)}", f"write {_KINDS[kind]}")
        return value

    def meta(self, used: Collection[str]) -> Dict[str, Any]:
        """What else the record holds.

        used (Collection[str]): The keys that have been read.
        RETURNS (Dict[str, Any]): All others, with their values.
        RAISES (FormatError): A DocBin cannot hold a value.
        """
        meta = {key: value for key, value in self.value.items() if key not in used}
        for key, value in meta.items():
            try:
                srsly.msgpack_dumps(value)
            except (OverflowError, RecursionError, ValueError) as error:
                what = f"the value of {quote(key)} cannot be kept ({error})"
                raise self.error(what, "write it as a string, or delete it") from None
        return meta


def refuse_unread(record: Record, known: Collection[str], *, text: Optional[str], tokens: Any, fix: str) -> None:
    """Refuse a record without annotation that has some under a key which is not read: a typing error mostly.

    record (Record): The record.
    known (Collection[str]): The keys that mean something else.
    text (Optional[str]): The record's text.
    tokens (Any): Its tokens, if it has any.
    fix (str): What the user can do about it; "{key}" is replaced by the key.
    RAISES (FormatError): It has such a key.
    """
    for key, value in record.value.items():
        if key not in known and (looks_annotated(key, value, text, tokens) or _are_mentions(value)):
            what = f"{quote(key)} looks like annotation, and is not a key that is known"
            raise record.error(what, fix.replace("{key}", key))


def _are_mentions(value: Any) -> bool:
    """Whether a value has the shape of CLUENER's labels: {label: {mention: [[start, end]]}}."""
    return isinstance(value, dict) and any(
        isinstance(mentions, dict) and any(isinstance(places, list) and places for places in mentions.values())
        for mentions in value.values()
    )


def unannotated(doc: Doc, make: DocMaker) -> Doc:
    """Take from a doc what says that it has no entities: it is not known which it has.

    doc (Doc): A doc without entities.
    make (DocMaker): Made it; counts it.
    RETURNS (Doc): The same doc. Its tokens' entity annotation is missing, as spaCy calls it.
    """
    if make.spans_key is not None:
        doc.spans.pop(make.spans_key, None)
    if len(doc):
        doc.set_ents([], default="missing")
        make.counts.notes[UNANNOTATED] += 1
    return doc


def rest_missing(doc: Doc, make: DocMaker) -> Doc:
    """Take from a doc what says that tokens outside its entities are in none: its annotation is not whole.

    doc (Doc): A doc with the entities that were read, or none.
    make (DocMaker): Made it; counts it.
    RETURNS (Doc): The same doc. The entity annotation of all other tokens is missing, as spaCy calls it.
    """
    if len(doc):
        doc.set_ents(list(doc.ents), default="missing")
        make.counts.notes[INCOMPLETE] += 1
    return doc


def shown(value: Any) -> str:
    """A value, as it may be shown in a message."""
    if isinstance(value, str):
        return f"the string {quote(value)}"
    return _KINDS[type(value)] if isinstance(value, (dict, list)) else json.dumps(value)[:20]


def annotation_of(doc: Doc, notes: "Counter[str]", spans_key: Optional[str]) -> Optional[Annotation]:
    """What is to be written of a doc.

    doc (Doc): The doc.
    notes (Counter[str]): Counts what is left out.
    spans_key (Optional[str]): Write `doc.spans[spans_key]`, not `doc.ents`.
    RETURNS (Optional[Annotation]): The entities and relations; None where the annotation is missing.
    RAISES (FormatError): The doc has entities and not this key.
    """
    if spans_key is not None and spans_key in doc.spans:
        entities = list(doc.spans[spans_key])
    elif not doc.has_annotation("ENT_IOB"):
        return None
    else:
        entities = list(doc.ents)
        if missing := sum(token.ent_iob == 0 for token in doc):
            notes[MISSING_WRITTEN] += missing
        if spans_key is not None and entities:
            has = f"it has {', '.join(map(repr, doc.spans))}" if doc.spans else "it has none"
            raise unwritable(
                doc.user_data.get(ORIGIN),
                f"the doc has no spans {quote(spans_key)}",
                f"choose another spans_key ({has})",
            )
        held = {(entity.start, entity.end, entity.label) for entity in entities}
        others = (span for group in doc.spans.values() for span in group)
        if any((span.start, span.end, span.label) not in held for span in others):
            notes[SPANS_LEFT] += 1
    spans = [(entity.start_char, entity.end_char, entity.label_) for entity in entities]
    return Annotation(spans, _links(doc, spans, notes))


def to_line(doc: Doc, fields: Mapping[str, Any], notes: "Counter[str]", *, reserved: Collection[str]) -> str:
    """Write a record.

    doc (Doc): Its meta becomes further keys.
    fields (Mapping[str, Any]): What the format itself says.
    notes (Counter[str]): Counts what is left out.
    reserved (Collection[str]): Keys that mean something to the format: meta cannot have them.
    RETURNS (str): One line, its end included.
    """
    meta = meta_of(doc)
    if META in doc.user_data and doc.user_data[META] is not meta:
        notes[META_LEFT] += 1
    try:
        for key in reserved:
            if key in meta:
                notes[
                    f"docs with meta {quote(key)}, which means something else in this format and is left out"
                ] += 1
        rest = {key: value for key, value in meta.items() if key not in reserved}
        line = json.dumps({**fields, **rest}, ensure_ascii=False, allow_nan=False)
        line.encode("utf8")
    except (AttributeError, TypeError, ValueError, RecursionError):
        notes[META_LEFT] += 1
        line = json.dumps(fields, ensure_ascii=False)
    return f"{line}\n"


def meta_of(doc: Doc) -> Dict[str, Any]:
    """What else its file says of a doc; empty where that is not a dict, as a reader has not made it."""
    meta = doc.user_data.get(META)
    return meta if isinstance(meta, dict) else {}


def _links(doc: Doc, spans: Sequence[LabeledSpan], notes: "Counter[str]") -> List[Link]:
    """The relations in the doc's user data, of which both entities are among the spans."""
    places = {span: i for i, span in enumerate(spans)}
    links: List[Link] = []
    for relation in doc.user_data.get(RELATIONS, ()):
        try:
            label, head, tail = (relation[key] for key in ("label", "head", "tail"))
            first, second = places.get(tuple(head)), places.get(tuple(tail))
        except (KeyError, TypeError):
            what = f"doc.user_data[{RELATIONS!r}] holds no relations between entities"
            raise unwritable(doc.user_data.get(ORIGIN), what, f"delete it, or write each as {_EXAMPLE}") from None
        if first is None or second is None:
            notes[RELATIONS_LEFT] += 1
        else:
            links.append((label, first, second))
    return links
