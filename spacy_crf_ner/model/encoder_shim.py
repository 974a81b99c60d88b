"""The encoder behind Thinc's wrapper: loaded, adapted, frozen, saved and loaded again without a key amiss."""

import json
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Tuple, cast

import safetensors.torch
import srsly
import torch
import transformers
from spacy.util import make_tempdir
from spacy_transformers.data_classes import HFObjects
from spacy_transformers.layers.hf_shim import HFShim
from thinc.api import ArgsKwargs, get_torch_default_device
from transformers import AutoConfig, AutoTokenizer

from spacy_crf_ner.model import lora as low_rank
from spacy_crf_ner.model.freezing import Freeze, freeze
from spacy_crf_ner.model.lora import LoRA
from spacy_crf_ner.model.pretrained import Source, fingerprint, some
from spacy_crf_ner.model.torch_shim import TorchShim
from spacy_crf_ner.model.wordpieces import Frame, choose_frame
from spacy_crf_ner.torch_modules.precision import Precision, half_dtype, require_gpu_for, scaler_settings
from spacy_crf_ner.torch_modules.windowed_encoder import WindowedEncoder

SAVE_MODES = ("full", "adapter")


@dataclass(frozen=True)
class EncoderSpec:
    """How an encoder is got, trained and saved. See `spacy-crf-ner.Transformer.v1`, whose arguments these are.

    RAISES (ValueError): Settings do not go together.
    """

    source: Source
    window: Optional[int]
    stride: Optional[int]
    lora: Optional[LoRA]
    freeze: Freeze
    gradient_checkpointing: bool
    max_padded_tokens: int
    mixed_precision: Precision
    save_mode: str

    def __post_init__(self) -> None:
        half_dtype(self.mixed_precision)
        if self.lora is not None and self.freeze is not None:
            raise ValueError(
                f"freeze = {self.freeze!r} and lora are both set, but LoRA freezes the whole encoder anyway: set "
                "freeze = null; lora.layers says which layers are adapted"
            )
        if self.save_mode not in SAVE_MODES:
            raise ValueError(f"save_mode = '{self.save_mode}', but it is one of {SAVE_MODES}")
        if self.save_mode == "adapter" and self.lora is None:
            raise ValueError('save_mode = "adapter" saves the adapter alone, but lora is not set')
        if self.max_padded_tokens < 1:
            raise ValueError(f"max_padded_tokens = {self.max_padded_tokens}, but it must be at least 1")


class EncoderShim(TorchShim, HFShim):
    """A `WindowedEncoder` and its tokenizer, as spacy-transformers' shim holds a plain encoder.

    Its parameters are `transformer.*`. Half precision and the gradient scaler are on only on a GPU.

    spec (EncoderSpec): The settings.
    grad_scaler_config (Dict[str, Any]): Arguments of Thinc's `PyTorchGradScaler`, for fp16.
    """

    spec: EncoderSpec
    frame: Frame
    base: Optional[Dict[str, str]]
    """Name and fingerprint of the encoder that adapters were put into."""

    def __init__(self, spec: EncoderSpec, grad_scaler_config: Dict[str, Any]) -> None:
        scaler = scaler_settings(half_dtype(spec.mixed_precision), get_torch_default_device(), grad_scaler_config)
        nothing = HFObjects(None, None, None, spec.source.tokenizer_config, spec.source.transformer_config)
        super().__init__(nothing, grad_scaler_config=scaler)
        self.spec = spec
        self.grad_scaler_config = grad_scaler_config
        self.base = None

    def load_pretrained(self) -> None:
        """Load the encoder that the spec names, adapt and freeze it, and check the windows by running one.

        RAISES (OSError): The encoder is nowhere to be had.
        RAISES (ValueError): The encoder and the settings do not fit together, or half precision on a CPU.
        """
        require_gpu_for(half_dtype(self.spec.mixed_precision), get_torch_default_device())
        source = self.spec.source
        config = source.load_config()
        tokenizer = source.load_tokenizer()
        transformer = source.load_transformer(config)
        if self.spec.lora is not None:
            self.base = {"name": source.name, "fingerprint": fingerprint(transformer, tokenizer)}
        self._set(tokenizer, transformer)
        width, rows = len(tokenizer), self.transformer.get_input_embeddings().num_embeddings
        if width > rows:
            raise ValueError(f"encoder '{source.name}': {width} word-pieces, but embeddings for {rows} of them")
        self._check_window()

    @property
    def transformer(self) -> Any:
        """RETURNS (PreTrainedModel): The Hugging Face encoder itself."""
        return self._hfmodel.transformer

    @property
    def tokenizer(self) -> Any:
        """RETURNS (PreTrainedTokenizerFast): Its tokenizer."""
        return self._hfmodel.tokenizer

    def _set(self, tokenizer: Any, transformer: Any) -> None:
        """Take an encoder as it was pretrained, and make of it what the spec says."""
        spec = self.spec
        self.frame = choose_frame(tokenizer, position_limit(transformer, tokenizer), spec.window, spec.stride)
        if spec.lora is not None:
            low_rank.inject(spec.lora, transformer)
        freeze(transformer, spec.freeze)
        if spec.gradient_checkpointing:
            transformer.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        self._hfmodel = HFObjects(tokenizer, transformer, None, {}, {})
        self._model = WindowedEncoder(
            transformer,
            pad_id=tokenizer.pad_token_id or 0,
            max_padded_tokens=spec.max_padded_tokens,
            autocast_dtype=half_dtype(spec.mixed_precision),
        ).to(get_torch_default_device())

    def _check_window(self) -> None:
        """Run one full window: an encoder that takes less shall fail here, not in the middle of a training."""
        word = self.tokenizer("a")["input_ids"]
        ids = torch.tensor([word[:1] * self.frame.window], device=self.device)
        try:
            with torch.no_grad():
                self.transformer(input_ids=ids, attention_mask=torch.ones_like(ids))
        except (IndexError, RuntimeError) as error:
            raise ValueError(
                f"encoder '{self.spec.source.name}' does not take a window of {self.frame.window} word-pieces "
                f"({error}): set window to less"
            ) from error

    def begin_update(self, inputs: ArgsKwargs) -> Tuple[Any, Callable[[Any], Any]]:
        """As `TorchShim.begin_update`; an encoder that is all frozen is a fixed function without dropout."""
        if not self._model.is_trainable:
            return self.predict(inputs), lambda d_outputs: ArgsKwargs(args=(), kwargs={})
        return super().begin_update(inputs)

    def merge_lora(self) -> None:
        """Merge the adapters into the weights; the spec is then one without LoRA."""
        low_rank.merge(self.transformer)
        self.base = None
        fields = {**vars(self.spec), "lora": None, "save_mode": "full"}
        self.spec = EncoderSpec(**fields)

    def copy(self) -> "EncoderShim":
        """A shim of its own id with a copy of the encoder."""
        copied = EncoderShim(self.spec, self.grad_scaler_config)
        if self._model is not None:
            copied._model = deepcopy(self._model)
            copied._hfmodel = HFObjects(deepcopy(self.tokenizer), copied._model.transformer, None, {}, {})
            copied.frame, copied.base = self.frame, self.base
        return copied

    def to_bytes(self) -> bytes:
        """Configuration, tokenizer and weights; with save_mode "adapter" the adapter in place of the last two, and
        the base's name and fingerprint. Nothing for an encoder that is not loaded yet."""
        if self._model is None:
            return srsly.msgpack_dumps({})
        spec = self.spec
        config = self.transformer.config.to_dict()
        config.pop("_name_or_path", None)
        state = {name: tensor.contiguous() for name, tensor in self._model.state_dict().items()}
        saved: Dict[str, Any] = {
            "transformers_version": transformers.__version__,
            "config": json.dumps(config),  # srsly's JSON keeps nine decimals: too few for layer_norm_eps
            "lora": spec.lora.shape if spec.lora is not None else None,
            "base": self.base,
        }
        if spec.save_mode == "adapter":
            state = {name: tensor for name, tensor in state.items() if low_rank.is_adapter(name)}
        else:
            saved["tokenizer"] = _tokenizer_files(self.tokenizer)
        saved["state"] = safetensors.torch.save(state)
        return srsly.msgpack_dumps(saved)

    def from_bytes(self, bytes_data: bytes) -> "EncoderShim":
        """Load what `to_bytes` wrote.

        bytes_data (bytes): The bytes.
        RETURNS (EncoderShim): This shim.
        RAISES (ValueError): A weight is missing, left over or misshapen; the LoRA settings of the config are not
            those of the weights; or the base of an adapter is not the encoder that it was trained on.
        RAISES (OSError): The base of an adapter is nowhere to be had.
        """
        saved = srsly.msgpack_loads(bytes_data)
        if not saved:
            return self
        if not saved.keys() >= {"transformers_version", "config", "lora", "base", "state"}:
            raise ValueError("the saved encoder is none of this architecture's; initialize the pipeline anew")
        self._require_same_lora(saved["lora"])
        config_dict = json.loads(saved["config"])
        config = AutoConfig.for_model(config_dict.pop("model_type"), **config_dict)
        self.base = saved["base"]
        # Loading shall not change what a seed gives: weights are drawn here only to be overwritten.
        with torch.random.fork_rng(devices=[]):
            if "tokenizer" in saved:
                self._set(_tokenizer_from(saved["tokenizer"]), self.spec.source.build_transformer(config))
            else:
                self._set(*self._load_base(config))
        self._load_state(safetensors.torch.load(saved["state"]), saved)
        return self

    def _load_base(self, config: Any) -> Tuple[Any, Any]:
        """The tokenizer and the encoder that an adapter was trained on."""
        base, source = cast(Dict[str, str], self.base), self.spec.source
        if self.spec.save_mode != "adapter":
            raise ValueError(
                f'the adapter of "{base["name"]}" was saved alone: set save_mode = "adapter" to load it'
            )
        try:
            tokenizer, transformer = source.load_tokenizer(), source.load_transformer(config)
        except OSError as error:
            raise OSError(
                f"{error} - The pipeline holds an adapter alone. If its encoder has moved, say where: in its "
                "config.cfg, as `name` of the block spacy-crf-ner.Transformer.v1; or, for a transformer pipe, by "
                'spacy.load(..., config={"components.transformer.model.name": FOLDER})'
            ) from error
        if fingerprint(transformer, tokenizer) != base["fingerprint"]:
            raise ValueError(
                f"the adapter was trained on the encoder '{base['name']}', but '{source.name}' is another: its "
                "weights or its tokenizer differ. Give the right one as the transformer's name, or its revision"
            )
        return tokenizer, transformer

    def _require_same_lora(self, saved: Optional[Dict[str, Any]]) -> None:
        wanted = self.spec.lora.shape if self.spec.lora is not None else None
        if saved != wanted:
            raise ValueError(
                f"the encoder was saved with lora {saved or 'null'}, but the config says {wanted or 'null'}; "
                "`python -m spacy crf merge-lora` writes a pipeline without LoRA"
            )

    def _load_state(self, state: Dict[str, torch.Tensor], saved: Dict[str, Any]) -> None:
        expected = self._model.state_dict()
        if "tokenizer" not in saved:
            expected = {name: tensor for name, tensor in expected.items() if low_rank.is_adapter(name)}
        missing = sorted(expected.keys() - state.keys())
        left = sorted(state.keys() - expected.keys())
        misshapen = sorted(n for n in expected.keys() & state.keys() if expected[n].shape != state[n].shape)
        found = [
            f"{some(n)} {say}"
            for n, say in ((missing, "missing"), (left, "left over"), (misshapen, "misshapen"))
            if n
        ]
        if found:
            raise ValueError(
                f"the saved encoder does not fit its configuration: {'; '.join(found)}. It was saved with "
                f"transformers {saved['transformers_version']}; this is {transformers.__version__}"
            )
        self._model.load_state_dict(state, strict="tokenizer" in saved)


def position_limit(transformer: Any, tokenizer: Any) -> Optional[int]:
    """The most word-pieces that an encoder takes at a time, special tokens counted.

    transformer (PreTrainedModel): The encoder. RoBERTa's kind spends its first positions on padding, which its
        table of positions says by a `padding_idx`.
    tokenizer (PreTrainedTokenizerFast): Its `model_max_length` counts too, where it is a real one.
    RETURNS (Optional[int]): The limit; None where neither knows one.
    """
    limits = [tokenizer.model_max_length] if tokenizer.model_max_length < 1e6 else []
    table = getattr(getattr(transformer, "embeddings", None), "position_embeddings", None)
    if table is not None:
        used = 0 if table.padding_idx is None else table.padding_idx + 1
        limits.append(table.num_embeddings - used)
    else:
        limits.append(getattr(transformer.config, "max_position_embeddings", None) or 0)
    # XLNet, which knows none, says -1.
    return min((limit for limit in limits if limit > 0), default=None)


def _tokenizer_files(tokenizer: Any) -> Dict[str, bytes]:
    """What a fast tokenizer needs to be loaded again."""
    tokenizer.backend_tokenizer.no_truncation()  # It would keep how the last text was cut.
    with make_tempdir() as folder:
        tokenizer.save_pretrained(str(folder), legacy_format=False)
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def _tokenizer_from(files: Dict[str, bytes]) -> Any:
    """The tokenizer whose `_tokenizer_files` these are."""
    with make_tempdir() as folder:
        for name, content in files.items():
            if Path(name).name != name:
                raise ValueError(f"the saved tokenizer has a file '{name}', which is no plain file name")
            (Path(folder) / name).write_bytes(content)
        return AutoTokenizer.from_pretrained(str(folder))
