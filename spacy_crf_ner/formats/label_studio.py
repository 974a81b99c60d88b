"""Label Studio's exports: tasks as "JSON" has them, and the labels of "JSON-MIN"."""

from collections import Counter
from typing import Any, Dict, Iterator, List, Optional

from spacy_crf_ner.formats.offsets import CHARACTERS, UTF_16, Offsets
from spacy_crf_ner.formats.records import Annotation, Link, Record, shown
from spacy_crf_ner.formats.rows import quote
from spacy_crf_ner.labels import Span

UNNAMED = "relation"
UNNAMED_RELATION = f"relations without a label, which are called {UNNAMED!r}"
UNLABELLED = "regions without a label, left out"
OTHER_END = "relations left out, an end of which is no entity"
OTHERS = "further annotations of a task, left out: the first one counts"
CANCELLED = "cancelled annotations, left out"
PREDICTIONS = "tasks with predictions, left out"

_TEXT_SPANS = "labels"
_WAYS = {"right": (False,), "left": (True,), "bi": (False, True)}
"""The ways in which a relation goes, by its direction: whether backwards, from its second end to the first."""


def annotation_of_task(
    record: Record, offsets: Offsets, notes: "Counter[str]", *, verify: bool
) -> Optional[Annotation]:
    """Read the annotation of a task: the first that was not cancelled.

    record (Record): The task; its annotations are under "annotations" or, in old exports, "completions".
    offsets (Offsets): Of the text.
    notes (Counter[str]): Counts what is left out.
    verify (bool): Check the text of each entity, where it is given.
    RETURNS (Optional[Annotation]): The annotation; None where there is none.
    RAISES (FormatError): The annotation is not as Label Studio writes it.
    """
    key = "annotations" if "annotations" in record.value else "completions"
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
    if record.value.get("predictions"):
        notes[PREDICTIONS] += 1
    return _annotation(record, kept[0], offsets, notes, verify) if kept else None


def labelled(record: Record, region: Any, offsets: Offsets, notes: "Counter[str]", verify: bool) -> List[Span]:
    """Read a region of text: an entity for each of its labels.

    region (Any): {"start", "end", "labels"}, and maybe "text".
    RETURNS (List[Span]): The entities.
    RAISES (FormatError): It is no such region, or another text stands there.
    """
    start, end = (record.take(region, key, int, "a region") for key in ("start", "end"))
    labels = record.check(region.get("labels", []), list, 'the "labels" of a region')
    if not labels:
        notes[UNLABELLED] += 1
    spans = [offsets.span(record, start, end, record.check(label, str, "a label")) for label in labels]
    if verify and spans and region.get("text") is not None:
        mention = record.check(region["text"], str, 'the "text" of a region')
        check_mention(record, offsets, start, end, mention)
    return spans


def check_mention(record: Record, offsets: Offsets, start: int, end: int, mention: str) -> None:
    """Check that a text stands where the file says, but for white space: Label Studio has folded it.

    RAISES (FormatError): Another text stands there.
    """
    found = offsets.mention(start, end)
    assert found is not None
    if _bare(found) == _bare(mention):
        return
    what = f"{quote(mention)} should stand at ({start}, {end}), where there is {quote(found)}"
    other = Offsets(offsets.text, CHARACTERS if offsets.unit == UTF_16 else UTF_16)
    fits = _bare(other.mention(start, end) or "") == _bare(mention)
    mend = (
        f"give --set offsets={other.unit}" if fits else "correct it, or trust the offsets with --set verify=false"
    )
    raise record.error(what, mend)


def _bare(text: str) -> str:
    return "".join(text.replace("\\n", "").split())


def _annotation(
    record: Record, results: List[Any], offsets: Offsets, notes: "Counter[str]", verify: bool
) -> Annotation:
    spans: List[Span] = []
    first: Dict[str, Optional[int]] = {}
    relations = []
    for result in results:
        kind = record.take(result, "type", str, "a result")
        if kind == "relation":
            relations.append(result)
            continue
        place = None
        if kind == _TEXT_SPANS:
            made = labelled(record, result.get("value"), offsets, notes, verify)
            place = len(spans) if made else None
            spans.extend(made)
        else:
            notes[f"results of type {quote(kind)}, left out"] += 1
        if isinstance(result.get("id"), str) and first.get(result["id"]) is None:
            first[result["id"]] = place
    return Annotation(spans, [link for relation in relations for link in _links(record, relation, first, notes)])


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
