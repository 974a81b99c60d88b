"""`crf export`: what is written has passed the gate, and what has not is not written."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any, List

import pytest
import spacy
import srsly
from typer.testing import CliRunner, Result

from spacy_crf_ner.cli import app
from spacy_crf_ner.deploy import quantization, speed
from spacy_crf_ner.deploy.exporting import export
from tests.evaluation.util import make_doc, write_docs
from tests.util import TEXTS, entity_offsets, ents, overfitted

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model"
    overfitted().to_disk(path)
    return path


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Path:
    docs = [make_doc(text, entity_offsets(text, mentions)) for text, mentions in TEXTS]
    return write_docs(tmp_path_factory.mktemp("dev") / "dev.spacy", docs)


@pytest.fixture(autouse=True)
def _once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it costs is not looked at closely here."""
    monkeypatch.setattr(speed, "ROUNDS", 1)


def run(*given: Any) -> Result:
    return CliRunner().invoke(app, ["export", *map(str, given)])


def found(path: Path) -> List[Any]:
    return [ents(doc) for doc in spacy.load(path).pipe(text for text, _ in TEXTS)]


@pytest.mark.parametrize("more, chosen", [([], "ONNX"), (["--int8"], "ONNX INT8")])
def test_what_is_written_says_the_same(
    model: Path, dev: Path, tmp_path: Path, more: List[str], chosen: str
) -> None:
    result = run(model, tmp_path / "out", "--dev", dev, *more)
    assert result.exit_code == 0, result.output
    assert f"Saved the pipeline ({chosen})" in result.output
    assert found(tmp_path / "out") == found(model)
    report = srsly.read_json(tmp_path / "out" / "export.json")
    assert list(report) == ["torch", "ONNX", "ONNX INT8"][: 3 if more else 2]
    for kind, figures in report.items():
        assert figures["ents_f"] == 1.0 and figures["characters_per_second"] > 0
        assert kind == "torch" or figures["identical"] == figures["docs"] == len(TEXTS)
        assert figures["all_pipes_identical"] == len(TEXTS)
    assert report["ONNX"]["largest_difference"] <= 1e-4
    size = sum(path.stat().st_size for path in (tmp_path / "out" / "crf_ner").rglob("*"))
    assert size / 1e6 == pytest.approx(report[chosen]["megabytes_on_disk"], rel=0.5)
    rows = [line for line in result.output.splitlines() if line.startswith("NER F on dev")]
    assert rows and rows[0].split()[5:] == ["100.00"] * len(report)


def spoilt(graph: bytes, keep: Any = ()) -> bytes:
    """Integers that lose all."""
    import onnx

    made = onnx.load_from_string(graph)
    for weight in made.graph.initializer:
        if weight.name == "output.weight":
            weight.CopyFrom(onnx.numpy_helper.from_array(0 * onnx.numpy_helper.to_array(weight), weight.name))
    return made.SerializeToString()


def test_integers_that_cost_too_much_are_not_written(
    model: Path, dev: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantization, "quantize", spoilt)
    result = run(model, tmp_path / "out", "--dev", dev, "--int8")
    assert result.exit_code == 1
    assert "--int8 costs 100.00 points of F1, more than --max-loss 0.3; nothing is written" in result.output
    # The docs that differ most come first, with what is missing in them.
    lines = result.output.splitlines()
    worst = lines[next(i for i, line in enumerate(lines) if line.startswith("Doc ")) + 2]
    assert worst.startswith("2 ") and "中 LOC, 美 LOC, 上海 LOC" in worst
    assert not (tmp_path / "out").exists()


def test_integers_need_entities_to_be_judged_by(model: Path, tmp_path: Path) -> None:
    dev = write_docs(tmp_path / "dev.spacy", [make_doc("今天天气很好。", [])])
    result = run(model, tmp_path / "out", "--dev", dev, "--int8")
    assert result.exit_code == 1
    assert "finds no entity of --dev, by which the loss of --int8 could be measured" in result.output
    assert run(model, tmp_path / "out", "--dev", dev).exit_code == 0


def test_a_graph_that_computes_something_else_is_not_written(
    model: Path, dev: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from spacy_crf_ner.deploy import exporting

    heads = exporting.head_graphs
    monkeypatch.setattr(
        exporting,
        "head_graphs",
        lambda *given, **more: {name: spoilt(graph) for name, graph in heads(*given, **more).items()},
    )
    result = run(model, tmp_path / "out", "--dev", dev)
    assert result.exit_code == 1
    assert (
        "the exported pipeline has other entities in 4 of 5 docs, and other annotation in 4; a potential"
        in result.output
    )
    assert not (tmp_path / "out").exists()


def test_a_pipe_that_says_something_else_is_seen(
    dev: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the recognizer that is judged, but another one."""
    nlp = overfitted()
    other = overfitted()
    nlp.add_pipe("crf_ner", name="other", source=other, first=True)
    nlp.to_disk(tmp_path / "two")
    from spacy_crf_ner.deploy import exporting

    heads = exporting.head_graphs
    calls: List[int] = []

    def first_is_spoilt(*given: Any, **more: Any) -> Any:
        calls.append(1)
        graphs = heads(*given, **more)
        return {name: spoilt(graph) for name, graph in graphs.items()} if len(calls) == 1 else graphs

    result = run(tmp_path / "two", tmp_path / "good", "--dev", dev, "--component", "crf_ner")
    assert result.exit_code == 0, result.output
    monkeypatch.setattr(exporting, "head_graphs", first_is_spoilt)
    result = run(tmp_path / "two", tmp_path / "out", "--dev", dev, "--component", "crf_ner")
    assert result.exit_code == 1 and len(calls) == 2
    assert "a potential differs by" in result.output and "nothing is written" in result.output


def exported(path: Path) -> Path:
    export(overfitted()).to_disk(path)
    return path


def disabled(path: Path) -> Path:
    nlp = overfitted()
    nlp.disable_pipe("crf_ner")
    nlp.to_disk(path)
    return path


def blank(path: Path) -> Path:
    spacy.blank("zh").to_disk(path)
    return path


@pytest.mark.parametrize(
    "make, more, said",
    [
        (exported, [], "component 'crf_ner' is exported already; give the pipeline that it was made from"),
        (disabled, [], "component 'crf_ner' is disabled; enable it in the pipeline's config"),
        (blank, [], "has no crf_ner (it has nothing); give one that has"),
        (None, ["--opset", 3], "opset must be 18 or more, got 3"),
        (
            None,
            ["--int8", "--keep-fp32", "nothing"],
            "--keep-fp32 'nothing': no layer has such a name; there are ",
        ),
        (None, ["--int8", "--keep-fp32", "("], "--keep-fp32 '(': is no regular expression"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    model: Path, dev: Path, tmp_path: Path, make: Any, more: List[Any], said: str
) -> None:
    given = model if make is None else make(tmp_path / "given")
    result = run(given, tmp_path / "out", "--dev", dev, *more)
    assert result.exit_code == 1
    assert said in result.output and len(result.output.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_without_onnx_the_extra_is_named(
    model: Path, dev: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    result = run(model, tmp_path / "out", "--dev", dev)
    assert result.exit_code == 1
    assert "is not installed; pip install 'spacy-crf-ner[onnx]'" in result.output


@pytest.mark.slow
def test_it_runs_where_torch_is_not_installed(model: Path, dev: Path, tmp_path: Path) -> None:
    """In an environment of what `requirements-onnx.txt` names."""
    assert run(model, tmp_path / "out", "--dev", dev).exit_code == 0
    python = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    venv.create(tmp_path / "venv", with_pip=True)
    install(python, ["-r", str(ROOT / "requirements-onnx.txt")])
    install(python, ["--no-deps", str(copied(tmp_path))])
    code = (
        "import json, sys, spacy; nlp = spacy.load(sys.argv[1]); texts = json.load(sys.stdin); "
        "pipe = nlp.get_pipe('crf_ner'); docs = list(nlp.pipe(texts, n_process=2)); "
        "scores = pipe.predict_scores([nlp.make_doc(text) for text in texts]); "
        "best = pipe.predict_kbest([nlp.make_doc(texts[0])], 3)[0]; "
        "assert not {'torch', 'transformers', 'spacy_transformers'} & {*sys.modules}; "
        "print(json.dumps([[[[e.text, e.label_] for e in doc.ents] for doc in docs], "
        "[[s for _, s in found] for found in scores], [h.probability for h in best]]))"
    )
    done = subprocess.run(
        [python, "-c", code, str(tmp_path / "out")],
        input=srsly.json_dumps([text for text, _ in TEXTS]),
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    entities, scores, best = srsly.json_loads(done.stdout)
    nlp = spacy.load(model)
    pipe: Any = nlp.get_pipe("crf_ner")
    docs = [nlp.make_doc(text) for text, _ in TEXTS]
    assert [[tuple(e) for e in doc] for doc in entities] == found(model)
    expected = [[score for _, score in of_doc] for of_doc in pipe.predict_scores(docs)]
    assert scores == [pytest.approx(of_doc, abs=1e-4) for of_doc in expected]
    assert best == pytest.approx([h.probability for h in pipe.predict_kbest(docs[:1], 3)[0]], abs=1e-4)


def install(python: Path, what: List[str]) -> None:
    done = subprocess.run([python, "-m", "pip", "install", "-q", *what], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def copied(tmp_path: Path) -> Path:
    """The package's source, so that nothing is built in the checkout."""
    source = tmp_path / "source"
    shutil.copytree(ROOT / "spacy_crf_ner", source / "spacy_crf_ner")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    return source
