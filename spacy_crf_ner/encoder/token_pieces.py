"""Word-pieces of which none runs over two tokens.

SentencePiece and byte-level BPE know no words where a language writes no spaces: 北京大学 may be one piece. A
piece over several tokens gives them one vector, and an entity that begins or ends inside it can hardly be found.
Here such a piece is cut where a token begins, and its parts are encoded for themselves.
"""

import json
from functools import lru_cache
from itertools import pairwise
from typing import Any, List, Sequence, Tuple

import numpy
from spacy.tokens import Doc
from tokenizers import Tokenizer

from spacy_crf_ner.encoder.piece_tokenizer import Pieces, PieceTokenizer

METASPACE, BYTE_LEVEL = "Metaspace", "ByteLevel"
"""What the tokenizers' pre-tokenizers are called whose pieces may run over words."""

_MARKS = {"▁": METASPACE, "Ġ": BYTE_LEVEL}
"""What a piece begins with that follows a space."""


def runs_over_words(tokenizer: PieceTokenizer) -> bool:
    """Whether a tokenizer makes pieces over several words where no space is between them.

    tokenizer (PieceTokenizer): The tokenizer. Only its pre-tokenizer is looked at: the whole of one with a large
        vocabulary takes a second to write out.
    """
    pre_tokenizer = tokenizer.tokenizer.pre_tokenizer
    state = json.loads(pre_tokenizer.__getstate__()) if pre_tokenizer is not None else None
    return any(part["type"] in (METASPACE, BYTE_LEVEL) for part in _parts(state))


class TokenPieces:
    """Encodes docs without special tokens, no piece over two tokens.

    tokenizer (PieceTokenizer): The encoder's tokenizer.
    """

    def __init__(self, tokenizer: PieceTokenizer) -> None:
        self._tokenizer = tokenizer
        state = json.loads(tokenizer.tokenizer.to_str())
        state |= {"truncation": None, "padding": None, "post_processor": None}
        for part in _parts(state["pre_tokenizer"]):
            if part["type"] == METASPACE:
                part["prepend_scheme"] = "never"
            elif part["type"] == BYTE_LEVEL:
                part["add_prefix_space"] = False
        self._inner = Tokenizer.from_str(json.dumps(state))
        self._inner.encode_special_tokens = tokenizer.splits_special
        # Parts are mostly single characters, which come again and again.
        self._part = lru_cache(maxsize=2**16)(self._encode_part)

    def __reduce__(self) -> Any:
        # What it remembers cannot be pickled, and need not be.
        return TokenPieces, (self._tokenizer,)

    def __call__(self, docs: Sequence[Doc]) -> List[Pieces]:
        """Encode docs.

        docs (Sequence[Doc]): The docs.
        RETURNS (List[Pieces]): The word-pieces of each.
        """
        return [self._cut(doc, pieces) for doc, pieces in zip(docs, self._tokenizer(docs))]

    def _cut(self, doc: Doc, pieces: Pieces) -> Pieces:
        """Cut the pieces that run over several tokens."""
        text = doc.text
        n_before = numpy.zeros(len(text) + 1, dtype="int64")
        n_before[[token.idx for token in doc]] = 1
        # How many tokens begin up to each character. shape: (n_characters + 1,)
        n_before = n_before.cumsum()
        # shape: (n_pieces,)
        starts, ends = numpy.array(pieces.offsets, dtype="int64").reshape(-1, 2).T
        n_inner = n_before[numpy.maximum(ends - 1, starts)] - n_before[starts]
        made = Pieces([], [], [])
        done = 0
        for i in numpy.flatnonzero(n_inner).tolist():
            if i < done:
                continue
            first, last = _unit(pieces.offsets, i, done)
            made.add(pieces.cut(done, first))
            start, end = pieces.offsets[first][0], max(end for _, end in pieces.offsets[first:last])
            begins = (numpy.flatnonzero(numpy.diff(n_before[start:end])) + start + 1).tolist()
            for a, b in pairwise([start, *begins, end]):
                mark = pieces.tokens[first][:1] if a == start else ""
                part = self._part(text[a:b], _MARKS.get(mark, ""))
                made.add(part._replace(offsets=[(x + a, y + a) for x, y in part.offsets]))
            done = last
        made.add(pieces.cut(done, len(pieces.ids)))
        return made

    def _encode_part(self, text: str, marked: str) -> Pieces:
        """Encode a part of a text for itself, as it is inside a word or, if it is marked, as after a space.

        marked (str): `METASPACE` or `BYTE_LEVEL`, whose marks differ, or "" for a part without one.
        """
        if marked == METASPACE:
            return self._tokenizer.encode([text])[0]
        if marked == BYTE_LEVEL:
            encoding = self._inner.encode(f" {text}", add_special_tokens=False)
        else:
            encoding = self._inner.encode(text, add_special_tokens=False)
        shift = marked == BYTE_LEVEL
        offsets = [(max(start - shift, 0), end - shift) for start, end in encoding.offsets]
        return Pieces(encoding.tokens, encoding.ids, offsets)


def _unit(offsets: Sequence[Tuple[int, int]], i: int, least: int) -> Tuple[int, int]:
    """The pieces that share characters with piece i, as the bytes of one character do: the first, and the one
    after the last; none before `least`."""
    first, last, end = i, i + 1, offsets[i][1]
    while first > least and offsets[first - 1][1] > offsets[first][0]:
        first -= 1
    while last < len(offsets) and offsets[last][0] < end:
        end = max(end, offsets[last][1])
        last += 1
    return first, last


def _parts(pre_tokenizer: Any) -> List[Any]:
    """A pre-tokenizer, or those that it is a sequence of."""
    if not pre_tokenizer:
        return []
    return pre_tokenizer["pretokenizers"] if pre_tokenizer["type"] == "Sequence" else [pre_tokenizer]
