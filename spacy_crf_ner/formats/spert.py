"""The format `spert`: SpERT's JSON, {"tokens", "entities": [{"type", "start", "end"}], "relations": [{"type",
"head", "tail"}]}.

Offsets count tokens, and the end is exclusive; head and tail count entities. All count from 0.

Source: Eberts and Ulges (2020), Span-based Joint Entity and Relation Extraction with Transformer Pre-training.
"""

from typing import Any, Iterator, List

from spacy.tokens import Doc

from spacy_crf_ner.formats.doc_builder import DocMaker
from spacy_crf_ner.formats.json_values import values
from spacy_crf_ner.formats.records import Link, Record, refuse_unread, unannotated
from spacy_crf_ner.formats.source import Source
from spacy_crf_ner.labels import LabeledSpan
from spacy_crf_ner.messages import quote

_KEYS = ("tokens", "entities", "relations")


def read_spert(source: Source, make: DocMaker) -> Iterator[Doc]:
    """Read SpERT's JSON.

    A record without "entities" gives a doc whose entity annotation is missing, and is counted. Further keys become
    the doc's meta.

    source (Source): The file.
    make (DocMaker): Makes the docs.
    YIELDS (Doc): The docs, in order.
    RAISES (FormatError): The file is not JSON of this kind.
    """
    for value, line in values(source):
        record = Record(value, line, source)
        tokens = _tokens(record)
        if "entities" not in value:
            refuse_unread(record, _KEYS, text=None, tokens=tokens, fix='call it "entities"')
        entities = record.check(value.get("entities", []), list, '"entities"')
        relations = record.check(value.get("relations", []), list, '"relations"')
        spans = [_span(record, entity) for entity in entities]
        links = [_link(record, relation, len(spans)) for relation in relations]
        doc = make.from_tokens(tokens, spans, source, line, meta=record.meta(_KEYS), relations=links)
        yield doc if "entities" in value else unannotated(doc, make)


def _tokens(record: Record) -> List[str]:
    tokens = record.take(record.value, "tokens", list, "the record")
    for i, token in enumerate(tokens):
        if not record.check(token, str, f"token {i}"):
            raise record.error(f"token {i} is empty", "write its text, or delete it and count anew")
    return tokens


def _span(record: Record, entity: Any) -> LabeledSpan:
    label = record.take(entity, "type", str, "an entity")
    start, end = (record.take(entity, key, int, "an entity") for key in ("start", "end"))
    return start, end, label


def _link(record: Record, relation: Any, n_entities: int) -> Link:
    label = record.take(relation, "type", str, "a relation")
    ends = [record.take(relation, key, int, "a relation") for key in ("head", "tail")]
    for end in ends:
        if not 0 <= end < n_entities:
            what = f"a relation {quote(label)} names entity {end}, and there are {n_entities}"
            raise record.error(what, "write the entity's place in the list, counted from 0")
    return label, ends[0], ends[1]
