"""Length-sorted buckets: padding that cannot run away."""

from typing import Iterator, List, Sequence, Tuple

import numpy
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


def length_buckets(lengths: Sequence[int], max_padded: int, *, likeness: float = 0.5) -> List[List[int]]:
    """Group sequences of like length so that no group's padded size passes a budget.

    A group also ends where a sequence is shorter than a share of its longest, so no group is padded by more than
    one over that share, and there are only logarithmically many groups more than the budget asks for.

    lengths (Sequence[int]): Number of tokens a sequence; empty sequences are left out of the groups.
    max_padded (int): The most tokens of a group, padding counted. A longer sequence stands alone.
    likeness (float): The least share of a group's longest sequence that its shortest has, in (0, 1].
    RETURNS (List[List[int]]): Indices into `lengths`, longest first.
    """
    buckets: List[List[int]] = []
    longest = 0
    for i in sorted((i for i, n in enumerate(lengths) if n), key=lambda i: -lengths[i]):
        if not buckets or (len(buckets[-1]) + 1) * longest > max_padded or lengths[i] < likeness * longest:
            buckets.append([])
            longest = lengths[i]
        buckets[-1].append(i)
    return buckets


def padded_buckets(sequences: Sequence[Tensor], max_padded: int) -> Iterator[Tuple[List[int], Tensor, Tensor]]:
    """Pad sequences bucket by bucket.

    sequences (Sequence[Tensor]): *Shape:* (seq_length, ...) each.
    max_padded (int): See `length_buckets`.
    YIELDS (Tuple[List[int], Tensor, Tensor]): The bucket's indices; the padded sequences, *shape:*
        (seq_length, batch_size, ...), zero where padded; the lengths, *shape:* (batch_size,), int64, on the
        CPU.
    """
    for bucket in length_buckets([len(sequence) for sequence in sequences], max_padded):
        chosen = [sequences[i] for i in bucket]
        yield bucket, pad_sequence(chosen), torch.tensor([len(sequence) for sequence in chosen])


def flat_places(lengths: Sequence[int], buckets: Sequence[Sequence[int]], *, batch_first: bool = False) -> Tensor:
    """Where each token of the sequences stands among the padded buckets, flattened one after the other.

    lengths (Sequence[int]): Number of tokens a sequence.
    buckets (Sequence[Sequence[int]]): What `length_buckets` made of them, longest first.
    batch_first (bool): The buckets are (batch_size, seq_length, ...), not (seq_length, batch_size, ...).
    RETURNS (Tensor): *Shape:* (sum of lengths,), int64, on the CPU.
    """
    ends = numpy.cumsum([0, *lengths])
    places = numpy.empty(ends[-1], dtype="int64")
    begin = 0
    for bucket in buckets:
        longest = lengths[bucket[0]]
        between_rows, between_steps = (longest, 1) if batch_first else (1, len(bucket))
        for row, i in enumerate(bucket):
            steps = numpy.arange(lengths[i], dtype="int64")
            places[ends[i] : ends[i + 1]] = begin + row * between_rows + steps * between_steps
        begin += longest * len(bucket)
    return torch.from_numpy(places)


def length_mask(lengths: Tensor, device: torch.device) -> Tensor:
    """The mask of left-aligned sequences.

    lengths (Tensor): *Shape:* (batch_size,), int64, on the CPU.
    device (torch.device): Where the mask shall lie.
    RETURNS (Tensor): *Shape:* (seq_length, batch_size), bool, True on real positions.
    """
    steps = torch.arange(int(lengths.max()), device=device)
    return steps.unsqueeze(1) < lengths.to(device).unsqueeze(0)
