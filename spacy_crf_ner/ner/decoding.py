"""From docs and potentials to entities: the best reading, its probabilities, and the next best ones."""

from functools import cached_property
from typing import Any, Collection, Dict, List, NamedTuple, Sequence, Tuple

import numpy
from spacy.attrs import ENT_IOB
from spacy.tokens import Doc, Span, SpanGroup
from thinc.api import Ops
from torch import Tensor

from spacy_crf_ner.labels import LabeledSpan
from spacy_crf_ner.ner import lattices
from spacy_crf_ner.ner.chain import Chain
from spacy_crf_ner.ner.gazetteer import Gazetteer
from spacy_crf_ner.ner.phrase_states import with_bonuses
from spacy_crf_ner.tagger.potentials import Potentials


class Reading(NamedTuple):
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

    docs (Sequence[Doc]): The docs. What is set on them is kept; see `lattices.decoding_lattice`.
    potentials (Potentials): The model's potentials for them.
    types (Sequence[str]): The model's entity types, in order.
    unpredicted (Collection[str]): Types that are not to be found.
    gazetteer (Gazetteer): Phrases that constrain the readings.
    temperature (float): By what all potentials are divided. Probabilities and the bonuses of phrases are those of
        the potentials after that.
    RAISES (ValueError): A phrase in a doc is of a type that is not among `types`, or the potentials are of another
        number of tags.
    """

    def __init__(
        self,
        ops: Ops,
        docs: Sequence[Doc],
        potentials: Potentials,
        *,
        types: Sequence[str],
        unpredicted: Collection[str],
        gazetteer: Gazetteer,
        temperature: float,
    ) -> None:
        self.docs = docs
        self.types = types
        matches = [gazetteer(doc) for doc in docs]
        for label in sorted({match.label for found in matches for match in found} - {"", *types}):
            raise ValueError(
                f"the gazetteer names the entity type {label!r}, which is not among the labels {list(types)}; "
                "add it with add_label(), or clear() the gazetteer and add the phrases without it"
            )
        hard = [[match for match in found if match.rule == "hard"] for found in matches]
        allowed = [
            lattices.decoding_lattice(doc, types, unpredicted=unpredicted, hard=found)
            for doc, found in zip(docs, hard)
        ]
        chain = Chain.of(ops, potentials, allowed, temperature=temperature)
        origins = chain.sequences.origin.tolist()
        self.chain = with_bonuses(
            chain,
            (
                bonus
                for found, lattice, origin in zip(matches, allowed, origins)
                for bonus in lattices.bonuses(found, lattice, types, origin)
            ),
        )

    @cached_property
    def _states(self) -> Tensor:
        return self.chain.best()

    @cached_property
    def _entities(self) -> List[List[LabeledSpan]]:
        """In words of the chain, those that were set before included."""
        return self.chain.entities(self._states, self.types)

    def entities(self) -> List[List[Span]]:
        """The entities of each doc's best reading, without those that were set before."""
        return [[span for span, _ in self._new(i, entities)] for i, entities in enumerate(self._entities)]

    def scored_entities(self) -> List[List[Tuple[Span, float]]]:
        """The same entities, each with the probability that it is there with exactly this span and type."""
        scores = self.chain.entity_probabilities(self._states, self._entities)
        return [
            [(span, scores[i][number]) for span, number in self._new(i, entities)]
            for i, entities in enumerate(self._entities)
        ]

    def k_best(self, k: int) -> List[List[Reading]]:
        """The k most probable readings of each doc, best first; fewer where fewer are possible.

        k (int): How many.
        RAISES (ValueError): `k` is below 1.
        """
        return [
            [
                Reading(tuple(span for span, _ in self._new(i, self.chain.read(path, self.types))), probability)
                for path, probability in found
            ]
            for i, found in enumerate(self.chain.k_best(k))
        ]

    def _new(self, i: int, entities: Sequence[LabeledSpan]) -> List[Tuple[Span, int]]:
        """The spans in doc i of those entities that were not set before, and their numbers."""
        doc, words = self.docs[i], self.chain.words[i]
        is_set = numpy.isin(doc.to_array(ENT_IOB), lattices.SET)
        spans = ((int(words[first]), int(words[last - 1]) + 1, label) for first, last, label in entities)
        return [
            (Span(doc, start, end, label=label), number)
            for number, (start, end, label) in enumerate(spans)
            if not is_set[start:end].any()
        ]
