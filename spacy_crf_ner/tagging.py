"""Tagging schemes: the tags of a sentence <-> its entities.

Each is read strictly, for a tag that breaks its scheme mostly means that the file is of another. What breaks it
and still has one obvious reading can be corrected instead.

Sources: Ramshaw and Marcus (1995) for IOB1; Ratnaparkhi (1998) and Tjong Kim Sang and Veenstra (1999) for BIO
(IOB2) and its kin; Ratinov and Roth (2009) for BILUO, which differs from BIOES only in the letters, as BMES does.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Callable, Dict, Iterable, List, Optional, Sequence, Tuple

from spacy_crf_ner.labels import OUTSIDE, LabeledSpan
from spacy_crf_ner.messages import quote, short

EMPTY_TAG = "empty tag is O"
STRAY_INSIDE = "a stray tag begins an entity"
UNCLOSED = "an entity without its end ends there"
STRAY_BEGIN = "B- begins an entity where I- would do"
REPAIRS = (EMPTY_TAG, STRAY_INSIDE, UNCLOSED, STRAY_BEGIN)
"""The kinds of corrections that `Scheme.read` can make, and that of an empty tag, which `rows` can."""

Complain = Callable[[int, str, str, str], None]
"""Called with the token's index, what is wrong, what to do about it, and which of `REPAIRS` would correct it. It
raises an error or, where the correction is wanted, returns."""


@dataclass(frozen=True, eq=False)  # each is one of a kind; so its hash is fast
class Scheme:
    """One tagging scheme.

    name (str): Its name.
    begin, inside (str): The letters of an entity's first token and of those within.
    last, single (Optional[str]): The letters of the last token and of one that is a whole entity; None where the
        scheme has none.
    implicit (bool): IOB1: an entity begins with I-, and with B- only where it follows another of its label.
    """

    name: str
    begin: str = "B"
    inside: str = "I"
    last: Optional[str] = None
    single: Optional[str] = None
    implicit: bool = False

    @property
    def prefixes(self) -> Tuple[str, ...]:
        """All its letters."""
        return tuple(filter(None, (self.begin, self.inside, self.last, self.single)))

    @lru_cache(maxsize=1024)  # noqa: B019 - the schemes are few and live as long as the module
    def split(self, tag: str) -> Tuple[str, str]:
        """Split a tag.

        tag (str): "O", or a letter of the scheme, a hyphen and a label, which may hold hyphens and dots.
        RETURNS (Tuple[str, str]): ("O", "") or (letter, label).
        RAISES (ValueError): It is not a tag of this scheme; the message goes on from it.
        """
        if tag == OUTSIDE:
            return OUTSIDE, ""
        prefix, hyphen, label = tag.partition("-")
        if hyphen and label and not any(map(str.isspace, label)):
            if prefix in self.prefixes:
                return prefix, label
            if others := [scheme.name for scheme in SCHEMES.values() if prefix in scheme.prefixes]:
                raise ValueError(
                    f"has the unknown prefix {prefix}- (of {' or '.join(others)}, not of {self.name})"
                )
        raise ValueError(f"is not a tag of {self.name}")

    def has(self, tag: str) -> bool:
        """Whether a tag is one of this scheme."""
        try:
            self.split(tag)
        except ValueError:
            return False
        return True

    def read(self, tags: Sequence[str], complain: Complain) -> List[LabeledSpan]:
        """Read the entities off the tags of a sentence.

        tags (Sequence[str]): Tags that `split` takes.
        complain (Complain): What to do with a tag that breaks the scheme.
        RETURNS (List[LabeledSpan]): The entities, in order.
        RAISES (ValueError): A tag is not of this scheme.
        """
        spans: List[LabeledSpan] = []
        start, running = 0, ""

        def close(end: int, *, whole: bool) -> None:
            nonlocal running
            if running:
                if not whole:
                    self._check_end(end - start, end - 1, running, complain)
                spans.append((start, end, running))
            running = ""

        for i, tag in enumerate(tags):
            letter, label = self.split(tag)
            if letter == OUTSIDE:
                close(i, whole=False)
            elif letter in (self.inside, self.last) and label == running:
                if letter == self.last:
                    close(i + 1, whole=True)
            else:
                adjacent = label == running
                close(i, whole=False)
                start, running = i, label
                if letter == self.begin:
                    if self.implicit and not adjacent:
                        what = f"tag {quote(tag)} does not follow another {short(label)} entity"
                        complain(i, what, f"write '{self.inside}-{short(label)}'", STRAY_BEGIN)
                elif letter in (self.inside, self.last) and not self.implicit:
                    where = f"it follows {quote(tags[i - 1])}" if i else "it begins the sentence"
                    what = f"tag {quote(tag)} continues no {short(label)} entity: {where}"
                    first = self.single if letter == self.last and self.single else self.begin
                    complain(i, what, f"write '{first}-{short(label)}'", STRAY_INSIDE)
                if letter in (self.single, self.last):
                    close(i + 1, whole=True)
        close(len(tags), whole=False)
        return spans

    def write(self, length: int, spans: Iterable[LabeledSpan]) -> List[str]:
        """Write entities as tags; the inverse of `read`.

        length (int): Number of tokens.
        spans (Iterable[LabeledSpan]): Entities in order that do not overlap.
        RETURNS (List[str]): One tag per token.
        """
        tags = [OUTSIDE] * length
        previous_end, previous_label = 0, ""
        for start, end, label in spans:
            tags[start:end] = [f"{self.inside}-{label}"] * (end - start)
            if not self.implicit or (start, label) == (previous_end, previous_label):
                tags[start] = f"{self.begin}-{label}"
            if self.last:
                tags[end - 1] = f"{self.last}-{label}"
            if self.single and end - start == 1:
                tags[start] = f"{self.single}-{label}"
            previous_end, previous_label = end, label
        return tags

    def _check_end(self, length: int, at: int, label: str, complain: Complain) -> None:
        """Complain of an entity that does not end as the scheme wants it."""
        label = short(label)
        if self.single and length == 1:
            what = f"the {label} entity of this single token is not tagged '{self.single}-{label}'"
            complain(at, what, f"write '{self.single}-{label}'", UNCLOSED)
        elif self.last:
            what = f"the {label} entity that ends here has no '{self.last}-{label}'"
            complain(at, what, f"write '{self.last}-{label}'", UNCLOSED)


@dataclass(frozen=True, eq=False)
class BareScheme(Scheme):
    """Tags that are only a label, or "O" or "o". What is read off them cannot be written as such tags.

    adjoining (bool): Whether neighbouring tokens of one label are one entity (Few-NERD); otherwise each token is
        an entity (the units of MSRA's own files).
    """

    adjoining: bool = True

    @lru_cache(maxsize=1024)  # noqa: B019 - as above
    def split(self, tag: str) -> Tuple[str, str]:
        """As of `Scheme`: ("O", "") or (letter, label)."""
        if tag in (OUTSIDE, OUTSIDE.lower()):
            return OUTSIDE, ""
        if not tag or any(map(str.isspace, tag)):
            raise ValueError("is not a label")
        return (self.inside if self.adjoining else str(self.single)), tag


SCHEMES: Dict[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        Scheme("bio"),
        Scheme("iob1", implicit=True),
        Scheme("bios", single="S"),
        Scheme("bioes", last="E", single="S"),
        Scheme("biluo", last="L", single="U"),
        Scheme("bmes", inside="M", last="E", single="S"),
        Scheme("bmewo", inside="M", last="E", single="W"),
    )
}
"""The schemes of tags with letters, by name."""

BARE_SCHEMES: Dict[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        BareScheme("bare", implicit=True),
        BareScheme("whole", single="S", adjoining=False),
    )
}
"""Those of tags that are labels, by name."""

ALL_SCHEMES: Dict[str, Scheme] = {**SCHEMES, **BARE_SCHEMES}

BIO, BILUO = SCHEMES["bio"], SCHEMES["biluo"]

MISSING = frozenset({None, "", "-"})
"""What spaCy writes for a token whose annotation is missing."""


def to_bio(tags: Iterable[Optional[str]]) -> List[Optional[str]]:
    """Normalise a BILUO, IOB1 or IOB2 sequence with missing annotation to BIO.

    An I- or L- that continues no entity of its own label begins one, as in IOB1. After a token whose annotation is
    missing it stays I-, since the entity may have begun there.

    tags (Iterable[Optional[str]]): One sequence; None, "" and "-" are missing annotation.
    RETURNS (List[Optional[str]]): BIO tags, None where the annotation is missing.
    RAISES (ValueError): A tag is not one of these schemes.
    """
    bio: List[Optional[str]] = []
    running: Optional[str] = ""  # the label that an I- here would continue; None: unknown
    for tag in tags:
        if tag in MISSING:
            bio.append(None)
            running = None
            continue
        assert tag is not None
        try:
            letter, label = BILUO.split(tag)
        except ValueError as error:
            raise ValueError(f"tag {quote(tag)} {error}; write O, or B-, I-, L- or U- before a label") from None
        if letter == OUTSIDE:
            bio.append(OUTSIDE)
            running = ""
            continue
        continues = letter in (BILUO.inside, BILUO.last) and running in (label, None)
        bio.append(f"{BIO.inside if continues else BIO.begin}-{label}")
        running = "" if letter in (BILUO.last, BILUO.single) else label
    return bio
