from typing import List, Sequence

from spacy.tokens import Doc

from spacy_crf_ner.evaluation.corpus_check import find_problems, split_stats
from tests.evaluation.util import Entity, make_doc

PER: Sequence[Entity] = [(0, 2, "PER")]


def many(n: int = 50) -> List[Doc]:
    """Training docs that give cause for nothing: n docs, n entities of PER."""
    return [make_doc(f"张三{chr(0x4E00 + i)}", PER) for i in range(n)]


def test_stats_count_what_is_there() -> None:
    docs = [
        make_doc("张三李四去北京", [(0, 2, "PER"), (2, 4, "PER"), (5, 7, "LOC")]),
        make_doc(["北", "京", "\n"], [(0, 3, "LOC")]),
        make_doc("今天下雨", missing=[(1, 3)]),
        make_doc(""),
    ]
    stats = split_stats("train", docs)
    assert (stats.docs, stats.empty_docs, stats.docs_without_entity) == (4, 1, 1)
    assert (stats.tokens, stats.longest, stats.missing_tokens) == (14, 7, 2)
    assert (stats.entities, stats.types) == (4, {"PER": 2, "LOC": 2})
    assert (stats.adjacent, stats.whitespace_edges) == (1, 1)


def test_unseen_mentions_differ_in_text_or_type() -> None:
    train = split_stats("train", [make_doc("张三去北京", [(0, 2, "PER"), (3, 5, "LOC")])])
    dev = split_stats("dev", [make_doc("北京张三", [(0, 2, "ORG"), (2, 4, "PER")]), make_doc("李四", PER)])
    assert dev.unseen(train) == {"ORG": 1, "PER": 1}


def test_nothing_to_say_about_good_data() -> None:
    findings = find_problems([split_stats("train", many()), split_stats("dev", [make_doc("李四", PER)])])
    assert findings.errors == findings.warnings == []


def test_no_docs_and_no_entities_are_errors() -> None:
    empty = split_stats("dev", [make_doc("")])
    bare = split_stats("test", [make_doc("今天")])
    errors = find_problems([split_stats("train", many()), empty, bare]).errors
    assert [error.split(";")[0] for error in errors] == ["dev has no docs", "test has no entities"]


def test_type_absent_from_train_is_an_error() -> None:
    dev = split_stats("dev", [make_doc("北京上海", [(0, 2, "LOC"), (2, 4, "LOC")])])
    (error,) = find_problems([split_stats("train", many()), dev]).errors
    assert error.startswith("dev has types that train lacks: LOC (2);")


def test_few_examples_are_a_warning_below_fifty() -> None:
    dev = split_stats("dev", [make_doc("李四", PER)])
    (warning,) = find_problems([split_stats("train", many(49)), dev]).warnings
    assert warning.startswith("fewer than 50 training examples of PER (49);")


def test_overlap_is_a_warning_between_every_two_splits() -> None:
    train, shared = split_stats("train", many()), make_doc("李四来", PER)
    dev = split_stats("dev", [shared, many(1)[0], many(1)[0]])
    test = split_stats("test", [shared])
    warnings = find_problems([train, dev, test]).warnings
    assert [warning.split(";")[0] for warning in warnings] == [
        "2 docs of dev have a text that train has too",
        "1 docs of test have a text that dev has too",
    ]


def test_whitespace_missing_annotation_and_empty_docs_are_warnings() -> None:
    dev = [make_doc(["李", "四", " "], [(0, 3, "PER")]), make_doc("今天", missing=[(0, 2)]), make_doc("")]
    warnings = find_problems([split_stats("train", many()), split_stats("dev", dev)]).warnings
    assert [warning.split(";")[0] for warning in warnings] == [
        "1 entities of dev begin or end in whitespace",
        "2 tokens of dev have no annotation (not even O)",
        "1 docs of dev are empty and will be skipped",
    ]
