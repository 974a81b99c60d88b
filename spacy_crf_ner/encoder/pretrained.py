"""Encoders from a folder, the cache or the hub: complete weights, a fast tokenizer, or an error that says why."""

import hashlib
import inspect
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Optional

import torch
from huggingface_hub.constants import HF_HUB_CACHE
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from safetensors import SafetensorError
from spacy.util import logger
from torch import nn
from transformers import MODEL_MAPPING, AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import logging as hf_logging

from spacy_crf_ner.messages import one_line, quote, quote_path, show_path, some

NOT_HANDED_ON = ("output_attentions", "output_hidden_states")
NEEDED_FILES = {
    "config.json": ("config.json",),
    "model.safetensors or pytorch_model.bin": ("*.safetensors", "*.bin"),
    "tokenizer.json or vocab.txt": ("tokenizer.json", "*vocab*", "*.model", "*.spm"),
}
"""What an encoder's folder must hold, and the names that it may have."""
TRUST = "trust_remote_code"
_KERNEL = re.compile("[/:]")


@dataclass(frozen=True)
class EncoderSource:
    """Where an encoder comes from.

    name (str): Name on the hub, or a folder.
    revision (Optional[str]): Branch, tag or commit on the hub.
    local_files_only (bool): Never ask the hub.
    tokenizer_config (Dict[str, Any]): Further arguments of `AutoTokenizer.from_pretrained`. Code that comes with a
        tokenizer is run only if it says ``trust_remote_code``.
    transformer_config (Dict[str, Any]): Further settings of the encoder's configuration. Code that comes with an
        encoder is never run.
    attention (Optional[str]): The attention's implementation, as transformers calls it; None: its choice.
    RAISES (ValueError): The settings ask for an encoder of its own code, or a kernel to be fetched.
    """

    name: str
    revision: Optional[str]
    local_files_only: bool
    tokenizer_config: Dict[str, Any]
    transformer_config: Dict[str, Any]
    attention: Optional[str]

    def __post_init__(self) -> None:
        for name in (TRUST, "auto_map"):
            if self.transformer_config.get(name):
                raise ValueError(
                    f"transformer_config sets {name}, but an encoder of its own code could not be loaded from a "
                    "saved pipeline, which runs none; leave it out, and choose an encoder that transformers has"
                )
        _check_attention(self.attention, "attention")

    def __str__(self) -> str:
        return f"encoder {quote_path(self.name)}"

    def untrusted(self) -> "EncoderSource":
        """RETURNS (EncoderSource): This one, but for saved pipelines: no code is run, whatever the config says."""
        arguments = {name: value for name, value in self.tokenizer_config.items() if name != TRUST}
        return replace(self, tokenizer_config=arguments)

    def load_config(self) -> Any:
        """RETURNS (PretrainedConfig): The encoder's configuration, with the settings of `transformer_config`.

        RAISES (OSError): The encoder is nowhere to be had.
        RAISES (ValueError): `transformer_config` names an unknown setting, or an output that is not handed on.
        """
        for name in NOT_HANDED_ON:
            if self.transformer_config.get(name):
                raise ValueError(
                    f"transformer_config sets {name}, but spacy-crf-ner.Transformer.v1 hands on the last layer "
                    "alone: use spacy-transformers.TransformerModel.v3 for it"
                )
        settings = {name: value for name, value in self.transformer_config.items() if name != TRUST}
        config, unknown = self._from_hub(AutoConfig, {TRUST: False, **settings}, return_unused_kwargs=True)
        if unknown:
            raise ValueError(f"transformer_config: {type(config).__name__} has no setting {sorted(unknown)}")
        _check_attention(getattr(config, "_attn_implementation", None), f"{self}: attention")
        return config

    def load_tokenizer(self) -> Any:
        """RETURNS (PreTrainedTokenizerFast): The encoder's tokenizer.

        RAISES (OSError): It is nowhere to be had.
        RAISES (ValueError): There is only a slow one, which does not say where its word-pieces stand in the text.
        """
        tokenizer = self._from_hub(AutoTokenizer, {TRUST: False, **self.tokenizer_config})
        if not tokenizer.is_fast:
            raise ValueError(
                f"{self}: {type(tokenizer).__name__} is no fast tokenizer, so its word-pieces "
                "cannot be aligned with the text; leave use_fast out of tokenizer_config, or choose an encoder "
                "that has one"
            )
        return tokenizer

    def load_transformer(self, config: Any) -> Any:
        """Load the pretrained weights, without the pooler and the heads of the pretraining.

        config (PretrainedConfig): The encoder's configuration.
        RETURNS (PreTrainedModel): The encoder, float32, on the CPU.
        RAISES (OSError): It is nowhere to be had.
        RAISES (ValueError): The weights and the configuration do not fit together.
        """
        verbosity = hf_logging.get_verbosity()
        hf_logging.set_verbosity_error()  # What it would warn of is looked at below.
        try:
            transformer, report = self._from_hub(
                _class_of(config) or AutoModel,  # AutoModel would ask the hub for an adapter's config in any case.
                {TRUST: False, **without_pooler(config)},
                config=config,
                attn_implementation=self.attention,
                torch_dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # The report names them; the error would not.
            )
        finally:
            hf_logging.set_verbosity(verbosity)
        if missing := sorted(report["missing_keys"]):
            raise ValueError(f"{self} lacks {some(missing)}: its weights do not fit its config.json")
        # Older versions give the two shapes as well.
        if misshapen := sorted(key if isinstance(key, str) else key[0] for key in report["mismatched_keys"]):
            raise ValueError(
                f"{self}: {some(misshapen)} of another shape than its config.json says: one of the "
                "two is of another encoder"
            )
        left = [key.removeprefix(f"{transformer.base_model_prefix}.") for key in report["unexpected_keys"]]
        own = {name for name, _ in transformer.named_children()}
        lost = sorted(key for key in left if key.split(".")[0] in own and not self._is_dropped(key, config))
        if lost:
            raise ValueError(
                f"{self} has {some(lost)}, for which its config.json has no place: the weights "
                "are of another encoder; to use its first layers only, set num_hidden_layers in "
                "transformer_config"
            )
        if heads := sorted({key.split(".")[0] for key in left} - own):
            logger.info("Encoder '%s': %s of the pretraining are left out", self.name, ", ".join(heads))
        return transformer

    def build_transformer(self, config: Any) -> Any:
        """Build the encoder for weights that are loaded next; its own mean nothing.

        config (PretrainedConfig): The configuration that was saved with the weights.
        RETURNS (PreTrainedModel): The encoder, float32, on the CPU.
        """
        return AutoModel.from_config(
            config, attn_implementation=self.attention, trust_remote_code=False, **without_pooler(config)
        )

    def _is_dropped(self, key: str, config: Any) -> bool:
        """Whether a weight was meant to stay behind: of layers that were cut off, or a buffer of old versions."""
        number = re.search(r"\.layer\.(\d+)\.", key)
        cut = "num_hidden_layers" in self.transformer_config
        return key.endswith("position_ids") or bool(cut and number and int(number[1]) >= config.num_hidden_layers)

    def _from_hub(self, auto: Any, arguments: Dict[str, Any], **more: Any) -> Any:
        folder = Path(self.name)
        is_folder = folder.is_dir()
        if not is_folder:
            try:
                validate_repo_id(self.name)
            except HFValidationError:
                raise OSError(f"encoder folder {quote_path(self.name)} does not exist") from None
        try:
            return auto.from_pretrained(
                self.name, revision=self.revision, local_files_only=self.local_files_only, **arguments, **more
            )
        except Exception as error:
            # Where a file is missing, transformers raises errors of any kind.
            lacking = _lacking(folder) if is_folder else []
            if not lacking and isinstance(error, ValueError) and TRUST in str(error):
                raise ValueError(self._needs_code(auto)) from error
            if not lacking and not isinstance(error, (OSError, SafetensorError)):
                raise
            reason = one_line(str(error).strip().splitlines()[0]) if str(error).strip() else type(error).__name__
            *first, last = NEEDED_FILES
            needed = f"{', '.join(first)}, and {last}"
            if is_folder:
                found = f"there is no {', no '.join(lacking)}" if lacking else reason
                raise OSError(f"encoder folder {quote_path(self.name)} needs {needed}: {found}") from error
            tried = "local_files_only = true forbids a download" if self.local_files_only else "no download worked"
            raise OSError(
                f"{self} is no folder, it is not in the cache ({HF_HUB_CACHE}), and {tried} "
                f"({reason}). Where there is a network, run: huggingface-cli download {show_path(self.name)} "
                f"--local-dir FOLDER - then give FOLDER as the encoder's name. It needs {needed}."
            ) from error

    def _needs_code(self, auto: Any) -> str:
        what = f"{self} comes with code of its own ({auto.__name__}), which is not run"
        if auto is AutoTokenizer:
            return f"{what}; choose another, or set tokenizer_config.{TRUST} = true for a training that may run it"
        return f"{what}; choose an encoder that transformers has"


def _check_attention(attention: object, name: str) -> None:
    """Refuse what transformers takes for a kernel on the hub, which is code."""
    if isinstance(attention, str) and _KERNEL.search(attention):
        raise ValueError(
            f"{name} = {quote(attention)} is a kernel on the hub, whose code is not run; name one that "
            "transformers has, as eager or sdpa"
        )


def _lacking(folder: Path) -> List[str]:
    """What of an encoder's files a folder lacks."""
    return [what for what, names in NEEDED_FILES.items() if not any(any(folder.glob(name)) for name in names)]


def without_pooler(config: Any) -> Dict[str, Any]:
    """Arguments that build an encoder without its pooler, which feeds nothing here, where its class allows it.

    config (PretrainedConfig): The encoder's configuration.
    RETURNS (Dict[str, Any]): The arguments.
    """
    kind = _class_of(config)
    if kind is not None and "add_pooling_layer" in inspect.signature(kind).parameters:
        return {"add_pooling_layer": False}
    return {}


def _class_of(config: Any) -> Optional[Any]:
    """The encoder's class; None where it takes more than the configuration's class to tell."""
    kind = MODEL_MAPPING.get(type(config), None)
    return kind if inspect.isclass(kind) else None


def fingerprint(transformer: nn.Module, tokenizer: Any) -> str:
    """A digest of all weights, the vocabulary, and how text is normalised and split.

    transformer (nn.Module): The encoder.
    tokenizer (PreTrainedTokenizerFast): Its tokenizer.
    RETURNS (str): SHA-256, hexadecimal.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(transformer.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    rules = [sorted(tokenizer.get_vocab().items()), backend["normalizer"], backend["pre_tokenizer"]]
    digest.update(json.dumps(rules, sort_keys=True).encode())
    return digest.hexdigest()
