"""The format `huggingface`: {"tokens": [...], "ner_tags": [...]} a record, the tags as strings or as numbers."""

from collections import Counter
from typing import Iterator, List, Optional

from spacy.tokens import Doc

from spacy_crf_ner.formats.annotation_keys import TAG_KEYS, TOKEN_KEYS
from spacy_crf_ner.formats.doc_builder import MISSING_WRITTEN, RELATIONS, DocMaker, separator_of
from spacy_crf_ner.formats.json_values import values
from spacy_crf_ner.formats.records import SPANS_LEFT, Record, to_line
from spacy_crf_ner.formats.source import Source
from spacy_crf_ner.formats.spelling import STANDARD
from spacy_crf_ner.formats.tag_lists import Names, TagReader
from spacy_crf_ner.formats.text_writer import text_writer
from spacy_crf_ner.formats.token_records import TokenRecords
from spacy_crf_ner.labels import LabeledSpan
from spacy_crf_ner.tagging import SCHEMES

SPACING = "docs with spacing that tokens cannot hold"
NO_RELATIONS = "docs with relations, which tags cannot hold"


def read_huggingface(
    source: Source,
    make: DocMaker,
    *,
    names: Names = None,
    token_key: Optional[str] = None,
    label_key: Optional[str] = None,
    scheme: Optional[str] = None,
    spelling: str = STANDARD,
    type: Optional[str] = None,
    repair: bool = False,
) -> Iterator[Doc]:
    """Read JSON records of tokens and tags: JSON lines, or one array.

    A record without tags gives a doc whose entity annotation is missing, and is counted. Further keys, such as
    "id" and "pos_tags", become the doc's meta.

    source (Source): The file.
    make (DocMaker): Makes the docs.
    names (Names): The names of tags that are numbers, in order: a list, or one string with commas between.
    token_key (Optional[str]): The key of the tokens. None: "tokens" or "words".
    label_key (Optional[str]): The key of the tags. None: one of `annotation_keys.TAG_KEYS`.
    scheme (Optional[str]): The tagging scheme. None: that of the names or, without them, "bio".
    spelling, type, repair: As of `TagReader`.
    YIELDS (Doc): The docs, in order.
    RAISES (FormatError): The file is not JSON of this kind, or a tag breaks the scheme.
    RAISES (ValueError): A setting is wrong.
    """
    tags = TagReader(scheme=scheme, spelling=spelling, type=type, repair=repair, names=names)
    read = TokenRecords(make, tags, token_key=token_key, label_key=label_key)
    for value, line in values(source):
        yield read.doc(Record(value, line, source))


@text_writer()
def write_huggingface(doc: Doc, notes: "Counter[str]") -> str:
    """Write a doc as a record of tokens and BIO tags.

    doc (Doc): Its meta becomes further keys. One whose entity annotation is missing gets no "ner_tags". Where the
        language writes no spaces, a space is a token of its own, so that no character is lost.
    notes (Counter[str]): Counts what the format cannot hold.
    RETURNS (str): One line.
    """
    separator = separator_of(doc.vocab)
    tokens: List[str] = []
    firsts: List[int] = []  # of each token of the doc among those that are written
    for token in doc:
        firsts.append(len(tokens))
        tokens.append(token.text)
        if token.whitespace_ and not separator:
            tokens.append(token.whitespace_)
    if separator.join(tokens) != doc.text:
        notes[SPACING] += 1
    if RELATIONS in doc.user_data:
        notes[NO_RELATIONS] += 1
    fields = {"tokens": tokens}
    if doc.has_annotation("ENT_IOB"):
        if n_missing := sum(token.ent_iob == 0 for token in doc):
            notes[MISSING_WRITTEN] += n_missing
        entities = {(entity.start, entity.end, entity.label) for entity in doc.ents}
        groups = (span for group in doc.spans.values() for span in group)
        if any((span.start, span.end, span.label) not in entities for span in groups):
            notes[SPANS_LEFT] += 1
        spans: List[LabeledSpan] = [
            (firsts[entity.start], firsts[entity.end - 1] + 1, entity.label_) for entity in doc.ents
        ]
        fields["ner_tags"] = SCHEMES["bio"].write(len(tokens), spans)
    return to_line(doc, fields, notes, reserved=(*TOKEN_KEYS, *TAG_KEYS))
