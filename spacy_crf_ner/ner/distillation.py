"""Distillation: a student learns how probable a teacher holds each way to mark a text."""

from typing import Callable, Dict, Sequence, Tuple

import numpy
from spacy.tokens import Doc

from spacy_crf_ner.crf.divergences import Divergence, k_best_divergence, kl_divergence, token_divergence
from spacy_crf_ner.crf.layout import Ints
from spacy_crf_ner.labels import BioTags
from spacy_crf_ner.messages import listed, quote
from spacy_crf_ner.ner import lattices
from spacy_crf_ner.ner.losses import divergence_from
from spacy_crf_ner.tagger.potentials import Potentials

TEMPERATURE = 4.0
"""By what the potentials of both are divided."""
SEQUENCES = "sequences"
OBJECTIVES: Dict[str, Divergence] = {
    SEQUENCES: kl_divergence,
    "k-best": k_best_divergence,
    "tokens": token_divergence,
}
"""What is learnt: how probable the teacher holds whole tag sequences, its k best ones, or each token's tags."""


def tags_of_teacher(teacher: Sequence[str], student: Sequence[str]) -> Ints:
    """The student's tags that are the teacher's, in the teacher's order: labels are matched by name.

    teacher, student (Sequence[str]): Their labels, in the order of their tags.
    RETURNS (ndarray): *Shape:* (n_tags of the teacher,), int64.
    RAISES (ValueError): The student lacks a label of the teacher.
    """
    if lacking := sorted({*teacher} - {*student}):
        raise ValueError(
            f"the student must have all labels of the teacher, lacks [{listed(lacking)}]; add them with "
            "add_label(), or give them to initialize(labels=...)"
        )
    places = numpy.array([student.index(label) for label in teacher], dtype="int64")
    pairs = numpy.stack([BioTags.begin(places), BioTags.inside(places)], axis=1)
    return numpy.concatenate([[0], pairs.reshape(-1)])


def check_same_tokens(teacher: Sequence[Doc], student: Sequence[Doc]) -> None:
    """Check that two pipelines cut the same texts into the same tokens.

    teacher, student (Sequence[Doc]): The docs of both.
    RAISES (ValueError): Their numbers, their texts or their tokens differ.
    """
    if len(teacher) != len(student):
        raise ValueError(
            f"the student must get as many docs as the teacher, got {len(student)} and {len(teacher)}"
        )
    for i, (theirs, ours) in enumerate(zip(teacher, student)):
        if [token.idx for token in theirs] != [token.idx for token in ours] or theirs.text != ours.text:
            raise ValueError(
                f"doc {i} must have the same tokens for teacher and student; make both with the same tokenizer"
            )


def check_settings(alpha: float, temperature: float, objective: str) -> None:
    """Check the settings of a `Lesson`.

    alpha, temperature (float), objective (str): As in `Lesson`.
    RAISES (ValueError): Alpha or the temperature is out of range, or the objective unknown.
    """
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha must be from 0 to 1, got {alpha}; it is the share of the teacher's loss")
    if not temperature > 0.0:
        raise ValueError(f"temperature must be above 0, got {temperature}; {TEMPERATURE:g} is usual")
    if objective not in OBJECTIVES:
        raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}, got {quote(objective)}")


class Lesson:
    """What a recognizer learns from a teacher in its updates, beside the gold annotation.

    labels (Sequence[str]): The teacher's labels, in the order of its tags.
    inactive_labels (Sequence[str]): Those that it does not predict.
    potentials_of (Callable[[Sequence[Doc]], Potentials]): What the teacher says of docs.
    alpha (float): The share of the divergence in the loss, from 0 to 1; the rest is that of the gold annotation. A
        doc without annotation has no part in the latter.
    temperature (float): By what the potentials of both are divided.
    objective (str): One of `OBJECTIVES`.
    RAISES (ValueError): Alpha or the temperature is out of range, or the objective unknown.
    """

    # Not a dataclass: spaCy makes dicts of those among the settings of `initialize`.
    def __init__(
        self,
        labels: Sequence[str],
        inactive_labels: Sequence[str],
        potentials_of: Callable[[Sequence[Doc]], Potentials],
        alpha: float = 0.5,
        temperature: float = TEMPERATURE,
        objective: str = SEQUENCES,
    ) -> None:
        check_settings(alpha, temperature, objective)
        self.labels = labels
        self.inactive_labels = inactive_labels
        self.potentials_of = potentials_of
        self.alpha = alpha
        self.temperature = temperature
        self.objective = objective

    def divergence(
        self, docs: Sequence[Doc], potentials: Potentials, labels: Sequence[str]
    ) -> Tuple[float, Potentials]:
        """The divergence of a student from the teacher.

        docs (Sequence[Doc]): The docs.
        potentials (Potentials): What the student says of them.
        labels (Sequence[str]): The student's labels, in the order of its tags.
        RETURNS (Tuple[float, Potentials]): The loss in nats per token, and its derivative by the potentials.
        RAISES (ValueError): The student lacks a label of the teacher.
        """
        return divergence_from(
            self.potentials_of(docs),
            potentials,
            [lattices.free_lattice(doc, self.labels, self.inactive_labels) for doc in docs],
            tags_of_teacher(self.labels, labels),
            temperature=self.temperature,
            divergence=OBJECTIVES[self.objective],
        )
