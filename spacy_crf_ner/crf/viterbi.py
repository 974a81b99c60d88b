"""The best tag sequence of a linear-chain CRF, exactly (Viterbi 1967), and the k best ones.

The loop keeps only running maxima; which predecessor gave a maximum is found again along the best path. Each
sequence is worked on from both ends at once, until the two halves meet at a token in its middle: that halves the
number of steps.
"""

from numbers import Integral
from typing import List, Tuple

import numpy
from numpy.typing import NDArray

from spacy_crf_ner.crf.chain import FORBIDDEN, Chain, Floats
from spacy_crf_ner.crf.layout import Ints

FEW_TAGS = 9
"""As many tags, those of four labels, are sooner compared all than chosen from, in the list Viterbi algorithm."""

IMPOSSIBLE = FORBIDDEN / 1e6
"""A sequence of a lower score takes a tag or a step that is forbidden."""


def viterbi(chain: Chain) -> Ints:
    """The best tag sequence of each row.

    chain (Chain): The batch.
    RETURNS (ndarray): *Shape:* (n_tokens,), int64: the tag of each token, 0 for one that is in no row. Of several
        best sequences it is one.
    RAISES (ValueError): A row's best score is not a finite number.
    """
    first, steps, last = chain.start, chain.transitions, chain.end
    tokens_of, sequences = chain.emissions, chain.sequences
    if chain.lattice is not None:
        tokens_of = numpy.where(chain.lattice, tokens_of, FORBIDDEN)
    lengths, origin = sequences.lengths, sequences.origin
    n_tokens, n_tags = tokens_of.shape
    half = lengths // 2
    # Rows by their number of steps. shape: (n_filled,)
    order = numpy.argsort(-half, kind="stable")
    order = order[lengths[order] > 0]
    half, lengths, origin = half[order], lengths[order], origin[order]
    # How many rows are still under way at each step, their meeting token included. shape: (n_steps,)
    meeting = numpy.bincount(half, minlength=1)
    sizes = len(order) - meeting.cumsum() + meeting
    # shape: (n_positions,)
    step = numpy.arange(len(sizes)).repeat(sizes)
    slot = numpy.arange(len(step)) - (sizes.cumsum() - sizes).repeat(sizes)
    # From the end, a row of even length takes its first step before its last token, where nothing is.
    even = lengths % 2 == 0
    tokens = numpy.stack((step, (lengths - 1 + even).take(slot) - step), axis=1) * sequences.stride
    tokens += origin.take(slot)[:, None]
    tokens[: len(order), 1][even] = n_tokens
    # shape: (2, n_tags, n_tags): from the last dimension to the one before
    onward = numpy.stack((steps.T, steps))
    padded = numpy.concatenate((tokens_of, numpy.zeros((1, n_tags))))
    # The best score up to here with each tag. shape: (n_positions, 2, n_tags)
    best = padded.take(tokens, axis=0)
    met = _maximise(best, numpy.stack((first, last)), onward, sizes.tolist(), even)
    odd = numpy.flatnonzero(~numpy.isfinite(met.max(axis=1)))
    if len(odd) and not all(numpy.isfinite(x).all() for x in (first, steps, last)):
        raise ValueError("a start, transition or end potential is NaN or infinite, but numbers are needed")
    if len(odd):
        raise ValueError(
            f"row {order[odd].min()}: its emissions hold NaN or infinity; "
            "a number is needed for at least one possible tag of each token"
        )
    tags = numpy.zeros(n_tokens + 1, dtype="int64")
    tags[tokens] = _trace_back(best, met, onward, sizes.tolist())
    return tags[:n_tokens]


def _maximise(best: Floats, first: Floats, onward: Floats, sizes: List[int], even: NDArray[numpy.bool_]) -> Floats:
    """The loop of both directions: add to each position's emission the best score that leads there.

    best (ndarray): *Shape:* (n_positions, 2, n_tags): the emissions; overwritten.
    first (ndarray): *Shape:* (2, n_tags): what leads to the first step.
    onward (ndarray): *Shape:* (2, n_tags, n_tags).
    sizes (List[int]): Rows of each step.
    even (ndarray): *Shape:* (n_rows,), bool: the rows that come from their end only at the second step.
    RETURNS (ndarray): *Shape:* (n_rows, n_tags): each row's best score by the tag where its halves meet.
    """
    n_tags = best.shape[2]
    met = numpy.empty((len(even), n_tags))
    # The tag to come from is the first axis: NumPy's maximum over the first axis goes over whole vectors.
    # shape: (n_tags, 1, 2, n_tags)
    from_tag = numpy.ascontiguousarray(onward.transpose(2, 0, 1))[:, None]
    begin = 0
    candidates = numpy.empty((n_tags, 0, 2, n_tags))
    score = best[:0]
    for t, (size, after) in enumerate(zip(sizes, [*sizes[1:], 0])):
        if t:
            if size != candidates.shape[1]:
                candidates = numpy.empty((n_tags, size, 2, n_tags))
            numpy.add(score[:size].transpose(2, 0, 1)[..., None], from_tag, out=candidates)
            leading = numpy.maximum.reduce(candidates, axis=0)
        else:
            leading = first[None].repeat(size, axis=0)
        if t == 1:
            leading[even[:size], 1] = first[1]
        score = best[begin : begin + size]
        score += leading
        begin += size
        if after < size:
            numpy.add(score[after:, 0], leading[after:, 1], out=met[after:size])
    return met


def _trace_back(best: Floats, met: Floats, onward: Floats, sizes: List[int]) -> NDArray[numpy.int64]:
    """Follow the best paths from where their halves meet to both ends.

    The arguments are those of `_maximise`, and what it returned.
    RETURNS (ndarray): *Shape:* (n_positions, 2), int64: tags.
    """
    tags = numpy.empty(best.shape[:2], dtype="int64")
    direction = numpy.arange(2)
    end, inner = len(best), 0
    for size in reversed(sizes):
        begin = end - size
        here = tags[begin:end]
        here[inner:] = met[inner:size].argmax(axis=1)[:, None]
        if inner:
            after = tags[end : end + inner]
            here[:inner] = (best[begin : begin + inner] + onward[direction, after]).argmax(axis=2)
        end, inner = begin, size
    return tags


def k_best(chain: Chain, k: int) -> List[Tuple[Ints, Floats]]:
    """The k best tag sequences of each row, and their scores (the list Viterbi algorithm: Seshadri, Sundberg 1994,
    "List Viterbi decoding algorithms with applications", section III).

    chain (Chain): The batch.
    k (int): How many, at least 1.
    RETURNS (List[Tuple[ndarray, ndarray]]): For each row: the sequences, *shape:* (n, length), int64, best first,
        and their scores in nats, *shape:* (n,), float64. n is less than `k` where no more are possible. An empty
        row has one empty sequence, of score 0.
    RAISES (ValueError): `k` is not a whole number of at least 1.
    """
    if not isinstance(k, Integral) or k < 1:
        raise ValueError(f"k = {k!r}, but a whole number of sequences must be asked for, at least 1")
    layout, n_tags = chain.layout, chain.n_tags
    # shape: (n_positions, n_tags, 1)
    emitted = chain.tokens()[:, :, None]
    # The best scores by tag, and for each the tag and rank it came from. shape: (size, n_tags, k)
    score = numpy.full((layout.n_first, n_tags, k), -numpy.inf)
    score[:, :, :1] = chain.start[:, None] + emitted[: layout.n_first]
    pointers: List[Ints] = []
    ended: List[Floats] = []
    # shape: (n_tags, n_tags): from the last dimension to the first
    onward = numpy.ascontiguousarray(chain.transitions.T)
    begin = layout.n_first
    for size in layout.sizes[1:]:
        ended.append(score[size:])
        best, pointer = _step(score[:size], onward, k)
        score = best + emitted[begin : begin + size]
        pointers.append(pointer.reshape(size, n_tags * k))
        begin += size
    # The rows that ended last come first. shape: (n_filled, n_tags * k) -> (n_filled, k)
    final = numpy.concatenate([score, *reversed(ended)]) + chain.end[:, None]
    totals, chosen = _top(final.reshape(len(final), n_tags * k), k)
    states = numpy.zeros((len(layout.row), k), dtype="int64")
    states[layout.last[layout.row[: layout.n_first]]] = chosen
    end = len(states)
    for size, before, pointer in zip(layout.sizes[:0:-1], layout.sizes[-2::-1], reversed(pointers)):
        here, previous = slice(end - size, end), end - size - before
        states[previous : previous + size] = numpy.take_along_axis(pointer, states[here], axis=1)
        end -= size
    # A row's positions, step by step, among those sorted by row.
    by_row = (states // k)[numpy.argsort(layout.row, kind="stable")]
    paths = numpy.split(by_row, chain.sequences.lengths.cumsum()[:-1])
    scores = numpy.zeros((len(layout.filled), k))
    scores[layout.row[: layout.n_first]] = totals
    return [
        (path.T[total > IMPOSSIBLE], total[total > IMPOSSIBLE]) if len(path) else (path.T[:1], total[:1])
        for path, total in zip(paths, scores)
    ]


def _step(score: Floats, onward: Floats, k: int) -> Tuple[Floats, Ints]:
    """The k best ways to each tag, over all tags before and their k best ways.

    score (ndarray): *Shape:* (size, n_tags, k): the scores of those before, greatest first.
    onward (ndarray): *Shape:* (n_tags, n_tags): the transitions, from the last dimension to the first.
    RETURNS (Tuple[ndarray, ndarray]): *Shape:* (size, n_tags, k) each: their scores, greatest first, and where
        they come from, as tag * k + rank.
    """
    size, n_tags, _ = score.shape
    if n_tags <= max(2 * k, FEW_TAGS):
        # shape: (size, n_tags, n_tags, k) -> (size, n_tags, n_tags * k): by the tag that is stepped to
        return _top((score[:, None] + onward[:, :, None]).reshape(size, n_tags, n_tags * k), k)
    # The k best come from k tags at most: those from which the best of each tag gets farthest.
    # shape: (size, n_tags, n_tags) -> (size, n_tags, k)
    leaders = numpy.argpartition(score[:, None, :, 0] + onward, n_tags - k, axis=-1)[..., n_tags - k :]
    # shape: (size, n_tags, k, k) -> (size, n_tags, k * k)
    candidates = score[numpy.arange(size)[:, None, None], leaders]
    candidates += numpy.take_along_axis(onward[None], leaders, axis=2)[..., None]
    best, chosen = _top(candidates.reshape(size, n_tags, k * k), k)
    return best, numpy.take_along_axis(leaders, chosen // k, axis=-1) * k + chosen % k


def _top(values: Floats, k: int) -> Tuple[Floats, Ints]:
    """The k greatest values along the last axis, greatest first, and where they are.

    values (ndarray): *Shape:* (..., m), m at least k.
    RETURNS (Tuple[ndarray, ndarray]): *Shape:* (..., k) each.
    """
    m = values.shape[-1]
    chosen = numpy.argpartition(values, m - k, axis=-1)[..., m - k :]
    found = numpy.take_along_axis(values, chosen, axis=-1)
    order = numpy.argsort(found, axis=-1)[..., ::-1]
    return numpy.take_along_axis(found, order, axis=-1), numpy.take_along_axis(chosen, order, axis=-1)
