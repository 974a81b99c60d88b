"""The architecture `spacy-crf-ner.OnnxTagger.v1`: a `CRFTagger` whose head ONNX Runtime computes."""

from typing import Any, Callable, List, Tuple, cast

import numpy
from numpy.typing import NDArray
from spacy.errors import Errors
from spacy.tokens import Doc
from thinc.api import Model, chain
from thinc.types import Floats2d, Ragged

from spacy_crf_ner.deploy.graph import OnnxShim, refuse_training
from spacy_crf_ner.tagger.potentials import Potentials
from spacy_crf_ner.torch_utils.buckets import NUMPY, map_buckets

LSTM, OUTPUT = "lstm", "output"
"""The graphs of a head: what reads all of a sequence, and what looks at a window of it."""
CHUNK = 2
"""Windows of the attention that are computed at a time of a long sequence."""


def OnnxTagger(
    tok2vec: Model[List[Doc], List[Floats2d]], max_padded_tokens: int = 8192, n_threads: int = 1
) -> Model[List[Doc], Potentials]:
    """What `crf export` makes of a `spacy-crf-ner.CRFTagger.v1`. It predicts the same and does not learn.

    tok2vec (Model[List[Doc], List[Floats2d]]): Token vectors, *shape:* (n_tokens, width) per doc.
    max_padded_tokens (int): The most tokens that are padded together, which bounds memory.
    n_threads (int): Threads of ONNX Runtime. For many docs, processes are better: `nlp.pipe(n_process=...)`.
    RETURNS (Model[List[Doc], Potentials]): Refs "tok2vec" and "output_layer"; the attr "resize_output".
    """
    head: Model[List[Floats2d], Potentials] = Model(
        "onnx_crf_head",
        _forward,
        init=_init,
        attrs={"max_padded_tokens": max_padded_tokens},
        dims={"nI": None, "nO": None},
        shims=[OnnxShim(n_threads)],
    )
    model: Model[List[Doc], Potentials] = chain(tok2vec, head)
    model.set_ref("tok2vec", tok2vec)
    model.set_ref("output_layer", head)
    model.attrs["resize_output"] = _resize_output
    return model


def _init(model: Model, X: Any = None, Y: Any = None) -> None:
    refuse_training("spacy-crf-ner.OnnxTagger.v1")


def _resize_output(model: Model, new_nO: int) -> None:
    refuse_training("spacy-crf-ner.OnnxTagger.v1")


def _forward(
    model: Model[List[Floats2d], Potentials], X: List[Floats2d], is_train: bool
) -> Tuple[Potentials, Callable[[Potentials], List[Floats2d]]]:
    if is_train:
        refuse_training("spacy-crf-ner.OnnxTagger.v1")
    shim = cast(OnnxShim, model.shims[0])
    if not shim.graphs:
        raise ValueError(Errors.E109.format(name=model.name))
    ops = model.ops
    lengths = [len(x) for x in X]
    # shape: (n_tokens, width): all docs, one after the other
    rows = ops.to_numpy(ops.flatten(X))
    emissions = map_buckets(
        lambda x, mask: run_head(shim, x, mask), rows, lengths, model.attrs["max_padded_tokens"], NUMPY
    )
    sizes: Any = numpy.array(lengths, dtype="int32")
    crf: Any = [ops.asarray(shim.facts[name]) for name in ("start", "transitions", "end")]
    return Potentials(Ragged(ops.asarray(emissions), sizes), *crf), lambda d: []


def run_head(shim: OnnxShim, x: NDArray[Any], mask: NDArray[Any]) -> NDArray[Any]:
    """Compute the emissions of padded sequences. Memory grows linearly with their length.

    shim (OnnxShim): The head.
    x (NDArray): *Shape:* (seq_length, batch_size, width), float32.
    mask (NDArray): *Shape:* (seq_length, batch_size), bool.
    RETURNS (NDArray): *Shape:* (seq_length, batch_size, num_tags), float32; values at padding are arbitrary.
    """
    if LSTM in shim.graphs:
        x = shim.graphs[LSTM].run(x=x, lengths=mask.sum(axis=0).astype("int32"))
    output, window = shim.graphs[OUTPUT], shim.facts["attention_window"]
    length = len(x)
    if not window or length <= 2 * CHUNK * window:
        return output.run(x=x, mask=mask)
    parts = []
    for begin in range(0, length, CHUNK * window):
        first = max(begin - window, 0)
        # What tokens see: a window to either side of them.
        seen = slice(first, begin + CHUNK * window + window)
        found = output.run(x=x[seen], mask=mask[seen])
        parts.append(found[begin - first : begin - first + CHUNK * window])
    return numpy.concatenate(parts)
