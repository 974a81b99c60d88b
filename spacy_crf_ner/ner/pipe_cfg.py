"""What the pipe remembers beside its model, its `cfg`: checked, because a file may hold anything."""

import json
from math import isfinite
from typing import Any, Dict, List

from spacy_crf_ner.messages import quote
from spacy_crf_ner.saved_state import AGAIN, SavedStateError, reason


def read_cfg(data: "bytes | str") -> Dict[str, Any]:
    """Read the cfg of a saved pipe.

    data (Union[bytes, str]): JSON: "labels", "untrained", "temperature".
    RETURNS (Dict[str, Any]): The cfg.
    RAISES (SavedStateError): It is not JSON, or no cfg of this pipe.
    """
    try:
        cfg = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SavedStateError(f"no JSON ({reason(error)}); {AGAIN}") from error
    if not isinstance(cfg, dict):
        raise SavedStateError(f"must be an object, got {quote(cfg)}; {AGAIN}")
    labels = _names(cfg, "labels")
    untrained = _names(cfg, "untrained")
    if unknown := [label for label in untrained if label not in labels]:
        raise SavedStateError(f"untrained names the label {quote(unknown[0])}, which is not in labels; {AGAIN}")
    try:
        temperature = checked_temperature(cfg.get("temperature", 1.0))
    except ValueError as error:
        raise SavedStateError(f"{error}; {AGAIN}") from error
    return {**cfg, "labels": labels, "untrained": untrained, "temperature": temperature}


def checked_temperature(value: object) -> float:
    """Check a temperature.

    value (object): What a file or a user gave.
    RETURNS (float): The temperature.
    RAISES (ValueError): It is not a finite number above 0.
    """
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    # The size first: an integer may be beyond all floats.
    if not is_number or not 0 < value < 1e300 or not isfinite(value):  # type: ignore[operator, arg-type]
        raise ValueError(f"temperature must be a finite number above 0, got {quote(value)}")
    return float(value)  # type: ignore[arg-type]


def _names(cfg: Dict[str, Any], name: str) -> List[str]:
    """A list of labels, none of them twice; older pipes have no "untrained"."""
    found = cfg.get(name, [] if name == "untrained" else None)
    if not isinstance(found, list):
        raise SavedStateError(f"{name} must be a list of labels, got {quote(found)}; {AGAIN}")
    for label in found:
        if not isinstance(label, str) or not label:
            raise SavedStateError(f"{name} must be non-empty strings, got {quote(label)}; {AGAIN}")
        if found.count(label) > 1:
            raise SavedStateError(f"{name} must differ, but {quote(label)} is there twice; {AGAIN}")
    return found
