"""The best tag sequence of a linear-chain CRF, exactly (Viterbi 1967), and the k best ones.

Decoding runs on the host, after one copy. The loop keeps running maxima alone; which predecessor gave a maximum is
found again along the best path. Each sequence is worked on from both ends at once, until the two halves meet at a
token in its middle: that halves the number of steps.
"""

from numbers import Integral
from typing import List, Optional, Tuple

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from spacy_crf_ner.crf.forward_backward import FORBIDDEN
from spacy_crf_ner.crf.layout import Layout, Sequences

Floats = NDArray[numpy.float64]

IMPOSSIBLE = FORBIDDEN / 1e6
"""A sequence of a lower score takes a tag or a step that is forbidden."""


def viterbi(
    emissions: Tensor,
    start: Tensor,
    transitions: Tensor,
    end: Tensor,
    sequences: Sequences,
    lattice: Optional[Tensor] = None,
) -> Tensor:
    """The best tag sequence of each row.

    emissions (Tensor): *Shape:* (n_tokens, num_tags), any float dtype, in nats.
    start (Tensor): *Shape:* (num_tags,).
    transitions (Tensor): *Shape:* (num_tags, num_tags); entry ``[i, j]`` is the step from tag i to tag j.
    end (Tensor): *Shape:* (num_tags,).
    sequences (Sequences): Where the rows lie in `emissions`.
    lattice (Optional[Tensor]): *Shape:* (n_tokens, num_tags), bool: the tags that each token may have; all by
        default.
    RETURNS (Tensor): *Shape:* (n_tokens,), int64, on the CPU: the tag of each token, 0 for one that is in no row.
        Of several best sequences it is one.
    RAISES (ValueError): A row's best score is not a finite number.
    """
    potentials, lengths, origin = _on_host(emissions, start, transitions, end, sequences, lattice)
    tokens_of, first, steps, last = potentials
    n_tokens, num_tags = tokens_of.shape
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
    # shape: (2, num_tags, num_tags): from the last dimension to the one before
    onward = numpy.stack((steps.T, steps))
    padded = numpy.concatenate((tokens_of, numpy.zeros((1, num_tags))))
    # The best score up to here with each tag. shape: (n_positions, 2, num_tags)
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
    return torch.from_numpy(tags[:n_tokens])


def _maximise(best: Floats, first: Floats, onward: Floats, sizes: List[int], even: NDArray[numpy.bool_]) -> Floats:
    """The loop of both directions: add to each position's emission the best score that leads there.

    best (ndarray): *Shape:* (n_positions, 2, num_tags): the emissions; overwritten.
    first (ndarray): *Shape:* (2, num_tags): what leads to the first step.
    onward (ndarray): *Shape:* (2, num_tags, num_tags).
    sizes (List[int]): Rows of each step.
    even (ndarray): *Shape:* (n_rows,), bool: the rows that come from their end at the second step alone.
    RETURNS (ndarray): *Shape:* (n_rows, num_tags): each row's best score by the tag where its halves meet.
    """
    num_tags = best.shape[2]
    met = numpy.empty((len(even), num_tags))
    # The tag to come from stands first: NumPy's maximum over the first axis goes over whole vectors.
    # shape: (num_tags, 1, 2, num_tags)
    from_tag = numpy.ascontiguousarray(onward.transpose(2, 0, 1))[:, None]
    begin = 0
    candidates = numpy.empty((num_tags, 0, 2, num_tags))
    score = best[:0]
    for t, (size, after) in enumerate(zip(sizes, [*sizes[1:], 0])):
        if t:
            if size != candidates.shape[1]:
                candidates = numpy.empty((num_tags, size, 2, num_tags))
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


def k_best(
    emissions: Tensor,
    start: Tensor,
    transitions: Tensor,
    end: Tensor,
    sequences: Sequences,
    k: int,
    lattice: Optional[Tensor] = None,
) -> List[Tuple[Tensor, Tensor]]:
    """The k best tag sequences of each row, and their scores (the list Viterbi algorithm: Seshadri, Sundberg 1994,
    "List Viterbi decoding algorithms with applications", section III).

    k (int): How many, at least 1.
    RETURNS (List[Tuple[Tensor, Tensor]]): A row each, on the CPU: the sequences, *shape:* (n, length), int64, best
        first, and their scores in nats, *shape:* (n,), float64. n is less than `k` where no more are possible. An
        empty row has one empty sequence, of score 0. The other arguments are those of `viterbi`.
    RAISES (ValueError): `k` is no whole number of at least 1.
    """
    if not isinstance(k, Integral) or k < 1:
        raise ValueError(f"k = {k!r}, but a whole number of sequences must be asked for, at least 1")
    potentials, *rows = _on_host(emissions, start, transitions, end, sequences, lattice)
    emissions, start, transitions, end = (torch.from_numpy(array) for array in potentials)
    lengths, origin = (torch.from_numpy(array) for array in rows)
    layout = Layout.of(Sequences(lengths, origin, sequences.stride), emissions.device)
    num_tags = len(start)
    # shape: (n_positions, num_tags, 1)
    emitted = emissions.index_select(0, layout.source).unsqueeze(2)
    # The best scores by tag, and for each the tag and rank it came from. shape: (size, num_tags, k)
    score = emissions.new_full((layout.n_first, num_tags, k), -torch.inf)
    pointers: List[Tensor] = []
    ended: List[Tensor] = []
    for t, (size, emission) in enumerate(zip(layout.sizes, emitted.split(layout.sizes))):
        if t == 0:
            score[:, :, :1] = start.unsqueeze(1) + emission
            continue
        ended.append(score[size:])
        candidates = score[:size].unsqueeze(3) + transitions.unsqueeze(1)
        # shape: (size, num_tags * k, num_tags) -> (size, k, num_tags)
        best, pointer = candidates.flatten(1, 2).topk(k, dim=1)
        score = best.transpose(1, 2) + emission
        pointers.append(pointer.transpose(1, 2).flatten(1))
    # The rows that ended last come first. shape: (n_filled, num_tags * k) -> (n_filled, k)
    final = torch.cat([score, *reversed(ended)]) + end.unsqueeze(1)
    totals, chosen = final.flatten(1).topk(k, dim=1)
    states = emissions.new_zeros(len(layout.row), k, dtype=torch.int64)
    last = layout.last[layout.row[: layout.n_first]]
    states[last] = chosen
    positions = torch.arange(len(states)).split(layout.sizes)
    for here, before, pointer in reversed(list(zip(positions[1:], positions, pointers))):
        states[before[: len(here)]] = pointer.gather(1, states[here])
    # A row's positions, step by step, among those sorted by row.
    paths = torch.split(states[layout.row.argsort(stable=True)] // k, lengths.tolist())
    scores = totals.new_zeros(len(lengths), k)
    scores[layout.row[: layout.n_first]] = totals
    return [
        (path.t()[possible], score[possible]) if len(path) else (path.new_zeros(1, 0), score[:1])
        for path, score, possible in zip(paths, scores, scores > IMPOSSIBLE)
    ]


def _on_host(
    emissions: Tensor,
    start: Tensor,
    transitions: Tensor,
    end: Tensor,
    sequences: Sequences,
    lattice: Optional[Tensor],
) -> Tuple[List[Floats], NDArray[numpy.int64], NDArray[numpy.int64]]:
    """The potentials in float64, what the lattice forbids filled in, and the rows: on the CPU, by one copy.

    RETURNS: Emissions, start, transitions, end; the rows' lengths; their origins.
    """
    inputs = (emissions, start, transitions, end, sequences.lengths, sequences.origin)
    on_host = emissions.device.type == "cpu"
    parts = [x.detach() for x in inputs] if on_host else _in_one_copy([x.detach() for x in inputs])
    potentials = [x.double().numpy() for x in parts[:4]]
    if lattice is not None:
        potentials[0] = numpy.where(lattice.cpu().numpy(), potentials[0], FORBIDDEN)
    lengths, origin = (x.long().numpy() for x in parts[4:])
    return potentials, lengths, origin


def _in_one_copy(tensors: List[Tensor]) -> List[Tensor]:
    """The tensors on the CPU, in float64, which holds every index exactly; gathered where the first one lies."""
    flat = torch.cat([x.to(tensors[0].device).double().flatten() for x in tensors]).cpu()
    return [part.view(x.shape) for part, x in zip(flat.split([x.numel() for x in tensors]), tensors)]
