"""Judge each gold and each predicted entity of an example, on the gold tokens."""

from dataclasses import dataclass
from enum import Enum
from typing import Iterable, List, NamedTuple, Optional, Set, Tuple

from spacy.tokens import Span
from spacy.training import Example

from spacy_crf_ner.labels import OUTSIDE, LabeledSpan
from spacy_crf_ner.tagging import BIO


class Verdict(str, Enum):
    """How an entity fared.

    CORRECT: in both, with the same borders and the same label.
    MISSED: gold, and not predicted.
    SPURIOUS: predicted, and not gold.
    UNALIGNED: predicted, with a border inside a gold token. It is wrong, and no tag can say it.
    IGNORED: predicted on a token of unknown gold annotation. It is neither right nor wrong.
    """

    CORRECT = "correct"
    MISSED = "missed"
    SPURIOUS = "spurious"
    UNALIGNED = "unaligned"
    IGNORED = "ignored"


class Judged(NamedTuple):
    """An entity of either doc, its verdict, and where it lies on the gold tokens (None: unaligned)."""

    entity: Span
    verdict: Verdict
    gold_span: Optional[LabeledSpan]


@dataclass(frozen=True)
class Comparison:
    """The entities of one example, judged.

    gold (List[Judged]): The reference's entities, CORRECT or MISSED.
    predicted (List[Judged]): The prediction's entities.
    n_tokens (int): Number of gold tokens.
    n_missing (int): Gold tokens of unknown annotation.
    n_misaligned (int): Gold tokens that no predicted token equals.
    """

    gold: List[Judged]
    predicted: List[Judged]
    n_tokens: int
    n_missing: int
    n_misaligned: int

    @property
    def is_correct(self) -> bool:
        """Whether nothing was missed and nothing invented."""
        fine = (Verdict.CORRECT, Verdict.IGNORED)
        return all(judged.verdict in fine for judged in (*self.gold, *self.predicted))

    def count(self, verdict: Verdict) -> int:
        """The number of predicted entities (for MISSED: of gold entities) with a verdict."""
        side = self.gold if verdict is Verdict.MISSED else self.predicted
        return sum(judged.verdict is verdict for judged in side)

    def tags(self) -> Tuple[List[List[str]], List[List[str]]]:
        """The two docs as BIO sequences that seqeval can score.

        Predictions on tokens of unknown annotation are left out whole, as spaCy's scorer leaves them out, so
        that both sides are "O" there. An unaligned prediction follows as a sequence of its own, one token
        long and "O" in the gold: seqeval counts it as the false positive it is.

        RETURNS (Tuple[List[List[str]], List[List[str]]]): Gold sequences and predicted sequences.
        """
        shown = [judged for judged in self.predicted if judged.verdict is not Verdict.IGNORED]
        stray = [judged.entity.label_ for judged in shown if judged.verdict is Verdict.UNALIGNED]
        gold = BIO.write(self.n_tokens, [j.gold_span for j in self.gold if j.gold_span])
        predicted = BIO.write(self.n_tokens, [j.gold_span for j in shown if j.gold_span])
        return [gold, *[[OUTSIDE] for _ in stray]], [predicted, *[[f"B-{label}"] for label in stray]]


def compare(example: Example, predicted: Optional[Iterable[Span]] = None) -> Comparison:
    """Judge the entities of an example.

    example (Example): A gold doc and the pipeline's doc for it. Their texts may differ only in whitespace.
    predicted (Optional[Iterable[Span]]): Spans of the pipeline's doc to judge; None for its entities.
    RETURNS (Comparison): The judged entities.
    RAISES (ValueError): The texts differ, so that the tokens cannot be aligned.
    """
    reference = example.reference
    x2y = example.alignment.x2y
    missing = {token.i for token in reference if token.ent_iob == 0}
    gold = {(ent.start, ent.end, ent.label_): ent for ent in reference.ents}
    n_misaligned = _count_misaligned(example)
    found: Set[LabeledSpan] = set()
    judged: List[Judged] = []
    for entity in example.predicted.ents if predicted is None else predicted:
        touched = [int(i) for i in x2y[entity.start : entity.end]]
        span: Optional[LabeledSpan] = None
        if touched and (n_misaligned == 0 or example.get_aligned_spans_x2y([entity])):
            span = (touched[0], touched[-1] + 1, entity.label_)
        if touched and missing.intersection(range(touched[0], touched[-1] + 1)):
            verdict = Verdict.IGNORED
        elif span is None:
            verdict = Verdict.UNALIGNED
        else:
            verdict = Verdict.CORRECT if span in gold else Verdict.SPURIOUS
            found.add(span)
        judged.append(Judged(entity, verdict, span))
    return Comparison(
        gold=[
            Judged(entity, Verdict.CORRECT if span in found else Verdict.MISSED, span)
            for span, entity in gold.items()
        ],
        predicted=judged,
        n_tokens=len(reference),
        n_missing=len(missing),
        n_misaligned=n_misaligned,
    )


def _count_misaligned(example: Example) -> int:
    """Count the gold tokens that are not paired one to one with a predicted token."""
    x2y, y2x = example.alignment.x2y, example.alignment.y2x
    pairs = ((y2x.lengths[i], i) for i in range(len(example.reference)))
    return sum(1 for n, i in pairs if n != 1 or x2y.lengths[y2x[i][0]] != 1)
