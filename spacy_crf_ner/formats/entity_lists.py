"""The entities of a record, as a list in any tool's words: [start, end, label], or an object for each."""

from collections import Counter
from typing import Any, List, NamedTuple, Optional

from spacy_crf_ner.formats.annotation_keys import LABELS, MENTIONS, PLACES
from spacy_crf_ner.formats.items import Item
from spacy_crf_ner.formats.label_studio import UNLABELLED, is_readable, is_region, region_item
from spacy_crf_ner.formats.records import Record, shown
from spacy_crf_ner.messages import quote, short

UNPLACED = "regions of hypertext without offsets in the text, left out"

_NAMES = {"spans": "a span"}
_OTHER_KEYS = frozenset({"id", "token_start", "token_end", "entity_index", "text"})


class Listed(NamedTuple):
    """The entities of a list.

    items (List[Item]): The entities that have a label and a place.
    parts (List[Any]): What each was read from.
    whole (bool): Whether those are all.
    """

    items: List[Item]
    parts: List[Any]
    whole: bool


def read_list(record: Record, value: Any, key: str, text: str, notes: "Counter[str]") -> Listed:
    """Read a list of entities.

    record (Record): The record, for errors.
    value (Any): What should be the list.
    key (str): Its key.
    text (str): The text of the record.
    notes (Counter[str]): Counts what is left out.
    RETURNS (Listed): The entities.
    RAISES (FormatError): It is not a list, or an entity is in no tool's words.
    """
    if isinstance(value, dict) and key == "label":
        raise record.error(f'"{key}" is an object', "read labels and mentions with --format cluener")
    items: List[Item] = []
    parts: List[Any] = []
    whole = True
    for part in record.check(value, list, f'"{key}"'):
        item = _item(record, part, key, text, notes)
        if item is None or not item.labels:
            whole = False
        else:
            items.append(item)
            parts.append(part)
    return Listed(items, parts, whole)


def _item(record: Record, part: Any, key: str, text: str, notes: "Counter[str]") -> Optional[Item]:
    if isinstance(part, list) and len(part) == 3:
        return _of_list(record, part)
    if not isinstance(part, dict):
        what = f'"{key}" holds {shown(part)}'
        raise record.error(what, "write [start, end, label]; classes of whole texts are not entities")
    if is_region(part):
        if is_readable(part, text):
            return region_item(record, part, notes)
        notes[UNPLACED] += 1
        return None
    if key in ("label", "labels") and not any(name in part for name in LABELS):
        record.take(part, "start", int, "a region")
        record.take(part, "end", int, "a region")
        notes[UNLABELLED] += 1
        return None
    return _of_object(record, part, key, notes)


def _of_list(record: Record, part: List[Any]) -> Item:
    """[start, end, label] or, as in Argilla, [label, start, end]."""
    if isinstance(part[0], str) and type(part[1]) is int and type(part[2]) is int:
        label, *offsets = part
    else:
        *offsets, label = part
    start, end = (record.check(offset, int, "an offset") for offset in offsets)
    return Item(start, end, [record.check(label, str, "a label")])


def _of_object(record: Record, part: Any, key: str, notes: "Counter[str]") -> Item:
    of = _NAMES.get(key, "an entity")
    inner = part.get("entity_index")
    places = {**part, **inner} if isinstance(inner, dict) else part
    named = [place for place in PLACES if place[0] in places] or [place for place in PLACES if place[1] in places]
    first, last, sure = named[0] if named else PLACES[0]
    label_key = next((name for name in LABELS if part.get(name) is not None), None)
    if label_key is None:
        label_key = next((name for name in LABELS if name in part), LABELS[0])
    label = record.take(part, label_key, str, of)
    start, end = (record.take(places, name, int, of) for name in (first, last))
    mention_key = next((name for name in MENTIONS if part.get(name) is not None), None)
    mention = None if mention_key is None else record.check(part[mention_key], str, f'the "{mention_key}" of {of}')
    for other in part.keys() - _OTHER_KEYS - {first, last, label_key, mention_key}:
        notes[f"{quote(other)} of {short(key)}, left out"] += 1
    return Item(start, end, [label], mention, sure)
