from itertools import pairwise
from typing import List, NamedTuple, Tuple

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spacy_crf_ner.encoder.windows import Overlaps, find_overlaps
from spacy_crf_ner.torch_utils.arrays import torch_arrays
from spacy_crf_ner.torch_utils.buckets import NUMPY

TORCH = torch_arrays(torch.zeros(1))


class Cut(NamedTuple):
    """Sequences of these lengths, cut as a tokenizer cuts them."""

    lengths: List[int]
    inner: int
    stride: int
    before: int
    after: int

    def windows(self) -> List[List[Tuple[int, int]]]:
        """The steps that each window of each sequence holds, from the first to the one behind the last."""
        cut: List[List[Tuple[int, int]]] = []
        for length in self.lengths:
            spans = [(0, min(self.inner, length))]
            while spans[-1][1] < length:
                start = spans[-1][0] + self.stride
                spans.append((start, min(start + self.inner, length)))
            cut.append(spans)
        return cut

    def sizes(self) -> List[List[int]]:
        own = self.before + self.after
        return [[end - start + own for start, end in spans] for spans in self.windows()]

    def overlaps(self) -> Overlaps:
        return find_overlaps(self.sizes(), self.stride, before=self.before, after=self.after)


@st.composite
def cuts(draw: st.DrawFn) -> Cut:
    inner = draw(st.integers(1, 12))
    stride = draw(st.integers(max((inner + 1) // 2, 1), inner))
    lengths = draw(st.lists(st.integers(0, 40), min_size=1, max_size=4))
    return Cut(lengths, inner, stride, draw(st.integers(0, 2)), draw(st.integers(0, 2)))


def merged_by_hand(cut: Cut, rows: Tensor) -> List[Tensor]:
    """Each row from the windows that hold it, one position after the other."""
    begin = 0
    merged = []
    for spans, sizes in zip(cut.windows(), cut.sizes()):
        begins = [begin + sum(sizes[:k]) for k in range(len(sizes))]
        merged += [rows[begin + i] for i in range(cut.before)]
        for step in range(spans[-1][1]):
            holders = [k for k, (start, end) in enumerate(spans) if start <= step < end]
            assert 1 <= len(holders) <= 2
            values = [rows[begins[k] + cut.before + step - spans[k][0]] for k in holders]
            if len(holders) == 1:
                merged.append(values[0])
                continue
            earlier, later = holders
            # How many rows lie between this one and the cut, itself counted.
            inside_later = step - spans[later][0] + 1
            inside_earlier = spans[earlier][1] - step
            total = inside_earlier + inside_later
            merged.append((inside_earlier * values[0] + inside_later * values[1]) / total)
        begin += sum(sizes)
        merged += [rows[begin - cut.after + i] for i in range(cut.after)]
    return merged


def rows_for(cut: Cut) -> Tensor:
    n_rows = sum(map(sum, cut.sizes()))
    return torch.randn(n_rows, 3, generator=torch.Generator().manual_seed(n_rows), dtype=torch.float64)


@given(cuts())
@settings(deadline=None)
def test_merging_is_what_each_position_asks_of_the_windows_that_hold_it(cut: Cut) -> None:
    rows = rows_for(cut)
    expected = merged_by_hand(cut, rows)
    merged = cut.overlaps().merge(rows, TORCH)
    assert merged.shape == (len(expected), 3)
    # The weights are float32.
    torch.testing.assert_close(merged, torch.stack(expected) if expected else rows[:0], atol=1e-6, rtol=1e-6)
    numpy.testing.assert_allclose(cut.overlaps().merge(rows.numpy(), NUMPY), merged, atol=1e-12)


@given(cuts())
@settings(deadline=None)
def test_each_row_comes_from_at_most_two_windows_and_no_text_is_left_out(cut: Cut) -> None:
    plan = cut.overlaps()
    own = cut.before + cut.after
    assert len(plan.rows) == sum(length + own for length in cut.lengths)
    assert numpy.unique(plan.shared).tolist() == sorted(plan.shared.tolist())
    used = sorted(plan.rows.tolist() + plan.later.tolist())
    assert len(set(used)) == len(used)
    # Special tokens inside a text are what is not used, and they alone.
    inner = sum((len(sizes) - 1) * own for sizes in cut.sizes())
    assert len(used) == sum(map(sum, cut.sizes())) - inner


@given(cuts())
@settings(deadline=None)
def test_weights_are_linear_in_the_distance_to_the_cuts(cut: Cut) -> None:
    plan = cut.overlaps()
    place = 0
    weights = dict(zip(plan.shared.tolist(), plan.weight.tolist()))
    for spans, length in zip(cut.windows(), cut.lengths):
        for (_, end), (start, _) in pairwise(spans):
            overlap = [weights.pop(place + cut.before + step) for step in range(start, end)]
            n = len(overlap)
            assert overlap == pytest.approx([(i + 1) / (n + 1) for i in range(n)])
        place += length + cut.before + cut.after
    assert not weights


def test_three_shared_rows_change_over_in_quarters() -> None:
    plan = find_overlaps([[6, 6]], 3, before=0, after=0)
    assert plan.shared.tolist() == [3, 4, 5]
    assert plan.weight.tolist() == [0.25, 0.5, 0.75]
    windows = torch.tensor([[0.0]] * 6 + [[1.0]] * 6)
    assert plan.merge(windows, TORCH).flatten().tolist() == [0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1]


@given(st.lists(st.integers(0, 9), max_size=5), st.integers(0, 2), st.integers(0, 2))
def test_sequences_in_one_window_stay_as_they_are_to_the_bit(lengths: List[int], before: int, after: int) -> None:
    cut = Cut(lengths, 9, 7, before, after)
    rows = rows_for(cut).float()
    assert torch.equal(cut.overlaps().merge(rows, TORCH), rows)


def test_a_short_text_beside_a_long_one_stays_as_it_is_to_the_bit() -> None:
    cut = Cut([4, 40, 5], 6, 4, 1, 1)
    rows = rows_for(cut).float()
    merged = cut.overlaps().merge(rows, TORCH)
    assert torch.equal(merged[:6], rows[:6])
    assert torch.equal(merged[-7:], rows[-7:])


def test_rows_of_equal_windows_stay_what_they_are() -> None:
    """Where both windows say the same, so does their mean."""
    plan = find_overlaps([[8, 8, 8]], 4, before=0, after=0)
    steps = torch.arange(16.0)
    windows = torch.cat([steps[:8], steps[4:12], steps[8:16]]).unsqueeze(1)
    assert plan.merge(windows, TORCH).flatten().tolist() == steps.tolist()


@given(cuts(), st.integers(0, 99))
@settings(deadline=None)
def test_window_rows_may_stand_elsewhere(cut: Cut, seed: int) -> None:
    rows = rows_for(cut)
    places = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    moved = torch.empty_like(rows)
    moved[places] = rows
    assert torch.equal(cut.overlaps().moved(places.numpy()).merge(moved, TORCH), cut.overlaps().merge(rows, TORCH))


@pytest.mark.parametrize("cut", [Cut([11, 0, 3], 5, 3, 1, 1), Cut([9], 4, 2, 0, 2), Cut([7, 7], 4, 4, 1, 0)])
def test_the_gradient_of_merging_is_right(cut: Cut) -> None:
    rows = rows_for(cut).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: cut.overlaps().merge(x, TORCH), (rows,))


def test_nothing_gives_nothing() -> None:
    plan = find_overlaps([], 4, before=1, after=1)
    assert plan.merge(torch.empty(0, 3), TORCH).shape == (0, 3)
    assert find_overlaps([[], []], 4, before=1, after=1).rows.tolist() == []


def test_a_sequence_without_windows_shifts_no_other() -> None:
    with_empty = find_overlaps([[], [5, 5], [], [4]], 2, before=1, after=1)
    without = find_overlaps([[5, 5], [4]], 2, before=1, after=1)
    for name in ("rows", "shared", "later", "weight"):
        assert numpy.array_equal(getattr(with_empty, name), getattr(without, name))
