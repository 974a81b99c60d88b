"""What is known beforehand: the gazetteer, and all that `Doc.set_ents` can say."""

from itertools import pairwise
from math import log
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.language import Language
from spacy.tokens import Doc, Span

from tests.util import SMALL_MODEL, ents, examples_from, get_pipe, n_drawn, overfitted

TEXT = "王小明在北京大学读书。"


@pytest.fixture(scope="module")
def shared() -> Language:
    return overfitted(steps=12)


@pytest.fixture
def nlp(shared: Language) -> Language:
    """A pipeline with an empty gazetteer."""
    get_pipe(shared, "crf_ner").gazetteer.clear()
    return shared


def add(nlp: Language, label: Any, *phrases: str, **rule: Any) -> None:
    get_pipe(nlp, "crf_ner").gazetteer.add(label, [nlp.make_doc(phrase) for phrase in phrases], **rule)


def log_odds(nlp: Language, text: str, entity: Tuple[int, int, str]) -> float:
    """The log odds that a text has an entity, over all readings."""
    share = 0.0
    for reading in get_pipe(nlp, "crf_ner").predict_kbest([nlp.make_doc(text)], 100_000)[0]:
        if entity in [(e.start, e.end, e.label_) for e in reading.entities]:
            share += reading.probability
    return log(share / (1 - share))


def test_a_hard_phrase_is_an_entity_wherever_it_stands(nlp: Language) -> None:
    add(nlp, "ORG", "读书", "明在")
    doc = nlp(TEXT)
    assert {("读书", "ORG"), ("明在", "ORG")} <= set(ents(doc))
    scored = {(s.text, s.label_): p for s, p in get_pipe(nlp, "crf_ner").predict_scores([nlp.make_doc(TEXT)])[0]}
    assert scored["读书", "ORG"] == pytest.approx(1.0)


def test_the_sequence_around_a_hard_phrase_is_the_best_that_holds_it(nlp: Language) -> None:
    text = "中美"
    everything = get_pipe(nlp, "crf_ner").predict_kbest([nlp.make_doc(text)], 100_000)[0]
    with_it = [r for r in everything if (1, 2, "PER") in [(e.start, e.end, e.label_) for e in r.entities]]
    add(nlp, "PER", "美")
    constrained = get_pipe(nlp, "crf_ner").predict_kbest([nlp.make_doc(text)], 100_000)[0]
    total = sum(reading.probability for reading in with_it)
    assert len(constrained) == len(with_it)
    for ours, theirs in zip(constrained, with_it):
        assert [(e.start, e.end, e.label_) for e in ours.entities] == [
            (e.start, e.end, e.label_) for e in theirs.entities
        ]
        assert ours.probability == pytest.approx(theirs.probability / total, rel=1e-6)


@pytest.mark.parametrize("weight", [2.5, -1.5])
def test_a_soft_phrase_moves_the_log_odds_by_exactly_its_weight(nlp: Language, weight: float) -> None:
    text, entity = "中美", (0, 2, "LOC")
    before = log_odds(nlp, text, entity)
    add(nlp, "LOC", text, rule="soft", weight=weight)
    assert log_odds(nlp, text, entity) - before == pytest.approx(weight, abs=1e-6)


def test_a_soft_phrase_of_great_weight_decides_and_leaves_longer_entities_alone(nlp: Language) -> None:
    add(nlp, "LOC", "北京", rule="soft", weight=50.0)
    assert ("北京", "LOC") in ents(nlp(TEXT))
    get_pipe(nlp, "crf_ner").gazetteer.clear()
    add(nlp, "ORG", "北京", rule="soft", weight=-50.0)
    assert ("北京大学", "ORG") in ents(nlp(TEXT))


def test_a_phrase_that_is_never_an_entity_may_be_part_of_one(nlp: Language) -> None:
    assert ("北京大学", "ORG") in ents(nlp(TEXT))
    add(nlp, "ORG", "北京大学", rule="never")
    add(nlp, None, "王小明", rule="never")
    found = ents(nlp(TEXT))
    assert ("北京大学", "ORG") not in found and "王小明" not in [text for text, _ in found]
    get_pipe(nlp, "crf_ner").gazetteer.clear()
    add(nlp, None, "北京", "大学", rule="never")
    assert ("北京大学", "ORG") in ents(nlp(TEXT))


def test_what_is_set_on_the_doc_comes_before_the_gazetteer(nlp: Language) -> None:
    add(nlp, "ORG", "王小明", "北京大学")
    add(nlp, "PER", "王小明", rule="never")
    doc = nlp.make_doc(TEXT)
    doc.set_ents([Span(doc, 0, 3, label="PER")], blocked=[doc[4:6]], default="missing")
    get_pipe(nlp, "crf_ner")(doc)
    assert ents(doc)[0] == ("王小明", "PER")
    assert not any(ent.start < 6 and ent.end > 4 for ent in doc.ents)


def test_a_hard_phrase_does_not_run_over_a_sentence_start(nlp: Language) -> None:
    add(nlp, "ORG", "北京大学")
    doc = nlp.make_doc("我在北京大学")
    doc[4].is_sent_start = True
    assert ("北京大学", "ORG") not in ents(get_pipe(nlp, "crf_ner")(doc))


def test_of_overlapping_hard_phrases_the_longest_that_can_be_stays_and_then_the_earlier(nlp: Language) -> None:
    add(nlp, "ORG", "北京大学", "在北")
    add(nlp, "LOC", "北京", "学读")
    pipe = get_pipe(nlp, "crf_ner")
    found = ents(nlp(TEXT))
    assert ("北京大学", "ORG") in found and not {("北京", "LOC"), ("在北", "ORG"), ("学读", "LOC")} & set(found)
    # Where the longest cannot be, the others have their turn.
    doc = nlp.make_doc(TEXT)
    doc.set_ents([], blocked=[doc[7:8]], default="missing")
    assert ("在北", "ORG") in ents(pipe(doc))
    doc = nlp.make_doc(TEXT)
    doc[6].is_sent_start = True
    doc[4].is_sent_start = True
    found = ents(pipe(doc))
    assert ("北京", "LOC") in found and ("学读", "LOC") in found


def test_a_hard_phrase_is_certain_at_any_min_score(nlp: Language) -> None:
    sure = spacy.blank("zh")
    sure.add_pipe("crf_ner", config={"model": SMALL_MODEL, "min_score": 1.0})
    sure.from_bytes(nlp.to_bytes())
    add(sure, "ORG", "读书", "王小", "北京")
    assert set(ents(sure(TEXT))) == {("读书", "ORG"), ("王小", "ORG"), ("北京", "ORG")}


def test_a_phrase_of_an_unknown_type_is_refused_where_it_is_found(nlp: Language) -> None:
    add(nlp, "GAME", "读书")
    assert nlp("我在北京。") is not None
    with pytest.raises(ValueError, match=r"names the label 'GAME'.*add_label"):
        nlp(TEXT)


def test_a_label_that_is_not_trained_yet_is_found_by_phrases_alone() -> None:
    nlp = overfitted()
    get_pipe(nlp, "crf_ner").add_label("GAME")
    add(nlp, "GAME", "读书")
    assert set(ents(nlp(TEXT))) == {("王小明", "PER"), ("北京大学", "ORG"), ("读书", "GAME")}


def test_phrases_come_from_the_config_and_are_saved_with_the_pipe(tmp_path: Path) -> None:
    nlp = spacy.blank("zh")
    nlp.add_pipe("crf_ner", config={"model": SMALL_MODEL, "phrase_matcher_attr": "LOWER"})
    patterns: List[Dict[str, Any]] = [
        {"label": "ORG", "pattern": "ＡＢＣ"},
        {"label": "LOC", "pattern": "南极", "rule": "soft", "weight": 30.0},
    ]
    nlp.config["initialize"]["components"]["crf_ner"] = {"gazetteer": patterns}
    nlp.initialize(lambda: examples_from(nlp))
    assert get_pipe(nlp, "crf_ner").gazetteer.patterns == [{**patterns[0], "rule": "hard"}, patterns[1]]
    nlp.to_disk(tmp_path)
    text = "我在ａｂｃ与南极。"
    for loaded in (spacy.load(tmp_path), spacy.blank("zh")):
        if "crf_ner" not in loaded.pipe_names:
            loaded.add_pipe("crf_ner", config={"model": SMALL_MODEL, "phrase_matcher_attr": "LOWER"})
            loaded.from_bytes(nlp.to_bytes())
        assert {("ａｂｃ", "ORG"), ("南极", "LOC")} <= set(ents(loaded(text)))
    (tmp_path / "crf_ner" / "gazetteer").unlink()
    with pytest.raises(OSError, match="gazetteer"):
        spacy.load(tmp_path)


def test_phrases_that_initialize_refuses_leave_those_that_are_there() -> None:
    nlp = spacy.blank("zh")
    pipe: Any = nlp.add_pipe("crf_ner", config={"model": SMALL_MODEL})
    add(nlp, "LOC", "南极")
    wrong: List[Tuple[Dict[str, Any], str]] = [
        ({"label": "LOC", "pattern": ""}, "entry 1: '' has no words"),
        (
            {"label": "GAME", "pattern": "围棋"},
            r"names the labels \['GAME'\], which are not among the component",
        ),
    ]
    for entry, message in wrong:
        patterns = [{"label": "ORG", "pattern": "北京大学"}, entry]
        with pytest.raises(ValueError, match=message):
            pipe.initialize(lambda: examples_from(nlp), nlp=nlp, gazetteer=patterns)
        assert [pattern["pattern"] for pattern in pipe.gazetteer.patterns] == ["南极"]


def test_outside_and_missing_of_set_ents_are_honoured(nlp: Language) -> None:
    """Where annotation is missing in places, what is O is known to be O."""
    start, end = TEXT.index("北京"), TEXT.index("北京") + 4
    doc = nlp.make_doc(TEXT)
    doc.set_ents([], outside=[doc[start:end]], default="missing")
    assert ents(get_pipe(nlp, "crf_ner")(doc)) == [("王小明", "PER")]
    doc = nlp.make_doc(TEXT)
    doc.set_ents([], missing=[doc[start:end]], default="outside")
    assert ents(get_pipe(nlp, "crf_ner")(doc)) == [("北京大学", "ORG")]
    # Whitespace that is known to be outside ends an entity.
    doc = nlp.make_doc("我在北京\n大学。")
    assert ("北京\n大学", "ORG") in ents(nlp("我在北京\n大学。"))
    doc.set_ents([], outside=[doc[4:5]], default="missing")
    assert not any(ent.start < 4 < ent.end for ent in get_pipe(nlp, "crf_ner")(doc).ents)
    # An O that a component wrote where it found nothing binds no one.
    doc = nlp.make_doc(TEXT)
    doc.set_ents([], default="outside")
    assert len(get_pipe(nlp, "crf_ner")(doc).ents) == 2


Kinds = st.lists(
    st.sampled_from(["entity", "blocked", "missing", "outside", "open"]), min_size=len(TEXT), max_size=len(TEXT)
)
Rules = st.lists(
    st.tuples(
        st.sampled_from(["LOC", "ORG", "PER"]),
        st.integers(0, len(TEXT) - 1),
        st.integers(1, 4),
        st.sampled_from([("hard", None), ("soft", 4.0), ("soft", -4.0), ("never", None)]),
    ),
    max_size=5,
)


@given(Kinds, Rules, st.lists(st.booleans(), min_size=len(TEXT), max_size=len(TEXT)))
@settings(deadline=None, max_examples=n_drawn(60))
def test_whatever_is_asked_for_the_result_is_legal_and_keeps_what_was_set(
    shared: Language, kinds: List[str], rules: List[Tuple[str, int, int, Tuple[str, Any]]], starts: List[bool]
) -> None:
    pipe = get_pipe(shared, "crf_ner")
    pipe.gazetteer.clear()
    for label, start, length, (rule, weight) in rules:
        try:
            add(shared, label, TEXT[start : start + length], rule=rule, weight=weight)
        except ValueError:
            continue  # it contradicts an earlier one
    doc: Doc = shared.make_doc(TEXT)
    for token, is_start in zip(doc, starts):
        token.is_sent_start = is_start or token.i == 0
    by_kind: Dict[str, List[Span]] = {kind: [] for kind in ("entity", "blocked", "missing", "outside", "open")}
    for i, kind in enumerate(kinds):
        by_kind[kind].append(Span(doc, i, i + 1, label="PER" if kind == "entity" else ""))
    doc.set_ents(
        by_kind["entity"],
        blocked=by_kind["blocked"],
        missing=by_kind["missing"],
        outside=by_kind["outside"],
        default="unmodified",
    )
    partial = any(kind in ("missing", "open") for kind in kinds)
    before = pipe.predict_scores([doc])[0]
    pipe(doc)
    set_before = [(span.start, span.end, "PER") for span in by_kind["entity"]]
    found = [(ent.start, ent.end, ent.label_) for ent in doc.ents]
    assert all(end <= start for (_, end, _), (start, _, _) in pairwise(found))
    assert set(set_before) <= set(found)
    assert set(found) - set(set_before) == {(span.start, span.end, span.label_) for span, _ in before}
    assert all(0.0 < score <= 1.0 for _, score in before)
    for start, end, _ in set(found) - set(set_before):
        touched = set(kinds[start:end])
        assert not touched & {"entity", "blocked"}
        assert not (partial and "outside" in touched)
        assert not any(doc[i].is_sent_start for i in range(start + 1, end))
    assert [token.i for token in doc if token.ent_iob == 3 and not token.ent_type] == [
        s.start for s in by_kind["blocked"]
    ]
    banned = {m[:3] for m in pipe.gazetteer(doc) if m.rule == "never"}
    assert not {(s, e, label) for s, e, label in found if (s, e, label) not in set_before} & banned
    pipe.gazetteer.clear()
