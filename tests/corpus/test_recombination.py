"""Further training examples: what they are made of, and that their annotation is right."""

import random
from itertools import pairwise
from typing import Any, List, Tuple

import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.util import registry

from spacy_crf_ner.corpus.recombination import Recombine
from tests.evaluation.util import make_doc
from tests.formats.reading import BLANK
from tests.util import TEXTS, entity_offsets

ZH = BLANK["zh"]
EN = spacy.blank("en")
ENGLISH = [
    ("Ada Lovelace met Charles Babbage in London.", [("Ada Lovelace", "PER"), ("Charles Babbage", "PER")]),
    ("Nobody was there.", []),
    ("Alan Turing left", [("Alan Turing", "PER")]),
]


def chinese() -> List[Example]:
    docs = [make_doc(text, entity_offsets(text, mentions)) for text, mentions in TEXTS]
    return [Example(ZH.make_doc(doc.text), doc) for doc in docs]


def english() -> List[Example]:
    examples = []
    for text, mentions in ENGLISH:
        doc = EN.make_doc(text)
        spans: Any = [doc.char_span(text.index(m), text.index(m) + len(m), label) for m, label in mentions]
        doc.ents = spans
        examples.append(Example(EN.make_doc(text), doc))
    return examples


def further(
    nlp: Language, examples: List[Example], seed: int = 0, rounds: int = 1, **settings: Any
) -> List[Example]:
    """What follows the examples; each of them comes first, as it is."""
    random.seed(seed)
    augment, found = Recombine(**settings), []
    for example in examples * rounds:
        first, *others = augment(nlp, example)
        assert first is example
        found += others
    return found


def entities(examples: List[Example]) -> List[Tuple[str, str]]:
    return [(ent.text, ent.label_) for example in examples for ent in example.reference.ents]


@given(seed=st.integers(0, 1000), which=st.sampled_from(["zh", "en"]))
def test_every_entity_of_a_further_example_is_one_of_those_before(seed: int, which: str) -> None:
    nlp, examples = (ZH, chinese()) if which == "zh" else (EN, english())
    made = further(nlp, examples, seed, rounds=2, swap=0.5, lists=0.5, joined=0.5)
    assert {*entities(made)} <= {*entities(examples)}
    for example in made:
        # Every token is annotated, and the tokenizer makes the same tokens of the text.
        assert None not in example.get_aligned_ner()
        assert example.predicted.text == example.reference.text
        assert not example.predicted.ents


def test_without_a_share_nothing_follows() -> None:
    assert further(ZH, chinese()) == []


def test_entities_are_swapped_within_their_label_and_the_rest_stays() -> None:
    examples = chinese()
    made = further(ZH, examples, swap=1.0)
    assert len(made) == sum(bool(example.reference.ents) for example in examples)
    changed = 0
    originals = [example.reference for example in examples if example.reference.ents]
    for original, example in zip(originals, made):
        new = example.reference
        assert [ent.label_ for ent in new.ents] == [ent.label_ for ent in original.ents]
        outside = ["".join(token.text for token in doc if not token.ent_type) for doc in (original, new)]
        assert outside[0] == outside[1]
        changed += original.text != new.text
    assert changed


@pytest.mark.parametrize("separators", [[""], ["、"], [" 和 "], [", "]])
def test_a_list_is_of_one_label_and_has_one_separator(separators: List[str]) -> None:
    made = further(ZH, chinese(), rounds=4, lists=1.0, separators=separators, longest_list=3, list_labels=["LOC"])
    assert made
    # On its own: nothing but places, each with the separator between.
    alone = [e.reference for e in made if e.reference.text == separators[0].join(x.text for x in e.reference.ents)]
    assert alone and len(alone) < len(made)
    for doc in alone:
        assert 2 <= len(doc.ents) <= 3
        assert {ent.label_ for ent in doc.ents} == {"LOC"}
        assert len({ent.text for ent in doc.ents}) == len(doc.ents)


def test_a_list_may_take_the_place_of_an_entity() -> None:
    made = further(EN, english(), rounds=8, lists=1.0, longest_list=2)
    texts = {example.reference.text for example in made}
    assert "Charles Babbage, Alan Turing left" in texts or "Alan Turing, Charles Babbage left" in texts
    assert {"Nobody was there."} & texts == set()


def test_sentences_are_joined_with_a_space_where_the_language_has_some() -> None:
    made = further(EN, english(), joined=1.0, most_joined=2)
    assert [example.reference.text for example in made] == [
        "Ada Lovelace met Charles Babbage in London. Nobody was there.",
        "Nobody was there. Alan Turing left",
    ]
    assert [ent.text for ent in made[1].reference.ents] == ["Alan Turing"]
    texts = [example.reference.text for example in chinese()]
    joined = [example.reference.text for example in further(ZH, chinese(), joined=1.0, most_joined=2)]
    assert joined == [first + second for first, second in pairwise(texts)]


def test_what_is_not_annotated_throughout_is_left_alone() -> None:
    partial = ZH.make_doc("北京和上海")
    partial.set_ents([], missing=[partial[0:3]], default="outside")
    examples = [Example(ZH.make_doc(doc.text), doc) for doc in (partial, ZH.make_doc("上海"), ZH.make_doc(""))]
    assert further(ZH, examples * 3, swap=1.0, lists=1.0, joined=1.0) == []


def test_docs_of_unknown_spaces_stay_so() -> None:
    words = ["在", "北京", "工作"]
    examples = [
        Example(Doc(ZH.vocab, words), Doc(ZH.vocab, words, ents=["O", "B-LOC", "O"])),
        Example(Doc(ZH.vocab, words[1:]), Doc(ZH.vocab, words[1:], ents=["B-LOC", "O"])),
    ]
    (made,) = further(ZH, examples, joined=1.0)
    assert made.reference.has_unknown_spaces and made.predicted.has_unknown_spaces
    assert [token.text for token in made.predicted] == words + words[1:]


def test_the_same_seed_makes_the_same() -> None:
    settings: Any = {"swap": 0.5, "lists": 0.5, "joined": 0.5, "rounds": 3}
    one, same, other = (
        [example.reference.text for example in further(ZH, chinese(), seed, **settings)] for seed in (1, 1, 2)
    )
    assert one == same != other


def test_as_many_entities_are_remembered_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spacy_crf_ner.corpus.recombination.MOST_ENTITIES", 1)
    augment = Recombine(swap=1.0)
    for example in english():
        list(augment(EN, example))
    memory = augment._memories[False]
    (only,) = memory.entities["PER"]
    assert " ".join(only.words) in {text for text, _ in entities(english())}
    assert memory._known == {only}


def test_docs_of_unknown_spaces_are_not_mixed_with_others() -> None:
    words = ["张", "三", "在", "北京"]
    unknown = Example(Doc(ZH.vocab, words), Doc(ZH.vocab, words, ents=["B-PER", "I-PER", "O", "B-LOC"]))
    made = further(ZH, [unknown, *chinese()], rounds=2, swap=1.0, lists=1.0, joined=1.0)
    for example in made:
        if not example.reference.has_unknown_spaces:
            assert " " not in example.reference.text


def test_a_config_names_it() -> None:
    made = registry.resolve({"augmenter": {"@augmenters": "spacy-crf-ner.Recombine.v1", "lists": 0.1}})
    assert made["augmenter"].lists == 0.1


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"swap": 1.5}, "swap must be between 0 and 1, got 1.5"),
        ({"joined": -0.1}, "joined must be between 0 and 1"),
        ({"longest_list": 1}, "longest_list must be 2 or more, got 1"),
        ({"most_joined": 0}, "most_joined must be 2 or more, got 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Recombine(**settings)
