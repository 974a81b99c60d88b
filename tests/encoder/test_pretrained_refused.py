"""Encoders that are not loaded, and what their users are told."""

import json
from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy
import pytest
import safetensors.torch
import spacy
import torch

from spacy_crf_ner.encoder import encoder_shim
from spacy_crf_ner.encoder.pretrained import load_config, load_tokenizer, load_transformer
from tests.encoder.util import (
    POSITIONS,
    encoder_pipeline,
    save_encoder,
    shim_of,
    spec_of,
    token_vectors,
)
from tests.util import TEXTS

READ = [text for text, _ in TEXTS]


def rewrite_config(path: Path, **changes: Any) -> None:
    config = json.loads((path / "config.json").read_text(encoding="utf8"))
    (path / "config.json").write_text(json.dumps({**config, **changes}), encoding="utf8")


def rewrite_weights(path: Path, change: Callable[[Dict[str, Any]], Dict[str, Any]]) -> None:
    state = safetensors.torch.load_file(path / "model.safetensors")
    safetensors.torch.save_file(change(state), path / "model.safetensors", metadata={"format": "pt"})


def test_missing_weights_are_refused_by_name(tmp_path: Path) -> None:
    save_encoder(tmp_path, "bert")
    gone = "encoder.layer.1.output.dense.weight"
    rewrite_weights(tmp_path, lambda state: {name: x for name, x in state.items() if name != gone})
    with pytest.raises(ValueError, match=f"lacks {gone}: .* do not fit its config.json"):
        encoder_pipeline(tmp_path)


def test_many_missing_weights_are_counted(tmp_path: Path) -> None:
    save_encoder(tmp_path, "macbert")
    rewrite_config(tmp_path, num_hidden_layers=3)
    with pytest.raises(ValueError, match=r"lacks encoder\.layer\.2\..* 12 more: "):
        encoder_pipeline(tmp_path)


@pytest.mark.parametrize("family", ["bert", "macbert", "roberta", "electra"])
def test_layers_that_the_config_has_no_place_for_are_refused_unless_asked_for(family: str, tmp_path: Path) -> None:
    save_encoder(tmp_path, family)
    whole = token_vectors(encoder_pipeline(tmp_path), READ[0])
    cut = encoder_pipeline(tmp_path, transformer_config={"num_hidden_layers": 1})
    assert len(shim_of(cut).transformer.encoder.layer) == 1
    assert (token_vectors(cut, READ[0]) != whole).any()
    rewrite_config(tmp_path, num_hidden_layers=1)
    with pytest.raises(
        ValueError, match=r"encoder\.layer\.1\..*no place.*set num_hidden_layers in transformer_config"
    ):
        encoder_pipeline(tmp_path)


def test_a_cut_does_not_excuse_other_weights(tmp_path: Path) -> None:
    save_encoder(tmp_path, "bert")
    rewrite_weights(tmp_path, lambda state: {**state, "encoder.layer.0.extra.weight": torch.zeros(2)})
    with pytest.raises(ValueError, match=r"encoder\.layer\.0\.extra\.weight"):
        encoder_pipeline(tmp_path, transformer_config={"num_hidden_layers": 1})


def test_misshapen_weights_are_refused_by_name(tmp_path: Path) -> None:
    save_encoder(tmp_path, "bert")
    rewrite_config(tmp_path, intermediate_size=48)
    with pytest.raises(ValueError, match=r"intermediate\.dense\.weight.* of another shape than its config.json"):
        encoder_pipeline(tmp_path)


def test_an_unknown_setting_is_refused(tmp_path: Path) -> None:
    save_encoder(tmp_path, "bert")
    nlp = encoder_pipeline(tmp_path, transformer_config={"hidden_dropout_prob": 0.25})
    assert shim_of(nlp).transformer.config.hidden_dropout_prob == 0.25
    with pytest.raises(ValueError, match=r"transformer_config: BertConfig has no setting \['hidden_dropout'\]"):
        encoder_pipeline(tmp_path, transformer_config={"hidden_dropout": 0.25})


@pytest.mark.parametrize("name", ["output_hidden_states", "output_attentions"])
def test_outputs_that_are_not_handed_on_are_refused(tmp_path: Path, name: str) -> None:
    save_encoder(tmp_path, "bert")
    with pytest.raises(ValueError, match=f"{name}.*last layer.*TransformerModel.v3"):
        encoder_pipeline(tmp_path, transformer_config={name: True})
    encoder_pipeline(tmp_path, transformer_config={name: False})


def test_a_slow_tokenizer_is_refused(tmp_path: Path) -> None:
    save_encoder(tmp_path, "bert", "vocabulary alone")
    with pytest.raises(ValueError, match=r"BertTokenizer is not a fast tokenizer.*use_fast"):
        encoder_pipeline(tmp_path, tokenizer_config={"use_fast": False})


def test_a_vocabulary_larger_than_the_embeddings_is_refused(tmp_path: Path) -> None:
    save_encoder(tmp_path, "bert", "vocabulary alone")
    vocabulary = (tmp_path / "vocab.txt").read_text(encoding="utf8").split("\n")
    n = len(vocabulary)
    (tmp_path / "vocab.txt").write_text("\n".join([*vocabulary, "多"]), encoding="utf8")
    with pytest.raises(ValueError, match=f"{n + 1} word-pieces, but embeddings for {n}"):
        encoder_pipeline(tmp_path)


@pytest.mark.parametrize("local_files_only", [True, False])
def test_an_encoder_that_is_nowhere_is_refused_with_what_to_do(
    local_files_only: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The environment variable is read when the library is imported.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("transformers.utils.hub._is_offline_mode", True)
    with pytest.raises(OSError) as caught:
        encoder_pipeline(Path("someone/no-such-encoder"), local_files_only=local_files_only)
    message = str(caught.value)
    assert "'someone/no-such-encoder' is not a folder" in message
    assert "huggingface-cli download someone/no-such-encoder --local-dir FOLDER" in message
    assert ("local_files_only = true forbids a download" in message) == local_files_only
    for needed in ("config.json", "model.safetensors", "pytorch_model.bin", "tokenizer.json", "vocab.txt"):
        assert needed in message


def test_an_encoder_in_the_cache_is_found_by_its_name_and_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A download is but a folder of this structure."""
    cache = tmp_path / "models--someone--tiny"
    (cache / "refs").mkdir(parents=True)
    for revision, commit, family in (("main", "a" * 40, "bert"), ("second", "b" * 40, "electra")):
        (cache / "refs" / revision).write_text(commit)
        save_encoder(cache / "snapshots" / commit, family)
    monkeypatch.setattr("transformers.utils.hub.TRANSFORMERS_CACHE", str(tmp_path))

    def refuse(*_: Any, **__: Any) -> None:
        asked.append(1)
        raise OSError("no network")

    asked: List[int] = []
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    for asked_for, kind in ((None, "bert"), ("second", "electra")):
        nlp = encoder_pipeline(Path("someone/tiny"), local_files_only=True, revision=asked_for)
        assert shim_of(nlp).transformer.config.model_type == kind
    with pytest.raises(OSError, match="'someone/tiny' is not a folder"):
        encoder_pipeline(Path("someone/tiny"), local_files_only=True, revision="third")
    assert not asked


@pytest.mark.parametrize("local_files_only", [True, False])
def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path, local_files_only: bool) -> None:
    """What cannot be a name on the hub is not looked for there."""
    nowhere = spec_of(tmp_path / "nowhere", local_files_only=local_files_only)
    for load in (load_config, load_tokenizer, lambda spec: load_transformer(spec, None)):
        with pytest.raises(OSError, match=r"encoder folder '.*nowhere' does not exist"):
            load(nowhere)


@pytest.mark.parametrize(
    "gone, lacking",
    [
        (["config.json"], "config.json"),
        (["model.safetensors"], "model.safetensors or pytorch_model.bin"),
        (["vocab.txt", "tokenizer.json", "tokenizer_config.json"], "tokenizer.json or vocab.txt"),
        (["vocab.txt", "tokenizer.json"], "tokenizer.json or vocab.txt"),
    ],
)
def test_an_incomplete_folder_is_refused_with_what_it_lacks(tmp_path: Path, gone: List[str], lacking: str) -> None:
    save_encoder(tmp_path, "bert")
    for name in gone:
        (tmp_path / name).unlink()
    with pytest.raises(OSError) as caught:
        encoder_pipeline(tmp_path)
    message = str(caught.value)
    assert f"encoder folder '{tmp_path}' needs config.json, model.safetensors or" in message
    assert message.endswith(f": there is no {lacking}")


def test_a_broken_config_is_refused(tmp_path: Path) -> None:
    save_encoder(tmp_path, "bert")
    (tmp_path / "config.json").write_text("{", encoding="utf8")
    with pytest.raises(OSError, match=r"encoder folder .*config\.json.*JSON"):
        encoder_pipeline(tmp_path)


def test_a_config_of_no_known_kind_is_refused(tmp_path: Path) -> None:
    save_encoder(tmp_path, "bert")
    rewrite_config(tmp_path, model_type="noble")
    with pytest.raises(ValueError, match="noble"):
        encoder_pipeline(tmp_path)


@pytest.mark.parametrize("checkpoint, name", [("safetensors", "model.safetensors"), ("bin", "pytorch_model.bin")])
def test_a_truncated_file_is_refused_by_name(tmp_path: Path, checkpoint: str, name: str) -> None:
    save_encoder(tmp_path, "bert", checkpoint)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(OSError, match=f"encoder folder '{tmp_path}'"):
        encoder_pipeline(tmp_path)


def test_a_missing_shard_is_refused(tmp_path: Path) -> None:
    save_encoder(tmp_path, "bert", "sharded safetensors")
    next(tmp_path.glob("model-00002-*")).unlink()
    with pytest.raises(OSError, match=r"encoder folder .*model-00002-of"):
        encoder_pipeline(tmp_path)


def test_the_attention_is_the_one_that_is_asked_for(tmp_path: Path) -> None:
    save_encoder(tmp_path, "bert")
    vectors = {}
    for name in ("eager", "sdpa"):
        nlp = encoder_pipeline(tmp_path, attention=name)
        assert shim_of(nlp).transformer.config._attn_implementation == name
        nlp.to_disk(tmp_path / name)
        assert shim_of(spacy.load(tmp_path / name)).transformer.config._attn_implementation == name
        vectors[name] = token_vectors(nlp, READ[0])
    numpy.testing.assert_allclose(vectors["eager"], vectors["sdpa"], atol=1e-5)
    with pytest.raises(ValueError, match="fancy"):
        encoder_pipeline(tmp_path, attention="fancy")


def test_a_window_that_crashes_the_encoder_is_refused_at_initialize(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where neither the encoder nor the tokenizer says how much it takes."""
    save_encoder(tmp_path, "bert")
    monkeypatch.setattr(encoder_shim, "position_limit", lambda *_: None)
    encoder_pipeline(tmp_path, window=POSITIONS)
    with pytest.raises(ValueError, match=f"does not take a window of {POSITIONS + 1} word-pieces.*set window to"):
        encoder_pipeline(tmp_path, window=POSITIONS + 1)
