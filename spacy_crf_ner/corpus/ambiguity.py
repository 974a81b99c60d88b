"""Which words are now an entity of one label, now of another, now none."""

import pickle
import sys
from collections import Counter
from dataclasses import dataclass, field
from tempfile import SpooledTemporaryFile
from typing import Any, Dict, Iterator, List, NamedTuple, Tuple

import numpy
from spacy.attrs import ENT_IOB, ORTH
from spacy.tokens import Doc

from spacy_crf_ner.corpus.stats import origin_of

IN_MEMORY = 1 << 26
"""Beyond so many bytes, the tokens are kept in a temporary file."""
_OUTSIDE = 2
_FORM = 0
"""The key of a form in its node of the trie; it is the hash of no token."""

Node = Dict[int, Any]
"""The nodes that follow, by the hash of their token."""


@dataclass
class SurfaceForm:
    """Words that are an entity at least once, and what they are wherever else they occur.

    text (str): The words.
    types (Counter[str]): How often they are an entity of a label.
    outside (int): How often they occur outside all entities. Inside a longer entity, they do not count.
    origins (Dict[str, str]): Where each of the labels was met first, and, under "", where they were no entity.
    """

    text: str
    types: "Counter[str]" = field(default_factory=Counter)
    outside: int = 0
    origins: Dict[str, str] = field(default_factory=dict)

    @property
    def minority(self) -> int:
        """What a look-up of the most frequent reading gets wrong."""
        counts = [*self.types.values(), self.outside]
        return sum(counts) - max(counts)

    def to_json(self) -> Dict[str, Any]:
        """The form, for a JSON file."""
        return {
            "text": self.text,
            "types": dict(self.types.most_common()),
            "outside": self.outside,
            "minority": self.minority,
            "origins": self.origins,
        }


class Ambiguity(NamedTuple):
    """How ambiguous the entities' words are.

    forms (int): Different words that are an entity at least once.
    ambiguous (int): Those of them that are not always the same: `several_types` or `also_outside`, or both.
    several_types (int): Those that are of several labels.
    also_outside (int): Those that are also no entity.
    occurrences (int): Places where the words of an entity occur, as an entity or outside all.
    minority (int): Those of them that are not what these words are most often.
    top (List[SurfaceForm]): The most ambiguous: those of the largest minority.
    """

    forms: int
    ambiguous: int
    several_types: int
    also_outside: int
    occurrences: int
    minority: int
    top: List[SurfaceForm]

    def to_json(self) -> Dict[str, Any]:
        """The counts, for a JSON file."""
        return {**self._asdict(), "top": [form.to_json() for form in self.top]}


class SurfaceForms:
    """Collects the entities of docs, and then looks for their words everywhere.

    Which words to look for is known only at the end, so the tokens' hashes are written to a file, which is held in
    memory while it is small.
    """

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115
        self._trie: Node = {}
        self._forms: List[SurfaceForm] = []
        self._longest = 0

    def add(self, doc: Doc) -> None:
        """Add a doc.

        doc (Doc): A gold doc.
        """
        origin = origin_of(doc)
        for entity in doc.ents:
            node = self._trie
            for token in entity:
                node = node.setdefault(token.orth, {})
            self._longest = max(self._longest, len(entity))
            form = node.get(_FORM)
            if form is None:
                form = node[_FORM] = SurfaceForm(entity.text)
                self._forms.append(form)
            label = sys.intern(entity.label_)
            form.types[label] += 1
            form.origins.setdefault(label, origin)
        orths, iob = doc.to_array([ORTH, ENT_IOB]).T
        pickle.dump((orths.tobytes(), (iob == _OUTSIDE).tobytes(), origin), self._file)

    def count(self, top: int) -> Ambiguity:
        """Look for the entities' words outside of entities. The docs are given up: this can be done once.

        top (int): How many of the most ambiguous forms to name.
        RETURNS (Ambiguity): The counts.
        """
        for orths, outside, origin in self._docs():
            for form in self._found(orths, outside):
                form.outside += 1
                form.origins.setdefault("", origin)
        self._file.close()
        forms = self._forms
        # Of equal ones the first: the order does not depend on anything else.
        ranked = sorted((form for form in forms if form.minority), key=lambda form: -form.minority)
        return Ambiguity(
            forms=len(forms),
            ambiguous=len(ranked),
            several_types=sum(len(form.types) > 1 for form in forms),
            also_outside=sum(form.outside > 0 for form in forms),
            occurrences=sum(sum(form.types.values()) + form.outside for form in forms),
            minority=sum(form.minority for form in forms),
            top=ranked[:top],
        )

    def _docs(self) -> Iterator[Tuple[List[int], bytes, str]]:
        end = self._file.tell()
        self._file.seek(0)
        while self._file.tell() < end:
            orths, outside, origin = pickle.load(self._file)
            yield numpy.frombuffer(orths, dtype="uint64").tolist(), outside, origin

    def _found(self, orths: List[int], outside: bytes) -> Iterator[SurfaceForm]:
        """The forms that occur outside all entities."""
        for start in range(len(orths)):
            node, reach = self._trie, slice(start, start + self._longest)
            for orth, is_outside in zip(orths[reach], outside[reach]):
                if not is_outside or orth not in node:
                    break
                node = node[orth]
                if _FORM in node:
                    yield node[_FORM]
