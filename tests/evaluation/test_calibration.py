from math import isnan, nan
from typing import Any, Dict, List, Sequence, Tuple

import pytest
import srsly
from hypothesis import given
from hypothesis import strategies as st
from spacy.tokens import Doc, Span
from spacy.training import Example

from spacy_crf_ner.evaluation.calibration import ScoredSpans, calibrate, judge, reliability
from tests.evaluation.util import Entity, make_doc, make_example

OUTCOMES = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40)


def unzip(outcomes: Sequence[Tuple[float, bool]]) -> Tuple[List[float], List[bool]]:
    return [score for score, _ in outcomes], [right for _, right in outcomes]


def test_figures_by_hand() -> None:
    """Two bins: (0.2, 0.4) with one of two right, and (0.9, 0.7, 0.8) with all of three right."""
    result = reliability([0.2, 0.9, 0.4, 0.7, 0.8], [False, True, True, True, True], n_bins=2)
    low, high = result.bins
    assert (low.lower, low.upper, low.count) == (0.0, 0.5, 2)
    assert (high.lower, high.upper, high.count) == (0.5, 1.0, 3)
    assert (low.mean_score, low.accuracy, low.gap) == pytest.approx((0.3, 0.5, 0.2))
    assert (high.mean_score, high.accuracy, high.gap) == pytest.approx((0.8, 1.0, 0.2))
    assert result.n == 5
    assert (result.mean_score, result.accuracy) == pytest.approx((0.6, 0.8))
    assert (result.ece, result.mce) == pytest.approx((0.2, 0.2))
    assert result.brier == pytest.approx((0.04 + 0.01 + 0.36 + 0.09 + 0.04) / 5)


def test_bins_weigh_by_their_count_and_the_worst_one_is_named() -> None:
    result = reliability([0.1, 0.6, 0.6, 0.6], [True, True, True, False], n_bins=2)
    assert result.ece == pytest.approx(0.25 * 0.9 + 0.75 * (2 / 3 - 0.6))
    assert result.mce == pytest.approx(0.9)


def test_a_border_belongs_to_the_bin_below_it_and_zero_to_the_first() -> None:
    result = reliability([0.0, 0.25, 0.5, 0.75, 1.0], [True] * 5, n_bins=4)
    assert [b.count for b in result.bins] == [2, 1, 1, 1]


@pytest.mark.parametrize("n_bins", [3, 7, 10, 15])
def test_every_border_lies_in_the_bin_that_names_it(n_bins: int) -> None:
    for i, b in enumerate(reliability([0.5], [True], n_bins).bins):
        assert reliability([b.upper], [True], n_bins).bins[i].count == 1


def test_empty_bins_are_kept_without_means() -> None:
    result = reliability([1.0, 1.0], [True, False], n_bins=3)
    assert [b.count for b in result.bins] == [0, 0, 2]
    assert (result.bins[0].mean_score, result.bins[0].accuracy, result.bins[0].gap) == (None, None, None)
    assert result.ece == result.mce == 0.5


def test_fifteen_bins_unless_told() -> None:
    bins = reliability([0.5], [True]).bins
    assert len(bins) == 15
    assert bins[0].upper == pytest.approx(1 / 15)


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=8))
def test_no_error_where_scores_are_the_share_that_is_right(groups: List[Tuple[int, int]]) -> None:
    """Group i has the score k/n, and k of its n are right. A bin may hold several groups."""
    outcomes = [(min(k, n) / n, j < k) for k, n in groups for j in range(n)]
    result = reliability(*unzip(outcomes))
    assert result.ece == pytest.approx(0, abs=1e-12)
    assert result.mce == pytest.approx(0, abs=1e-12)
    assert result.mean_score == pytest.approx(result.accuracy)


@given(OUTCOMES, st.integers(1, 20))
def test_bounds_of_the_errors(outcomes: List[Tuple[float, bool]], n_bins: int) -> None:
    result = reliability(*unzip(outcomes), n_bins)
    assert 0 <= result.ece <= result.mce + 1e-12 <= 1 + 2e-12
    assert result.ece >= abs(result.mean_score - result.accuracy) - 1e-12, "in one bin, gaps cancel out"
    # The gaps are means of (score - outcome), the Brier score is that of its square.
    assert result.ece**2 - 1e-12 <= result.brier <= 1
    assert sum(b.count for b in result.bins) == result.n == len(outcomes)
    for b in result.bins:
        assert b.mean_score is None or b.lower - 1e-12 <= b.mean_score <= b.upper + 1e-12


@given(OUTCOMES, st.randoms())
def test_order_does_not_matter(outcomes: List[Tuple[float, bool]], random: Any) -> None:
    shuffled = list(outcomes)
    random.shuffle(shuffled)
    one, other = reliability(*unzip(outcomes)), reliability(*unzip(shuffled))
    assert (one.ece, one.mce, one.brier) == pytest.approx((other.ece, other.mce, other.brier))
    assert [b.count for b in one.bins] == [b.count for b in other.bins]


@pytest.mark.parametrize(
    ("scores", "correct", "n_bins", "named"),
    [
        ([0.5, 1.5], [True, True], 15, "score 1 is 1.5"),
        ([-0.1], [True], 15, "score 0 is -0.1"),
        ([nan], [True], 15, "score 0 is nan"),
        ([0.5], [True, False], 15, "1 scores but 2 outcomes"),
        ([], [], 15, "no scores"),
        ([0.5], [True], 0, "n_bins is 0"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    scores: List[float], correct: List[bool], n_bins: int, named: str
) -> None:
    with pytest.raises(ValueError, match=f"{named}.*; give"):
        reliability(scores, correct, n_bins)


def scored(doc: Doc, *entities: Tuple[int, int, str, float]) -> ScoredSpans:
    return [(Span(doc, start, end, label=label), score) for start, end, label, score in entities]


def test_right_is_what_has_the_gold_borders_and_type() -> None:
    example = make_example("张三李四去北京", [(0, 2, "PER"), (2, 4, "PER"), (5, 7, "LOC")], [])
    predictions = scored(
        example.predicted, (0, 2, "PER", 0.9), (2, 5, "PER", 0.8), (5, 7, "ORG", 0.7), (5, 7, "LOC", 0.6)
    )
    outcomes = judge([example], [predictions])
    assert outcomes.scores == [0.9, 0.8, 0.7, 0.6]
    assert outcomes.correct == [True, False, False, True]
    assert (outcomes.n_ignored, outcomes.n_gold) == (0, 3)
    assert not example.predicted.ents, "what is judged is what is given"


def test_unknown_annotation_is_left_out_and_counted() -> None:
    reference = make_doc("张三去北京", [(0, 2, "PER")], missing=[(4, 5)])
    example = Example(make_doc("张三去北京"), reference)
    outcomes = judge([example], [scored(example.predicted, (0, 2, "PER", 0.9), (3, 5, "LOC", 0.8))])
    assert (outcomes.scores, outcomes.correct, outcomes.n_ignored) == ([0.9], [True], 1)


def test_a_border_inside_a_gold_token_is_wrong() -> None:
    example = Example(make_doc("去北京"), make_doc(["去", "北京"], [(1, 2, "LOC")]))
    outcomes = judge([example], [scored(example.predicted, (1, 2, "LOC", 0.9))])
    assert outcomes.correct == [False]
    assert judge([example], [scored(example.predicted, (1, 3, "LOC", 0.9))]).correct == [True]


def test_predictions_for_other_docs_are_refused() -> None:
    with pytest.raises(ValueError):
        judge([make_example("今天", [], [])], [])


class FakePipe:
    """A recognizer of given entities, whose scores are 1 / (1 + T): 0.5 at T = 1.

    It "fits" the number of docs, so that a test sees which docs it was fitted on.
    """

    name = "fake"
    min_score = 0.0

    def __init__(self, entities: Dict[str, List[Entity]]) -> None:
        self.temperature = 9.0
        self.entities = entities
        self.fitted: List[List[str]] = []
        self.batches: List[int] = []

    def fit_temperature(self, examples: Sequence[Example], *, batch_size: int) -> float:
        self.fitted.append([example.text for example in examples])
        self.temperature = float(len(examples))
        return self.temperature

    def predict_scores(self, docs: Sequence[Doc]) -> List[ScoredSpans]:
        self.batches.append(len(docs))
        score = 1 / (1 + self.temperature)
        return [scored(doc, *((*entity, score) for entity in self.entities.get(doc.text, []))) for doc in docs]


def test_each_half_is_measured_at_the_temperature_of_the_other() -> None:
    examples = [
        make_example("张三", [(0, 2, "PER")], []),
        make_example("北京", [(0, 2, "LOC")], []),
        make_example("今天", [(0, 1, "LOC")], []),
    ]
    pipe = FakePipe({"张三": [(0, 2, "PER")], "北京": [(0, 1, "LOC")]})
    result = calibrate(pipe, examples, n_bins=1)
    assert pipe.fitted == [["张三", "北京", "今天"], ["张三", "今天"], ["北京"]]
    assert result.fold_temperatures == (2.0, 1.0)
    assert result.temperature == pipe.temperature == 3.0
    # 张三 is right and 北京 is wrong, at the same score before and after, but at 1/2 and 1/3 across.
    assert (result.before.mean_score, result.after.mean_score) == (0.5, 0.25)
    assert result.before.ece == 0.0
    assert result.after.ece == 0.25
    assert result.cross_fitted.mean_score == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert result.cross_fitted.brier == pytest.approx(((1 / 2) ** 2 + (1 / 3) ** 2) / 2)
    assert result.cross_fitted.n == 2
    assert (result.n_docs, result.n_gold, result.n_ignored, result.n_changed) == (3, 3, 0, 0)
    assert (result.precision, result.recall, result.f) == pytest.approx((1 / 2, 1 / 3, 2 / 5))


def test_docs_go_in_batches() -> None:
    examples = [make_example("张三", [(0, 2, "PER")], []) for _ in range(5)]
    pipe = FakePipe({"张三": [(0, 2, "PER")]})
    calibrate(pipe, examples, batch_size=2)
    assert pipe.batches == [2, 2, 1, 2, 2, 1, 2, 2, 1]


def test_result_is_plain_json() -> None:
    examples = [make_example("张三", [(0, 2, "PER")], []), make_example("北京", [], [])]
    result = calibrate(FakePipe({"张三": [(0, 2, "PER")], "北京": [(0, 2, "PER")]}), examples)
    stored = srsly.json_loads(srsly.json_dumps(result.to_json()))
    assert (stored["temperature"], stored["fold_temperatures"]) == (2.0, [1.0, 1.0])
    assert (stored["docs"], stored["entities"], stored["ignored"], stored["gold"]) == (2, 2, 0, 1)
    assert (stored["precision"], stored["recall"]) == (0.5, 1.0)
    assert stored["f"] == pytest.approx(2 / 3)
    assert stored["changed"] == 0
    assert stored["note"].endswith("precision, recall and F are the same before and after")
    for name in ("before", "after", "cross_fitted"):
        assert stored[name]["n"] == 2
        assert len(stored[name]["bins"]) == 15
        assert stored[name]["bins"][0]["mean_score"] is None
        assert not any(isnan(stored[name][key]) for key in ("ece", "mce", "brier", "mean_score", "accuracy"))


class TippingPipe(FakePipe):
    """Finds its entities when it is warm, as where a bonus of its gazetteer outweighs the model; 今 always."""

    def predict_scores(self, docs: Sequence[Doc]) -> List[ScoredSpans]:
        warm = super().predict_scores(docs)
        cold = [scored(doc, *[(0, 1, "LOC", 0.5)] * doc.text.startswith("今")) for doc in docs]
        return warm if self.temperature > 1 else cold


def test_entities_that_change_are_counted_and_the_figures_are_those_after() -> None:
    examples = [
        make_example("张三", [(0, 2, "PER")], []),
        make_example("今天", [(0, 2, "LOC")], []),
        make_example("下雨", [], []),
    ]
    pipe = TippingPipe({"张三": [(0, 2, "PER")], "今天": [(0, 2, "LOC")]})
    result = calibrate(pipe, examples)
    assert result.n_changed == 2
    assert (result.before.n, result.before.accuracy) == (1, 0.0)
    assert result.precision == result.recall == result.f == 1.0
    assert result.to_json()["entities"] == 2
    assert result.note == (
        "The entities of 2 docs have changed: the gazetteer's bonuses weigh otherwise; "
        "precision, recall and F are those after"
    )


def test_half_that_cannot_be_fitted_is_said() -> None:
    class Picky(FakePipe):
        def fit_temperature(self, examples: Sequence[Example], *, batch_size: int) -> float:
            if len(examples) == 1:
                raise ValueError("no temperature fits")
            return super().fit_temperature(examples, batch_size=batch_size)

    pipe = Picky({"张三": [(0, 2, "PER")]})
    examples = [make_example("张三", [(0, 2, "PER")], []) for _ in range(2)]
    with pytest.raises(ValueError, match="on a half of the docs: no temperature fits; give more docs"):
        calibrate(pipe, examples)


def test_one_doc_cannot_be_halved() -> None:
    with pytest.raises(ValueError, match="1 docs cannot be halved"):
        calibrate(FakePipe({}), [make_example("张三", [(0, 2, "PER")], [])])


def test_no_prediction_is_an_error_that_names_the_component() -> None:
    reference = make_doc("张三", missing=[(0, 2)])
    examples = [Example(make_doc("张三"), reference), make_example("北京", [(0, 2, "LOC")], [])]
    with pytest.raises(ValueError, match=r"'fake' predicts no entity where the gold.*\(1 elsewhere\); give"):
        calibrate(FakePipe({"张三": [(0, 2, "PER")]}), examples)
