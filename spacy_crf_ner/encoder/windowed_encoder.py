"""A transformer over texts of any length: windows in buckets of like length, merged to one sequence a text."""

from dataclasses import dataclass
from typing import Any, List, Optional

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from spacy_crf_ner.encoder.windows import Overlaps
from spacy_crf_ner.torch_utils.buckets import flat_places, length_buckets
from spacy_crf_ner.torch_utils.precision import autocast

LIKENESS = 0.8
"""The least share of the longest that windows padded together have: padding stays below a quarter."""


@dataclass(frozen=True)
class WindowBatch:
    """Windows of word-pieces, and how they make up the texts.

    input_ids (List[Tensor]): *Shape:* (length,) each, int64, on the CPU: a window's word-pieces.
    token_type_ids (Optional[List[Tensor]]): Of the same shapes, where the encoder takes them.
    overlaps (Overlaps): How the windows' rows become those of the texts.
    """

    input_ids: List[Tensor]
    token_type_ids: Optional[List[Tensor]]
    overlaps: Overlaps


class WindowedEncoder(nn.Module):
    """A Hugging Face encoder (its parameters are `transformer.*`) behind windows and buckets.

    transformer (nn.Module): Takes `input_ids`, `attention_mask` and perhaps `token_type_ids`, batch first, and
        returns an object with `last_hidden_state`.
    pad_id (int): The word-piece that fills up.
    max_padded_tokens (int): The most word-pieces of one pass, padding counted.
    autocast_dtype (Optional[torch.dtype]): Type to compute in on a GPU; None for full precision.
    """

    def __init__(
        self,
        transformer: Any,
        *,
        pad_id: int,
        max_padded_tokens: int,
        autocast_dtype: Optional[torch.dtype] = None,
    ) -> None:
        super().__init__()
        self.transformer = transformer
        self.pad_id = pad_id
        self.max_padded_tokens = max_padded_tokens
        self.autocast_dtype = autocast_dtype

    @property
    def is_trainable(self) -> bool:
        """Whether any parameter can learn."""
        return any(parameter.requires_grad for parameter in self.parameters())

    def forward(self, batch: WindowBatch) -> Tensor:
        """Encode texts.

        batch (WindowBatch): At least one window.
        RETURNS (Tensor): *Shape:* (n_rows, width), float32: the last layer's output for the texts' word-pieces,
            one text after the other, each with the special tokens of its ends.
        """
        device = next(self.parameters()).device
        lengths = [len(ids) for ids in batch.input_ids]
        buckets = length_buckets(lengths, self.max_padded_tokens, likeness=LIKENESS)
        pieces = []
        for bucket in buckets:
            inputs = {"input_ids": self._padded(batch.input_ids, bucket, self.pad_id)}
            ones = [torch.ones_like(batch.input_ids[i]) for i in bucket]
            inputs["attention_mask"] = pad_sequence(ones, batch_first=True)
            if batch.token_type_ids is not None:
                inputs["token_type_ids"] = self._padded(batch.token_type_ids, bucket, 0)
            with autocast(device, self.autocast_dtype):
                output = self.transformer(**{name: ids.to(device) for name, ids in inputs.items()})
            pieces.append(output.last_hidden_state.float().flatten(0, 1))
        places = flat_places(lengths, buckets, batch_first=True)
        return batch.overlaps.over(places).merge(torch.cat(pieces))

    @staticmethod
    def _padded(ids: List[Tensor], bucket: List[int], fill: int) -> Tensor:
        return pad_sequence([ids[i] for i in bucket], batch_first=True, padding_value=fill)
