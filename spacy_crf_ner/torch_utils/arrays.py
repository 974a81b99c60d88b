"""torch as one of the array libraries that buckets work for."""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from spacy_crf_ner.torch_utils.buckets import Arrays


def torch_arrays(like: Tensor) -> Arrays:
    """Tensors of the type of one, where it is.

    like (Tensor): The one.
    RETURNS (Arrays): The library.
    """

    def convert(array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(like.device)

    return Arrays(like.new_zeros, torch.cat, lambda rows, index: rows.index_select(0, index), convert)
