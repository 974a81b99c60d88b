from pathlib import Path
from typing import Any

import pytest
import spacy
import srsly
from spacy.training import Corpus
from typer.testing import CliRunner, Result

from spacy_crf_ner.cli import app
from tests.evaluation.util import gold_docs, make_doc, write_docs, write_pipeline
from tests.warm_python import WarmPython

PATTERNS = {"张三": "PER", "北京": "LOC", "今天": "LOC"}


def evaluate(*args: Any) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, args)])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_pipeline(tmp_path / "model", PATTERNS)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_docs(tmp_path / "dev.spacy", gold_docs())


def test_scores_are_those_of_nlp_evaluate(tmp_path: Path, model: Path, data: Path) -> None:
    output, report = tmp_path / "metrics" / "dev.json", tmp_path / "metrics" / "dev.txt"
    result = evaluate(model, data, "--output", output, "--report", report, "--batch-size", 2)
    assert result.exit_code == 0, result.output
    nlp = spacy.load(model)
    expected = nlp.evaluate(list(Corpus(data)(nlp)))
    stored = srsly.read_json(output)
    for key in ("ents_p", "ents_r", "ents_f", "token_acc"):
        assert stored[key] == pytest.approx(expected[key])
    for label, prf in expected["ents_per_type"].items():
        assert stored["ents_per_type"][label] == pytest.approx(prf)
    assert stored["seqeval"]["micro avg"]["f1-score"] == pytest.approx(expected["ents_f"])
    assert stored["counts"]["gold"] == stored["counts"]["predicted"] == 3
    assert stored["counts"]["correct"] == 2
    assert stored["speed"] > 0
    assert "0.6667" in report.read_text(encoding="utf-8")
    assert "66.67" in result.stdout


def test_directory_of_docbins(tmp_path: Path, model: Path) -> None:
    for i, doc in enumerate(gold_docs()):
        write_docs(tmp_path / "many" / f"{i}.spacy", [doc])
    result = evaluate(model, tmp_path / "many", "-o", tmp_path / "all.json")
    assert result.exit_code == 0, result.output
    assert srsly.read_json(tmp_path / "all.json")["counts"]["docs"] == 3


def test_other_tokens_are_said(tmp_path: Path, model: Path) -> None:
    gold = make_doc(["去", "北京市"], [(1, 2, "LOC")])
    result = evaluate(model, write_docs(tmp_path / "x.spacy", [gold]))
    assert result.exit_code == 0, result.output
    said = " ".join(result.stdout.split())
    assert "1 gold tokens are cut otherwise by the pipeline's tokenizer; 1 predictions begin or end inside" in said


def test_missing_annotation_is_said(tmp_path: Path, model: Path) -> None:
    gold = make_doc("张三去北京", [(0, 2, "PER")], missing=[(3, 5)])
    result = evaluate(model, write_docs(tmp_path / "x.spacy", [gold]))
    assert "2 gold tokens have no annotation; 1 predictions on them" in " ".join(result.stdout.split())


def test_data_without_gold_entities(tmp_path: Path) -> None:
    blank = write_pipeline(tmp_path / "blank", {"没有": "PER"})
    result = evaluate(blank, write_docs(tmp_path / "x.spacy", [make_doc("今天")]), "-o", tmp_path / "x.json")
    assert result.exit_code == 0, result.output
    assert "No gold entities" in result.stdout
    assert srsly.read_json(tmp_path / "x.json")["ents_f"] is None


def test_code_with_registered_functions_is_imported(tmp_path: Path, data: Path) -> None:
    code = tmp_path / "extra.py"
    code.write_text(
        "from spacy.language import Language\n"
        "@Language.component('crf_test_marker')\n"
        "def marker(doc):\n"
        "    doc.set_ents([doc.char_span(0, 2, label='PER')])\n"
        "    return doc\n",
        encoding="utf-8",
    )
    nlp = spacy.blank("zh")
    nlp.to_disk(tmp_path / "own")
    config = nlp.config.copy()
    config["nlp"]["pipeline"] = ["marker"]
    config["components"] = {"marker": {"factory": "crf_test_marker"}}
    config.to_disk(tmp_path / "own" / "config.cfg")
    without = evaluate(tmp_path / "own", data)
    assert without.exit_code == 1
    assert "--code" in without.stderr
    assert without.stderr.count("\n") == 1
    result = evaluate(tmp_path / "own", data, "--code", code, "-o", tmp_path / "x.json")
    assert result.exit_code == 0, result.output
    assert srsly.read_json(tmp_path / "x.json")["counts"]["correct"] == 1


def test_errors_are_one_line(tmp_path: Path, model: Path, data: Path) -> None:
    broken = tmp_path / "broken.spacy"
    broken.write_bytes(b"no docbin")
    empty = write_docs(tmp_path / "empty.spacy", [])
    bad_code = tmp_path / "bad.py"
    bad_code.write_text("1 / 0\n", encoding="utf-8")
    for args, named in (
        ((tmp_path / "nowhere", data), "nowhere"),
        ((model, tmp_path / "nowhere.spacy"), "nowhere.spacy: no such file"),
        ((model, broken), "broken.spacy: not a DocBin"),
        ((model, empty), "empty.spacy: holds no text"),
        ((model, data, "--output", tmp_path), f"{tmp_path}: is a directory"),
        ((model, data, "--code", bad_code), "bad.py: cannot be imported (ZeroDivisionError"),
        ((model, data, "--code", tmp_path / "gone.py"), "gone.py: cannot be imported"),
        ((model, data, "--gpu-id", 99), "GPU 99 cannot be used"),
    ):
        result = evaluate(*args)
        assert result.exit_code == 1, args
        assert named in result.stderr
        assert result.stderr.count("\n") == 1


def test_command_is_found_by_spacy(shell: WarmPython) -> None:
    done = shell.spacy("crf", "evaluate", "--help")
    assert done.returncode == 0, done.stderr
    assert "--report" in done.stdout
