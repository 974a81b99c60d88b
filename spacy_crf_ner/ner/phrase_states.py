"""Bonuses and bans for exact entities, built into the CRF: decoding and probabilities stay exact.

That a phrase is *exactly* an entity cannot be said of tags and neighbouring tags alone: one would reward or forbid
longer entities with it. So an entity that begins where a phrase does is followed by states of its own. For one
entity type, over the words from where a phrase begins to where the longest phrase from there ends, they are

- F: in an entity that began with the phrase, which may end after this word;
- V: the same, but ending after this word is banned;
- R: the first word after the phrase, in an entity that runs on; from there the tag I takes over.

Each tag sequence is one state sequence, so maxima, sums and k-best lists are right as they stand. The bonus for
ending after a word is added to F's emission there and taken back at the next word of the same entity.
"""

from collections import defaultdict
from dataclasses import replace
from math import isinf
from typing import Dict, Iterable, List, Mapping, NamedTuple, Tuple

import numpy
import torch
from torch import Tensor

from spacy_crf_ner.crf.forward_backward import FORBIDDEN
from spacy_crf_ner.labels import BioTags
from spacy_crf_ner.ner.chain import Chain


class Bonus(NamedTuple):
    """What an exact entity is worth.

    start, end (int): Words of the chain, the end exclusive, within one doc.
    type_index (int): The entity type, by its place among the types.
    weight (float): In nats; minus infinity for a ban.
    """

    start: int
    end: int
    type_index: int
    weight: float


_F_B, _F_I, _V_B, _V_I, _R = range(5)
"""The states of one slot, in order; B and I tell the first word of an entity from the others."""

Track = Tuple[int, int]
"""(entity type, first word): all phrases of a type that begin there are followed together."""


def with_bonuses(chain: Chain, bonuses: Iterable[Bonus]) -> Chain:
    """Add bonuses and bans to a chain.

    The score of a tag sequence rises by the weight of each bonus whose span is exactly an entity of its type in
    it; a banned one has no score. Weights of one span and type add up.

    chain (Chain): A chain whose states are the tags.
    bonuses (Iterable[Bonus]): What to add.
    RETURNS (Chain): A chain of more states; the same chain where there is nothing to add.
    """
    # The weight of ending after each word of a track.
    tracks: Dict[Track, Dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for bonus in bonuses:
        tracks[bonus.type_index, bonus.start][bonus.end - 1] += bonus.weight
    if not tracks:
        return chain
    slots = _slots(tracks)
    n_tags = len(chain.start)
    bio = BioTags.from_size(n_tags)
    type_of_slot = numpy.array([i for _, i in sorted({(slot, i) for (i, _), slot in slots.items()})])
    begin, inside = bio.begin(type_of_slot), bio.inside(type_of_slot)
    of_slots = numpy.stack((begin, inside, begin, inside, inside), axis=1).flatten()
    tags = torch.cat((chain.tags, torch.from_numpy(of_slots)))
    # Only where a track says so, a word may take a state of a slot.
    plain = chain.lattice.numpy()
    lattice = plain[:, tags.numpy()]
    lattice[:, n_tags:] = False
    gains = numpy.zeros(lattice.shape)
    doc_ends = (chain.sequences.origin + chain.sequences.lengths).numpy()
    for (i, first), weights in tracks.items():
        longest = max(weights)
        doc_end = int(doc_ends[numpy.searchsorted(doc_ends, first, side="right")])
        state = n_tags + 5 * slots[i, first]
        lattice[first, bio.begin(i)] = False
        taken_back = 0.0
        for word in range(first, min(longest + 2, doc_end)):
            weight = weights.get(word, 0.0)
            if word > longest:
                role, tag = _R, bio.inside(i)
            elif word == first:
                role, tag = (_V_B if isinf(weight) else _F_B), bio.begin(i)
            else:
                role, tag = (_V_I if isinf(weight) else _F_I), bio.inside(i)
            lattice[word, state + role] = plain[word, tag]
            gain = 0.0 if isinf(weight) else weight
            gains[word, state + role] = gain - taken_back
            taken_back = gain
    legal, may_end = _legal(tags, n_tags)
    device = chain.emissions.device
    of_state = tags.to(device)
    return replace(
        chain,
        emissions=chain.emissions[:, of_state] + torch.from_numpy(gains).to(device),
        start=chain.start[of_state],
        transitions=chain.transitions[of_state][:, of_state].masked_fill(~legal.to(device), FORBIDDEN),
        end=chain.end[of_state].masked_fill(~may_end.to(device), FORBIDDEN),
        lattice=torch.from_numpy(lattice),
        tags=tags,
    )


def _slots(tracks: Mapping[Track, Mapping[int, float]]) -> Dict[Track, int]:
    """Give each track a set of states that no other track of its type needs on the same words.

    tracks (Mapping[Track, Mapping[int, float]]): The tracks, with the words that their phrases end after.
    RETURNS (Dict[Track, int]): Slots, numbered from 0; one slot has one type.
    """
    slots: Dict[Track, int] = {}
    busy: List[Tuple[int, int]] = []  # of each slot: its type, and the last word of its latest track
    for (i, first), weights in sorted(tracks.items()):
        free = (slot for slot, (type_index, last) in enumerate(busy) if type_index == i and last < first)
        slot = next(free, len(busy))
        busy[slot : slot + 1] = [(i, max(weights))]
        slots[i, first] = slot
    return slots


def _legal(tags: Tensor, n_tags: int) -> Tuple[Tensor, Tensor]:
    """Which state may follow which, and which may be the last, beyond what their tags say.

    tags (Tensor): *Shape:* (n_states,), int64: plain tags, then slots of five states.
    n_tags (int): Number of plain tags.
    RETURNS (Tuple[Tensor, Tensor]): *Shapes:* (n_states, n_states), (n_states,), bool.
    """
    goes_on = torch.from_numpy(BioTags.from_size(n_tags).continues)[tags][:, tags]
    states = torch.arange(len(tags))
    plain = states < n_tags
    slot, role = (states - n_tags) // 5, (states - n_tags) % 5
    tracked = ~plain & (role != _R)
    follows = ~plain & ((role == _F_I) | (role == _V_I) | (role == _R))
    banned = ~plain & ((role == _V_B) | (role == _V_I))
    # Within an entity, a slot is left through R alone.
    same_slot = slot.unsqueeze(1) == slot
    within = torch.where(tracked.unsqueeze(1), follows & same_slot, plain)
    return torch.where(goes_on, within, ~banned.unsqueeze(1)), ~banned
