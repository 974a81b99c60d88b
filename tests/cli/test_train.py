"""`crf train`: spaCy's training, which goes on where it was cut."""

from pathlib import Path
from typing import Any

import pytest
import spacy
from typer.testing import CliRunner, Result

from spacy_crf_ner.cli import app
from spacy_crf_ner.cli.init_config import init_config
from spacy_crf_ner.training.checkpoints import last_checkpoint
from tests.cli.test_distill import SMALL
from tests.evaluation.util import make_doc, write_docs
from tests.util import TEXTS, entity_offsets


@pytest.fixture
def config(tmp_path: Path) -> Path:
    data = write_docs(tmp_path / "data.spacy", [make_doc(text, entity_offsets(text, m)) for text, m in TEXTS])
    path = tmp_path / "train.cfg"
    text = init_config(lang="zh", head="bilstm-crf")
    path.write_text(
        text.replace("train = null", f'train = "{data}"').replace("dev = null", f'dev = "{data}"'), "utf8"
    )
    return path


def train(config: Path, *more: Any, **overrides: Any) -> Result:
    settings = {**SMALL, "training.max_steps": 6, "training.eval_frequency": 3, **overrides}
    given = [part for name, value in settings.items() for part in (f"--{name}", value)]
    return CliRunner().invoke(app, ["train", *map(str, [config, *more, *given])])


def test_a_training_goes_on_and_ends_with_models_that_load(config: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    result = train(config, "--output", output)
    assert result.exit_code == 0, result.output
    for name in ("model-best", "model-last"):
        assert spacy.load(output / name).pipe_names == ["crf_ner"]
    weights = (output / "model-last" / "crf_ner" / "model").read_bytes()
    result = train(config, "--resume", output)
    assert result.exit_code == 0, result.output
    assert "Going on after step 6" in result.output
    assert (output / "model-last" / "crf_ner" / "model").read_bytes() == weights


def test_a_training_that_had_no_checkpoint_begins(config: Path, tmp_path: Path) -> None:
    assert train(config, "--resume", tmp_path / "new").exit_code == 0
    found = last_checkpoint(tmp_path / "new")
    assert found is not None and found.progress.step == 6


def test_another_config_is_not_gone_on_with(config: Path, tmp_path: Path) -> None:
    assert train(config, "--output", tmp_path / "out").exit_code == 0
    result = train(config, "--resume", tmp_path / "out", **{"training.dropout": 0.3})
    assert result.exit_code == 1
    assert "was begun with training.dropout = 0.0, not 0.3; give the same config to go on" in result.output


@pytest.mark.parametrize("more", [[], ["--output", "a", "--resume", "b"]])
def test_a_training_begins_or_goes_on(config: Path, more: Any) -> None:
    result = train(config, *more)
    assert result.exit_code == 1
    assert "--output OUTPUT begins a training, --resume OUTPUT goes on with one; give one of both" in result.output


def test_a_setting_that_is_none_is_named(config: Path, tmp_path: Path) -> None:
    result = train(config, "--output", tmp_path / "out", **{"training.nothing.here": 1})
    assert result.exit_code == 1
    assert len(result.output.strip().splitlines()) == 1 and "train.cfg: " in result.output
