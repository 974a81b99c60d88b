from collections import Counter
from itertools import product
from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.scheme import BILOU, IOB1, IOB2, IOBES, Entities
from spacy.training.iob_utils import tags_to_entities

from spacy_crf_ner.formats.errors import FormatError
from spacy_crf_ner.labels import LabeledSpan
from spacy_crf_ner.tagging import (
    BIO,
    EMPTY_TAG,
    REPAIRS,
    SCHEMES,
    STRAY_BEGIN,
    STRAY_INSIDE,
    UNCLOSED,
    Scheme,
    to_bio,
)
from tests.formats.reading import found_in, put

LABELS = ["PER", "PER.NAM", "creative-work", "-", "I-PER", "人名"]

all_schemes = pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)


class Outcome(NamedTuple):
    """What was read off some tags, and the token and kind of each complaint."""

    spans: List[LabeledSpan]
    complaints: List[Tuple[int, str]]


def outcome_of(scheme: Scheme, tags: Sequence[str]) -> Outcome:
    complaints: List[Tuple[int, str]] = []
    spans = scheme.read(tags, lambda i, what, fix, kind: complaints.append((i, kind)))
    return Outcome(spans, complaints)


def sequences(scheme: Scheme, longest: int) -> List[Tuple[str, ...]]:
    """All sequences of tags of two types."""
    tags = ["O", *(f"{prefix}-{label}" for prefix in scheme.prefixes for label in "AB")]
    return [sequence for length in range(longest + 1) for sequence in product(tags, repeat=length)]


@st.composite
def sentences(draw: st.DrawFn) -> Tuple[int, List[LabeledSpan]]:
    """A length, and entities that may touch."""
    spans: List[LabeledSpan] = []
    end = 0
    for gap, length, label in draw(
        st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4), st.sampled_from(LABELS)), max_size=6)
    ):
        spans.append((end + gap, end + gap + length, label))
        end += gap + length
    return end + draw(st.integers(0, 2)), spans


@all_schemes
@given(sentence=sentences())
def test_entities_survive_as_tags(scheme: Scheme, sentence: Tuple[int, List[LabeledSpan]]) -> None:
    length, spans = sentence
    tags = scheme.write(length, spans)
    assert len(tags) == length
    assert outcome_of(scheme, tags) == (spans, [])


@all_schemes
def test_legal_is_what_would_be_written(scheme: Scheme) -> None:
    """Whatever else stands in a file is complained of, and no entity of it is lost."""
    for tags in sequences(scheme, 4 if len(scheme.prefixes) < 4 else 3):
        spans, complaints = outcome_of(scheme, tags)
        assert (scheme.write(len(tags), spans) == list(tags)) == (not complaints), tags
        covered = [i for start, end, _ in spans for i in range(start, end)]
        assert covered == [i for i, tag in enumerate(tags) if tag != "O"]
        assert all(tags[i].endswith(f"-{label}") for start, end, label in spans for i in range(start, end))
        assert all(0 <= i < len(tags) and kind in REPAIRS for i, kind in complaints)


def test_to_bio_makes_of_bio_what_its_reader_makes_of_it() -> None:
    for tags in sequences(BIO, 4):
        spans, complaints = outcome_of(BIO, tags)
        corrected = [tag or "" for tag in to_bio(tags)]
        assert outcome_of(BIO, corrected) == (spans, [])
        assert (corrected == list(tags)) == (not complaints)


@given(sentences())
def test_biluo_becomes_the_same_bio(sentence: Tuple[int, List[LabeledSpan]]) -> None:
    length, spans = sentence
    tags = BIO.write(length, spans)
    assert to_bio(SCHEMES["biluo"].write(length, spans)) == tags
    assert to_bio(tags) == tags


@pytest.mark.parametrize(
    "tags, bio",
    [
        (["I-LOC", "I-LOC", "B-LOC", "I-LOC"], ["B-LOC", "I-LOC", "B-LOC", "I-LOC"]),  # IOB1
        (["O", "I-LOC", "I-ORG"], ["O", "B-LOC", "B-ORG"]),
        (["U-LOC", "I-LOC"], ["B-LOC", "B-LOC"]),  # a unit is closed
        (["B-LOC", "L-LOC", "L-LOC"], ["B-LOC", "I-LOC", "B-LOC"]),
        (["B-LOC", None, "L-LOC"], ["B-LOC", None, "I-LOC"]),  # the gap may be inside
        (["-", "", "O"], [None, None, "O"]),
    ],
)
def test_to_bio_normalises_each_scheme(tags: List[Optional[str]], bio: List[Optional[str]]) -> None:
    assert to_bio(tags) == bio


@pytest.mark.parametrize("tag", ["X-LOC", "B", "B-", "LOC", "b-LOC", "BLOC", " O"])
def test_to_bio_refuses_other_tags_by_name(tag: str) -> None:
    with pytest.raises(ValueError, match="write O, or B-, I-, L- or U- before a label") as error:
        to_bio([tag])
    assert repr(tag) in str(error.value)


def test_labels_may_hold_hyphens_and_dots() -> None:
    assert BIO.split("B-PER.NAM-x") == ("B", "PER.NAM-x")


def test_legal_biluo_agrees_with_spacy() -> None:
    biluo = SCHEMES["biluo"]
    for tags in sequences(biluo, 3):
        spans, complaints = outcome_of(biluo, tags)
        if not complaints:
            assert [(label, start, end - 1) for start, end, label in spans] == tags_to_entities(tags)


@pytest.mark.parametrize(("name", "judge"), [("bio", IOB2), ("iob1", IOB1), ("bioes", IOBES), ("biluo", BILOU)])
def test_legal_tags_agree_with_seqeval(name: str, judge: type) -> None:
    legal = [tags for tags in sequences(SCHEMES[name], 3) if not outcome_of(SCHEMES[name], tags).complaints]
    assert len(legal) > 20
    for tags, entities in zip(legal, Entities([list(tags) for tags in legal], judge).entities):
        assert outcome_of(SCHEMES[name], tags).spans == [(e.start, e.end, e.tag) for e in entities]


@pytest.mark.parametrize(
    ("name", "letters"), [("biluo", {"L": "E", "U": "S"}), ("bmes", {"M": "I"})], ids=["biluo", "bmes"]
)
def test_schemes_that_differ_in_letters_alone(name: str, letters: "dict[str, str]") -> None:
    for tags in sequences(SCHEMES[name], 3):
        as_bioes = [letters.get(tag[0], tag[0]) + tag[1:] for tag in tags]
        assert outcome_of(SCHEMES[name], tags) == outcome_of(SCHEMES["bioes"], as_bioes)


BREAKS = [
    ("bio", "O I-A", 2, "'I-A' continues no A entity: it follows", "'B-A'", [STRAY_INSIDE], [(1, 2, "A")]),
    ("bio", "I-A I-A", 1, "continues no A entity: it begins the", "'B-A'", [STRAY_INSIDE], [(0, 2, "A")]),
    ("bio", "B-A I-B", 2, "'I-B' continues no B", "'B-B'", [STRAY_INSIDE], [(0, 1, "A"), (1, 2, "B")]),
    ("iob1", "O B-A", 2, "'B-A' does not follow another A", "'I-A'", [STRAY_BEGIN], [(1, 2, "A")]),
    ("iob1", "B-A I-A", 1, "does not follow", "'I-A'", [STRAY_BEGIN], [(0, 2, "A")]),
    ("iob1", "I-B B-A", 2, "does not follow", "'I-A'", [STRAY_BEGIN], [(0, 1, "B"), (1, 2, "A")]),
    ("bios", "B-A O", 1, "A entity of this single token is not tagged 'S-A'", "'S-A'", [UNCLOSED], [(0, 1, "A")]),
    ("bios", "O B-A", 2, "not tagged 'S-A'", "'S-A'", [UNCLOSED], [(1, 2, "A")]),
    ("bios", "S-A I-A I-A", 2, "'I-A' continues no A entity: it follows 'S-A'", "'B-A'", [STRAY_INSIDE],
     [(0, 1, "A"), (1, 3, "A")]),
    ("bioes", "B-A O", 1, "not tagged 'S-A'", "'S-A'", [UNCLOSED], [(0, 1, "A")]),
    ("bioes", "O E-A", 2, "'E-A' continues no A entity", "'S-A'", [STRAY_INSIDE], [(1, 2, "A")]),
    ("bioes", "I-A E-A", 1, "'I-A' continues no A entity", "'B-A'", [STRAY_INSIDE], [(0, 2, "A")]),
    ("bioes", "B-A I-A", 2, "the A entity that ends here has no 'E-A'", "'E-A'", [UNCLOSED], [(0, 2, "A")]),
    ("bioes", "B-A I-A O", 2, "has no 'E-A'", "'E-A'", [UNCLOSED], [(0, 2, "A")]),
    ("bioes", "B-A I-A S-B", 2, "has no 'E-A'", "'E-A'", [UNCLOSED], [(0, 2, "A"), (2, 3, "B")]),
    ("bioes", "B-A E-A E-A", 3, "'E-A' continues no A entity: it follows 'E-A'", "'S-A'", [STRAY_INSIDE],
     [(0, 2, "A"), (2, 3, "A")]),
    ("bioes", "B-A I-A E-B", 2, "has no 'E-A'", "'E-A'", [UNCLOSED, STRAY_INSIDE], [(0, 2, "A"), (2, 3, "B")]),
    ("bioes", "E-A E-A", 1, "it begins the sentence", "'S-A'", [STRAY_INSIDE] * 2, [(0, 1, "A"), (1, 2, "A")]),
    ("bioes", "O I-A O", 2, "'I-A' continues no A", "'B-A'", [STRAY_INSIDE, UNCLOSED], [(1, 2, "A")]),
    ("biluo", "O L-A", 2, "'L-A' continues no A entity", "'U-A'", [STRAY_INSIDE], [(1, 2, "A")]),
    ("biluo", "B-A I-A", 2, "has no 'L-A'", "'L-A'", [UNCLOSED], [(0, 2, "A")]),
    ("bmes", "O M-A E-A", 2, "'M-A' continues no A entity", "'B-A'", [STRAY_INSIDE], [(1, 3, "A")]),
    ("bmes", "B-A M-A", 2, "has no 'E-A'", "'E-A'", [UNCLOSED], [(0, 2, "A")]),
    ("bmes", "B-A", 1, "not tagged 'S-A'", "'S-A'", [UNCLOSED], [(0, 1, "A")]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "tags", "token", "what", "fix", "kinds", "spans"), BREAKS)
def test_what_breaks_a_scheme_is_refused_or_mended_and_counted(
    tmp_path: Path,
    name: str,
    tags: str,
    token: int,
    what: str,
    fix: str,
    kinds: List[str],
    spans: List[LabeledSpan],
) -> None:
    rows = "".join(f"中 {tag}\n" for tag in tags.split())
    path = put(tmp_path, f"中 O\n\n{rows}\n中 O\n")
    with pytest.raises(FormatError) as caught:
        found_in(path, format=name)
    assert caught.value.line == token + 2
    assert what in caught.value.what
    assert caught.value.fix == f"write {fix}, or let --repair correct it"
    assert str(caught.value) == f"{path}:{token + 2}: {caught.value.what}; {caught.value.fix}"
    found = found_in(path, format=name, repair=True)
    assert found.ents == [[], spans, []]
    assert +found.counts.notes == Counter(kinds)


def test_entity_ends_with_its_sentence(tmp_path: Path) -> None:
    path = put(tmp_path, "中 B-A\n\n国 I-A\n")
    with pytest.raises(FormatError, match=r":3: .*begins the sentence"):
        found_in(path, format="bio")
    found = found_in(path, format="bio", repair=True)
    assert found.ents == [[(0, 1, "A")], [(0, 1, "A")]]
    assert +found.counts.notes == {STRAY_INSIDE: 1}


@all_schemes
def test_empty_tag_is_refused_or_is_outside(tmp_path: Path, scheme: Scheme) -> None:
    path = put(tmp_path, "中\tO\n国\t\n")
    with pytest.raises(FormatError, match=r":2: token '国' has an empty tag; write O .*--repair"):
        found_in(path, format=scheme.name)
    found = found_in(path, format=scheme.name, repair=True)
    assert (found.texts, found.ents, +found.counts.notes) == (["中国"], [[]], {EMPTY_TAG: 1})


def test_empty_tag_ends_an_entity(tmp_path: Path) -> None:
    path = put(tmp_path, "中\tB-A\n国\t\n人\tI-A\n")
    found = found_in(path, format="bio", repair=True)
    assert found.ents == [[(0, 1, "A"), (2, 3, "A")]]
    assert +found.counts.notes == {EMPTY_TAG: 1, STRAY_INSIDE: 1}


@pytest.mark.parametrize(
    ("name", "tag", "others"),
    [
        ("bio", "E-A", "bioes or bmes or bmewo"),
        ("bio", "S-A", "bios or bioes or bmes"),
        ("bio", "L-A", "biluo"),
        ("bio", "M-A", "bmes or bmewo"),
        ("bios", "U-A", "biluo"),
        ("bmes", "I-A", "bio or iob1 or bios or bioes or biluo"),
        ("iob1", "S-A", "bios or bioes or bmes"),
    ],
)
@pytest.mark.parametrize("repair", [False, True])
def test_prefix_of_another_scheme_names_the_schemes_that_have_it(
    tmp_path: Path, name: str, tag: str, others: str, repair: bool
) -> None:
    path = put(tmp_path, f"中 O\n国 {tag}\n")
    with pytest.raises(FormatError, match=r":2: .*; write O, or .*another --format") as caught:
        found_in(path, format=name, repair=repair)
    assert caught.value.what == f"tag '{tag}' has the unknown prefix {tag[:2]} (of {others}, not of {name})"


@all_schemes
@pytest.mark.parametrize("tag", ["A", "o", "B", "B-", "-", "-A", "B_A", "b-A", "X-A", "O-A", "B-a b", "B-\u3000"])
def test_what_is_no_tag(scheme: Scheme, tag: str) -> None:
    with pytest.raises(ValueError, match=f"^is not a tag of {scheme.name}$"):
        scheme.split(tag)


@all_schemes
@pytest.mark.parametrize("label", LABELS)
def test_type_may_hold_hyphens_and_dots(scheme: Scheme, label: str) -> None:
    for prefix in scheme.prefixes:
        assert scheme.split(f"{prefix}-{label}") == (prefix, label)
