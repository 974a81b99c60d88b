"""Potentials of a batch at random, and what enumeration makes of them."""

from itertools import pairwise, product
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple, cast

import numpy
from thinc.types import Ints1d, Ragged

from spacy_crf_ner.crf.chain import FORBIDDEN, Lattice
from spacy_crf_ner.labels import BioTags, LabeledSpan
from spacy_crf_ner.tagger.potentials import Potentials
from spacy_crf_ner.tagging import BIO, to_bio
from tests.util import refuse

TYPES = ("A", "B")


class Reading(NamedTuple):
    score: float
    entities: Tuple[LabeledSpan, ...]
    tags: Tuple[int, ...]


def random_potentials(seed: int, lengths: Sequence[int], n_types: int = 2) -> Potentials:
    """Potentials as a model gives them: float32, illegal starts and transitions forbidden."""
    rng = numpy.random.default_rng(seed)
    tags = BioTags(n_types)
    n_tags = tags.size
    start = numpy.where(tags.legal_starts, rng.normal(size=n_tags), FORBIDDEN)
    transitions = numpy.where(tags.legal_transitions, rng.normal(size=(n_tags, n_tags)), FORBIDDEN)
    emissions = 2 * rng.normal(size=(sum(lengths), n_tags))
    end = rng.normal(size=n_tags)
    flat: List[Any] = [x.astype("float32") for x in (emissions, start, transitions, end)]
    return Potentials(Ragged(flat[0], cast(Ints1d, numpy.array(lengths, dtype="int32"))), *flat[1:])


def random_lattices(seed: int, lengths: Sequence[int], n_types: int = 2, share: float = 0.6) -> List[Lattice]:
    """Lattices that leave at least O to each token."""
    rng = numpy.random.default_rng(seed)
    lattices = [rng.random((length, BioTags(n_types).size)) < share for length in lengths]
    for lattice in lattices:
        lattice[:, 0] = True
    return lattices


def readings(
    potentials: Potentials, doc: int, lattice: Lattice, bonuses: Dict[LabeledSpan, float]
) -> List[Reading]:
    """All that a doc's lattice allows, best first, written down from the definition."""
    emission = numpy.asarray(potentials.by_doc()[doc], dtype="float64")[lattice.any(axis=1)]
    allowed = lattice[lattice.any(axis=1)]
    bio = BioTags.from_size(len(potentials.start))
    names = bio.names(TYPES[: bio.n_labels])
    found: List[Reading] = []
    for path in product(*(numpy.flatnonzero(row).tolist() for row in allowed)):
        tags = [names[tag] for tag in path]
        if to_bio(tags) != tags:
            continue
        entities = tuple(BIO.read(tags, refuse))
        score = sum(emission[t, tag] for t, tag in enumerate(path))
        score += sum(float(potentials.transitions[i, j]) for i, j in pairwise(path))
        score += float(potentials.start[path[0]]) + float(potentials.end[path[-1]]) if path else 0.0
        score += sum(weight for span, weight in bonuses.items() if span in entities)
        found.append(Reading(float(score), entities, path))
    return sorted((reading for reading in found if reading.score > -numpy.inf), reverse=True)


def log_sum(found: Sequence[Reading]) -> float:
    return float(numpy.logaddexp.reduce([reading.score for reading in found]))
