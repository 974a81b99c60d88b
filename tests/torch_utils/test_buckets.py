from typing import List

import torch
from hypothesis import given
from hypothesis import strategies as st

from spacy_crf_ner.torch_utils.buckets import length_buckets, length_mask, padded_buckets


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


@given(st.lists(st.integers(0, 20), min_size=1))
def test_padding_is_zero_and_the_mask_marks_the_rest(lengths: List[int]) -> None:
    sequences = [torch.rand(n, 3) + 1 for n in lengths]
    for bucket, padded, sizes in padded_buckets(sequences, 64):
        mask = length_mask(sizes, padded.device)
        assert padded.shape == (*mask.shape, 3)
        assert (padded[~mask] == 0).all()
        for row, i in enumerate(bucket):
            assert torch.equal(padded[mask[:, row], row], sequences[i])
