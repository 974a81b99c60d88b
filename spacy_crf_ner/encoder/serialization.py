"""What is saved of an encoder, checked as what a stranger may have written. None of it ever runs code."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

import safetensors.torch
import srsly
import torch
import transformers
from safetensors import SafetensorError
from spacy.util import make_tempdir
from torch import nn
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerFast
from transformers.models.auto.tokenization_auto import tokenizer_class_from_name

from spacy_crf_ner.encoder.lora import LoRA, is_adapter
from spacy_crf_ner.encoder.pretrained import (
    build_transformer,
    fingerprint,
    load_config,
    load_tokenizer,
    load_transformer,
)
from spacy_crf_ner.encoder.spec import EncoderSpec
from spacy_crf_ner.messages import listed, quote, quote_path
from spacy_crf_ner.saved_state import AGAIN, SavedStateError, mismatches, reason, unpack

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)
"""What a fast tokenizer is saved as; no other file is written, when it is saved or when it is loaded."""
_NEEDED_TOKENIZER_FILES = TOKENIZER_FILES[:2]
_CODE = ("auto_map", "custom_pipelines", "trust_remote_code", "from_slow")
"""Settings that name code to be run, or a tokenizer that transformers would make anew from other files."""
_ATTENTION = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal")
"""Where a configuration names its attention, which may be a kernel to fetch; the config of the pipe says which."""
_FIELDS: Dict[str, Any] = {
    "transformers_version": str,
    "config": str,
    "lora": (dict, type(None)),
    "base": (dict, type(None)),
    "state": bytes,
}


SIZES = (
    "model_type",
    "vocab_size",
    "hidden_size",
    "embedding_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
)
"""The settings of an encoder's configuration that say whether an adapter fits it."""


@dataclass(frozen=True)
class EncoderState:
    """A saved encoder, or the adapters of one.

    config (Dict[str, Any]): Its configuration, as transformers writes it.
    state (Dict[str, torch.Tensor]): Its weights, or those of the adapters.
    lora (Optional[Dict[str, Any]]): The `LoRA.shape` of the adapters, if there are any.
    base (Optional[Dict[str, str]]): Name and fingerprint of the encoder that adapters were put into.
    tokenizer (Optional[Dict[str, bytes]]): The tokenizer's files; None where the only the adapters are saved.
    transformers_version (str): The version that it was saved with.
    may_split_tokens (bool): Whether it was saved by a version that cuts word-pieces over several tokens.
    """

    config: Dict[str, Any]
    state: Dict[str, torch.Tensor]
    lora: Optional[Dict[str, Any]]
    base: Optional[Dict[str, str]]
    tokenizer: Optional[Dict[str, bytes]]
    transformers_version: str = transformers.__version__
    may_split_tokens: bool = True

    def to_bytes(self) -> bytes:
        """RETURNS (bytes): The state, without whatever names code."""
        saved: Dict[str, Any] = {
            "transformers_version": self.transformers_version,
            # srsly's JSON keeps nine decimals: too few for layer_norm_eps.
            "config": json.dumps(_without(self.config, ("_name_or_path", *_CODE))),
            "lora": self.lora,
            "base": self.base,
            "may_split_tokens": self.may_split_tokens,
        }
        if self.tokenizer is not None:
            saved["tokenizer"] = self.tokenizer
        saved["state"] = safetensors.torch.save(self.state)
        return srsly.msgpack_dumps(saved)

    @classmethod
    def from_bytes(cls, data: bytes) -> Optional["EncoderState"]:
        """Read what `to_bytes` wrote, and nothing else.

        data (bytes): The bytes.
        RETURNS (Optional[EncoderState]): The state; None for an encoder that was not loaded yet.
        RAISES (SavedStateError): The bytes are damaged, or no state of an encoder.
        """
        saved = unpack(data, "the saved encoder")
        if saved == {}:
            return None
        if not isinstance(saved, dict) or not saved.keys() >= _FIELDS.keys():
            raise SavedStateError("the saved encoder is none of this architecture's; initialize the pipeline anew")
        for name, kinds in _FIELDS.items():
            if not isinstance(saved[name], kinds):
                raise _damaged(f"{name} is {quote(saved[name])}")
        state = cls(
            config=_without(_json_object(saved["config"], "config"), (*_CODE, *_ATTENTION)),
            state=_tensors(saved["state"]),
            lora=saved["lora"],
            base=saved["base"],
            tokenizer=_tokenizer_files(saved["tokenizer"]) if "tokenizer" in saved else None,
            transformers_version=saved["transformers_version"],
            may_split_tokens=saved.get("may_split_tokens") is True,
        )
        if state.base is not None:
            named = [state.base.get("name"), state.base.get("fingerprint")]
            if not all(isinstance(value, str) for value in named):
                raise _damaged(f"the base of its adapters is {quote(state.base)}")
        if state.tokenizer is None and (state.base is None or state.lora is None):
            raise SavedStateError(
                "the saved encoder has no tokenizer, which only an adapter may lack, and it is not an adapter: "
                f"the file is incomplete; {AGAIN}"
            )
        return state

    def make_config(self) -> Any:
        """RETURNS (PretrainedConfig): The configuration.

        RAISES (SavedStateError): transformers knows no such encoder, or the settings are wrong.
        """
        settings = dict(self.config)
        try:
            return AutoConfig.for_model(settings.pop("model_type"), **settings)
        except Exception as error:  # of any kind, as the settings are
            kind = quote(self.config.get("model_type"))
            raise SavedStateError(
                f"the saved encoder is of the kind {kind}, of which this transformers "
                f"({transformers.__version__}; it was saved with {quote(self.transformers_version)}) makes no "
                f"configuration ({reason(error)}); install the version that it was saved with, or {AGAIN}"
            ) from error

    @property
    def base_name(self) -> str:
        """The name of the encoder that adapters were put into."""
        return self.base["name"] if self.base else ""

    def check_lora(self, wanted: Optional[LoRA]) -> None:
        """Check that the config adapts the encoder as it was adapted.

        wanted (Optional[LoRA]): What the config says.
        RAISES (SavedStateError): The encoder was saved with other settings.
        """
        shape = wanted.shape if wanted is not None else None
        if self.lora != shape:
            theirs, ours = (quote(lora) if lora else "null" for lora in (self.lora, shape))
            raise SavedStateError(
                f"the encoder was saved with lora {theirs}, but the config says {ours}; "
                "`python -m spacy crf merge-lora` writes a pipeline without LoRA"
            )

    def build(self, spec: EncoderSpec, config: Any) -> Any:
        """The encoder for weights that are loaded next.

        spec (EncoderSpec): What the config says of the encoder.
        config (PretrainedConfig): What `make_config` made.
        RETURNS (PreTrainedModel): The encoder.
        RAISES (SavedStateError): No encoder has such a configuration.
        """
        try:
            return build_transformer(spec, config)
        except ImportError:
            raise
        except Exception as error:  # of any kind, as the settings are
            raise SavedStateError(
                f"the saved encoder cannot be built from its saved configuration ({reason(error)}); {AGAIN}"
            ) from error

    def load_base(self, spec: EncoderSpec, config: Any) -> Tuple[Any, Any]:
        """The tokenizer and the encoder that an adapter was trained on.

        spec (EncoderSpec): Where the config says that they are.
        config (PretrainedConfig): What `make_config` made.
        RETURNS (Tuple[PreTrainedTokenizerFast, PreTrainedModel]): Both.
        RAISES (SavedStateError): There is another encoder.
        RAISES (OSError): There is none.
        """
        trained_on, given = quote_path(self.base_name), quote_path(spec.name)
        another = f"the adapter was trained on the encoder {trained_on}, but {given} is another"
        fix = "Give the right one as the transformer's name, or its revision"
        try:
            own = load_config(spec)
            for name in SIZES:
                has, needed = getattr(own, name, None), getattr(config, name, None)
                if has != needed:
                    sizes = f"its {name} is {quote(has)}, not {quote(needed)}"
                    raise SavedStateError(f"{another}, which the adapter does not fit: {sizes}. {fix}")
            tokenizer, transformer = load_tokenizer(spec), load_transformer(spec, config)
        except OSError as error:
            raise OSError(
                f"{error} - The pipeline holds only an adapter. If its encoder has moved, say where: in its "
                "config.cfg, as `name` of the block spacy-crf-ner.Transformer.v1; or, for a transformer pipe, by "
                'spacy.load(..., config={"components.transformer.model.name": FOLDER})'
            ) from error
        if fingerprint(transformer, tokenizer) != (self.base or {}).get("fingerprint"):
            raise SavedStateError(f"{another}: its weights or its tokenizer differ. {fix}")
        return tokenizer, transformer

    def load_weights(self, module: nn.Module) -> None:
        """Put the weights into a module that takes all of them; those of an adapter into its adapters.

        module (nn.Module): The module.
        RAISES (SavedStateError): A weight is missing, left over or misshapen.
        """
        expected = module.state_dict()
        if self.tokenizer is None:
            expected = {name: tensor for name, tensor in expected.items() if is_adapter(name)}
        if found := mismatches(expected, self.state):
            raise SavedStateError(
                f"the saved encoder does not fit its configuration: {'; '.join(found)}. It was saved with "
                f"transformers {quote(self.transformers_version)}; this is {transformers.__version__}"
            )
        module.load_state_dict(self.state, strict=self.tokenizer is not None)


def tokenizer_files(tokenizer: Any) -> Dict[str, bytes]:
    """What a fast tokenizer needs to be loaded again, and no code of its own.

    tokenizer (PreTrainedTokenizerFast): The tokenizer.
    RETURNS (Dict[str, bytes]): Its `TOKENIZER_FILES`.
    """
    tokenizer.backend_tokenizer.no_truncation()  # It would keep how the last text was cut.
    with make_tempdir() as folder:
        tokenizer.save_pretrained(str(folder), legacy_format=False)
        paths = [Path(folder) / name for name in TOKENIZER_FILES]
        files = {path.name: path.read_bytes() for path in paths if path.is_file()}
    settings = json.loads(files["tokenizer_config.json"])
    plain = _without(settings, _CODE)
    if is_of_own_code(tokenizer):
        plain["tokenizer_class"] = PreTrainedTokenizerFast.__name__
    if plain != settings:
        files["tokenizer_config.json"] = json.dumps(plain, indent=2, ensure_ascii=False).encode()
    return dict(sorted(files.items()))


def tokenizer_from(files: Dict[str, bytes]) -> Any:
    """The tokenizer whose `tokenizer_files` these are.

    files (Dict[str, bytes]): The files.
    RETURNS (PreTrainedTokenizerFast): The tokenizer.
    RAISES (SavedStateError): A file is missing or damaged, or the tokenizer is none of transformers' fast ones.
    """
    checked = _tokenizer_files(files)
    settings = _without(_json_object(checked["tokenizer_config.json"], "tokenizer_config.json"), _CODE)
    # A path of its own would have another file read, which may lie anywhere.
    settings = {name: value for name, value in settings.items() if not name.endswith("_file")}
    kind = settings.get("tokenizer_class")
    if not _is_fast(kind):
        raise SavedStateError(
            f"the saved tokenizer is a {quote(kind)}, which is none of the fast tokenizers of transformers "
            f"{transformers.__version__}; {AGAIN}"
        )
    with make_tempdir() as folder:
        for name, content in {**checked, "tokenizer_config.json": json.dumps(settings).encode()}.items():
            (Path(folder) / name).write_bytes(content)
        try:
            return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        except Exception as error:  # The tokenizers' own parser raises bare ones.
            raise SavedStateError(f"the saved tokenizer is damaged ({reason(error)}); {AGAIN}") from error


def is_of_own_code(part: Any) -> bool:
    """Whether a tokenizer is of a class that transformers does not have, which a saved pipeline never loads."""
    return type(part).__module__.partition(".")[0] != "transformers"


def _is_fast(name: object) -> bool:
    """Whether transformers itself has a fast tokenizer for the class of this name."""
    if not isinstance(name, str):
        return False
    kinds = (tokenizer_class_from_name(found) for found in (name, f"{name}Fast"))
    return any(isinstance(kind, type) and issubclass(kind, PreTrainedTokenizerFast) for kind in kinds)


def _tokenizer_files(files: object) -> Dict[str, bytes]:
    if not isinstance(files, dict):
        raise _damaged(f"its tokenizer is {quote(files)}")
    for name, content in files.items():
        if name not in TOKENIZER_FILES:
            raise SavedStateError(
                f"the saved tokenizer has a file {quote(name)}, but only {listed(TOKENIZER_FILES)} are read; "
                f"{AGAIN}"
            )
        if not isinstance(content, bytes):
            raise _damaged(f"{name} is {quote(content)}")
    if missing := [name for name in _NEEDED_TOKENIZER_FILES if name not in files]:
        raise SavedStateError(f"the saved tokenizer has no {', no '.join(missing)}; {AGAIN}")
    return files


def _tensors(data: bytes) -> Dict[str, torch.Tensor]:
    try:
        return safetensors.torch.load(data)
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise _damaged(f"its weights cannot be read ({reason(error)})") from error


def _json_object(text: Any, what: str) -> Dict[str, Any]:
    try:
        read = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(f"{what} is not JSON ({reason(error)})") from error
    if not isinstance(read, dict):
        raise _damaged(f"{what} is {quote(read)}")
    return read


def _without(settings: Dict[str, Any], names: Any) -> Dict[str, Any]:
    """The settings without some, which are left out of those within others too."""
    return {
        name: _without(value, names) if isinstance(value, dict) else value
        for name, value in settings.items()
        if name not in names
    }


def _damaged(found: str) -> SavedStateError:
    return SavedStateError(f"the saved encoder is damaged: {found}; {AGAIN}")
