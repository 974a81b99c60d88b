"""Which learning rate and weight decay a parameter gets, by its name."""

import re
from dataclasses import dataclass
from math import isfinite
from typing import Any, Dict, List, Mapping, Optional, Pattern

DEFAULT_GROUPS: Dict[str, Dict[str, Any]] = {
    # The last three are what spacy-transformers' own pipe calls its encoder's parameters.
    "encoder": {"pattern": r"^(transformer|embeddings|encoder|pooler)\.(?!.*lora_)", "learn_rate": 2e-5},
    "lora": {"pattern": "lora_", "learn_rate": 5e-4},
    "head": {"pattern": r"^head\.", "learn_rate": 1e-3},
    "crf": {"pattern": r"^crf\.", "learn_rate": 1e-2},
}
"""The groups where a config names none."""

# Biases (torch's, an LSTM's, Thinc's), the gain of a normalisation, the CRF. Without "$", which a config doubles.
NO_DECAY = r"(^|[._])bias(_|\Z)|^[bG]\Z|(?i:(^|[._])(layer_?norm|norm|ln)\w*\.weight\Z)|^crf\."
"""Names of the parameters without weight decay."""

_LAYER = re.compile(r"(?:^|\.)(?:layers?|blocks?|h)\.(\d+)\.")
_EMBEDDING = re.compile(r"(?:^|[._])(?:embed(?:dings?|_\w+)|wte|wpe)(?:[._]|\Z)")


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share their settings.

    name (str): The group's name in the config.
    pattern (Pattern): What a parameter's name must contain.
    learn_rate (float): The rate before the schedule's factor.
    weight_decay (Optional[float]): The decoupled weight decay; None for the optimizer's.
    layer_decay (float): By what the rate is multiplied from an encoder's layer to the one below it.
    """

    name: str
    pattern: Pattern
    learn_rate: float
    weight_decay: Optional[float] = None
    layer_decay: float = 1.0


class ParameterGroups:
    """Groups of parameters by patterns over their names, of which at most one may match a name.

    groups (Optional[Mapping[str, Mapping[str, Any]]]): For each group its `pattern` and `learn_rate`, and if
        wanted `weight_decay` and `layer_decay`; None for `DEFAULT_GROUPS`.
    RAISES (ValueError): A key is missing or unknown, a pattern is not a regular expression, or a number is out of
        its range.
    """

    def __init__(self, groups: Optional[Mapping[str, Mapping[str, Any]]] = None) -> None:
        self.are_default = groups is None
        self.groups = [
            _parsed(name, settings) for name, settings in (DEFAULT_GROUPS if groups is None else groups).items()
        ]

    def of(self, parameter: str) -> Optional[ParameterGroup]:
        """The group of a parameter.

        parameter (str): The parameter's name.
        RETURNS (Optional[ParameterGroup]): None where no pattern matches.
        RAISES (ValueError): Several do.
        """
        found = [group for group in self.groups if group.pattern.search(parameter)]
        if len(found) > 1:
            named = " and ".join(f"'{g.name}' (pattern {g.pattern.pattern!r})" for g in found)
            raise ValueError(
                f"parameter '{parameter}' belongs to several groups of the optimizer, {named}: the patterns must "
                "exclude each other, because a config's sections have no order; (?!...) leaves names out of one"
            )
        return found[0] if found else None

    def unmatched(self, parameters: List[str]) -> List[ParameterGroup]:
        """The groups that none of these names belongs to."""
        return [g for g in self.groups if not any(g.pattern.search(name) for name in parameters)]


def layer_index(parameter: str) -> Optional[int]:
    """The encoder layer that a parameter is part of, from names such as ``encoder.layer.3.output.dense.weight``.

    parameter (str): The parameter's name.
    RETURNS (Optional[int]): None for what is in no layer.
    """
    found = _LAYER.search(parameter)
    return int(found.group(1)) if found else None


def layers_above(parameter: str, n_layers: int) -> int:
    """How many layers lie between a parameter and what an encoder puts out: the exponent of the layer decay.

    The source is Howard & Ruder 2018 (ULMFiT, discriminative fine-tuning); the values are those of Clark et al.
    2020 (ELECTRA): n - 1 - i for layer i of n, and n for the embeddings.

    parameter (str): The parameter's name.
    n_layers (int): How many layers the encoder has.
    RETURNS (int): 0 for what is neither in a layer nor an embedding, such as a final normalisation.
    """
    layer = layer_index(parameter)
    if layer is not None:
        return n_layers - 1 - layer
    return n_layers if _EMBEDDING.search(parameter) else 0


def parsed_pattern(where: str, pattern: Any) -> Pattern:
    """Compile a regular expression of a config.

    where (str): What to call it in an error.
    pattern (Any): The expression.
    RAISES (ValueError): It is none.
    """
    if not isinstance(pattern, str):
        raise ValueError(f"{where} = {pattern!r}, but a regular expression over parameter names is needed")
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(
            f"{where} = {pattern!r} is not a regular expression: {error}; in a config, write a backslash twice"
        ) from None


def checked_number(where: str, value: Any, *, below: float = float("inf"), most: float = float("inf")) -> float:
    """A finite number of at least 0.

    where (str): What to call it in an error.
    value (Any): The number.
    below (float): What it must be below.
    most (float): What it must not be above.
    RAISES (ValueError): It is none.
    """
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (is_number and isfinite(value) and 0.0 <= value <= most and value < below):
        bound = f" and below {below:g}" if isfinite(below) else f" and at most {most:g}" if isfinite(most) else ""
        raise ValueError(f"{where} = {value!r}, but a finite number of at least 0{bound} is needed")
    return float(value)


def _parsed(name: str, settings: Any) -> ParameterGroup:
    where = f"optimizer group '{name}'"
    if not isinstance(settings, Mapping):
        raise ValueError(f"{where} = {settings!r}, but a section with `pattern` and `learn_rate` is needed")
    known = [field for field in ParameterGroup.__dataclass_fields__ if field != "name"]
    for key in settings:
        if key not in known:
            raise ValueError(f"{where}: unknown key '{key}' = {settings[key]!r}; a group has {', '.join(known)}")
    for key in ("pattern", "learn_rate"):
        if key not in settings:
            raise ValueError(f"{where}: '{key}' is missing; a group needs a pattern and a learn_rate")
    layer_decay = checked_number(f"{where}: layer_decay", settings.get("layer_decay", 1.0), most=1.0)
    if layer_decay == 0.0:
        raise ValueError(f"{where}: layer_decay = 0, but a number above 0 is needed; 1 gives all layers one rate")
    weight_decay = settings.get("weight_decay")
    return ParameterGroup(
        name,
        parsed_pattern(f"{where}: pattern", settings["pattern"]),
        checked_number(f"{where}: learn_rate", settings["learn_rate"]),
        None if weight_decay is None else checked_number(f"{where}: weight_decay", weight_decay),
        layer_decay,
    )
