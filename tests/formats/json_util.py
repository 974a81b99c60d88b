"""Reads JSON records that a test writes, and makes texts with entities."""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import pytest
import spacy
from hypothesis import strategies as st
from spacy.tokens import Doc

from spacy_crf_ner.formats.doc_builder import DocMaker
from spacy_crf_ner.formats.errors import FormatError
from spacy_crf_ner.formats.registry import get_reader, get_writer
from spacy_crf_ner.formats.source import Source
from spacy_crf_ner.labels import LabeledSpan
from tests.formats.reading import text_of

BLANK = {lang: spacy.blank(lang) for lang in ("zh", "en")}
KEY = "sc"

# Scripts, widths, emoji, what joins or marks, and every kind of white space.
CHARACTERS = '中国京　 a1Ａ１é\u0301ياह\u094dกำ👨\u200d👩🇨🇳𠮷\u200b\ufeff。\u00a0\u0085\u2028\x1c\t\r\n"\\'
LABELS = ["LOC", "PER.NAM", "B-LOC-x", "组织", "a b"]


class Read(NamedTuple):
    """What was read: the docs, and who counted them."""

    docs: List[Doc]
    make: DocMaker

    @property
    def notes(self) -> "Counter[str]":
        return self.make.counts.notes


def read(format: str, path: Path, *, lang: str = "en", spans_key: Optional[str] = None, **settings: Any) -> Read:
    make = DocMaker(lambda: BLANK[lang], spans_key=spans_key)
    return Read(list(get_reader(format, settings)(Source(path), make, **settings)), make)


def write_records(path: Path, *records: Any) -> Path:
    """Write JSON lines."""
    path.write_bytes("".join(json.dumps(record) + "\n" for record in records).encode("utf8"))
    return path


def refused(format: str, path: Path, *records: Any, line: int = 1, **settings: Any) -> FormatError:
    """The error that some records end in, after it has been checked for its form."""
    with pytest.raises(FormatError) as raised:
        read(format, write_records(path, *records), **settings)
    error = raised.value
    assert str(error) == f"{path}:{line}: {error.what}; {error.fix}"
    assert "\n" not in str(error)
    return error


def entities(doc: Doc) -> List[LabeledSpan]:
    return [(entity.start_char, entity.end_char, entity.label_) for entity in doc.ents]


def all_spans(doc: Doc) -> List[LabeledSpan]:
    return [(span.start_char, span.end_char, span.label_) for span in doc.spans[KEY]]


def relations(doc: Doc) -> List[Tuple[str, LabeledSpan, LabeledSpan]]:
    return [
        (relation["label"], tuple(relation["head"]), tuple(relation["tail"]))
        for relation in doc.user_data.get("relations", [])
    ]


def back(format: str, path: Path, docs: Sequence[Doc], *, lang: str, spans_key: Optional[str] = None) -> Read:
    """Docs, written and read again by their format; doccano's is read as `jsonl`."""
    settings = {"spans_key": spans_key} if spans_key else {}
    notes: Counter[str] = Counter()
    lines = [text_of(get_writer(format, settings), doc, notes, **settings) for doc in docs]
    assert all(line.endswith("\n") and line.count("\n") == 1 for line in lines)
    assert not notes
    path.write_bytes("".join(lines).encode("utf8"))
    return read("jsonl" if format == "doccano" else format, path, lang=lang, spans_key=spans_key)


class Annotated(NamedTuple):
    """A text, what is known of it, and its relations as indices of its entities; entities are None if unknown."""

    text: str
    spans: Optional[List[LabeledSpan]]
    links: List[Tuple[str, int, int]]
    meta: Dict[str, Any]


@st.composite
def annotated(draw: st.DrawFn, *, overlapping: bool, related: bool) -> Annotated:
    """Entities that touch, are equal or overlap in a text of any kind."""
    text = draw(st.text(CHARACTERS, min_size=1, max_size=12))
    meta = draw(
        st.dictionaries(
            st.sampled_from(["id", "meta", "_input_hash", "来源"]),
            st.integers(-9, 9) | st.text("a中😀"),
            max_size=2,
        )
    )
    if draw(st.sampled_from([False] * 9 + [True])):
        return Annotated(text, None, [], meta)
    offset = st.integers(0, len(text))
    if overlapping:
        pairs = draw(st.lists(st.tuples(offset, offset), max_size=6))
        spans = [(min(pair), max(pair), draw(st.sampled_from(LABELS))) for pair in pairs if pair[0] != pair[1]]
    else:
        cuts = sorted(draw(st.sets(offset, max_size=8)))
        spans = [(*pair, draw(st.sampled_from(LABELS))) for pair in pairwise(cuts) if draw(st.booleans())]
    spans = list(dict.fromkeys(spans))
    links = []
    if related and spans:
        index = st.integers(0, len(spans) - 1)
        links = draw(st.lists(st.tuples(st.sampled_from(["Kill", "org:in"]), index, index), max_size=3))
    return Annotated(text, spans, links, meta)


def make_docs(texts: Sequence[Annotated], path: Path, *, lang: str, spans_key: Optional[str]) -> Iterator[Doc]:
    """The docs of some texts."""
    make = DocMaker(lambda: BLANK[lang], spans_key=spans_key)
    for text, spans, links, meta in texts:
        doc = make.from_text(text, spans or [], Source(path), 1, meta=meta, relations=links)
        if spans is None:
            doc.set_ents([], default="missing")
            doc.spans.clear()
        yield doc


def assert_same(docs: Sequence[Doc], others: Sequence[Doc], *, spans_key: Optional[str] = None) -> None:
    """Nothing was lost, and nothing was added."""
    assert len(docs) == len(others)
    for doc, other in zip(docs, others):
        assert other.text == doc.text
        assert other.has_annotation("ENT_IOB") == doc.has_annotation("ENT_IOB")
        assert other.user_data.get("meta") == doc.user_data.get("meta")
        assert relations(other) == relations(doc)
        if spans_key is None:
            assert entities(other) == entities(doc)
        else:
            assert list(other.spans) == list(doc.spans)
            if spans_key in doc.spans:
                assert sorted(all_spans(other)) == sorted(all_spans(doc))
