"""Docs as windows of word-pieces, and how the word-pieces align with the tokens."""

from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple, cast

import numpy
from spacy.tokens import Doc
from thinc.types import Ints1d, Ragged

from spacy_crf_ner.encoder.piece_tokenizer import Pieces, PieceTokenizer
from spacy_crf_ner.encoder.token_pieces import TokenPieces
from spacy_crf_ner.encoder.windows import WindowBatch, find_overlaps

DEFAULT_WINDOW = 128
"""As in spaCy's own configs. Corpora of sentences teach an encoder little of later positions."""


@dataclass(frozen=True)
class Windowing:
    """How texts are cut into windows.

    window (int): Word-pieces that the encoder sees at a time, special tokens counted.
    stride (int): Word-pieces from the start of one window to that of the next.
    before, after (int): Special tokens at the two ends of a window.
    """

    window: int
    stride: int
    before: int
    after: int


@dataclass(frozen=True)
class DocPieces:
    """The word-pieces of a doc, as if the encoder took texts of any length.

    strings (List[str]): The word-pieces, with the special tokens of both ends.
    ids (List[int]): Their numbers in the vocabulary.
    align (Ragged): For each token of the doc, the word-pieces that share characters with it; none for white space.
    """

    strings: List[str]
    ids: List[int]
    align: Ragged


def choose_windowing(
    tokenizer: PieceTokenizer, limit: Optional[int], window: Optional[int], stride: Optional[int]
) -> Windowing:
    """Choose windows, or check those that are asked for.

    tokenizer (PieceTokenizer): The encoder's tokenizer.
    limit (Optional[int]): The most word-pieces that the encoder takes, special tokens counted; None for any.
    window (Optional[int]): Word-pieces per window; None: `DEFAULT_WINDOW`, or what the encoder
        takes if that is less.
    stride (Optional[int]): From one window's start to the next; None: three quarters of the window.
    RETURNS (Windowing): The windows.
    RAISES (ValueError): The window is longer than the encoder takes, or the stride leaves gaps or makes more than
        two windows overlap.
    """
    before, after = len(tokenizer.before.ids), len(tokenizer.after.ids)
    if window is None:
        window = min(limit or DEFAULT_WINDOW, DEFAULT_WINDOW)
    inner = window - before - after
    if limit is not None and window > limit:
        raise ValueError(
            f"window = {window}, but the encoder takes {limit} word-pieces at a time ({before + after} special "
            f"tokens counted): set window = {limit} at most, or null. Longer texts are cut into windows, never "
            "truncated"
        )
    if inner < 2:
        raise ValueError(
            f"window = {window} leaves room for {max(inner, 0)} word-pieces beside the special tokens"
        )
    if stride is None:
        stride = max(inner * 3 // 4, 1)
    if not inner <= 2 * stride <= 2 * inner:
        raise ValueError(
            f"stride = {stride}, but for window = {window} it must be from {(inner + 1) // 2} (more than two "
            f"windows would overlap) to {inner} (text would be left out)"
        )
    return Windowing(window, stride, before, after)


def split(
    tokenizer: PieceTokenizer, docs: Sequence[Doc], windowing: Windowing, cut: Optional[TokenPieces] = None
) -> Tuple[WindowBatch, List[Optional[DocPieces]]]:
    """Split the texts of docs into word-pieces and those into windows. All of a text is in some window.

    tokenizer (PieceTokenizer): The encoder's tokenizer.
    docs (Sequence[Doc]): The docs.
    windowing (Windowing): The windows.
    cut (Optional[TokenPieces]): Makes the word-pieces, none over two tokens. None: the tokenizer does.
    RETURNS (Tuple[WindowBatch, List[Optional[DocPieces]]]): The windows of all docs, and the word-pieces of each;
        None for a doc without tokens, which has no window.
    """
    filled = [doc for doc in docs if len(doc)]
    windows = [_windows(pieces, windowing, tokenizer) for pieces in (cut or tokenizer)(filled)]
    types = [tokenizer.type_ids(len(window.ids)) for group in windows for window in group]
    batch = WindowBatch(
        input_ids=[numpy.asarray(window.ids) for group in windows for window in group],
        token_type_ids=[numpy.asarray(ids) for ids in types] if tokenizer.takes_types else None,
        overlaps=find_overlaps(
            [[len(window.ids) for window in group] for group in windows],
            windowing.stride,
            before=windowing.before,
            after=windowing.after,
        ),
    )
    pieces = iter([_joined(doc, group, windowing) for doc, group in zip(filled, windows)])
    return batch, [next(pieces) if len(doc) else None for doc in docs]


def _windows(pieces: Pieces, windowing: Windowing, tokenizer: PieceTokenizer) -> List[Pieces]:
    """Cut a text's word-pieces into windows, each with special tokens of its own."""
    inner = windowing.window - windowing.before - windowing.after
    windows = []
    start = 0
    while True:
        windows.append(tokenizer.with_ends(pieces.cut(start, start + inner)))
        if start + inner >= len(pieces.ids):
            return windows
        start += windowing.stride


def _joined(doc: Doc, windows: List[Pieces], windowing: Windowing) -> DocPieces:
    """Undo the overlap of a doc's windows."""
    whole = Pieces([], [], [])
    for i, window in enumerate(windows):
        # A window goes on where the next one begins; the last goes on to its end.
        begin = 0 if i == 0 else windowing.before
        end = len(window.ids) if i + 1 == len(windows) else windowing.before + windowing.stride
        whole.add(window.cut(begin, end))
    return DocPieces(whole.tokens, whole.ids, align(doc, whole.offsets))


def align(doc: Doc, offsets: Sequence[Tuple[int, int]]) -> Ragged:
    """Find the word-pieces of each token: those that share a character with it, or with the space behind it, as
    spacy-transformers' `get_alignment_via_offset_mapping` finds them.

    doc (Doc): The doc.
    offsets (Sequence[Tuple[int, int]]): The characters of each word-piece. Special tokens have none.
    RETURNS (Ragged): Places in `offsets`, int32, in order; the lengths are the tokens'.
    """
    n_characters = len(doc.text)
    # The token of each character. shape: (n_characters + 1,)
    owner = numpy.repeat(numpy.arange(len(doc)), numpy.diff([*(token.idx for token in doc), n_characters + 1]))
    # shape: (n_pieces,)
    starts, ends = numpy.array(offsets, dtype="int64").reshape(-1, 2).T
    found = numpy.flatnonzero(ends > starts)
    first, last = owner[starts[found]], owner[ends[found] - 1]
    n_tokens = last - first + 1
    # A row for each token of each word-piece.
    pieces = numpy.repeat(found, n_tokens)
    begins = numpy.repeat(numpy.cumsum(n_tokens) - n_tokens, n_tokens)
    tokens = numpy.repeat(first, n_tokens) + numpy.arange(len(pieces)) - begins
    order = numpy.argsort(tokens, kind="stable")
    lengths = numpy.bincount(tokens, minlength=len(doc))
    return Ragged(cast(Ints1d, pieces[order].astype("int32")), cast(Ints1d, lengths.astype("int32")))
