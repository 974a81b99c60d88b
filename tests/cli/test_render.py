from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from spacy_crf_ner.cli import app
from tests.evaluation.util import gold_docs, write_docs, write_pipeline


def render(*args: Any) -> Result:
    return CliRunner().invoke(app, ["render", *map(str, args)])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_pipeline(tmp_path / "model", {"张三": "PER", "北京": "LOC", "雨": "LOC"})


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_docs(tmp_path / "dev.spacy", gold_docs())


def test_page_shows_predictions_and_mistakes(tmp_path: Path, model: Path, data: Path) -> None:
    output = tmp_path / "pages" / "dev.html"
    result = render(model, data, output)
    assert result.exit_code == 0, result.output
    html = output.read_text(encoding="utf-8")
    for text, verdict in (("张三", "correct"), ("北京", "correct"), ("联合国", "missed"), ("雨", "spurious")):
        assert f'{verdict}" style' in html
        assert f">{text}<span" in html
    assert "<title>model on dev.spacy</title>" in html
    assert "Wrote 3 of 3 docs" in " ".join(result.stdout.split())


def test_limit_and_errors_only(tmp_path: Path, model: Path, data: Path) -> None:
    output = tmp_path / "dev.html"
    render(model, data, output, "--limit", 1)
    assert output.read_text(encoding="utf-8").count("<article") == 1
    result = render(model, data, output, "--errors-only")
    html = output.read_text(encoding="utf-8")
    assert html.count("<article") == 2
    assert 'id="doc-1"' not in html
    assert "Wrote 2 of 3 docs" in " ".join(result.stdout.split())


def test_errors_are_one_line(tmp_path: Path, model: Path, data: Path) -> None:
    for args, named in (
        ((tmp_path / "nowhere", data, tmp_path / "x.html"), "nowhere"),
        ((model, tmp_path / "gone.spacy", tmp_path / "x.html"), "gone.spacy: no such file"),
        ((model, data, tmp_path), "is a directory; name a file in it"),
    ):
        result = render(*args)
        assert result.exit_code == 1
        assert named in result.stderr
        assert result.stderr.count("\n") == 1
