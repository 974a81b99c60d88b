"""Encoders from a folder, the cache or the hub: complete weights, a fast tokenizer, or an error that says why."""

import hashlib
import inspect
import json
import re
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

from spacy_crf_ner.encoder.spec import TRUST, EncoderSpec, check_attention
from spacy_crf_ner.messages import one_line, quote_path, show_path, some

NOT_HANDED_ON = ("output_attentions", "output_hidden_states")
NEEDED_FILES = {
    "config.json": ("config.json",),
    "model.safetensors or pytorch_model.bin": ("*.safetensors", "*.bin"),
    "tokenizer.json or vocab.txt": ("tokenizer.json", "*vocab*", "*.model", "*.spm"),
}
"""What an encoder's folder must hold, and the names that it may have."""


def load_config(spec: EncoderSpec) -> Any:
    """RETURNS (PretrainedConfig): The encoder's configuration, with the settings of `transformer_config`.

    RAISES (OSError): The encoder cannot be found.
    RAISES (ValueError): `transformer_config` names an unknown setting, or an output that is not handed on.
    """
    for name in NOT_HANDED_ON:
        if spec.transformer_config.get(name):
            raise ValueError(
                f"transformer_config sets {name}, but spacy-crf-ner.Transformer.v1 hands on the only the last "
                "layer: use spacy-transformers.TransformerModel.v3 for it"
            )
    settings = {name: value for name, value in spec.transformer_config.items() if name != TRUST}
    config, unknown = _from_hub(spec, AutoConfig, {TRUST: False, **settings}, return_unused_kwargs=True)
    if unknown:
        raise ValueError(f"transformer_config: {type(config).__name__} has no setting {sorted(unknown)}")
    check_attention(getattr(config, "_attn_implementation", None), f"{spec}: attention")
    return config


def load_tokenizer(spec: EncoderSpec) -> Any:
    """RETURNS (PreTrainedTokenizerFast): The encoder's tokenizer.

    RAISES (OSError): It cannot be found.
    RAISES (ValueError): There is only a slow one, which does not say where its word-pieces are in the text.
    """
    tokenizer = _from_hub(spec, AutoTokenizer, {TRUST: False, **spec.tokenizer_config})
    if not tokenizer.is_fast:
        raise ValueError(
            f"{spec}: {type(tokenizer).__name__} is not a fast tokenizer, so its word-pieces "
            "cannot be aligned with the text; leave use_fast out of tokenizer_config, or choose an encoder "
            "that has one"
        )
    return tokenizer


def load_transformer(spec: EncoderSpec, config: Any) -> Any:
    """Load the pretrained weights, without the pooler and the heads of the pretraining.

    config (PretrainedConfig): The encoder's configuration.
    RETURNS (PreTrainedModel): The encoder, float32, on the CPU.
    RAISES (OSError): It cannot be found.
    RAISES (ValueError): The weights and the configuration do not fit together.
    """
    verbosity = hf_logging.get_verbosity()
    hf_logging.set_verbosity_error()  # What it would warn of is looked at below.
    try:
        transformer, report = _from_hub(
            spec,
            _class_of(config) or AutoModel,  # AutoModel would ask the hub for an adapter's config in any case.
            {TRUST: False, **without_pooler(config)},
            config=config,
            attn_implementation=spec.attention,
            torch_dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # The report names them; the error would not.
        )
    finally:
        hf_logging.set_verbosity(verbosity)
    if missing := sorted(report["missing_keys"]):
        raise ValueError(f"{spec} lacks {some(missing)}: its weights do not fit its config.json")
    # Older versions give the two shapes as well.
    if misshapen := sorted(key if isinstance(key, str) else key[0] for key in report["mismatched_keys"]):
        raise ValueError(
            f"{spec}: {some(misshapen)} of another shape than its config.json says: one of the "
            "two is of another encoder"
        )
    left = [key.removeprefix(f"{transformer.base_model_prefix}.") for key in report["unexpected_keys"]]
    own = {name for name, _ in transformer.named_children()}
    lost = sorted(key for key in left if key.split(".")[0] in own and not _is_dropped(spec, key, config))
    if lost:
        raise ValueError(
            f"{spec} has {some(lost)}, for which its config.json has no place: the weights "
            "are of another encoder; to use its first layers only, set num_hidden_layers in "
            "transformer_config"
        )
    if heads := sorted({key.split(".")[0] for key in left} - own):
        logger.info("Encoder '%s': %s of the pretraining are left out", spec.name, ", ".join(heads))
    return transformer


def build_transformer(spec: EncoderSpec, config: Any) -> Any:
    """Build the encoder for weights that are loaded next; its own mean nothing.

    config (PretrainedConfig): The configuration that was saved with the weights.
    RETURNS (PreTrainedModel): The encoder, float32, on the CPU.
    """
    return AutoModel.from_config(
        config, attn_implementation=spec.attention, trust_remote_code=False, **without_pooler(config)
    )


def _is_dropped(spec: EncoderSpec, key: str, config: Any) -> bool:
    """Whether a weight was meant to stay behind: of layers that were cut off, or a buffer of old versions."""
    number = re.search(r"\.layer\.(\d+)\.", key)
    cut = "num_hidden_layers" in spec.transformer_config
    return key.endswith("position_ids") or bool(cut and number and int(number[1]) >= config.num_hidden_layers)


def _from_hub(spec: EncoderSpec, auto: Any, arguments: Dict[str, Any], **more: Any) -> Any:
    folder = Path(spec.name)
    is_folder = folder.is_dir()
    if not is_folder:
        try:
            validate_repo_id(spec.name)
        except HFValidationError:
            raise OSError(f"encoder folder {quote_path(spec.name)} does not exist") from None
    try:
        return auto.from_pretrained(
            spec.name, revision=spec.revision, local_files_only=spec.local_files_only, **arguments, **more
        )
    except Exception as error:
        # Where a file is missing, transformers raises errors of any kind.
        lacking = _lacking(folder) if is_folder else []
        if not lacking and isinstance(error, ValueError) and TRUST in str(error):
            raise ValueError(_needs_code(spec, auto)) from error
        if not lacking and not isinstance(error, (OSError, SafetensorError)):
            raise
        reason = one_line(str(error).strip().splitlines()[0]) if str(error).strip() else type(error).__name__
        *first, last = NEEDED_FILES
        needed = f"{', '.join(first)}, and {last}"
        if is_folder:
            found = f"there is no {', no '.join(lacking)}" if lacking else reason
            raise OSError(f"encoder folder {quote_path(spec.name)} needs {needed}: {found}") from error
        tried = "local_files_only = true forbids a download" if spec.local_files_only else "no download worked"
        raise OSError(
            f"{spec} is not a folder, it is not in the cache ({HF_HUB_CACHE}), and {tried} "
            f"({reason}). Where there is a network, run: huggingface-cli download {show_path(spec.name)} "
            f"--local-dir FOLDER - then give FOLDER as the encoder's name. It needs {needed}."
        ) from error


def _needs_code(spec: EncoderSpec, auto: Any) -> str:
    what = f"{spec} comes with code of its own ({auto.__name__}), which is not run"
    if auto is AutoTokenizer:
        return f"{what}; choose another, or set tokenizer_config.{TRUST} = true for a training that may run it"
    return f"{what}; choose an encoder that transformers has"


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
