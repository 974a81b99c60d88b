"""Adversarial training: what is moved, what is learnt, and that everything is back in its place."""

import io
from pathlib import Path
from typing import Any, List

import pytest
import spacy
import torch
from spacy.training.initialize import init_nlp
from thinc.api import Config

from spacy_crf_ner.cli.init_config import init_config
from spacy_crf_ner.training.adversarial import FastGradient, word_embeddings
from spacy_crf_ner.training.loop import train
from tests.encoder.util import encoder_pipeline, save_tiny_bert
from tests.evaluation.util import make_doc, write_docs
from tests.util import NO_STEP, TEXTS, entity_offsets, examples_from, get_pipe


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("encoder"), [text for text, _ in TEXTS])


def test_the_embeddings_move_along_their_gradient_and_back(encoder: Path) -> None:
    nlp = encoder_pipeline(encoder)
    (table,) = word_embeddings(nlp)
    before = table.detach().clone()
    nlp.update(examples_from(nlp), sgd=NO_STEP, drop=0.0)
    assert table.grad is not None
    direction = table.grad / table.grad.norm()
    with FastGradient(0.5).moved(nlp):
        torch.testing.assert_close(table.detach() - before, 0.5 * direction, atol=1e-6, rtol=1e-4)
    assert torch.equal(table.detach(), before)
    with pytest.raises(KeyboardInterrupt), FastGradient(0.5).moved(nlp):
        raise KeyboardInterrupt
    assert torch.equal(table.detach(), before)


def test_the_loss_is_greater_there_and_its_gradient_is_added(encoder: Path) -> None:
    nlp = encoder_pipeline(encoder)
    (table,) = word_embeddings(nlp)
    head = get_pipe(nlp, "crf_ner").model.get_ref("output_layer").shims[0]._model.crf.transitions
    examples = examples_from(nlp)
    plain = nlp.update(examples, sgd=NO_STEP, drop=0.0)["crf_ner"]
    first = head.grad.clone()
    with FastGradient(2.0).moved(nlp):
        moved = nlp.update(examples, sgd=NO_STEP, drop=0.0)["crf_ner"]
    both = head.grad.clone()
    assert moved > plain
    for parameter in (table, head):
        parameter.grad = None
    for layer in (*get_pipe(nlp, "transformer").model.walk(), *get_pipe(nlp, "crf_ner").model.walk()):
        for shim in layer.shims:
            shim._model.zero_grad()
    losses: Any = {}
    FastGradient(2.0).update(nlp, examples, sgd=NO_STEP, drop=0.0, losses=losses)
    assert losses["crf_ner"] == pytest.approx(plain)
    torch.testing.assert_close(head.grad, both, atol=1e-6, rtol=1e-4)
    assert not torch.allclose(both, 2 * first)


@pytest.mark.parametrize("gradient", [0.0, float("inf"), float("nan")])
def test_without_a_direction_a_batch_is_learnt_once(
    encoder: Path, gradient: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In half precision a gradient may overflow, and the optimizer leaves out the step."""
    nlp = encoder_pipeline(encoder)
    (table,) = word_embeddings(nlp)
    before = table.detach().clone()
    update, n_updates = type(nlp).update, []

    def spoilt(self: Any, *args: Any, **settings: Any) -> Any:
        losses = update(self, *args, **settings)
        n_updates.append(1)
        assert table.grad is not None
        table.grad.fill_(gradient)
        return losses

    monkeypatch.setattr(type(nlp), "update", spoilt)
    FastGradient().update(nlp, examples_from(nlp), sgd=NO_STEP, drop=0.0)
    assert len(n_updates) == 1
    assert torch.equal(table.detach(), before)


@pytest.mark.parametrize("settings", [{"freeze": "all"}, {"freeze": "embeddings"}])
def test_embeddings_that_do_not_learn_are_not_moved(encoder: Path, settings: Any) -> None:
    nlp = encoder_pipeline(encoder, **settings)
    with pytest.raises(ValueError, match="none learns in this pipeline; leave the section out"):
        FastGradient().update(nlp, examples_from(nlp), sgd=NO_STEP)


def test_a_config_names_it_and_a_training_heeds_it(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_docs(tmp_path / "docs.spacy", [make_doc(text, entity_offsets(text, m)) for text, m in TEXTS])
    config = Config().from_str(init_config(lang="zh", encoder=str(encoder), head="crf"), interpolate=False)
    config["paths"].update(train=str(data), dev=str(data))
    config["training"].update(max_steps=2, eval_frequency=2)
    config["adversarial"] = {"@misc": "spacy-crf-ner.FastGradient.v1", "epsilon": 0.3}
    called: List[float] = []
    update = FastGradient.update

    def noting(self: FastGradient, *args: Any, **settings: Any) -> None:
        called.append(self.epsilon)
        update(self, *args, **settings)

    monkeypatch.setattr(FastGradient, "update", noting)
    train(init_nlp(config), tmp_path / "out", stdout=io.StringIO(), stderr=io.StringIO())
    assert called == [0.3] * 3
    # The saved pipeline says how it was trained.
    assert spacy.load(tmp_path / "out" / "model-last").config["adversarial"]["epsilon"] == 0.3


def test_a_length_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="epsilon must be above 0, got 0"):
        FastGradient(0.0)
