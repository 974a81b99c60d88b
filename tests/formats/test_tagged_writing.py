"""Writers of tags: what is written is read back."""

from collections import Counter
from pathlib import Path
from typing import Callable, List, Optional, Tuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from spacy.tokens import Doc, Span

from spacy_crf_ner.formats.doc_builder import META, MISSING_WRITTEN, ORIGIN, RELATIONS, Origin
from spacy_crf_ner.formats.errors import FormatError
from spacy_crf_ner.formats.tagged import SPACING, write_bio, write_bioes, write_bmes
from spacy_crf_ner.formats.writing import write
from spacy_crf_ner.tagging import SCHEMES
from tests.formats.reading import BLANK, found_in, put, text_of
from tests.util import n_drawn

Entity = Tuple[int, int, str]

WRITERS = {"bio": write_bio, "bioes": write_bioes, "bmes": write_bmes}
LABELS = ["PER", "PER.NAM", "creative-work", "-", "I-O", "人名", "\u200b", "👨‍👩‍👧"]
# Han, full and half width, combining marks, right to left, emoji with their joiner and flags, what looks like a
# part of the file, and all white space but TAB and newline.
PARTS = [*"中国京１Ａa1é\u0301ابअ한かカｶ。，#-O\u200b\ufeff\u200d", "B-LOC"]
PARTS += ["👨\u200d👩\u200d👧", "🇨🇳", "𠮷", "e\u0301"]
SPACES = [*"  　\u00a0\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\u2028\u2029\u202f\u205f\u1680\u3000", "  "]

all_writers = pytest.mark.parametrize("name", WRITERS)


@st.composite
def marked(draw: st.DrawFn, parts: List[str]) -> Tuple[str, List[Entity]]:
    """A text, and entities that may touch."""
    chunks = draw(
        st.lists(
            st.tuples(
                st.lists(st.sampled_from(parts), min_size=1, max_size=5).map("".join),
                st.none() | st.sampled_from(LABELS),
            ),
            min_size=1,
            max_size=6,
        )
    )
    text, entities = "", []
    for chunk, label in chunks:
        if label is not None:
            entities.append((len(text), len(text) + len(chunk), label))
        text += chunk
    return text, entities


def doc_of(text: str, entities: List[Entity], lang: str = "zh") -> Doc:
    """A doc with these entities; its tokens are the characters where the tokenizer's do not fit."""
    doc = BLANK[lang].make_doc(text)
    spans = [doc.char_span(start, end, label=label) for start, end, label in entities]
    if doc.text != text or None in spans:
        doc = Doc(BLANK[lang].vocab, words=list(text), spaces=[False] * len(text))
        spans = [Span(doc, start, end, label=label) for start, end, label in entities]
    doc.set_ents([span for span in spans if span is not None], default="outside")
    return doc


@all_writers
@settings(max_examples=n_drawn(60))
@given(docs=st.lists(marked(PARTS + SPACES), min_size=1, max_size=4))
@example(docs=[("\ufeff中", [(0, 2, "PER")])])
@example(docs=[("\ufeff\ufeff", []), ("\ufeff", [])])
@example(docs=[("　", [(0, 1, "LOC")])])
@example(docs=[(" 中  国 ", [(0, 1, "A"), (1, 3, "A"), (3, 5, "A")])])
@example(docs=[("京津", [(0, 1, "LOC"), (1, 2, "LOC")])])
def test_text_and_entities_survive_where_no_spaces_are_written(
    name: str, docs: List[Tuple[str, List[Entity]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("tagged") / "a"
    written = write([doc_of(*doc) for doc in docs], path, format=name)
    assert not +written.notes
    found = found_in(path, format=name)
    assert list(zip(found.texts, found.ents)) == docs


@all_writers
@settings(max_examples=n_drawn(60))
@given(docs=st.lists(marked([*PARTS, " ", " ", "dog", "'s"]), min_size=1, max_size=4))
def test_words_and_entities_survive_where_spaces_are_written(
    name: str, docs: List[Tuple[str, List[Entity]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One space stands between two words, whatever stood there."""
    path = tmp_path_factory.mktemp("tagged") / "a"
    made = [doc_of(text, entities, "en") for text, entities in docs]
    made = [doc for doc in made if doc.text.strip() and all(ent.text.strip() for ent in doc.ents)]
    if not made:
        return
    written = write(made, path, format=name)
    words = [[token.text for token in doc if not token.is_space] for doc in made]
    assert written.notes[SPACING] == sum(doc.text != " ".join(row) for doc, row in zip(made, words))
    found = found_in(path, format=name, lang="en")
    assert found.texts == [" ".join(row) for row in words]
    expected = [[("".join(ent.text.split(" ")), ent.label_) for ent in doc.ents] for doc in made]
    assert [[(text.replace(" ", ""), label) for text, label in names] for names in found.names] == expected


@pytest.mark.parametrize(
    ("write_doc", "tags"),
    [
        (write_bio, "O B-A I-A I-A B-A B-B I-B"),
        (write_bioes, "O B-A I-A E-A S-A B-B E-B"),
        (write_bmes, "O B-A M-A E-A S-A B-B E-B"),
    ],
)
def test_lines_are_token_space_tag_and_an_empty_line_follows(write_doc: Callable[..., None], tags: str) -> None:
    doc = doc_of("在北京市京上海", [(1, 4, "A"), (4, 5, "A"), (5, 7, "B")])
    rows = zip("在北京市京上海", tags.split())
    assert text_of(write_doc, doc) == "".join(f"{token} {tag}\n" for token, tag in rows) + "\n"


def test_spaces_are_tokens_where_the_language_writes_none() -> None:
    doc = doc_of(" 我 a", [(0, 2, "A")])
    assert text_of(write_bio, doc) == "  B-A\n我 I-A\n  O\na O\n\n"


@pytest.mark.parametrize(
    ("text", "noted"),
    [("Empire State", 0), ("Don't", 1), (" Empire", 1), ("Empire ", 1), ("Empire  State", 1), ("a\u00a0b", 1)],
)
def test_spacing_that_words_alone_do_not_keep_is_noted(text: str, noted: int) -> None:
    notes: Counter[str] = Counter()
    text_of(write_bio, BLANK["en"].make_doc(text), notes)
    assert notes[SPACING] == noted


def refused(doc: Doc) -> str:
    with pytest.raises(FormatError) as caught:
        text_of(write_bio, doc)
    assert caught.value.fix == "tags cannot say it: write jsonl or cluener, which hold any text"
    return str(caught.value)


@pytest.mark.parametrize(
    ("words", "lang", "token"),
    [
        (["a", "\n"], "zh", "\n"),
        (["a\tb"], "zh", "\t"),
        (["a", "b\nc"], "en", "b\nc"),
        (["a", "b\tc"], "en", "b\tc"),
        (["a", "New York"], "en", "New York"),
    ],
)
def test_token_that_would_break_its_line_is_refused(words: List[str], lang: str, token: str) -> None:
    doc = Doc(BLANK[lang].vocab, words=words, spaces=[False] * len(words))
    assert f"doc: token {token!r} cannot be in a line of its own" in refused(doc)


def test_entity_of_white_space_alone_is_refused_where_words_alone_are_written() -> None:
    doc = Doc(BLANK["en"].vocab, words=["a", " ", "b"], spaces=[False] * 3)
    doc.set_ents([Span(doc, 1, 2, label="A")])
    assert "entity ' ' is only white space" in refused(doc)


@pytest.mark.parametrize("label", ["a b", "a\t", "\u3000", "a\nb"])
def test_type_with_white_space_is_refused(label: str) -> None:
    doc = BLANK["zh"].make_doc("中")
    doc.set_ents([Span(doc, 0, 1, label=label)])
    assert f"label {label!r} holds white space; tags cannot say it" in refused(doc)


@pytest.mark.parametrize(
    ("origin", "place"),
    [(Origin("in.json", 7), "in.json:7: "), (Origin("in.spacy", 7, "doc"), "in.spacy: doc 7: "), (None, "doc: ")],
)
def test_doc_that_cannot_be_written_is_named_by_its_origin(origin: Optional[Origin], place: str) -> None:
    doc = BLANK["zh"].make_doc("a\nb")
    if origin:
        doc.user_data[ORIGIN] = origin
    assert refused(doc).startswith(place)


def test_relations_meta_and_missing_annotation_are_noted(tmp_path: Path) -> None:
    docs = [BLANK["zh"].make_doc("中国"), doc_of("中", []), doc_of("国", [])]
    docs[1].user_data[META] = {"id": 1}
    docs[2].user_data[META] = {"id": 2}
    docs[2].user_data[RELATIONS] = []
    written = write(docs, tmp_path / "a", format="bio")
    assert +written.notes == {
        MISSING_WRITTEN: 2,
        "docs whose meta tags cannot hold": 2,
        "docs whose relations tags cannot hold": 1,
    }


@pytest.mark.parametrize("scheme", ["iob1", "bios", "biluo"])
def test_schemes_without_a_writer_are_read_as_the_others(tmp_path: Path, scheme: str) -> None:
    doc = doc_of("在北京市京上海", [(1, 4, "A"), (4, 5, "A"), (5, 7, "B")])
    tags = SCHEMES[scheme].write(7, [(ent.start, ent.end, ent.label_) for ent in doc.ents])
    path = put(tmp_path, "".join(f"{token} {tag}\n" for token, tag in zip(doc.text, tags)))
    assert found_in(path, format=scheme).ents == [[(1, 4, "A"), (4, 5, "A"), (5, 7, "B")]]
