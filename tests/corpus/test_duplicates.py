from typing import Dict, List

from spacy.tokens import Doc

from spacy_crf_ner.corpus.duplicates import TextIndex, prefixes
from spacy_crf_ner.formats.doc_builder import ORIGIN, Origin
from tests.corpus.util import PER
from tests.evaluation.util import make_doc


def index(splits: Dict[str, List[Doc]]) -> TextIndex:
    texts = TextIndex()
    for name, docs in splits.items():
        for i, doc in enumerate(docs, start=1):
            doc.user_data[ORIGIN] = Origin(name, i)
            texts.add(name, doc)
    return texts


def person(name: str) -> Doc:
    return make_doc(name, PER)


def test_duplicates_are_docs_beyond_the_first() -> None:
    texts = index(
        {"train": [person("张三"), make_doc("张三"), person("李四"), person("张三")], "dev": [person("张三")]}
    )
    tally = texts.duplicates["train"]
    assert (tally.count, set(texts.duplicates)) == (2, {"train"})
    assert tally.cases[0] == ("train:2", "张三", "", "as train:1")


def test_leaks_are_docs_and_name_the_first_place() -> None:
    texts = index(
        {
            "train": [person("张三"), person("张三")],
            "dev": [person("张三"), person("张三"), person("李四")],
            "test": [person("李四")],
        }
    )
    assert {key: tally.count for key, tally in texts.leaks.items()} == {("dev", "train"): 2, ("test", "dev"): 1}
    assert texts.leaks["dev", "train"].cases[0] == ("dev:1", "张三", "", "as train:1")


def test_first_place_is_named_whatever_its_tagging() -> None:
    texts = index({"train": [person("张三"), make_doc("张三")], "dev": [make_doc("张三")]})
    assert texts.leaks["dev", "train"].cases[0].note == "as train:1"


def test_text_with_two_other_taggings_counts_once() -> None:
    dev = [make_doc("张三"), make_doc("张三", [(0, 2, "ORG")])]
    texts = index({"train": [person("张三")], "dev": dev})
    assert texts.contradicted("dev", ["train"]).count == 1
    assert texts.contradictions(["train", "dev"]).count == 1


def test_long_mention_is_cut_in_a_note() -> None:
    long, short = "张" * 21, "张" * 20
    texts = index({"train": [make_doc(text, [(0, len(text), "PER")]) for text in (long, short)]})
    texts.add("dev", make_doc(long))
    texts.add("dev", make_doc(short))
    notes = [case.note for case in texts.contradicted("dev", ["train"]).cases]
    assert notes == [f"without PER '{short}…', unlike train:1", f"without PER '{short}', unlike train:2"]


def test_space_makes_another_text() -> None:
    texts = index({"train": [make_doc("张三"), make_doc(["张", "三", " "])]})
    assert not texts.duplicates


def test_contradictions_within_and_together() -> None:
    texts = index(
        {
            "train": [person("张三"), make_doc("张三"), person("李四"), person("王五"), person("王五")],
            "dev": [make_doc("李四"), make_doc("赵六", [(0, 2, "ORG")]), person("赵六")],
            "test": [make_doc("王五"), person("赵六"), person("李四")],
        }
    )
    counts = {group: texts.contradictions(group).count for group in [("train",), ("dev",), ("test",)]}
    assert counts == {("train",): 1, ("dev",): 1, ("test",): 0}
    # 张三 and 李四; 赵六 as well.
    assert texts.contradictions(("train", "dev")).count == 3
    assert texts.contradictions(("train", "dev", "test")).count == 4
    # 李四 alone: 赵六 is not in train.
    assert texts.contradicted("dev", ["train"]).count == 1
    # 王五 and 李四 and 赵六 each stand otherwise in one of them.
    assert texts.contradicted("test", ["train", "dev"]).count == 3


def test_contradiction_names_an_entity_that_one_has() -> None:
    texts = index({"train": [make_doc("张三在北京", [(0, 2, "PER"), (3, 5, "LOC")]), make_doc("张三在北京", PER)]})
    (case,) = texts.contradictions(["train"]).cases
    assert case == ("train:1", "张三在北京", "", "with LOC '北京', unlike train:2")


def test_contradiction_across_speaks_of_the_later_split() -> None:
    texts = index({"train": [person("张三")], "dev": [make_doc("张三")]})
    (case,) = texts.contradicted("dev", ["train"]).cases
    assert case == ("dev:1", "张三", "", "without PER '张三', unlike train:1")


def test_type_alone_makes_another_tagging() -> None:
    texts = index({"train": [person("张三"), make_doc("张三", [(0, 2, "ORG")])]})
    assert texts.contradictions(["train"]).count == 1


def test_entity_far_into_the_text_is_named() -> None:
    text = "很" * 500 + "张三"
    texts = index({"train": [make_doc(text), make_doc(text, [(500, 502, "PER")])]})
    assert texts.contradictions(["train"]).cases[0].note == "without PER '张三', unlike train:2"


def test_tokens_alone_make_no_other_tagging() -> None:
    texts = index({"train": [make_doc(["张三", "来"], [(0, 1, "PER")]), make_doc("张三来", PER)]})
    assert texts.duplicates["train"].count == 1
    assert texts.contradictions(["train"]).count == 0


def test_missing_annotation_contradicts_nothing() -> None:
    docs = [person("张三"), make_doc("张三", missing=[(0, 1)])]
    texts = index({"train": docs, "dev": [make_doc("张三", missing=[(0, 2)])]})
    assert texts.duplicates["train"].count == 1
    assert texts.contradictions(["train", "dev"]).count == 0
    assert texts.contradicted("dev", ["train"]).count == 0


def test_docs_of_unknown_origin() -> None:
    texts = TextIndex()
    for split in ("train", "dev"):
        texts.add(split, person("张三") if split == "train" else make_doc("张三"))
    assert texts.leaks["dev", "train"].cases == [("", "张三", "", "")]
    assert texts.contradicted("dev", ["train"]).cases[0].note == "without PER '张三', unlike train"


def test_prefixes() -> None:
    assert prefixes(["train", "dev", "test"]) == [("train",), ("train", "dev"), ("train", "dev", "test")]
