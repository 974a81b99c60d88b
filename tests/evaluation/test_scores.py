import itertools
from typing import List, Tuple

import pytest
import srsly
from hypothesis import given
from hypothesis import strategies as st
from spacy.training import Example

from spacy_crf_ner.evaluation.scores import NO_ENTITIES, score
from tests.evaluation.util import Entity, gold_docs, make_doc, make_example

TYPES = ("PER", "LOC", "组织", "work-of-art")


@st.composite
def entities(draw: st.DrawFn, length: int) -> List[Entity]:
    """Entities that do not overlap; adjacent ones are likely."""
    cuts = sorted(draw(st.sets(st.integers(0, length))))
    label = st.sampled_from((*TYPES, ""))
    return [(a, b, t) for a, b in itertools.pairwise(cuts) if (t := draw(label))]


@st.composite
def examples(draw: st.DrawFn) -> Example:
    length = draw(st.integers(1, 12))
    gold = draw(entities(length))
    predicted = draw(st.one_of(st.just(gold), entities(length)))
    holes = draw(st.sets(st.integers(0, length - 1), max_size=3))
    missing = [(i, i + 1) for i in holes if not any(a <= i < b for a, b, _ in gold)]
    words = "甲乙丙丁戊己庚辛壬癸子丑"[:length]
    return Example(make_doc(words, predicted), make_doc(words, gold, missing=missing))


@given(st.lists(examples(), min_size=1, max_size=6))
def test_spacy_and_seqeval_agree_on_the_same_tokens(egs: List[Example]) -> None:
    scores = score(egs)
    if scores.spacy["ents_f"] is None:
        assert scores.seqeval == {}
        assert scores.report == NO_ENTITIES
        return
    counts = scores.counts
    micro = scores.seqeval["micro avg"]
    for ours, theirs in (("ents_p", "precision"), ("ents_r", "recall"), ("ents_f", "f1-score")):
        assert scores.spacy[ours] == pytest.approx(micro[theirs])
    assert micro["support"] == counts.gold
    for label, prf in scores.spacy["ents_per_type"].items():
        assert prf["f"] == pytest.approx(scores.seqeval.get(label, {"f1-score": 0.0})["f1-score"])
    assert scores.spacy["ents_p"] == pytest.approx(counts.correct / counts.predicted if counts.predicted else 0)
    assert scores.spacy["ents_r"] == pytest.approx(counts.correct / counts.gold if counts.gold else 0)


def prf(example: Example) -> Tuple[float, float]:
    scores = score([example])
    assert scores.seqeval_f is not None
    return scores.spacy["ents_f"], scores.seqeval_f


def test_adjacent_entities_of_one_type_are_scored_apart() -> None:
    gold: List[Entity] = [(0, 2, "PER"), (2, 4, "PER")]
    assert prf(make_example("张三李四", gold, gold)) == (1.0, 1.0)
    assert prf(make_example("张三李四", gold, [(0, 4, "PER")])) == (0.0, 0.0)
    assert prf(make_example("张三李四", gold, gold[:1])) == (pytest.approx(2 / 3), pytest.approx(2 / 3))


def test_counts() -> None:
    egs = [Example(make_doc([t.text for t in doc]), doc) for doc in gold_docs()]
    egs[0].predicted = make_doc("张三去北京", [(0, 2, "PER"), (2, 3, "ORG")])
    counts = score(egs).counts
    assert (counts.docs, counts.tokens) == (3, 14)
    assert (counts.gold, counts.predicted, counts.correct) == (3, 2, 1)
    assert (counts.misaligned_tokens, counts.missing_tokens, counts.unaligned, counts.ignored) == (0, 0, 0, 0)


def test_misaligned_tokens_are_counted_and_cost_precision_in_seqeval() -> None:
    right = Example(make_doc("张三", [(0, 2, "PER")]), make_doc("张三", [(0, 2, "PER")]))
    inside = Example(make_doc("去北京", [(1, 2, "LOC")]), make_doc(["去", "北京"], [(1, 2, "LOC")]))
    scores = score([right, inside])
    assert scores.counts.misaligned_tokens == 1
    assert scores.counts.unaligned == 1
    assert scores.seqeval["micro avg"]["precision"] == scores.seqeval["micro avg"]["recall"] == 0.5
    assert scores.seqeval["LOC"]["support"] == 1
    assert scores.spacy["ents_f"] == 1.0, "spaCy widens the prediction to the gold token"


def test_ignored_predictions_count_for_neither() -> None:
    gold = make_doc("张三去北京", [(0, 2, "PER")], missing=[(2, 5)])
    scores = score([Example(make_doc("张三去北京", [(0, 2, "PER"), (3, 5, "LOC")]), gold)])
    assert scores.spacy["ents_f"] == scores.seqeval_f == 1.0
    assert (scores.counts.predicted, scores.counts.ignored, scores.counts.missing_tokens) == (1, 1, 3)


def test_no_entities_at_all() -> None:
    scores = score([make_example("今天", [], [])])
    assert scores.seqeval_f is None
    assert scores.spacy["ents_f"] is None
    assert scores.report == NO_ENTITIES


def test_report_has_four_digits_and_json_holds_plain_numbers() -> None:
    scores = score([make_example("张三李四去", [(0, 2, "PER"), (2, 4, "PER")], [(0, 2, "PER")])], speed=12.5)
    assert "0.6667" in scores.report
    stored = srsly.json_loads(srsly.json_dumps(scores.to_json()))
    assert stored["ents_f"] == pytest.approx(2 / 3)
    assert stored["seqeval"]["micro avg"]["f1-score"] == pytest.approx(2 / 3)
    assert stored["counts"]["gold"] == 2
    assert stored["speed"] == 12.5
