from itertools import permutations
from typing import Any, Dict, List, Optional

import pytest

from spacy_crf_ner.training.parameter_groups import ParameterGroups, layers_above
from tests.training.util import UNIT, Weights, adamw, plain

LAYER = "transformer.encoder.layer.11.attention.self.query"


@pytest.mark.parametrize(
    "name, group",
    [
        ("transformer.embeddings.word_embeddings.weight", "encoder"),
        (f"{LAYER}.weight", "encoder"),
        (f"{LAYER}.base_layer.weight", "encoder"),
        (f"{LAYER}.lora_A.default.weight", "lora"),
        ("embeddings.LayerNorm.weight", "encoder"),
        ("encoder.layer.0.output.dense.bias", "encoder"),
        ("head.lstm.ahead.0.weight_ih_l0", "head"),
        ("crf.transitions", "crf"),
        ("E", None),
        ("W", None),
        ("classifier.head.weight", None),
    ],
)
def test_the_default_groups(name: str, group: Optional[str]) -> None:
    found = ParameterGroups().of(name)
    assert (found.name if found else None) == group


DECAYING = [
    f"{LAYER}.weight",
    f"{LAYER}.lora_A.default.weight",
    "transformer.embeddings.word_embeddings.weight",
    "head.lstm.ahead.0.weight_ih_l0",
    "head.output.weight",
    "transformer.encoder.layer.0.relative_attention_bias.weight",
    "E",
    "W",
]
NOT_DECAYING = [
    f"{LAYER}.bias",
    "transformer.encoder.layer.0.output.LayerNorm.weight",
    "transformer.encoder.layer.0.output.LayerNorm.bias",
    "transformer.h.0.ln_1.weight",
    "transformer.layer.0.sa_layer_norm.weight",
    "transformer.layers.0.input_layernorm.weight",
    "transformer.final_norm.weight",
    "head.attention.norm.weight",
    "head.lstm.ahead.0.bias_ih_l0",
    "head.attention.in_proj_bias",
    "crf.transitions",
    "crf.start_transitions",
    "b",
    "G",
]


def test_weights_decay_and_biases_norms_and_the_crf_do_not() -> None:
    keys = [(1, name) for name in [*DECAYING, *NOT_DECAYING]]
    weights = Weights(*keys)
    optimizer = adamw(0.1, weight_decay=0.5, groups={})
    for key in keys:
        weights.arrays[key] += 1.0
        weights.give(optimizer, key, 0.0)
    optimizer.step()
    assert {name: weights[1, name] for _, name in keys} == {
        **{name: [0.95] for name in DECAYING},
        **{name: [1.0] for name in NOT_DECAYING},
    }


def test_a_groups_weight_decay_takes_the_place_of_the_optimizers() -> None:
    groups = {
        "own": {"pattern": "own", "learn_rate": 0.1, "weight_decay": 0.2},
        "none": {"pattern": "none", "learn_rate": 0.1, "weight_decay": 0},
        "shared": {"pattern": "shared", "learn_rate": 0.1},
    }
    keys = [(1, "own"), (1, "none"), (1, "shared"), (1, "own.bias")]
    weights = Weights(*keys)
    optimizer = adamw(weight_decay=0.5, groups=groups)
    for key in keys:
        weights.arrays[key] += 1.0
        weights.give(optimizer, key, 0.0)
    optimizer.step()
    assert [weights[key] for key in keys] == [[0.98], [1.0], [0.95], [1.0]]


def test_the_order_of_groups_does_not_matter() -> None:
    """Neither for the rates, nor for whether two groups clash."""
    settings: Dict[str, Dict[str, Any]] = {
        "a": {"pattern": "^a", "learn_rate": 1 * UNIT},
        "b": {"pattern": "^b", "learn_rate": 2 * UNIT},
        "c": {"pattern": "c$", "learn_rate": 3 * UNIT},
    }
    for order in permutations(settings):
        groups = {name: settings[name] for name in order}
        weights = Weights((1, "a"), (1, "b"), (1, "c"), (1, "d"))
        optimizer = plain(groups=groups)
        for key in weights.arrays:
            weights.give(optimizer, key, 1.0)
        optimizer.step()
        assert [weights[key] for key in weights.arrays] == [[-1.0], [-2.0], [-3.0], [-1.0]]
        with pytest.raises(ValueError) as error:
            Weights((1, "a.c")).give(plain(groups=groups), (1, "a.c"), 1.0)
        assert "'a.c'" in str(error.value) and "'a'" in str(error.value) and "'c'" in str(error.value)
        assert "exclude each other" in str(error.value)


@pytest.mark.parametrize(
    "name, above",
    [
        ("transformer.encoder.layer.3.output.dense.weight", 0),
        ("transformer.encoder.layer.0.output.dense.weight", 3),
        ("transformer.layers.1.mlp.weight", 2),
        ("layer.1.rel_attn.q", 2),
        ("transformer.h.2.attn.weight", 1),
        ("transformer.embeddings.word_embeddings.weight", 4),
        ("transformer.embeddings.LayerNorm.weight", 4),
        ("transformer.embeddings_project.weight", 4),
        ("transformer.wte.weight", 4),
        ("transformer.embed_tokens.weight", 4),
        ("transformer.final_norm.weight", 0),
        ("transformer.pooler.dense.weight", 0),
        ("transformer.embedded", 0),
    ],
)
def test_layers_above_a_parameter(name: str, above: int) -> None:
    assert layers_above(name, 4) == above


def test_layer_decay_counts_the_layers_of_each_encoder() -> None:
    """Two encoders, of 2 and 3 layers, and LoRA on the lower layers of the second."""
    groups = {
        "encoder": {"pattern": "^transformer.(?!.*lora_)", "learn_rate": UNIT, "layer_decay": 0.5},
        "lora": {"pattern": "lora_", "learn_rate": 2 * UNIT, "layer_decay": 0.1},
        "head": {"pattern": "^head", "learn_rate": UNIT},
    }
    rates = {
        (1, "transformer.embeddings.weight"): 0.25,
        (1, "transformer.layer.0.weight"): 0.5,
        (1, "transformer.layer.1.weight"): 1.0,
        (2, "transformer.embeddings.weight"): 0.125,
        (2, "transformer.layer.0.query.lora_A.weight"): 0.02,
        (2, "transformer.layer.1.query.lora_A.weight"): 0.2,
        (2, "transformer.layer.0.weight"): 0.25,
        (2, "transformer.layer.2.weight"): 1.0,
        (2, "transformer.norm.weight"): 1.0,
        (2, "head.layers.0.weight"): 1.0,
    }
    weights = Weights(*rates)
    optimizer = plain(groups=groups)
    for key in rates:
        weights.give(optimizer, key, 1.0)
    optimizer.step()
    assert {key: weights[key] for key in rates} == {key: [-rate] for key, rate in rates.items()}


GOOD: Dict[str, Any] = {"pattern": "^x", "learn_rate": 1e-3}


@pytest.mark.parametrize(
    "group, said",
    [
        ({"learn_rate": 1e-3}, ["'pattern' is missing"]),
        ({"pattern": "x"}, ["'learn_rate' is missing"]),
        ({**GOOD, "lr": 0.5}, ["unknown key 'lr' = 0.5", "pattern, learn_rate, weight_decay, layer_decay"]),
        ({**GOOD, "name": "x"}, ["unknown key 'name'"]),
        ({**GOOD, "pattern": "(x"}, ["pattern = '(x'", "not a regular expression"]),
        ({**GOOD, "pattern": 3}, ["pattern = 3"]),
        ({**GOOD, "learn_rate": -0.5}, ["learn_rate = -0.5", "at least 0"]),
        ({**GOOD, "learn_rate": float("nan")}, ["learn_rate = nan"]),
        ({**GOOD, "learn_rate": "1e-3"}, ["learn_rate = '1e-3'"]),
        ({**GOOD, "learn_rate": True}, ["learn_rate = True"]),
        ({**GOOD, "weight_decay": -1}, ["weight_decay = -1"]),
        ({**GOOD, "weight_decay": float("inf")}, ["weight_decay = inf"]),
        ({**GOOD, "layer_decay": 0}, ["layer_decay = 0", "above 0"]),
        ({**GOOD, "layer_decay": 1.5}, ["layer_decay = 1.5", "at most 1"]),
        ({**GOOD, "layer_decay": float("nan")}, ["layer_decay = nan"]),
        (1e-3, ["= 0.001", "a section"]),
    ],
)
def test_a_wrong_group_is_named_with_key_and_value(group: Any, said: List[str]) -> None:
    with pytest.raises(ValueError) as error:
        ParameterGroups({"fine": GOOD, "odd": group})
    for part in ["'odd'", *said]:
        assert part in str(error.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"learn_rate": -1.0},
        {"weight_decay": -0.1},
        {"beta1": 1.0},
        {"beta2": float("nan")},
        {"eps": -1e-8},
        {"grad_clip": -1.0},
        {"grad_clip": float("nan")},
        {"no_decay": "(bias"},
        {"ema_decay": 1.0},
        {"ema_decay": -0.1},
    ],
)
def test_a_wrong_setting_is_named_with_its_value(settings: Dict[str, Any]) -> None:
    ((name, value),) = settings.items()
    with pytest.raises(ValueError) as error:
        adamw(**settings)
    assert f"{name} = {value!r}" in str(error.value)
