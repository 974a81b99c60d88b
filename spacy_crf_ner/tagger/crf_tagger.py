"""The architecture `spacy-crf-ner.CRFTagger.v1`: any tok2vec -> torch head -> CRF potentials."""

from dataclasses import asdict, fields
from io import BytesIO
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple, cast

import numpy
import srsly
import torch
from spacy.tokens import Doc
from thinc.api import ArgsKwargs, Model, PyTorchGradScaler, PyTorchShim, chain, torch2xp, xp2torch
from thinc.layers.pytorchwrapper import forward
from thinc.types import Floats2d, Ragged
from thinc.util import get_torch_default_device, partial

from spacy_crf_ner.labels import BioTags
from spacy_crf_ner.messages import quote
from spacy_crf_ner.saved_state import AGAIN, SavedStateError, load_exactly, unpack
from spacy_crf_ner.tagger.head import HeadSpec, TaggerHead
from spacy_crf_ner.tagger.potentials import Potentials
from spacy_crf_ner.torch_utils.precision import Precision, half_dtype, require_gpu_for, scaler_settings
from spacy_crf_ner.torch_utils.torch_shim import TorchShim


def CRFTagger(
    tok2vec: Model[List[Doc], List[Floats2d]],
    lstm_width: int = 256,
    lstm_depth: int = 1,
    attention_heads: int = 4,
    attention_window: int = 128,
    max_padded_tokens: int = 8192,
    mixed_precision: Precision = False,
    grad_scaler_config: Optional[Dict[str, Any]] = None,
    drop_vectors: bool = False,
) -> Model[List[Doc], Potentials]:
    """Build a BiLSTM-attention-CRF tagger over token vectors.

    The head is built at `initialize`, when the width of the vectors is known, for as many BIO tags as the dim nO
    of the ref "output_layer" says.

    tok2vec (Model[List[Doc], List[Floats2d]]): Token vectors, *shape:* (n_tokens, width) per doc.
    lstm_width (int): Width of the BiLSTM's output, both directions together; must be even.
    lstm_depth (int): Layers of the BiLSTM; 0 leaves it out.
    attention_heads (int): Heads of the self-attention; 0 leaves it out. Must divide the width before it.
    attention_window (int): How many tokens to either side a token attends to.
    max_padded_tokens (int): The most tokens that are padded together, which bounds memory. The one size that may
        be another when a saved model is loaded: the others shaped its weights.
    mixed_precision (Precision): False, "bf16", or "fp16" (as True): run the head in half precision on a GPU; its
        last layer and the CRF never are. A loaded model runs in full precision on a CPU.
    grad_scaler_config (Optional[Dict]): Arguments of Thinc's `PyTorchGradScaler`, for "fp16".
    drop_vectors (bool): Whether training drops cells of the token vectors too, at its dropout rate. `CharEmbed`
        does so itself.
    RETURNS (Model[List[Doc], Potentials]): Refs "tok2vec" and "output_layer"; the attr "resize_output".
    RAISES (ValueError): `mixed_precision` is unknown. At `initialize`: the sizes do not fit together, or mixed
        precision on a CPU.
    """
    dtype = half_dtype(mixed_precision)
    settings = {
        "lstm_width": lstm_width,
        "lstm_depth": lstm_depth,
        "attention_heads": attention_heads,
        "attention_window": attention_window,
        "max_padded_tokens": max_padded_tokens,
    }
    head: Model[List[Floats2d], Potentials] = Model(
        "crf_head",
        forward,
        init=partial(
            _init,
            autocast_dtype=dtype,
            **settings,
        ),
        attrs={
            "convert_inputs": _convert_inputs,
            "convert_outputs": _convert_outputs,
            "dropout_rate": 0.0,
            "drop_vectors": drop_vectors,
        },
        dims={"nI": None, "nO": None},
        shims=[
            TorchShim(
                None,
                grad_scaler=PyTorchGradScaler(
                    **scaler_settings(dtype, get_torch_default_device(), grad_scaler_config)
                ),
                serialize_model=_serialize,
                deserialize_model=partial(_deserialize, settings, dtype),
            )
        ],
    )
    model: Model[List[Doc], Potentials] = chain(tok2vec, head)
    model.set_ref("tok2vec", tok2vec)
    model.set_ref("output_layer", head)
    model.attrs["resize_output"] = _resize_output
    return model


def _init(
    model: Model[List[Floats2d], Potentials],
    X: Optional[List[Floats2d]] = None,
    Y: Optional[Potentials] = None,
    *,
    autocast_dtype: Optional[torch.dtype],
    **shape: int,
) -> None:
    """Build the torch head for the width of `X` and the tags of the dim nO. It predicts O until it is trained."""
    device = get_torch_default_device()
    require_gpu_for(autocast_dtype, device)
    if X:
        model.set_dim("nI", X[0].shape[1])
    spec = HeadSpec(width=model.get_dim("nI"), n_types=BioTags.from_size(model.get_dim("nO")).n_labels, **shape)
    head = TaggerHead(spec, autocast_dtype)
    head.favour_outside()
    model.shims[0]._model = head.to(device)


def _resize_output(model: Model[List[Doc], Potentials], new_nO: int) -> None:
    """Grow the head to more tags; the scores of the old ones stay what they are.

    The head gets a new shim, and so a new id: the optimizer's averages of the old shapes do not fit it.
    """
    head = model.get_ref("output_layer")
    if head.has_dim("nO") and new_nO < head.get_dim("nO"):
        raise ValueError(f"the model has {head.get_dim('nO')} tags and cannot shrink to {new_nO}")
    old = cast(PyTorchShim, head.shims[0])
    if old._model is not None:
        head.shims[0] = TorchShim(
            old._model.grown(BioTags.from_size(new_nO).n_labels),
            grad_scaler=old._grad_scaler,
            serialize_model=old._serialize_model,
            deserialize_model=old._deserialize_model,
        )
    for node in (head, model):
        node.set_dim("nO", new_nO, force=True)


def _convert_inputs(
    model: Model[List[Floats2d], Potentials], X: List[Floats2d], is_train: bool
) -> Tuple[ArgsKwargs, Callable[[ArgsKwargs], List[Floats2d]]]:
    shim = cast(PyTorchShim, model.shims[0])
    lengths: Any = [len(x) for x in X]
    rate = model.attrs["dropout_rate"] if is_train else 0.0
    if is_train:
        shim._model.set_dropout(rate)
    # shape: (n_tokens, width): all docs, one after the other
    flat: Any = model.ops.flatten(X)
    mask: Any = model.ops.get_dropout_mask(flat.shape, rate) if rate and model.attrs["drop_vectors"] else None
    vectors = xp2torch(flat if mask is None else flat * mask, requires_grad=is_train, device=shim.device)

    def backprop(d_inputs: ArgsKwargs) -> List[Floats2d]:
        # shape: (n_tokens, width) -> (n_tokens of the doc, width) each
        gradient: Any = torch2xp(d_inputs.args[0])
        return model.ops.unflatten(gradient if mask is None else gradient * mask, lengths)

    return ArgsKwargs(args=(vectors, lengths), kwargs={}), backprop


def _convert_outputs(
    model: Model[List[Floats2d], Potentials], X_outputs: Tuple[List[Floats2d], Tuple], is_train: bool
) -> Tuple[Potentials, Callable[[Potentials], ArgsKwargs]]:
    X, outputs = X_outputs
    device = cast(PyTorchShim, model.shims[0]).device
    # shape: (n_tokens, n_tags), (n_tags,), (n_tags, n_tags), (n_tags,)
    emissions, start, transitions, end = (torch2xp(output.detach()) for output in outputs)
    lengths = numpy.array([len(x) for x in X], dtype="int32")

    def backprop(d: Potentials) -> ArgsKwargs:
        gradients = tuple(xp2torch(x, device=device) for x in d.arrays)
        return ArgsKwargs(args=(outputs,), kwargs={"grad_tensors": gradients})

    return Potentials(Ragged(emissions, lengths), start, transitions, end), backprop  # type: ignore


def _serialize(head: Optional[TaggerHead]) -> bytes:
    """Spec and weights, so that loading needs nothing else; nothing for a head that is not built yet."""
    if head is None:
        return b""
    state = BytesIO()
    torch.save(head.state_dict(), state)
    return srsly.msgpack_dumps({"spec": asdict(head.spec), "state": state.getvalue()})


def _deserialize(
    settings: Dict[str, int],
    autocast_dtype: Optional[torch.dtype],
    _: Optional[TaggerHead],
    data: bytes,
    device: torch.device,
) -> Optional[TaggerHead]:
    """Build the head anew.

    settings (Dict[str, int]): Those of the architecture. The saved ones must be the same, but for
        `max_padded_tokens`.
    """
    if not data:
        return None
    saved = unpack(data, "the saved head")
    spec = _saved_spec(saved)
    if differing := [name for name in _in_force(spec, settings) if spec[name] != settings[name]]:
        theirs, ours = (", ".join(f"{name} = {x[name]}" for name in differing) for x in (spec, settings))
        raise SavedStateError(
            f"the config of spacy-crf-ner.CRFTagger.v1 says {ours}, but the saved weights are of {theirs}; set "
            f"{theirs} in config.cfg, or train anew"
        )
    spec["max_padded_tokens"] = settings["max_padded_tokens"]
    head = TaggerHead(HeadSpec(**spec), autocast_dtype)
    try:
        state = torch.load(BytesIO(saved["state"]), map_location="cpu", weights_only=True)
    except Exception as error:  # of any kind, as the bytes are; what is not a tensor is never unpickled
        what = f"the weights of the saved head are damaged, or more than numbers ({type(error).__name__})"
        raise SavedStateError(f"{what}; {AGAIN}") from error
    if not isinstance(state, dict) or not all(isinstance(x, torch.Tensor) for x in state.values()):
        raise SavedStateError(f"the saved head has no weights, got {quote(state)}; {AGAIN}")
    load_exactly(head, state)
    return head.to(device)


def _saved_spec(saved: Any) -> Dict[str, int]:
    names = {field.name for field in fields(HeadSpec)}
    spec = saved.get("spec") if isinstance(saved, dict) else None
    if not isinstance(spec, dict) or spec.keys() != names or "state" not in saved:
        raise SavedStateError(f"the saved head is not one of spacy-crf-ner.CRFTagger.v1; {AGAIN}")
    for name, value in spec.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise SavedStateError(f"{name} of the saved head must be a number from 0, got {quote(value)}; {AGAIN}")
    return spec


def _in_force(*settings: Mapping[str, int]) -> List[str]:
    """The settings that decide what a head computes: those of a stage that all of them leave out do not."""
    depends = {"lstm_width": "lstm_depth", "attention_window": "attention_heads"}
    names = ("lstm_width", "lstm_depth", "attention_heads", "attention_window")
    return [name for name in names if any(x[depends.get(name, name)] for x in settings)]
