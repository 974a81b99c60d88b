"""An encoder as an ONNX graph, by torch's exporter."""

import logging
import warnings
from ast import literal_eval
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Optional, Sequence

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spacy_crf_ner.deploy.graph import OnnxGraph
from spacy_crf_ner.encoder.windowed_encoder import WindowedEncoder, last_layers
from spacy_crf_ner.messages import one_line

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_SCOPES = "pkg.torch.onnx.name_scopes"
TOLERANCE = 1e-3
"""How far the graph's vectors may be from torch's when it is written; the potentials are held to less."""


class _Flat(nn.Module):
    """An encoder that takes its inputs one by one."""

    def __init__(self, encoder: WindowedEncoder) -> None:
        super().__init__()
        self.transformer = encoder.transformer
        self.averaged_layers = encoder.averaged_layers

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Optional[Tensor] = None
    ) -> Tensor:
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        return last_layers(self.transformer, inputs, self.averaged_layers)


def encoder_graph(encoder: WindowedEncoder, *, takes_types: bool, window: int, opset: int) -> bytes:
    """Write an encoder as a graph, and look whether it computes the same.

    encoder (WindowedEncoder): The encoder, in evaluation, on the CPU, without adapters.
    takes_types (bool): Whether it takes `token_type_ids`.
    window (int): The most word-pieces of a window.
    opset (int): ONNX's version.
    RETURNS (bytes): The graph. Its inputs are those of `INPUTS`, *shape:* (batch_size, seq_length), int64; its
        output is "y", *shape:* (batch_size, seq_length, width), float32.
    RAISES (ValueError): The exporter does not know a part of the encoder, or the graph computes something else.
    """
    names = INPUTS if takes_types else INPUTS[:2]
    module = _Flat(encoder).eval()
    any_shape = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    try:
        with torch.no_grad(), _silence():
            program = torch.onnx.export(
                module,
                tuple(_inputs(encoder, names, [min(window, 7), min(window, 5)])),
                dynamo=True,
                opset_version=opset,
                input_names=list(names),
                output_names=["y"],
                dynamic_shapes=(any_shape,) * len(names),
                verbose=False,
            )
        data = _named(program.model_proto).SerializeToString()  # type: ignore[union-attr]
    except Exception as error:  # of many kinds, as encoders are
        raise ValueError(f"the encoder cannot be written as an ONNX graph ({one_line(error)})") from error
    graph = OnnxGraph(data)
    for lengths in ([1], [2, 1, 1], [window], [window, window // 2]):
        inputs = _inputs(encoder, names, lengths)
        with torch.no_grad():
            expected = module(*inputs).numpy()
        found = graph.run(**{name: x.numpy() for name, x in zip(names, inputs)})
        distance = _distance(expected, found, lengths)
        if not distance <= TOLERANCE:
            raise ValueError(
                f"the encoder's ONNX graph computes vectors that differ by {distance:.2g} from torch's, for "
                f"windows of {lengths} word-pieces"
            )
    return data


def _named(model: Any) -> Any:
    """Name each node after its layer, as ``encoder.layer.0.attention.self.query/MatMul_12``."""
    for i, node in enumerate(model.graph.node):
        notes = {note.key: note.value for note in node.metadata_props}
        scopes = literal_eval(notes.get(_SCOPES, "[]"))
        # The last one is the operation's own.
        layer = next((scope for scope in reversed(scopes[:-1]) if scope), "transformer")
        node.name = f"{layer.removeprefix('transformer.')}/{node.op_type}_{i}"
        del node.metadata_props[:]
    return model


def _inputs(encoder: WindowedEncoder, names: Sequence[str], lengths: Sequence[int]) -> List[Tensor]:
    """Windows of some lengths, of the first word-pieces that are no special tokens."""
    longest = max(lengths)
    n_pieces = encoder.transformer.get_input_embeddings().num_embeddings
    mask = (torch.arange(longest) < torch.tensor(lengths)[:, None]).long()
    ids = (torch.arange(len(lengths) * longest).view(len(lengths), longest) % n_pieces) * mask
    made: Dict[str, Tensor] = {
        "input_ids": torch.where(mask.bool(), ids, encoder.pad_id),
        "attention_mask": mask,
        "token_type_ids": torch.zeros_like(mask),
    }
    return [made[name] for name in names]


def _distance(expected: NDArray[Any], found: NDArray[Any], lengths: Sequence[int]) -> float:
    return float(numpy.max([numpy.abs(a[:n] - b[:n]).max() for a, b, n in zip(expected, found, lengths)]))


@contextmanager
def _silence() -> Iterator[None]:
    """The exporter warns of parts that are its own business."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
