"""The torch head as ONNX graphs, written node by node: LSTM with lengths, windowed attention, Linear.

ONNX's LSTM reads a sequence backwards from its own end, which torch's has no argument for; and so nothing is
reversed here. The attention's band of scores is right for any length, and `run_head` keeps lengths small.
"""

from math import sqrt
from typing import Any, Dict, List, Optional, Sequence

import numpy
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from spacy_crf_ner.deploy.onnx_tagger import LSTM, OUTPUT
from spacy_crf_ner.tagger.bilstm_attention import BiLSTM, BiLSTMAttention, WindowedSelfAttention

IR_VERSION = 9
"""Of the file format; that of opset 20."""
_FAR = float(numpy.finfo("float32").min)


class _Builder:
    """Nodes and weights of a graph, as they are added."""

    def __init__(self) -> None:
        self.nodes: List[Any] = []
        self.weights: List[Any] = []

    def weight(self, name: str, value: Any) -> str:
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else numpy.asarray(value)
        self.weights.append(numpy_helper.from_array(numpy.array(array, order="C"), name))
        return name

    def add(self, kind: str, inputs: Sequence[str], output: str, **settings: Any) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **settings))
        return output

    def linear(self, x: str, layer: nn.Linear, name: str) -> str:
        product = self.add("MatMul", [x, self.weight(f"{name}.weight", layer.weight.t())], f"{name}.product")
        return self.add("Add", [product, self.weight(f"{name}.bias", layer.bias)], f"{name}.sum")

    def reshape(self, x: str, shape: Sequence[int], name: str) -> str:
        """0 keeps a size."""
        return self.add("Reshape", [x, self.weight(f"{name}.shape", numpy.array(shape, dtype="int64"))], name)

    def to_bytes(self, inputs: Dict[str, Any], output: str, n_out: int, opset: int) -> bytes:
        """inputs: for each the type and the shape. The output: (length, batch, n_out)."""
        made = helper.make_graph(
            [*self.nodes, helper.make_node("Identity", [output], ["y"])],
            "head",
            [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["length", "batch", n_out])],
            self.weights,
        )
        opsets = [helper.make_opsetid("", opset)]
        return helper.make_model(made, opset_imports=opsets, ir_version=IR_VERSION).SerializeToString()


def head_graphs(head: BiLSTMAttention, width: int, *, opset: int) -> Dict[str, bytes]:
    """Write a head as graphs.

    head (BiLSTMAttention): The head.
    width (int): Width of the token vectors.
    opset (int): ONNX's version, at least 17.
    RETURNS (Dict[str, bytes]): "output", and "lstm" if there is one. Inputs are "x", *shape:* (seq_length,
        batch_size, width), float32; "lengths", *shape:* (batch_size,), int32; "mask", *shape:* (seq_length,
        batch_size), bool. The output is "y", *shape:* (seq_length, batch_size, new_width), float32.
    """
    graphs = {}
    if head.lstm is not None:
        graphs[LSTM] = _lstm_graph(head.lstm, width, opset)
        width = 2 * head.lstm.hidden
    graphs[OUTPUT] = _output_graph(head.attention, head.output, width, opset)
    return graphs


def _lstm_graph(lstm: BiLSTM, width: int, opset: int) -> bytes:
    graph = _Builder()
    x = "x"
    hidden = lstm.hidden
    for i, pair in enumerate(zip(lstm.ahead, lstm.back)):
        weights = [
            graph.weight(f"lstm{i}.{name}", numpy.stack(values))
            for name, values in {
                "W": [_gates(layer.weight_ih_l0) for layer in pair],
                "R": [_gates(layer.weight_hh_l0) for layer in pair],
                "B": [numpy.concatenate([_gates(layer.bias_ih_l0), _gates(layer.bias_hh_l0)]) for layer in pair],
            }.items()
        ]
        # shape: (length, 2, batch, hidden) -> (length, batch, 2 * hidden)
        both = graph.add(
            "LSTM", [x, *weights, "lengths"], f"lstm{i}", hidden_size=hidden, direction="bidirectional"
        )
        x = graph.reshape(
            graph.add("Transpose", [both], f"lstm{i}.turned", perm=[0, 2, 1, 3]), [0, 0, 2 * hidden], f"lstm{i}.y"
        )
    inputs = {
        "x": (TensorProto.FLOAT, ["length", "batch", width]),
        "lengths": (TensorProto.INT32, ["batch"]),
    }
    return graph.to_bytes(inputs, x, 2 * hidden, opset)


def _gates(weight: Any) -> NDArray[Any]:
    """torch's gates are input, forget, cell, output; ONNX's are input, output, forget, cell."""
    i, f, c, o = numpy.split(weight.detach().cpu().numpy(), 4)
    return numpy.concatenate([i, o, f, c])


def _output_graph(attention: Optional[WindowedSelfAttention], output: nn.Linear, width: int, opset: int) -> bytes:
    graph = _Builder()
    inputs: Dict[str, Any] = {"x": (TensorProto.FLOAT, ["length", "batch", width])}
    x = "x"
    if attention is not None:
        inputs["mask"] = (TensorProto.BOOL, ["length", "batch"])
        x = _attend(graph, x, attention, width)
    return graph.to_bytes(inputs, graph.linear(x, output, "output"), output.out_features, opset)


def _attend(graph: _Builder, x: str, attention: WindowedSelfAttention, width: int) -> str:
    each = width // attention.heads
    # Batch first: ONNX Runtime fuses products of what is turned from (length, batch, ...) wrongly.
    x = graph.add("Transpose", [x], "x.turned", perm=[1, 0, 2])
    # shape: (batch, length, 3 * width) -> (batch, length, 3, heads, each) -> 3 times (batch, heads, length, each)
    projected = graph.reshape(
        graph.linear(x, attention.project, "project"), [0, 0, 3, attention.heads, each], "split"
    )
    parts = []
    for i, (name, perm) in enumerate({"query": [0, 2, 1, 3], "key": [0, 2, 3, 1], "value": [0, 2, 1, 3]}.items()):
        index = graph.weight(f"{name}.index", numpy.array(i, dtype="int64"))
        part = graph.add("Gather", [projected, index], f"{name}.part", axis=2)
        parts.append(graph.add("Transpose", [part], name, perm=perm))
    query, key, value = parts
    scale = graph.weight("scale", numpy.array(1 / sqrt(each), dtype="float32"))
    # The query is the smallest of what could be scaled.
    scaled = graph.add("Mul", [query, scale], "scaled")
    # shape: (batch, heads, length, length)
    scores = graph.add("Add", [graph.add("MatMul", [scaled, key], "products"), _bias(graph, attention)], "scores")
    weights = graph.add("Softmax", [scores], "weights", axis=-1)
    attended = graph.add("MatMul", [weights, value], "attended")
    turned = graph.add("Transpose", [attended], "turned", perm=[0, 2, 1, 3])
    merged = graph.linear(graph.reshape(turned, [0, 0, width], "joined"), attention.merge, "merge")
    norm = [graph.weight("norm.weight", attention.norm.weight), graph.weight("norm.bias", attention.norm.bias)]
    added = graph.add("Add", [x, merged], "residual")
    normal = graph.add("LayerNormalization", [added, *norm], "norm", axis=-1, epsilon=attention.norm.eps)
    return graph.add("Transpose", [normal], "norm.turned", perm=[1, 0, 2])


def _bias(graph: _Builder, attention: WindowedSelfAttention) -> str:
    """0 where a query sees a key, and a very low score elsewhere. *Shape:* (batch, 1, length, length)."""
    zero = graph.weight("zero", numpy.array(0, dtype="int64"))
    one = graph.weight("one", numpy.array(1, dtype="int64"))
    shape = graph.add("Shape", ["mask"], "mask.shape")
    places = graph.add("Range", [zero, graph.add("Gather", [shape, zero], "length"), one], "places")
    column = graph.add("Unsqueeze", [places, graph.weight("columns", numpy.array([1], dtype="int64"))], "column")
    distance = graph.add("Abs", [graph.add("Sub", [column, places], "steps")], "distance")
    near = graph.add(
        "LessOrEqual",
        [distance, graph.weight("window", numpy.array(attention.window, dtype="int64"))],
        "near",
    )
    real = graph.add(
        "Unsqueeze",
        [
            graph.add("Transpose", ["mask"], "mask.turned", perm=[1, 0]),
            graph.weight("middle", numpy.array([1, 2], dtype="int64")),
        ],
        "real",
    )
    values = [
        graph.weight("seen", numpy.array(0.0, dtype="float32")),
        graph.weight("unseen", numpy.array(_FAR, dtype="float32")),
    ]
    return graph.add("Where", [graph.add("And", [near, real], "sees"), *values], "bias")
