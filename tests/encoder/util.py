"""Tiny random encoders, saved as the hub's are, so that the production path loads them without a download."""

import atexit
import json
import os
import subprocess
import sys
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence

import numpy
import spacy
import torch
from numpy.typing import NDArray
from spacy.language import Language
from spacy.training import Example
from thinc.api import Adam, fix_random_seed
from tokenizers import ByteLevelBPETokenizer
from torch import Tensor
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
    BertModel,
    BertTokenizerFast,
    ElectraConfig,
    ElectraForPreTraining,
    ElectraTokenizerFast,
    ErnieConfig,
    ErnieModel,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaTokenizerFast,
)

from spacy_crf_ner.encoder.encoder_shim import EncoderShim
from spacy_crf_ner.encoder.piece_tokenizer import PieceTokenizer
from spacy_crf_ner.encoder.spec import EncoderSpec
from tests.encoder.load_worker import outputs
from tests.util import NO_STEP, TEXTS, at_random, examples_from, get_pipe

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

SIZES: Dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


def vocabulary_of(texts: Iterable[str]) -> List[str]:
    """The special tokens and the characters of some texts."""
    return [*SPECIAL, *sorted({char for text in texts for char in text if not char.isspace()})]


def save_tiny_bert(path: Path, texts: Iterable[str], *, dropout: float = 0.0, **settings: Any) -> Path:
    """Save a BERT of two layers whose vocabulary is the characters of some texts.

    path (Path): Folder to write to.
    texts (Iterable[str]): What the vocabulary shall cover.
    dropout (float): The encoder's own dropout rate, which no spaCy setting reaches.
    settings (Any): Further settings of the `BertConfig`.
    RETURNS (Path): The folder.
    """
    path.mkdir(parents=True, exist_ok=True)
    vocabulary = vocabulary_of(texts)
    (path / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf8")
    BertTokenizerFast(vocab_file=str(path / "vocab.txt"), model_max_length=512).save_pretrained(path)
    torch.manual_seed(0)
    config = BertConfig(
        **{
            **SIZES,
            "vocab_size": len(vocabulary),
            "max_position_embeddings": 512,
            "hidden_dropout_prob": dropout,
            "attention_probs_dropout_prob": dropout,
            **settings,
        }
    )
    BertModel(config).save_pretrained(path)
    return path


class Family(NamedTuple):
    """A kind of encoder, and what its checkpoints on the hub were saved from."""

    config: Any
    model: Any
    settings: Dict[str, Any]
    in_config: Dict[str, Any]
    """What stands in its config.json besides."""


POSITIONS = 40
"""How many word-pieces the encoders of `FAMILIES` take."""

FAMILIES: Dict[str, Family] = {
    "bert": Family(BertConfig, BertModel, {}, {}),
    # Its first positions stand for padding.
    "roberta": Family(
        RobertaConfig,
        RobertaForMaskedLM,
        {
            "max_position_embeddings": POSITIONS + 2,
            "pad_token_id": 1,
            "bos_token_id": 0,
            "eos_token_id": 2,
            "type_vocab_size": 1,
        },
        {},
    ),
    "ernie": Family(ErnieConfig, ErnieModel, {"task_type_vocab_size": 3, "use_task_id": True}, {}),
    "electra": Family(ElectraConfig, ElectraForPreTraining, {"embedding_size": 16}, {}),
    "macbert": Family(
        BertConfig, BertForMaskedLM, {}, {"directionality": "bidi", "pooler_type": "first_token_transform"}
    ),
    "chinese-roberta-wwm-ext": Family(
        BertConfig,
        BertForPreTraining,
        {},
        {"architectures": ["BertForMaskedLM"], "output_past": True, "pooler_fc_size": 768, "eos_token_id": 2},
    ),
}


def _save_wordpieces(path: Path, texts: Iterable[str], tokenizer: Any, whole: bool) -> int:
    """Save a tokenizer of characters; `whole`: with all that the library of today writes, not vocab.txt alone."""
    vocabulary = vocabulary_of(texts)
    (path / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf8")
    if whole:
        tokenizer(vocab_file=str(path / "vocab.txt"), model_max_length=512).save_pretrained(path)
    return len(vocabulary)


def _save_bytes(path: Path, texts: Iterable[str], whole: bool) -> int:
    """Save a byte-level tokenizer, as RoBERTa's is."""
    trained = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained.train_from_iterator(
        texts, vocab_size=300, min_frequency=1, special_tokens=special, show_progress=False
    )
    trained.save_model(str(path))
    if whole:
        RobertaTokenizerFast(str(path / "vocab.json"), str(path / "merges.txt")).save_pretrained(path)
    return trained.get_vocab_size()


def _old_names(state: Dict[str, Tensor]) -> Dict[str, Tensor]:
    kinds = (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta"))
    renamed = {}
    for name, tensor in state.items():
        for new, old in kinds:
            name = name.replace(new, old)
        renamed[name] = tensor
    return renamed


def _with_position_ids(state: Dict[str, Tensor]) -> Dict[str, Tensor]:
    ids = {
        name.replace("position_embeddings.weight", "position_ids"): torch.arange(len(tensor))[None]
        for name, tensor in state.items()
        if name.endswith("position_embeddings.weight")
    }
    return {**state, **ids}


def _save_state(change: Callable[[Any, Dict[str, Tensor]], Dict[str, Tensor]]) -> Callable[[Any, Path], None]:
    """Save weights as old versions did, after a change to their names."""

    def save(model: Any, path: Path) -> None:
        model.config.save_pretrained(path)
        torch.save(change(model, dict(model.state_dict())), path / "pytorch_model.bin")

    return save


CHECKPOINTS: Dict[str, Callable[[Any, Path], None]] = {
    "safetensors": lambda model, path: model.save_pretrained(path),
    "sharded safetensors": lambda model, path: model.save_pretrained(path, max_shard_size="20KB"),
    "bin": lambda model, path: model.save_pretrained(path, safe_serialization=False),
    "sharded bin": lambda model, path: model.save_pretrained(
        path, safe_serialization=False, max_shard_size="20KB"
    ),
    "prefixed": _save_state(
        lambda model, state: {
            name
            if name.startswith(("cls.", f"{model.base_model_prefix}."))
            else f"{model.base_model_prefix}.{name}": x
            for name, x in state.items()
        }
    ),
    "gamma and beta": _save_state(lambda model, state: _old_names(state)),
    "position ids": _save_state(lambda model, state: _with_position_ids(state)),
    "vocabulary alone": lambda model, path: model.save_pretrained(path),
}
"""How weights lie in a folder, by what is peculiar to it; the last has no tokenizer.json."""


def save_encoder(path: Path, family: str, checkpoint: str = "safetensors", **settings: Any) -> Any:
    """Save a tiny encoder of one of the `FAMILIES`, in one of the ways of `CHECKPOINTS`.

    path (Path): Folder to write to.
    family, checkpoint (str): Which.
    settings (Any): Further settings of its configuration.
    RETURNS (PreTrainedModel): The model that was saved, with its heads.
    """
    path.mkdir(parents=True, exist_ok=True)
    kind = FAMILIES[family]
    texts = [text for text, _ in TEXTS]
    whole = checkpoint != "vocabulary alone"
    if family == "roberta":
        n_pieces = _save_bytes(path, texts, whole)
    else:
        tokenizer = ElectraTokenizerFast if family == "electra" else BertTokenizerFast
        n_pieces = _save_wordpieces(path, texts, tokenizer, whole)
    torch.manual_seed(0)
    sizes = {**SIZES, "vocab_size": n_pieces, "max_position_embeddings": POSITIONS}
    model = kind.model(kind.config(**{**sizes, **kind.settings, **settings}))
    CHECKPOINTS[checkpoint](model, path)
    config = json.loads((path / "config.json").read_text(encoding="utf8"))
    (path / "config.json").write_text(json.dumps({**config, **kind.in_config}), encoding="utf8")
    return model


def transformer_config(name: Path, *, window: int = 128, stride: int = 96) -> Dict[str, Any]:
    """The configuration of a `transformer` pipe over a saved encoder."""
    return {
        "model": {
            "@architectures": "spacy-transformers.TransformerModel.v3",
            "name": str(name),
            "get_spans": {
                "@span_getters": "spacy-transformers.strided_spans.v1",
                "window": window,
                "stride": stride,
            },
            "tokenizer_config": {"use_fast": True},
            "transformer_config": {},
            "mixed_precision": False,
            "grad_scaler_config": {},
        }
    }


LISTENER: Dict[str, Any] = {
    "@architectures": "spacy-transformers.TransformerListener.v1",
    "grad_factor": 1.0,
    "pooling": {"@layers": "reduce_mean.v1"},
}


HEAD: Dict[str, Any] = {
    "@architectures": "spacy-crf-ner.CRFTagger.v1",
    "lstm_width": 16,
    "lstm_depth": 0,
    "attention_heads": 0,
    "tok2vec": LISTENER,
}
"""A `crf_ner` that is but a linear layer and a CRF on the encoder."""


def encoder_pipeline(
    name: Path, *, head: Optional[Dict[str, Any]] = None, initialize: bool = True, **settings: Any
) -> Language:
    """A pipeline of a `spacy-crf-ner.Transformer.v1` and a `crf_ner` that listens to it.

    name (Path): The encoder.
    head (Optional[Dict[str, Any]]): The model of `crf_ner`; None: `HEAD`.
    initialize (bool): Whether to load the encoder, and to build the head for `TEXTS`.
    settings (Any): Further arguments of the encoder's architecture.
    RETURNS (Language): The pipeline.
    """
    fix_random_seed(0)
    nlp = spacy.blank("zh")
    model = {"@architectures": "spacy-crf-ner.Transformer.v1", "name": str(name), **settings}
    nlp.add_pipe("transformer", config={"model": model})
    nlp.add_pipe("crf_ner", config={"model": head or HEAD})
    if initialize:
        examples = examples_from(nlp)
        nlp.initialize(get_examples=lambda: examples)
        at_random(nlp)
    return nlp


def shim_of(nlp: Language) -> EncoderShim:
    """The shim of a pipeline's encoder."""
    return get_pipe(nlp, "transformer").model.shim


def token_vectors(nlp: Language, text: str) -> Any:
    """What the listener hands on."""
    return get_pipe(nlp, "crf_ner").model.get_ref("tok2vec").predict([nlp(text)])[0]


def spec_of(name: Path, **more: Any) -> EncoderSpec:
    return EncoderSpec(str(name), **{"local_files_only": True, **more})


def weights(module: Any) -> Dict[str, Tensor]:
    """A copy of a module's state."""
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def gradients(nlp: Language) -> Dict[str, Tensor]:
    """The gradients of the encoder, where there are any."""
    parameters = shim_of(nlp)._model.named_parameters()
    return {name: parameter.grad.clone() for name, parameter in parameters if parameter.grad is not None}


def train(nlp: Language, steps: int, examples: Optional[Sequence[Example]] = None, rate: float = 0.005) -> None:
    """Take steps as `spacy train` does: all pipes after each batch, not the encoder one batch late.

    nlp (Language): The pipeline.
    steps (int): How many.
    examples (Optional[Sequence[Example]]): The batch; None: `TEXTS`.
    rate (float): The learning rate.
    """
    sgd = Adam(rate, L2=0.0, use_averages=False)
    for _ in range(steps):
        nlp.update(examples_from(nlp) if examples is None else examples, sgd=NO_STEP)
        for name in nlp.pipe_names:
            get_pipe(nlp, name).finish_update(sgd)


@lru_cache(maxsize=1)
def _worker() -> "subprocess.Popen[str]":
    command = [sys.executable, str(Path(__file__).with_name("load_worker.py"))]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    atexit.register(process.kill)
    return process


def in_new_process(
    path: Path, texts: Optional[Sequence[str]] = None, config: Optional[Dict[str, Any]] = None
) -> List[NDArray[Any]]:
    """What a pipeline computes when a process loads it that has built none: one for all tests, it takes seconds.

    path (Path): The saved pipeline.
    texts (Optional[Sequence[str]]): What it shall read; None: `TEXTS`.
    config (Optional[Dict[str, Any]]): The argument of `spacy.load`.
    RETURNS (List[NDArray]): See `tests.encoder.load_worker.outputs`.
    RAISES (RuntimeError): It cannot be loaded; the message is that of the error.
    """
    process = _worker()
    assert process.stdin is not None and process.stdout is not None
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "arrays.npz")
        job = {
            "path": str(path),
            "texts": texts or [text for text, _ in TEXTS],
            "config": config or {},
            "out": out,
        }
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        if "error" in answer:
            raise RuntimeError(answer["error"])
        with numpy.load(out) as arrays:
            return [arrays[name] for name in arrays.files]


def assert_loads_bit_equal(nlp: Language, path: Path, config: Optional[Dict[str, Any]] = None) -> None:
    """Saved to a folder, the pipeline computes in a new process what it computes here, to the last bit."""
    nlp.to_disk(path)
    here = outputs(nlp, [text for text, _ in TEXTS])
    there = in_new_process(path, config=config)
    assert len(here) == len(there) > 0
    for ours, theirs in zip(here, there):
        assert ours.dtype == theirs.dtype
        assert (ours == theirs).all()


def by(tokenizer: Any) -> PieceTokenizer:
    """What makes word-pieces by transformers' tokenizer."""
    return PieceTokenizer.from_pretrained(tokenizer)
