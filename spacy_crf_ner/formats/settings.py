"""Checks of the settings of formats, whose values come from a command line or a config."""

from typing import Any, Sequence


def check_bool(name: str, value: Any) -> None:
    """Check that a setting is true or false.

    RAISES (ValueError): It is something else, a string for one, which would count as true.
    """
    if not isinstance(value, bool):
        raise ValueError(f"the setting {name} is {value!r}; give true or false")


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Check that a setting is one of some names.

    RAISES (ValueError): It is none of them.
    """
    if value not in choices:
        raise ValueError(f"the setting {name} is {value!r}; choose one of {', '.join(choices)}")
