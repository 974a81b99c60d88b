"""Tiny random encoders, saved as the hub's are, so that the production path loads them without a download."""

from pathlib import Path
from typing import Any, Dict, Iterable

import torch
from transformers import BertConfig, BertModel, BertTokenizerFast


def save_tiny_bert(path: Path, texts: Iterable[str], *, dropout: float = 0.0) -> Path:
    """Save a BERT of two layers whose vocabulary is the characters of some texts.

    path (Path): Folder to write to.
    texts (Iterable[str]): What the vocabulary shall cover.
    dropout (float): The encoder's own dropout rate, which no spaCy setting reaches.
    RETURNS (Path): The folder.
    """
    path.mkdir(parents=True, exist_ok=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted({char for text in texts for char in text})]
    (path / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf8")
    BertTokenizerFast(vocab_file=str(path / "vocab.txt"), model_max_length=512).save_pretrained(path)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=512,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    BertModel(config).save_pretrained(path)
    return path


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
