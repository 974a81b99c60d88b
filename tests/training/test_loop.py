"""A training that was cut anywhere ends as one that was not, and as spaCy's own."""

import io
import logging
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy
import pytest
import spacy
from spacy.language import Language
from spacy.training import Example
from spacy.training.initialize import init_nlp
from spacy.training.loop import train as spacy_train
from spacy.util import registry
from thinc.api import Config, Optimizer

from spacy_crf_ner.cli.init_config import init_config
from spacy_crf_ner.training.checkpoints import KEPT, last_checkpoint
from spacy_crf_ner.training.loop import train
from spacy_crf_ner.training.optimizer_state import Places, load_optimizer_tensors, optimizer_tensors
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


BAG = {
    "@architectures": "spacy.TextCatBOW.v3",
    "exclusive_classes": True,
    "ngram_size": 1,
    "no_output_layer": False,
    "length": 64,
}


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
    """The update of a pipeline, cut after some."""
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
    assert len(found.progress.scores) == 4
    run(tmp_path / "out", made, resume=True)
    assert saved(tmp_path / "out") == expected


def test_without_resume_a_training_begins_anew(data: Path, tmp_path: Path) -> None:
    """A shorter one as well: nothing of the one before is found later."""
    longer, made = config(data, ADAM), config(data, ADAM)
    longer["training"].update(max_steps=25)
    run(tmp_path / "whole", made)
    run(tmp_path / "out", longer)
    run(tmp_path / "out", made)
    assert saved(tmp_path / "out") == saved(tmp_path / "whole")
    run(tmp_path / "out", made, resume=True)
    assert saved(tmp_path / "out") == saved(tmp_path / "whole")
    with pytest.raises(Cut), pytest.MonkeyPatch.context() as patched:
        patched.setattr(Language, "update", cut_after(1))
        run(tmp_path / "out", made)
    # No model of the training before is taken for one of this.
    assert not (tmp_path / "out" / "model-best").exists()


def test_updates_that_draw_random_numbers_make_no_difference_to_the_batches(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update, drawn = Language.update, []

    def drawing(self: Language, *args: Any, **kwargs: Any) -> Any:
        drawn.append((random.random(), numpy.random.random()))
        return update(self, *args, **kwargs)

    made = config(data, ADAM)
    run(tmp_path / "plain", made)
    monkeypatch.setattr(Language, "update", drawing)
    run(tmp_path / "drawing", made)
    # NumPy's numbers are those of Thinc's dropout: the weights may differ, the batches do not.
    plain, other = (last_checkpoint(tmp_path / name) for name in ("plain", "drawing"))
    assert plain is not None and other is not None
    assert plain.progress.digest == other.progress.digest
    whole, drawn[:] = list(drawn), []
    monkeypatch.setattr(Language, "update", cut_after(14))
    with pytest.raises(Cut):
        run(tmp_path / "cut", made)
    assert drawn == whole[: len(drawn)]
    drawn.clear()
    monkeypatch.setattr(Language, "update", drawing)
    run(tmp_path / "cut", made, resume=True)
    assert 5 < len(drawn) < len(whole) and drawn == whole[-len(drawn) :]
    assert saved(tmp_path / "cut") == saved(tmp_path / "drawing")


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
    """Its code may have changed, while its config is the same."""
    run(tmp_path / "out", config(data, ADAM))
    found = last_checkpoint(tmp_path / "out")
    assert found is not None
    made = config(data, ADAM)
    made["components"]["crf_ner"]["model"].update(lstm_width=32)
    nlp = init_nlp(made)
    with pytest.raises(ValueError, match="step-00000016: is not a checkpoint of this pipeline"):
        found.restore(nlp, registry.resolve(nlp.config.interpolate()["training"])["optimizer"])


CHANGES: List[Tuple[Any, str]] = [
    (lambda made: made["training"].update(dropout=0.5), "training.dropout = 0.2, not 0.5"),
    (lambda made: made["training"].pop("dropout"), "training.dropout = 0.2, not 0.1"),
    (lambda made: made["training"].update(score_weights={"ents_p": 1.0}), "weights.ents_f = 1.0, not 0.5"),
    (lambda made: made["training"].update(seed=None), "training.seed = 0, not None"),
    (lambda made: made["components"]["crf_ner"]["model"].update(lstm_width=32), "lstm_width = 16, not 32"),
    (lambda made: made.update(adversarial={"@misc": FAST}), "adversarial.@misc = nothing, not"),
]
FAST = "spacy-crf-ner.FastGradient.v1"


@pytest.mark.parametrize("change, said", CHANGES, ids=[said.split(" = ")[0] for _, said in CHANGES])
def test_a_training_of_other_settings_is_not_gone_on_with(
    data: Path, tmp_path: Path, change: Any, said: str
) -> None:
    """Whether a setting is another one, new, or left out: what counts is the config with all its defaults."""
    made = config(data, ADAM)
    run(tmp_path / "out", made)
    before = saved(tmp_path / "out")
    change(made)
    with pytest.raises(ValueError, match=f"step-00000016: the training was begun with .*{re.escape(said)}"):
        run(tmp_path / "out", made, resume=True)
    assert saved(tmp_path / "out") == before


def test_a_corpus_that_has_changed_is_refused(tmp_path: Path) -> None:
    docs = [make_doc(text, entity_offsets(text, mentions)) for text, mentions in TEXTS * 3]
    path = write_docs(tmp_path / "docs.spacy", docs)
    made = config(path, ADAM)
    made["training"].update(max_epochs=6)
    run(tmp_path / "out", made)
    before = saved(tmp_path / "out")
    write_docs(path, [*docs[:-1], make_doc("其他", [])])
    with pytest.raises(ValueError, match="has seen other examples up to step 16 than the corpus holds now"):
        run(tmp_path / "out", made, resume=True)
    write_docs(path, docs[:2])
    with pytest.raises(ValueError, match="the corpus ends before step 16, that of the checkpoint"):
        run(tmp_path / "out", made, resume=True)
    assert saved(tmp_path / "out") == before


@pytest.mark.parametrize("damage", [b"", b"{", None], ids=repr)
def test_a_checkpoint_that_cannot_be_read_gives_way_to_the_one_before(
    data: Path, tmp_path: Path, damage: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("spacy"), "propagate", True)
    made = config(data, ADAM)
    run(tmp_path / "out", made)
    expected = saved(tmp_path / "out")
    damaged = tmp_path / "out" / "checkpoints" / "step-00000016" / "optimizer.safetensors"
    data_there = damaged.read_bytes()
    damaged.write_bytes(data_there[:-10] if damage is None else damage)
    found = last_checkpoint(tmp_path / "out")
    assert found is not None and found.progress.step == 12
    assert "step-00000016: cannot be read (" in caplog.text and "the checkpoint before is taken" in caplog.text
    run(tmp_path / "out", made, resume=True)
    assert saved(tmp_path / "out") == expected


def test_what_a_replaced_layer_has_gathered_is_left_behind() -> None:
    """spaCy's text classifier makes a new output layer for a label that comes while training is under way."""
    nlp = spacy.blank("zh")
    pipe: Any = nlp.add_pipe("textcat", config={"model": BAG})
    examples = [Example.from_dict(nlp.make_doc(text), {"cats": {"A": 1.0, "B": 0.0}}) for text, _ in TEXTS]
    optimizer = nlp.initialize(lambda: examples)
    nlp.update(examples, sgd=optimizer)
    before = set(optimizer_tensors(optimizer, Places(nlp)))
    assert len(before) == len(optimizer.mom1) + len(optimizer.mom2) + len(optimizer.nr_update)
    pipe.add_label("C")
    nlp.update(examples, sgd=optimizer)
    assert len(optimizer.mom1) > len(before) / 3
    tensors = optimizer_tensors(optimizer, Places(nlp))
    assert len(tensors) == len(before)
    other = Optimizer(0.001)
    load_optimizer_tensors(other, Places(nlp), tensors)
    assert len(other.mom1) == len(before) / 3


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
