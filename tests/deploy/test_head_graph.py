"""The head as ONNX graphs: the same emissions as torch's, for any lengths, and with bounded memory."""

import itertools
from typing import Any, List

import numpy
import pytest
import torch

from spacy_crf_ner.deploy.graph import OnnxShim
from spacy_crf_ner.deploy.head_graph import head_graphs
from spacy_crf_ner.deploy.onnx_tagger import CHUNK, OUTPUT, run_head
from spacy_crf_ner.tagger.bilstm_attention import BiLSTMAttention

WIDTH, N_TAGS = 12, 5


def head_of(depth: int, heads: int, window: int) -> BiLSTMAttention:
    torch.manual_seed(0)
    settings = {"lstm_depth": depth, "attention_heads": heads, "attention_window": window}
    return BiLSTMAttention(WIDTH, N_TAGS, lstm_width=8, **settings).eval()


def shim_of(head: BiLSTMAttention) -> OnnxShim:
    shim = OnnxShim()
    window = head.attention.window if head.attention is not None else 0
    shim.set(head_graphs(head, WIDTH, opset=20), {"attention_window": window})
    return shim


def batch_of(lengths: List[int]) -> Any:
    """Vectors and mask, time-major; what is padding is no zero, so that a leak is seen."""
    x = torch.randn(max(lengths), len(lengths), WIDTH, generator=torch.Generator().manual_seed(sum(lengths)))
    return x, torch.arange(max(lengths))[:, None] < torch.tensor(lengths)[None]


@pytest.mark.parametrize("depth, heads, window", [*itertools.product((0, 1, 2), (0, 4), (3, 50))])
@pytest.mark.parametrize("lengths", [[1], [7], [1, 9, 4], [12, 12], [13, 2], [40, 39, 1], [100, 3]])
def test_the_graphs_compute_what_torch_does(depth: int, heads: int, window: int, lengths: List[int]) -> None:
    head = head_of(depth, heads, window)
    x, mask = batch_of(lengths)
    with torch.no_grad():
        expected = head(x, mask).numpy()
    found = run_head(shim_of(head), x.numpy(), mask.numpy())
    assert found.shape == expected.shape and found.dtype == numpy.float32
    numpy.testing.assert_allclose(found[mask.numpy()], expected[mask.numpy()], atol=1e-5)


def test_of_a_long_sequence_only_a_part_is_compared_at_a_time() -> None:
    window = 3
    shim = shim_of(head_of(1, 4, window))
    graph = shim.graphs[OUTPUT]
    run, seen = graph.run, []

    def watched(**inputs: Any) -> Any:
        seen.append(len(inputs["x"]))
        return run(**inputs)

    graph.run = watched  # type: ignore[method-assign]
    x, mask = batch_of([1000])
    assert len(run_head(shim, x.numpy(), mask.numpy())) == 1000
    assert max(seen) == (CHUNK + 2) * window and len(seen) == 1000 // (CHUNK * window) + 1
