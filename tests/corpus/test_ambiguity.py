from typing import Dict, List, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spacy.tokens import Doc

from spacy_crf_ner.corpus import ambiguity as surface_forms
from spacy_crf_ner.corpus.ambiguity import Ambiguity, SurfaceForm, SurfaceForms
from spacy_crf_ner.formats.doc_builder import ORIGIN, Origin
from tests.corpus.util import in_english
from tests.evaluation.util import make_doc


def count(*docs: Doc, top: int = 10) -> Ambiguity:
    forms = SurfaceForms()
    for i, doc in enumerate(docs, start=1):
        doc.user_data[ORIGIN] = Origin("train", i)
        forms.add(doc)
    return forms.count(top)


def readings(form: SurfaceForm) -> Tuple[str, Dict[str, int], int]:
    return form.text, dict(form.types), form.outside


def test_forms_of_several_types_or_none() -> None:
    result = count(
        make_doc("张三在上海", [(0, 2, "PER"), (3, 5, "LOC")]),
        make_doc("上海和上海", [(0, 2, "ORG"), (3, 5, "LOC")]),
        make_doc("上海"),
        make_doc("李四", [(0, 2, "PER")]),
        make_doc("在上海"),
    )
    assert (result.forms, result.ambiguous, result.several_types, result.also_outside) == (3, 1, 1, 1)
    assert (result.occurrences, result.minority) == (7, 3)
    (form,) = result.top
    assert readings(form) == ("上海", {"LOC": 2, "ORG": 1}, 2)
    assert form.origins == {"LOC": "train:1", "ORG": "train:2", "": "train:3"}


def test_words_before_their_entity_is_met_count_too() -> None:
    result = count(make_doc("上海"), make_doc("上海", [(0, 2, "LOC")]))
    assert [readings(form) for form in result.top] == [("上海", {"LOC": 1}, 1)]


def test_long_forms_are_found_after_shorter_ones() -> None:
    result = count(make_doc("中国银行", [(0, 4, "ORG")]), make_doc("美", [(0, 1, "LOC")]), make_doc("中国银行"))
    assert [readings(form) for form in result.top] == [("中国银行", {"ORG": 1}, 1)]


def test_part_of_another_entity_is_not_outside() -> None:
    result = count(
        make_doc("中国", [(0, 2, "LOC")]),
        make_doc("中国银行在", [(0, 4, "ORG")]),
        make_doc("中国去", [(1, 2, "LOC")]),
    )
    assert (result.also_outside, result.top) == (0, [])


def test_unknown_annotation_is_not_outside() -> None:
    result = count(make_doc("上海", [(0, 2, "LOC")]), make_doc("上海", missing=[(0, 1)]))
    assert result.also_outside == 0


def test_every_occurrence_counts_once_the_short_ones_in_longer_too() -> None:
    result = count(
        make_doc("中中国人", [(0, 1, "LOC"), (1, 3, "LOC")]),
        make_doc("中国人中"),
        make_doc("人中国"),
        make_doc("国"),
    )
    assert sorted(readings(form) for form in result.top) == [("中", {"LOC": 1}, 3), ("中国", {"LOC": 1}, 2)]


def test_words_count_as_tokens() -> None:
    result = count(
        in_english("see New York", (1, 3, "LOC")), in_english("in New Yorkshire"), in_english("a New York minute")
    )
    assert [readings(form) for form in result.top] == [("New York", {"LOC": 1}, 1)]


def test_top_is_what_a_lookup_gets_wrong_most_often() -> None:
    docs = [make_doc("甲", [(0, 1, "LOC")])] * 5 + [make_doc("甲")] * 100
    docs += [make_doc("乙", [(0, 1, "LOC")])] * 6 + [make_doc("乙")] * 7
    docs += [make_doc("丙", [(0, 1, "LOC")])] * 6 + [make_doc("丙")] * 6
    result = count(*docs, top=2)
    assert [(form.text, form.minority) for form in result.top] == [("乙", 6), ("丙", 6)]
    assert (result.ambiguous, result.minority) == (3, 17)


def test_tokens_may_lie_on_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surface_forms, "IN_MEMORY", 10)
    result = count(*[make_doc("上海", [(0, 2, "LOC")]), make_doc("上海上海")] * 20)
    assert [readings(form) for form in result.top] == [("上海", {"LOC": 20}, 40)]


def test_json_is_complete() -> None:
    result = count(make_doc("上海", [(0, 2, "LOC")]), make_doc("上海"))
    assert result.to_json() == {
        "forms": 1,
        "ambiguous": 1,
        "several_types": 0,
        "also_outside": 1,
        "occurrences": 2,
        "minority": 1,
        "top": [
            {
                "text": "上海",
                "types": {"LOC": 1},
                "outside": 1,
                "minority": 1,
                "origins": {"LOC": "train:1", "": "train:2"},
            }
        ],
    }


@given(
    st.lists(st.lists(st.sampled_from(["a", "b", "B-a", "B-b", "I-a", "I-b"]), min_size=1, max_size=8), max_size=6)
)
def test_counts_equal_those_of_a_search_for_each_form(drawn: List[List[str]]) -> None:
    docs = []
    for items in drawn:
        entities: List[Tuple[int, int, str]] = []
        for i, item in enumerate(items):
            if item.startswith("I-") and entities and entities[-1][1] == i:
                entities[-1] = (entities[-1][0], i + 1, "X")
            elif "-" in item:
                entities.append((i, i + 1, "X"))
        docs.append(make_doc([item[-1] for item in items], entities))
    result = count(*docs, top=100)
    for form in result.top:
        outside = sum(
            doc[i : i + len(form.text)].text == form.text
            and all(t.ent_iob_ == "O" for t in doc[i : i + len(form.text)])
            for doc in docs
            for i in range(len(doc) - len(form.text) + 1)
        )
        assert form.outside == outside
    assert result.forms == len({entity.text for doc in docs for entity in doc.ents})
