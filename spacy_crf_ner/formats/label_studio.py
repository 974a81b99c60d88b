"""Label Studio's exports: tasks as "JSON" has them, and the labels of "JSON-MIN"."""

from collections import Counter
from itertools import accumulate
from typing import Any, Collection, Dict, Iterator, List, Optional

from spacy_crf_ner.formats.items import Item, Placing
from spacy_crf_ner.formats.records import Annotation, Link, Record, shown
from spacy_crf_ner.messages import quote

UNNAMED = "relation"
UNNAMED_RELATION = f"relations without a label, which are called {UNNAMED!r}"
UNLABELLED = "regions without a label, left out"
OTHER_END = "relations left out, an end of which is not an entity"
OTHERS = "further annotations of a task, left out: the first one counts"
CANCELLED = "cancelled annotations, left out"
PREDICTIONS = "tasks with predictions, left out"

_OF_TEXT = frozenset({"choices", "taxonomy", "rating", "number", "datetime", "textarea", "pairwise", "ranker"})
"""Types of results that say something of a whole text, or of a region that another result marks."""

_REGIONS = ("labels", "hypertextlabels")
_WAYS = {"right": (False,), "left": (True,), "bi": (False, True)}
"""The ways in which a relation goes, by its direction: whether backwards, from its second end to the first."""


def annotation_of_task(
    record: Record, text: str, placing: Placing, notes: "Counter[str]", *, key: Optional[str] = None
) -> Optional[Annotation]:
    """Read the annotation of a task: the first that was not cancelled.

    record (Record): The task.
    text (str): Its text.
    placing (Placing): Places regions in the text.
    notes (Counter[str]): Counts what is left out.
    key (Optional[str]): Where the annotations are. None: "annotations" or, in old exports, "completions".
    RETURNS (Optional[Annotation]): The annotation; None where there is none.
    RAISES (FormatError): The annotation is not as Label Studio writes it.
    """
    named = key is not None
    key = key or ("annotations" if "annotations" in record.value else "completions")
    annotations = record.check(record.value.get(key, []), list, f'"{key}"')
    kept = []
    for annotation in annotations:
        results = record.take(annotation, "result", list, "an annotation")
        if annotation.get("was_cancelled"):
            notes[CANCELLED] += 1
        else:
            kept.append(results)
    if kept[1:]:
        notes[OTHERS] += len(kept) - 1
    if record.value.get("predictions") and not named:
        notes[PREDICTIONS] += 1
    return _annotation(record, text, kept[0], placing, notes) if kept else None


def is_region(value: Any) -> bool:
    """Whether a value is a region of text with its labels, and no other tool's entity."""
    return isinstance(value, dict) and any(key in value for key in ("labels", "hypertextlabels", "globalOffsets"))


def region_item(record: Record, region: Any, notes: "Counter[str]") -> Item:
    """Read a region of text.

    record (Record): The record, for errors.
    region (Any): {"start", "end", "labels"}, and maybe "text". That of hypertext has its offsets in
        "globalOffsets", for its start and end are paths, and its labels maybe in "hypertextlabels".
    notes (Counter[str]): Counts regions without a label.
    RETURNS (Item): The region; it may have no label.
    RAISES (FormatError): It is not of this kind.
    """
    place = region.get("globalOffsets") if isinstance(region, dict) else None
    of = "a region" if place is None else 'the "globalOffsets" of a region'
    start, end = (record.take(region if place is None else place, key, int, of) for key in ("start", "end"))
    key = "labels" if region.get("hypertextlabels") is None else "hypertextlabels"
    listed = region.get(key)
    labels = record.check([] if listed is None else listed, list, f'the "{key}" of a region')
    if not labels:
        notes[UNLABELLED] += 1
    mention = region.get("text")
    if labels and mention is not None:
        record.check(mention, str, 'the "text" of a region')
    return Item(start, end, [record.check(label, str, "a label") for label in labels], mention)


def _annotation(
    record: Record, text: str, results: List[Any], placing: Placing, notes: "Counter[str]"
) -> Annotation:
    items: List[Item] = []
    numbers: Dict[str, Optional[int]] = {}  # the item of each result that has an id
    unread: List[Any] = []
    relations = []
    for result in results:
        kind = record.take(result, "type", str, "a result")
        if kind == "relation":
            relations.append(result)
            continue
        number = None
        value = result.get("value")
        if kind in _REGIONS and is_readable(value, text):
            item = region_item(record, value, notes)
            number = len(items) if item.labels else None
            items.append(item)
        else:
            notes[f"results of type {quote(kind)}, left out"] += 1
            unread.append(result)
        if isinstance(result.get("id"), str) and numbers.get(result["id"]) is None:
            numbers[result["id"]] = number
    offsets = placing.offsets(record, text, items)
    placed = placing.spans(record, offsets, items)
    spans = [span for each in placed for span in each]
    starts = [0, *accumulate(map(len, placed))]
    first = {id_: None if number is None else starts[number] for id_, number in numbers.items()}
    links = [link for relation in relations for link in _links(record, relation, first, notes)]
    marked = {id_ for id_, number in numbers.items() if number is not None}
    whole = all(item.labels for item in items) and not any(_marks_text(result, marked) for result in unread)
    return Annotation(spans, links, whole)


def is_readable(region: Any, text: str) -> bool:
    """Whether it can be told where a region is in the text.

    Of hypertext that takes its "globalOffsets", which count what a browser shows: the text must be free of markup,
    or the region's text must show that it is there.
    """
    if not isinstance(region, dict) or not (isinstance(region.get("start"), str) and "startOffset" in region):
        return True  # or it is wrong, as is said when it is read
    return isinstance(region.get("globalOffsets"), dict) and (
        region.get("text") is not None or not any(sign in text for sign in "<&")
    )


def _marks_text(result: Dict[str, Any], marked: Collection[str]) -> bool:
    """Whether a result that is not read may mark an entity, and says not only more of one that is read."""
    value = result.get("value")
    places = {"start", "end", "globalOffsets"}
    if result["type"] in _OF_TEXT and not (isinstance(value, dict) and places & value.keys()):
        return False
    return result["type"] not in _OF_TEXT or result.get("id") not in marked


def _links(
    record: Record, relation: Any, first: Dict[str, Optional[int]], notes: "Counter[str]"
) -> Iterator[Link]:
    ids = [record.take(relation, key, str, "a relation") for key in ("from_id", "to_id")]
    for id_ in ids:
        if id_ not in first:
            raise record.error(f"a relation names {quote(id_)}, which no result has as its id", "export it again")
    head, tail = (first[id_] for id_ in ids)
    if head is None or tail is None:
        notes[OTHER_END] += 1
        return
    labels = record.check(relation.get("labels") or [], list, 'the "labels" of a relation')
    if not labels:
        notes[UNNAMED_RELATION] += 1
    direction = relation.get("direction", "right")
    if type(direction) is not str or direction not in _WAYS:
        raise record.error(f'the "direction" of a relation is {shown(direction)}', "write right, left or bi")
    for label in labels or [UNNAMED]:
        for backwards in _WAYS[direction]:
            ends = (tail, head) if backwards else (head, tail)
            yield record.check(label, str, "the label of a relation"), *ends
