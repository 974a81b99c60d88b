"""Phrases: which are found, what the rules refuse, and that they survive being saved."""

import copy
import pickle
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import pytest
import spacy
import srsly
from hypothesis import given
from hypothesis import strategies as st
from spacy.tokens import Doc

from spacy_crf_ner.ner.gazetteer import Gazetteer, Match

ZH, EN = spacy.blank("zh"), spacy.blank("en")
PATTERNS: List[Dict[str, Any]] = [
    {"label": "ORG", "pattern": "北京大学", "rule": "hard"},
    {"label": "LOC", "pattern": "北京", "rule": "soft", "weight": 1.5},
    {"label": "ORG", "pattern": "北京", "rule": "soft", "weight": -2.0},
    {"label": "", "pattern": "大学", "rule": "never"},
    {"label": "PER", "pattern": "京", "rule": "never"},
]
TEXT = "我在北京大学，他在北京。"
MATCHES = [
    Match(2, 4, "LOC", "soft", 1.5),
    Match(2, 4, "ORG", "soft", -2.0),
    Match(2, 6, "ORG", "hard", 0.0),
    Match(3, 4, "PER", "never", 0.0),
    Match(4, 6, "", "never", 0.0),
    Match(9, 11, "LOC", "soft", 1.5),
    Match(9, 11, "ORG", "soft", -2.0),
    Match(10, 11, "PER", "never", 0.0),
]


@pytest.fixture
def gazetteer() -> Gazetteer:
    made = Gazetteer(ZH.vocab)
    made.add_patterns(PATTERNS, ZH.make_doc)
    return made


def english(attr: str = "ORTH", **phrases: str) -> Gazetteer:
    """Hard phrases by label."""
    made = Gazetteer(EN.vocab, attr)
    for label, phrase in phrases.items():
        made.add(label, [EN.make_doc(phrase)])
    return made


def spans(gazetteer: Gazetteer, text: str) -> List[Tuple[str, str]]:
    doc = EN.make_doc(text)
    return [(doc[match.start : match.end].text, match.label) for match in gazetteer(doc)]


def test_phrases_are_found_under_all_their_rules_in_order(gazetteer: Gazetteer) -> None:
    assert gazetteer(ZH.make_doc(TEXT)) == MATCHES
    assert gazetteer.labels == ("LOC", "ORG", "PER")
    assert len(gazetteer) == len(PATTERNS)


def test_a_phrase_is_found_as_whole_tokens_alone() -> None:
    made = english(PER="Ann", LOC="New York City", ORG="York")
    found = [("Ann", "PER"), ("New York City", "LOC"), ("York", "ORG"), ("York", "ORG")]
    assert spans(made, "Ann saw Anna in New York City and York.") == found
    assert spans(made, "New York") == [("York", "ORG")]
    assert spans(made, "") == []


def test_an_empty_gazetteer_reads_no_doc(gazetteer: Gazetteer) -> None:
    unread: Any = object()
    assert Gazetteer(ZH.vocab)(unread) == []
    gazetteer.clear()
    assert gazetteer(unread) == []
    assert (len(gazetteer), gazetteer.labels, gazetteer.patterns) == (0, (), [])


def test_lower_compares_without_case() -> None:
    made = english("lower", ORG="Apple Inc")
    assert spans(made, "APPLE inc") == [("APPLE inc", "ORG")]
    assert spans(english(ORG="Apple Inc"), "APPLE inc") == []
    made.add("ORG", [EN.make_doc("apple INC")])
    assert [pattern["pattern"] for pattern in made.patterns] == ["Apple Inc"]
    message = "phrase 0: 'APPLE INC' is hard LOC, but 'Apple Inc', by LOWER the same, is hard ORG: remove"
    with pytest.raises(ValueError, match=message):
        made.add("LOC", [EN.make_doc("APPLE INC")])


def test_whitespace_is_no_match_where_it_looks_like_a_word() -> None:
    made = english("LENGTH", X="ab c")
    doc = Doc(EN.vocab, words=["\n\n", "d", "ef", "\n", "gh", "i"])
    assert [match[:2] for match in made(doc)] == [(4, 6)]


def test_the_same_entry_counts_once_and_a_later_weight_replaces_the_earlier(gazetteer: Gazetteer) -> None:
    before = gazetteer.to_bytes()
    gazetteer.add_patterns(PATTERNS, ZH.make_doc)
    assert gazetteer.to_bytes() == before
    gazetteer.add("LOC", [ZH.make_doc("北京")], rule="soft", weight=3)
    assert len(gazetteer) == len(PATTERNS)
    assert gazetteer.patterns[-1] == {"label": "LOC", "pattern": "北京", "rule": "soft", "weight": 3.0}
    assert gazetteer(ZH.make_doc("北京"))[0] == Match(0, 2, "LOC", "soft", 3.0)


def test_patterns_are_what_add_patterns_takes(gazetteer: Gazetteer) -> None:
    assert gazetteer.patterns == PATTERNS
    short = Gazetteer(EN.vocab)
    short.add_patterns([{"label": "LOC", "pattern": "Oslo "}, {"pattern": "U.S.", "rule": "never"}], EN.make_doc)
    assert short.patterns == [
        {"label": "LOC", "pattern": "Oslo", "rule": "hard"},
        {"label": "", "pattern": "U.S.", "rule": "never"},
    ]


RULE_ERRORS: List[Tuple[Any, Any, Any, str]] = [
    ("ORG", "maybe", None, "unknown rule 'maybe'; use one of hard, soft, never"),
    (None, "hard", None, "a hard rule needs a label, not None"),
    ("", "soft", 1.0, "a soft rule needs a label, not ''"),
    (["ORG"], "hard", None, r"the label must be a string, not \['ORG'\]"),
    ("ORG", "hard", 1.0, "a hard rule has no weight: remove 1.0"),
    ("ORG", "never", 0.0, "a never rule has no weight: remove 0.0"),
    *(
        ("ORG", "soft", weight, f"a soft rule needs a weight in nats, finite and not 0, not {weight!r}")
        for weight in (None, 0, 0.0, float("nan"), float("inf"), -float("inf"), 10**400, "1", True)
    ),
]


@pytest.mark.parametrize("label, rule, weight, message", RULE_ERRORS)
def test_a_rule_that_does_not_fit_is_refused(label: Any, rule: Any, weight: Any, message: str) -> None:
    made = Gazetteer(ZH.vocab)
    with pytest.raises(ValueError, match=f"^{message}"):
        made.add(label, [], rule=rule, weight=weight)
    entry = {"label": label, "pattern": "北京", "rule": rule, "weight": weight}
    with pytest.raises(ValueError, match=f"^entry 1: {message}"):
        made.add_patterns([{"label": "LOC", "pattern": "上海"}, entry], ZH.make_doc)
    assert len(made) == 0


@pytest.mark.parametrize(
    "entry, message",
    [
        (
            {"label": "ORG", "pattern": "Acme", "id": "a"},
            r"unknown keys \['id'\]; remove them, there are: label, ",
        ),
        ({"label": "ORG"}, "the pattern must be a string, not None"),
        ({"label": "ORG", "pattern": [{"lower": "a"}]}, r"the pattern must be a string, not \[{'lower': 'a'}\]; "),
        ("Acme", "'Acme' is not a mapping: write {"),
        ({"label": "ORG", "pattern": ""}, "'' has no words: leave it out"),
        ({"label": "ORG", "pattern": " \n"}, r"' \\n' has no words"),
        ({"label": "ORG", "pattern": " Acme"}, "' Acme' begins or ends in whitespace, and no entity does: strip"),
        ({"label": "ORG", "pattern": "Acme  "}, "'Acme  ' begins or ends in whitespace"),
        ({"label": "ORG", "pattern": "Ann"}, "'Ann' is hard ORG, but 'Ann', by ORTH the same, is hard PER: "),
        ({"label": "PER", "pattern": "Ann", "rule": "never"}, "'Ann' is never PER, but 'Ann', .* is hard PER"),
        ({"pattern": "Ann", "rule": "never"}, "'Ann' is never at all, but 'Ann', .* is hard PER"),
        ({"label": "PER", "pattern": "Bob"}, "'Bob' is hard PER, but 'Bob', .* is never at all"),
        ({"label": "LOC", "pattern": "Carl"}, "'Carl' is hard LOC, but 'Carl', .* is hard PER"),
    ],
)
def test_add_patterns_refuses_a_wrong_entry_and_adds_none(entry: Any, message: str) -> None:
    """Also what contradicts an entry before it in the same file, Carl."""
    made = english(PER="Ann")
    made.add(None, [EN.make_doc("Bob")], rule="never")
    before = made.to_bytes()
    with pytest.raises(ValueError, match=f"^entry 1: {message}"):
        made.add_patterns([{"label": "PER", "pattern": "Carl"}, entry], EN.make_doc)
    assert made.to_bytes() == before
    assert spans(made, "Ann and Bob and Carl and Acme") == [("Ann", "PER"), ("Bob", "")]


def test_rules_that_do_not_contradict_each_other_stand_side_by_side() -> None:
    made = english(PER="Ann")
    made.add("LOC", [EN.make_doc("Ann")], rule="never")
    made.add("PER", [EN.make_doc("Ann")], rule="soft", weight=1.0)
    found = made(EN.make_doc("Ann"))
    assert [(match.label, match.rule) for match in found] == [("LOC", "never"), ("PER", "hard"), ("PER", "soft")]


@pytest.mark.parametrize("phrases", ["Acme", EN.make_doc("Acme"), [EN.make_doc("Acme")[0:1]]])
def test_add_takes_docs_alone(phrases: Any) -> None:
    with pytest.raises(ValueError, match=r"^phrase 0: .* is not a Doc: give a list of what nlp.make_doc makes"):
        Gazetteer(EN.vocab).add("ORG", phrases)


@pytest.mark.parametrize("attr", ["POS", "LEMMA", "IS_TITLE", "SPACY", "OP", "COLOUR", 65, None])
def test_an_attribute_that_words_do_not_carry_is_refused(attr: Any) -> None:
    with pytest.raises(ValueError, match=f"by attribute {attr!r}; use one of ORTH, LOWER, NORM"):
        Gazetteer(EN.vocab, attr)


def through_disk(gazetteer: Gazetteer, folder: Path) -> Gazetteer:
    gazetteer.to_disk(folder / "gazetteer")
    return Gazetteer(spacy.blank("zh").vocab).from_disk(str(folder / "gazetteer"))


@pytest.mark.parametrize(
    "copied",
    [
        lambda made, _: Gazetteer(spacy.blank("zh").vocab).from_bytes(made.to_bytes()),
        through_disk,
        lambda made, _: pickle.loads(pickle.dumps(made)),
        lambda made, _: copy.deepcopy(made),
    ],
    ids=["bytes", "disk", "pickle", "deepcopy"],
)
def test_round_trips(gazetteer: Gazetteer, copied: Callable[[Gazetteer, Path], Gazetteer], tmp_path: Path) -> None:
    other = copied(gazetteer, tmp_path)
    assert other.vocab is not gazetteer.vocab
    assert other(Doc(other.vocab, words=list(TEXT))) == MATCHES
    assert (other.attr, other.patterns, len(other)) == ("ORTH", PATTERNS, len(PATTERNS))
    assert other.to_bytes() == gazetteer.to_bytes()
    other.add("LOC", [Doc(other.vocab, words=["我"])])
    assert other(Doc(other.vocab, words=["我"])) == [Match(0, 1, "LOC", "hard", 0.0)]
    assert len(gazetteer) == len(PATTERNS)


def test_loading_replaces_what_was_there(gazetteer: Gazetteer) -> None:
    other = english(PER="Ann")
    assert other.from_bytes(gazetteer.to_bytes()) is other
    assert other.patterns == PATTERNS
    assert spans(other, "Ann") == []


def test_phrases_that_were_compared_by_another_attribute_are_refused(gazetteer: Gazetteer) -> None:
    other = english("LOWER", PER="Ann")
    with pytest.raises(ValueError, match="saved to be compared by ORTH, but phrase_matcher_attr is LOWER"):
        other.from_bytes(gazetteer.to_bytes())
    assert spans(other, "ann") == [("ann", "PER")]
    other.from_bytes(Gazetteer(ZH.vocab).to_bytes())
    assert (other.attr, len(other)) == ("LOWER", 0)


def test_a_phrase_keeps_the_tokens_and_norms_it_was_added_with() -> None:
    """Neither a tokenizer nor its exceptions are asked at load time: "n't" has the norm "not" by such a one."""
    made = english("NORM", X="do n't", Y="don't know")
    doc = EN.make_doc("I don't know")
    assert [token.norm_ for token in doc] == ["i", "do", "not", "know"]
    loaded = Gazetteer(EN.vocab, "NORM").from_bytes(made.to_bytes())
    assert loaded(doc) == made(doc) == [Match(1, 4, "Y", "hard", 0.0)]
    words = Gazetteer(ZH.vocab)
    words.add("ORG", [Doc(ZH.vocab, words=["北京", "大学"])])
    words.from_bytes(words.to_bytes())
    assert words(ZH.make_doc("北京大学")) == []
    assert words(Doc(ZH.vocab, words=["在", "北京", "大学"])) == [Match(1, 3, "ORG", "hard", 0.0)]


NOT_SAVED = [{"attr": "ORTH"}, {"entries": []}, {"attr": "ORTH", "entries": [1]}]


@pytest.mark.parametrize("data", [b"", b"garbage", *map(srsly.msgpack_dumps, NOT_SAVED)])
def test_other_bytes_are_refused_and_change_nothing(gazetteer: Gazetteer, data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "gazetteer"
    path.write_bytes(data)
    with pytest.raises(
        ValueError, match=r"no gazetteer that can be loaded here|the saved gazetteer is damaged"
    ) as error:
        gazetteer.from_disk(path)
    assert str(error.value).startswith(str(path))
    assert gazetteer(ZH.make_doc(TEXT)) == MATCHES


def test_phrases_added_in_a_memory_zone_outlast_it() -> None:
    nlp = spacy.blank("en")
    with nlp.memory_zone():
        made = Gazetteer(nlp.vocab)
        made.add("ORG", [nlp.make_doc("Acme Corp")])
    assert made(nlp.make_doc("at Acme Corp")) == [Match(1, 3, "ORG", "hard", 0.0)]


COMPARED: Dict[str, Callable[[str], Any]] = {"ORTH": str, "LOWER": str.lower, "LENGTH": len}
Rule = Tuple[Optional[str], str, Optional[float]]
# No two of these contradict each other.
RULE = st.sampled_from([("X", "hard", None), ("Y", "soft", 2.0), ("X", "soft", -1.0), ("Z", "never", None)])
WORD = st.sampled_from(["a", "A", "bb", "京", "大学", "　"])
PHRASE = st.lists(WORD, min_size=1, max_size=3).filter(lambda words: "　" not in (words[0], words[-1]))


@given(st.sampled_from(list(COMPARED)), st.lists(st.tuples(PHRASE, RULE), max_size=8), st.lists(WORD, max_size=12))
def test_matches_are_those_of_a_search_of_all_phrases_at_all_tokens(
    attr: str, entries: List[Tuple[List[str], Rule]], words: List[str]
) -> None:
    made = Gazetteer(ZH.vocab, attr)
    for phrase, (label, rule, weight) in entries:
        made.add(label, [Doc(ZH.vocab, words=phrase)], rule=rule, weight=weight)
    doc = Doc(ZH.vocab, words=words)
    found = {
        Match(start, start + len(phrase), label or "", rule, weight or 0.0)
        for phrase, (label, rule, weight) in entries
        for start in range(len(words) - len(phrase) + 1)
        if [*map(COMPARED[attr], phrase)] == [*map(COMPARED[attr], words[start : start + len(phrase)])]
        and "　" not in (words[start], words[start + len(phrase) - 1])
    }
    assert made(doc) == sorted(found)
    assert made.from_bytes(made.to_bytes())(doc) == made(doc)
