"""What the tests of the optimizer share."""

from typing import Any, Dict, Iterator, List, Sequence, Tuple

import numpy
import torch
from spacy.language import Language
from thinc.types import FloatsXd

from spacy_crf_ner.training.optimizer import AdamW
from spacy_crf_ner.training.parameter_groups import NO_DECAY
from tests.util import get_pipe

UNIT = 1e9
"""The learning rate at which `plain` optimizers subtract the gradient itself."""

Key = Tuple[int, str]


def adamw(learn_rate: float = 0.001, **settings: Any) -> AdamW:
    """The optimizer with the defaults of its factory."""
    defaults: Dict[str, Any] = {
        "weight_decay": 0.01,
        "beta1": 0.9,
        "beta2": 0.999,
        "eps": 1e-8,
        "grad_clip": 1.0,
        "no_decay": NO_DECAY,
        "groups": None,
        "schedule": None,
        "ema_decay": 0.0,
    }
    return AdamW(learn_rate, **{**defaults, **settings})


def plain(learn_rate: float = UNIT, **settings: Any) -> AdamW:
    """An optimizer that subtracts gradient * rate / UNIT: no moments, and an eps that outweighs all else."""
    still = {"weight_decay": 0.0, "beta1": 0.0, "beta2": 0.0, "eps": UNIT, "grad_clip": 0.0, "groups": {}}
    return adamw(learn_rate, **{**still, **settings})


class Weights:
    """Arrays by key, all 0, that are given to an optimizer as Thinc does."""

    def __init__(self, *keys: Key, size: int = 1) -> None:
        self.arrays: Dict[Key, numpy.ndarray] = {key: numpy.zeros(size, dtype="float32") for key in keys}

    def give(self, optimizer: Any, key: Key, *gradient: float, **keywords: Any) -> numpy.ndarray:
        """Hand in a parameter's gradient. RETURNS: the gradient's array as the optimizer left it."""
        array = numpy.array(gradient, dtype="float32")
        weights: FloatsXd = self.arrays[key]  # type: ignore
        weights, _ = optimizer(key, weights, array, **keywords)
        self.arrays[key] = weights  # type: ignore
        return array

    def __getitem__(self, key: Key) -> List[float]:
        return [round(float(x), 4) for x in self.arrays[key]]


def gradients(nlp: Language, names: Sequence[str]) -> Iterator[Tuple[Key, torch.Tensor, torch.Tensor]]:
    """Key, weights and gradient of all trained parameters of some pipes, in the memory of the pipes."""
    for name in names:
        for node in get_pipe(nlp, name).model.walk():
            for shim in node.shims:
                for parameter, tensor in shim._model.named_parameters():
                    if tensor.grad is not None:
                        yield (shim.id, parameter), tensor.data, tensor.grad
            for parameter in node.param_names:
                if node.has_grad(parameter):
                    weights, gradient = node.get_param(parameter), node.get_grad(parameter)
                    yield (node.id, parameter), torch.from_numpy(weights), torch.from_numpy(gradient)


def finish(nlp: Language, optimizer: Any) -> None:
    """What `spacy train` does when the updates of a step are done."""
    for name in nlp.pipe_names:
        get_pipe(nlp, name).finish_update(optimizer)
    optimizer.step_schedules()
