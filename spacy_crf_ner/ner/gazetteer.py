"""Phrases that are known beforehand to be entities, or not to be: what the decoding of the CRF takes as given."""

import sys
from itertools import chain
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Mapping, NamedTuple, Optional, Tuple, Union

import srsly
from spacy.attrs import IDS
from spacy.matcher import PhraseMatcher
from spacy.tokens import Doc
from spacy.util import ensure_path
from spacy.vocab import Vocab

from spacy_crf_ner.messages import quote, show_path
from spacy_crf_ner.saved_state import SavedStateError, reason, unpack

RULES = ("hard", "soft", "never")
ATTRS = ("ORTH", "LOWER", "NORM", "SHAPE", "PREFIX", "SUFFIX", "LENGTH")
"""The token attributes that only words carry, and that tell phrases apart."""

_PATTERN_KEYS = ("label", "pattern", "rule", "weight")
_MATCH_ID = "crf_ner.gazetteer"  # one for all phrases, so that they leave no ids in the StringStore

_Phrase = Tuple[int, ...]  # the values of the attribute, one per token


class Match(NamedTuple):
    """An occurrence of a phrase in a doc, and what is known of it."""

    start: int  # token offsets, the end exclusive
    end: int
    label: str  # the label; "" for a "never" rule that holds for all labels
    rule: str  # one of `RULES`
    weight: float  # nats; 0.0 unless the rule is soft


class _Entry(NamedTuple):
    label: str
    rule: str
    weight: float
    words: List[str]
    spaces: List[bool]
    norms: List[str]  # empty unless the attribute is NORM, which a tokenizer's exceptions set beside the word

    @property
    def text(self) -> str:
        return "".join(word + " " * space for word, space in zip(self.words, self.spaces))


class Gazetteer:
    """Finds the phrases that it was given in docs, with spaCy's `PhraseMatcher`.

    A rule says what a phrase means for the decoding. "hard": it is exactly an entity of the label. "soft": its
    being exactly an entity of the label is worth a bonus. "never": it is never exactly an entity of the label, or
    of any label, if none is named. Two phrases are the same if the attribute has the same values in both.
    """

    def __init__(self, vocab: Vocab, attr: str = "ORTH") -> None:
        """Initialize an empty gazetteer.

        vocab (Vocab): The shared vocabulary.
        attr (str): The token attribute that is compared, one of `ATTRS`; "TEXT" is "ORTH".
        RAISES (ValueError): The attribute is none of these.
        """
        name = {"TEXT": "ORTH"}.get(attr.upper(), attr.upper()) if isinstance(attr, str) else attr
        if name not in ATTRS:
            raise ValueError(f"phrases cannot be compared by attribute {attr!r}; use one of {', '.join(ATTRS)}")
        self.vocab = vocab
        self.attr = name
        self.clear()

    def __len__(self) -> int:
        """The number of distinct entries."""
        return sum(map(len, self._phrases.values()))

    @property
    def labels(self) -> Tuple[str, ...]:
        """The labels that the entries name, sorted."""
        return tuple(sorted({entry.label for entry in self._entries() if entry.label}))

    @property
    def patterns(self) -> List[Dict[str, Any]]:
        """The entries in the order they were added, as `add_patterns` takes them."""
        return [
            {"label": entry.label, "pattern": entry.text, "rule": entry.rule}
            | ({"weight": entry.weight} if entry.rule == "soft" else {})
            for entry in self._entries()
        ]

    def clear(self) -> None:
        """Remove all entries."""
        self._phrases: Dict[_Phrase, Dict[Tuple[str, str], Tuple[int, _Entry]]] = {}
        self._n_seen = 0
        self._matcher = PhraseMatcher(self.vocab, attr=IDS[self.attr])
        # The matcher looks it up at each match, also after a memory zone in which phrases were added.
        self.vocab.strings.add(_MATCH_ID, allow_transient=False)  # type: ignore[call-arg]

    def add(
        self, label: Optional[str], phrases: Iterable[Doc], *, rule: str = "hard", weight: Optional[float] = None
    ) -> None:
        """Add phrases under one rule, or none of them if one is refused.

        What is there already is not added twice. A soft entry replaces an earlier one of the same label and
        phrase that has another weight.

        label (Optional[str]): The label. None, for a "never" rule: no entity of any label.
        phrases (Iterable[Doc]): The phrases, tokenized as the docs are in which they are sought.
        rule (str): One of `RULES`.
        weight (Optional[float]): The bonus of a "soft" rule in nats, negative for a malus; None for the others.
        RAISES (ValueError): The rule is unknown, its label or weight is missing or not in place, a phrase is no
            Doc, has no words or begins or ends in whitespace, or two rules for one phrase contradict each other.
        """
        named, nats = _checked_rule(label, rule, weight)
        self._add("phrase", (self._entry(named, rule, nats, phrase) for phrase in phrases))

    def add_patterns(self, patterns: Iterable[Mapping[str, Any]], make_doc: Callable[[str], Doc]) -> None:
        """Add what the lines of a JSONL file hold, or nothing at all if one is refused.

        patterns (Iterable[Mapping[str, Any]]): One mapping an entry, ``{"label": "ORG", "pattern": "北京大学"}``
            and, if need be, "rule" ("hard" by default) and "weight"; see `add`.
        make_doc (Callable[[str], Doc]): The tokenizer, `nlp.make_doc`.
        RAISES (ValueError): An entry, named by its index from 0, has other keys, its pattern is not a string, or
            `add` would refuse it.
        """
        self._add("entry", (self._entry_of_pattern(pattern, make_doc) for pattern in patterns))

    def __call__(self, doc: Doc) -> List[Match]:
        """Find the phrases in a doc.

        doc (Doc): The doc.
        RETURNS (List[Match]): Sorted by start, then end; they may overlap. Matches that begin or end in
            whitespace, which only other attributes than "ORTH" can find, are left out.
        """
        if not self._phrases:
            return []
        found = self._matcher(doc)
        if not found:
            return []
        values = doc.to_array(IDS[self.attr])
        return sorted(
            Match(start, end, entry.label, entry.rule, entry.weight)
            for _, start, end in found
            if not (doc[start].is_space or doc[end - 1].is_space)
            for _, entry in self._phrases[tuple(values[start:end].tolist())].values()
        )

    def to_bytes(self) -> bytes:
        """Serialize the attribute and the entries, with their words: no tokenizer is needed to load them.

        RETURNS (bytes): The serialized gazetteer.
        """
        return srsly.msgpack_dumps({"attr": self.attr, "entries": [entry._asdict() for entry in self._entries()]})

    def from_bytes(self, data: bytes) -> "Gazetteer":
        """Replace the entries by those that `to_bytes` wrote.

        data (bytes): The serialized gazetteer.
        RETURNS (Gazetteer): The gazetteer itself.
        RAISES (ValueError): These are not the bytes of a gazetteer, or it holds entries that are compared by
            another attribute; the content stays as it was.
        """
        saved = unpack(data, "the saved gazetteer")
        try:
            attr, entries = quote(saved["attr"]).strip("'"), [_saved_entry(entry) for entry in saved["entries"]]
            if entries and attr != self.attr:
                raise ValueError(
                    f"the phrases were saved to be compared by {attr}, but phrase_matcher_attr is {self.attr}"
                )
            loaded = Gazetteer(self.vocab, self.attr)
            loaded._add("entry", entries)
        except (ValueError, TypeError, KeyError) as error:
            raise SavedStateError(
                f"no gazetteer that can be loaded here ({reason(error)}); write it anew"
            ) from error
        vars(self).update(vars(loaded))
        return self

    def to_disk(self, path: Union[str, Path]) -> None:
        """Write `to_bytes` to a file.

        path (Union[str, Path]): The file.
        """
        ensure_path(path).write_bytes(self.to_bytes())

    def from_disk(self, path: Union[str, Path]) -> "Gazetteer":
        """Replace the entries by those of a file.

        path (Union[str, Path]): The file that `to_disk` wrote.
        RETURNS (Gazetteer): The gazetteer itself.
        RAISES (OSError): The file cannot be read.
        RAISES (ValueError): `from_bytes` refuses what it holds; the content stays as it was.
        """
        try:
            return self.from_bytes(ensure_path(path).read_bytes())
        except ValueError as error:
            raise SavedStateError(f"{show_path(path)}: {error}") from error

    def _entries(self) -> List[_Entry]:
        rules = chain.from_iterable(held.values() for held in self._phrases.values())
        return [entry for _, entry in sorted(rules)]

    def _entry(self, label: str, rule: str, weight: float, phrase: Doc) -> _Entry:
        if not isinstance(phrase, Doc):
            raise ValueError(f"{phrase!r} is not a Doc: give a list of what nlp.make_doc makes of the phrases")
        if not phrase.text.strip():
            raise ValueError(f"{phrase.text!r} has no words: leave it out")
        words = [token.text for token in phrase]
        if words[0].isspace() or words[-1].isspace():
            raise ValueError(f"{phrase.text!r} begins or ends in whitespace, and no entity does: strip it")
        spaces = [bool(token.whitespace_) for token in phrase[:-1]] + [False]
        norms = [token.norm_ for token in phrase] if self.attr == "NORM" else []
        return _Entry(label, rule, weight, words, spaces, norms)

    def _entry_of_pattern(self, pattern: Mapping[str, Any], make_doc: Callable[[str], Doc]) -> _Entry:
        if not isinstance(pattern, Mapping):
            raise ValueError(f'{pattern!r} is not a mapping: write {{"label": ..., "pattern": ...}}')
        if unknown := [key for key in pattern if key not in _PATTERN_KEYS]:
            raise ValueError(f"unknown keys {unknown}; remove them, there are: {', '.join(_PATTERN_KEYS)}")
        text, rule = pattern.get("pattern"), pattern.get("rule", "hard")
        if not isinstance(text, str):
            raise ValueError(f"the pattern must be a string, not {text!r}; token patterns are for a span_ruler")
        label, weight = _checked_rule(pattern.get("label"), rule, pattern.get("weight"))
        return self._entry(label, rule, weight, make_doc(text))

    def _make_phrase(self, entry: _Entry) -> Doc:
        doc = Doc(self.vocab, words=entry.words)
        for token, norm in zip(doc, entry.norms):
            token.norm_ = norm
        return doc

    def _add(self, place: str, entries: Iterable[_Entry]) -> None:
        """Add entries once all of them are found to be right; errors name the place and its index."""
        staged: Dict[_Phrase, Dict[Tuple[str, str], Tuple[int, _Entry]]] = {}
        done = 0
        try:
            for entry in entries:
                phrase = tuple(self._make_phrase(entry).to_array(IDS[self.attr]).tolist())
                held = staged.setdefault(phrase, dict(self._phrases.get(phrase, {})))
                for _, other in held.values():
                    if _contradict(entry, other):
                        raise ValueError(
                            f"{entry.text!r} is {entry.rule} {entry.label or 'at all'}, but {other.text!r}, by "
                            f"{self.attr} the same, is {other.rule} {other.label or 'at all'}: remove one of them"
                        )
                key = (entry.rule, entry.label)
                if key not in held or held[key][1].weight != entry.weight:
                    held[key] = (self._n_seen + done, entry)
                done += 1
        except ValueError as error:
            raise ValueError(f"{place} {done}: {error}") from error
        self._n_seen += done
        for phrase, held in staged.items():
            if phrase not in self._phrases:
                self._matcher.add(_MATCH_ID, [self._make_phrase(next(iter(held.values()))[1])])
            self._phrases[phrase] = held


def _saved_entry(saved: Mapping[str, Any]) -> _Entry:
    """An entry of a file, which may hold anything."""
    entry = _Entry(**saved)
    _checked_rule(entry.label, entry.rule, entry.weight if entry.rule == "soft" else None)
    for name, kind, lengths in (
        ("words", str, range(1, sys.maxsize)),
        ("spaces", bool, [len(entry.words)]),
        ("norms", str, [0, len(entry.words)]),
    ):
        found = getattr(entry, name)
        if not isinstance(found, list) or len(found) not in lengths or not all(isinstance(x, kind) for x in found):
            raise ValueError(f"the {name} of an entry are {quote(found)}")
    if not all(entry.words):
        raise ValueError("a word of an entry is empty")
    return entry


def _checked_rule(label: Any, rule: Any, weight: Any) -> Tuple[str, float]:
    """The label, "" if there is none, and the weight, 0.0 if there is none, found to fit the rule."""
    if rule not in RULES:
        raise ValueError(f"unknown rule {rule!r}; use one of {', '.join(RULES)}")
    if label is not None and not isinstance(label, str):
        raise ValueError(f"the label must be a string, not {label!r}")
    if not label and rule != "never":
        raise ValueError(f"a {rule} rule needs a label, not {label!r}")
    if rule != "soft" and weight is not None:
        raise ValueError(f"a {rule} rule has no weight: remove {weight!r}, or make the rule soft")
    is_number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
    # Not math.isfinite: it fails on integers beyond all floats, which JSON may hold.
    if rule == "soft" and not (is_number and 0 < abs(weight) <= sys.float_info.max):
        raise ValueError(f"a soft rule needs a weight in nats, finite and not 0, not {weight!r}")
    return label or "", float(weight or 0.0)


def _contradict(entry: _Entry, other: _Entry) -> bool:
    """Whether the two cannot both hold for one phrase. Without a label, never holds for all labels."""
    if entry.rule == other.rule == "hard":
        return entry.label != other.label
    never_any = not entry.label or not other.label
    return {entry.rule, other.rule} == {"hard", "never"} and (never_any or entry.label == other.label)
