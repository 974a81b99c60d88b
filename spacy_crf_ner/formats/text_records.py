"""Records of a text and its annotation, in any annotation tool's words -> docs."""

from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from spacy.tokens import Doc

from spacy_crf_ner.formats.annotation_keys import (
    ENTITY_KEYS,
    TEXT_KEYS,
    TOKEN_KEYS,
    are_numbers,
    are_tags,
    are_words,
    lengths,
    looks_annotated,
    shape,
)
from spacy_crf_ner.formats.doc_builder import DocMaker
from spacy_crf_ner.formats.entity_lists import Listed, read_list
from spacy_crf_ner.formats.items import ENDS, EXCLUSIVE, INCLUSIVE, Item, Placing
from spacy_crf_ner.formats.label_studio import annotation_of_task
from spacy_crf_ner.formats.offsets import CHARACTERS, UNITS, Offsets
from spacy_crf_ner.formats.records import Annotation, Link, Record, refuse_unread, rest_missing, shown, unannotated
from spacy_crf_ner.formats.registry import check_choice
from spacy_crf_ner.formats.tag_lists import TagReader, places_of
from spacy_crf_ner.formats.token_offsets import TOKENS, in_characters, refuse_token_offsets
from spacy_crf_ner.labels import LabeledSpan
from spacy_crf_ner.messages import quote, short

TOKEN_RELATIONS = "relations left out, an end of which is not an entity"

_ANSWERS = ("accept", "reject", "ignore")
_STRICT = ("spans", "entities", "label", "labels", "ner", "entity_list")
"""Keys that hold entities and nothing else, or the record is wrong."""
_TASK_KEYS = ("annotations", "completions", "predictions")


class _Text(NamedTuple):
    """The text of a record, the keys that hold it, and what is left of their values."""

    text: str
    keys: Tuple[str, ...]
    more: Dict[str, Any]


class _Read(NamedTuple):
    """What was read of a record.

    annotation (Optional[Annotation]): Its annotation; None where it has none.
    keys (Tuple[str, ...]): The keys that were read.
    found (bool): Whether the record has a key of annotation, be there one or not.
    """

    annotation: Optional[Annotation]
    keys: Tuple[str, ...]
    found: bool = True


class TextRecords:
    """Reads the records of one file.

    make (DocMaker): Makes the docs.
    tags (TagReader): Reads tags, where records have them.
    text_key, label_key, offsets, ends, verify: As of `jsonl.read_jsonl`.
    RAISES (ValueError): A setting is wrong.
    """

    def __init__(
        self,
        make: DocMaker,
        tags: TagReader,
        *,
        text_key: str,
        label_key: Optional[str],
        offsets: Optional[str],
        ends: Optional[str],
        verify: bool,
    ) -> None:
        for name, key in (("text_key", text_key), ("label_key", label_key)):
            if not isinstance(key, str) and (key is not None or name == "text_key"):
                raise ValueError(f"the setting {name} is {key!r}; give the name of a key")
        self._make = make
        self._tags = tags
        self._text_key = text_key
        self._label_key = label_key
        if offsets is not None:
            check_choice("offsets", offsets, (*UNITS, TOKENS))
        self._unit = offsets
        self._inclusive = ends == INCLUSIVE
        if offsets == TOKENS:
            check_choice("ends", ends, ENDS)
            self._placing = Placing(CHARACTERS, EXCLUSIVE, verify)
        else:
            self._placing = Placing(offsets or CHARACTERS, ends, verify)
        self._notes = make.counts.notes

    def doc(self, record: Record) -> Optional[Doc]:
        """Make the doc of a record; None where Prodigy's user has not accepted it.

        RAISES (FormatError): The record is in no tool's words.
        """
        if self._is_prodigy(record) and not self._is_accepted(record):
            return None
        text, text_keys, more = self._text(record)
        annotation, keys, _ = self._read(record, text)
        used = [key for key in (*text_keys, *keys) if key not in more]
        meta = record._replace(value={**record.value, **more}).meta(used)
        spans, links, whole = annotation or ([], [], True)
        doc = self._make.from_text(text, spans, record.source, record.line, meta=meta, relations=links)
        if annotation is None:
            return unannotated(doc, self._make)
        return doc if whole else rest_missing(doc, self._make)

    def _is_prodigy(self, record: Record) -> bool:
        value = record.value
        if "spans" in value:
            return True
        known = any(key in value for key in (*ENTITY_KEYS, *_TASK_KEYS, self._label_key))
        return not known and _answer_of(value) in _ANSWERS

    def _is_accepted(self, record: Record) -> bool:
        answer = record.value.get("answer", "accept")
        if answer not in _ANSWERS:
            fix = f"write {', '.join(_ANSWERS[:-1])} or {_ANSWERS[-1]}"
            raise record.error(f'"answer" is {shown(answer)}', fix)
        if answer != "accept":
            self._notes[f"records with the answer {quote(answer)}, left out"] += 1
        return answer == "accept"

    def _text(self, record: Record) -> _Text:
        value, key = record.value, self._text_key
        data = value.get("data")
        if key in value:
            return _Text(record.take(value, key, str, "the record"), (key,), {})
        if isinstance(data, str):
            return _Text(data, ("data",), {})
        if isinstance(data, dict) and key in data:
            rest = {other: data[other] for other in data if other != key}
            return _Text(record.take(data, key, str, '"data"'), ("data",), {"data": rest} if rest else {})
        part, of = (data, '"data"') if isinstance(data, dict) else (value, "the record")
        others = [name for name in (*TEXT_KEYS, *part) if isinstance(part.get(name), str)]
        fix = f"name the key of the text with --set text_key={others[0] if others else 'NAME'}"
        if any(name in value for name in TOKEN_KEYS) and not others:
            fix = f"read it with --format {'spert' if 'entities' in value else 'huggingface'}"
        raise record.error(f'{of} has no "{key}"', fix)

    def _read(self, record: Record, text: str) -> _Read:
        """Read the annotation, and say what else looks like one."""
        value, key = record.value, self._label_key
        if isinstance(value.get("data"), dict) and self._text_key not in value and key in (None, *_TASK_KEYS):
            annotation = annotation_of_task(record, text, self._placing, self._notes, key=key)
            read = _Read(annotation, _TASK_KEYS)
        elif key is None:
            read = self._read_known(record, text)
        elif value.get(key) is None:
            read = _Read(None, (key,))
        else:
            read = self._read_key(record, text, key)
        if not read.found:
            fix = "name the key of the entities with --set label_key={key}"
            known = (*read.keys, *TOKEN_KEYS, "data")
            refuse_unread(record, known, text=text, tokens=_tokens(value), fix=fix)
        for other, part in value.items():
            if other in (*read.keys, *TOKEN_KEYS, "data"):
                continue
            if looks_annotated(other, part, text, _tokens(value)):
                self._notes[f"records with {quote(other)}, which looks like annotation and is not read"] += 1
        return read

    def _read_known(self, record: Record, text: str) -> _Read:
        """Read the annotation under the keys that are known: it must be the same under all."""
        value = record.value
        n_tags = lengths(text, _tokens(value))
        known = [key for key in ENTITY_KEYS if key in value]
        shaped = [key for key in known if shape(key, value[key], n_tags) is not None]
        if not shaped:
            return self._read_odd(record, text, known)
        first, *others = (self._read_key(record, text, key) for key in shaped)
        for key, other in zip(shaped[1:], others):
            if _spans(other) != _spans(first):
                what = f'"{shaped[0]}" and "{key}" hold different annotation'
                raise record.error(what, f"name the right one with --set label_key={shaped[0]} (or {key})")
        return _Read(first.annotation, (*first.keys, *shaped))

    def _read_odd(self, record: Record, text: str, known: List[str]) -> _Read:
        """Read, and mostly refuse, a record none of whose keys looks like annotation."""
        value = record.value
        nulls = []
        for key in known:
            part = value[key]
            # So it is in Argilla before anybody has annotated the text. In other tools it is wrong.
            if part is None and key not in ("spans", "entities", "label", "labels"):
                nulls.append(key)
            elif (
                key in _STRICT
                or (isinstance(part, list) and (not are_words(part) or are_tags(part)))
                or ("tags" in key and are_numbers(part))
            ):
                return self._read_key(record, text, key)
        if "completions" in value:
            fix = 'export Label Studio as "JSON", or doccano as JSONL with the names of its labels'
            raise record.error('the record has "completions" and no "data"', fix)
        if not known and _answer_of(value) in _ANSWERS:
            return _Read(Annotation([], []), ("relations", "tokens"), found=False)
        return _Read(None, tuple(nulls), found=bool(nulls))

    def _read_key(self, record: Record, text: str, key: str) -> _Read:
        value = record.value[key]
        tokens = _tokens(record.value)
        is_numbered = (
            are_numbers(value) and key != "spans" and ("tags" in key or len(value) in lengths(text, tokens))
        )
        if is_numbered or are_tags(value) or (value and are_words(value) and key == self._label_key):
            return self._read_tags(record, text, tokens, key)
        listed = read_list(record, value, key, text, self._notes)
        items = self._items(record, text, tokens, listed)
        offsets = self._placing.offsets(record, text, items)
        spans = [span for each in self._placing.spans(record, offsets, items) for span in each]
        links: List[Link] = []
        keys: Tuple[str, ...] = (key,)
        if key == "spans":
            links, n_left = _prodigy_links(record, spans, offsets)
            keys = ("spans", "relations", "tokens")
            if n_left:
                self._notes[TOKEN_RELATIONS] += n_left
        elif key == "entities" and not any(isinstance(part, list) for part in listed.parts):
            links = _doccano_links(record, listed)
            keys = ("entities", "relations")
        return _Read(Annotation(spans, links, listed.whole), keys)

    def _items(self, record: Record, text: str, tokens: Optional[List[Any]], listed: Listed) -> Sequence[Item]:
        """The entities of a list, with offsets in the unit of `_placing`."""
        if self._unit == TOKENS:
            if tokens is None:
                raise record.error("the record has no tokens to count", "give --set offsets=characters")
            places = places_of(record, text, tokens)
            return in_characters(record, listed.items, places, inclusive=self._inclusive)
        if self._unit is None and tokens is not None:
            refuse_token_offsets(record, listed.items, text, tokens)
        return listed.items

    def _read_tags(self, record: Record, text: str, tokens: Optional[List[Any]], key: str) -> _Read:
        places = [(i, i + 1) for i in range(len(text))] if tokens is None else places_of(record, text, tokens)
        words = [text[start:end] for start, end in places]
        spans = self._tags.spans(record, words, record.value[key], key, self._make)
        placed = [(places[start][0], places[end - 1][1], label) for start, end, label in spans]
        return _Read(Annotation(placed, []), (key, *TOKEN_KEYS))


def _answer_of(value: Dict[str, Any]) -> Optional[str]:
    answer = value.get("answer")
    return answer if isinstance(answer, str) else None


def _tokens(value: Dict[str, Any]) -> Optional[List[Any]]:
    """The tokens of a record, where it has any: strings, or objects of Prodigy's."""
    return next((value[key] for key in TOKEN_KEYS if isinstance(value.get(key), list)), None)


def _spans(read: _Read) -> Optional[List[LabeledSpan]]:
    return None if read.annotation is None else sorted(set(read.annotation.spans))


def _prodigy_links(record: Record, spans: List[LabeledSpan], offsets: Offsets) -> Tuple[List[Link], int]:
    """The relations between spans, and how many there are of tokens that are not entities."""
    places = {span: i for i, span in enumerate(spans)}
    links: List[Link] = []
    n_left = 0
    for relation in record.check(record.value.get("relations", []), list, '"relations"'):
        label = record.take(relation, "label", str, "a relation")
        ends = [relation.get(key) for key in ("head_span", "child_span")]
        head, tail = (_end(record, end, offsets, places) for end in ends)
        if head is None or tail is None:
            n_left += 1
        else:
            links.append((label, head, tail))
    return links, n_left


def _end(record: Record, span: Any, offsets: Offsets, places: Dict[LabeledSpan, int]) -> Optional[int]:
    """Which span a relation begins or ends at; None where it is a token that is not an entity."""
    if span is None or (isinstance(span, dict) and span.get("label") is None):
        return None
    of = "the end of a relation"
    label = record.take(span, "label", str, of)
    start, end = (record.take(span, key, int, of) for key in ("start", "end"))
    return places.get(offsets.span(record, start, end, label))


def _doccano_links(record: Record, listed: Listed) -> List[Link]:
    """The relations, which name entities by their ids."""
    places: Dict[Any, int] = {}
    first = 0
    for item, part in zip(listed.items, listed.parts):
        if "id" in part and places.setdefault(_id(record, part, "id"), first) != first:
            raise record.error(f"two entities have the id {part['id']!r}", "give each its own")
        first += len(item.labels)
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
    return links


def _id(record: Record, part: Dict[str, Any], key: str) -> Any:
    value = part.get(key)
    return value if isinstance(value, str) else record.take(part, key, int, "an entity or relation")
