"""Low-rank adapters: what learns, what is saved, and what is refused."""

import shutil
import sys
from pathlib import Path
from typing import Any, Dict, List

import numpy
import pytest
import spacy
import torch
from spacy.language import Language
from torch import nn
from transformers import AutoTokenizer, BertModel, PretrainedConfig

from spacy_crf_ner.encoder import lora
from spacy_crf_ner.encoder.lora import LoRA
from tests.encoder.util import (
    assert_loads_bit_equal,
    encoder_pipeline,
    gradients,
    in_new_process,
    save_encoder,
    shim_of,
    train,
    weights,
)
from tests.util import NO_STEP, TEXTS, examples_from, get_pipe

READ = [text for text, _ in TEXTS]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    save_encoder(folder, "bert")
    return folder


def adapted(encoder: Path, *, steps: int = 0, save_mode: str = "full", **settings: Any) -> Language:
    """A pipeline with an adapted encoder that took some steps."""
    config = {"@misc": "spacy-crf-ner.LoRA.v1", "rank": 2, **settings}
    nlp = encoder_pipeline(encoder, lora=config, save_mode=save_mode)
    train(nlp, steps)
    return nlp


def vectors(nlp: Language) -> Any:
    return numpy.concatenate([nlp(text)._.trf_data.model_output["last_hidden_state"][0] for text in READ])


def adapters(nlp: Language) -> Dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in weights(shim_of(nlp)._model).items() if ".lora_" in name}


def base(nlp: Language) -> Dict[str, torch.Tensor]:
    """The base's weights under the names that they have without adapters."""
    state = weights(shim_of(nlp).transformer)
    return {name.replace(".base_layer", ""): tensor for name, tensor in state.items() if ".lora_" not in name}


def test_fresh_adapters_change_nothing(encoder: Path) -> None:
    plain, nlp = encoder_pipeline(encoder), adapted(encoder)
    numpy.testing.assert_allclose(vectors(nlp), vectors(plain), atol=1e-6)
    assert all(not tensor.any() for name, tensor in adapters(nlp).items() if ".lora_B." in name)


def test_the_class_of_the_encoder_stays_what_it_is(encoder: Path) -> None:
    assert type(shim_of(adapted(encoder)).transformer) is BertModel


def test_adapters_and_head_alone_have_gradients(encoder: Path) -> None:
    nlp = adapted(encoder, steps=1)
    nlp.update(examples_from(nlp), sgd=NO_STEP)
    found = gradients(nlp)
    assert found.keys() == adapters(nlp).keys()
    assert all(gradient.any() for gradient in found.values())
    assert {name for name, p in shim_of(nlp)._model.named_parameters() if p.requires_grad} == found.keys()
    head = get_pipe(nlp, "crf_ner").model.get_ref("output_layer").shims[0]._model
    assert all(parameter.grad is not None for parameter in head.parameters())


def test_the_base_stays_what_it_is_to_the_bit_while_adapters_learn(encoder: Path) -> None:
    plain, nlp = encoder_pipeline(encoder), adapted(encoder)
    before, fresh = weights(shim_of(plain).transformer), adapters(nlp)
    train(nlp, 3)
    after = base(nlp)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert all((tensor != fresh[name]).any() for name, tensor in adapters(nlp).items())
    assert numpy.abs(vectors(nlp) - vectors(plain)).max() > 1e-4


def test_by_default_query_and_key_are_adapted(encoder: Path) -> None:
    names = {name.split(".lora_")[0].removeprefix("transformer.") for name in adapters(adapted(encoder))}
    assert names == {f"encoder.layer.{i}.attention.self.{part}" for i in (0, 1) for part in ("query", "key")}


@pytest.mark.parametrize(
    "targets, expected",
    [
        (["value"], ["attention.self.value"]),
        (["output.dense"], ["attention.output.dense", "output.dense"]),
        (["intermediate.dense", "query"], ["attention.self.query", "intermediate.dense"]),
        (["attention.output.dense"], ["attention.output.dense"]),
        (["dense"], ["attention.output.dense", "intermediate.dense", "output.dense"]),
    ],
)
def test_targets_are_chosen_by_name(encoder: Path, targets: List[str], expected: List[str]) -> None:
    names = {
        name.split(".lora_")[0].removeprefix("transformer.")
        for name in adapters(adapted(encoder, targets=targets))
    }
    assert names == {f"encoder.layer.{i}.{part}" for i in (0, 1) for part in expected}


@pytest.mark.parametrize("target", ["querry", "uery", "LayerNorm", "embeddings.word_embeddings", "self"])
def test_a_target_that_is_no_linear_layer_is_refused_with_those_that_are(encoder: Path, target: str) -> None:
    kinds = r"\['dense', 'key', 'query', 'value'\]"
    with pytest.raises(ValueError, match=rf"'{target}' is not a linear layer .*{kinds}"):
        adapted(encoder, targets=["query", target])


def test_the_last_layers_are_adapted(encoder: Path) -> None:
    nlp = adapted(encoder, layers=1, steps=1)
    assert {name.split(".")[3] for name in adapters(nlp)} == {"1"}
    assert {name.split(".")[3] for name in adapters(adapted(encoder, layers=2))} == {"0", "1"}
    with pytest.raises(ValueError, match=r"lora\.layers = 3, but the encoder has 2 layers"):
        adapted(encoder, layers=3)


@pytest.mark.parametrize(
    "name, value, needed",
    [
        ("rank", 0, "at least 1"),
        ("rank", -1, "at least 1"),
        ("alpha", 0.0, "above 0"),
        ("alpha", -1.0, "above 0"),
        ("dropout", 1.0, "in [0, 1)"),
        ("dropout", -0.1, "in [0, 1)"),
        ("targets", [], "at least one name"),
        ("layers", 0, "null or at least 1"),
    ],
)
def test_values_out_of_range_are_refused(name: str, value: Any, needed: str) -> None:
    with pytest.raises(ValueError) as caught:
        LoRA(**{name: value})
    assert f"lora.{name} = {value}, but it must be" in str(caught.value)
    assert needed in str(caught.value)


def test_the_update_is_scaled_by_alpha_over_rank(encoder: Path) -> None:
    """W x + (alpha / rank) B A x."""
    nlp = adapted(encoder, rank=2, alpha=6.0, layers=1)
    query = shim_of(nlp).transformer.encoder.layer[1].attention.self.query
    with torch.no_grad():
        query.lora_B["default"].weight.normal_()
    inputs = torch.randn(5, 32)
    update = query.lora_B["default"].weight @ query.lora_A["default"].weight
    expected = query.base_layer(inputs) + 3.0 * inputs @ update.t()
    torch.testing.assert_close(query(inputs), expected)


def test_the_dropout_is_that_of_the_updates_input_in_training_alone(encoder: Path) -> None:
    nlp = adapted(encoder, dropout=0.5, steps=2)
    query = shim_of(nlp).transformer.encoder.layer[0].attention.self.query
    assert query.lora_dropout["default"].p == 0.5
    assert (vectors(nlp) == vectors(nlp)).all()
    query.train()
    inputs = torch.randn(5, 32)
    assert (query(inputs) != query(inputs)).any()


# Saving


def test_trained_adapters_are_loaded_again_to_the_bit(encoder: Path, tmp_path: Path) -> None:
    nlp = adapted(encoder, steps=2, targets=["query", "output.dense"])
    assert all(tensor.any() for tensor in adapters(nlp).values())
    assert_loads_bit_equal(nlp, tmp_path)
    again = spacy.load(tmp_path)
    assert weights(shim_of(again)._model).keys() == weights(shim_of(nlp)._model).keys()
    fresh = {name: tensor.clone() for name, tensor in adapters(again).items()}
    train(again, 1)
    assert all((tensor != fresh[name]).any() for name, tensor in adapters(again).items())
    assert all(torch.equal(tensor, base(nlp)[name]) for name, tensor in base(again).items())


def test_merged_is_as_adapted_under_the_names_of_the_plain_encoder(encoder: Path, tmp_path: Path) -> None:
    nlp = adapted(encoder, steps=3, targets=["query", "output.dense"])
    expected = vectors(nlp)
    shim_of(nlp).merge_lora()
    numpy.testing.assert_allclose(vectors(nlp), expected, atol=1e-5)
    plain = encoder_pipeline(encoder)
    before, after = weights(shim_of(plain)._model), weights(shim_of(nlp)._model)
    assert list(after) == list(before)
    changed = {name for name in before if (before[name] != after[name]).any()}
    assert changed == {
        f"transformer.encoder.layer.{i}.{part}.weight"
        for i in (0, 1)
        for part in ("attention.self.query", "attention.output.dense", "output.dense")
    }
    # The bytes are those of an encoder that never had an adapter.
    shim_of(plain).from_bytes(shim_of(nlp).to_bytes())
    assert (vectors(plain) == vectors(nlp)).all()


def test_merging_without_adapters_changes_nothing(encoder: Path) -> None:
    nlp = encoder_pipeline(encoder)
    before = weights(shim_of(nlp)._model)
    shim_of(nlp).merge_lora()
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(shim_of(nlp)._model).items())


@pytest.mark.parametrize(
    "changes",
    [
        {"rank": 3},
        {"alpha": 8.0},
        {"targets": ["query"]},
        {"layers": 1},
    ],
)
def test_other_settings_than_those_of_the_weights_are_refused(
    encoder: Path, tmp_path: Path, changes: Dict[str, Any]
) -> None:
    adapted(encoder).to_disk(tmp_path)
    overrides = {f"components.transformer.model.lora.{name}": value for name, value in changes.items()}
    with pytest.raises(ValueError, match=r"was saved with lora .*'rank': 2.* but the config says .*merge-lora"):
        spacy.load(tmp_path, config=overrides)
    spacy.load(tmp_path, config={"components.transformer.model.lora.dropout": 0.5})


def test_adapters_that_one_side_alone_has_are_refused(encoder: Path) -> None:
    plain, nlp = encoder_pipeline(encoder), adapted(encoder)
    with pytest.raises(ValueError, match=r"was saved with lora null, but the config says .*'rank': 2"):
        shim_of(nlp).from_bytes(shim_of(plain).to_bytes())
    with pytest.raises(ValueError, match=r"was saved with lora .*'rank': 2.*, but the config says null"):
        shim_of(plain).from_bytes(shim_of(nlp).to_bytes())


# Only the adapter


def test_the_adapter_alone_is_small_and_loads_on_its_base(encoder: Path, tmp_path: Path) -> None:
    nlp = adapted(encoder, steps=2, save_mode="adapter")
    assert_loads_bit_equal(nlp, tmp_path / "adapter")
    adapted(encoder).to_disk(tmp_path / "full")
    sizes = [(tmp_path / mode / "transformer" / "model").stat().st_size for mode in ("adapter", "full")]
    n_adapted = sum(tensor.numel() for tensor in adapters(nlp).values())
    assert sizes[0] < 4 * n_adapted + 6000
    assert sizes[0] < sizes[1] / 5


def test_a_base_that_has_moved_is_found_by_its_new_name(encoder: Path, tmp_path: Path) -> None:
    old = shutil.copytree(encoder, tmp_path / "old")
    nlp = adapted(old, steps=2, save_mode="adapter")
    expected = vectors(nlp)
    nlp.to_disk(tmp_path / "pipeline")
    old.rename(tmp_path / "new")
    with pytest.raises(
        OSError, match=r"folder '.*old' does not exist .* only an adapter.*transformer\.model\.name"
    ):
        spacy.load(tmp_path / "pipeline")
    moved = {"components.transformer.model.name": str(tmp_path / "new")}
    assert (vectors(spacy.load(tmp_path / "pipeline", config=moved)) == expected).all()
    there = in_new_process(tmp_path / "pipeline", READ, config=moved)[::2]
    assert (numpy.concatenate([rows[0] for rows in there]) == expected).all()


def test_a_base_that_differs_by_a_bit_is_refused(encoder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(encoder, tmp_path / "copy")
    adapted(copy, steps=1, save_mode="adapter").to_disk(tmp_path / "pipeline")
    spacy.load(tmp_path / "pipeline")
    model = BertModel.from_pretrained(copy)
    model.embeddings.word_embeddings.weight.data.view(torch.int32)[7, 5] ^= 1
    model.save_pretrained(copy)
    with pytest.raises(ValueError, match=r"the adapter was trained on the encoder .* is another: its weights or"):
        spacy.load(tmp_path / "pipeline")


def test_a_base_of_another_vocabulary_is_refused(encoder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(encoder, tmp_path / "copy")
    adapted(copy, steps=1, save_mode="adapter").to_disk(tmp_path / "pipeline")
    tokenizer = AutoTokenizer.from_pretrained(copy)
    pieces = tokenizer.get_vocab()
    swapped = (copy / "tokenizer.json").read_text(encoding="utf8")
    one, other = f'"王": {pieces["王"]}', f'"在": {pieces["在"]}'
    assert one in swapped
    assert other in swapped
    swapped = swapped.replace(one, f'"王": {pieces["在"]}').replace(other, f'"在": {pieces["王"]}')
    (copy / "tokenizer.json").write_text(swapped, encoding="utf8")
    with pytest.raises(ValueError, match="its weights or its tokenizer differ"):
        spacy.load(tmp_path / "pipeline")


def test_the_adapter_of_an_encoders_first_layers_is_loaded_on_them(encoder: Path, tmp_path: Path) -> None:
    first = {"num_hidden_layers": 1}
    nlp = encoder_pipeline(
        encoder, lora={"@misc": "spacy-crf-ner.LoRA.v1"}, save_mode="adapter", transformer_config=first
    )
    train(nlp, 1)
    nlp.to_disk(tmp_path)
    again = spacy.load(tmp_path)
    assert len(shim_of(again).transformer.encoder.layer) == 1
    assert (vectors(again) == vectors(nlp)).all()


def test_an_adapter_is_no_whole_encoder(encoder: Path) -> None:
    alone, whole = adapted(encoder, save_mode="adapter"), adapted(encoder)
    with pytest.raises(ValueError, match='saved without the encoder; set save_mode = "adapter"'):
        shim_of(whole).from_bytes(shim_of(alone).to_bytes())
    # The other way round nothing is lacking.
    train(whole, 1)
    shim_of(alone).from_bytes(shim_of(whole).to_bytes())
    assert (vectors(alone) == vectors(whole)).all()


def test_the_adapter_alone_knows_nothing_of_a_merged_base(encoder: Path, tmp_path: Path) -> None:
    """Merged and saved, the encoder is whole again."""
    nlp = adapted(encoder, steps=1, save_mode="adapter")
    shim_of(nlp).merge_lora()
    assert shim_of(nlp).spec.save_mode == "full"
    assert shim_of(nlp).base is None
    plain = encoder_pipeline(encoder)
    shim_of(plain).from_bytes(shim_of(nlp).to_bytes())
    assert (vectors(plain) == vectors(nlp)).all()


def test_an_adapter_without_lora_is_refused(encoder: Path) -> None:
    with pytest.raises(ValueError, match=r'save_mode = "adapter" .*but lora is not set'):
        encoder_pipeline(encoder, save_mode="adapter", initialize=False)
    with pytest.raises(ValueError, match="save_mode = 'some'"):
        encoder_pipeline(encoder, save_mode="some", initialize=False)


def test_without_peft_it_says_what_to_install(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match=r"pip install 'spacy-crf-ner\[lora\]'"):
        adapted(encoder)
    encoder_pipeline(encoder)


def test_adapters_are_told_by_their_names() -> None:
    assert lora.is_adapter("transformer.encoder.layer.0.attention.self.query.lora_A.default.weight")
    assert not lora.is_adapter("transformer.encoder.layer.0.attention.self.query.base_layer.weight")


def test_the_last_layers_are_found_where_an_encoder_has_them_at_its_top() -> None:
    """ModernBERT's are called `layers.0`, with no module around them."""
    encoder: Any = nn.Module()
    encoder.config = PretrainedConfig(num_hidden_layers=3)
    encoder.layers = nn.ModuleList(nn.ModuleDict({"query": nn.Linear(4, 4)}) for _ in range(3))
    lora.inject(LoRA(rank=1, targets=["query"], layers=2), encoder)
    adapted = sorted({name.split(".lora_")[0] for name, _ in encoder.named_parameters() if ".lora_" in name})
    assert adapted == ["layers.1.query", "layers.2.query"]


def test_the_order_of_targets_does_not_matter(encoder: Path, tmp_path: Path) -> None:
    adapted(encoder, targets=["query", "key"]).to_disk(tmp_path)
    turned = {"components.transformer.model.lora.targets": ["key", "query"]}
    assert shim_of(spacy.load(tmp_path, config=turned)).spec.lora == LoRA(rank=2, targets=["key", "query"])
