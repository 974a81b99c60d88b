"""A corpus -> train, dev and test: no text in two of them, and of every label the share asked for in each.

Sechidis, Tsoumakas and Vlahavas: On the Stratification of Multi-Label Data (ECML PKDD 2011), algorithm 1, with
these deviations:

- What is dealt out is not one example, but all sentences of equal text, and a label counts as often as it occurs.
- "Without entity" is a label too. Which label is how rare is told once, before the first is dealt out.
- The first text of a label goes to train, so that no label is only in dev or test.
- The greedy deal leaves each label near its share, but not the number of sentences. Two parts then exchange texts
  as long as that brings the numbers of sentences nearer to what was asked or, at the same numbers, the labels
  nearer to their shares.

All arithmetic is in whole numbers, and chance is Python's own: a seed gives the same split on every machine.
"""

import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

import numpy
from spacy.tokens import Doc

TRAIN = "train"
MAX_KINDS = 500
"""So many kinds of text, by what is counted of them, are tried for each exchange between two parts."""

# Columns of the counts; the labels follow.
_SENTENCES = 0
_WITHOUT_ENTITY = 1
_N_COLUMNS = 2
# Weights are whole numbers of this order.
_PRECISION = 1 << 20
_TRAIN = 0
_NOTHING = -1


@dataclass
class Part:
    """One part of a corpus.

    asked (int): How many sentences it should have.
    indices (List[int]): Which docs are in it, in ascending order.
    without_entity (int): Docs without an entity.
    entities (Counter[str]): Entities by label.
    """

    asked: int
    indices: List[int] = field(default_factory=list)
    without_entity: int = 0
    entities: "Counter[str]" = field(default_factory=Counter)


@dataclass
class Split:
    """A split of a corpus.

    parts (Dict[str, Part]): The parts by name, "train" first.
    entities (Counter[str]): Entities of the whole corpus by label.
    repeated_texts, repeated_sentences (int): Texts that several sentences have, and how many sentences those are.
    """

    parts: Dict[str, Part]
    entities: "Counter[str]"
    repeated_texts: int
    repeated_sentences: int

    def shortfalls(self) -> List[str]:
        """What could not be had as it was asked for, a sentence each."""
        found: List[str] = []
        for name, part in self.parts.items():
            if name == TRAIN:
                continue
            if len(part.indices) != part.asked:
                found.append(
                    f"{name} has {len(part.indices):,} sentences, {part.asked:,} were asked for: "
                    "equal texts stay together, and train keeps a text of every label"
                )
            absent = [f"{label} ({n:,})" for label, n in sorted(self.entities.items()) if not part.entities[label]]
            if absent:
                found.append(f"{name} has no entity of a rare label (in all): {', '.join(absent)}")
        return found


def check_asked(held_out: Mapping[str, float]) -> None:
    """Check how much is asked for, as far as that can be told without the corpus.

    held_out (Mapping[str, float]): As `split` takes it.
    RAISES (ValueError): Nothing is asked for, or what is neither a share nor a number, or more than there is.
    """
    if not held_out:
        raise ValueError("no part is asked for; give --dev 0.1, --test 0.1 or both")
    for name, asked in held_out.items():
        if not 0 < asked < 1 and not (asked > 1 and float(asked).is_integer()):
            fix = "give a share between 0 and 1, such as 0.1, or a whole number of sentences, 2 or more"
            raise ValueError(f"--{name} {asked:g}: neither a share nor a number of sentences; {fix}")
    shares = [asked for asked in held_out.values() if asked < 1]
    if sum(shares) >= 1:
        raise ValueError(f"{_options(held_out)}: nothing is left for train; ask for less")


def split(docs: Sequence[Doc], held_out: Mapping[str, float], *, seed: int = 0) -> Split:
    """Split a corpus. Texts that differ only in width (NFKC) and white space count as equal.

    docs (Sequence[Doc]): The corpus.
    held_out (Mapping[str, float]): How much each part besides "train" shall have: a share of the docs, if less
        than 1, or a number of docs.
    seed (int): Of all that is left to chance.
    RETURNS (Split): The split. Every doc is in one part, and equal texts are in one.
    RAISES (ValueError): What is asked for makes no sense, or the corpus has too few different texts for it.
    """
    check_asked(held_out)
    sizes = _sizes(len(docs), held_out)
    groups = _equal_texts(docs)
    if len(groups) < len(sizes):
        what = f"{len(groups)} different text(s) cannot be put into {len(sizes)} parts"
        raise ValueError(f"{_options(held_out)}: {what}; give a larger corpus")
    labels = sorted({ent.label_ for doc in docs for ent in doc.ents})
    counts = _count(docs, groups, labels)
    stratification = _Stratification(counts, list(sizes.values()), Random(seed))
    stratification.deal()
    stratification.exchange()
    parts = {name: Part(size) for name, size in sizes.items()}
    names = list(parts)
    for number, indices in zip(stratification.place, groups):
        parts[names[number]].indices.extend(indices)
    for name, part in parts.items():
        if not part.indices:
            what = f"no text is left for {name}, as equal texts stay together and train needs every label"
            raise ValueError(f"{_options(held_out)}: {what}; give a larger corpus, or ask for another share")
        part.indices.sort()
        part.without_entity = sum(not docs[i].ents for i in part.indices)
        part.entities.update(ent.label_ for i in part.indices for ent in docs[i].ents)
    entities = sum((part.entities for part in parts.values()), Counter())
    repeated = [len(indices) for indices in groups if len(indices) > 1]
    return Split(parts, entities, len(repeated), sum(repeated))


def _options(held_out: Mapping[str, float]) -> str:
    return " ".join(f"--{name} {asked:g}" for name, asked in held_out.items())


def _sizes(n: int, held_out: Mapping[str, float]) -> Dict[str, int]:
    """How many of n sentences each part shall have, train first."""
    sizes = {name: max(1, round(n * asked)) if asked < 1 else int(asked) for name, asked in held_out.items()}
    rest = n - sum(sizes.values())
    if rest < 1:
        what = f"of {n:,} sentences none is left for train"
        raise ValueError(f"{_options(held_out)}: {what}; ask for less, or give a larger corpus")
    return {TRAIN: rest, **sizes}


def _equal_texts(docs: Sequence[Doc]) -> List[List[int]]:
    """The docs of each text.

    A model that folds width sees the same sentence twice where only the width differs, and a file without white
    space is a common form of one with it: both would leak as an exact copy does. To keep too much together costs
    nothing.
    """
    groups: Dict[str, List[int]] = {}
    for i, doc in enumerate(docs):
        groups.setdefault("".join(unicodedata.normalize("NFKC", doc.text).split()), []).append(i)
    return list(groups.values())


def _count(docs: Sequence[Doc], groups: Sequence[Sequence[int]], labels: Sequence[str]) -> numpy.ndarray:
    """Sentences, sentences without entity, and entities of each label. Shape: (groups, columns)."""
    columns = {label: column for column, label in enumerate(labels, start=_N_COLUMNS)}
    counts = numpy.zeros((len(groups), _N_COLUMNS + len(labels)), dtype="int64")
    for row, indices in zip(counts, groups):
        for i in indices:
            row[_SENTENCES] += 1
            row[_WITHOUT_ENTITY] += not docs[i].ents
            for ent in docs[i].ents:
                row[columns[ent.label_]] += 1
    return counts


class _Stratification:
    """Where each group of equal texts goes.

    counts (numpy.ndarray): What is in each group. Shape: (groups, columns).
    sizes (Sequence[int]): How many sentences each part shall have, train first.
    rng (Random): Decides where there is a choice.
    """

    def __init__(self, counts: numpy.ndarray, sizes: Sequence[int], rng: Random) -> None:
        self.place = [-1] * len(counts)
        self._counts = counts
        self._totals = counts.sum(axis=0)
        self._rng = rng
        self._order = list(range(len(counts)))
        rng.shuffle(self._order)
        self._held = numpy.zeros((len(sizes), counts.shape[1]), dtype="int64")
        # What a part shall hold, times the number of sentences, which makes it whole.
        self._shares = numpy.outer(numpy.asarray(sizes, dtype="int64"), self._totals)
        self._kinds, kind_of = numpy.unique(counts, axis=0, return_inverse=True)
        self._kind_of: List[int] = kind_of.ravel().tolist()
        self._stock: List[Dict[int, List[int]]] = [{} for _ in sizes]

    def deal(self) -> None:
        """Deal the groups out, those of the rarest label first, each to the part that lacks most of it."""
        n_groups = (self._counts > 0).sum(axis=0)
        for label in sorted(range(_WITHOUT_ENTITY, len(n_groups)), key=n_groups.__getitem__):
            for i in numpy.flatnonzero(self._counts[self._order, label]):
                group = self._order[i]
                if self.place[group] < 0:
                    self._put(group, self._part_for(group, label))

    def exchange(self) -> None:
        """Let two parts exchange a group for another, or for none, as long as they get nearer to their shares."""
        pairs = [(first, second) for second in range(len(self._held)) for first in range(second)]
        waiting = list(pairs)
        while waiting:
            first, second = waiting.pop()
            kinds = self._best_exchange(first, second)
            if kinds is None:
                continue
            mine, yours = (self._take(part, kind) for part, kind in zip((first, second), kinds))
            for group, part in ((mine, second), (yours, first)):
                if group is not None:
                    self._put(group, part)
            waiting = list(pairs)

    def _put(self, group: int, part: int) -> None:
        self.place[group] = part
        self._held[part] += self._counts[group]
        self._stock[part].setdefault(self._kind_of[group], []).append(group)

    def _take(self, part: int, kind: int) -> Optional[int]:
        if kind == _NOTHING:
            return None
        group = self._stock[part][kind].pop()
        if not self._stock[part][kind]:
            del self._stock[part][kind]
        self._held[part] -= self._counts[group]
        return group

    def _part_for(self, group: int, label: int) -> int:
        """Train, if it has none of a label; else the part that lacks most of this one or, of equals, sentences."""
        if ((self._counts[group] > 0) & (self._held[_TRAIN] == 0)).any():
            return _TRAIN
        n = self._totals[_SENTENCES]
        columns = [label, _SENTENCES]
        lacks = (self._shares[:, columns] - n * self._held[:, columns]).tolist()
        return max(range(len(lacks)), key=lambda part: (*lacks[part], self._rng.random()))

    def _best_exchange(self, first: int, second: int) -> Optional[Tuple[int, int]]:
        """The kinds of group that two parts had best exchange; None if that would bring them no nearer.

        How far two parts are from their shares is, for each column, the sum of the squares of what they have too
        much: for sentences first, then for all labels together, each divided by its number in the corpus.
        """
        n = self._totals[_SENTENCES]
        mine, my_counts = self._candidates(first)
        yours, your_counts = self._candidates(second)
        if first == _TRAIN:
            spare = (self._held[_TRAIN] > my_counts)[:, _N_COLUMNS:].all(axis=1)
            mine, my_counts = mine[spare], my_counts[spare]
        # With x and y too much, and d = mine - yours: (x - d)^2 + (y + d)^2 - x^2 - y^2 = 2 d (d - (x - y)).
        gap = (n * self._held[first] - self._shares[first]) - (n * self._held[second] - self._shares[second])
        of_mine = my_counts * (n * my_counts - gap)
        of_yours = your_counts * (n * your_counts + gap)

        def change(weights: numpy.ndarray) -> numpy.ndarray:
            both = 2 * n * (my_counts * weights) @ your_counts.T
            return (of_mine @ weights)[:, None] + of_yours @ weights - both

        weights = _PRECISION // numpy.maximum(self._totals, 1) + 1
        is_sentences = numpy.arange(len(weights)) == _SENTENCES
        sentences = change(is_sentences.astype("int64"))
        labels = change(numpy.where(is_sentences, 0, weights))
        nearest = sentences.min()
        labels[sentences > nearest] = numpy.iinfo("int64").max
        i, j = numpy.unravel_index(labels.argmin(), labels.shape)
        return (int(mine[i]), int(yours[j])) if (nearest, labels[i, j]) < (0, 0) else None

    def _candidates(self, part: int) -> Tuple[numpy.ndarray, numpy.ndarray]:
        """Kinds of group that a part can give, "nothing" too, and what is in them. Shape: (kinds, columns)."""
        kinds = list(self._stock[part])
        if len(kinds) > MAX_KINDS:
            kinds = self._rng.sample(kinds, MAX_KINDS)
        counts = numpy.vstack([self._kinds[kinds], numpy.zeros_like(self._totals)])
        return numpy.asarray([*kinds, _NOTHING]), counts
