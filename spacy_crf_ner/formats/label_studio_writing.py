"""The writer `label_studio`: tasks with the entities as predictions, for Label Studio to import.

It imports one JSON array. What a prediction is shown by, the labelling interface, is to have a `Labels` tag of the
name `from_name` for a `Text` tag of the name `to_name`, whose value is "$text".
"""

import json
from collections import Counter
from typing import Any, Dict, List, Optional

from spacy.tokens import Doc, SpanGroup

from spacy_crf_ner.formats.records import annotation_of, to_line
from spacy_crf_ner.formats.text_writer import JSON_ARRAY, text_writer
from spacy_crf_ner.labels import LabeledSpan


@text_writer(JSON_ARRAY)
def write_label_studio(
    doc: Doc,
    notes: "Counter[str]",
    *,
    spans_key: Optional[str] = None,
    from_name: str = "label",
    to_name: str = "text",
    text_key: str = "text",
    model_version: str = "spacy-crf-ner",
) -> str:
    """Write a doc as a task of Label Studio.

    Each entity is a region of the prediction. Where the component has saved its probability (`save_scores`), that
    is the region's score, and the lowest of a doc is the prediction's: Label Studio can sort tasks by it.

    doc (Doc): Its meta becomes further keys of the task's data. One whose entity annotation is missing gets no
        prediction.
    notes (Counter[str]): Counts what the format cannot hold.
    spans_key (Optional[str]): Write `doc.spans[spans_key]`, where overlapping entities are, not `doc.ents`.
    from_name, to_name (str): The names of the tags of the labelling interface.
    text_key (str): The key of the text in the task's data.
    model_version (str): What the prediction is called.
    RETURNS (str): The task, on one line. The file is an array of those.
    RAISES (FormatError): The doc has entities and not this key.
    """
    data = to_line(doc, {text_key: doc.text}, notes, reserved=(text_key,)).rstrip("\n")
    annotation = annotation_of(doc, notes, spans_key)
    if annotation is None:
        return f'{{"data": {data}}}\n'
    saved = _scores(doc)
    regions: List[Dict[str, Any]] = []
    for i, (start, end, label) in enumerate(annotation.spans):
        value = {"start": start, "end": end, "text": doc.text[start:end], "labels": [label]}
        region = {"id": f"e{i}", "from_name": from_name, "to_name": to_name, "type": "labels", "value": value}
        score = saved.get((start, end, label))
        regions.append(region if score is None else {**region, "score": score})
    relations = [
        {"type": "relation", "from_id": f"e{head}", "to_id": f"e{tail}", "direction": "right", "labels": [label]}
        for label, head, tail in annotation.links
    ]
    scores = [region["score"] for region in regions if "score" in region]
    prediction: Dict[str, Any] = {"model_version": model_version, "result": [*regions, *relations]}
    if scores:
        prediction["score"] = min(scores)
    return f'{{"data": {data}, "predictions": {json.dumps([prediction], ensure_ascii=False)}}}\n'


def _scores(doc: Doc) -> Dict[LabeledSpan, float]:
    """The probability of each entity for which one is saved, as `decoding.save_scores` does."""
    found: Dict[LabeledSpan, float] = {}
    for group in doc.spans.values():
        scores = group.attrs.get("scores", []) if isinstance(group, SpanGroup) else []
        if isinstance(scores, list) and len(scores) == len(group):
            found.update(
                ((span.start_char, span.end_char, span.label_), float(score)) for span, score in zip(group, scores)
            )
    return found
