"""The optimizer with the gradients of real pipelines."""

from io import StringIO
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy
import pytest
import spacy
import torch
from spacy.language import Language
from spacy.tokens import DocBin
from spacy.training.initialize import init_nlp
from spacy.training.loop import train, train_while_improving
from spacy.util import load_config, load_config_from_str, load_model_from_config
from thinc.api import Config, Optimizer, fix_random_seed, registry, warmup_linear

from spacy_crf_ner.training.optimizer import AdamW
from spacy_crf_ner.training.parameter_groups import NO_DECAY
from tests.encoder.util import LISTENER, save_tiny_bert
from tests.training.util import Key, adamw, finish, gradients
from tests.util import NO_STEP, SMALL_MODEL, TEXTS, assert_learnt, at_random, examples_from, get_pipe, head_of


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("encoder"), [text for text, _ in TEXTS])


def chars_pipeline() -> Language:
    fix_random_seed(0)
    nlp = spacy.blank("zh")
    nlp.add_pipe("crf_ner", config={"model": SMALL_MODEL})
    nlp.initialize(get_examples=lambda: examples_from(nlp))
    return at_random(nlp)


def weights_of(nlp: Language) -> Dict[Key, torch.Tensor]:
    """Copies of all trained parameters, after an update."""
    return {key: weights.clone() for key, weights, _ in gradients(nlp, nlp.pipe_names)}


RATES = {"encoder": 2e-3, "head": 1e-3, "crf": 1e-2, "other": 2e-3}
GROUPS = {
    "crf": {"pattern": r"^crf\.", "learn_rate": RATES["crf"]},
    "head": {"pattern": r"^head\.", "learn_rate": RATES["head"]},
    "encoder": {
        "pattern": r"^transformer\.",
        "learn_rate": RATES["encoder"],
        "weight_decay": 0.1,
        "layer_decay": 0.7,
    },
}


def rate_and_decay(name: str) -> Tuple[float, float]:
    """What `GROUPS` say of the parameters of `two_heads`, worked out by hand."""
    if name == "E":
        return RATES["other"], 0.03
    if name.startswith("crf."):
        return RATES["crf"], 0.0
    last = name.split(".")[-1]
    if name.startswith("head."):
        return RATES["head"], 0.0 if last.startswith("bias") or ".norm." in name else 0.03
    decay = 0.0 if last == "bias" or "LayerNorm" in name else 0.1
    for start, power in (("encoder.layer.1.", 0), ("encoder.layer.0.", 1), ("embeddings.", 2)):
        if name.startswith(f"transformer.{start}"):
            return RATES["encoder"] * 0.7**power, decay
    raise AssertionError(name)


def two_heads(encoder: Path, **settings: Any) -> Language:
    """Three shims and three Thinc nodes: a BERT, a head that listens to it, and one over characters."""
    fix_random_seed(0)
    nlp = spacy.blank("zh")
    model = {"@architectures": "spacy-crf-ner.Transformer.v1", "name": str(encoder), **settings}
    nlp.add_pipe("transformer", config={"model": model})
    nlp.add_pipe("crf_ner", config={"model": {**SMALL_MODEL, "tok2vec": LISTENER}})
    nlp.add_pipe("crf_ner", name="chars", config={"model": SMALL_MODEL})
    nlp.initialize(get_examples=lambda: examples_from(nlp))
    return at_random(nlp)


def test_many_steps_are_those_of_torch(encoder: Path) -> None:
    """With groups, layer decay, a schedule, weight decay and clipping, on the gradients of a real training."""
    nlp = two_heads(encoder)
    examples = examples_from(nlp)
    nlp.update(examples, sgd=NO_STEP)
    theirs = {key: torch.nn.Parameter(weights) for key, weights in weights_of(nlp).items()}
    assert sum(name == "E" for _, name in theirs) == 3 and len({key[0] for key in theirs if "." in key[1]}) == 3
    torch_groups = []
    for key, parameter in theirs.items():
        rate, decay = rate_and_decay(key[1])
        torch_groups.append({"params": [parameter], "lr": rate, "weight_decay": decay})
    reference = torch.optim.AdamW(torch_groups, betas=(0.8, 0.99), eps=1e-7)
    factors = torch.optim.lr_scheduler.LambdaLR(
        reference, lambda step: step / 10 if step < 10 else (80 - step) / 70
    )
    optimizer = adamw(
        RATES["other"],
        weight_decay=0.03,
        beta1=0.8,
        beta2=0.99,
        eps=1e-7,
        grad_clip=0.5,
        groups=GROUPS,
        schedule=warmup_linear(1.0, 10, 80),
    )
    start = weights_of(nlp)
    clipped = 0
    for _ in range(70):
        for key, _, gradient in gradients(nlp, nlp.pipe_names):
            theirs[key].grad = gradient.clone()
        clipped += int(torch.nn.utils.clip_grad_norm_(theirs.values(), 0.5) > 0.5)
        reference.step()
        factors.step()
        finish(nlp, optimizer)
        nlp.update(examples, sgd=NO_STEP, drop=0.1)
    assert 10 < clipped < 60
    for key, ours in weights_of(nlp).items():
        assert float((ours - theirs.pop(key).detach()).abs().max()) <= 1e-5, key
        assert (ours != start[key]).any(), key
    assert not theirs


def test_nothing_is_left_to_do_after_an_own_loop() -> None:
    nlp = chars_pipeline()
    examples = examples_from(nlp)
    optimizer = adamw(0.01)
    losses = [nlp.update(examples, sgd=optimizer)["crf_ner"] for _ in range(40)]
    assert losses[-1] < losses[0] / 5
    assert_learnt(nlp)
    before = nlp.to_bytes()
    optimizer.step()
    assert nlp.to_bytes() == before


def test_an_own_loop_over_a_transformer_steps_all_of_it(encoder: Path) -> None:
    nlp = two_heads(encoder)
    examples = examples_from(nlp)
    optimizer = adamw(groups=GROUPS, schedule=iter([1.0] * 9 + [0.5]))
    nlp.update(examples, sgd=optimizer)
    before = weights_of(nlp)
    for _ in range(9):
        nlp.update(examples, sgd=optimizer)
    optimizer.step()
    assert all((weights != before[key]).any() for key, weights in weights_of(nlp).items())
    # Ten updates, ten steps.
    assert optimizer.learn_rate == 0.0005


def test_frozen_pipes_have_no_state(encoder: Path) -> None:
    nlp = two_heads(encoder)
    optimizer = adamw(groups=GROUPS)
    for _ in range(2):
        nlp.update(examples_from(nlp), sgd=optimizer, exclude=["transformer"], annotates=["transformer"])
    nlp.update(examples_from(nlp), sgd=NO_STEP, exclude=["transformer"], annotates=["transformer"])
    trained = [w for (_, name), w, _ in gradients(nlp, ["crf_ner", "chars"])]
    assert optimizer.state_bytes == 2 * 4 * sum(w.numel() for w in trained)


def test_averages_are_those_computed_by_hand() -> None:
    """Of torch parameters and of Thinc's, from the weights before the first step on."""
    nlp = chars_pipeline()
    examples = examples_from(nlp)
    optimizer = adamw(0.01, ema_decay=0.5)
    assert not optimizer.averages
    nlp.update(examples, sgd=NO_STEP)
    expected = weights_of(nlp)
    for step in range(12):
        finish(nlp, optimizer)
        nlp.update(examples, sgd=NO_STEP)
        decay = min(0.5, (1 + step) / (10 + step))
        for key, weights in weights_of(nlp).items():
            expected[key] = decay * expected[key] + (1 - decay) * weights
    current = weights_of(nlp)
    with nlp.use_params(optimizer.averages):
        used = weights_of(nlp)
    for key in expected:
        torch.testing.assert_close(used[key], expected[key], atol=1e-6, rtol=1e-5, msg=str(key))
        assert (used[key] != current[key]).any(), key
    after = weights_of(nlp)
    assert all((after[key] == current[key]).all() for key in current)


def test_adapters_are_averaged_and_saved_beside_a_base_that_is_not(encoder: Path, tmp_path: Path) -> None:
    nlp = two_heads(encoder, lora={"@misc": "spacy-crf-ner.LoRA.v1"})
    examples = examples_from(nlp)
    optimizer = adamw(0.01, ema_decay=0.9)
    for _ in range(4):
        nlp.update(examples, sgd=NO_STEP)
        finish(nlp, optimizer)
    transformer = get_pipe(nlp, "transformer").model
    shim = transformer.shim.id
    raw = {name: weights.clone() for name, weights in transformer.transformer.state_dict().items()}
    with nlp.use_params(optimizer.averages):
        nlp.to_disk(tmp_path)
    for name, weights in transformer.transformer.state_dict().items():
        assert torch.equal(weights, raw[name])
    saved = get_pipe(spacy.load(tmp_path), "transformer").model.transformer.state_dict()
    assert saved.keys() == raw.keys()
    averages: Dict[Any, Any] = optimizer.averages or {}
    for name, weights in saved.items():
        average = averages.get(f"pytorch_{shim}_transformer.{name}")
        assert (average is not None) == ("lora_" in name)
        if average is None:
            assert torch.equal(weights, raw[name])
        else:
            assert numpy.array_equal(weights.numpy(), average) and not torch.equal(weights, raw[name])


def test_averages_of_a_node_and_a_shim_of_one_id_do_not_clash() -> None:
    optimizer = adamw(ema_decay=0.9)
    for name in ("W", "head.weight"):
        optimizer((3, name), numpy.ones(2, dtype="float32"), numpy.ones(2, dtype="float32"))  # type: ignore
    optimizer.step()
    assert set(optimizer.averages or ()) == {(3, "W"), "pytorch_3_head.weight"}


def test_spacys_loop_steps_evaluates_and_saves_the_averages(tmp_path: Path) -> None:
    nlp = chars_pipeline()
    optimizer = adamw(0.01, ema_decay=0.9, schedule=warmup_linear(1.0, 0, 10))
    seen: List[torch.Tensor] = []

    def evaluate() -> Tuple[float, Dict[str, Any]]:
        seen.append(head_of(nlp).head.output.weight.detach().clone())
        return 0.0, {}

    batches = ((0, examples_from(nlp)) for _ in range(10))
    rates = []
    for _ in train_while_improving(
        nlp,
        optimizer,
        batches,
        evaluate,
        dropout=0.1,
        eval_frequency=3,
        accumulate_gradient=2,
        patience=0,
        max_steps=0,
        exclude=[],
        annotating_components=[],
        before_update=None,
    ):
        rates.append(optimizer.learn_rate)
    assert rates == pytest.approx([0.01 * (9 - i) / 10 for i in range(10)])
    assert len(seen) == 4
    trained = head_of(nlp).head.output.weight.detach().clone()
    (key,) = [k for k in optimizer.averages or () if str(k).endswith("head.output.weight")]
    average = torch.from_numpy((optimizer.averages or {})[key])
    assert (seen[-1] == average).all() and (trained != average).any()
    with nlp.use_params(optimizer.averages):
        nlp.to_disk(tmp_path)
    assert (head_of(spacy.load(tmp_path)).head.output.weight == average).all()
    assert (head_of(nlp).head.output.weight == trained).all()


CONFIG = """
[paths]
corpus = null

[nlp]
lang = "zh"
pipeline = ["crf_ner"]

[components]

[components.crf_ner]
factory = "crf_ner"

[corpora]

[corpora.train]
@readers = "spacy.Corpus.v1"
path = ${paths.corpus}

[corpora.dev]
@readers = "spacy.Corpus.v1"
path = ${paths.corpus}

[training]
max_steps = 8
eval_frequency = 4
accumulate_gradient = 3

[training.optimizer]
@optimizers = "spacy-crf-ner.AdamW.v1"
learn_rate = 0.004
weight_decay = 0.1
ema_decay = 0.9

[training.optimizer.groups]

[training.optimizer.groups.crf]
pattern = "^crf\\\\.transitions$$"
learn_rate = 0.01

[training.optimizer.groups.head]
pattern = "^head\\\\."
learn_rate = 0.002
layer_decay = 0.9

[training.optimizer.schedule]
@schedules = "spacy-crf-ner.warmup_cosine.v1"
initial_rate = 1.0
warmup_steps = 0
total_steps = 16
"""


def optimizer_of(config: Config) -> AdamW:
    return registry.resolve({"optimizer": config["training"]["optimizer"]})["optimizer"]


def test_the_config_survives_filling_and_the_disk(tmp_path: Path) -> None:
    filled = load_model_from_config(load_config_from_str(CONFIG), auto_fill=True).config
    assert filled["training"]["optimizer"]["no_decay"] == NO_DECAY
    filled.to_disk(tmp_path / "config.cfg")
    config = load_config(tmp_path / "config.cfg").interpolate()
    assert config["training"]["optimizer"]["no_decay"] == NO_DECAY
    optimizer = optimizer_of(config)
    assert isinstance(optimizer, Optimizer) and optimizer.learn_rate == 0.004
    weights = numpy.ones(1, dtype="float32")
    optimizer((1, "crf.transitions"), weights, numpy.ones(1, dtype="float32"))  # type: ignore
    optimizer.step()
    assert weights[0] == pytest.approx(1.0 - 0.01)


def test_the_smallest_config_is_enough() -> None:
    text = '[training]\n\n[training.optimizer]\n@optimizers = "spacy-crf-ner.AdamW.v1"\n'
    assert optimizer_of(Config().from_str(text)).learn_rate == 0.001


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_spacy_train_saves_averages_if_there_are_any(ema_decay: float, tmp_path: Path) -> None:
    blank = spacy.blank("zh")
    DocBin(docs=[example.reference for example in examples_from(blank)]).to_disk(tmp_path / "corpus.spacy")
    overrides = {"paths.corpus": str(tmp_path / "corpus.spacy"), "training.optimizer.ema_decay": ema_decay}
    config = load_config_from_str(CONFIG, overrides=overrides)
    config["components"]["crf_ner"]["model"] = SMALL_MODEL
    nlp = init_nlp(load_model_from_config(config, auto_fill=True).config)
    out = StringIO()
    (tmp_path / "output").mkdir()
    nlp, saved = train(nlp, tmp_path / "output", stdout=out, stderr=StringIO())
    assert "Initial learn rate: 0.004" in out.getvalue()
    assert saved is not None
    same = torch.equal(head_of(spacy.load(saved)).head.output.weight, head_of(nlp).head.output.weight)
    assert same == (ema_decay == 0.0)
