"""The architecture `spacy-crf-ner.OnnxEncoder.v1`: an encoder that ONNX Runtime computes, as a `tok2vec`."""

from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, cast

import numpy
from spacy.errors import Errors
from spacy.tokens import Doc
from thinc.api import Model, Ops
from thinc.types import Floats2d, Ragged
from tokenizers import Tokenizer

from spacy_crf_ner.deploy.graph import OnnxShim, refuse_training
from spacy_crf_ner.encoder.piece_tokenizer import PieceTokenizer
from spacy_crf_ner.encoder.token_pieces import TokenPieces
from spacy_crf_ner.encoder.windows import encode
from spacy_crf_ner.encoder.wordpieces import DocPieces, Windowing, choose_windowing, split
from spacy_crf_ner.saved_state import AGAIN, SavedStateError
from spacy_crf_ner.torch_utils.buckets import NUMPY

ENCODER = "encoder"
"""The graph of an encoder."""


class OnnxEncoderShim(OnnxShim):
    """An encoder's graph, its tokenizer, and how texts become windows."""

    def __init__(self, n_threads: int = 1) -> None:
        super().__init__(n_threads)
        self.pieces: Optional[PieceTokenizer] = None
        self.windowing: Optional[Windowing] = None
        self.token_pieces: Optional[TokenPieces] = None

    def set(self, graphs: Dict[str, bytes], facts: Dict[str, Any]) -> None:
        """Take over a graph, and the facts of `encoder_facts`.

        RAISES (SavedStateError): The tokenizer is damaged.
        """
        try:
            tokenizer = Tokenizer.from_str(facts["tokenizer"])
            pieces = PieceTokenizer(
                tokenizer, takes_types=facts["takes_types"], splits_special=facts["splits_special"]
            )
            windowing = choose_windowing(pieces, None, facts["window"], facts["stride"])
        except Exception as error:  # of the tokenizers' own kinds too
            what = f"the saved tokenizer is damaged ({type(error).__name__})"
            raise SavedStateError(f"{what}; {AGAIN}") from error
        super().set(graphs, facts)
        self.pieces, self.windowing = pieces, windowing
        self.token_pieces = TokenPieces(pieces) if facts["split_tokens"] else None


def OnnxEncoder(
    pooling: Model[Ragged, Floats2d], max_padded_tokens: int = 8192, n_threads: int = 1
) -> Model[List[Doc], List[Floats2d]]:
    """What `crf export` makes of a `spacy-crf-ner.Transformer.v1`: token vectors, for a `tok2vec` pipe or for one
    component alone. It computes the same and does not learn.

    pooling (Model[Ragged, Floats2d]): Makes one vector of a token's word-pieces, such as `reduce_mean.v1`.
    max_padded_tokens (int): The most word-pieces of one pass, padding counted: bounds memory.
    n_threads (int): Threads of ONNX Runtime. For many docs, processes are better: `nlp.pipe(n_process=...)`.
    RETURNS (Model[List[Doc], List[Floats2d]]): Token vectors, *shape:* (n_tokens, width) per doc.
    """
    return Model(
        "onnx_encoder",
        _forward,
        init=_init,
        layers=[pooling],
        attrs={"max_padded_tokens": max_padded_tokens},
        dims={"nO": None},
        shims=[OnnxEncoderShim(n_threads)],
    )


def encoder_facts(
    pieces: PieceTokenizer, windowing: Windowing, *, pad_id: int, split_tokens: bool
) -> Dict[str, Any]:
    """What an exported encoder must know beside its graph.

    pieces (PieceTokenizer): The tokenizer.
    windowing (Windowing): The windows.
    pad_id (int): The word-piece that fills up.
    split_tokens (bool): Whether no word-piece may run over two tokens.
    """
    return {
        "tokenizer": pieces.tokenizer.to_str(),
        "takes_types": pieces.takes_types,
        "splits_special": pieces.splits_special,
        "window": windowing.window,
        "stride": windowing.stride,
        "pad_id": pad_id,
        "split_tokens": split_tokens,
    }


def _init(model: Model, X: Any = None, Y: Any = None) -> None:
    refuse_training("spacy-crf-ner.OnnxEncoder.v1")


def _forward(
    model: Model[List[Doc], List[Floats2d]], docs: List[Doc], is_train: bool
) -> Tuple[List[Floats2d], Callable[[List[Floats2d]], List[Doc]]]:
    if is_train:
        refuse_training("spacy-crf-ner.OnnxEncoder.v1")
    shim = cast(OnnxEncoderShim, model.shims[0])
    if shim.pieces is None or shim.windowing is None:
        raise ValueError(Errors.E109.format(name=model.name))
    docs = list(docs)
    windows, found = split(shim.pieces, docs, shim.windowing, shim.token_pieces)
    if not windows.input_ids:
        return [model.ops.alloc2f(0, model.get_dim("nO")) for _ in docs], lambda d_output: docs
    rows = encode(
        lambda inputs: shim.graphs[ENCODER].run(**inputs),
        windows,
        NUMPY,
        pad_id=shim.facts["pad_id"],
        max_padded_tokens=model.attrs["max_padded_tokens"],
    )
    pooling: Model[Ragged, Floats2d] = model.layers[0]
    pooled: Any = pooling.predict(_by_token(found, rows, model.ops))
    lengths = model.ops.asarray1i([len(doc) for doc in docs])
    return cast(Any, model.ops.unflatten(pooled, lengths)), lambda d_output: docs


def _by_token(pieces: Sequence[Optional[DocPieces]], rows: Any, ops: Ops) -> Ragged:
    """The word-pieces' vectors, those of each token together.

    pieces (Sequence[Optional[DocPieces]]): Of each doc.
    rows (ndarray): *Shape:* (n_wordpieces of all docs, width).
    ops (Ops): Whose arrays are returned.
    RETURNS (Ragged): One length per token.
    """
    places: List[Any] = []
    lengths: List[Any] = []
    begin = 0
    for piece in pieces:
        if piece is not None:
            places.append(piece.align.dataXd + begin)
            lengths.append(piece.align.lengths)
            begin += len(piece.ids)
    return Ragged(
        ops.asarray(rows[numpy.concatenate(places)]), ops.asarray1i(cast(Any, numpy.concatenate(lengths)))
    )
