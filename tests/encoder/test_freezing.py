"""Which parameters learn, and which do not."""

from pathlib import Path
from typing import Any, Dict, Set

import pytest
import spacy
import torch
from spacy.language import Language
from torch import nn
from transformers import AlbertConfig, AlbertModel, XLMConfig, XLMModel

from spacy_crf_ner.encoder.freezing import freeze, layers_of
from tests.encoder.util import encoder_pipeline, gradients, save_encoder, shim_of, train, weights
from tests.util import examples_from, get_pipe


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, Path]:
    folder = tmp_path_factory.mktemp("encoders")
    for family in ("bert", "roberta", "electra", "ernie"):
        save_encoder(folder / family, family)
    return {path.name: path for path in folder.iterdir()}


def head_weights(nlp: Language) -> Dict[str, torch.Tensor]:
    return weights(get_pipe(nlp, "crf_ner").model.get_ref("output_layer").shims[0]._model)


def changed_by_training(nlp: Language) -> Set[str]:
    """The encoder's parameters that two steps change."""
    before = weights(shim_of(nlp).transformer)
    train(nlp, 2)
    after = shim_of(nlp).transformer.state_dict()
    return {name for name in before if (before[name] != after[name]).any()}


def expected_to_stay(family: str, frozen: Any) -> Set[str]:
    """By name; independent of how the encoder is built."""
    if frozen is None:
        return set()
    parts = ["embeddings.", "embeddings_project.", *(f"encoder.layer.{i}." for i in range(2))]
    n_parts = {"embeddings": 2, 0: 2, 1: 3, 2: 4, "all": 4}[frozen]
    return set(parts[:n_parts])


@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "ernie"])
@pytest.mark.parametrize("frozen", [None, "embeddings", 0, 1, 2, "all"])
def test_what_is_frozen_stays_to_the_bit_and_all_else_learns(
    encoders: Dict[str, Path], family: str, frozen: Any
) -> None:
    nlp = encoder_pipeline(encoders[family], freeze=frozen)
    names = set(shim_of(nlp).transformer.state_dict())
    before = head_weights(nlp)
    changed = changed_by_training(nlp)
    after = head_weights(nlp)
    assert all((before[name] != after[name]).any() for name in before)
    stays = tuple(expected_to_stay(family, frozen))
    frozen_names = {name for name in names if name.startswith(stays)} if stays else set()
    # A bias of all keys shifts all scores of a query alike: its gradient is zero but for rounding.
    unmoved = {name for name in names - frozen_names - changed if not name.endswith("attention.self.key.bias")}
    assert not changed & frozen_names
    assert not unmoved
    assert frozen_names or frozen is None


def test_electra_projects_its_embeddings_by_a_layer_that_is_frozen_with_them(encoders: Dict[str, Path]) -> None:
    nlp = encoder_pipeline(encoders["electra"])
    assert "embeddings_project.weight" in changed_by_training(nlp)
    nlp = encoder_pipeline(encoders["electra"], freeze="embeddings")
    assert not {name for name in changed_by_training(nlp) if name.startswith("embeddings")}


def test_an_encoder_that_is_all_frozen_is_a_fixed_function(tmp_path: Path) -> None:
    """Also with dropout in its configuration; its listeners train on it."""
    save_encoder(tmp_path, "bert", hidden_dropout_prob=0.5)
    nlp = encoder_pipeline(tmp_path, freeze="all")
    pipe, examples = get_pipe(nlp, "transformer"), examples_from(nlp)
    docs = [example.predicted for example in examples]
    trained, _ = pipe.model.begin_update(docs)
    predicted = pipe.model.predict(docs)
    assert torch.equal(trained.model_output["last_hidden_state"], predicted.model_output["last_hidden_state"])
    assert not trained.model_output["last_hidden_state"].requires_grad
    losses = [nlp.update(examples_from(nlp), sgd=None)["crf_ner"]]
    train(nlp, 30, rate=0.05)
    losses.append(nlp.update(examples_from(nlp), sgd=None)["crf_ner"])
    assert losses[1] < losses[0] / 2
    assert gradients(nlp) == {}
    learning = encoder_pipeline(tmp_path)
    trained, _ = get_pipe(learning, "transformer").model.begin_update(docs)
    assert not torch.equal(trained.model_output["last_hidden_state"], predicted.model_output["last_hidden_state"])


def test_freezing_goes_not_with_lora(encoders: Dict[str, Path]) -> None:
    with pytest.raises(ValueError, match=r"freeze = 1 and lora are both set.*freeze = null.*lora\.layers"):
        encoder_pipeline(encoders["bert"], freeze=1, lora={"@misc": "spacy-crf-ner.LoRA.v1"}, initialize=False)


def test_more_layers_than_there_are_cannot_be_frozen(encoders: Dict[str, Path]) -> None:
    with pytest.raises(ValueError, match='freeze = 3, but the encoder has 2 layers; "all" freezes it whole'):
        encoder_pipeline(encoders["bert"], freeze=3)


@pytest.mark.parametrize("what", ["some", "1.5", -1, ""])
def test_an_unknown_part_is_refused_with_those_known(encoders: Dict[str, Path], what: Any) -> None:
    with pytest.raises(
        ValueError, match=f'freeze = {what!r}, but it is null, "embeddings", a number of layers or'
    ):
        encoder_pipeline(encoders["bert"], freeze=what)


@pytest.mark.parametrize("what", [True, False])
def test_a_truth_value_is_no_number_of_layers(what: Any) -> None:
    with pytest.raises(ValueError, match=f"freeze = {what}"):
        freeze(nn.Linear(1, 1), what)


def test_a_saved_pipeline_is_frozen_as_before(encoders: Dict[str, Path], tmp_path: Path) -> None:
    nlp = encoder_pipeline(encoders["bert"], freeze=1)
    nlp.to_disk(tmp_path)
    changed = changed_by_training(spacy.load(tmp_path))
    assert changed
    assert all(name.startswith("encoder.layer.1.") for name in changed)


def tiny_albert(n_layers: int) -> AlbertModel:
    return AlbertModel(
        AlbertConfig(
            vocab_size=9,
            embedding_size=4,
            hidden_size=8,
            num_hidden_layers=n_layers,
            num_attention_heads=2,
            intermediate_size=8,
        )
    )


@pytest.mark.parametrize("n_layers", [1, 3])
def test_layers_that_share_their_weights_cannot_be_chosen_by_number(n_layers: int) -> None:
    """With one layer there are two lists of one: a group of layers, and the group's layers."""
    albert = tiny_albert(n_layers)
    with pytest.raises(ValueError, match=rf"AlbertModel has .* lists of {n_layers} layers.* by number"):
        layers_of(albert)
    freeze(albert, "embeddings")
    assert not albert.embeddings.word_embeddings.weight.requires_grad
    assert all(parameter.requires_grad for parameter in albert.encoder.parameters())


def test_layers_that_are_several_lists_cannot_be_chosen_by_number() -> None:
    """XLM has a list of attentions, one of feed-forward networks, ...: to freeze one of them is not enough."""
    model = XLMModel(XLMConfig(vocab_size=20, emb_dim=8, n_layers=3, n_heads=2))
    with pytest.raises(ValueError, match="XLMModel has 4 lists of 3 layers"):
        freeze(model, 1)
    assert all(parameter.requires_grad for name, parameter in model.named_parameters() if "attentions" in name)
