"""CoNLL-U: what is written is read back."""

from collections import Counter
from pathlib import Path
from typing import List

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spacy.tokens import Doc, Span

from spacy_crf_ner.formats.conllu_writing import BLANK as BLANK_DOC
from spacy_crf_ner.formats.conllu_writing import LINE_ENDS, TRIMMED, write_conllu
from spacy_crf_ner.formats.doc_builder import META, MISSING_WRITTEN, ORIGIN, RELATIONS, Origin
from spacy_crf_ner.formats.errors import FormatError
from spacy_crf_ner.formats.writing import write
from tests.formats.reading import BLANK, found_in, text_of
from tests.util import n_drawn

LABELS = ["PER", "PER.NAM", "creative-work", "I-O", "组织", "a=b"]
WORD = st.text("中国京a1é\u0301א😀👨\u200d#_=|\"'.-", min_size=1, max_size=4)
SPACE = st.sampled_from(["", "", " ", " ", "  ", "　", "\u2028", "\u00a0\t"])


@st.composite
def docs(draw: st.DrawFn) -> Doc:
    """A doc of words with any space between them, entities of whole words, and tokens without annotation."""
    words = draw(st.lists(WORD, min_size=1, max_size=6))
    parts: List[str] = [draw(SPACE)]
    for word in words:
        parts.extend((word, draw(SPACE)))
    kept = [part for part in parts if part]
    doc = Doc(BLANK["en"].vocab, words=kept, spaces=[False] * len(kept))
    entities, missing, i = [], [], 0
    while i < len(doc):
        end = min(len(doc), i + draw(st.integers(1, 3)))
        while end > i + 1 and doc[end - 1].is_space:
            end -= 1
        kind = "space" if doc[i].is_space else draw(st.sampled_from(["O", "O", "entity", "missing"]))
        if kind == "entity":
            entities.append(Span(doc, i, end, label=draw(st.sampled_from(LABELS))))
        elif kind == "missing":
            missing.append(Span(doc, i, i + 1))
        i = end if kind == "entity" else i + 1
    doc.set_ents(entities, missing=missing, default="outside")
    return doc


def unknown(doc: Doc) -> List[bool]:
    """Of each character, whether it is not known if it is in an entity."""
    return [token.ent_iob == 0 for token in doc for _ in token.text_with_ws]


@settings(max_examples=n_drawn(150), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=st.lists(docs(), min_size=1, max_size=4))
def test_round_trip(tmp_path: Path, made: List[Doc]) -> None:
    """The text to the character, the entities, and which tokens have no annotation."""
    made.append(BLANK["en"].make_doc("O"))
    made[-1].set_ents([], default="outside")  # without the tag O, what is missing is not told
    path = tmp_path / "a.conllu"
    written = write(made, path, format="conllu")
    assert set(+written.notes) <= {MISSING_WRITTEN}
    found = found_in(path, format="conllu", lang="en")
    assert found.texts == [doc.text for doc in made]
    assert found.ents == [[(ent.start_char, ent.end_char, ent.label_) for ent in doc.ents] for doc in made]
    for doc, other in zip(made, found.docs):
        inner = {i for token in other for i in range(token.idx + 1, token.idx + len(token))}
        for token in doc:
            end = token.idx + len(token)
            # A token of the tokenizer that holds this one and more has the annotation of all.
            if not token.is_space and not {token.idx, end} & inner:
                assert set(unknown(other)[token.idx : end]) == {token.ent_iob == 0}


def test_what_is_written() -> None:
    doc = BLANK["en"].make_doc("Ann's in  Oslo.")
    doc.set_ents([Span(doc, 0, 1, "PER"), Span(doc, 4, 5, "LOC")], missing=[Span(doc, 2, 3)], default="outside")
    dashes = "\t_" * 7
    assert text_of(write_conllu, doc) == (
        "# text = Ann's in  Oslo.\n"
        f"1\tAnn{dashes}\tname=B-PER|SpaceAfter=No\n"
        f"2\t's{dashes}\tname=O\n"
        f"3\tin{dashes}\t_\n"
        f"4\tOslo{dashes}\tname=B-LOC|SpaceAfter=No\n"
        f"5\t.{dashes}\tname=O\n\n"
    )


def test_file_is_told_from_its_first_lines(tmp_path: Path) -> None:
    path = tmp_path / "a"
    doc = BLANK["zh"].make_doc("我在北京")
    doc.set_ents([Span(doc, 2, 4, "LOC")], default="outside")
    write([BLANK["zh"].make_doc("没有"), doc], path, format="conllu")
    found = found_in(path)
    assert (found.texts, found.ents) == (["没有", "我在北京"], [[], [(2, 4, "LOC")]])
    assert [doc.has_annotation("ENT_IOB") for doc in found.docs] == [False, True]


def test_what_is_lost_is_noted() -> None:
    notes: Counter[str] = Counter()
    doc = BLANK["en"].make_doc("a\nb ")
    doc.user_data.update({META: {"id": 1}, RELATIONS: [{}]})
    doc.set_ents([Span(doc, 0, 2, "X")], default="outside")
    assert text_of(write_conllu, doc, notes).startswith("# text = a b \n")
    assert text_of(write_conllu, BLANK["en"].make_doc(" \n"), notes) == ""
    doc = BLANK["en"].make_doc("a b")
    doc.set_ents([Span(doc, 0, 1, "X")], default="missing")
    assert text_of(write_conllu, doc, notes).count("name=") == 1
    kept = {f"docs whose {key} CoNLL-U cannot hold": 1 for key in (META, RELATIONS)}
    assert +notes == {**kept, LINE_ENDS: 1, TRIMMED: 1, BLANK_DOC: 1, MISSING_WRITTEN: 1}


@pytest.mark.parametrize(
    ("words", "label", "what"),
    [
        (["a\tb", "c"], "X", r"token 'a\tb' cannot be in a column"),
        (["a\nb", "c"], "X", r"token 'a\nb' cannot be in a column"),
        ([" a", "c"], "X", "token ' a' cannot be in a column"),
        (["\n", "c"], "X", r"entity '\n' is only white space"),
        (["a", "c"], "X Y", "label 'X Y' holds white space or '|'"),
        (["a", "c"], "X|Y", "label 'X|Y' holds white space or '|'"),
    ],
)
def test_what_is_refused(words: List[str], label: str, what: str) -> None:
    doc = Doc(BLANK["en"].vocab, words=words, spaces=[False] * len(words))
    doc.set_ents([Span(doc, 0, 1, label)], default="outside")
    doc.user_data[ORIGIN] = Origin("a.jsonl", 3)
    with pytest.raises(FormatError) as caught:
        text_of(write_conllu, doc)
    fix = "CoNLL-U cannot say it: write jsonl or cluener, which hold any text"
    assert str(caught.value) == f"a.jsonl:3: {what}; {fix}"
