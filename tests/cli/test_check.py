from pathlib import Path
from typing import List, Optional

import pytest
from spacy.tokens import Doc
from typer.testing import CliRunner, Result

from spacy_crf_ner.cli import app
from tests.evaluation.util import gold_docs, make_doc, write_docs


def check(tmp_path: Path, train: List[Doc], dev: List[Doc], test: Optional[List[Doc]] = None) -> Result:
    paths = [write_docs(tmp_path / "train.spacy", train), write_docs(tmp_path / "dev" / "1.spacy", dev).parent]
    if test is not None:
        paths.append(write_docs(tmp_path / "test.spacy", test))
    return CliRunner().invoke(app, ["check", *map(str, paths)])


def row(result: Result, name: str) -> List[str]:
    lines = [line for line in result.stdout.splitlines() if line.startswith(f"{name}  ")]
    assert len(lines) >= 1, result.stdout
    return lines[0].removeprefix(name).split()


def people(n: int) -> List[Doc]:
    return [make_doc(f"张三{chr(0x4E00 + i)}", [(0, 2, "PER")]) for i in range(n)]


def test_good_data_has_nothing_to_mend(tmp_path: Path) -> None:
    result = check(
        tmp_path, people(50), [make_doc("李四来", [(0, 2, "PER")]), make_doc("张三走", [(0, 2, "PER")])]
    )
    assert result.exit_code == 0, result.output
    assert "Nothing to mend" in result.stdout
    assert row(result, "Docs") == ["50", "2"]
    assert row(result, "Tokens") == ["150", "6"]
    assert row(result, "Entities") == ["50", "2"]
    assert "PER          2        1   50.0" in result.stdout


def test_test_split_is_a_third_column(tmp_path: Path) -> None:
    result = check(
        tmp_path, people(50), [make_doc("李四来", [(0, 2, "PER")])], [make_doc("王五", [(0, 2, "PER")])]
    )
    assert row(result, "Longest doc (tokens)") == ["3", "3", "2"]
    assert "Mentions of test never seen in train" in result.stdout


def test_warnings_do_not_fail(tmp_path: Path) -> None:
    dev = [
        *people(1),
        make_doc(["李", "四", "\n"], [(0, 3, "PER")]),
        make_doc("今天", missing=[(0, 1)]),
    ]
    result = check(tmp_path, people(3), dev)
    assert result.exit_code == 0
    assert result.stderr == ""
    for part in (
        "1 docs of dev have a text that train has too; remove",
        "fewer than 50 training examples of PER (3); annotate",
        "1 entities of dev begin or end in whitespace; trim",
        "1 tokens of dev have no annotation (not even O); annotate",
    ):
        assert part in " ".join(result.stdout.split())


@pytest.mark.parametrize(
    ("train", "dev", "message"),
    [
        ([], people(1), "train has no docs"),
        (people(1), [], "dev has no docs"),
        (people(1), [make_doc("今天")], "dev has no entities"),
        (people(1), gold_docs(), "dev has types that train lacks: LOC (1), ORG (1)"),
    ],
)
def test_useless_splits_are_errors(tmp_path: Path, train: List[Doc], dev: List[Doc], message: str) -> None:
    result = check(tmp_path, train, dev)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"{message};")
    assert result.stderr.count("\n") == 1


def test_path_that_is_not_there(tmp_path: Path) -> None:
    train = write_docs(tmp_path / "train.spacy", people(1))
    result = CliRunner().invoke(app, ["check", str(train), str(tmp_path / "dev.spacy")])
    assert result.exit_code == 1
    assert result.stderr.startswith(f"{tmp_path / 'dev.spacy'}: no such file or directory;")
    assert result.stderr.count("\n") == 1


def test_unknown_language(tmp_path: Path) -> None:
    train = str(write_docs(tmp_path / "train.spacy", people(1)))
    result = CliRunner().invoke(app, ["check", train, train, "--lang", "klingon"])
    assert result.exit_code == 1
    assert result.stderr.startswith("--lang klingon: ")
    assert result.stderr.count("\n") == 1
