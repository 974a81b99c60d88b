"""Score one set of predictions with spaCy's scorer and with seqeval."""

from dataclasses import asdict, dataclass
from typing import Any, Dict, List, Optional

from spacy.scorer import Scorer, get_ner_prf
from spacy.training import Example

from spacy_crf_ner.evaluation.comparison import Comparison, Verdict, compare

NO_ENTITIES = "neither the gold docs nor the predictions hold an entity"


@dataclass(frozen=True)
class EntityCounts:
    """What was scored.

    docs, tokens (int): Gold docs and gold tokens.
    gold, predicted, correct (int): Entities; `predicted` without the ignored ones.
    ignored (int): Predicted entities on tokens of unknown annotation: neither right nor wrong.
    missing_tokens (int): Gold tokens of unknown annotation.
    misaligned_tokens (int): Gold tokens that the pipeline's tokenizer cut otherwise.
    unaligned (int): Predicted entities with a border inside a gold token. seqeval is given each as a false
        positive; spaCy's scorer widens them to the gold tokens they touch.
    """

    docs: int
    tokens: int
    gold: int
    predicted: int
    correct: int
    ignored: int
    missing_tokens: int
    misaligned_tokens: int
    unaligned: int


@dataclass(frozen=True)
class Scores:
    """The scores of one run.

    spacy (Dict[str, Any]): `ents_p`, `ents_r`, `ents_f`, `ents_per_type` (None without entities) and
        `token_acc`.
    seqeval (Dict[str, Dict[str, float]]): seqeval's report: `precision`, `recall`, `f1-score` and `support`
        of each label and of "micro avg", "macro avg" and "weighted avg". Empty without entities.
    report (str): The same as seqeval's text.
    counts (EntityCounts): What was scored.
    speed (float): Predicted tokens per second, tokenizer included.
    """

    spacy: Dict[str, Any]
    seqeval: Dict[str, Dict[str, float]]
    report: str
    counts: EntityCounts
    speed: float

    @property
    def seqeval_f(self) -> Optional[float]:
        """seqeval's micro-averaged F; None without entities."""
        return self.seqeval["micro avg"]["f1-score"] if self.seqeval else None

    def to_json(self) -> Dict[str, Any]:
        """The scores as they are stored: the keys of `spacy evaluate`, then `seqeval` and `counts`.

        RETURNS (Dict[str, Any]): Plain dicts, strings and numbers.
        """
        return {**self.spacy, "speed": self.speed, "seqeval": self.seqeval, "counts": asdict(self.counts)}


def score(examples: List[Example], *, speed: float = 0.0) -> Scores:
    """Score predictions against gold entities.

    seqeval runs in its strict mode on IOB2 tags over the gold tokens. Where annotation is unknown both sides
    are "O", and a prediction that touches such a token is left out, as spaCy's scorer does; so the two agree
    to rounding wherever the pipeline's tokens are the gold ones.

    examples (List[Example]): Gold docs and predictions.
    speed (float): Tokens per second, to be stored with the scores.
    RETURNS (Scores): The scores.
    RAISES (ValueError): A prediction's text differs from the gold text.
    """
    # Not at the top: it brings scikit-learn, and every `python -m spacy` command imports this module.
    from seqeval.metrics import classification_report
    from seqeval.scheme import IOB2

    comparisons = [compare(example) for example in examples]
    spacy_scores = {**get_ner_prf(examples), "token_acc": Scorer.score_tokenization(examples)["token_acc"]}
    gold: List[List[str]] = []
    predicted: List[List[str]] = []
    for comparison in comparisons:
        gold_tags, predicted_tags = comparison.tags()
        gold.extend(gold_tags)
        predicted.extend(predicted_tags)
    report, seqeval = NO_ENTITIES, {}
    if any(tag != "O" for tags in (*gold, *predicted) for tag in tags):
        settings = {"mode": "strict", "scheme": IOB2, "zero_division": 0}
        report = classification_report(gold, predicted, digits=4, **settings)
        rows = classification_report(gold, predicted, output_dict=True, **settings)
        seqeval = {name: _plain(row) for name, row in rows.items()}
    return Scores(spacy_scores, seqeval, report, _count(comparisons), speed)


def _count(comparisons: List[Comparison]) -> EntityCounts:
    total = {verdict: sum(comparison.count(verdict) for comparison in comparisons) for verdict in Verdict}
    return EntityCounts(
        docs=len(comparisons),
        tokens=sum(comparison.n_tokens for comparison in comparisons),
        gold=sum(len(comparison.gold) for comparison in comparisons),
        predicted=sum(len(comparison.predicted) for comparison in comparisons) - total[Verdict.IGNORED],
        correct=total[Verdict.CORRECT],
        ignored=total[Verdict.IGNORED],
        missing_tokens=sum(comparison.n_missing for comparison in comparisons),
        misaligned_tokens=sum(comparison.n_misaligned for comparison in comparisons),
        unaligned=total[Verdict.UNALIGNED],
    )


def _plain(row: Dict[str, Any]) -> Dict[str, float]:
    """Turn NumPy's numbers into Python's, which JSON can hold."""
    return {key: int(value) if key == "support" else float(value) for key, value in row.items()}
