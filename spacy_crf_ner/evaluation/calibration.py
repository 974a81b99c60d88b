"""How far a recogniser's probabilities are from the truth, before and after a temperature is fitted.

Bins, errors and temperature are those of Guo et al. (2017), On calibration of modern neural networks, equations 3
and 5 and section 4.2, https://arxiv.org/abs/1706.04599. Other than there, predicted entities are what is counted,
and the temperature divides the potentials of a whole sequence.
"""

from dataclasses import asdict, dataclass
from itertools import chain, pairwise
from typing import Any, Dict, List, NamedTuple, Optional, Protocol, Sequence, Tuple

import numpy
from numpy.typing import NDArray
from spacy.tokens import Doc, Span
from spacy.training import Example
from spacy.util import minibatch

from spacy_crf_ner.evaluation.comparison import Verdict, compare

N_BINS = 15
"""As in Guo et al. (2017)."""

Floats = NDArray[numpy.float64]

ScoredSpans = List[Tuple[Span, float]]
"""The entities of one doc, each with its probability."""


class Recognizer(Protocol):
    """What is asked of the pipe that is calibrated; `CRFEntityRecognizer` has it."""

    name: str
    min_score: float

    @property
    def temperature(self) -> float: ...

    @temperature.setter
    def temperature(self, value: float) -> None: ...

    def fit_temperature(self, examples: Sequence[Example], *, batch_size: int) -> float: ...

    def predict_scores(self, docs: Sequence[Doc]) -> List[ScoredSpans]: ...


@dataclass(frozen=True)
class Bin:
    """The predictions whose score is above `lower` and not above `upper`; the first bin holds 0 as well.

    lower, upper (float): The bin's borders.
    count (int): Number of predictions.
    mean_score (Optional[float]): Their mean score; None in an empty bin.
    accuracy (Optional[float]): The share of them that is correct; None in an empty bin.
    """

    lower: float
    upper: float
    count: int
    mean_score: Optional[float]
    accuracy: Optional[float]

    @property
    def gap(self) -> Optional[float]:
        """How far the mean score is from the accuracy; None in an empty bin."""
        if self.mean_score is None or self.accuracy is None:
            return None
        return abs(self.mean_score - self.accuracy)


@dataclass(frozen=True)
class Reliability:
    """How scores and outcomes agree. All figures but `n` are between 0 and 1; the errors are 0 at best.

    ece (float): Expected calibration error: the bins' mean distance of mean score and accuracy, weighted by count.
    mce (float): Maximum calibration error: the largest such distance, however few predictions the bin holds.
    brier (float): Brier score: the mean square of score minus outcome.
    n (int): Number of predictions.
    mean_score (float): Mean score.
    accuracy (float): Share of the predictions that is correct.
    bins (Tuple[Bin, ...]): The bins from 0 to 1, empty ones included.
    """

    ece: float
    mce: float
    brier: float
    n: int
    mean_score: float
    accuracy: float
    bins: Tuple[Bin, ...]


class Outcomes(NamedTuple):
    """Scored predictions and whether each is right.

    scores (List[float]): Probabilities.
    correct (List[bool]): Which of them are right.
    n_ignored (int): Predictions left out because gold annotation is unknown where they are.
    n_gold (int): Number of gold entities.
    """

    scores: List[float]
    correct: List[bool]
    n_ignored: int
    n_gold: int


@dataclass(frozen=True)
class Calibration:
    """What `calibrate` found.

    temperature (float): The temperature fitted on all docs; the pipe has it now.
    fold_temperatures (Tuple[float, float]): Those fitted on every other doc, from the first and from the second.
    n_docs, n_gold (int): Docs and gold entities.
    n_ignored (int): Predictions left out of all figures because gold annotation is unknown where they are.
    n_changed (int): Docs in which other entities are predicted after than before. There are none unless a
        gazetteer has bonuses, which weigh more against the model at a higher temperature.
    before (Reliability): At temperature 1.
    after (Reliability): At the fitted temperature, on the docs that it was fitted on.
    cross_fitted (Reliability): Each half of the docs at the temperature fitted on the other half.
    """

    temperature: float
    fold_temperatures: Tuple[float, float]
    n_docs: int
    n_gold: int
    n_ignored: int
    n_changed: int
    before: Reliability
    after: Reliability
    cross_fitted: Reliability

    @property
    def precision(self) -> float:
        """The share of the predictions after that is correct, whatever the pipe's `min_score` is."""
        return self.after.accuracy

    @property
    def recall(self) -> float:
        """The share of the gold entities that the pipe itself predicts; 0 without gold entities."""
        return self.precision * self.after.n / self.n_gold if self.n_gold else 0.0

    @property
    def f(self) -> float:
        """The harmonic mean of precision and recall; 0 where both are."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0

    @property
    def note(self) -> str:
        """What the temperature does to precision, recall and F."""
        if self.n_changed:
            return (
                f"The entities of {self.n_changed} docs have changed: the gazetteer's bonuses weigh otherwise; "
                "precision, recall and F are those after"
            )
        return "The entities have not changed: precision, recall and F are the same before and after"

    def to_json(self) -> Dict[str, Any]:
        """The result as it is stored.

        RETURNS (Dict[str, Any]): Plain dicts, lists, strings and numbers.
        """
        return {
            "temperature": self.temperature,
            "fold_temperatures": list(self.fold_temperatures),
            "docs": self.n_docs,
            "entities": self.after.n,
            "ignored": self.n_ignored,
            "gold": self.n_gold,
            "changed": self.n_changed,
            "precision": self.precision,
            "recall": self.recall,
            "f": self.f,
            "note": self.note,
            "before": asdict(self.before),
            "after": asdict(self.after),
            "cross_fitted": asdict(self.cross_fitted),
        }


def reliability(scores: Sequence[float], correct: Sequence[bool], n_bins: int = N_BINS) -> Reliability:
    """Compare scores with outcomes in bins of equal width.

    scores (Sequence[float]): The probability of each prediction.
    correct (Sequence[bool]): Whether each is right, in the same order.
    n_bins (int): Number of bins.
    RETURNS (Reliability): The errors and the bins.
    RAISES (ValueError): There is no prediction, the lengths differ, a score is not between 0 and 1, or there is no
        bin.
    """
    if n_bins < 1:
        raise ValueError(f"n_bins is {n_bins}; give 1 or more")
    if len(scores) != len(correct):
        raise ValueError(f"{len(scores)} scores but {len(correct)} outcomes; give one outcome a score")
    if not len(scores):
        raise ValueError("no scores to measure; give predictions")
    score = numpy.asarray(scores, dtype="float64")
    right = numpy.asarray(correct, dtype="float64")
    beyond = ~((score >= 0) & (score <= 1))  # so that NaN is beyond, too
    if beyond.any():
        i = int(beyond.argmax())
        raise ValueError(f"score {i} is {score[i]}; give probabilities, from 0 to 1")
    edges = numpy.linspace(0.0, 1.0, n_bins + 1)
    # Not by multiplication, whose rounding can put a score outside of the borders that its bin names.
    index = numpy.maximum(numpy.searchsorted(edges, score, side="left") - 1, 0)
    bins = tuple(
        _bin(float(lower), float(upper), score[index == i], right[index == i])
        for i, (lower, upper) in enumerate(pairwise(edges))
    )
    gaps = [(b.count, b.gap) for b in bins if b.gap is not None]
    return Reliability(
        ece=sum(count * gap for count, gap in gaps) / len(score),
        mce=max(gap for _, gap in gaps),
        brier=float(numpy.mean((score - right) ** 2)),
        n=len(score),
        mean_score=float(score.mean()),
        accuracy=float(right.mean()),
        bins=bins,
    )


def _bin(lower: float, upper: float, scores: Floats, right: Floats) -> Bin:
    if not len(scores):
        return Bin(lower, upper, 0, None, None)
    return Bin(lower, upper, len(scores), float(scores.mean()), float(right.mean()))


def judge(examples: Sequence[Example], predictions: Sequence[ScoredSpans]) -> Outcomes:
    """Judge scored predictions by the gold entities: right are those with the same borders and the same label.

    A prediction that touches a token of unknown gold annotation is left out, and counted; one with a border inside
    a gold token is wrong.

    examples (Sequence[Example]): Gold docs, and the docs that the predictions are spans of.
    predictions (Sequence[ScoredSpans]): The predictions of each example.
    RETURNS (Outcomes): Scores and outcomes, in the order of the predictions.
    RAISES (ValueError): A prediction's text differs from the gold text.
    """
    scores: List[float] = []
    correct: List[bool] = []
    n_ignored = n_gold = 0
    for example, scored in zip(examples, predictions, strict=True):
        comparison = compare(example, [span for span, _ in scored])
        n_gold += len(comparison.gold)
        for judged, (_, score) in zip(comparison.predicted, scored, strict=True):
            if judged.verdict is Verdict.IGNORED:
                n_ignored += 1
            else:
                scores.append(score)
                correct.append(judged.verdict is Verdict.CORRECT)
    return Outcomes(scores, correct, n_ignored, n_gold)


def calibrate(
    pipe: Recognizer, examples: Sequence[Example], *, n_bins: int = N_BINS, batch_size: int = 1000
) -> Calibration:
    """Fit a pipe's temperature, and measure its probabilities before and after.

    Measured on the docs it was fitted on, a temperature flatters. So each half of the docs (every other one) is
    also measured at the temperature fitted on the other half.

    pipe (Recognizer): The pipe, which has the temperature fitted on all examples afterwards, or its own if this
        raises.
    examples (Sequence[Example]): Gold docs, and docs that the preceding pipes have processed.
    n_bins (int): Number of bins.
    batch_size (int): Docs a batch.
    RETURNS (Calibration): The temperatures and the figures.
    RAISES (ValueError): There are fewer than two docs, no prediction on known annotation, or nothing to fit on.
    """
    if len(examples) < 2:
        raise ValueError(f"{len(examples)} docs cannot be halved to check the fit; give two or more")
    own = pipe.temperature
    try:
        return _calibrate(pipe, examples, n_bins, batch_size)
    except ValueError:
        pipe.temperature = own
        raise


def _calibrate(pipe: Recognizer, examples: Sequence[Example], n_bins: int, batch_size: int) -> Calibration:
    """`calibrate`, which leaves some temperature behind if it raises."""
    pipe.temperature = 1.0
    first = _predict(pipe, examples, batch_size)
    before = judge(examples, first)
    if not before.scores:
        raise ValueError(
            f"component '{pipe.name}' predicts no entity where the gold annotation is known "
            f"({before.n_ignored} elsewhere); give docs with entities of its labels, or train it longer"
        )
    temperature = pipe.fit_temperature(examples, batch_size=batch_size)
    last = _predict(pipe, examples, batch_size)
    after = judge(examples, last)
    crossed: List[Outcomes] = []
    fold_temperatures: List[float] = []
    halves = (examples[0::2], examples[1::2])
    for fitted, measured in (halves, halves[::-1]):
        try:
            fold_temperatures.append(pipe.fit_temperature(fitted, batch_size=batch_size))
        except ValueError as error:
            raise ValueError(
                f"the fit cannot be checked on a half of the docs: {error}; give more docs"
            ) from error
        crossed.append(judge(measured, _predict(pipe, measured, batch_size)))
    pipe.temperature = temperature
    return Calibration(
        temperature=temperature,
        fold_temperatures=(fold_temperatures[0], fold_temperatures[1]),
        n_docs=len(examples),
        n_gold=after.n_gold,
        n_ignored=after.n_ignored,
        n_changed=sum(_spans(one) != _spans(other) for one, other in zip(first, last, strict=True)),
        before=reliability(before.scores, before.correct, n_bins),
        after=reliability(after.scores, after.correct, n_bins),
        cross_fitted=reliability(
            [score for half in crossed for score in half.scores],
            [right for half in crossed for right in half.correct],
            n_bins,
        ),
    )


def _predict(pipe: Recognizer, examples: Sequence[Example], batch_size: int) -> List[ScoredSpans]:
    """What the pipe predicts at its present temperature."""
    batches = minibatch((example.predicted for example in examples), batch_size)
    return list(chain.from_iterable(pipe.predict_scores(batch) for batch in batches))


def _spans(predictions: ScoredSpans) -> List[Tuple[int, int, str]]:
    return [(span.start, span.end, span.label_) for span, _ in predictions]
