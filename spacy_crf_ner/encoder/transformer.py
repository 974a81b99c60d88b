"""The architectures `spacy-crf-ner.Transformer.v1` and `spacy-crf-ner.Tok2VecTransformer.v1`."""

from copy import deepcopy
from typing import Any, Callable, Dict, List, Optional, Tuple, cast

import numpy
from spacy.errors import Errors
from spacy.tokens import Doc
from spacy_transformers.data_classes import FullTransformerBatch, TransformerData, WordpieceBatch
from spacy_transformers.layers import TransformerModel, split_trf_batch, trfs2arrays
from thinc.api import ArgsKwargs, Model, chain, get_array_module, torch2xp, xp2torch
from thinc.layers.pytorchwrapper import forward as torch_forward
from thinc.types import Floats2d, Floats3d, Ints1d, Ints2d, Ragged
from transformers.file_utils import ModelOutput

from spacy_crf_ner.encoder.encoder_shim import EncoderShim
from spacy_crf_ner.encoder.freezing import Freeze
from spacy_crf_ner.encoder.lora import LoRA
from spacy_crf_ner.encoder.spec import EncoderSpec
from spacy_crf_ner.encoder.windows import WindowBatch
from spacy_crf_ner.encoder.wordpieces import DocPieces, split
from spacy_crf_ner.saved_state import AGAIN, SavedStateError, explained, unpack_model
from spacy_crf_ner.torch_utils.precision import Precision


def Transformer(
    name: str,
    window: Optional[int] = None,
    stride: Optional[int] = None,
    lora: Optional[LoRA] = None,
    freeze: Freeze = None,
    gradient_checkpointing: bool = False,
    attention: Optional[str] = None,
    max_padded_tokens: int = 8192,
    mixed_precision: Precision = False,
    save_mode: str = "full",
    local_files_only: bool = False,
    revision: Optional[str] = None,
    grad_scaler_config: Optional[Dict[str, Any]] = None,
    tokenizer_config: Optional[Dict[str, Any]] = None,
    transformer_config: Optional[Dict[str, Any]] = None,
    split_tokens: Optional[bool] = None,
    averaged_layers: int = 1,
) -> Model[List[Doc], FullTransformerBatch]:
    """Build a pretrained encoder for spacy-transformers' `transformer` pipe, whose listeners work as always.

    It does what `spacy-transformers.TransformerModel.v3` does, for texts of any length: no text is truncated. Each
    text is split into word-pieces once; those are cut into windows; where two windows overlap, a word-piece gets
    the mean of its two representations, weighted by the distances to the windows' cut edges. `doc._.trf_data`
    holds one sequence per doc, *shape:* (1, n_wordpieces, width). The encoder is loaded at `initialize`, and saved
    with the pipeline. The pooler is left out.

    name (str): The encoder: a name on the hub, or a folder.
    window (Optional[int]): Word-pieces that the encoder sees at a time, special tokens counted. None: 128, or
        fewer if it takes fewer.
    stride (Optional[int]): Word-pieces from the start of one window to that of the next. None: three quarters of
        the window.
    lora (Optional[LoRA]): Train low-rank adapters instead of the encoder, which then stays as it is to the bit.
    freeze (Freeze): What does not learn: None, "embeddings", N for the embeddings and the first N layers, "all".
    gradient_checkpointing (bool): Compute activations again in the backward pass: less memory, more time.
    attention (Optional[str]): "eager", "sdpa", "flash_attention_2", ...: the attention's implementation as
        transformers calls it. None: its choice.
    max_padded_tokens (int): The most word-pieces of one pass, padding counted: bounds memory in prediction.
    mixed_precision (Precision): False, "bf16", or "fp16" (as True): compute in half precision on a GPU. A loaded
        pipeline computes in full precision on a CPU.
    save_mode (str): "full", or "adapter": only the adapters, with the encoder's name and a fingerprint that is
        checked when the pipeline is loaded; the encoder is then needed there.
    local_files_only (bool): Never ask the hub.
    revision (Optional[str]): Branch, tag or commit on the hub.
    grad_scaler_config (Optional[Dict]): Arguments of Thinc's `PyTorchGradScaler`, for "fp16".
    tokenizer_config (Optional[Dict]): Further arguments of `AutoTokenizer.from_pretrained`. Code that comes with a
        tokenizer is run at `initialize` if trust_remote_code is set here, and never by a saved pipeline.
    transformer_config (Optional[Dict]): Further settings of the encoder's configuration, such as dropout rates.
        Code that comes with an encoder is never run.
    split_tokens (Optional[bool]): Cut word-pieces that run over several tokens, so that each token has its own.
        None: of the tokenizers that make such pieces, SentencePiece and byte-level BPE, in Chinese, Japanese and
        Thai; a pipeline that was saved before this setting was there goes on as it was.
    averaged_layers (int): How many of the last layers' outputs are averaged: 1 hands on that of the last.
    RETURNS (Model[List[Doc], FullTransformerBatch]): The model.
    RAISES (ValueError): Settings do not go together. At `initialize`: they do not fit the encoder.
    RAISES (OSError): At `initialize`: the encoder is in no folder, not in the cache, and cannot be downloaded.
    """
    spec = EncoderSpec(
        name=name,
        revision=revision,
        local_files_only=local_files_only,
        tokenizer_config=tokenizer_config or {},
        transformer_config=transformer_config or {},
        attention=attention,
        window=window,
        stride=stride,
        lora=lora,
        freeze=freeze,
        gradient_checkpointing=gradient_checkpointing,
        max_padded_tokens=max_padded_tokens,
        mixed_precision=mixed_precision,
        save_mode=save_mode,
        split_tokens=split_tokens,
        averaged_layers=averaged_layers,
    )
    return Encoder(EncoderShim(spec, grad_scaler_config or {}))


def Tok2VecTransformer(
    encoder: Model[List[Doc], FullTransformerBatch],
    pooling: Model[Ragged, Floats2d],
    grad_factor: float = 1.0,
) -> Model[List[Doc], List[Floats2d]]:
    """Use an encoder as a component's own `tok2vec`, without a `transformer` pipe. It is what
    `nlp.replace_listeners` makes of a listener, as `spacy-transformers.Tok2VecTransformer.v3` is of the others.

    encoder (Model[List[Doc], FullTransformerBatch]): A `spacy-crf-ner.Transformer.v1`.
    pooling (Model[Ragged, Floats2d]): Makes one vector of a token's word-pieces, such as `reduce_mean.v1`.
    grad_factor (float): Scales the gradient that the encoder gets.
    RETURNS (Model[List[Doc], List[Floats2d]]): Token vectors, *shape:* (n_tokens, width) per doc.
    """
    # A chain in a chain: the structure that a replaced listener has.
    return chain(_split_by_doc(encoder), trfs2arrays(pooling, grad_factor))


class Encoder(TransformerModel):
    """The Thinc model around an `EncoderShim`, with the properties that spacy-transformers' model has.

    shim (EncoderShim): The encoder, loaded or not.
    """

    def __init__(self, shim: EncoderShim) -> None:
        wrapper: Model[WindowBatch, Any] = Model(
            "windowed_encoder",
            torch_forward,
            attrs={"convert_inputs": _convert_inputs, "convert_outputs": _convert_outputs},
            shims=[shim],
        )
        Model.__init__(
            self,
            "transformer",
            _forward,
            init=_init,
            layers=[wrapper],
            dims={"nO": None},
            attrs={"replace_listener": _split_by_doc, "replace_listener_cfg": _replaced_config},
        )

    @property
    def shim(self) -> EncoderShim:
        """RETURNS (EncoderShim): The encoder, its tokenizer and its settings."""
        return cast(EncoderShim, self.layers[0].shims[0])

    @property
    def _init_tokenizer_config(self) -> Dict[str, Any]:
        """What the pipe asks for where its `model` is a folder, as old versions of spacy-transformers saved it: it
        would load an encoder from there, and the code beside it.

        RAISES (SavedStateError): Always.
        """
        raise SavedStateError(f"the saved encoder, `model`, must be a file that may be read; {AGAIN}")

    def from_bytes(self, bytes_data: bytes) -> "Encoder":
        """Load what `to_bytes` wrote.

        bytes_data (bytes): The bytes.
        RETURNS (Encoder): This model.
        RAISES (SavedStateError): They are damaged, or the encoder does not fit its config.
        """
        with explained():
            self.from_dict(unpack_model(bytes_data, self.ops))
        return self

    def copy(self) -> "Encoder":
        """RETURNS (Encoder): A model of its own ids with a copy of the encoder."""
        return self._copy()

    def _copy(self, seen: Optional[Dict[int, Any]] = None) -> "Encoder":
        """What Thinc calls for a part of a model that is copied; `seen` holds what was copied before."""
        seen = {} if seen is None else seen
        if id(self) not in seen:
            copied = seen[id(self)] = Encoder(self.shim.copy())
            if self.has_dim("nO"):
                copied.set_dim("nO", self.get_dim("nO"))
        return seen[id(self)]


class EncodedBatch(FullTransformerBatch):
    """Each doc's word-pieces as one sequence, whatever windows they went through: nothing is padded.

    `model_output.last_hidden_state` has the *shape* (1, n_wordpieces of all docs, width), and `wordpieces` and
    `align` follow it; each doc's part, `doc_data`, has the *shape* (1, n_wordpieces, width).
    """

    @classmethod
    def from_rows(cls, docs: List[Doc], pieces: List[Optional[DocPieces]], rows: Any) -> "EncodedBatch":
        """Cut the encoder's output into docs.

        docs (List[Doc]): The docs.
        pieces (List[Optional[DocPieces]]): Their word-pieces.
        rows (torch.Tensor): *Shape:* (n_wordpieces of all docs, width).
        RETURNS (EncodedBatch): The batch.
        """
        arrays: Any = torch2xp(rows.detach())
        doc_data = []
        begin = 0
        for piece in pieces:
            if piece is None:
                doc_data.append(TransformerData.empty())
                continue
            end = begin + len(piece.ids)
            output = ModelOutput(last_hidden_state=arrays[None, begin:end])
            doc_data.append(TransformerData(_as_batch(piece.strings, piece.ids), output, piece.align))
            begin = end
        found = [piece for piece in pieces if piece is not None]
        begins = numpy.cumsum([0, *(len(piece.ids) for piece in found)])
        return cls(
            spans=[[doc[:]] if len(doc) else [] for doc in docs],
            wordpieces=_as_batch([s for p in found for s in p.strings], [i for p in found for i in p.ids]),
            model_output=ModelOutput(last_hidden_state=rows[None]),
            align=Ragged(
                cast(Ints1d, numpy.concatenate([p.align.dataXd + begin for p, begin in zip(found, begins)])),
                cast(Ints1d, numpy.concatenate([p.align.lengths for p in found])),
            ),
            cached_doc_data=doc_data,
        )

    def unsplit_by_doc(self, arrays: List[List[Floats3d]]) -> FullTransformerBatch:
        """Put the docs' gradients together again.

        arrays (List[List[Floats3d]]): For each doc that has tokens, the gradient of its one output.
        RETURNS (FullTransformerBatch): The batch of gradients.
        """
        xp = get_array_module(arrays[0][0])
        gradient = xp.concatenate([tensors[0] for tensors in arrays], axis=1)
        return FullTransformerBatch(
            spans=self.spans,
            wordpieces=self.wordpieces,
            model_output=ModelOutput(last_hidden_state=xp2torch(gradient)),
            align=self.align,
        )


def _as_batch(strings: List[str], ids: List[int]) -> WordpieceBatch:
    """Word-pieces as a batch of one sequence."""
    return WordpieceBatch(
        strings=[strings],
        input_ids=cast(Ints2d, numpy.asarray([ids])),
        attention_mask=cast(Floats2d, numpy.ones((1, len(ids)), dtype="f")),
        lengths=[len(ids)],
        token_type_ids=None,
    )


def _init(model: Encoder, X: Optional[List[Doc]] = None, Y: Any = None) -> None:
    """Load the pretrained encoder, unless there is one: a loaded pipeline keeps its weights."""
    if model.shim._model is None:
        model.shim.load_pretrained()
        model.set_dim("nO", model.shim.transformer.config.hidden_size)
    model.shim._model.zero_grad()


def _forward(
    model: Encoder, docs: List[Doc], is_train: bool
) -> Tuple[FullTransformerBatch, Callable[[FullTransformerBatch], List[Doc]]]:
    docs = list(docs)
    if model.shim._model is None:
        raise ValueError(Errors.E109.format(name=model.name))
    shim = model.shim
    windows, pieces = split(shim.pieces, docs, shim.windowing, shim.token_pieces_for(docs))
    if not windows.input_ids:
        return FullTransformerBatch.empty(len(docs)), lambda d_output: docs
    rows, backprop_rows = model.layers[0](windows, is_train)

    def backprop(d_output: FullTransformerBatch) -> List[Doc]:
        backprop_rows(d_output.model_output["last_hidden_state"][0])
        return docs

    return EncodedBatch.from_rows(docs, pieces, rows), backprop


def _convert_inputs(
    model: Model, windows: WindowBatch, is_train: bool
) -> Tuple[ArgsKwargs, Callable[[ArgsKwargs], List[Any]]]:
    return ArgsKwargs(args=(windows,), kwargs={}), lambda d_inputs: []


def _convert_outputs(
    model: Model, inputs_rows: Tuple[WindowBatch, Any], is_train: bool
) -> Tuple[Any, Callable[[Any], ArgsKwargs]]:
    _, rows = inputs_rows

    def backprop(d_rows: Any) -> ArgsKwargs:
        return ArgsKwargs(args=((rows,),), kwargs={"grad_tensors": (d_rows.to(rows.device),)})

    return rows, backprop


def _split_by_doc(model: Model) -> Model[List[Doc], List[TransformerData]]:
    return chain(model, split_trf_batch())


def _replaced_config(encoder: Dict[str, Any], listener: Dict[str, Any]) -> Dict[str, Any]:
    """The config of what `nlp.replace_listeners` puts in the place of a listener."""
    return {
        "@architectures": "spacy-crf-ner.Tok2VecTransformer.v1",
        "encoder": deepcopy(encoder),
        **{key: deepcopy(listener[key]) for key in ("pooling", "grad_factor") if key in listener},
    }
