"""Bonuses and bans for exact entities, built into the CRF: decoding and probabilities stay exact.

That a phrase is *exactly* an entity cannot be said by tags and pairs of tags only: one would reward or forbid
longer entities with it. So an entity that begins where a phrase does is followed by states of its own. For one
label, over the words from where a phrase begins to where the longest phrase from there ends, they are

- F: in an entity that began with the phrase, which may end after this word;
- V: the same, but ending after this word is banned;
- R: the first word after the phrase, in an entity that runs on; from there the tag I takes over.

Each tag sequence is one state sequence, so maxima, sums and k-best lists are right as they are. The bonus for
ending after a word is added to F's emission there and taken back at the next word of the same entity.
"""

from collections import defaultdict
from dataclasses import replace
from math import isinf
from typing import Dict, List, Mapping, NamedTuple, Sequence, Tuple

import numpy
from numpy.typing import NDArray

from spacy_crf_ner.crf.chain import FORBIDDEN, Chain
from spacy_crf_ner.crf.layout import Ints
from spacy_crf_ner.labels import BioTags

Bools = NDArray[numpy.bool_]


class Bonus(NamedTuple):
    """What an exact entity is worth.

    start, end (int): Words of a doc, the end exclusive.
    label (int): The label, by its place among the labels.
    weight (float): In nats; minus infinity for a ban.
    """

    start: int
    end: int
    label: int
    weight: float


_F_B, _F_I, _V_B, _V_I, _R = range(5)
"""The states of one slot, in order; B and I tell the first word of an entity from the others."""

Track = Tuple[int, int]
"""(label, first word): all phrases of a label that begin there are followed together."""


def with_bonuses(chain: Chain, bonuses: Sequence[Sequence[Bonus]]) -> Tuple[Chain, Ints]:
    """Add bonuses and bans to a chain.

    The score of a tag sequence rises by the weight of each bonus whose span is exactly an entity of its label in
    it; a banned one has no score. Weights of one span and label add up.

    chain (Chain): A chain under a lattice, over the BIO tags.
    bonuses (Sequence[Sequence[Bonus]]): What to add to each row.
    RETURNS (Tuple[Chain, ndarray]): A chain of more states, which begin with the tags, and the tag that each state
        is for, *shape:* (n_states,), int64. The same chain where there is nothing to add.
    """
    assert chain.lattice is not None
    # The weight of ending after each word of a track, counted in the words of the batch.
    tracks: Dict[Track, Dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for origin, of_row in zip(chain.sequences.origin.tolist(), bonuses):
        for start, end, label, weight in of_row:
            tracks[label, origin + start][origin + end - 1] += weight
    n_tags = chain.n_tags
    if not tracks:
        return chain, numpy.arange(n_tags)
    slots = _slots(tracks)
    bio = BioTags.from_size(n_tags)
    label_of_slot = numpy.array([i for _, i in sorted({(slot, i) for (i, _), slot in slots.items()})])
    begin, inside = bio.begin(label_of_slot), bio.inside(label_of_slot)
    # shape: (n_states,)
    of_slots = numpy.stack((begin, inside, begin, inside, inside), axis=1).reshape(-1)
    tags = numpy.concatenate((numpy.arange(n_tags), of_slots))
    # Only where a track says so, a word may take a state of a slot. shape: (n_words, n_states)
    plain = chain.lattice
    lattice = plain[:, tags]
    lattice[:, n_tags:] = False
    emissions = chain.emissions[:, tags]
    row_ends = chain.sequences.origin + chain.sequences.lengths
    for (i, first), weights in tracks.items():
        longest = max(weights)
        row_end = int(row_ends[numpy.searchsorted(row_ends, first, side="right")])
        state = n_tags + 5 * slots[i, first]
        lattice[first, bio.begin(i)] = False
        taken_back = 0.0
        for word in range(first, min(longest + 2, row_end)):
            weight = weights.get(word, 0.0)
            if word > longest:
                role, tag = _R, bio.inside(i)
            elif word == first:
                role, tag = (_V_B if isinf(weight) else _F_B), bio.begin(i)
            else:
                role, tag = (_V_I if isinf(weight) else _F_I), bio.inside(i)
            lattice[word, state + role] = plain[word, tag]
            gain = 0.0 if isinf(weight) else weight
            emissions[word, state + role] += gain - taken_back
            taken_back = gain
    legal, may_end = _legal(tags, bio)
    widened = replace(
        chain,
        emissions=emissions,
        start=chain.start[tags],
        transitions=numpy.where(legal, chain.transitions[tags][:, tags], FORBIDDEN),
        end=numpy.where(may_end, chain.end[tags], FORBIDDEN),
        lattice=lattice,
    )
    return widened, tags


def _slots(tracks: Mapping[Track, Mapping[int, float]]) -> Dict[Track, int]:
    """Give each track a set of states that no other track of its label needs on the same words.

    tracks (Mapping[Track, Mapping[int, float]]): The tracks, with the words that their phrases end after.
    RETURNS (Dict[Track, int]): Slots, numbered from 0; one slot has one label.
    """
    slots: Dict[Track, int] = {}
    busy: List[Tuple[int, int]] = []  # of each slot: its label, and the last word of its latest track
    for (i, first), weights in sorted(tracks.items()):
        free = (slot for slot, (label, last) in enumerate(busy) if label == i and last < first)
        slot = next(free, len(busy))
        busy[slot : slot + 1] = [(i, max(weights))]
        slots[i, first] = slot
    return slots


def _legal(tags: Ints, bio: BioTags) -> Tuple[Bools, Bools]:
    """Which state may follow which, and which may be the last, beyond what their tags say.

    tags (ndarray): *Shape:* (n_states,), int64: plain tags, then slots of five states.
    bio (BioTags): The plain tags.
    RETURNS (Tuple[ndarray, ndarray]): *Shapes:* (n_states, n_states), (n_states,), bool.
    """
    goes_on = bio.continues[tags][:, tags]
    states = numpy.arange(len(tags))
    plain = states < bio.size
    slot, role = (states - bio.size) // 5, (states - bio.size) % 5
    tracked = ~plain & (role != _R)
    follows = ~plain & ((role == _F_I) | (role == _V_I) | (role == _R))
    banned = ~plain & ((role == _V_B) | (role == _V_I))
    # Within an entity, a slot is left only through R.
    same_slot = slot[:, None] == slot
    within = numpy.where(tracked[:, None], follows & same_slot, plain)
    return numpy.where(goes_on, within, ~banned[:, None]), ~banned
