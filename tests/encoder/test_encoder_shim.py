"""The state of an encoder: saved and loaded without a key amiss, averaged, copied; what training makes of it."""

import warnings
from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy
import pytest
import safetensors.torch
import spacy
import srsly
import torch
from spacy.language import Language
from spacy_transformers.layers.hf_shim import HFShim

from tests.encoder.util import (
    assert_loads_bit_equal,
    encoder_pipeline,
    gradients,
    save_encoder,
    shim_of,
    train,
    weights,
)
from tests.util import NO_STEP, TEXTS, assert_learnt, ents, examples_from, get_pipe

READ = [text for text, _ in TEXTS]
LORA = {"@misc": "spacy-crf-ner.LoRA.v1", "rank": 2}
WHOLE: Dict[str, Any] = {}
ADAPTED: Dict[str, Any] = {"lora": LORA}
ADAPTER: Dict[str, Any] = {"lora": LORA, "save_mode": "adapter"}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    save_encoder(folder, "bert")
    return folder


def vectors(nlp: Language) -> Any:
    return numpy.concatenate([nlp(text)._.trf_data.model_output["last_hidden_state"][0] for text in READ])


# Loading is strict

State = Dict[str, torch.Tensor]


def first(state: State) -> str:
    """A weight of the last layer, which an adapter has too."""
    return min(name for name in state if "layer.1.attention.self.query" in name)


def without(state: State) -> State:
    return {name: tensor for name, tensor in state.items() if name != first(state)}


def with_more(state: State) -> State:
    return {**state, f"{first(state)}.again": torch.zeros(3)}


def reshaped(state: State) -> State:
    name = first(state)
    return {**state, name: torch.zeros(len(state[name]) + 1, *state[name].shape[1:])}


def tampered(data: bytes, change: Callable[[State], State]) -> bytes:
    saved = srsly.msgpack_loads(data)
    state = change(safetensors.torch.load(saved["state"]))
    return srsly.msgpack_dumps({**saved, "state": safetensors.torch.save(state)})


@pytest.mark.parametrize("settings", [WHOLE, ADAPTED, ADAPTER], ids=["whole", "adapted", "adapter"])
@pytest.mark.parametrize(
    "change, amiss", [(without, "missing"), (with_more, "left over"), (reshaped, "misshapen")]
)
def test_a_weight_amiss_is_refused_by_name(
    encoder: Path, settings: Dict[str, Any], change: Callable[[State], State], amiss: str
) -> None:
    shim = shim_of(encoder_pipeline(encoder, **settings))
    data = shim.to_bytes()
    shim.from_bytes(tampered(data, dict))
    with pytest.raises(ValueError) as caught:
        shim.from_bytes(tampered(data, change))
    name = first(safetensors.torch.load(srsly.msgpack_loads(data)["state"]))
    name += ".again" if change is with_more else ""
    assert f"{name} {amiss}" in str(caught.value)
    assert "transformers" in str(caught.value)


def test_a_weight_amiss_is_refused_when_a_pipeline_is_loaded(encoder: Path, tmp_path: Path) -> None:
    nlp = encoder_pipeline(encoder)
    nlp.to_disk(tmp_path)
    path = tmp_path / "transformer" / "model"
    saved = srsly.msgpack_loads(path.read_bytes())
    (shims,) = [shims for shims in saved["shims"] if shims]
    shims[:] = [tampered(shims[0], without)]
    path.write_bytes(srsly.msgpack_dumps(saved))
    with pytest.raises(ValueError, match=r"layer\.1\.attention\.self\.query\.bias missing"):
        spacy.load(tmp_path)


def test_nothing_is_warned_of_when_a_good_pipeline_is_loaded(encoder: Path, tmp_path: Path) -> None:
    for i, settings in enumerate((WHOLE, ADAPTED, ADAPTER)):
        encoder_pipeline(encoder, **settings).to_disk(tmp_path / str(i))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            spacy.load(tmp_path / str(i))


@pytest.mark.parametrize("settings", [WHOLE, ADAPTED, ADAPTER], ids=["whole", "adapted", "adapter"])
def test_a_pipeline_that_was_saved_before_initialize_loads_and_can_be_initialized(
    encoder: Path, tmp_path: Path, settings: Dict[str, Any]
) -> None:
    encoder_pipeline(encoder, initialize=False, **settings).to_disk(tmp_path)
    nlp = spacy.load(tmp_path)
    assert shim_of(nlp)._model is None
    examples = examples_from(nlp)
    nlp.initialize(get_examples=lambda: examples)
    train(nlp, 1)
    assert gradients(nlp)


def test_initialize_again_keeps_what_was_learnt(encoder: Path) -> None:
    nlp = encoder_pipeline(encoder)
    train(nlp, 1)
    before = weights(shim_of(nlp)._model)
    examples = examples_from(nlp)
    nlp.initialize(get_examples=lambda: examples)
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(shim_of(nlp)._model).items())


def test_bytes_do_not_depend_on_what_was_read(encoder: Path) -> None:
    nlp = encoder_pipeline(encoder)
    before = shim_of(nlp).to_bytes()
    nlp("王小明" * 50)
    assert shim_of(nlp).to_bytes() == before


def test_an_overfitted_pipeline_says_the_same_from_disk_and_bytes(encoder: Path, tmp_path: Path) -> None:
    nlp = encoder_pipeline(encoder)
    train(nlp, 40, rate=0.01)
    assert_learnt(nlp)
    assert_loads_bit_equal(nlp, tmp_path)
    again = spacy.util.load_model_from_config(nlp.config)
    again.from_bytes(nlp.to_bytes())
    assert_learnt(again)
    assert (vectors(again) == vectors(nlp)).all()
    assert [ents(doc) for doc in again.pipe(READ)] == [ents(again(text)) for text in READ]


# Averages


def test_averages_stand_in_for_the_parameters_that_have_them(encoder: Path) -> None:
    shim = shim_of(encoder_pipeline(encoder))
    before = weights(shim._model)
    bias, weight = (f"transformer.encoder.layer.0.output.dense.{part}" for part in ("bias", "weight"))
    averages: Dict[Any, Any] = {
        f"pytorch_{shim.id}_{bias}": numpy.full(32, 7.0, dtype="f"),
        f"pytorch_{shim.id + 1}_{weight}": numpy.zeros((32, 64), dtype="f"),
        (shim.id, weight): numpy.zeros((32, 64), dtype="f"),
        "other": numpy.zeros(3, dtype="f"),
    }
    kept = averages[f"pytorch_{shim.id}_{bias}"]
    with shim.use_params(averages):
        inside = weights(shim._model)
        assert (inside[bias] == 7.0).all()
        assert all(torch.equal(inside[name], before[name]) for name in before if name != bias)
        with torch.no_grad():
            dict(shim._model.named_parameters())[bias].add_(1.0)
    assert (kept == 7.0).all()
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(shim._model).items())


def test_parameters_come_back_after_an_error(encoder: Path) -> None:
    nlp = encoder_pipeline(encoder, lora=LORA)
    shim = shim_of(nlp)
    before = weights(shim._model)
    name = next(name for name in before if ".lora_B." in name)
    averages = {f"pytorch_{shim.id}_{name}": numpy.ones(tuple(before[name].shape), dtype="f")}
    plain = vectors(nlp)
    with pytest.raises(KeyError), nlp.use_params(averages):
        assert (vectors(nlp) != plain).any()
        raise KeyError
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(shim._model).items())
    assert (vectors(nlp) == plain).all()


def test_an_encoder_that_is_not_loaded_has_no_parameters_to_swap(encoder: Path) -> None:
    shim = shim_of(encoder_pipeline(encoder, initialize=False))
    with shim.use_params({f"pytorch_{shim.id}_x": numpy.zeros(1)}):
        assert shim._model is None


# Copies


@pytest.mark.parametrize("settings", [WHOLE, ADAPTER], ids=["whole", "adapter"])
def test_a_copy_has_ids_and_weights_of_its_own(encoder: Path, settings: Dict[str, Any]) -> None:
    nlp = encoder_pipeline(encoder, **settings)
    train(nlp, 1)
    model = get_pipe(nlp, "transformer").model
    copied = model.copy()
    assert copied.id != model.id
    assert copied.shim.id != model.shim.id
    assert copied.get_dim("nO") == model.get_dim("nO")
    docs = [nlp.make_doc(text) for text in READ]
    before = copied.predict(docs).model_output["last_hidden_state"]
    assert torch.equal(before, model.predict(docs).model_output["last_hidden_state"])
    assert copied.shim.to_bytes() == model.shim.to_bytes()
    train(nlp, 1)
    assert torch.equal(before, copied.predict(docs).model_output["last_hidden_state"])
    assert not torch.equal(before, model.predict(docs).model_output["last_hidden_state"])
    unloaded = get_pipe(encoder_pipeline(encoder, initialize=False), "transformer").model
    assert unloaded.copy().shim._model is None


# Gradient checkpointing


@pytest.mark.parametrize("settings", [{}, {"lora": LORA}, {"freeze": 1}, {"freeze": "embeddings"}])
def test_computing_activations_again_changes_no_gradient(encoder: Path, settings: Dict[str, Any]) -> None:
    found = []
    for checkpointing in (False, True):
        nlp = encoder_pipeline(encoder, gradient_checkpointing=checkpointing, **settings)
        assert shim_of(nlp).transformer.is_gradient_checkpointing is checkpointing
        # So that both matrices of an adapter have a gradient.
        with torch.no_grad():
            for name, parameter in shim_of(nlp)._model.named_parameters():
                if ".lora_B." in name:
                    parameter.fill_(0.1)
        nlp.update(examples_from(nlp), sgd=NO_STEP)
        found.append(gradients(nlp))
    plain, checkpointed = found
    assert plain.keys() == checkpointed.keys()
    assert len(plain) > 3
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient, atol=1e-6, rtol=1e-4)


def test_activations_are_computed_again(encoder: Path) -> None:
    """The first layer runs twice: forward, and once more in the backward pass."""
    runs = []
    for checkpointing in (False, True):
        nlp = encoder_pipeline(encoder, gradient_checkpointing=checkpointing)
        count: List[int] = []
        layer = shim_of(nlp).transformer.encoder.layer[0]
        layer.intermediate.register_forward_hook(lambda *_, count=count: count.append(1))
        nlp.update(examples_from(nlp), sgd=NO_STEP)
        runs.append(len(count))
    assert runs[1] == 2 * runs[0]


# Half precision


@pytest.mark.parametrize("setting", [True, "fp16", "bf16"])
def test_half_precision_is_refused_on_a_cpu_at_initialize(encoder: Path, setting: Any) -> None:
    nlp = encoder_pipeline(encoder, initialize=False, mixed_precision=setting)
    examples = examples_from(nlp)
    with pytest.raises(ValueError, match=r"mixed_precision .*needs a GPU.*--gpu-id.*= false"):
        nlp.initialize(get_examples=lambda: examples)


@pytest.mark.parametrize("setting", [True, "fp16", "bf16"])
def test_a_pipeline_of_half_precision_computes_in_full_precision_on_a_cpu(
    encoder: Path, tmp_path: Path, setting: Any
) -> None:
    nlp = encoder_pipeline(encoder, grad_scaler_config={"init_scale": 32768.0})
    expected = vectors(nlp)
    nlp.to_disk(tmp_path)
    half = spacy.load(tmp_path, config={"components.transformer.model.mixed_precision": setting})
    assert half.config["components"]["transformer"]["model"]["mixed_precision"] == setting
    assert vectors(half).dtype == numpy.float32
    assert (vectors(half) == expected).all()
    for pipeline in (nlp, half):
        train(pipeline, 1)
    ours, theirs = weights(shim_of(nlp)._model), weights(shim_of(half)._model)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_an_unknown_precision_is_refused_when_the_model_is_built(encoder: Path) -> None:
    with pytest.raises(ValueError, match='mixed_precision = "half"'):
        encoder_pipeline(encoder, initialize=False, mixed_precision="half")


def test_a_budget_of_nothing_is_refused(encoder: Path) -> None:
    with pytest.raises(ValueError, match=r"max_padded_tokens = 0, .* at least 1"):
        encoder_pipeline(encoder, initialize=False, max_padded_tokens=0)


def test_more_layers_than_there_are_cannot_be_averaged(encoder: Path) -> None:
    with pytest.raises(ValueError, match="averaged_layers must be 1 or more, got 0"):
        encoder_pipeline(encoder, initialize=False, averaged_layers=0)
    with pytest.raises(ValueError, match=r"averaged_layers must be at most 2, the layers of encoder .*, got 3"):
        encoder_pipeline(encoder, averaged_layers=3)


def test_averaged_layers_come_back_from_the_disk(encoder: Path, tmp_path: Path) -> None:
    nlp = encoder_pipeline(encoder, averaged_layers=2)
    before = vectors(nlp)
    nlp.to_disk(tmp_path)
    assert (vectors(spacy.load(tmp_path)) == before).all()
    assert (vectors(encoder_pipeline(encoder)) != before).any()


# What is saved comes back exactly, and nothing else changes


def test_the_configuration_comes_back_to_the_last_digit(encoder: Path, tmp_path: Path) -> None:
    """BERT's layer_norm_eps is 1e-12, which decides what a row of hardly any variance becomes."""
    nlp = encoder_pipeline(encoder, transformer_config={"initializer_range": 0.0123456789012})
    before = shim_of(nlp).transformer.config
    assert before.layer_norm_eps == 1e-12
    nlp.to_disk(tmp_path)
    after = shim_of(spacy.load(tmp_path)).transformer.config
    assert {**after.to_dict(), "_name_or_path": ""} == {**before.to_dict(), "_name_or_path": ""}


def test_loading_draws_no_random_numbers(encoder: Path, tmp_path: Path) -> None:
    nlp = encoder_pipeline(encoder, **ADAPTED)
    nlp.to_disk(tmp_path)
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    shim_of(nlp).from_bytes(shim_of(nlp).to_bytes())
    assert torch.equal(torch.rand(3), expected)


def test_a_whole_save_can_become_one_of_the_adapter_alone(encoder: Path, tmp_path: Path) -> None:
    nlp = encoder_pipeline(encoder, **ADAPTED)
    train(nlp, 3)
    nlp.to_disk(tmp_path / "whole")
    lone = spacy.load(tmp_path / "whole", config={"components.transformer.model.save_mode": "adapter"})
    assert_loads_bit_equal(lone, tmp_path / "lone")
    sizes = [(tmp_path / name / "transformer" / "model").stat().st_size for name in ("whole", "lone")]
    assert sizes[1] < sizes[0] / 4
    assert numpy.array_equal(vectors(spacy.load(tmp_path / "lone")), vectors(nlp))


def test_a_saved_tokenizer_cannot_write_elsewhere(encoder: Path, tmp_path: Path) -> None:
    shim = shim_of(encoder_pipeline(encoder))
    saved = srsly.msgpack_loads(shim.to_bytes())
    saved["tokenizer"]["../escaped"] = b"x"
    with pytest.raises(ValueError, match=r"has a file '\.\./escaped', but only 'tokenizer\.json'"):
        shim.from_bytes(srsly.msgpack_dumps(saved))


def test_the_state_of_another_architecture_is_refused(encoder: Path) -> None:
    shim = shim_of(encoder_pipeline(encoder))
    with pytest.raises(ValueError, match="none of this architecture's"):
        shim.from_bytes(HFShim.to_bytes(shim))


def test_an_encoder_that_is_not_loaded_says_what_to_call(encoder: Path) -> None:
    nlp = encoder_pipeline(encoder, initialize=False)
    with pytest.raises(ValueError, match=r"E109.*initialize"):
        get_pipe(nlp, "transformer").predict([nlp.make_doc("北京")])


def test_a_copy_of_a_model_around_an_encoder_works(encoder: Path) -> None:
    nlp = encoder_pipeline(encoder)
    nlp.replace_listeners("transformer", "crf_ner", ["model.tok2vec"])
    model = get_pipe(nlp, "crf_ner").model
    copied = model.copy()
    docs = [nlp.make_doc(text) for text in READ]
    for ours, theirs in zip(model.predict(docs).by_doc(), copied.predict(docs).by_doc()):
        assert numpy.array_equal(ours, theirs)


def test_initialize_forgets_updates_that_were_no_step(encoder: Path) -> None:
    nlp = encoder_pipeline(encoder)
    examples = examples_from(nlp)
    nlp.update(examples, sgd=NO_STEP)
    assert any(gradient.any() for gradient in gradients(nlp).values())
    nlp.initialize(get_examples=lambda: examples)
    assert not any(gradient.any() for gradient in gradients(nlp).values())
    counted: List[int] = []
    nlp.update(examples, sgd=NO_STEP)

    class Counting:
        def average_over(self, n_updates: int) -> None:
            counted.append(n_updates)

        def __call__(self, key: Any, weights: Any, gradient: Any) -> Any:
            return weights, gradient

    get_pipe(nlp, "crf_ner").finish_update(Counting())
    assert counted == [1]
