"""Graphs in 8-bit integers: weights once, per channel, and activations as they come, by ONNX Runtime's tools."""

import logging
import re
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Iterator, List, Sequence

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic  # type: ignore[import-untyped]

KINDS = ("MatMul", "LSTM", "Gather")
"""The operations whose weights become integers: layers, recurrent layers and tables."""
_CPUINFO = Path("/proc/cpuinfo")
_EXACT = ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp")
"""What CPUs call instructions that add products of 8-bit integers without overflow."""


def saturates() -> bool:
    """Whether this CPU may overflow in products of 8-bit integers, so that weights must have 7 bits. One that says
    nothing of itself is taken for such."""
    try:
        return not any(name in _CPUINFO.read_text(encoding="utf8") for name in _EXACT)
    except OSError:
        return True


def quantize(graph: bytes, keep: Sequence[str] = ()) -> bytes:
    """Quantize a graph for this CPU.

    graph (bytes): The graph.
    keep (Sequence[str]): Regular expressions; nodes whose names one of them finds stay as they are.
    RETURNS (bytes): The graph in integers.
    """
    model = onnx.load_from_string(graph)
    kept = [node.name for node in model.graph.node if any(re.search(pattern, node.name) for pattern in keep)]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "quantized.onnx"
        with _silence():
            quantize_dynamic(
                model,
                path,
                op_types_to_quantize=list(KINDS),
                per_channel=True,
                reduce_range=saturates(),
                weight_type=QuantType.QInt8,
                nodes_to_exclude=kept,
                extra_options={"MatMulConstBOnly": True},
            )
        return path.read_bytes()


def layer_names(graph: bytes) -> List[str]:
    """The names of the nodes that `quantize` would change, for those who choose what to keep.

    graph (bytes): The graph.
    """
    model = onnx.load_from_string(graph)
    weights = {weight.name for weight in model.graph.initializer if weight.data_type == onnx.TensorProto.FLOAT}
    return [
        node.name for node in model.graph.node if node.op_type in KINDS and any(x in weights for x in node.input)
    ]


@contextmanager
def _silence() -> Iterator[None]:
    """The tool recommends another tool, through the root logger."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
