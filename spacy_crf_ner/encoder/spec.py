"""What a config says of an encoder: the arguments of `spacy-crf-ner.Transformer.v1`, checked."""

import re
from dataclasses import dataclass, field, replace
from typing import Any, Dict, Optional

from spacy_crf_ner.encoder.freezing import Freeze
from spacy_crf_ner.encoder.lora import LoRA
from spacy_crf_ner.messages import quote, quote_path
from spacy_crf_ner.torch_utils.precision import Precision, half_dtype

SAVE_MODES = ("full", "adapter")
TRUST = "trust_remote_code"
_KERNEL = re.compile("[/:]")


@dataclass(frozen=True)
class EncoderSpec:
    """Where an encoder comes from, and how it is trained and saved. The arguments are those of
    `spacy-crf-ner.Transformer.v1`.

    RAISES (ValueError): Settings do not go together, or they ask for code to be run.
    """

    name: str
    revision: Optional[str] = None
    local_files_only: bool = False
    tokenizer_config: Dict[str, Any] = field(default_factory=dict)
    transformer_config: Dict[str, Any] = field(default_factory=dict)
    attention: Optional[str] = None
    window: Optional[int] = None
    stride: Optional[int] = None
    lora: Optional[LoRA] = None
    freeze: Freeze = None
    gradient_checkpointing: bool = False
    max_padded_tokens: int = 8192
    mixed_precision: Precision = False
    save_mode: str = "full"
    split_tokens: Optional[bool] = None
    averaged_layers: int = 1

    def __post_init__(self) -> None:
        for name in (TRUST, "auto_map"):
            if self.transformer_config.get(name):
                raise ValueError(
                    f"transformer_config sets {name}, but an encoder of its own code could not be loaded from a "
                    "saved pipeline, which runs none; leave it out, and choose an encoder that transformers has"
                )
        check_attention(self.attention, "attention")
        half_dtype(self.mixed_precision)
        if self.lora is not None and self.freeze is not None:
            raise ValueError(
                f"freeze = {self.freeze!r} and lora are both set, but LoRA freezes the whole encoder anyway: set "
                "freeze = null; lora.layers says which layers are adapted"
            )
        if self.save_mode not in SAVE_MODES:
            raise ValueError(f"save_mode = '{self.save_mode}', but it is one of {SAVE_MODES}")
        if self.save_mode == "adapter" and self.lora is None:
            raise ValueError('save_mode = "adapter" saves only the adapter, but lora is not set')
        if self.max_padded_tokens < 1:
            raise ValueError(f"max_padded_tokens = {self.max_padded_tokens}, but it must be at least 1")
        if self.averaged_layers < 1:
            raise ValueError(
                f"averaged_layers must be 1 or more, got {self.averaged_layers}; 1 is only the last layer"
            )

    def __str__(self) -> str:
        return f"encoder {quote_path(self.name)}"

    def untrusted(self) -> "EncoderSpec":
        """RETURNS (EncoderSpec): This one, but for saved pipelines: no code is run, whatever the config says."""
        arguments = {name: value for name, value in self.tokenizer_config.items() if name != TRUST}
        return replace(self, tokenizer_config=arguments)


def check_attention(attention: object, name: str) -> None:
    """Refuse what transformers takes for a kernel on the hub, which is code.

    attention (object): The attention's implementation, as transformers calls it.
    name (str): Where it was named.
    RAISES (ValueError): It is such a kernel.
    """
    if isinstance(attention, str) and _KERNEL.search(attention):
        raise ValueError(
            f"{name} = {quote(attention)} is a kernel on the hub, whose code is not run; name one that "
            "transformers has, as eager or sdpa"
        )
