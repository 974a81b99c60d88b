import os
import sys
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest
import spacy
import srsly
from spacy.language import Language
from spacy.tokens import Doc, Span
from typer.testing import CliRunner, Result

from spacy_crf_ner.cli import app
from tests.evaluation.util import Entity, make_doc, write_docs, write_pipeline
from tests.util import TEXTS, entity_offsets, ents, examples_from, get_pipe, optimizer, overfitted
from tests.warm_python import WarmPython

pytest.importorskip("matplotlib")

PLACES: List[Entity] = [(0, 1, "LOC"), (1, 2, "LOC"), (5, 7, "LOC")]


def calibrate(*args: Any) -> Result:
    return CliRunner().invoke(app, ["calibrate", *map(str, args)])


def gold_docs() -> List[Doc]:
    """What the pipeline has learnt, and as much again where the gold disagrees: it is right half of the time.

    There is as much of the one as of the other in the first, third, fifth doc and so on.
    """
    known = [make_doc(text, entity_offsets(text, mentions)) for text, mentions in TEXTS]
    other = [make_doc(text, [(0, 1, "ORG")]) for text, _ in TEXTS]
    return [*known, *other, *known, *other]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("calibrate") / "model"
    overfitted().to_disk(path)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_docs(tmp_path / "dev.spacy", gold_docs())


@pytest.fixture(scope="module")
def calibrated(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Tuple[Path, Result]:
    folder = tmp_path_factory.mktemp("calibrated")
    result = calibrate(model, write_docs(folder / "dev.spacy", gold_docs()), folder / "out" / "model")
    assert result.exit_code == 0, result.output
    return folder / "out" / "model", result


@pytest.fixture(scope="module")
def report(calibrated: Tuple[Path, Result]) -> Dict[str, Any]:
    return srsly.read_json(calibrated[0] / "calibration" / "report.json")


def test_saved_pipeline_has_the_temperature_and_predicts_the_same(
    model: Path, calibrated: Tuple[Path, Result], report: Dict[str, Any]
) -> None:
    before, after = spacy.load(model), spacy.load(calibrated[0])
    assert get_pipe(before, "crf_ner").temperature == 1.0
    assert get_pipe(after, "crf_ner").temperature == pytest.approx(report["temperature"])
    for text, _ in TEXTS:
        assert ents(after(text)) == ents(before(text))


def test_a_pipeline_that_is_too_sure_gets_warmer(report: Dict[str, Any]) -> None:
    assert report["temperature"] > 1.0
    assert report["after"]["ece"] < report["before"]["ece"]
    assert report["cross_fitted"]["ece"] < report["before"]["ece"]
    assert report["after"]["mean_score"] < report["before"]["mean_score"]


def test_report_is_of_what_the_pipeline_predicts(model: Path, report: Dict[str, Any]) -> None:
    nlp = spacy.load(model)
    n_mentions = sum(len(mentions) for _, mentions in TEXTS)
    assert report["docs"] == 4 * len(TEXTS)
    assert report["entities"] == 4 * sum(len(nlp(text).ents) for text, _ in TEXTS)
    assert report["gold"] == 2 * n_mentions + 2 * len(TEXTS)
    assert report["precision"] == report["before"]["accuracy"] == report["after"]["accuracy"]
    scores = get_pipe(nlp, "crf_ner").predict_scores([nlp.make_doc(text) for text, _ in TEXTS])
    flat = [score for doc in scores for _, score in doc]
    assert report["before"]["mean_score"] == pytest.approx(sum(flat) / len(flat), abs=1e-5)


def test_plot_and_table(calibrated: Tuple[Path, Result], report: Dict[str, Any]) -> None:
    path, result = calibrated
    assert (path / "calibration" / "reliability.png").read_bytes().startswith(b"\x89PNG")
    said = " ".join(result.stdout.split())
    for shown in (
        f"Temperature 1 {report['temperature']:.3f}",
        f"ECE % {report['before']['ece'] * 100:.2f} {report['after']['ece'] * 100:.2f}",
        f"Predicted {report['entities']}",
        f"Only {report['entities']} predicted entities: calibration errors are mostly noise",
        f"NER P {report['precision'] * 100:.2f}",
        "The entities have not changed: precision, recall and F are the same before and after",
        f"Saved the pipeline to {path}",
    ):
        assert shown in said
    assert sorted(p.name for p in path.parent.iterdir()) == ["model"], "nothing temporary stays"


def test_bins_are_those_asked_for(tmp_path: Path, model: Path, data: Path) -> None:
    assert calibrate(model, data, tmp_path / "out", "--bins", 4).exit_code == 0
    assert len(srsly.read_json(tmp_path / "out" / "calibration" / "report.json")["before"]["bins"]) == 4


def test_empty_directory_and_link_to_one_are_filled(tmp_path: Path, model: Path, data: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty", target_is_directory=True)
    assert calibrate(model, data, tmp_path / "link").exit_code == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "empty" / "config.cfg").is_file()


def test_calibrated_pipeline_is_fitted_anew_from_one(
    tmp_path: Path, data: Path, calibrated: Tuple[Path, Result], report: Dict[str, Any]
) -> None:
    result = calibrate(calibrated[0], data, tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert f"had temperature {report['temperature']:.3f}, which is replaced" in " ".join(result.stdout.split())
    again = srsly.read_json(tmp_path / "out" / "calibration" / "report.json")
    assert again["before"] == report["before"]
    assert again["temperature"] == pytest.approx(report["temperature"], rel=1e-3)


def test_unknown_annotation_is_said(tmp_path: Path, model: Path) -> None:
    text = TEXTS[1][0]
    # Each half has a place too few: a model without mistakes has no temperature.
    docs = [make_doc(text, PLACES[1:]), make_doc(text, PLACES[1:2], missing=[(5, 7)])]
    result = calibrate(model, write_docs(tmp_path / "x.spacy", docs), tmp_path / "out")
    assert "1 predictions on tokens without gold annotation" in " ".join(result.stdout.split())
    assert srsly.read_json(tmp_path / "out" / "calibration" / "report.json")["ignored"] == 1


def test_a_fit_that_does_not_help_is_said(tmp_path: Path, model: Path, calibrated: Tuple[Path, Result]) -> None:
    """What is predicted is right and sure; the likelihood suffers from what is missed, and asks for doubt."""
    missed = [
        make_doc(text, [*entity_offsets(text, mentions), (len(text) - 1, len(text), "ORG")])
        for text, mentions in TEXTS
    ]
    result = calibrate(model, write_docs(tmp_path / "x.spacy", missed * 4), tmp_path / "out")
    said = "Cross-fitted, the calibration error of these"
    assert said in " ".join(result.stdout.split())
    assert said not in " ".join(calibrated[1].stdout.split())


@Language.component("crf_test_first_token_is_set")
def first_token_is_set(doc: Doc) -> Doc:
    doc.set_ents([Span(doc, 0, 1, label="MISC")], default="unmodified")
    return doc


def test_preceding_components_run_and_following_ones_do_not(tmp_path: Path, data: Path) -> None:
    nlp = overfitted()
    nlp.add_pipe("crf_test_first_token_is_set", name="before", before="crf_ner")
    nlp.add_pipe("crf_test_first_token_is_set", name="after", last=True)
    nlp.to_disk(tmp_path / "model")
    assert calibrate(tmp_path / "model", data, tmp_path / "out").exit_code == 0
    report = srsly.read_json(tmp_path / "out" / "calibration" / "report.json")
    own = [ent for text, _ in TEXTS for ent in nlp(text).ents if ent.label_ != "MISC"]
    assert report["entities"] == 4 * len(own), "what another component has set is not a prediction"
    assert spacy.load(tmp_path / "out").pipe_names == ["before", "crf_ner", "after"]


def test_min_score_is_warned_of(tmp_path: Path, model: Path, data: Path) -> None:
    nlp = spacy.load(model, config={"components": {"crf_ner": {"min_score": 0.9}}})
    nlp.to_disk(tmp_path / "model")
    result = calibrate(tmp_path / "model", data, tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "'crf_ner' drops those below its min_score of 0.9" in " ".join(result.stdout.split())
    report = srsly.read_json(tmp_path / "out" / "calibration" / "report.json")
    assert report["entities"] == 4 * sum(len(spacy.load(model)(text).ents) for text, _ in TEXTS)


def test_entities_that_a_bonus_tips_are_said(tmp_path: Path, model: Path, data: Path) -> None:
    """A bonus that is too small to make 天气 an entity at temperature 1, and large enough when it is warmer."""
    nlp = spacy.load(model)
    get_pipe(nlp, "crf_ner").gazetteer.add("ORG", [nlp.make_doc("天气")], rule="soft", weight=9.0)
    assert not nlp("今天天气很好，大家都很高兴。").ents
    nlp.to_disk(tmp_path / "model")
    result = calibrate(tmp_path / "model", data, tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "The entities of 4 docs have changed" in " ".join(result.stdout.split())
    assert ents(spacy.load(tmp_path / "out")("今天天气很好，大家都很高兴。")) == [("天气", "ORG")]


def two_recognizers(path: Path) -> Path:
    nlp = overfitted()
    nlp.add_pipe("crf_ner", name="second", config={"model": nlp.get_pipe_config("crf_ner")["model"]})
    examples = examples_from(nlp)
    with nlp.select_pipes(enable="second"):
        nlp.initialize(get_examples=lambda: examples)
    sgd = optimizer()
    for _ in range(40):
        nlp.update(examples, sgd=sgd)
    nlp.to_disk(path)
    return path


def test_one_of_several_is_chosen(tmp_path: Path, data: Path) -> None:
    model = two_recognizers(tmp_path / "model")
    unclear = calibrate(model, data, tmp_path / "out")
    assert unclear.exit_code == 1
    assert "several crf_ner: crf_ner, second; choose by --component" in unclear.stderr
    result = calibrate(model, data, tmp_path / "out", "--component", "crf_ner")
    assert result.exit_code == 0, result.output
    nlp = spacy.load(tmp_path / "out")
    assert get_pipe(nlp, "crf_ner").temperature > 1.0
    assert get_pipe(nlp, "second").temperature == 1.0


def test_errors_are_one_line_and_leave_nothing(tmp_path: Path, model: Path, data: Path) -> None:
    rules = write_pipeline(tmp_path / "rules", {"张三": "PER"})
    full = tmp_path / "full"
    full.mkdir()
    (full / "x").touch()
    silent = write_docs(tmp_path / "silent.spacy", [make_doc("今天天气很好"), make_doc("大家都很高兴")])
    single = write_docs(tmp_path / "single.spacy", gold_docs()[:1])
    unknown = write_docs(tmp_path / "unknown.spacy", [make_doc(TEXTS[1][0], missing=[(0, 10)])] * 2)
    other_types = write_docs(tmp_path / "types.spacy", [make_doc(TEXTS[1][0], [(0, 1, "GPE")])] * 2)
    before = sorted(tmp_path.rglob("*"))
    out = tmp_path / "new" / "out"
    for args, named in (
        ((model, data, full), f"{full}: is not empty; name a new directory"),
        ((model, data, data), f"{data}: is there already and is not a directory"),
        ((rules, data, out), "has no crf_ner (it has entity_ruler)"),
        ((model, data, out, "--component", "ner"), "--component ner: no crf_ner of pipeline"),
        ((model, tmp_path / "gone.spacy", out), "gone.spacy: no such file"),
        ((tmp_path / "gone", data, out), "gone' cannot be loaded"),
        ((model, silent, out), f"{silent}: component 'crf_ner' predicts no entity"),
        ((model, unknown, out), f"{unknown}: component 'crf_ner' predicts no entity"),
        ((model, other_types, out), f"{other_types}: label 'GPE' is not among the labels"),
        ((model, single, out), f"{single}: 1 docs cannot be halved"),
        ((model, data, out, "--gpu-id", 99), "GPU 99 cannot be used"),
        ((model, data, out, "--code", tmp_path / "gone.py"), "gone.py: cannot be imported"),
    ):
        result = calibrate(*args)
        assert result.exit_code == 1, args
        assert named in result.stderr
        assert result.stderr.count("\n") == 1
        assert sorted(tmp_path.rglob("*")) == before


def test_missing_matplotlib_is_said_before_anything_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = calibrate("nowhere", tmp_path / "gone.spacy", tmp_path / "out")
    assert result.exit_code == 1
    assert 'install it with `pip install "spacy-crf-ner[plot]"`' in result.stderr


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_directory_that_may_not_be_written(tmp_path: Path, model: Path, data: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o555)
    result = calibrate(model, data, tmp_path / "locked" / "out")
    assert result.exit_code == 1
    assert "locked" in result.stderr


def test_command_is_found_by_spacy(shell: WarmPython) -> None:
    done = shell.spacy("crf", "calibrate", "--help")
    assert done.returncode == 0, done.stderr
    assert "--component" in done.stdout
