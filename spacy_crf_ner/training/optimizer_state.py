"""What an optimizer has gathered, by names that another process finds its parameters under again.

Thinc's optimizers know a parameter by the id of its layer or shim, a number that is counted up in each process,
and by its name. Here its place in the pipeline takes the id's: ``crf_ner/3/shim0/parameter/crf.transitions``.
"""

import re
from typing import Any, Dict, Optional, Protocol, Tuple, Union, runtime_checkable

import torch
from spacy.language import Language
from thinc.api import Model, Optimizer, get_current_ops
from thinc.backends import get_array_ops
from torch import Tensor

_AVERAGE = re.compile(r"pytorch_(\d+)_(.+)", re.DOTALL)
"""Under which key Thinc's torch shim looks for an average."""

COUNTS = "counts"
"""What a state has that belongs to no parameter."""

Key = Union[Tuple[int, str], str]


@runtime_checkable
class KeepsState(Protocol):
    """An optimizer that hands out what it has gathered, and takes it back."""

    def state(self) -> Dict[str, Dict[Any, Any]]: ...

    def load_state(self, state: Dict[str, Dict[Any, Any]]) -> None: ...


class Places:
    """The parameters of a pipeline by place, and the other way round.

    nlp (Language): The pipeline.
    """

    def __init__(self, nlp: Language) -> None:
        self._layers: Dict[int, Model] = {}
        self._place_of: Dict[Tuple[str, int], str] = {}
        for name, pipe in nlp.pipeline:
            model = getattr(pipe, "model", None)
            for i, layer in enumerate(model.walk() if isinstance(model, Model) else ()):
                self._layers.setdefault(layer.id, layer)
                self._place_of.setdefault(("layer", layer.id), f"{name}/{i}/layer")
                for j, shim in enumerate(layer.shims):
                    self._place_of.setdefault(("shim", shim.id), f"{name}/{i}/shim{j}")
        self._owner_at = {place: (kind, owner) for (kind, owner), place in self._place_of.items()}

    def name_of(self, key: Key) -> Optional[str]:
        """The name of a parameter.

        key (Tuple[int, str]): Its key in an optimizer; or the string under which Thinc keeps a torch parameter's
            average.
        RETURNS (Optional[str]): Its name; None if no layer or shim of the pipeline has the id.
        """
        if isinstance(key, str):
            average = _AVERAGE.fullmatch(key)
            assert average is not None
            place = self._place_of.get(("shim", int(average[1])))
            return place and f"{place}/average/{average[2]}"
        owner, name = key
        # Layers and shims are counted separately, and may have the same id.
        layer = self._layers.get(owner)
        kind = "layer" if layer is not None and layer.has_param(name) else "shim"
        place = self._place_of.get((kind, owner))
        return place and f"{place}/parameter/{name}"

    def key_of(self, name: str) -> Key:
        """The key of a parameter: what `name_of` was given, in this process.

        RAISES (KeyError): The pipeline has no such place.
        """
        pipe, layer, owner, what, parameter = re.fullmatch(  # type: ignore[union-attr]
            r"(.+)/(\d+)/(layer|shim\d+)/(average|parameter)/(.+)", name, re.DOTALL
        ).groups()
        _, number = self._owner_at[f"{pipe}/{layer}/{owner}"]
        return f"pytorch_{number}_{parameter}" if what == "average" else (number, parameter)


def optimizer_tensors(optimizer: Optimizer, places: Places) -> Dict[str, Tensor]:
    """What an optimizer has gathered.

    optimizer (Optimizer): Thinc's own, or one that keeps its state itself (`KeepsState`).
    places (Places): The parameters of the pipeline that it trains.
    RETURNS (Dict[str, Tensor]): The tensors, on the CPU, by what they are and the parameter: "mom1:...".
    """
    state = optimizer.state() if isinstance(optimizer, KeepsState) else _thinc_state(optimizer)
    found = {}
    for what, values in state.items():
        for key, x in values.items():
            name = key if what == COUNTS else places.name_of(key)
            # A layer that was replaced in training, for a new label say, has left what it gathered behind.
            if name is not None:
                found[f"{what}:{name}"] = _to_tensor(x)
    return found


def load_optimizer_tensors(optimizer: Optimizer, places: Places, tensors: Dict[str, Tensor]) -> None:
    """Give an optimizer what another one has gathered. Its schedules are where they were left.

    optimizer (Optimizer): One of the same settings, which has made no step yet.
    places (Places): The parameters of the pipeline that it trains.
    tensors (Dict[str, Tensor]): What `optimizer_tensors` returned.
    RAISES (KeyError): The pipeline has no such parameter.
    """
    state: Dict[str, Dict[Any, Any]] = {}
    for name, tensor in tensors.items():
        what, _, rest = name.partition(":")
        state.setdefault(what, {})[rest if what == COUNTS else places.key_of(rest)] = tensor
    if isinstance(optimizer, KeepsState):
        optimizer.load_state(state)
    else:
        _load_thinc_state(optimizer, state)


def _thinc_state(optimizer: Optimizer) -> Dict[str, Dict[Any, Any]]:
    return {
        "mom1": dict(optimizer.mom1),
        "mom2": dict(optimizer.mom2),
        "averages": dict(optimizer.averages or {}),
        "nr_update": dict(optimizer.nr_update),
    }


def _load_thinc_state(optimizer: Optimizer, state: Dict[str, Dict[Any, Any]]) -> None:
    ops: Any = None
    for what in ("mom1", "mom2", "averages"):
        found = state.get(what, {})
        if found:
            ops = ops or get_current_ops()
            getattr(optimizer, what).update({key: ops.asarray(x.numpy()) for key, x in found.items()})
    optimizer.nr_update.update({key: int(x) for key, x in state.get("nr_update", {}).items()})


def _to_tensor(x: Any) -> Tensor:
    if isinstance(x, Tensor):
        return x.detach().cpu().contiguous().clone()
    if isinstance(x, (int, float)):
        return torch.tensor(x)
    # A copy, of what may be on a GPU.
    return torch.from_numpy(get_array_ops(x).to_numpy(x).copy())
