import random
import unicodedata
from collections import Counter
from fractions import Fraction
from itertools import combinations, product
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Sequence, Tuple

import pytest
import spacy
from hypothesis import assume, given
from hypothesis import strategies as st
from spacy.tokens import Doc, Span
from spacy.vocab import Vocab

import spacy_crf_ner.corpus.split as module
from spacy_crf_ner.corpus.split import Split, check_asked, split
from spacy_crf_ner.formats.doc_builder import DocMaker
from spacy_crf_ner.formats.reading import read

VOCAB = Vocab()
Sentence = Tuple[str, Sequence[str]]
"""A text, and the types of its first characters, each an entity of its own."""


def make_doc(text: str, labels: Sequence[str] = ()) -> Doc:
    doc = Doc(VOCAB, words=list(text), spaces=[False] * len(text))
    doc.set_ents([Span(doc, i, i + 1, label) for i, label in enumerate(labels)], default="outside")
    return doc


def make_docs(sentences: Sequence[Sentence]) -> List[Doc]:
    return [make_doc(text, labels) for text, labels in sentences]


def unlike(n: int, labels: Sequence[str] = ()) -> List[Doc]:
    """Docs that differ in their texts alone."""
    return [make_doc(f"文本{i:05}", labels) for i in range(n)]


def key(doc: Doc) -> str:
    return "".join(unicodedata.normalize("NFKC", doc.text).split())


def indices(found: Split) -> Dict[str, List[int]]:
    return {name: part.indices for name, part in found.parts.items()}


# Few texts, so that many are equal; each may have several taggings.
sentence = st.tuples(st.text("甲乙１1 ", min_size=3, max_size=4), st.lists(st.sampled_from("ABCDE"), max_size=3))
corpora = st.lists(sentence, min_size=4, max_size=40)
asked = st.one_of(st.floats(0.03, 0.9), st.integers(2, 12))
parts_asked = st.one_of(
    st.fixed_dictionaries({"dev": asked}), st.fixed_dictionaries({"dev": asked, "test": asked})
)


def split_or_discard(docs: Sequence[Doc], held_out: Mapping[str, float], seed: int = 0) -> Split:
    """The split; a corpus too small for what is asked of it is not an example."""
    try:
        return split(docs, held_out, seed=seed)
    except ValueError as error:
        assert str(error).startswith("--") and "; " in str(error)
        assume(False)
        raise


@given(sentences=corpora, held_out=parts_asked, seed=st.integers(0, 3))
def test_every_doc_is_in_one_part_in_order_and_no_text_in_two(
    sentences: List[Sentence], held_out: Dict[str, float], seed: int
) -> None:
    docs = make_docs(sentences)
    found = split_or_discard(docs, held_out, seed)
    assert list(found.parts) == ["train", *held_out]
    assert sorted(i for part in found.parts.values() for i in part.indices) == list(range(len(docs)))
    for part in found.parts.values():
        assert part.indices and part.indices == sorted(part.indices)
    for one, other in combinations(found.parts.values(), 2):
        assert not {key(docs[i]) for i in one.indices} & {key(docs[i]) for i in other.indices}


@given(sentences=corpora, held_out=parts_asked)
def test_train_has_every_type(sentences: List[Sentence], held_out: Dict[str, float]) -> None:
    docs = make_docs(sentences)
    found = split_or_discard(docs, held_out)
    assert {ent.label_ for i in found.parts["train"].indices for ent in docs[i].ents} == {
        ent.label_ for doc in docs for ent in doc.ents
    }


@given(sentences=corpora, held_out=parts_asked)
def test_counts_are_those_of_the_docs(sentences: List[Sentence], held_out: Dict[str, float]) -> None:
    docs = make_docs(sentences)
    found = split_or_discard(docs, held_out)
    for part in found.parts.values():
        inside = [docs[i] for i in part.indices]
        assert part.entities == Counter(ent.label_ for doc in inside for ent in doc.ents)
        assert part.without_entity == sum(not doc.ents for doc in inside)
    assert found.entities == Counter(ent.label_ for doc in docs for ent in doc.ents)
    repeated = [n for n in Counter(map(key, docs)).values() if n > 1]
    assert (found.repeated_texts, found.repeated_sentences) == (len(repeated), sum(repeated))
    assert sum(part.asked for part in found.parts.values()) == len(docs)
    for name, wish in held_out.items():
        wanted = max(1, round(wish * len(docs))) if wish < 1 else wish
        assert found.parts[name].asked == wanted


def distance(
    docs: Sequence[Doc], groups: Mapping[str, List[int]], place: Mapping[str, int], sizes: List[int]
) -> Any:
    """How far the parts are from what is asked for: sentences first, then the labels."""
    totals: Counter[str] = Counter()
    held: List[Counter[str]] = [Counter() for _ in sizes]
    n_sentences = [0] * len(sizes)
    for text, part in place.items():
        for i in groups[text]:
            labels = Counter(ent.label_ for ent in docs[i].ents) or Counter({"": 1})
            totals += labels
            held[part] += labels
            n_sentences[part] += 1
    sentences = sum((have - size) ** 2 for have, size in zip(n_sentences, sizes))
    labels_off = sum(
        (held[part][label] - Fraction(total * size, len(docs))) ** 2 / total
        for label, total in totals.items()
        for part, size in enumerate(sizes)
    )
    return sentences, labels_off


def exchanges(place: Mapping[str, int]) -> Iterator[Dict[str, int]]:
    """All that comes of moving one text, or of exchanging two."""
    n_parts = max(place.values()) + 1
    for text, part in product(place, range(n_parts)):
        yield {**place, text: part}
    for one, other in combinations(place, 2):
        yield {**place, one: place[other], other: place[one]}


@given(sentences=st.lists(sentence, min_size=4, max_size=14), held_out=parts_asked)
def test_no_exchange_brings_the_parts_nearer(sentences: List[Sentence], held_out: Dict[str, float]) -> None:
    docs = make_docs(sentences)
    found = split_or_discard(docs, held_out)
    groups: Dict[str, List[int]] = {}
    for i, doc in enumerate(docs):
        groups.setdefault(key(doc), []).append(i)
    place = {key(docs[i]): number for number, part in enumerate(found.parts.values()) for i in part.indices}
    types = {text: {ent.label_ for i in own for ent in docs[i].ents} for text, own in groups.items()}
    sizes = [part.asked for part in found.parts.values()]
    n_off, labels_off = distance(docs, groups, place, sizes)
    for other in exchanges(place):
        leaving = [text for text in place if place[text] == 0 and other[text] != 0]
        staying = [types[text] for text in place if place[text] == 0 and other[text] == 0]
        if any(types[text] - set().union(*staying) for text in leaving):
            continue  # train would lack a type for a while
        n_other, labels_other = distance(docs, groups, other, sizes)
        assert (n_other, labels_other) > (n_off, labels_off - Fraction(1, 1000))


@given(n_types=st.integers(1, 12), n_each=st.integers(2, 30), share=st.floats(0.02, 0.5), seed=st.integers(0, 5))
def test_types_that_are_equally_frequent_are_within_one_entity_of_their_share(
    n_types: int, n_each: int, share: float, seed: int
) -> None:
    docs = [make_doc(f"{label}的{i}", [chr(65 + label)]) for i in range(n_each) for label in range(n_types)]
    assume(round(share * len(docs)) < len(docs) - n_types + 1)
    dev = split_or_discard(docs, {"dev": share}, seed).parts["dev"]
    assert len(dev.indices) == dev.asked
    for label in range(n_types):
        assert abs(dev.entities[chr(65 + label)] - dev.asked / n_types) <= 1


@pytest.mark.parametrize("held_out", [{"dev": 0.1}, {"dev": 0.1, "test": 0.25}, {"dev": 37, "test": 300}])
@pytest.mark.parametrize("max_kinds", [500, 20])
def test_every_share_is_met_where_sentences_are_many(
    held_out: Dict[str, float], max_kinds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_KINDS", max_kinds)
    rng = random.Random(1)
    labels = [rng.choices("ABCDEF", [60, 30, 15, 8, 4, 2], k=rng.randrange(6)) for _ in range(1000)]
    docs = [make_doc(f"文本{i:05}", own) for i, own in enumerate(labels)]
    found = split(docs, held_out)
    for name, part in found.parts.items():
        share = part.asked / len(docs)
        assert len(part.indices) == part.asked
        n_without = sum(not own for own in labels)
        tolerance = 1 if max_kinds == 500 else 2
        assert abs(part.without_entity - share * n_without) <= tolerance, name
        for label, total in found.entities.items():
            assert abs(part.entities[label] - share * total) <= tolerance, (name, label)


@pytest.mark.parametrize(
    ("total", "share", "wanted"), [(1, 0.45, 0), (2, 0.1, 0), (4, 0.1, 0), (6, 0.1, 1), (14, 0.1, 1), (16, 0.1, 2)]
)
def test_a_rare_type_is_rounded_to_its_share(total: int, share: float, wanted: int) -> None:
    docs = [*unlike(200, ["A"]), *(make_doc(f"少{i}", ["B"]) for i in range(total))]
    assert split(docs, {"dev": share}).parts["dev"].entities["B"] == wanted


def test_chance_decides_between_two_parts_that_lack_the_same() -> None:
    docs = [*unlike(194, ["A"]), *(make_doc(f"少{i}", ["B"]) for i in range(6))]
    found = [split(docs, {"dev": 0.1, "test": 0.1}, seed=seed).parts for seed in range(20)]
    assert {(parts["dev"].entities["B"], parts["test"].entities["B"]) for parts in found} == {(0, 1), (1, 0)}


def test_the_number_of_sentences_is_met_where_rounded_shares_do_not_add_up() -> None:
    """Each type alone would get 0.4 entities of dev, which is none."""
    docs = [make_doc(f"{label}的{i}", [f"T{label}"]) for label in range(40) for i in range(4)]
    dev = split(docs, {"dev": 0.1}).parts["dev"]
    assert len(dev.indices) == 16
    assert set(dev.entities.values()) == {1}


def test_texts_that_differ_in_width_and_white_space_alone_stay_together() -> None:
    forms = ["ＡＢ１２中国", "AB12中国", "AB 12\u3000中国\u2003", "ab12中国"]
    apart = set()
    for seed in range(20):
        docs = [make_doc(text) for text in forms] + unlike(8)
        found = split(docs, {"dev": 0.5}, seed=seed)
        (part,) = [part for part in found.parts.values() if 0 in part.indices]
        assert {1, 2} <= set(part.indices)
        assert (found.repeated_texts, found.repeated_sentences) == (1, 3)
        apart.add(3 in part.indices)
    assert apart == {True, False}


def test_one_text_with_two_taggings_stays_together() -> None:
    for seed in range(20):
        docs = [make_doc("中国", ["A"]), *unlike(6, ["A"]), make_doc("中国")]
        found = split(docs, {"dev": 0.5}, seed=seed)
        assert any({0, 7} <= set(part.indices) for part in found.parts.values())


def test_seed_decides_and_every_doc_has_a_chance() -> None:
    docs = unlike(10, ["A"])
    found = [indices(split(docs, {"dev": 0.2}, seed=seed)) for seed in range(60)]
    assert found == [indices(split(docs, {"dev": 0.2}, seed=seed)) for seed in range(60)]
    held_out = [tuple(parts["dev"]) for parts in found]
    assert len(set(held_out)) > 20
    assert {i for pair in held_out for i in pair} == set(range(10))


def test_long_sentences_are_as_likely_in_dev_as_short_ones() -> None:
    """All are of one type, once or thrice: only so has dev its share of both sentences and entities."""
    docs = [make_doc(f"文本{i:05}", ["A"] * (1 if i % 2 else 3)) for i in range(200)]
    dev = split(docs, {"dev": 0.1}).parts["dev"]
    assert Counter(len(docs[i].ents) for i in dev.indices) == {1: 10, 3: 10}


def test_more_docs_of_one_text_than_the_part_has_room_for() -> None:
    docs = [*(make_doc("中国", ["A"]) for _ in range(20)), *unlike(20, ["A"])]
    for seed in range(5):
        found = split(docs, {"dev": 0.1}, seed=seed)
        assert set(range(20)) < set(found.parts["train"].indices)
        assert len(found.parts["dev"].indices) == 4
    docs = [make_doc(text, ["A"]) for text in ("甲", "乙", "丙", "丁") for _ in range(3)]
    found = split(docs, {"dev": 2})
    assert len(found.parts["dev"].indices) == 3
    assert found.shortfalls() == [
        "dev has 3 sentences, 2 were asked for: equal texts stay together, and train keeps a text of every label"
    ]


def test_what_is_too_rare_is_said() -> None:
    docs = [*unlike(30, ["A"]), make_doc("甲", ["B"]), make_doc("乙", ["C"]), make_doc("丙", ["C"])]
    found = split(docs, {"dev": 0.1, "test": 0.1})
    assert found.shortfalls() == [
        f"{name} has no entity of a rare label (in all): B (1), C (2)" for name in ("dev", "test")
    ]
    assert split(unlike(30, ["A"]), {"dev": 0.1}).shortfalls() == []


@pytest.mark.parametrize("asked", [0, -0.1, 1, 1.5, -3, float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["dev", "test"])
def test_neither_a_share_nor_a_number(name: str, asked: float) -> None:
    with pytest.raises(ValueError, match=rf"--{name} {asked:g}: neither a share .*; give a share between 0 and 1"):
        check_asked({name: asked})
    with pytest.raises(ValueError, match=rf"--{name} {asked:g}: neither a share"):
        split(unlike(20), {name: asked})


def test_nothing_is_asked_for() -> None:
    with pytest.raises(ValueError, match="no part is asked for; give --dev"):
        split(unlike(20), {})


@pytest.mark.parametrize("held_out", [{"dev": 0.5, "test": 0.5}, {"dev": 0.9, "test": 0.2}])
def test_shares_that_leave_nothing_are_refused_without_the_corpus(held_out: Dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"^--dev 0.\d --test 0.\d: nothing is left for train; ask for less"):
        check_asked(held_out)


@pytest.mark.parametrize("held_out", [{"dev": 20}, {"dev": 30}, {"dev": 0.5, "test": 10}, {"dev": 0.99}])
def test_more_is_asked_for_than_there_is(held_out: Dict[str, float]) -> None:
    check_asked(held_out)
    with pytest.raises(ValueError, match="of 20 sentences none is left for train; ask for less"):
        split(unlike(20), held_out)
    assert len(split(unlike(20), {"dev": 19}).parts["train"].indices) == 1


@pytest.mark.parametrize(
    ("docs", "held_out", "what"),
    [
        (unlike(1), {"dev": 0.1}, "none is left for train"),
        ([], {"dev": 0.1}, "none is left for train"),
        (make_docs([("中国", "A")] * 20), {"dev": 0.1}, r"1 different text\(s\) cannot be put into 2 parts"),
        (unlike(1) * 9 + make_docs([("中", "")]), {"dev": 2, "test": 2}, "2 different .* cannot be put into 3"),
        (make_docs([("中", "A"), ("国", "B")]), {"dev": 0.1}, "no text is left for dev"),
        (make_docs([("中", "A"), ("国", "A")] * 20), {"dev": 2}, "no text is left for dev"),
        (make_docs([("中", ""), ("国", "")] * 20), {"dev": 39}, "no text is left for train"),
    ],
)
def test_too_few_texts(docs: List[Doc], held_out: Dict[str, float], what: str) -> None:
    with pytest.raises(ValueError, match=rf"^--dev .*: .*{what}.*; "):
        split(docs, held_out)


def test_the_smallest_corpus() -> None:
    docs = make_docs([("中", "A"), ("国", "A")])
    assert sorted(indices(split(docs, {"dev": 0.1})).values()) == [[0], [1]]
    docs = make_docs([("中", ""), ("国", "")])
    assert sorted(indices(split(docs, {"test": 0.1})).values()) == [[0], [1]]


def corpus(paths: List[Path]) -> List[Doc]:
    make = DocMaker(lambda: spacy.blank("zh"))
    return list(read(paths, make, settings={"repair": True} if "weibo" in str(paths[0]) else None))


def test_cluener_keeps_every_share(data_dir: Path) -> None:
    docs = corpus([data_dir / "cluener" / "train.json"])
    found = split(docs, {"dev": 0.1})
    assert {name: len(part.indices) for name, part in found.parts.items()} == {"train": 9673, "dev": 1075}
    assert len(found.entities) == 10
    for label, total in found.entities.items():
        assert abs(found.parts["dev"].entities[label] - total * 1075 / 10748) < 1
    assert found.shortfalls() == []


def test_weibo_loses_its_leaks(data_dir: Path) -> None:
    """As published, 42 sentences of dev are in train too."""
    folder = data_dir / "weibo"
    docs = corpus([folder / f"weiboNER_2nd_conll.{name}" for name in ("train", "dev")])
    train = {doc.text for doc in docs[:1350]}
    assert sum(doc.text in train for doc in docs[1350:]) == 42
    found = split(docs, {"dev": 270})
    texts = [{docs[i].text for i in part.indices} for part in found.parts.values()]
    assert not texts[0] & texts[1]
    dev = found.parts["dev"]
    assert len(dev.indices) == 270
    for label, total in found.entities.items():
        assert abs(dev.entities[label] - total * 270 / 1620) < 1, label
