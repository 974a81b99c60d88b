"""The optimizer `spacy-crf-ner.AdamW.v1`: torch's AdamW over all parameters of a pipeline, in groups by name."""

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple, Type, Union, cast

import torch
from spacy.util import logger
from thinc.api import Optimizer, get_current_ops, get_torch_default_device, torch2xp, xp2torch
from thinc.types import FloatsXd, Generator
from thinc.util import is_cupy_array
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim.swa_utils import get_ema_multi_avg_fn

from spacy_crf_ner.training.collection import Collected, Collection
from spacy_crf_ner.training.optimizer_state import COUNTS, KeepsState
from spacy_crf_ner.training.parameter_groups import (
    NO_DECAY,
    ParameterGroup,
    ParameterGroups,
    checked_number,
    layer_index,
    layers_above,
    parsed_pattern,
)
from spacy_crf_ner.training.protocols import AveragesUpdates, KeepsGradients

KeyT = Tuple[int, str]
MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""What torch's AdamW keeps of a parameter."""
STEPS_BEFORE_WARNING = 10
"""Steps after which every group should have met a parameter: a gradient that overflows in fp16 skips a few."""


@dataclass(eq=False)
class _Slot:
    """What is kept of a parameter between calls; its moments are in the torch optimizer's state."""

    parameter: nn.Parameter  # its data is a view of the array that Thinc handed in last
    group: Optional[ParameterGroup]
    decays: bool
    copied: Optional[Tensor] = None  # where gradients are copied to whose giver goes on using the array
    gradient: Optional[Tensor] = None  # of the coming step
    lr_scale: float = 1.0


class AdamW(Optimizer):
    """AdamW with parameter groups, layer-wise decay and a global gradient norm (Loshchilov & Hutter 2019).
    Registered as `spacy-crf-ner.AdamW.v1`.

    A Thinc optimizer that collects the gradients of all parameters and steps a `torch.optim.AdamW` once. It is an
    optimizer that keeps gradients and averages updates: see `training.protocols`.

    Thinc hands over one parameter at a time, and a global norm needs them all. `step_schedules`, which
    `spacy train` calls when all pipes have handed in theirs, makes the step. In a loop of
    ``nlp.update(examples, sgd=optimizer)`` nobody calls it: there, a parameter that comes in again starts the
    step, and from then on each step is made as soon as the parameters of the last one are complete. So only the
    first step comes one call late, and the second begins from the same weights: a schedule that warms up takes no
    harm. `step` makes it at once. After the last update of such a loop over a pipeline with a pipe `tok2vec` or
    `transformer`, whose gradient spaCy hands over one update late, call it as well.

    The schedule counts steps, whoever makes them; `step_schedules` advances it without a step, too.

    `b1`, `b2`, `eps`, `grad_clip` and `L2`, the weight decay, may be set between steps. An assignment to
    `learn_rate` multiplies the rates of all groups by the same number: see there.

    learn_rate (float): The rate of parameters that belong to no group.
    weight_decay (float): Decoupled weight decay, where a group does not name its own.
    beta1 (float): Decay rate of the first moment.
    beta2 (float): Decay rate of the second moment.
    eps (float): Added to the denominator.
    grad_clip (float): The greatest norm of all gradients of a step together; 0 for none.
    no_decay (str): Regular expression: parameters of such names have no weight decay, whatever their group. By
        default biases, normalisations and the CRF.
    groups (Optional[Dict]): Named groups: `pattern` (a regular expression, searched in a parameter's name),
        `learn_rate`, and if wanted `weight_decay` and `layer_decay`, by which the rate is multiplied from each
        layer of an encoder to the one below. At most one group may match a name. By default, `DEFAULT_GROUPS`.
    schedule (Optional[Generator]): A FACTOR of all rates, step by step: Thinc's `warmup_linear.v1`, or
        `spacy-crf-ner.warmup_cosine.v1`, with initial_rate = 1.0. Its last value stays.
    ema_decay (float): Decay of the moving averages of the weights, which `spacy train` evaluates and saves; 0 for
        none. They are of Thinc's own layers and of torch modules whose parameters have a dot in their names; a
        torch module that is not of this package must learn all its parameters, because Thinc's shim swaps in all
        or none (spacy-transformers' own encoder has a pooler that does not learn).
    RAISES (ValueError): A number is out of its range, a pattern no regular expression, or a group incomplete.
    """

    __slots__ = (
        "_collection",
        "_ema_decay",
        "_factor",
        "_groups",
        "_is_due",
        "_n_layers",
        "_no_decay",
        "_rate",
        "_restored",
        "_scale",
        "_schedule",
        "_slots",
        "_steps",
        "_torch",
    )

    def __init__(
        self,
        learn_rate: float = 0.001,
        weight_decay: float = 0.01,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        grad_clip: float = 1.0,
        no_decay: str = NO_DECAY,
        groups: Optional[Dict[str, Dict[str, Any]]] = None,
        schedule: Optional[Generator] = None,
        ema_decay: float = 0.0,
    ) -> None:
        self._groups = ParameterGroups(groups)
        self._no_decay = parsed_pattern("no_decay", no_decay)
        self._rate = checked_number("learn_rate", learn_rate)
        self._scale = self._factor = 1.0
        super().__init__(
            self._rate,
            L2=checked_number("weight_decay", weight_decay),
            beta1=checked_number("beta1", beta1, below=1.0),
            beta2=checked_number("beta2", beta2, below=1.0),
            eps=checked_number("eps", eps),
            grad_clip=checked_number("grad_clip", grad_clip),
            use_averages=False,
        )
        self._ema_decay = checked_number("ema_decay", ema_decay, below=1.0)
        if self._ema_decay:
            self.averages = {}
        self._torch = torch.optim.AdamW([{"params": []}])
        self._slots: Dict[KeyT, _Slot] = {}
        self._n_layers: Dict[int, int] = {}  # of each shim's encoder, as far as its parameters have come in
        self._restored: Dict[KeyT, Dict[str, Tensor]] = {}  # moments of parameters that have not come in yet
        self._collection: Collection[KeyT, _Slot] = Collection()
        self._steps = 0
        self._is_due = False  # whether the schedule is behind the steps
        self._schedule = None if schedule is None else iter(schedule)
        self._advance()

    @property
    def learn_rate(self) -> float:
        """The rate of parameters that belong to no group, the schedule's factor included.

        Setting it multiplies the rates of all groups by the same number, so that ``optimizer.learn_rate *= 0.5``
        halves them all; the schedule goes on from there. A ValueError where it is 0 now, so that no such number
        exists.
        """
        return self._rate * self._scale * self._factor

    @learn_rate.setter
    def learn_rate(self, value: float) -> None:
        value = checked_number("optimizer.learn_rate", value)
        if value == self.learn_rate:
            return
        if self._rate * self._factor == 0.0:
            raise ValueError(
                f"optimizer.learn_rate = {value:g}: all rates are multiplied alike, but learn_rate is "
                f"{self._rate:g} and the schedule's factor is {self._factor:g} now, and 0 cannot be; make an "
                "optimizer with other settings"
            )
        self._scale = value / (self._rate * self._factor)

    @property
    def state_bytes(self) -> int:
        """The memory of the moments and the averages, in bytes."""
        moments = [state[name] for state in self._torch.state.values() for name in ("exp_avg", "exp_avg_sq")]
        averages = (self.averages or {}).values()
        return sum(x.numel() * x.element_size() for x in moments) + sum(x.nbytes for x in averages)

    def state(self) -> Dict[str, Dict[Any, Any]]:
        """What has been gathered, for `load_state` of another optimizer: between two steps, and without the
        schedule's position.

        RETURNS (Dict[str, Dict[Any, Any]]): The moments and counts of each parameter, the averages, and "counts":
            the steps, and by what an assignment to `learn_rate` has multiplied all rates.
        """
        moments: Dict[str, Dict[Any, Any]] = {name: {} for name in MOMENTS}
        for key, slot in self._slots.items():
            for name, value in self._torch.state.get(slot.parameter, {}).items():
                moments[name][key] = value
        for key, restored in self._restored.items():
            for name, value in restored.items():
                moments[name][key] = value
        return {
            **moments,
            "averages": dict(self.averages or {}),
            COUNTS: {"steps": self._steps, "scale": torch.tensor(self._scale, dtype=torch.float64)},
        }

    def load_state(self, state: Dict[str, Dict[Any, Any]]) -> None:
        """Take what another optimizer of the same settings has gathered.

        state (Dict[str, Dict[Any, Any]]): What its `state` returned, the numbers as tensors.
        """
        for name in MOMENTS:
            for key, value in state.get(name, {}).items():
                self._restored.setdefault(key, {})[name] = value
        if self.averages is not None:
            ops = get_current_ops()
            self.averages.update({key: ops.asarray(x.numpy()) for key, x in state.get("averages", {}).items()})
        self._steps = int(state[COUNTS]["steps"])
        self._scale = float(state[COUNTS]["scale"])

    def __call__(
        self, key: KeyT, weights: FloatsXd, gradient: FloatsXd, *, lr_scale: float = 1.0
    ) -> Tuple[FloatsXd, FloatsXd]:
        """Take in a parameter's gradient for the coming step.

        key (Tuple[int, str]): The id of the shim or node, and the parameter's name.
        weights (FloatsXd): The weights, which the step will change in place.
        gradient (FloatsXd): The gradient, *shape:* that of the weights. It is copied, and set to 0.
        lr_scale (float): A factor of this parameter's rate.
        RETURNS (Tuple[FloatsXd, FloatsXd]): The weights and the gradient.
        RAISES (ValueError): The parameter is in several groups, or its shape is not what it was; or the step that
            this call makes fails, see `step`.
        """
        if gradient.size >= 1:
            self._take_in(key, weights, gradient, lr_scale, copy=True)
        return weights, gradient

    def keep(self, key: KeyT, weights: FloatsXd, gradient: FloatsXd) -> None:
        """As a call, for a gradient that the giver leaves to the optimizer: it is not copied.

        key (Tuple[int, str]): The id of the shim or node, and the parameter's name.
        weights (FloatsXd): The weights, which the step will change in place.
        gradient (FloatsXd): The gradient, *shape:* that of the weights.
        RAISES (ValueError): As a call does.
        """
        if gradient.size >= 1:
            self._take_in(key, weights, gradient, 1.0, copy=False)

    def _take_in(self, key: KeyT, weights: FloatsXd, gradient: FloatsXd, lr_scale: float, copy: bool) -> None:
        if self._collection.is_repeated(key):
            self._step(self._collection.take())
        slot = self._fill(key, weights, gradient, copy)
        slot.lr_scale = lr_scale
        if self._collection.add(key, slot):
            self._step(self._collection.take())

    def step(self) -> None:
        """Step the parameters whose gradients have come in since the last step; without such, do nothing.

        RAISES (ValueError): A gradient is not finite. No weight is changed, and the gradients are dropped.
        """
        self._step(self._collection.take_all())

    def step_schedules(self) -> None:
        """Make the step, and advance the schedule. Who calls it once is to call it after each update.

        RAISES (ValueError): A gradient is not finite. No weight is changed, and the gradients are dropped.
        """
        self._collection.by_caller()
        self.step()
        self._advance()

    def average_over(self, n_updates: int) -> None:
        """Say how many updates the gradients of the coming step sum up; the step divides by it, then forgets it.

        n_updates (int): The number of `update` calls. Of different numbers for one step, the largest counts.
        RAISES (ValueError): It is below 1.
        """
        if n_updates < 1:
            raise ValueError(f"n_updates = {n_updates!r}, but a step has gradients of at least 1 update")
        self._collection.announce(n_updates)

    def _fill(self, key: KeyT, weights: FloatsXd, gradient: FloatsXd, copy: bool) -> _Slot:
        """The parameter's slot, with these weights and this gradient, which is zeroed if it is copied."""
        if weights.shape != gradient.shape:
            raise ValueError(f"parameter {key}: weights of {weights.shape}, but a gradient of {gradient.shape}")
        view, given = _shared_view(weights), _shared_view(gradient)
        slot = self._slots.get(key)
        if slot is None:
            slot = self._slots[key] = self._new_slot(key, view)
        known = slot.parameter.data
        if (view.shape, view.dtype, view.device) != (known.shape, known.dtype, known.device):
            raise ValueError(
                f"parameter {key}: {tuple(view.shape)} of {view.dtype} on {view.device}, but the optimizer has "
                f"moments of {tuple(known.shape)} of {known.dtype} on {known.device}; a model that was resized or "
                "moved needs a new optimizer"
            )
        slot.parameter.data = view
        if copy:
            slot.copied = torch.empty_like(given) if slot.copied is None else slot.copied
            slot.gradient = slot.copied.copy_(given)
            given.zero_()
        else:
            slot.gradient = given
        return slot

    def _new_slot(self, key: KeyT, view: Tensor) -> _Slot:
        if get_torch_default_device().type == "mps":
            raise ValueError(
                "spacy-crf-ner.AdamW.v1 steps weights in memory that Thinc and torch share, which they do not on "
                "an Apple GPU (mps); train on the CPU or with CUDA, or take the optimizer Adam.v1"
            )
        owner, name = key
        layer = layer_index(name)
        if layer is not None:
            self._n_layers[owner] = max(self._n_layers.get(owner, 0), layer + 1)
        decays = self._no_decay.search(name) is None
        slot = _Slot(nn.Parameter(view), self._groups.of(name), decays)
        if moments := self._restored.pop(key, None):
            # The count of steps stays on the CPU, where torch keeps it.
            self._torch.state[slot.parameter] = {
                what: x if what == "step" else x.to(view.device) for what, x in moments.items()
            }
        return slot

    def _step(self, collected: Collected[KeyT, _Slot]) -> None:
        pending, n_updates = collected
        if not pending:
            return
        if self._is_due:
            self._advance()
        if self._steps == STEPS_BEFORE_WARNING and not self._groups.are_default:
            names = [name for _, name in self._slots]
            for group in self._groups.unmatched(names):
                logger.warning(
                    "The optimizer's group '%s' matches no parameter that is trained: check its pattern %r. The "
                    "first parameters are: %s",
                    group.name,
                    group.pattern.pattern,
                    _some(names),
                )
        try:
            for slot in pending.values():
                slot.parameter.grad = slot.gradient
            self._clip(pending, n_updates)
            self._torch.param_groups = self._torch_groups(pending)
            self._begin_averages(pending)
            self._torch.step()
        finally:
            for slot in pending.values():
                slot.parameter.grad = slot.gradient = None
        if self.averages is not None:
            # The warm-up of TensorFlow's ExponentialMovingAverage; 0 steps lie before the first.
            decay = min(self._ema_decay, (1 + self._steps) / (10 + self._steps))
            averages = [_shared_view(self.averages[_average_key(key)]) for key in pending]  # type: ignore
            get_ema_multi_avg_fn(decay)(averages, [slot.parameter for slot in pending.values()], 0)
        self._steps += 1
        self._is_due = True

    def _begin_averages(self, pending: Dict[KeyT, _Slot]) -> None:
        """Let the averages of parameters that are new to them begin at the weights before the step."""
        if self.averages is None:
            return
        for key, slot in pending.items():
            if _average_key(key) not in self.averages:
                self.averages[_average_key(key)] = torch2xp(slot.parameter.detach().clone())  # type: ignore

    def _clip(self, pending: Dict[KeyT, _Slot], n_updates: int) -> None:
        """Average the gradients over the updates, and clip the norm of all of them together."""
        if n_updates > 1:
            for slot in pending.values():
                cast(Tensor, slot.gradient).div_(n_updates)
        parameters = [slot.parameter for slot in pending.values()]
        try:
            clip_grad_norm_(parameters, self.grad_clip or inf, error_if_nonfinite=True)
        except RuntimeError as error:
            norms = torch.tensor([float(cast(Tensor, slot.gradient).norm()) for slot in pending.values()])
            if (norm := norms.norm()).isfinite():
                raise
            keys = [key for key, finite in zip(pending, norms.isfinite()) if not finite]
            bad = [f"'{name}' of {owner}" for owner, name in keys]
            raise ValueError(
                f"step {self._steps + 1}: the gradient is {float(norm)}, in {len(bad)} of {len(pending)} "
                f"parameters: {_some(bad) or 'none by itself, but all together'}. No weight was changed. Lower "
                "the learning rates or lengthen the warm-up, and look at the texts of this batch"
            ) from error

    def _torch_groups(self, pending: Dict[KeyT, _Slot]) -> List[Dict[str, Any]]:
        """Torch's parameter groups of the coming step: one for each pair of rate and decay."""
        members: Dict[Tuple[float, float], List[nn.Parameter]] = {}
        for (owner, name), slot in pending.items():
            rate, decay = self._rate, self.L2
            if slot.group is not None:
                above = layers_above(name, self._n_layers.get(owner, 0)) if slot.group.layer_decay != 1.0 else 0
                rate = slot.group.learn_rate * slot.group.layer_decay**above
                decay = self.L2 if slot.group.weight_decay is None else slot.group.weight_decay
            rate *= self._scale * self._factor * slot.lr_scale
            members.setdefault((rate, decay if slot.decays else 0.0), []).append(slot.parameter)
        settings = {**self._torch.defaults, "betas": (self.b1, self.b2), "eps": self.eps}
        return [
            {**settings, "params": parameters, "lr": rate, "weight_decay": decay}
            for (rate, decay), parameters in members.items()
        ]

    def _advance(self) -> None:
        self._is_due = False
        if self._schedule is not None:
            self._factor = checked_number(
                f"the optimizer's schedule, a factor of all rates: step {self._steps + 1}",
                next(self._schedule, self._factor),
            )


if TYPE_CHECKING:
    _keeps_state: Type[KeepsState] = AdamW
    _keeps: Type[KeepsGradients] = AdamW
    _averages: Type[AveragesUpdates] = AdamW


def _average_key(key: KeyT) -> Union[KeyT, str]:
    """Under which key a parameter's average is looked for, by Thinc's nodes and by its torch shim.

    Their ids are counted separately and clash, so one of both must be chosen: all torch modules of ours are
    nested, so that their parameters' names have a dot, and Thinc's have none.
    """
    owner, name = key
    return f"pytorch_{owner}_{name}" if "." in name else key


def _shared_view(array: Any) -> Tensor:
    """A tensor in the memory of a NumPy or CuPy array, whichever device is torch's default."""
    device = torch.device("cuda", array.device.id) if is_cupy_array(array) else torch.device("cpu")
    return xp2torch(array, device=device)


def _some(names: List[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
