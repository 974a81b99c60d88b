"""Half precision on a GPU: what the setting `mixed_precision` means."""

from contextlib import AbstractContextManager
from typing import Any, Dict, Optional, Union

import torch

Precision = Union[bool, str]
"""Half precision as configs spell it: false, "bf16" or "fp16"; true is "fp16", as in Thinc."""

_DTYPES = {False: None, True: torch.float16, "fp16": torch.float16, "bf16": torch.bfloat16}


def half_dtype(mixed_precision: Precision) -> Optional[torch.dtype]:
    """The type that a setting asks for.

    mixed_precision (Precision): The setting.
    RETURNS (Optional[torch.dtype]): float16, bfloat16, or None for full precision.
    RAISES (ValueError): The setting is none of those known.
    """
    if mixed_precision not in _DTYPES:
        raise ValueError(
            f'mixed_precision = "{mixed_precision}", but it is false, "bf16" or "fp16" (or true: "fp16")'
        )
    return _DTYPES[mixed_precision]


def require_gpu_for(dtype: Optional[torch.dtype], device: torch.device) -> None:
    """Refuse to begin a training in half precision on a CPU.

    dtype (Optional[torch.dtype]): See `half_dtype`.
    device (torch.device): Where the training would run.
    RAISES (ValueError): It is a CPU.
    """
    if dtype is not None and device.type == "cpu":
        raise ValueError(
            "mixed_precision needs a GPU to train on: choose one with --gpu-id, or set mixed_precision = false "
            "(in a "
            "config of `crf init-config`, for all models at once: --system.mixed_precision false)"
        )


def scaler_settings(
    dtype: Optional[torch.dtype], device: torch.device, settings: Optional[Dict[str, Any]]
) -> Dict[str, Any]:
    """Arguments of Thinc's `PyTorchGradScaler`: only float16 needs one, and only on a GPU.

    dtype (Optional[torch.dtype]): See `half_dtype`.
    device (torch.device): Where the model runs.
    settings (Optional[Dict[str, Any]]): What the config says; "enabled" in it can only switch the scaler off.
    RETURNS (Dict[str, Any]): The arguments.
    """
    settings = settings or {}
    needed = dtype is torch.float16 and device.type != "cpu"
    return {**settings, "enabled": needed and settings.get("enabled", True)}


def autocast(device: torch.device, dtype: Optional[torch.dtype]) -> AbstractContextManager:
    """Compute in half precision where that is asked for and the device is a GPU; in full precision otherwise.

    device (torch.device): Where the computation runs. On a CPU nothing is cast, whatever the setting.
    dtype (Optional[torch.dtype]): See `half_dtype`.
    RETURNS (AbstractContextManager): To enter for the forward pass, not for the backward pass.
    """
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None and device.type != "cpu")
