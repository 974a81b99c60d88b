"""How annotation is read and written: missing and preset entities, blocked tokens, whitespace, sentences."""

from typing import Any, Dict, cast

import numpy
import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.training import Example
from thinc.types import Ints1d, Ragged

from spacy_crf_ner.crf.chain import FORBIDDEN
from spacy_crf_ner.labels import BioTags
from spacy_crf_ner.ner import lattices
from spacy_crf_ner.tagger.potentials import Potentials
from tests.util import (
    NO_STEP,
    TEXTS,
    entity_offsets,
    ents,
    example_from,
    get_pipe,
    overfitted,
)


def ragged(emissions: Any) -> Ragged:
    """The emissions of one doc."""
    return Ragged(emissions, cast(Ints1d, numpy.array([len(emissions)])))


@pytest.fixture(scope="module")
def trained() -> Language:
    return overfitted()


def test_missing_annotation_gets_no_gradient(trained: Language) -> None:
    pipe = get_pipe(trained, "crf_ner")
    text, _ = TEXTS[0]
    reference = trained.make_doc(text)
    reference.set_ents([], outside=[reference[:2]], default="missing")
    example = Example(trained.make_doc(text), reference)
    loss, d = pipe.get_loss([example], pipe.predict([example.predicted]))
    untouched = Example(trained.make_doc(text), trained.make_doc(text))
    no_loss, d_none = pipe.get_loss([untouched], pipe.predict([untouched.predicted]))
    assert loss > 0 and numpy.abs(d.by_doc()[0][:2]).sum() > 0
    assert no_loss == 0
    assert numpy.abs(d_none.by_doc()[0]).max() < 1e-9


@pytest.mark.parametrize("text", ["京", "　", " \n\t　", "\u200b", "\ufeff北京"])
def test_one_token_and_whitespace_docs(trained: Language, text: str) -> None:
    doc = trained(text)
    assert doc.text == text
    assert all(not token.is_space or token.ent_iob_ == "O" for token in doc)
    assert trained.update([example_from(trained, text, {})], sgd=NO_STEP)["crf_ner"] >= 0


def test_whitespace_is_no_part_of_the_sequence(trained: Language) -> None:
    """It neither ends an entity nor begins one, and the words around it are read as neighbours by the CRF."""
    pipe = get_pipe(trained, "crf_ner")
    doc = trained.make_doc("王　小明　在北京。")
    plain = trained("王小明在北京。")
    assert len(plain.ents) == 2
    potentials = pipe.predict([plain])
    emissions = numpy.zeros((len(doc), 7), dtype="f")
    emissions[[0, 2, 3, 5, 6, 7, 8]] = potentials.by_doc()[0]
    emissions[[1, 4], 1] = 100.0  # whatever the model thinks of the whitespace
    potentials.emissions = ragged(emissions)
    pipe.set_annotations([doc], potentials)
    assert [ent.text.replace("　", "") for ent in doc.ents] == [ent.text for ent in plain.ents]
    assert doc.ents[0].text == "王　小明"


def test_no_entity_runs_over_a_sentence_start(trained: Language) -> None:
    doc = trained.make_doc(TEXTS[4][0])
    for token in doc:
        token.is_sent_start = token.i in (0, 1)
    get_pipe(trained, "crf_ner")(doc)
    assert all(ent.end <= 1 or ent.start >= 1 for ent in doc.ents)
    assert ("广州", "LOC") in ents(doc)


def test_ruler_before_ner(trained: Language) -> None:
    """Entities that are there already stay, and the rest is marked around them."""
    doc = trained.make_doc("张伟去了广州。")
    ruled = Span(doc, 1, 3, label="RULED", kb_id="Q1", span_id="r1")
    doc.set_ents([ruled], default="missing")
    get_pipe(trained, "crf_ner")(doc)
    assert ("伟去", "RULED") in ents(doc) and ("广州", "LOC") in ents(doc)
    kept = doc.ents[[ent.label_ for ent in doc.ents].index("RULED")]
    assert (kept.kb_id_, kept.id_) == ("Q1", "r1")


def test_a_preset_entity_of_a_known_label_is_not_extended(trained: Language) -> None:
    pipe = get_pipe(trained, "crf_ner")
    doc = trained.make_doc("王小明在北京大学读书。")
    doc.set_ents([Span(doc, 4, 6, label="ORG")], default="missing")
    pipe(doc)
    assert ("北京", "ORG") in ents(doc) and ("王小明", "PER") in ents(doc)
    assert not any(ent.start < 6 < ent.end for ent in doc.ents)


def test_ruler_and_ner_in_one_pipeline(trained: Language) -> None:
    nlp = overfitted()
    ruler: Any = nlp.add_pipe("entity_ruler", before="crf_ner")
    ruler.add_patterns([{"label": "THING", "pattern": [{"ORTH": "天"}, {"ORTH": "气"}]}])
    assert ents(nlp(TEXTS[2][0])) == [("天气", "THING")]
    assert set(ents(nlp(TEXTS[0][0]))) == set(TEXTS[0][1].items())


def test_ner_before_ruler() -> None:
    nlp = overfitted()
    ruler: Any = nlp.add_pipe("entity_ruler", after="crf_ner")
    ruler.add_patterns(
        [{"label": "THING", "pattern": [{"ORTH": "北"}]}, {"label": "THING", "pattern": [{"ORTH": "读"}]}]
    )
    assert ents(nlp(TEXTS[0][0])) == [("王小明", "PER"), ("北京大学", "ORG"), ("读", "THING")]


def test_block_ner(trained: Language) -> None:
    doc = trained.make_doc(TEXTS[0][0])
    doc.set_ents([], blocked=[doc[4:6]], default="missing")
    get_pipe(trained, "crf_ner")(doc)
    assert ("王小明", "PER") in ents(doc)
    assert all(ent.end <= 4 or ent.start >= 6 for ent in doc.ents)
    assert [(t.ent_iob_, t.ent_type_) for t in doc[4:6]] == [("B", ""), ("B", "")]
    assert {t.ent_iob_ for t in doc if not t.ent_type and t.i not in (4, 5)} == {"O"}


def test_annotation_of_another_tokenization_is_aligned(trained: Language) -> None:
    """Gold words over predicted characters: aligned entities are learnt, the rest is missing, not O."""
    reference = spacy.blank("en").make_doc("北京大学 很 大")
    reference.set_ents([Span(reference, 0, 1, label="ORG")])
    predicted = trained.make_doc("北京大学 很 大")
    assert len(predicted) != len(reference)
    pipe = get_pipe(trained, "crf_ner")
    assert lattices.gold_lattice(Example(predicted, reference), pipe.labels).argmax(axis=1).tolist() == [
        3,
        4,
        4,
        4,
        0,
        0,
    ]


def test_the_end_of_an_entity_before_missing_annotation_is_learnt() -> None:
    """What follows an annotated entity is unknown, but no part of it."""
    nlp = overfitted(steps=1)
    text, mentions = TEXTS[4]
    reference = nlp.make_doc(text)
    spans = [Span(reference, *offsets) for offsets in entity_offsets(text, mentions)]
    reference.set_ents(spans, default="missing")
    lattice = lattices.gold_lattice(Example(nlp.make_doc(text), reference), get_pipe(nlp, "crf_ner").labels)
    after = spans[0].end
    assert lattice[after].tolist() == [True, True, False, True, False, True, False]
    assert lattice[after + 1].all()


def test_gold_that_begins_on_whitespace_begins_on_the_next_word(trained: Language) -> None:
    reference = trained.make_doc("在　北京")
    reference.set_ents([Span(reference, 1, 4, label="LOC")])
    lattice = lattices.gold_lattice(
        Example(trained.make_doc("在　北京"), reference), get_pipe(trained, "crf_ner").labels
    )
    assert not lattice[1].any()
    assert lattice[[0, 2, 3]].argmax(axis=1).tolist() == [0, 1, 2]


def decode(nlp: Language, doc: Doc, rows: Dict[int, Dict[str, float]]) -> Doc:
    """Set the entities that emissions of our own make: {token: {tag: score}}, all else 0."""
    pipe = get_pipe(nlp, "crf_ner")
    tags = BioTags(len(pipe.labels)).names(pipe.labels)
    potentials: Any = Potentials.empty(pipe.model.ops, 1, len(tags))
    potentials.emissions = ragged(numpy.zeros((len(doc), len(tags)), dtype="f"))
    potentials.by_doc()[0][:, 0] = 1.0
    potentials.transitions[~BioTags(len(pipe.labels)).legal_transitions] = FORBIDDEN
    for i, scores in rows.items():
        for tag, value in scores.items():
            potentials.by_doc()[0][i, tags.index(tag)] = value
    pipe.set_annotations([doc], potentials)
    return doc


def test_decoding_goes_around_what_is_set(trained: Language) -> None:
    """Decoding as if nothing were set, and dropping what overlaps, would lose the rest of the path with it."""
    doc = trained.make_doc("甲乙丙丁戊")
    doc.set_ents([Span(doc, 2, 3, label="RULED")], default="missing")
    scores = {i: {"B-LOC": 3.0 if i == 1 else 0.0, "I-LOC": 3.0} for i in range(1, 5)}
    scores[3]["B-LOC"] = 2.5
    assert ents(decode(trained, doc, scores)) == [("乙", "LOC"), ("丙", "RULED"), ("丁戊", "LOC")]


def test_decoding_goes_around_blocked_tokens(trained: Language) -> None:
    doc = trained.make_doc("甲乙丙丁戊")
    doc.set_ents([], blocked=[doc[2:3]], default="missing")
    scores = {i: {"B-LOC": 3.0 if i == 1 else 0.0, "I-LOC": 3.0} for i in range(1, 5)}
    scores[3]["B-LOC"] = 2.5
    assert ents(decode(trained, doc, scores)) == [("乙", "LOC"), ("丁戊", "LOC")]


@pytest.mark.parametrize("text, rest", [("甲乙丙丁", "丙丁"), ("甲乙　丙丁", "丙丁")])
def test_no_entity_runs_on_from_one_that_is_set(trained: Language, text: str, rest: str) -> None:
    """Of the same type, and over whitespace too: what follows is an entity of its own or none."""
    doc = trained.make_doc(text)
    doc.set_ents([Span(doc, 0, 2, label="LOC")], default="missing")
    words = [token.i for token in doc[2:] if not token.is_space]
    scores = {i: {"I-LOC": 3.0, "B-LOC": 2.0} for i in words}
    scores[words[1]]["B-LOC"] = 0.0
    assert ents(decode(trained, doc, scores)) == [("甲乙", "LOC"), (rest, "LOC")]


@pytest.mark.parametrize("text, start", [("甲乙丙丁", 2), ("甲乙　丙丁", 2)])
def test_an_entity_ends_at_the_start_of_a_sentence(trained: Language, text: str, start: int) -> None:
    doc = trained.make_doc(text)
    for token in doc:
        token.is_sent_start = token.i in (0, start)
    scores = {token.i: {"B-LOC": 2.0, "I-LOC": 3.0} for token in doc}
    scores[1]["B-LOC"] = scores[len(doc) - 1]["B-LOC"] = 0.0
    assert ents(decode(trained, doc, scores)) == [("甲乙", "LOC"), ("丙丁", "LOC")]
