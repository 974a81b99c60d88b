"""What one split of a corpus holds, in numbers: no doc is kept."""

import sys
from array import array
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any, Callable, DefaultDict, Dict, List, NamedTuple, Optional, Tuple

import numpy
from spacy.attrs import ENT_IOB, ENT_TYPE, ORTH, SPACY
from spacy.tokens import Doc, Span, Token
from spacy.training import Alignment

from spacy_crf_ner.corpus.entity_edges import Edge, edge_of
from spacy_crf_ner.formats.doc_builder import ORIGIN

MAX_CASES = 10
"""How many examples of a finding are kept."""
MAX_EXCERPT = 200
"""How many characters of a text are kept with an example."""

Mention = Tuple[str, str]
"""(text, label)."""


class Case(NamedTuple):
    """A place in the data.

    origin (str): Where it was read: the file, and the line or the number of the doc.
    text (str): The entity, or the beginning of the doc.
    label (str): The entity's label; "" for a doc.
    note (str): What else there is to say.
    """

    origin: str
    text: str
    label: str = ""
    note: str = ""


@dataclass
class Tally:
    """How often something was met, by label where it is about entities, and the first different cases."""

    count: int = 0
    types: "Counter[str]" = field(default_factory=Counter)
    cases: List[Case] = field(default_factory=list)

    def add(self, case: Case) -> None:
        """Count a case in."""
        self.count += 1
        if case.label:
            self.types[case.label] += 1
        case = case._replace(text=case.text[:MAX_EXCERPT])
        if len(self.cases) < MAX_CASES and all(case[1:3] != known[1:3] for known in self.cases):
            self.cases.append(case)


@dataclass(frozen=True)
class Lengths:
    """How long the docs of a split are.

    unit (str): What is counted: "tokens" or "word-pieces".
    median, p99, longest (int): Of the docs' lengths; 0 where there is no doc.
    window (int): How much a model sees at a time.
    longer (int): Docs longer than that.
    """

    unit: str
    median: int
    p99: int
    longest: int
    window: int
    longer: int


@dataclass
class SplitStats:
    """What one split holds.

    name (str): "train", "dev" or "test".
    docs (int): Docs that have a token; all but `empty_docs` is about them.
    empty_docs (int): Docs without a token, which the reader left out.
    docs_without_entity, tokens, characters (int): As they say.
    adjacent (int): Entities that begin where another ends.
    missing_tokens (int): Tokens of unknown annotation.
    misaligned_tokens (int): Tokens of the tokenizer that are several of the doc, as `spacy debug data` has it.
    overlapping, duplicates (int): Entities that the reader left out: they overlap a longer one, or were there.
    types (Counter[str]): Entities per label.
    docs_with_type (Counter[str]): Docs that have an entity of the label.
    mentions (Counter[Mention]): Entities per text and label.
    words, letters (Counter[str]): Tokens and characters.
    notes (Counter[str]): What else the reader met, skipped or corrected.
    lengths (array): Tokens of each doc.
    pieces (Optional[array]): Word-pieces of each doc; None without an encoder.
    tallies (DefaultDict[str, Tally]): What will hurt, by the code of the finding.
    """

    name: str
    docs: int = 0
    empty_docs: int = 0
    docs_without_entity: int = 0
    tokens: int = 0
    characters: int = 0
    adjacent: int = 0
    missing_tokens: int = 0
    misaligned_tokens: int = 0
    overlapping: int = 0
    duplicates: int = 0
    types: "Counter[str]" = field(default_factory=Counter)
    docs_with_type: "Counter[str]" = field(default_factory=Counter)
    mentions: "Counter[Mention]" = field(default_factory=Counter)
    words: "Counter[str]" = field(default_factory=Counter)
    letters: "Counter[str]" = field(default_factory=Counter)
    notes: "Counter[str]" = field(default_factory=Counter)
    lengths: "array[int]" = field(default_factory=lambda: array("L"))
    pieces: "Optional[array[int]]" = None
    tallies: "DefaultDict[str, Tally]" = field(default_factory=lambda: defaultdict(Tally))

    @property
    def entities(self) -> int:
        """Entities of all labels."""
        return sum(self.types.values())

    def add(self, doc: Doc, tokenize: Callable[[str], Doc]) -> None:
        """Count a doc in.

        doc (Doc): A gold doc, with a token at least.
        tokenize (Callable[[str], Doc]): The tokenizer of the pipeline that will see its text.
        """
        text, words = doc.text, [token.text for token in doc]
        self.docs += 1
        self.characters += len(text)
        self.tokens += len(words)
        self.lengths.append(len(words))
        self.words.update(words)
        self.letters.update(text)
        iob, types = doc.to_array([ENT_IOB, ENT_TYPE]).T
        self.missing_tokens += int((iob == 0).sum())
        for i in ((iob == 3) & (types == 0)).nonzero()[0]:
            self.tallies["empty_label"].add(Case(origin_of(doc), words[i]))
        self._add_entities(doc)
        seen = tokenize(text)
        if not numpy.array_equal(doc.to_array([ORTH, SPACY]), seen.to_array([ORTH, SPACY])):
            self._add_alignment(doc, seen)

    def _add_entities(self, doc: Doc) -> None:
        self.docs_without_entity += not doc.ents
        self.docs_with_type.update({sys.intern(entity.label_) for entity in doc.ents})
        ends = {entity.end for entity in doc.ents}
        for entity in doc.ents:
            label = sys.intern(entity.label_)
            self.types[label] += 1
            self.mentions[entity.text, label] += 1
            self.adjacent += entity.start in ends
            code = _EDGE_CODES[edge_of(entity)]
            if code:
                self.tallies[code].add(_entity_case(entity))
            if any(token.is_sent_start for token in entity[1:]):
                self.tallies["crossed_sentences"].add(_entity_case(entity))

    def _add_alignment(self, doc: Doc, seen: Doc) -> None:
        """Compare the tokens of a doc with the other ones that a pipeline will see."""
        if seen.text != doc.text:
            self.tallies["changed_texts"].add(Case(origin_of(doc), doc.text))
            return
        align = Alignment.from_strings([token.text for token in seen], [token.text for token in doc])
        self.misaligned_tokens += sum(
            int(n) != 1 for n, token in zip(align.x2y.lengths, seen) if not token.is_space
        )
        for entity in doc.ents:
            if seen.char_span(entity.start_char, entity.end_char) is None:
                around = [token.text for token in seen if _overlap(token, entity)]
                case = _entity_case(entity, f"in the tokens {' | '.join(around)}")
                self.tallies["misaligned_entities"].add(case)

    def unseen(self, train: "SplitStats") -> Dict[str, int]:
        """Mentions per label whose text never bears that label in the training data.

        train (SplitStats): The training data.
        RETURNS (Dict[str, int]): A count for every label of this split.
        """
        unseen = dict.fromkeys(sorted(self.types), 0)
        for (text, label), count in self.mentions.items():
            if (text, label) not in train.mentions:
                unseen[label] += count
        return unseen

    def measure(self, window: int) -> List[Lengths]:
        """How long the docs are, in tokens and, where there is an encoder, in word-pieces.

        window (int): How much a model sees at a time, in the last of these units.
        RETURNS (List[Lengths]): One or two.
        """
        measured = [_lengths("tokens", self.lengths, window)]
        if self.pieces is not None:
            measured.append(_lengths("word-pieces", self.pieces, window))
        return measured

    def to_json(self, train: "SplitStats", window: int) -> Dict[str, Any]:
        """All numbers, for a JSON file.

        train (SplitStats): The training data.
        window (int): How much a model sees at a time.
        RETURNS (Dict[str, Any]): The numbers, by name.
        """
        enclosed = self.tallies["enclosed"]
        return {
            "docs": self.docs,
            "empty_docs": self.empty_docs,
            "docs_without_entity": self.docs_without_entity,
            "tokens": self.tokens,
            "unique_tokens": len(self.words),
            "characters": self.characters,
            "unique_characters": len(self.letters),
            "entities": self.entities,
            "types": dict(sorted(self.types.items())),
            "docs_with_type": dict(sorted(self.docs_with_type.items())),
            "unseen": None if self is train else self.unseen(train),
            "adjacent": self.adjacent,
            "enclosed": {"count": enclosed.count, "types": dict(sorted(enclosed.types.items()))},
            "overlapping": self.overlapping,
            "duplicates": self.duplicates,
            "missing_tokens": self.missing_tokens,
            "misaligned_tokens": self.misaligned_tokens,
            "lengths": [vars(lengths) for lengths in self.measure(window)],
            "common_tokens": self.words.most_common(MAX_CASES),
            "notes": dict(sorted(self.notes.items())),
        }


_EDGE_CODES = {
    Edge.EMPTY: "whitespace_entities",
    Edge.WHITESPACE: "whitespace_edges",
    Edge.PUNCTUATION: "punctuation_edges",
    Edge.ENCLOSED: "enclosed",
    Edge.PLAIN: None,
}


def origin_of(doc: Doc) -> str:
    """Where a doc was read; "" for one that was read by no reader of this package."""
    return str(doc.user_data.get(ORIGIN, ""))


def _entity_case(entity: Span, note: str = "") -> Case:
    return Case(origin_of(entity.doc), entity.text, sys.intern(entity.label_), note)


def _overlap(token: Token, entity: Span) -> bool:
    return token.idx < entity.end_char and entity.start_char < token.idx + len(token)


def _lengths(unit: str, values: "array[int]", window: int) -> Lengths:
    if not values:
        return Lengths(unit, 0, 0, 0, window, 0)
    lengths = numpy.frombuffer(values, dtype=values.typecode)
    median, p99, longest = (int(n) for n in numpy.percentile(lengths, (50, 99, 100), method="higher"))
    return Lengths(unit, median, p99, longest, window, int((lengths > window).sum()))
