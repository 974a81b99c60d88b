import re

import pytest

from spacy_crf_ner.corpus.finding import KINDS, Finding, Severity, parse_fail_on
from spacy_crf_ner.corpus.stats import Case, Tally

ERRORS = {code for code, kind in KINDS.items() if kind.severity is Severity.ERROR}
WARNINGS = {code for code, kind in KINDS.items() if kind.severity is Severity.WARNING}


def test_kinds_stand_worst_first() -> None:
    severities = [list(Severity).index(kind.severity) for kind in KINDS.values()]
    assert severities == sorted(severities)


def test_codes_are_stable() -> None:
    """They stand in the --fail-on of others: none may be renamed."""
    assert list(KINDS) == [
        "no_entities",
        "label_not_in_train",
        "empty_label",
        "whitespace_entities",
        "changed_texts",
        "leaked_docs",
        "contradictions",
        "contradictions_across",
        "duplicate_docs",
        "misaligned_entities",
        "misaligned_tokens",
        "whitespace_edges",
        "punctuation_edges",
        "crossed_sentences",
        "overlapping_entities",
        "missing_annotation",
        "few_examples",
        "no_negative_examples",
        "very_few_docs",
        "empty_docs",
        "unknown_to_encoder",
        "unknown_to_vectors",
        "duplicate_entities",
        "reader_notes",
        "long_docs",
        "ambiguous_forms",
        "label_not_in_dev",
        "few_docs",
        "no_dev",
    ]


def test_fail_on_levels() -> None:
    assert parse_fail_on("none") == frozenset()
    assert parse_fail_on("error") == ERRORS
    assert parse_fail_on("warning") == ERRORS | WARNINGS
    assert len(ERRORS) == 5 and len(WARNINGS) == 17


def test_fail_on_codes_and_levels_with_commas_between() -> None:
    assert parse_fail_on("leaked_docs") == {"leaked_docs"}
    assert parse_fail_on("leaked_docs, few_docs") == {"leaked_docs", "few_docs"}
    assert parse_fail_on("error,leaked_docs") == ERRORS | {"leaked_docs"}


@pytest.mark.parametrize("value", ["leaks", "leaked_docs,leaks", "", "info", "error,"])
def test_fail_on_refuses_what_it_does_not_know(value: str) -> None:
    wrong = value.split(",")[-1]
    names = "none, error, warning, no_entities, .*no_dev"
    pattern = f"--fail-on {re.escape(value)}: there is no '{wrong}'; choose from {names}"
    with pytest.raises(ValueError, match=pattern):
        parse_fail_on(value)


def test_finding_as_json() -> None:
    tally = Tally()
    tally.add(Case("train.bio:1", "北京。", "LOC"))
    tally.add(Case("train.bio:2", "张三！", "PER", "odd"))
    tally.add(Case("train.bio:3", "上海。", "LOC"))
    finding = Finding.of("punctuation_edges", "train", tally, "3 entities")
    assert finding.to_json() == {
        "code": "punctuation_edges",
        "severity": "warning",
        "split": "train",
        "count": 3,
        "message": "3 entities",
        "advice": KINDS["punctuation_edges"].advice,
        "types": {"LOC": 2, "PER": 1},
        "examples": [
            {"origin": "train.bio:1", "text": "北京。", "label": "LOC", "note": ""},
            {"origin": "train.bio:2", "text": "张三！", "label": "PER", "note": "odd"},
            {"origin": "train.bio:3", "text": "上海。", "label": "LOC", "note": ""},
        ],
    }
