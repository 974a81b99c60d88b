"""In which scheme and spelling some tags are."""

import re
from collections import Counter
from typing import Dict, FrozenSet, NamedTuple, Optional, Sequence, Tuple

from spacy_crf_ner.formats.spelling import LETTERS, SPELLINGS, STANDARD
from spacy_crf_ner.labels import OUTSIDE
from spacy_crf_ner.tagging import ALL_SCHEMES, SCHEMES, Scheme

_UNTYPED = "X"
"""The label in the place of the one that is missing, while the scheme of untyped tags is told."""
_BARE_LABEL = re.compile(r"[^\W\d_][\w./&:-]*")
_SEVERAL = re.compile(r"[,;|+]\s*[BIESMLUW]-")
"""Several tags in one cell."""
_LETTERED = re.compile(r"(begin|inside|[bieslmuw])[\W_].*|.*[\W_](begin|inside|[bieslmuw])", re.IGNORECASE)
"""A tag in a spelling that is not known, as B:PER or BEGIN-PER."""
_BARE_SHARE = 0.2
"""How many of bare labels must be O: a column of other words has none."""


class Tags(NamedTuple):
    """What some tags are.

    scheme (str): The name of their scheme.
    spelling (Optional[str]): The name of their spelling; None for the standard one.
    entities (FrozenSet[Tuple[int, int, int, str]]): Sentence, start, end and label of each entity.
    labels (FrozenSet[str]): The labels of the entities.
    why (str): What they look like, for a message.
    """

    scheme: str
    spelling: Optional[str]
    entities: FrozenSet[Tuple[int, int, int, str]]
    labels: FrozenSet[str]
    why: str

    @property
    def n_entities(self) -> int:
        return len(self.entities)

    def settings(self) -> Dict[str, str]:
        """The settings of a reader, but for those that it has by itself."""
        settings = {} if self.scheme == "bio" else {"scheme": self.scheme}
        return settings if self.spelling is None else {**settings, "spelling": self.spelling}

    def told(self) -> str:
        """How many entities there are, and of which labels."""
        some = sorted(self.labels)[:4]
        more = ", ..." if len(self.labels) > len(some) else ""
        ending = "y" if self.n_entities == 1 else "ies"
        return f"{self.n_entities} entit{ending}: {', '.join(label[:20] for label in some)}{more}"


def guess_tags(cells: Sequence[Sequence[str]]) -> Optional[Tags]:
    """Tell the scheme and spelling of tags.

    cells (Sequence[Sequence[str]]): What may be the tags of some sentences.
    RETURNS (Optional[Tags]): What they are; None if most are not tags.
    """
    values = Counter(cell for sentence in cells for cell in sentence)
    if not any(values):
        return None
    found = _with_letters(cells, values)
    if found is not None and found.n_entities:
        return found
    # All but O is unknown, or there is nothing else.
    return _untyped(cells, values) or _bare(cells, values) or found


def _with_letters(cells: Sequence[Sequence[str]], values: "Counter[str]") -> Optional[Tags]:
    # Of spellings that fit as well, the standard one, which is the first.
    n_unknown = {
        name: sum(n for tag, n in values.items() if tag and not _is_tag(spelling.standard(tag)))
        for name, spelling in SPELLINGS.items()
    }
    name = min(n_unknown, key=lambda name: n_unknown[name])
    standard = SPELLINGS[name].standard
    if 2 * n_unknown[name] >= values.total():
        return None
    return _tags([[standard(tag) for tag in sentence] for sentence in cells], None if name == STANDARD else name)


def _is_tag(tag: str) -> bool:
    letter, hyphen, label = tag.partition("-")
    return tag == OUTSIDE or (letter in LETTERS and bool(hyphen) and _is_label(label))


def _is_label(label: str) -> bool:
    """Whether a label is one, and no number, several tags, or a tag and what does not print."""
    return any(map(str.isalpha, label)) and label.isprintable() and not _SEVERAL.search(label)


def _untyped(cells: Sequence[Sequence[str]], values: "Counter[str]") -> Optional[Tags]:
    """Tags that are letters without a label, some of which begin an entity, and O."""
    letters = {value.upper() for value in values if value}
    if not letters <= LETTERS | {OUTSIDE} or OUTSIDE not in letters or not letters & {"B", "S", "U", "W"}:
        return None
    tags = [[tag.upper() if tag in ("", "O", "o") else f"{tag.upper()}-{_UNTYPED}" for tag in s] for s in cells]
    found = _tags(tags, None)
    return found and found._replace(why="tags without a label", labels=frozenset({"no label"}))


def _bare(cells: Sequence[Sequence[str]], values: "Counter[str]") -> Optional[Tags]:
    """Labels without letters, most of them O."""
    n_outside = values[OUTSIDE] + values[OUTSIDE.lower()]
    labels = {value for value in values if value and value.upper() != OUTSIDE}
    if not labels or n_outside < _BARE_SHARE * values.total() or len(labels) > 1 + values.total() // 2:
        return None
    if not all(_BARE_LABEL.fullmatch(label) and len(label) > 1 for label in labels):
        return None
    if any(has_letter(label) or _LETTERED.fullmatch(label) for label in labels):
        return None
    if any(label[0] == "I" and f"B{label[1:]}" in labels for label in labels):  # BPER, IPER
        return None
    entities = _entities(ALL_SCHEMES["bare"], cells)
    return Tags("bare", None, entities, frozenset(labels), "labels without B- and I-")


def has_letter(label: str) -> bool:
    """Whether a label is a tag with a letter, in any spelling."""
    return any(_is_tag(spelling.standard(label)) for spelling in SPELLINGS.values())


def _tags(tags: Sequence[Sequence[str]], spelling: Optional[str]) -> Optional[Tags]:
    """The scheme that tags in the standard spelling break least; None if most are none of it.

    Of schemes that are broken equally, the first of `SCHEMES`: what is BIO may be BIOS as well.
    """
    n_tags = sum(map(len, tags))
    faults = {name: _faults(scheme, tags) for name, scheme in SCHEMES.items()}
    name = min(faults, key=lambda name: sum(faults[name]))
    if 2 * faults[name][0] >= n_tags:
        return None
    scheme = SCHEMES[name]
    letters = {tag.partition("-")[0] for sentence in tags for tag in sentence if scheme.has(tag)}
    begun = sorted(f"{letter}-" for letter in letters - {OUTSIDE})
    why = f"tags with {', '.join(begun)}" if begun else "tags that are all O"
    if name == "iob1":
        why += ", of which I- begins entities"
    if spelling is not None:
        why += f", spelled {spelling}"
    entities = _entities(scheme, tags)
    return Tags(name, spelling, entities, frozenset(label for *_, label in entities), why)


def _entities(scheme: Scheme, tags: Sequence[Sequence[str]]) -> FrozenSet[Tuple[int, int, int, str]]:
    return frozenset(
        (number, *span)
        for number, sentence in enumerate(tags)
        for span in scheme.read(_known(scheme, sentence), _ignore)
    )


def _known(scheme: Scheme, sentence: Sequence[str]) -> Sequence[str]:
    return [tag if scheme.has(tag) else OUTSIDE for tag in sentence]


def _ignore(i: int, what: str, fix: str, kind: str) -> None:
    """Take the obvious reading."""


def _faults(scheme: Scheme, sentences: Sequence[Sequence[str]]) -> Tuple[int, int]:
    """How many tags are none of the scheme, and how often the others break it."""
    n_unknown = n_broken = 0

    def complain(i: int, what: str, fix: str, kind: str) -> None:
        nonlocal n_broken
        n_broken += 1

    for sentence in sentences:
        known = _known(scheme, sentence)
        n_unknown += sum(tag != "" and tag != mine for tag, mine in zip(sentence, known))
        scheme.read(known, complain)
    return n_unknown, n_broken
