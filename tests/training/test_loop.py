"""A training that was cut anywhere ends as one that was not, and as spaCy's own."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import numpy
import pytest
import spacy
from spacy.language import Language
from spacy.training.initialize import init_nlp
from spacy.training.loop import train as spacy_train
from thinc.api import Config

from spacy_crf_ner.cli.init_config import init_config
from spacy_crf_ner.training.checkpoints import KEPT, last_checkpoint
from spacy_crf_ner.training.loop import train
from tests.evaluation.util import make_doc, write_docs
from tests.util import TEXTS, entity_offsets

WARM = {"@schedules": "warmup_linear.v1", "warmup_steps": 3, "total_steps": 20}
ADAM = {"optimizer": {"@optimizers": "Adam.v1", "learn_rate": {**WARM, "initial_rate": 0.02}}}
AVERAGED = {"optimizer": {**ADAM["optimizer"], "use_averages": True}}
ADAMW = {
    "optimizer": {
        "@optimizers": "spacy-crf-ner.AdamW.v1",
        "learn_rate": 0.02,
        "schedule": {**WARM, "initial_rate": 1.0},
    }
}
EMA = {"optimizer": {**ADAMW["optimizer"], "ema_decay": 0.9}}


class Cut(Exception):
    """The training is cut."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    docs = [make_doc(text, entity_offsets(text, mentions)) for text, mentions in TEXTS * 3]
    return write_docs(tmp_path_factory.mktemp("data") / "docs.spacy", docs)


def config(data: Path, training: Dict[str, Any]) -> Config:
    """Small, with dropout, gradients of two batches per step, and shuffled epochs that end between evaluations."""
    made = Config().from_str(init_config(lang="zh", head="bilstm-crf"), interpolate=False)
    made["components"]["crf_ner"]["model"].update(lstm_width=16)
    made["components"]["crf_ner"]["model"]["tok2vec"].update(
        char_width=16, char_rows=50, bigram_width=8, bigram_rows=50
    )
    made["paths"].update(train=str(data), dev=str(data))
    made["training"].update(max_steps=17, eval_frequency=4, accumulate_gradient=2, dropout=0.2, **training)
    made["training"]["batcher"].update(size=60, buffer=4)
    return made


def run(output: Path, made: Config, *, resume: bool = False, function: Any = train) -> Language:
    nlp = init_nlp(made)
    output.mkdir(exist_ok=True)
    more = {"resume": resume} if function is train else {}
    function(nlp, output, stdout=io.StringIO(), stderr=io.StringIO(), **more)
    return nlp


def saved(output: Path) -> Dict[str, bytes]:
    """All weights of the saved pipelines."""
    return {
        f"{name}/{path.relative_to(output / name)}": path.read_bytes()
        for name in ("model-last", "model-best")
        for path in sorted((output / name).rglob("model"))
    }


@pytest.mark.parametrize("training", [ADAM, AVERAGED, ADAMW, EMA], ids=["Adam", "averages", "AdamW", "EMA"])
def test_a_training_that_was_cut_ends_as_one_that_was_not(
    data: Path, tmp_path: Path, training: Dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = config(data, training)
    run(tmp_path / "spacy", made, function=spacy_train)
    run(tmp_path / "whole", made)
    expected = saved(tmp_path / "whole")
    assert len(expected) == 2 and expected == saved(tmp_path / "spacy")
    # In the second of a step's two updates, and in the first; each time on the way to an evaluation.
    for n_updates in (14, 9):
        with monkeypatch.context() as patched:
            patched.setattr(Language, "update", cut_after(n_updates))
            with pytest.raises(Cut):
                run(tmp_path / "cut", made, resume=True)
        spacy.load(tmp_path / "cut" / "model-best")
        spacy.load(tmp_path / "cut" / "model-last")
    run(tmp_path / "cut", made, resume=True)
    assert saved(tmp_path / "cut") == expected
    # What has ended goes on from its last evaluation to the same end.
    run(tmp_path / "cut", made, resume=True)
    assert saved(tmp_path / "cut") == expected


def cut_after(n_updates: int) -> Any:
    update, n_made = Language.update, 0

    def updated(self: Language, *args: Any, **kwargs: Any) -> Any:
        nonlocal n_made
        if n_made == n_updates:
            raise Cut
        n_made += 1
        return update(self, *args, **kwargs)

    return updated


def test_only_the_last_checkpoints_are_kept_and_the_one_before_serves(data: Path, tmp_path: Path) -> None:
    made = config(data, ADAM)
    run(tmp_path / "out", made)
    expected = saved(tmp_path / "out")
    folders = sorted((tmp_path / "out" / "checkpoints").iterdir())
    assert [folder.name for folder in folders] == ["step-00000012", "step-00000016"] and len(folders) == KEPT
    (folders[1] / "state.json").write_text('{"step": 1', encoding="utf8")
    found = last_checkpoint(tmp_path / "out")
    assert found is not None and found.progress.step == 12
    assert len(found.progress.evaluations) == 4
    run(tmp_path / "out", made, resume=True)
    assert saved(tmp_path / "out") == expected


def test_without_resume_a_training_begins_anew(data: Path, tmp_path: Path) -> None:
    made = config(data, ADAM)
    run(tmp_path / "out", made)
    expected = saved(tmp_path / "out")
    run(tmp_path / "out", made)
    assert saved(tmp_path / "out") == expected


def test_what_a_user_is_told_of_steps_is_told_once(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: List[int] = []

    @spacy.registry.callbacks("test_loop.steps")
    def make() -> Any:
        return lambda nlp, info: steps.append(info["step"])

    made = config(data, {**ADAM, "before_update": {"@callbacks": "test_loop.steps"}})
    with monkeypatch.context() as patched:
        patched.setattr(Language, "update", cut_after(14))
        with pytest.raises(Cut):
            run(tmp_path / "out", made)
    n_before = len(steps)
    assert steps == list(range(n_before)) and n_before > 5
    run(tmp_path / "out", made, resume=True)
    # The last evaluation before the cut was at step 4.
    assert steps[n_before:] == list(range(5, 18))


def test_patience_counts_over_a_cut(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = config(data, ADAM)
    made["training"].update(patience=8, max_steps=0)
    # It learns nothing: the first evaluation is the best.
    made["training"]["optimizer"]["learn_rate"]["initial_rate"] = 0.0
    run(tmp_path / "whole", made)
    with monkeypatch.context() as patched:
        patched.setattr(Language, "update", cut_after(11))
        with pytest.raises(Cut):
            run(tmp_path / "cut", made)
    run(tmp_path / "cut", made, resume=True)
    whole, cut = (last_checkpoint(tmp_path / name) for name in ("whole", "cut"))
    assert whole is not None and cut is not None
    assert whole.progress.step == cut.progress.step == 8


def test_a_checkpoint_of_another_pipeline_is_refused(data: Path, tmp_path: Path) -> None:
    run(tmp_path / "out", config(data, ADAM))
    made = config(data, ADAM)
    made["components"]["crf_ner"]["model"].update(lstm_width=32)
    with pytest.raises(ValueError, match="step-00000016: is not a checkpoint of this pipeline"):
        run(tmp_path / "out", made, resume=True)


@pytest.mark.slow
def test_a_killed_process_goes_on(data: Path, tmp_path: Path) -> None:
    """Killed at random moments, in saving too; model-last and model-best load whenever they are there."""
    made = config(data, ADAMW)
    made["training"].update(max_steps=24, eval_frequency=1)
    path = tmp_path / "train.cfg"
    made.to_disk(path)
    run(tmp_path / "whole", made)
    expected = saved(tmp_path / "whole")
    command = [sys.executable, "-m", "spacy", "crf", "train", str(path), "--resume", str(tmp_path / "out")]
    draw = numpy.random.default_rng(0)
    n_kills = 0
    for patience in (0.5, 1.0, 1.5, 2.0, None):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("---"):
                break
        # Evaluations come many times a second from here on.
        limit = patience and float(draw.uniform(0.0, patience))
        try:
            process.wait(timeout=limit)
        except subprocess.TimeoutExpired:
            process.kill()
            n_kills += 1
        process.stdout.close()
        process.wait()
        for name in ("model-last", "model-best"):
            if (tmp_path / "out" / name).exists():
                spacy.load(tmp_path / "out" / name)
        if process.returncode == 0:
            break
    assert process.returncode == 0 and n_kills
    assert saved(tmp_path / "out") == expected
    assert not [left for left in (tmp_path / "out").rglob(".*") if left.is_dir()]
