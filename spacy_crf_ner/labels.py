"""Entity types <-> BIO tags <-> spans, and which tag may follow which.

Every other tagging scheme (BILUO, IOB1, IOB2 with gaps) is normalised to BIO here and nowhere else.
The tag inventory of `n` entity types is ``O, B-1, I-1, B-2, I-2, ...``: a type that is added later
appends two tags and moves none, so a trained model can grow.
"""

from typing import Iterable, List, Optional, Sequence, Tuple

import numpy
from numpy.typing import NDArray

from spacy_crf_ner.messages import listed, quote

OUTSIDE = "O"
MISSING = frozenset({None, "", "-"})
"""What spaCy writes for a token whose annotation is unknown."""

Span = Tuple[int, int, str]
"""(start, end, entity type): token offsets, the end exclusive."""

_PREFIXES = {"B": "B", "I": "I", "L": "I", "U": "B"}


def bio_tags(types: Sequence[str]) -> Tuple[str, ...]:
    """The tag inventory of some entity types, in the order of the model's outputs.

    types (Sequence[str]): Entity types, in order.
    RETURNS (Tuple[str, ...]): ``2 * len(types) + 1`` tags, "O" first.
    """
    return (OUTSIDE, *(f"{prefix}-{label}" for label in types for prefix in "BI"))


def n_tags(n_types: int) -> int:
    """The number of BIO tags of `n_types` entity types."""
    return 2 * n_types + 1


def legal_starts(n_types: int) -> NDArray[numpy.bool_]:
    """Which tags may begin a sequence: all but I-.

    RETURNS (ndarray): *Shape:* (n_tags,), bool.
    """
    legal = numpy.ones(n_tags(n_types), dtype=bool)
    legal[2::2] = False
    return legal


def legal_transitions(n_types: int) -> NDArray[numpy.bool_]:
    """Which tag may follow which: I-X follows B-X and I-X alone, all else is free.

    RETURNS (ndarray): *Shape:* (n_tags, n_tags), bool; entry ``[i, j]`` is the step from tag i to tag j.
    """
    legal = numpy.tile(legal_starts(n_types), (n_tags(n_types), 1))
    for inside in range(2, n_tags(n_types), 2):
        legal[inside - 1 : inside + 1, inside] = True
    return legal


def continues(n_types: int) -> NDArray[numpy.bool_]:
    """Which tag goes on with an entity: I-X after B-X and I-X.

    RETURNS (ndarray): *Shape:* (n_tags, n_tags), bool; entry ``[i, j]`` is of tag j after tag i.
    """
    return legal_transitions(n_types) & ~legal_starts(n_types)


def split_tag(tag: str) -> Tuple[str, str]:
    """Split a tag of any supported scheme into prefix and entity type.

    tag (str): "O", or one of B-X, I-X, L-X, U-X. The type may hold further hyphens and dots.
    RETURNS (Tuple[str, str]): ("O", "") or (prefix, type).
    RAISES (ValueError): The tag is none of these.
    """
    if tag == OUTSIDE:
        return OUTSIDE, ""
    prefix, hyphen, label = tag.partition("-")
    if prefix not in _PREFIXES or not hyphen or not label:
        raise ValueError(f"unknown tag {quote(tag)}; expected O, or one of B- I- L- U- before an entity type")
    return prefix, label


def to_bio(tags: Iterable[Optional[str]]) -> List[Optional[str]]:
    """Normalise a BILUO, IOB1 or IOB2 sequence to BIO.

    An I- or L- that continues no entity of its own type begins one, as in IOB1. After a token of unknown
    annotation it stays I-, since the entity may have begun there.

    tags (Iterable[Optional[str]]): One sequence; None, "" and "-" mark unknown annotation.
    RETURNS (List[Optional[str]]): BIO tags, None where the annotation is unknown.
    RAISES (ValueError): A tag is of no supported scheme.
    """
    bio: List[Optional[str]] = []
    running: Optional[str] = ""  # the type that an I- here would continue; None: unknown
    for tag in tags:
        if tag in MISSING:
            bio.append(None)
            running = None
            continue
        assert tag is not None
        prefix, label = split_tag(tag)
        if prefix == OUTSIDE:
            bio.append(OUTSIDE)
            running = ""
            continue
        continues = _PREFIXES[prefix] == "I" and running in (label, None)
        bio.append(f"{'I' if continues else 'B'}-{label}")
        running = "" if prefix in "LU" else label
    return bio


def tags_to_spans(tags: Sequence[str]) -> List[Span]:
    """Read the entities off a BIO sequence.

    tags (Sequence[str]): A legal BIO sequence without unknown annotation.
    RETURNS (List[Span]): Entities in order of their start.
    RAISES (ValueError): The sequence breaks the scheme: `to_bio` mends such input.
    """
    spans: List[Span] = []
    start, running = 0, ""
    for i, tag in enumerate((*tags, OUTSIDE)):
        prefix, label = split_tag(tag)
        if prefix == "I" and label == running:
            continue
        if prefix not in (OUTSIDE, "B"):
            raise ValueError(f"tag {quote(tag)} at position {i} continues no entity of its type")
        if running:
            spans.append((start, i, running))
        start, running = i, label
    return spans


def spans_to_tags(length: int, spans: Iterable[Span]) -> List[str]:
    """Write entities as BIO tags; the inverse of `tags_to_spans`.

    length (int): Number of tokens.
    spans (Iterable[Span]): Entities that do not overlap, in any order.
    RETURNS (List[str]): One tag a token.
    RAISES (ValueError): A span is empty, leaves the sequence, overlaps another or has no type.
    """
    tags = [OUTSIDE] * length
    for start, end, label in spans:
        if not label or not 0 <= start < end <= length:
            raise ValueError(f"span ({start}, {end}, {quote(label)}) does not fit a sequence of {length} tokens")
        if any(tag != OUTSIDE for tag in tags[start:end]):
            raise ValueError(f"span ({start}, {end}, {quote(label)}) overlaps another")
        tags[start:end] = [f"B-{label}"] + [f"I-{label}"] * (end - start - 1)
    return tags


def tag_lattice(tags: Sequence[Optional[str]], types: Sequence[str]) -> NDArray[numpy.bool_]:
    """Which BIO tags each token may take under partly known annotation.

    A known token may take its own tag alone, an unknown one all; but no entity runs on into an unknown token
    from one that BILUO says ends before it.

    tags (Sequence[Optional[str]]): Tags as `to_bio` takes them.
    types (Sequence[str]): The model's entity types, in order.
    RETURNS (ndarray): *Shape:* (len(tags), n_tags), bool.
    RAISES (ValueError): A tag is of no supported scheme, or its type is not among the model's.
    """
    index = {tag: i for i, tag in enumerate(bio_tags(types))}
    lattice = numpy.zeros((len(tags), len(index)), dtype=bool)
    closed = False
    for row, given, tag in zip(lattice, tags, to_bio(tags)):
        if tag is None:
            row[:] = True
            if closed:
                row[2::2] = False
        elif tag in index:
            row[index[tag]] = True
        else:
            raise ValueError(
                f"entity type {quote(split_tag(tag)[1])} is not among the labels [{listed(types)}]; "
                "add it with add_label() or initialize the pipe with all labels"
            )
        closed = tag is not None and given is not None and given[0] in "LU"
    return lattice
