"""The format `spacy2`: spaCy 2's training data as JSON, ["text", {"entities": [[start, end, label], ...]}] a text.

The file is one array of those, or holds one after another, or is that of NER Annotator, which has them under
"annotations": {"classes": [...], "annotations": [...]}. Offsets count characters, and the end is exclusive.
"""

from typing import Any, Iterator

from spacy.tokens import Doc

from spacy_crf_ner.formats.doc_builder import DocMaker
from spacy_crf_ner.formats.entity_lists import read_list
from spacy_crf_ner.formats.items import Placing
from spacy_crf_ner.formats.json_values import values
from spacy_crf_ner.formats.offsets import CHARACTERS
from spacy_crf_ner.formats.records import Record, refuse_unread, rest_missing, shown, unannotated
from spacy_crf_ner.formats.source import Source
from spacy_crf_ner.messages import quote

NULLS = "nulls where a text and its entities could be, left out"


def read_spacy2(source: Source, make: DocMaker, *, offsets: str = CHARACTERS) -> Iterator[Doc]:
    """Read spaCy 2's training data. The file of NER Annotator is held in memory whole.

    A text without "entities" gives a doc whose entity annotation is missing, and is counted. What else is
    beside the entities becomes the doc's meta.

    source (Source): The file.
    make (DocMaker): Makes the docs.
    offsets (str): What offsets count: "characters" (code points) or "utf-16" units.
    YIELDS (Doc): The docs, in order.
    RAISES (FormatError): The file is not JSON of this kind.
    RAISES (ValueError): A setting is wrong.
    """
    placing = Placing(offsets, "exclusive", True)
    for value, line in values(source, lists=True):
        record = Record({}, line, source)
        parts = [value]
        if isinstance(value, dict):
            parts = record.take(value, "annotations", list, "the record")
        for part in parts:
            if part is None:
                make.counts.notes[NULLS] += 1
            else:
                yield _doc(record, part, placing, make)


def _doc(record: Record, pair: Any, placing: Placing, make: DocMaker) -> Doc:
    if not isinstance(pair, list) or len(pair) != 2:
        raise record.error(f"a text is {shown(pair)}", 'write ["text", {"entities": [[start, end, label]]}]')
    text = record.check(pair[0], str, "a text")
    annotation = record.check(pair[1], dict, f"what follows the text {quote(text)}")
    record = record._replace(value=annotation)
    meta = record.meta(("entities",))
    if annotation.get("entities") is None:
        refuse_unread(record, ("entities",), text=text, tokens=None, fix='call it "entities"')
        return unannotated(make.from_text(text, [], record.source, record.line, meta=meta), make)
    listed = read_list(record, annotation["entities"], "entities", text, make.counts.notes)
    placed = placing.spans(record, placing.offsets(record, text, listed.items), listed.items)
    spans = [span for each in placed for span in each]
    doc = make.from_text(text, spans, record.source, record.line, meta=meta)
    return doc if listed.whole else rest_missing(doc, make)
