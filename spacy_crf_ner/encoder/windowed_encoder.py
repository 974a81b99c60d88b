"""A transformer over texts of any length: windows in buckets of like length, merged to one sequence per text."""

from typing import Any, Dict, Optional

import torch
from torch import Tensor, nn

from spacy_crf_ner.encoder.windows import Ids, WindowBatch, encode
from spacy_crf_ner.torch_utils.arrays import torch_arrays
from spacy_crf_ner.torch_utils.precision import autocast


class WindowedEncoder(nn.Module):
    """A Hugging Face encoder (its parameters are `transformer.*`) behind windows and buckets.

    transformer (nn.Module): Takes `input_ids`, `attention_mask` and perhaps `token_type_ids`, batch first, and
        returns an object with `last_hidden_state`, and on request with `hidden_states`.
    pad_id (int): The word-piece that fills up.
    max_padded_tokens (int): The most word-pieces of one pass, padding counted.
    autocast_dtype (Optional[torch.dtype]): Type to compute in on a GPU; None for full precision.
    averaged_layers (int): How many of the last layers' outputs are averaged.
    """

    def __init__(
        self,
        transformer: Any,
        *,
        pad_id: int,
        max_padded_tokens: int,
        autocast_dtype: Optional[torch.dtype] = None,
        averaged_layers: int = 1,
    ) -> None:
        super().__init__()
        self.transformer = transformer
        self.pad_id = pad_id
        self.max_padded_tokens = max_padded_tokens
        self.autocast_dtype = autocast_dtype
        self.averaged_layers = averaged_layers

    @property
    def is_trainable(self) -> bool:
        """Whether any parameter can learn."""
        return any(parameter.requires_grad for parameter in self.parameters())

    def forward(self, batch: WindowBatch) -> Tensor:
        """Encode texts.

        batch (WindowBatch): At least one window.
        RETURNS (Tensor): *Shape:* (n_rows, width), float32: the last layers' output for the texts' word-pieces,
            one text after the other, each with the special tokens of its ends.
        """
        parameter = next(self.parameters())

        def run(inputs: Dict[str, Ids]) -> Tensor:
            given = {name: torch.from_numpy(ids).to(parameter.device) for name, ids in inputs.items()}
            with autocast(parameter.device, self.autocast_dtype):
                return last_layers(self.transformer, given, self.averaged_layers).float()

        return encode(
            run, batch, torch_arrays(parameter), pad_id=self.pad_id, max_padded_tokens=self.max_padded_tokens
        )


def last_layers(transformer: Any, inputs: Dict[str, Tensor], averaged_layers: int = 1) -> Tensor:
    """Encode windows that are padded together.

    transformer (nn.Module): As of `WindowedEncoder`.
    inputs (Dict[str, Tensor]): What it takes. *Shape:* (batch_size, seq_length) each.
    averaged_layers (int): As of `WindowedEncoder`.
    RETURNS (Tensor): *Shape:* (batch_size, seq_length, width): the last layers' output.
    """
    if averaged_layers == 1:
        return transformer(**inputs).last_hidden_state
    output = transformer(**inputs, output_hidden_states=True)
    # Some encoders normalise what the last layer returns once more.
    layers = (*output.hidden_states[-averaged_layers:-1], output.last_hidden_state)
    return torch.stack(layers).float().mean(dim=0)
