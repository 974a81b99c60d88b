"""The format `gliner`: GLiNER's training data, {"tokenized_text": [...], "ner": [[start, end, label], ...]}.

Offsets count tokens, and the end is that of the last token: it is inclusive.

Source: Zaratiana et al. (2024), GLiNER: Generalist Model for Named Entity Recognition using Bidirectional
Transformer.
"""

from typing import Any, Iterator

from spacy.tokens import Doc

from spacy_crf_ner.formats.doc_builder import DocMaker
from spacy_crf_ner.formats.json_values import values
from spacy_crf_ner.formats.records import Record, refuse_unread, shown, unannotated
from spacy_crf_ner.formats.source import Source
from spacy_crf_ner.formats.tag_lists import tokens_of
from spacy_crf_ner.labels import LabeledSpan
from spacy_crf_ner.messages import quote

_TEXT, _ENTITIES = _KEYS = ("tokenized_text", "ner")


def read_gliner(source: Source, make: DocMaker) -> Iterator[Doc]:
    """Read GLiNER's JSON: one array, or JSON lines.

    A record without "ner" gives a doc whose entity annotation is missing, and is counted. Further keys become the
    doc's meta.

    source (Source): The file.
    make (DocMaker): Makes the docs.
    YIELDS (Doc): The docs, in order.
    RAISES (FormatError): The file is not JSON of this kind.
    """
    for value, line in values(source):
        record = Record(value, line, source)
        tokens = tokens_of(record, _TEXT)
        entities = value.get(_ENTITIES)
        if entities is None:
            refuse_unread(record, _KEYS, text=None, tokens=tokens, fix=f'call it "{_ENTITIES}"')
        listed = [] if entities is None else record.check(entities, list, f'"{_ENTITIES}"')
        spans = [_span(record, entity, len(tokens)) for entity in listed]
        doc = make.from_tokens(tokens, spans, source, line, meta=record.meta(_KEYS))
        yield doc if entities is not None else unannotated(doc, make)


def _span(record: Record, entity: Any, n_tokens: int) -> LabeledSpan:
    if not isinstance(entity, list) or len(entity) != 3:
        raise record.error(f'"{_ENTITIES}" holds {shown(entity)}', "write [start, end, label], counted in tokens")
    start, end = (record.check(offset, int, "an offset") for offset in entity[:2])
    label = record.check(entity[2], str, "a label")
    if not 0 <= start <= end < n_tokens:
        what = f"entity [{start}, {end}, {quote(label)}] does not fit a text of {n_tokens} tokens"
        raise record.error(what, "count tokens from 0, and give the last token's number as the end")
    return start, end + 1, label
