"""From docs and potentials to entities: the best tag sequence, its probabilities, and the next best ones."""

from functools import cached_property
from typing import Any, Collection, Dict, List, NamedTuple, Sequence, Tuple

import numpy
from spacy.tokens import Doc, Span, SpanGroup

from spacy_crf_ner.crf.forward_backward import Posterior, posterior
from spacy_crf_ner.crf.layout import Ints
from spacy_crf_ner.crf.marginals import path_probabilities, segment_probabilities
from spacy_crf_ner.crf.viterbi import k_best, viterbi
from spacy_crf_ner.labels import BioTags
from spacy_crf_ner.ner.gazetteer import Gazetteer
from spacy_crf_ner.ner.lattices import constraints
from spacy_crf_ner.ner.phrase_states import with_bonuses
from spacy_crf_ner.tagger.potentials import Potentials

DIVERGED = "its training diverged: train it anew"

ROUNDING = 1e-12
"""Probabilities are exact to about this."""


class Hypothesis(NamedTuple):
    """One way to mark a doc, and the probability that it is the right one as a whole."""

    entities: Tuple[Span, ...]
    probability: float


def save_scores(doc: Doc, name: str, scores: Dict[Span, float]) -> None:
    """Write entities and their probabilities to a span group. What it held of an earlier pass stays as long as it
    is an entity.

    doc (Doc): The doc, its entities set.
    name (str): The group's name.
    scores (Dict[Span, float]): The new entities, each with its probability: plain floats in attrs["scores"].
    """
    earlier = doc.spans.get(name, [])
    old_scores: Any = earlier.attrs.get("scores", []) if isinstance(earlier, SpanGroup) else []
    ents = set(doc.ents)
    kept = {span: score for span, score in zip(earlier, old_scores) if span in ents}
    found = sorted({**kept, **scores}.items())
    attrs = {"scores": [score for _, score in found]}
    doc.spans[name] = SpanGroup(doc, name=name, attrs=attrs, spans=[span for span, _ in found])


class Decoding:
    """A batch of docs under the potentials that a model gave them. Nothing here changes a doc.

    docs (Sequence[Doc]): The docs. What is set on them is kept; see `lattices.constraints`.
    potentials (Potentials): The model's potentials for them.
    labels (Sequence[str]): The model's labels, in order.
    inactive_labels (Collection[str]): Labels that are not to be found.
    gazetteer (Gazetteer): Phrases that constrain the entities.
    temperature (float): By what all potentials are divided. Probabilities and the bonuses of phrases are those of
        the potentials after that.
    RAISES (ValueError): A phrase in a doc is of a label that is not among `labels`, or the potentials are of
        another number of tags, or not finite numbers.
    """

    def __init__(
        self,
        docs: Sequence[Doc],
        potentials: Potentials,
        *,
        labels: Sequence[str],
        inactive_labels: Collection[str],
        gazetteer: Gazetteer,
        temperature: float,
    ) -> None:
        self._docs = docs
        self._labels = labels
        self._bio = BioTags(len(labels))
        matches = [gazetteer(doc) for doc in docs]
        for label in sorted({match.label for found in matches for match in found} - {"", *labels}):
            raise ValueError(
                f"the gazetteer names the label {label!r}, which is not among the component's {list(labels)}; "
                "add it with add_label(), or clear() the gazetteer and add the phrases without it"
            )
        known = [constraints(doc, found, labels, inactive_labels) for doc, found in zip(docs, matches)]
        self._known = known
        chain = potentials.to_chain([each.lattice for each in known], temperature=temperature)
        chain.check_finite(DIVERGED)
        # The states of the chain, and the tag that each is for.
        self._chain, self._tags = with_bonuses(chain, [each.bonuses for each in known])

    def entities(self) -> List[List[Span]]:
        """The entities of each doc's best tag sequence, without those that were set before."""
        return [[span for span, _ in found] for found in self._found]

    def scored_entities(self) -> List[List[Tuple[Span, float]]]:
        """The same entities, each with the probability that it is there with exactly this span and label."""
        places = [place for found in self._found for _, place in found]
        scores = iter(self._probabilities(places))
        return [[(span, next(scores)) for span, _ in found] for found in self._found]

    def k_best(self, k: int) -> List[List[Hypothesis]]:
        """The k most probable ways to mark each doc, best first; fewer where fewer are possible.

        k (int): How many.
        RAISES (ValueError): `k` is below 1.
        """
        best = k_best(self._chain, k)
        shares = path_probabilities(self._posterior, [scores for _, scores in best])
        return [
            [
                Hypothesis(tuple(span for span, _ in self._new(doc, path)), probability)
                for path, probability in zip(paths, row)
            ]
            for doc, ((paths, _), row) in enumerate(zip(best, shares))
        ]

    @cached_property
    def _states(self) -> Ints:
        """The best states. *Shape:* (n_words of the batch,)."""
        return viterbi(self._chain)

    @cached_property
    def _posterior(self) -> Posterior:
        return posterior(self._chain)

    @cached_property
    def _found(self) -> List[List[Tuple[Span, Tuple[int, int]]]]:
        """The new entities of each doc's best states, each with its first word and the word after its last,
        counted in the words of the batch."""
        sequences = self._chain.sequences
        return [
            [(span, (origin + start, origin + end)) for span, (start, end) in self._new(doc, path)]
            for doc, (origin, path) in enumerate(
                zip(sequences.origin.tolist(), numpy.split(self._states, sequences.origin[1:]))
            )
        ]

    def _new(self, i: int, states: Ints) -> List[Tuple[Span, Tuple[int, int]]]:
        """The entities of doc i that were not set before, each with its place in the doc's words.

        states (ndarray): *Shape:* (n_words of the doc,), int64: a legal sequence.
        """
        doc, words, is_set = self._docs[i], self._known[i].words, self._known[i].is_set
        new = []
        for start, end, label in self._bio.spans(self._tags[states]):
            first, after = int(words[start]), int(words[end - 1]) + 1
            if not is_set[first:after].any():
                new.append((Span(doc, first, after, label=self._labels[label]), (start, end)))
        return new

    def _probabilities(self, places: Sequence[Tuple[int, int]]) -> List[float]:
        """The probability of each entity of the best states to be there with exactly this span and label.

        places (Sequence[Tuple[int, int]]): (first word, word after the last), counted in the words of the batch.
        """
        if not places:
            return []
        starts, ends = numpy.array(places).T
        continues = self._bio.continues[self._tags][:, self._tags]
        found = segment_probabilities(self._posterior, self._states, starts, ends, continues)
        # What is certain shall be 1, however it was rounded.
        return numpy.where(found > 1.0 - ROUNDING, 1.0, found).tolist()
