"""Rehearsal: an earlier model as the teacher of what must not be forgotten."""

from dataclasses import dataclass
from typing import Any, Callable, List, Sequence, Tuple

from spacy.tokens import Doc
from thinc.api import Model

from spacy_crf_ner.labels import BioTags
from spacy_crf_ner.ner import lattices, losses
from spacy_crf_ner.tagger.potentials import Potentials


@dataclass(frozen=True)
class Teacher:
    """The model as it was when `nlp.resume_training` was called.

    model (Model[List[Doc], Potentials]): The copy.
    inactive_labels (Tuple[str, ...]): The labels that it did not predict.
    """

    model: Model[List[Doc], Potentials]
    inactive_labels: Tuple[str, ...]

    def divergence(
        self, docs: List[Doc], labels: Sequence[str], potentials: Potentials
    ) -> Tuple[float, Potentials]:
        """How far a model's distribution of tag sequences is from the teacher's, over the teacher's labels.

        docs (List[Doc]): The docs.
        labels (Sequence[str]): The model's labels, the teacher's first.
        potentials (Potentials): What the model says of the docs.
        RETURNS (Tuple[float, Potentials]): See `losses.divergence_from`.
        """
        old = self.model.predict(docs)
        known = labels[: BioTags.from_size(old.n_tags).n_labels]
        allowed = [lattices.free_lattice(doc, known, self.inactive_labels) for doc in docs]
        return losses.divergence_from(old, potentials, allowed)


def keeping_gradients(sgd: Callable) -> Any:
    """Give an optimizer gradients that it may keep.

    `Language.rehearse` passes a function that only collects weights and gradients, to step when all pipes are
    done; Thinc's torch shim has zeroed its own gradients by then.
    """

    def step(key: Any, weights: Any, gradient: Any) -> Tuple[Any, Any]:
        kept = gradient.copy()
        gradient *= 0
        return sgd(key, weights, kept)

    return step
