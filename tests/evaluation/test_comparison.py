import pytest
from spacy.training import Example

from spacy_crf_ner.evaluation.comparison import Verdict, compare
from tests.evaluation.util import make_doc, make_example


def verdicts(judged):  # type: ignore[no-untyped-def]
    return [(j.entity.text, j.entity.label_, j.verdict) for j in judged]


def test_each_entity_gets_its_verdict() -> None:
    example = make_example("张三李四去北京", [(0, 2, "PER"), (2, 4, "PER")], [(0, 2, "PER"), (5, 7, "LOC")])
    comparison = compare(example)
    assert verdicts(comparison.gold) == [("张三", "PER", Verdict.CORRECT), ("李四", "PER", Verdict.MISSED)]
    assert verdicts(comparison.predicted) == [
        ("张三", "PER", Verdict.CORRECT),
        ("北京", "LOC", Verdict.SPURIOUS),
    ]
    assert not comparison.is_correct


def test_wrong_type_and_wrong_border_are_missed_and_spurious() -> None:
    for predicted in ((0, 2, "ORG"), (0, 3, "PER"), (0, 1, "PER")):
        comparison = compare(make_example("张三去", [(0, 2, "PER")], [predicted]))
        assert comparison.count(Verdict.MISSED) == comparison.count(Verdict.SPURIOUS) == 1


def test_adjacent_entities_of_one_type_are_two() -> None:
    gold = [(0, 2, "PER"), (2, 4, "PER")]
    assert compare(make_example("张三李四", gold, gold)).is_correct
    merged = compare(make_example("张三李四", gold, [(0, 4, "PER")]))
    assert merged.count(Verdict.MISSED) == 2
    assert merged.tags() == ([["B-PER", "I-PER"] * 2], [["B-PER", "I-PER", "I-PER", "I-PER"]])


def test_prediction_on_unknown_annotation_is_ignored_whole() -> None:
    reference = make_doc("张三去北京", [(0, 2, "PER")], missing=[(4, 5)])
    comparison = compare(Example(make_doc("张三去北京", [(0, 2, "PER"), (3, 5, "LOC")]), reference))
    assert comparison.predicted[1].verdict is Verdict.IGNORED
    assert comparison.is_correct
    assert comparison.n_missing == 1
    assert comparison.tags() == ([["B-PER", "I-PER", "O", "O", "O"]],) * 2


def test_doc_without_any_annotation_ignores_all() -> None:
    reference = make_doc("北京", missing=[(0, 2)])
    assert compare(Example(make_doc("北京", [(0, 2, "LOC")]), reference)).is_correct


def test_prediction_across_coarser_gold_tokens_is_aligned() -> None:
    example = Example(make_doc("去北京", [(1, 3, "LOC")]), make_doc(["去", "北京"], [(1, 2, "LOC")]))
    comparison = compare(example)
    assert comparison.is_correct
    assert comparison.n_misaligned == 1


def test_prediction_inside_a_gold_token_is_unaligned_and_wrong() -> None:
    example = Example(make_doc("去北京", [(1, 2, "LOC")]), make_doc(["去", "北京"], [(1, 2, "LOC")]))
    comparison = compare(example)
    assert verdicts(comparison.predicted) == [("北", "LOC", Verdict.UNALIGNED)]
    assert comparison.gold[0].verdict is Verdict.MISSED
    assert comparison.tags() == ([["O", "B-LOC"], ["O"]], [["O", "O"], ["B-LOC"]])


def test_finer_gold_tokens_are_counted_as_misaligned() -> None:
    example = Example(make_doc(["去", "北京"], [(1, 2, "LOC")]), make_doc("去北京", [(1, 3, "LOC")]))
    comparison = compare(example)
    assert comparison.n_misaligned == 2
    assert comparison.is_correct


def test_texts_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="E949"):
        compare(Example(make_doc("北京", [(0, 2, "LOC")]), make_doc("上海")))
