"""From docs to lattices: which tags each token may take, in training and in decoding.

Whitespace tokens are not part of the CRF's sequence: their rows are empty. An entity may run over them, but
neither begins nor ends there.
"""

from math import inf
from typing import Collection, List, Mapping, NamedTuple, Optional, Sequence

import numpy
from numpy.typing import NDArray
from spacy.attrs import ENT_IOB, ENT_TYPE, IS_SPACE, SENT_START
from spacy.tokens import Doc, Span
from spacy.training import Example
from spacy.util import filter_spans

from spacy_crf_ner.crf.chain import Lattice
from spacy_crf_ner.labels import BioTags
from spacy_crf_ner.messages import listed, quote
from spacy_crf_ner.ner.gazetteer import Match
from spacy_crf_ner.ner.phrase_states import Bonus
from spacy_crf_ner.tagging import BIO, to_bio

MISSING, OUTSIDE, BEGIN = 0, 2, 3
SET = (1, BEGIN)
"""Values of token.ent_iob; `SET` are I and B, which an earlier component left."""


def words_of(doc: Doc) -> NDArray[numpy.bool_]:
    """Which tokens are part of the CRF's sequence: all but whitespace. *Shape:* (n_tokens,)."""
    return doc.to_array(IS_SPACE) == 0


def blocked_tokens(doc: Doc) -> List[int]:
    """The tokens that no entity may have: B without a label."""
    ent_iob, ent_type = doc.to_array([ENT_IOB, ENT_TYPE]).T
    return numpy.flatnonzero((ent_iob == BEGIN) & (ent_type == 0)).tolist()


def gold_lattice(example: Example, labels: Sequence[str]) -> Lattice:
    """What the gold annotation lets each token of the predicted doc be.

    example (Example): The example. Tokens whose annotation is missing or does not align may be anything.
    labels (Sequence[str]): The model's labels, in order.
    RETURNS (Lattice): *Shape:* (n_tokens of the predicted doc, n_tags).
    RAISES (ValueError): A gold entity's label is not among the labels.
    """
    words = words_of(example.predicted)
    aligned = example.get_aligned_ner()
    lattice: Lattice = numpy.zeros((len(words), BioTags(len(labels)).size), dtype=bool)
    # Whitespace goes first: what began on it begins on the next word.
    lattice[words] = tag_lattice([aligned[i] for i in numpy.flatnonzero(words)], labels)
    return lattice


def tag_lattice(tags: Sequence[Optional[str]], labels: Sequence[str]) -> Lattice:
    """Which BIO tags each token may take under partly known annotation.

    A known token may take only its own tag, an unknown one all; but no entity runs on into an unknown token from
    one that BILUO says ends before it.

    tags (Sequence[Optional[str]]): Tags as `tagging.to_bio` takes them.
    labels (Sequence[str]): The model's labels, in order.
    RETURNS (Lattice): *Shape:* (len(tags), n_tags).
    RAISES (ValueError): A tag is of no supported scheme, or its label is not among the model's.
    """
    bio = BioTags(len(labels))
    index = {tag: i for i, tag in enumerate(bio.names(labels))}
    lattice: Lattice = numpy.zeros((len(tags), bio.size), dtype=bool)
    closed = False
    for row, given, tag in zip(lattice, tags, to_bio(tags)):
        if tag is None:
            row[:] = bio.legal_starts if closed else True
        elif tag in index:
            row[index[tag]] = True
        else:
            raise ValueError(
                f"label {quote(BIO.split(tag)[1])} is not among the labels [{listed(labels)}]; "
                "add it with add_label() or initialize the pipe with all labels"
            )
        closed = tag is not None and given is not None and given[0] in "LU"
    return lattice


def free_lattice(doc: Doc, labels: Sequence[str], inactive_labels: Collection[str] = ()) -> Lattice:
    """Every word may have any tag, but of some labels.

    doc (Doc): The doc.
    labels (Sequence[str]): The model's labels, in order.
    inactive_labels (Collection[str]): Labels that no word may have.
    RETURNS (Lattice): *Shape:* (n_tokens, n_tags).
    """
    return numpy.where(words_of(doc)[:, None], _active(labels, inactive_labels), False)


def _active(labels: Sequence[str], inactive_labels: Collection[str]) -> NDArray[numpy.bool_]:
    """The tags of all labels but the inactive ones. *Shape:* (n_tags,)."""
    tags = BioTags(len(labels))
    active = numpy.ones(tags.size, dtype=bool)
    for label in inactive_labels:
        i = labels.index(label)
        active[[tags.begin(i), tags.inside(i)]] = False
    return active


class Constraints(NamedTuple):
    """What is known of a doc before it is decoded.

    lattice (Lattice): *Shape:* (n_tokens, n_tags): which tags each token may have. That of whitespace is empty.
    bonuses (List[Bonus]): What phrases are worth, in words of the doc.
    words (ndarray): *Shape:* (n_words,), int64: the tokens that are words.
    is_set (ndarray): *Shape:* (n_tokens,), bool: where entities are set on the doc already, or blocked.
    """

    lattice: Lattice
    bonuses: List[Bonus]
    words: NDArray[numpy.int64]
    is_set: NDArray[numpy.bool_]


def constraints(
    doc: Doc, matches: Sequence[Match], labels: Sequence[str], inactive_labels: Collection[str] = ()
) -> Constraints:
    """What each token may be, given what is set on the doc already and what the gazetteer says.

    Entities that are set stay, blocked tokens have none, and no entity runs on from the word before into what is
    set, out of it, or over a sentence's start. Where some words' annotation is missing, the O of the others is
    taken as set too (`Doc.set_ents` with ``outside`` or ``missing``); where none is, O is what components write
    for whatever they have not marked, and stays open.

    doc (Doc): The doc.
    matches (Sequence[Match]): Phrases in it, their labels among `labels`. Hard ones that touch what is set, or run
        over a sentence's start, are passed over; of the others that overlap, the longest stays, and of two that
        are as long the earlier.
    labels (Sequence[str]): The model's labels, in order.
    inactive_labels (Collection[str]): Labels that no open token may have.
    RETURNS (Constraints): The lattice and the bonuses.
    """
    words = words_of(doc)
    ent_iob, sent_start = doc.to_array([ENT_IOB, SENT_START]).T
    lattice: Lattice = numpy.where(words[:, None], _active(labels, inactive_labels), False)
    is_set = numpy.isin(ent_iob, SET)
    known_outside = numpy.zeros(len(doc), dtype=bool)
    if (ent_iob[words] == MISSING).any():
        known_outside = ent_iob == OUTSIDE
        lattice[words & known_outside, 1:] = False
    applicable = (
        Span(doc, start, end, label=label)
        for start, end, label, rule, _ in matches
        if rule == "hard"
        and not (is_set | known_outside)[start:end].any()
        and not (sent_start[start + 1 : end] == 1).any()
    )
    fixed = is_set.copy()
    tags = BioTags(len(labels))
    index = {label: i for i, label in enumerate(labels)}
    for span in [*doc.ents, *filter_spans(applicable)]:
        fixed[span.start : span.end] = True
        inside = span.start + numpy.flatnonzero(words[span.start : span.end])
        lattice[inside] = False
        if span.label_ in index:
            lattice[inside[:1], tags.begin(index[span.label_])] = True
            lattice[inside[1:], tags.inside(index[span.label_])] = True
        else:
            # A label that the model does not know looks like O to its neighbours.
            lattice[inside, 0] = True
    for i in blocked_tokens(doc):
        lattice[i, 1:] = False
    fresh = ~fixed & ((sent_start == 1) | numpy.roll(fixed, 1) | (known_outside & ~words))
    for i in numpy.flatnonzero(fresh).tolist():
        following = i + int(words[i:].argmax())  # whitespace passes the bar on to the next word
        if not fixed[following]:
            lattice[following, tags.is_inside] = False
    bonuses = _bonuses(matches, lattice[words], words, index)
    return Constraints(lattice, bonuses, numpy.flatnonzero(words), is_set)


def _bonuses(
    matches: Sequence[Match], rows: Lattice, words: NDArray[numpy.bool_], index: Mapping[str, int]
) -> List[Bonus]:
    """What phrases are worth.

    matches (Sequence[Match]): The matches of a doc. Hard ones are in its lattice already.
    rows (Lattice): *Shape:* (n_words, n_tags): the doc's lattice.
    words (ndarray): *Shape:* (n_tokens,), bool: which tokens are words.
    index (Mapping[str, int]): The labels' places.
    RETURNS (List[Bonus]): A ban for a never match, of each label if it names none; none for spans that are
        entities in every hypothesis that the lattice allows.
    """
    tags = BioTags(len(index))
    before = words.cumsum() - words
    found: List[Bonus] = []
    for match in matches:
        start, end = int(before[match.start]), int(before[match.end - 1]) + 1
        if match.rule == "hard" or _is_certain(tags, rows[start:end], rows[end : end + 1]):
            continue
        weight = match.weight if match.rule == "soft" else -inf
        for i in [index[match.label]] if match.label else range(len(index)):
            # A label that cannot begin here needs neither.
            if rows[start, tags.begin(i)]:
                found.append(Bonus(start, end, i, weight))
    return found


def _is_certain(tags: BioTags, rows: Lattice, after: Lattice) -> bool:
    """Whether a span is an entity in every hypothesis that the lattice allows: it is set, or a hard phrase.

    rows (Lattice): *Shape:* (n_words of the span, n_tags).
    after (Lattice): *Shape:* (1, n_tags), of the word after it; (0, n_tags) at the doc's end.
    """
    first = int(rows[0].argmax())
    inside = tags.inside(tags.label_of(first))
    certain = tags.is_begin[first] and (rows.sum(axis=1) == 1).all() and rows[1:, inside].all()
    return bool(certain and not after[:, inside].any())
