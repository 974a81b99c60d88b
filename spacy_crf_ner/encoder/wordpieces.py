"""Docs as windows of word-pieces, and how the word-pieces align with the tokens."""

from dataclasses import dataclass
from typing import Any, List, Optional, Sequence, Tuple, cast

import numpy
from spacy.tokens import Doc
from spacy_transformers.align import get_alignment_via_offset_mapping
from thinc.types import Ints2d, Ragged

from spacy_crf_ner.encoder.token_pieces import Pieces, TokenPieces
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
    tokenizer: Any, limit: Optional[int], window: Optional[int], stride: Optional[int]
) -> Windowing:
    """Choose windows, or check those that are asked for.

    tokenizer (PreTrainedTokenizerFast): The encoder's tokenizer.
    limit (Optional[int]): The most word-pieces that the encoder takes, special tokens counted; None for any.
    window (Optional[int]): Word-pieces per window; None: `DEFAULT_WINDOW`, or what the encoder
        takes if that is less.
    stride (Optional[int]): From one window's start to the next; None: three quarters of the window.
    RETURNS (Windowing): The windows.
    RAISES (ValueError): The window is longer than the encoder takes, or the stride leaves gaps or makes more than
        two windows overlap.
    """
    marks = tokenizer("a")[0].special_tokens_mask
    before, after = marks.index(0), marks[::-1].index(0)
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
    tokenizer: Any, docs: Sequence[Doc], windowing: Windowing, cut: Optional[TokenPieces] = None
) -> Tuple[WindowBatch, List[Optional[DocPieces]]]:
    """Split the texts of docs into word-pieces and those into windows. All of a text is in some window.

    tokenizer (PreTrainedTokenizerFast): The encoder's tokenizer.
    docs (Sequence[Doc]): The docs.
    windowing (Windowing): The windows.
    cut (Optional[TokenPieces]): Makes the word-pieces, none over two tokens. None: the tokenizer does.
    RETURNS (Tuple[WindowBatch, List[Optional[DocPieces]]]): The windows of all docs, and the word-pieces of each;
        None for a doc without tokens, which has no window.
    """
    filled = [doc for doc in docs if len(doc)]
    windows: List[List[Pieces]] = [[] for _ in filled]
    types: List[List[int]] = []
    if filled and cut is not None:
        ends = tokenizer("a")
        windows = [_windows(pieces, windowing, Pieces.from_encoding(ends[0])) for pieces in cut(filled)]
        if "token_type_ids" in ends:
            types = [[0] * len(window.ids) for group in windows for window in group]
    elif filled:
        tokenizer.truncation_side = "right"  # From the left, the windows would come last first.
        encoded = tokenizer(
            [doc.text for doc in filled],
            truncation=True,
            max_length=windowing.window,
            stride=windowing.window - windowing.before - windowing.after - windowing.stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        for i, encoding in zip(encoded["overflow_to_sample_mapping"], encoded.encodings):
            windows[i].append(Pieces.from_encoding(encoding))
        types = encoded.get("token_type_ids", [])
    batch = WindowBatch(
        input_ids=[numpy.asarray(window.ids) for group in windows for window in group],
        token_type_ids=[numpy.asarray(ids) for ids in types] if types else None,
        overlaps=find_overlaps(
            [[len(window.ids) for window in group] for group in windows],
            windowing.stride,
            before=windowing.before,
            after=windowing.after,
        ),
    )
    pieces = iter([_joined(doc, group, windowing) for doc, group in zip(filled, windows)])
    return batch, [next(pieces) if len(doc) else None for doc in docs]


def _windows(pieces: Pieces, windowing: Windowing, ends: Pieces) -> List[Pieces]:
    """Cut a text's word-pieces into windows, each with the special tokens of `ends`."""
    inner = windowing.window - windowing.before - windowing.after
    before = ends.cut(0, windowing.before)
    after = ends.cut(len(ends.ids) - windowing.after, len(ends.ids))
    windows = []
    start = 0
    while True:
        window = Pieces([], [], [])
        for part in (before, pieces.cut(start, start + inner), after):
            window.add(part)
        windows.append(window)
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
    align = get_alignment_via_offset_mapping([doc[:]], cast(Ints2d, [numpy.asarray(whole.offsets)]))
    return DocPieces(whole.tokens, whole.ids, align)
