"""A layer for the pretrained vectors of the two bigrams that a token is part of."""

from functools import lru_cache
from itertools import pairwise
from typing import Any, Callable, List, Optional, Tuple

import numpy
from spacy.strings import get_string_id
from spacy.tokens import Doc
from spacy.vectors import Mode as VectorsMode
from thinc.api import Model, Ops, glorot_uniform_init
from thinc.types import Floats2d, Ragged


def bigram_vectors(width: int) -> Model[List[Doc], Ragged]:
    """A layer that looks up both bigrams of each token among the vectors of the vocabulary, and projects them.

    A bigram's key is the text of its two tokens, "北京", as in the files that are published. The first token has
    no left bigram and the last no right one; those, and bigrams without a vector, count as zeros.

    width (int): Width of the projection.
    RETURNS (Model[List[Doc], Ragged]): *Shape:* (n_tokens, width) of all docs.
    """
    return Model("bigram_vectors", _forward, init=_init, params={"W": None}, dims={"nO": width, "nM": None})


def _init(model: Model[List[Doc], Ragged], X: Optional[List[Doc]] = None, Y: Optional[Ragged] = None) -> None:
    if X:
        if X[0].vocab.vectors.mode != VectorsMode.default:
            raise ValueError(
                "include_bigram_vectors = true needs a vector per bigram, but the pipeline's are floret vectors; "
                "take vectors of `crf init-vectors`, or leave it false"
            )
        model.set_dim("nM", X[0].vocab.vectors_length)
    shape = (model.get_dim("nO"), 2 * model.get_dim("nM"))
    model.set_param("W", glorot_uniform_init(model.ops, shape))


def _forward(
    model: Model[List[Doc], Ragged], docs: List[Doc], is_train: bool
) -> Tuple[Ragged, Callable[[Ragged], List[Doc]]]:
    ops: Ops = model.ops
    lengths = ops.asarray1i([len(doc) for doc in docs])
    W: Any = model.get_param("W")
    if not any(len(doc) for doc in docs):
        return Ragged(ops.alloc2f(0, model.get_dim("nO")), lengths), lambda d_output: []
    vectors = _looked_up(ops, docs)
    output = ops.gemm(vectors, W, trans2=True)

    def backprop(d_output: Ragged) -> List[Doc]:
        model.inc_grad("W", ops.gemm(d_output.dataXd, vectors, trans1=True))  # type: ignore[arg-type]
        return []

    return Ragged(output, lengths), backprop


def _looked_up(ops: Ops, docs: List[Doc]) -> Floats2d:
    """*Shape:* (n_tokens, 2 * width of the vectors): left bigram, right bigram."""
    table = docs[0].vocab.vectors
    # The bigram between each two tokens, and none before a doc's first and after its last.
    keys, left, n_keys = [numpy.zeros(0, dtype="uint64")], [], 0
    for doc in docs:
        texts = [token.text for token in doc]
        inner = [bigram_key(first, second) for first, second in pairwise(texts)]
        keys.append(numpy.array([0, *inner, 0], dtype="uint64"))
        left.append(numpy.arange(n_keys, n_keys + len(texts)))
        n_keys += len(inner) + 2
    rows: Any = numpy.asarray(ops.to_numpy(table.find(keys=numpy.concatenate(keys))))
    known: Any = (rows >= 0).astype("float32")
    data: Any = table.data
    known_rows: Any = numpy.maximum(rows, 0)
    found = data[ops.asarray(known_rows)] * ops.asarray(known[:, None])
    places: Any = ops.asarray(numpy.concatenate(left))  # type: ignore[arg-type]
    return ops.xp.hstack((found[places], found[places + 1]))


@lru_cache(maxsize=2**18)
def bigram_key(first: str, second: str) -> int:
    """The key of a bigram among vectors.

    first, second (str): The texts of its tokens.
    RETURNS (int): What spaCy's string store would call their text.
    """
    return get_string_id(first + second)
