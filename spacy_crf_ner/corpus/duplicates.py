"""Texts that occur more than once in a corpus: in one split, in several, and annotated in two ways."""

import sys
from collections import defaultdict
from hashlib import blake2b
from itertools import accumulate
from typing import DefaultDict, Dict, List, NamedTuple, Optional, Sequence, Tuple

from spacy.attrs import ENT_IOB
from spacy.tokens import Doc

from spacy_crf_ner.corpus.stats import Case, Tally, origin_of
from spacy_crf_ner.labels import LabeledSpan

_MAX_MENTION, _MAX_LABEL = 20, 30

Tagging = Tuple[LabeledSpan, ...]
"""The entities of a text, in characters."""


class TaggedText(NamedTuple):
    """The first doc of a split that gives a text a tagging; the tagging is None where annotation is missing."""

    split: str
    tagging: Optional[Tagging]
    origin: str


class TextIndex:
    """Which texts a corpus holds, by their hashes. The splits are added one after the other.

    duplicates (DefaultDict[str, Tally]): By split, docs whose text an earlier doc of the same split has.
    leaks (DefaultDict[Tuple[str, str], Tally]): By split and earlier split, docs whose text is in both.
    """

    def __init__(self) -> None:
        self.duplicates: DefaultDict[str, Tally] = defaultdict(Tally)
        self.leaks: DefaultDict[Tuple[str, str], Tally] = defaultdict(Tally)
        self._versions: Dict[bytes, List[TaggedText]] = {}
        self._repeated: Dict[bytes, str] = {}

    def add(self, split: str, doc: Doc) -> None:
        """Look whether the text of a doc was met before, and remember it.

        split (str): The split's name.
        doc (Doc): A gold doc, with a token at least.
        """
        text = doc.text
        key = blake2b(text.encode("utf8", "surrogatepass"), digest_size=16).digest()
        versions = self._versions.setdefault(key, [])
        tagged = TaggedText(split, _tagging(doc), origin_of(doc))
        for name, first in {known.split: known for known in reversed(versions)}.items():
            tally = self.duplicates[split] if name == split else self.leaks[split, name]
            tally.add(Case(tagged.origin, text, note=f"as {first.origin}" if first.origin else ""))
        if any(known[:2] == tagged[:2] for known in versions):
            return
        if versions:
            self._repeated[key] = text
        versions.append(tagged)

    def contradictions(self, splits: Sequence[str]) -> Tally:
        """The texts that have more than one tagging in some splits, taken together.

        Docs with missing annotation are left out: they may be the same, and say less.

        splits (Sequence[str]): Names of splits.
        RETURNS (Tally): Their number. A case names an entity that one tagging has and another has not.
        """
        tally = Tally()
        for key, versions in self._annotated(splits):
            by_tagging = {tagged.tagging: tagged for tagged in reversed(versions)}
            if len(by_tagging) > 1:
                tally.add(_contradiction(self._repeated[key], versions[0], by_tagging))
        return tally

    def contradicted(self, split: str, earlier: Sequence[str]) -> Tally:
        """The texts of a split that an earlier one tags otherwise.

        split (str): The split's name.
        earlier (Sequence[str]): Names of splits that were added before.
        RETURNS (Tally): The number of texts that have a tagging in the split, another one in one of the earlier.
        """
        tally = Tally()
        for key, versions in self._annotated((split, *earlier)):
            before = {tagged.tagging: tagged for tagged in reversed(versions) if tagged.split != split}
            for tagged in versions:
                if tagged.split == split and before and set(before) != {tagged.tagging}:
                    tally.add(_contradiction(self._repeated[key], tagged, before))
                    break
        return tally

    def _annotated(self, splits: Sequence[str]) -> List[Tuple[bytes, List[TaggedText]]]:
        """The texts that were met in some of the splits, with those of their versions that are complete."""
        chosen = []
        for key in self._repeated:
            versions = [r for r in self._versions[key] if r.split in splits and r.tagging is not None]
            if versions:
                chosen.append((key, versions))
        return chosen


def _tagging(doc: Doc) -> Optional[Tagging]:
    if (doc.to_array([ENT_IOB]) == 0).any():
        return None
    return tuple((ent.start_char, ent.end_char, sys.intern(ent.label_)) for ent in doc.ents)


def _contradiction(text: str, tagged: TaggedText, others: Dict[Optional[Tagging], TaggedText]) -> Case:
    """A case that names the first entity in which a tagged and another one differ."""
    other = next(known for tagging, known in others.items() if tagging != tagged.tagging)
    ours, theirs = set(tagged.tagging or ()), set(other.tagging or ())
    start, end, label = min(ours ^ theirs)
    has = "with" if (start, end, label) in ours else "without"
    mention = text[start:end] if end - start <= _MAX_MENTION else f"{text[start : start + _MAX_MENTION]}…"
    note = f"{has} {label[:_MAX_LABEL]} {mention!r}, unlike {other.origin or other.split}"
    return Case(tagged.origin, text, note=note)


def prefixes(splits: Sequence[str]) -> List[Tuple[str, ...]]:
    """The first split, the first two, and so on."""
    return list(accumulate(((split,) for split in splits), lambda some, more: some + more))
