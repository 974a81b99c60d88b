from itertools import pairwise
from typing import Any, List, Tuple

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spacy_crf_ner.torch_utils.arrays import torch_arrays
from spacy_crf_ner.torch_utils.buckets import NUMPY, Arrays, Buckets, length_buckets, map_buckets

TORCH = torch_arrays(torch.zeros(1))


@given(st.lists(st.integers(0, 300)), st.integers(1, 1000))
def test_each_sequence_lies_in_one_bucket_and_no_bucket_passes_the_budget(
    lengths: List[int], max_padded: int
) -> None:
    buckets = length_buckets(lengths, max_padded)
    assert sorted(i for bucket in buckets for i in bucket) == [i for i, n in enumerate(lengths) if n]
    for bucket in buckets:
        longest = max(lengths[i] for i in bucket)
        assert len(bucket) * longest <= max_padded or len(bucket) == 1
        assert all(lengths[i] * 2 >= longest for i in bucket)


@pytest.mark.parametrize("batch_first", [False, True])
@given(lengths=st.lists(st.integers(0, 20)), max_padded=st.integers(1, 100))
def test_each_token_has_its_place(batch_first: bool, lengths: List[int], max_padded: int) -> None:
    buckets = Buckets.from_lengths(lengths, max_padded, batch_first=batch_first)
    flat = numpy.full(buckets.size, -1)
    flat[buckets.places] = numpy.arange(sum(lengths))
    found = []
    for padded, mask in zip(buckets.cut(flat), buckets.masks):
        assert padded.shape == mask.shape
        assert numpy.array_equal(padded == -1, ~mask)
        for row, real in zip(*((padded, mask) if batch_first else (padded.T, mask.T))):
            found.append(row[real].tolist())
            assert real.tolist() == sorted(real.tolist(), reverse=True)
    ends = numpy.cumsum([0, *lengths]).tolist()
    assert sorted(found) == [list(range(start, end)) for start, end in pairwise(ends) if end > start]


@pytest.mark.parametrize("arrays", [NUMPY, TORCH], ids=["numpy", "torch"])
@given(lengths=st.lists(st.integers(0, 20), min_size=1).filter(any))
def test_a_function_sees_each_sequence_padded_with_zeros(arrays: Arrays, lengths: List[int]) -> None:
    rows = arrays.convert(numpy.arange(1, 3 * sum(lengths) + 1, dtype="float32").reshape(-1, 3))
    seen: List[Tuple[int, ...]] = []

    def run(padded: Any, mask: Any) -> Any:
        seen.append(tuple(padded.shape))
        assert padded.shape == (*mask.shape, 3)
        assert (padded[~mask] == 0).all()
        # What lies beyond a sequence must not come back.
        steps = arrays.convert(numpy.arange(len(mask), dtype="float32"))[:, None, None]
        return padded[..., :2] + steps + 1000 * ~mask[..., None]

    found = map_buckets(run, rows, lengths, 64, arrays)
    steps = numpy.concatenate([numpy.arange(n) for n in lengths])
    assert numpy.array_equal(found, numpy.asarray(rows)[:, :2] + steps[:, None])
    assert len(seen) == len(length_buckets(lengths, 64))


def test_gradients_reach_each_row_once() -> None:
    lengths = [3, 0, 7, 1]
    rows = torch.rand(sum(lengths), 2, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(2, 2, dtype=torch.float64)
    arrays = torch_arrays(weight)
    assert torch.autograd.gradcheck(lambda x: map_buckets(lambda y, _: y @ weight, x, lengths, 8, arrays), (rows,))
