"""A batch's CRF as torch sees it: potentials over the words that lattices leave in, and what they tell."""

from dataclasses import dataclass
from functools import cached_property
from typing import List, Sequence, Tuple

import numpy
import torch
from numpy.typing import NDArray
from thinc.api import Ops, xp2torch
from torch import Tensor

from spacy_crf_ner.crf import marginals, viterbi
from spacy_crf_ner.crf.forward_backward import Posterior
from spacy_crf_ner.crf.layout import Sequences
from spacy_crf_ner.labels import BioTags, LabeledSpan
from spacy_crf_ner.tagger.potentials import Potentials

Lattice = NDArray[numpy.bool_]
"""*Shape:* (n_tokens, n_tags): which tags each token may take. A row without any True takes its token out of
the sequence: the token before and the token after are then neighbours."""


ROUNDING = 1e-12
"""Probabilities are exact to about this."""


@dataclass(frozen=True, eq=False)
class Chain:
    """The CRF over a batch of docs.

    emissions (Tensor): *Shape:* (n_words, n_states), in nats: the words of all docs, one after the other.
    start, transitions, end (Tensor): *Shapes:* (n_states,), (n_states, n_states), (n_states,).
    lattice (Tensor): *Shape:* (n_words, n_states), bool, on the CPU: which states each word may take.
    words (List[ndarray]): *Shape:* (n_words of the doc,), int64, a doc: the tokens that are words.
    tags (Tensor): *Shape:* (n_states,), int64, on the CPU: the BIO tag that each state stands for. States are the
        tags themselves unless `phrase_states.with_bonuses` has added some.
    """

    emissions: Tensor
    start: Tensor
    transitions: Tensor
    end: Tensor
    lattice: Tensor
    words: List[NDArray[numpy.int64]]
    tags: Tensor

    @classmethod
    def of(
        cls, ops: Ops, potentials: Potentials, lattices: Sequence[Lattice], *, temperature: float = 1.0
    ) -> "Chain":
        """The chain of some docs' potentials.

        ops (Ops): Where the potentials lie.
        potentials (Potentials): The batch's potentials.
        lattices (Sequence[Lattice]): What each doc's tokens may be.
        temperature (float): By what all potentials are divided.
        RAISES (ValueError): The potentials are of another number of tags than the lattices.
        """
        return cls.over(tuple(xp2torch(x).double() / temperature for x in potentials.flat(ops)), lattices)

    @classmethod
    def over(cls, inputs: Tuple[Tensor, ...], lattices: Sequence[Lattice]) -> "Chain":
        """The chain of potentials that are tensors already; gradients flow back to them.

        inputs (Tuple[Tensor, ...]): Emissions, *shape:* (n_tokens of the batch, n_tags), start, transitions and
            end.
        lattices (Sequence[Lattice]): What each doc's tokens may be.
        RAISES (ValueError): The potentials are of another number of tags than the lattices.
        """
        emissions, start, transitions, end = inputs
        for rows in lattices:
            if rows.shape[1] != len(start):
                raise ValueError(
                    f"the model scores {len(start)} tags, but the component's labels make {rows.shape[1]}: "
                    "the model was built for other labels"
                )
        lattice = numpy.concatenate([numpy.zeros((0, len(start)), dtype=bool), *lattices])
        is_word = numpy.asarray(lattice.any(axis=1))
        ends = numpy.cumsum([len(rows) for rows in lattices])
        words = [numpy.flatnonzero(is_word[end - len(rows) : end]) for rows, end in zip(lattices, ends)]
        if not is_word.all():
            kept = torch.from_numpy(numpy.flatnonzero(is_word)).to(emissions.device)
            emissions, lattice = emissions.index_select(0, kept), lattice[is_word]
        return cls(emissions, start, transitions, end, torch.from_numpy(lattice), words, torch.arange(len(start)))

    @property
    def potentials(self) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
        """Emissions, start, transitions, end."""
        return self.emissions, self.start, self.transitions, self.end

    @cached_property
    def sequences(self) -> Sequences:
        """Where the docs lie among the words."""
        return Sequences.consecutive(torch.tensor([len(words) for words in self.words], dtype=torch.int64))

    @cached_property
    def posterior(self) -> Posterior:
        """The forward-backward recursion under the lattice."""
        return marginals.posterior_of(*self.potentials, self.sequences, self.lattice)

    def refuse_odd(self, mend: str) -> None:
        """Look for potentials that are no finite numbers.

        mend (str): What to do about it, for the message.
        RAISES (ValueError): There are some.
        """
        finite = self.emissions.isfinite().all(dim=1).cpu()
        if not finite.all():
            word = int((~finite).int().argmax())
            doc = int((self.sequences.origin <= word).sum()) - 1
            raise ValueError(f"the model's scores for doc {doc} of the batch are not finite numbers: {mend}")
        if not all(x.isfinite().all() for x in (self.start, self.transitions, self.end)):
            raise ValueError(f"the CRF's transitions are not finite numbers: {mend}")

    def best(self) -> Tensor:
        """The best states. *Shape:* (n_words,), int64, on the CPU.

        RAISES (ValueError): The potentials are not finite numbers.
        """
        self.refuse_odd("its training diverged; train it anew")
        return viterbi.viterbi(*self.potentials, self.sequences, self.lattice)

    def k_best(self, k: int) -> List[List[Tuple[Tensor, float]]]:
        """The k best state sequences of each doc, best first, with the probability of each.

        k (int): How many; there are fewer where fewer are possible.
        RETURNS (List[List[Tuple[Tensor, float]]]): For each doc: states, *shape:* (n_words of the doc,), int64, on
            the CPU, and a probability.
        """
        best = viterbi.k_best(*self.potentials, self.sequences, k, self.lattice)
        shares = marginals.path_probabilities(self.posterior, [scores for _, scores in best])
        return [list(zip(paths, row)) for (paths, _), row in zip(best, shares)]

    @property
    def bio(self) -> BioTags:
        """The BIO tags that the states stand for."""
        return BioTags.from_size(int(self.tags.max()) + 1)

    def entities(self, states: Tensor, types: Sequence[str]) -> List[List[LabeledSpan]]:
        """Read the entities off states.

        states (Tensor): *Shape:* (n_words,), int64, on the CPU: a legal sequence.
        types (Sequence[str]): The entity types, in the order of the tags.
        RETURNS (List[List[LabeledSpan]]): For each doc: (first word, word after the last, type), counted in the
            doc's words.
        """
        by_doc = states.split(self.sequences.lengths.tolist())
        return [self.read(path, types) for path in by_doc]

    def read(self, path: Tensor, types: Sequence[str]) -> List[LabeledSpan]:
        """Read the entities off the states of one doc.

        path (Tensor): *Shape:* (n_words of the doc,), int64, on the CPU: a legal sequence.
        types (Sequence[str]): As of `entities`.
        RETURNS (List[LabeledSpan]): See `entities`.
        """
        found = self.bio.spans(self.tags[path].numpy())
        return [(start, end, types[label]) for start, end, label in found]

    def entity_probabilities(self, states: Tensor, entities: Sequence[Sequence[LabeledSpan]]) -> List[List[float]]:
        """The probability of each entity to be in the text with exactly these borders and this type.

        states (Tensor): *Shape:* (n_words,), int64, on the CPU: the states that the entities were read off.
        entities (Sequence[Sequence[LabeledSpan]]): What `entities` returned for them.
        RETURNS (List[List[float]]): A probability for each.
        """
        origin = self.sequences.origin.tolist()
        spans = [(begin + start, begin + end) for begin, doc in zip(origin, entities) for start, end, _ in doc]
        if not spans:
            return [[] for _ in entities]
        starts, ends = torch.tensor(spans).t()
        continues = torch.from_numpy(self.bio.continues)[self.tags][:, self.tags]
        found = marginals.segment_probabilities(self.posterior, states, starts, ends, continues)
        # What is certain shall be 1, however it was rounded.
        found = torch.where(found > 1.0 - ROUNDING, 1.0, found)
        by_doc = found.cpu().split([len(doc) for doc in entities])
        return [scores.tolist() for scores in by_doc]
