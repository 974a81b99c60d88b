"""What is in the training, dev and test data, and what in it will hurt."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Dict, Iterable, List, Sequence, Set, Tuple

from spacy.cli.debug_data import NEW_LABEL_THRESHOLD
from spacy.tokens import Doc

TRAIN = "train"

Mention = Tuple[str, str]
"""(text, entity type)."""


@dataclass
class SplitStats:
    """What one split holds.

    name (str): "train", "dev" or "test".
    docs, empty_docs, tokens, longest (int): Docs, docs without a token, tokens, tokens of the longest doc.
    docs_without_entity (int): Docs that have tokens and no entity.
    missing_tokens (int): Tokens of unknown annotation.
    whitespace_edges (int): Entities that begin or end in whitespace.
    adjacent (int): Entities that begin where another ends.
    types (Counter[str]): Entities per type.
    mentions (Counter[Mention]): Entities per text and type.
    texts (Counter[str]): Docs per text.
    """

    name: str
    docs: int = 0
    empty_docs: int = 0
    tokens: int = 0
    longest: int = 0
    docs_without_entity: int = 0
    missing_tokens: int = 0
    whitespace_edges: int = 0
    adjacent: int = 0
    types: "Counter[str]" = field(default_factory=Counter)
    mentions: "Counter[Mention]" = field(default_factory=Counter)
    texts: "Counter[str]" = field(default_factory=Counter)

    @property
    def entities(self) -> int:
        """Entities of all types."""
        return sum(self.types.values())

    def unseen(self, train: "SplitStats") -> Dict[str, int]:
        """Mentions per type whose text never bears that type in the training data.

        train (SplitStats): The training data.
        RETURNS (Dict[str, int]): A count for every type of this split.
        """
        unseen = dict.fromkeys(sorted(self.types), 0)
        for (text, label), count in self.mentions.items():
            if (text, label) not in train.mentions:
                unseen[label] += count
        return unseen

    def overlap(self, other: "SplitStats") -> int:
        """Docs of this split whose text is also the text of a doc of another."""
        return sum(count for text, count in self.texts.items() if text in other.texts)


@dataclass(frozen=True)
class Findings:
    """What is wrong, a sentence each that ends in what to do.

    errors (List[str]): Training or evaluation on this data means nothing.
    warnings (List[str]): It will cost accuracy, or flatter it.
    """

    errors: List[str]
    warnings: List[str]


def split_stats(name: str, docs: Iterable[Doc]) -> SplitStats:
    """Count what a split holds.

    name (str): The split's name, for messages.
    docs (Iterable[Doc]): Gold docs, empty ones included.
    RETURNS (SplitStats): The counts.
    """
    stats = SplitStats(name)
    for doc in docs:
        stats.docs += 1
        if not len(doc):
            stats.empty_docs += 1
            continue
        stats.tokens += len(doc)
        stats.longest = max(stats.longest, len(doc))
        stats.missing_tokens += sum(token.ent_iob == 0 for token in doc)
        stats.docs_without_entity += not doc.ents
        stats.texts[doc.text] += 1
        ends = {ent.end for ent in doc.ents}
        for ent in doc.ents:
            stats.types[ent.label_] += 1
            stats.mentions[ent.text, ent.label_] += 1
            stats.whitespace_edges += ent.text != ent.text.strip()
            stats.adjacent += ent.start in ends
    return stats


def find_problems(splits: Sequence[SplitStats]) -> Findings:
    """Judge the splits.

    splits (Sequence[SplitStats]): The training data first, then dev and, if there is one, test.
    RETURNS (Findings): Errors and warnings.
    """
    train, *held_out = splits
    errors: List[str] = []
    warnings: List[str] = []
    for split in splits:
        if split.docs == split.empty_docs:
            errors.append(f"{split.name} has no docs; check the conversion that wrote it")
        elif not split.entities:
            errors.append(f"{split.name} has no entities; check the conversion that wrote it")
    for split in held_out:
        absent = sorted(set(split.types) - set(train.types))
        if absent and train.entities:
            errors.append(
                f"{split.name} has types that train lacks: {_counted(split, absent)}; "
                "no model can predict them: add training examples, or rename or remove them"
            )
    for i, split in enumerate(splits):
        for other in splits[:i]:
            if n := split.overlap(other):
                warnings.append(
                    f"{n} docs of {split.name} have a text that {other.name} has too; "
                    f"remove them from one of the two, or the scores on {split.name} flatter"
                )
    rare = sorted(label for label, count in train.types.items() if count < NEW_LABEL_THRESHOLD)
    if rare:
        warnings.append(
            f"fewer than {NEW_LABEL_THRESHOLD} training examples of {_counted(train, rare)}; "
            "annotate more, or merge them into another type"
        )
    for split in splits:
        warnings.extend(_warn_split(split))
    return Findings(errors, warnings)


def _warn_split(split: SplitStats) -> List[str]:
    """The warnings that concern one split alone."""
    warnings = []
    if split.whitespace_edges:
        warnings.append(
            f"{split.whitespace_edges} entities of {split.name} begin or end in whitespace; trim their offsets"
        )
    if split.missing_tokens:
        warnings.append(
            f"{split.missing_tokens} tokens of {split.name} have no annotation (not even O); "
            "annotate them unless the annotation is meant to be partial"
        )
    if split.empty_docs and split.empty_docs < split.docs:
        warnings.append(f"{split.empty_docs} docs of {split.name} are empty and will be skipped; remove them")
    return warnings


def _counted(split: SplitStats, types: Iterable[str]) -> str:
    return ", ".join(f"{label} ({split.types[label]})" for label in types)


def all_types(splits: Iterable[SplitStats]) -> List[str]:
    """The entity types of all splits, sorted."""
    types: Set[str] = set()
    for split in splits:
        types.update(split.types)
    return sorted(types)
