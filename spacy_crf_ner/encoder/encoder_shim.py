"""The encoder behind Thinc's wrapper: loaded, adapted, frozen, saved, and loaded again key by key."""

from copy import deepcopy
from dataclasses import replace
from typing import Any, Callable, Dict, Optional, Sequence, Tuple

import srsly
import torch
from spacy.tokens import Doc
from spacy_transformers.data_classes import HFObjects
from spacy_transformers.layers.hf_shim import HFShim
from thinc.api import ArgsKwargs, get_torch_default_device

from spacy_crf_ner.encoder import lora as low_rank
from spacy_crf_ner.encoder.freezing import freeze
from spacy_crf_ner.encoder.piece_tokenizer import PieceTokenizer
from spacy_crf_ner.encoder.pretrained import fingerprint, load_config, load_tokenizer, load_transformer
from spacy_crf_ner.encoder.serialization import EncoderState, is_of_own_code, tokenizer_files, tokenizer_from
from spacy_crf_ner.encoder.spec import EncoderSpec
from spacy_crf_ner.encoder.token_pieces import TokenPieces, runs_over_words
from spacy_crf_ner.encoder.windowed_encoder import WindowedEncoder
from spacy_crf_ner.encoder.wordpieces import Windowing, choose_windowing
from spacy_crf_ner.languages import SPACELESS
from spacy_crf_ner.messages import quote_path
from spacy_crf_ner.saved_state import SavedStateError
from spacy_crf_ner.torch_utils.precision import half_dtype, require_gpu_for, scaler_settings
from spacy_crf_ner.torch_utils.torch_shim import TorchShim


class EncoderShim(TorchShim, HFShim):
    """A `WindowedEncoder` and its tokenizer, as spacy-transformers' shim holds a plain encoder.

    Its parameters are `transformer.*`. Half precision and the gradient scaler are on only on a GPU.

    spec (EncoderSpec): The settings.
    grad_scaler_config (Dict[str, Any]): Arguments of Thinc's `PyTorchGradScaler`, for fp16.
    """

    spec: EncoderSpec
    pieces: PieceTokenizer
    windowing: Windowing
    base: Optional[Dict[str, str]]
    """Name and fingerprint of the encoder that adapters were put into."""
    may_split_tokens: bool
    """Whether pieces over several tokens are cut where the spec does not say: not in a pipeline that was saved
    before there was this."""

    def __init__(self, spec: EncoderSpec, grad_scaler_config: Dict[str, Any]) -> None:
        scaler = scaler_settings(half_dtype(spec.mixed_precision), get_torch_default_device(), grad_scaler_config)
        nothing = HFObjects(None, None, None, {}, {})
        super().__init__(nothing, grad_scaler_config=scaler)
        self.spec = spec
        self.grad_scaler_config = grad_scaler_config
        self.base = None
        self.may_split_tokens = True
        self._token_pieces: Optional[TokenPieces] = None

    def load_pretrained(self) -> None:
        """Load the encoder that the spec names, adapt and freeze it, and check the windows by running one.

        RAISES (OSError): The encoder cannot be found.
        RAISES (ValueError): The encoder and the settings do not fit together, or half precision on a CPU.
        """
        require_gpu_for(half_dtype(self.spec.mixed_precision), get_torch_default_device())
        config = load_config(self.spec)
        tokenizer = load_tokenizer(self.spec)
        if is_of_own_code(tokenizer):
            tokenizer = self._without_code(tokenizer)
        transformer = load_transformer(self.spec, config)
        if self.spec.lora is not None:
            self.base = {"name": self.spec.name, "fingerprint": fingerprint(transformer, tokenizer)}
        self._set(tokenizer, transformer)
        self._check_vocabulary(str(self.spec))
        self._check_layers()
        self._check_window()

    def _without_code(self, tokenizer: Any) -> Any:
        """What a saved pipeline will have of a tokenizer of its own code: training shall not have another."""
        if self.spec.save_mode == "adapter":
            raise ValueError(
                f"the tokenizer of {self.spec} is of code of its own, which a saved pipeline never runs; "
                'set save_mode = "full", which saves what it does without its code'
            )
        return tokenizer_from(tokenizer_files(tokenizer))

    @property
    def transformer(self) -> Any:
        """RETURNS (PreTrainedModel): The Hugging Face encoder itself."""
        return self._hfmodel.transformer

    @property
    def tokenizer(self) -> Any:
        """RETURNS (PreTrainedTokenizerFast): Its tokenizer."""
        return self._hfmodel.tokenizer

    def token_pieces_for(self, docs: Sequence[Doc]) -> Optional[TokenPieces]:
        """What makes the word-pieces of docs if none may run over two tokens.

        docs (Sequence[Doc]): The docs, all of one language.
        RETURNS (Optional[TokenPieces]): None where the tokenizer's own pieces are wanted.
        """
        if not any(self.splits_tokens(doc.vocab.lang) for doc in docs[:1]):
            return None
        if self._token_pieces is None:
            self._token_pieces = TokenPieces(self.pieces)
        return self._token_pieces

    def splits_tokens(self, lang: str) -> bool:
        """Whether no word-piece may run over two tokens.

        lang (str): The language of the docs.
        """
        if self.spec.split_tokens is not None:
            return self.spec.split_tokens
        return self.may_split_tokens and lang in SPACELESS and runs_over_words(self.pieces)

    def _set(self, tokenizer: Any, transformer: Any) -> None:
        """Take an encoder as it was pretrained, and make of it what the spec says."""
        spec = self.spec
        self.pieces = PieceTokenizer.from_pretrained(tokenizer)
        self.windowing = choose_windowing(
            self.pieces, position_limit(transformer, tokenizer), spec.window, spec.stride
        )
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
            averaged_layers=spec.averaged_layers,
        ).to(get_torch_default_device())

    def _check_vocabulary(self, which: str) -> None:
        width, rows = len(self.tokenizer), self.transformer.get_input_embeddings().num_embeddings
        if width > rows:
            raise ValueError(f"{which}: {width} word-pieces, but embeddings for {rows} of them")

    def _check_window(self) -> None:
        """Run one full window: an encoder that takes less shall fail here, not in the middle of a training."""
        word = self.tokenizer("a")["input_ids"]
        ids = torch.tensor([word[:1] * self.windowing.window], device=self.device)
        try:
            with torch.no_grad():
                self.transformer(input_ids=ids, attention_mask=torch.ones_like(ids))
        except (IndexError, RuntimeError) as error:
            raise ValueError(
                f"{self.spec} does not take a window of {self.windowing.window} word-pieces "
                f"({error}): set window to less"
            ) from error

    def _check_layers(self) -> None:
        """An encoder says in its configuration how many layers it has, whatever it calls them."""
        if self.spec.averaged_layers == 1:
            return
        n_layers = self.transformer.config.num_hidden_layers
        if self.spec.averaged_layers > n_layers:
            raise ValueError(
                f"averaged_layers must be at most {n_layers}, the layers of {self.spec}, got "
                f"{self.spec.averaged_layers}"
            )

    def begin_update(self, inputs: ArgsKwargs) -> Tuple[Any, Callable[[Any], Any]]:
        """As `TorchShim.begin_update`; an encoder that is all frozen is a fixed function without dropout."""
        if not self._model.is_trainable:
            return self.predict(inputs), lambda d_outputs: ArgsKwargs(args=(), kwargs={})
        return super().begin_update(inputs)

    def merge_lora(self) -> None:
        """Merge the adapters into the weights; the spec is then one without LoRA."""
        low_rank.merge(self.transformer)
        self.base = None
        self.spec = replace(self.spec, lora=None, save_mode="full")

    def copy(self) -> "EncoderShim":
        """A shim of its own id with a copy of the encoder."""
        copied = EncoderShim(self.spec, self.grad_scaler_config)
        if self._model is not None:
            copied._model = deepcopy(self._model)
            copied._hfmodel = HFObjects(deepcopy(self.tokenizer), copied._model.transformer, None, {}, {})
            copied.pieces = PieceTokenizer.from_pretrained(copied.tokenizer)
            copied.windowing, copied.base = self.windowing, self.base
            copied.may_split_tokens = self.may_split_tokens
        return copied

    def to_bytes(self) -> bytes:
        """Configuration, tokenizer and weights; with save_mode "adapter" the adapter in place of the last two, and
        the base's name and fingerprint. Nothing for an encoder that is not loaded yet."""
        if self._model is None:
            return srsly.msgpack_dumps({})
        spec = self.spec
        weights = {name: tensor.contiguous() for name, tensor in self._model.state_dict().items()}
        alone = spec.save_mode == "adapter"
        state = EncoderState(
            config=self.transformer.config.to_dict(),
            state={name: x for name, x in weights.items() if low_rank.is_adapter(name)} if alone else weights,
            lora=spec.lora.shape if spec.lora is not None else None,
            base=self.base,
            tokenizer=None if alone else tokenizer_files(self.tokenizer),
            may_split_tokens=self.may_split_tokens,
        )
        return state.to_bytes()

    def from_bytes(self, bytes_data: bytes) -> "EncoderShim":
        """Load what `to_bytes` wrote. No code of a pipeline or of an encoder is run, whatever its config says.

        bytes_data (bytes): The bytes.
        RETURNS (EncoderShim): This shim.
        RAISES (SavedStateError): The bytes are damaged; a weight is missing, left over or misshapen; the LoRA
            settings of the config are not those of the weights; or the base of an adapter is not the encoder that
            it was trained on.
        RAISES (OSError): The base of an adapter cannot be found.
        """
        # What its user chose for training was not chosen by those who load it.
        self.spec = self.spec.untrusted()
        state = EncoderState.from_bytes(bytes_data)
        if state is None:
            return self
        loaded = EncoderShim(self.spec, self.grad_scaler_config)
        try:
            loaded._load(state)
        except SavedStateError:
            raise
        except ValueError as error:
            raise SavedStateError(str(error)) from error
        self._model, self._hfmodel = loaded._model, loaded._hfmodel
        self.pieces, self.windowing, self.base = loaded.pieces, loaded.windowing, state.base
        self.may_split_tokens = state.may_split_tokens
        self._token_pieces = None
        return self

    def _load(self, state: EncoderState) -> None:
        spec = self.spec
        state.check_lora(spec.lora)
        config = state.make_config()
        # Loading shall not change what a seed gives: weights are drawn here only to be overwritten.
        with torch.random.fork_rng(devices=[]):
            if state.tokenizer is not None:
                self._set(tokenizer_from(state.tokenizer), state.build(spec, config))
            elif spec.save_mode == "adapter":
                self._set(*state.load_base(spec, config))
            else:
                raise SavedStateError(
                    f"the adapter of {quote_path(state.base_name)} was saved without the encoder; set save_mode = "
                    '"adapter" to load it'
                )
        self._check_vocabulary("the saved encoder")
        state.load_weights(self._model)


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
