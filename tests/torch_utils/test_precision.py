from typing import Any

import pytest
import torch

from spacy_crf_ner.torch_utils.precision import autocast, half_dtype, require_gpu_for, scaler_settings


@pytest.mark.parametrize(
    "setting, dtype",
    [
        (False, None),
        (True, torch.float16),
        ("fp16", torch.float16),
        ("bf16", torch.bfloat16),
    ],
)
def test_settings_name_a_type(setting: Any, dtype: Any) -> None:
    assert half_dtype(setting) is dtype


@pytest.mark.parametrize("setting", ["half", "float16", "", "True", "BF16"])
def test_an_unknown_setting_is_refused_with_those_known(setting: str) -> None:
    with pytest.raises(ValueError, match='mixed_precision = "' + setting + '".*"bf16" or "fp16"'):
        half_dtype(setting)


@pytest.mark.parametrize("dtype", [None, torch.float16, torch.bfloat16])
def test_nothing_is_cast_on_a_cpu(dtype: Any) -> None:
    left, right = torch.randn(3, 3), torch.randn(3, 3)
    with autocast(torch.device("cpu"), dtype):
        product = left @ right
    assert product.dtype == torch.float32
    assert torch.equal(product, left @ right)


def test_a_surrounding_autocast_does_not_reach_full_precision() -> None:
    matrix = torch.randn(3, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16), autocast(torch.device("cpu"), None):
        assert (matrix @ matrix).dtype == torch.float32


CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_training_in_half_precision_is_refused_on_a_cpu(dtype: Any) -> None:
    with pytest.raises(ValueError, match=r"mixed_precision needs a GPU.*--gpu-id.*mixed_precision = false"):
        require_gpu_for(dtype, CPU)
    require_gpu_for(dtype, GPU)
    require_gpu_for(None, CPU)
    require_gpu_for(None, GPU)


@pytest.mark.parametrize("dtype", [None, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("device", [CPU, GPU])
@pytest.mark.parametrize("wanted", [None, False, True])
def test_the_scaler_is_for_float16_on_a_gpu_and_a_config_can_but_switch_it_off(
    dtype: Any, device: torch.device, wanted: Any
) -> None:
    settings = {"init_scale": 8.0} if wanted is None else {"init_scale": 8.0, "enabled": wanted}
    enabled = dtype is torch.float16 and device == GPU and wanted is not False
    assert scaler_settings(dtype, device, settings) == {"init_scale": 8.0, "enabled": enabled}
    assert scaler_settings(dtype, device, None) == {"enabled": dtype is torch.float16 and device == GPU}
