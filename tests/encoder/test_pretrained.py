"""Encoders of all kinds and checkpoints of all kinds through the production path."""

import json
import logging
import shutil
import warnings
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional

import numpy
import pytest
import spacy
import torch
import transformers
from spacy.language import Language
from transformers import AutoModel, AutoTokenizer

from spacy_crf_ner.encoder import encoder_shim
from spacy_crf_ner.encoder.pretrained import (
    fingerprint,
    load_config,
    load_tokenizer,
    load_transformer,
    some,
    without_pooler,
)
from tests.encoder.util import (
    CHECKPOINTS,
    FAMILIES,
    POSITIONS,
    assert_loads_bit_equal,
    encoder_pipeline,
    save_encoder,
    save_tiny_bert,
    shim_of,
    spec_of,
    token_vectors,
    train,
    weights,
)
from tests.util import TEXTS

READ = [text for text, _ in TEXTS]


@pytest.fixture
def hf_warnings() -> Iterator[List[str]]:
    """What transformers would write to the terminal, warnings and worse."""
    said: List[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    handler = Handler(logging.WARNING)
    logger = transformers.utils.logging.get_logger("transformers")
    logger.addHandler(handler)
    yield said
    logger.removeHandler(handler)


def expected_vectors(path: Path, nlp: Language, text: str) -> Any:
    """For each token the mean of its word-pieces' vectors, by transformers' own classes alone."""
    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path).eval()
    encoded = tokenizer(text, return_tensors="pt", return_offsets_mapping=True)
    offsets = encoded.pop("offset_mapping")[0].tolist()
    with torch.no_grad():
        rows = model(**encoded).last_hidden_state[0]
    vectors = []
    for token in nlp.make_doc(text):
        own = [
            i for i, (start, end) in enumerate(offsets) if max(start, token.idx) < min(end, token.idx + len(token))
        ]
        vectors.append(rows[own].mean(dim=0).numpy() if own else numpy.zeros(rows.shape[1]))
    return numpy.stack(vectors)


@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_encoders_load_as_transformers_loads_them_train_and_are_loaded_again(
    family: str, checkpoint: str, tmp_path: Path, hf_warnings: List[str]
) -> None:
    saved = save_encoder(tmp_path / "encoder", family, checkpoint)
    # What transformers says of the heads that were saved is not about loading.
    hf_warnings.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # The word-pieces are to be transformers', those of a byte-level tokenizer too.
        nlp = encoder_pipeline(tmp_path / "encoder", split_tokens=False)
    assert hf_warnings == []

    pretrained = weights(getattr(saved, saved.base_model_prefix, saved))
    loaded = weights(shim_of(nlp).transformer)
    assert loaded.keys() == {name for name in pretrained if not name.startswith("pooler.")}
    assert all(torch.equal(loaded[name], pretrained[name]) for name in loaded)
    text = "".join(READ[:2])
    expected = expected_vectors(tmp_path / "encoder", nlp, text)
    numpy.testing.assert_allclose(token_vectors(nlp, text), expected, atol=1e-6)

    if family == "bert" or checkpoint in ("safetensors", "vocabulary alone"):  # From here on, all is the same.
        train(nlp, 1)
        changed = [
            name
            for name, tensor in shim_of(nlp).transformer.state_dict().items()
            if (tensor != loaded[name]).any()
        ]
        assert len(changed) > 0.8 * len(loaded)
        # The encoder itself is not needed any more.
        shutil.rmtree(tmp_path / "encoder")
        assert_loads_bit_equal(nlp, tmp_path / "pipeline")


def test_the_checkpoints_are_what_they_are_called(tmp_path: Path) -> None:
    """What is tested above is what old and new versions of the library write."""
    names: Dict[str, List[str]] = {}
    parts: Dict[str, Dict[str, Any]] = {}
    for checkpoint in CHECKPOINTS:
        save_encoder(tmp_path / checkpoint, "macbert", checkpoint)
        names[checkpoint] = sorted(path.name for path in (tmp_path / checkpoint).iterdir())
        if "pytorch_model.bin" in names[checkpoint]:
            parts[checkpoint] = torch.load(tmp_path / checkpoint / "pytorch_model.bin")
    assert "model.safetensors" in names["safetensors"]
    assert "model.safetensors.index.json" in names["sharded safetensors"]
    assert len([name for name in names["sharded safetensors"] if name.endswith(".safetensors")]) > 2
    assert "pytorch_model.bin.index.json" in names["sharded bin"]
    assert all("cls.predictions.bias" in state for state in parts.values())
    assert "bert.encoder.layer.0.output.dense.weight" in parts["prefixed"]
    assert "bert.embeddings.LayerNorm.gamma" in parts["gamma and beta"]
    assert "bert.embeddings.LayerNorm.weight" not in parts["gamma and beta"]
    assert "bert.embeddings.position_ids" in parts["position ids"]
    assert not {"tokenizer.json", "tokenizer_config.json"} & {*names["vocabulary alone"]}


def test_heads_that_are_left_out_are_said_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_encoder(tmp_path, "chinese-roberta-wwm-ext")
    with caplog.at_level(logging.INFO, logger="spacy"):
        nlp = encoder_pipeline(tmp_path)
    said = [record.getMessage() for record in caplog.records if "Encoder" in record.getMessage()]
    assert said == [f"Encoder '{tmp_path}': cls, pooler of the pretraining are left out"]
    assert not any("pooler" in name for name in shim_of(nlp).transformer.state_dict())


def test_a_whole_encoder_leaves_nothing_to_say(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_encoder(tmp_path, "electra").electra.save_pretrained(tmp_path)
    with caplog.at_level(logging.INFO, logger="spacy"):
        encoder_pipeline(tmp_path)
    assert not [record for record in caplog.records if "left out" in record.getMessage()]


def test_the_verbosity_of_transformers_stays_what_it_is(tmp_path: Path) -> None:
    save_encoder(tmp_path, "macbert")
    hf_logging = transformers.utils.logging
    before = hf_logging.get_verbosity()
    try:
        hf_logging.set_verbosity(logging.WARNING)
        encoder_pipeline(tmp_path)
        assert hf_logging.get_verbosity() == logging.WARNING
        (tmp_path / "model.safetensors").write_bytes(b"")
        with pytest.raises(OSError):
            encoder_pipeline(tmp_path)
        assert hf_logging.get_verbosity() == logging.WARNING
    finally:
        hf_logging.set_verbosity(before)


def test_weights_in_half_precision_become_single_and_stay_so(tmp_path: Path) -> None:
    model = save_encoder(tmp_path / "encoder", "bert").half()
    model.save_pretrained(tmp_path / "encoder")
    assert json.loads((tmp_path / "encoder" / "config.json").read_text())["torch_dtype"] == "float16"
    nlp = encoder_pipeline(tmp_path / "encoder")
    assert {p.dtype for p in shim_of(nlp).transformer.parameters()} == {torch.float32}
    train(nlp, 1)
    assert_loads_bit_equal(nlp, tmp_path / "pipeline")
    again = spacy.load(tmp_path / "pipeline")
    assert {p.dtype for p in shim_of(again).transformer.parameters()} == {torch.float32}


# How long a window may be


@pytest.mark.parametrize("family, limit", [("roberta", POSITIONS), ("bert", POSITIONS), ("electra", POSITIONS)])
def test_a_window_takes_all_positions_and_no_more(family: str, limit: int, tmp_path: Path) -> None:
    """RoBERTa's table is two longer than what it takes."""
    model = save_encoder(tmp_path, family)
    assert model.config.max_position_embeddings == limit + (2 if family == "roberta" else 0)
    long = "王小明在北京大学读书。" * 20
    nlp = encoder_pipeline(tmp_path, window=limit)
    assert nlp(long)._.trf_data.model_output["last_hidden_state"].shape[1] > len(long)
    assert shim_of(encoder_pipeline(tmp_path)).windowing.window == limit
    with pytest.raises(ValueError, match=f"window = {limit + 1}, but the encoder takes {limit} word-pieces"):
        encoder_pipeline(tmp_path, window=limit + 1)


def test_a_tokenizer_that_takes_less_than_the_encoder_sets_the_limit(tmp_path: Path) -> None:
    save_encoder(tmp_path, "bert")
    assert shim_of(encoder_pipeline(tmp_path, tokenizer_config={"model_max_length": 30})).windowing.window == 30
    with pytest.raises(ValueError, match="window = 31, but the encoder takes 30"):
        encoder_pipeline(tmp_path, window=31, tokenizer_config={"model_max_length": 30})


def test_a_tokenizer_that_knows_no_limit_leaves_it_to_the_encoder(tmp_path: Path) -> None:
    save_encoder(tmp_path, "bert", "vocabulary alone")
    assert AutoTokenizer.from_pretrained(tmp_path).model_max_length > 1e6
    nlp = encoder_pipeline(tmp_path)
    assert shim_of(nlp).windowing.window == POSITIONS
    assert len(nlp("王小明" * 100)._.trf_data.align.lengths) == 300


def test_where_nothing_says_a_limit_there_is_none(tmp_path: Path) -> None:
    save_encoder(tmp_path, "bert", "vocabulary alone")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    relative: Any = torch.nn.Module()
    relative.config = transformers.T5Config()
    assert encoder_shim.position_limit(relative, tokenizer) is None
    tokenizer.model_max_length = 77
    assert encoder_shim.position_limit(relative, tokenizer) == 77


def test_texts_are_read_in_order_by_a_tokenizer_that_truncates_in_front(tmp_path: Path) -> None:
    save_encoder(tmp_path, "bert")
    text = "王小明在北京大学读书。" * 9
    right, left = (
        encoder_pipeline(tmp_path, window=20, tokenizer_config={"truncation_side": side})
        for side in ("right", "left")
    )
    assert (token_vectors(right, text) == token_vectors(left, text)).all()


# Parts


def test_an_encoder_whose_class_always_has_a_pooler_keeps_it() -> None:
    assert without_pooler(transformers.BertConfig()) == {"add_pooling_layer": False}
    assert without_pooler(transformers.ElectraConfig()) == {}


def digest_of(path: Path, change: Optional[Callable[[Any, Any], None]] = None) -> str:
    loaded = spec_of(path)
    transformer, tokenizer = load_transformer(loaded, load_config(loaded)), load_tokenizer(loaded)
    if change:
        change(transformer, tokenizer)
    return fingerprint(transformer, tokenizer)


def test_a_fingerprint_tells_weights_and_vocabularies_apart_and_nothing_else(tmp_path: Path) -> None:
    save_encoder(tmp_path / "a", "bert")
    digest = digest_of(tmp_path / "a")
    assert len(digest) == 64
    for checkpoint in ("bin", "prefixed", "gamma and beta", "position ids", "vocabulary alone"):
        save_encoder(tmp_path / checkpoint, "bert", checkpoint)
        assert digest_of(tmp_path / checkpoint) == digest

    def flip(transformer: Any, _: Any) -> None:
        flat = transformer.encoder.layer[1].output.dense.bias.data.view(torch.int32)
        flat[3] ^= 1

    assert digest_of(tmp_path / "a", flip) != digest
    assert digest_of(tmp_path / "a", lambda _, tokenizer: tokenizer.add_tokens(["多"]) and None) != digest
    lowercase = spec_of(tmp_path / "a", tokenizer_config={"do_lower_case": False})
    transformer = load_transformer(lowercase, load_config(lowercase))
    assert fingerprint(transformer, load_tokenizer(lowercase)) != digest
    used = load_tokenizer(spec_of(tmp_path / "a"))
    used(["王小明" * 9], truncation=True, max_length=8, padding=True)
    assert fingerprint(transformer, used) == digest


def test_of_many_names_the_first_are_named_and_the_rest_counted() -> None:
    assert some(["a", "b", "c", "d"]) == "a, b, c, d"
    assert some(["a", "b", "c", "d", "e", "f"]) == "a, b, c, d, 2 more"


def test_save_tiny_bert_takes_settings(tmp_path: Path) -> None:
    save_tiny_bert(tmp_path, READ, num_hidden_layers=1)
    assert shim_of(encoder_pipeline(tmp_path)).transformer.config.num_hidden_layers == 1
