from typing import List

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spacy_crf_ner.crf.layout import Layout, Sequences
from spacy_crf_ner.torch_utils.buckets import length_mask
from tests.crf.util import ARRANGEMENTS, CPU, Arrangement, arranged

some_lengths = st.lists(st.integers(0, 9), min_size=1, max_size=6)
layouts = pytest.mark.parametrize("how", ARRANGEMENTS)
packed = pytest.mark.parametrize("how", ["consecutive", "time-major"])
padded = pytest.mark.parametrize("how", ["padded", "padded rows"])


def steps(layout: Layout) -> List[int]:
    """The step of each position."""
    return [t for t, size in enumerate(layout.sizes) for _ in range(size)]


def place(arrangement: Arrangement, row: int, step: int) -> int:
    return int(arrangement.sequences.origin[row]) + step * arrangement.sequences.stride


@packed
@given(lengths=some_lengths)
def test_a_packed_layout_holds_each_token_once_and_nothing_else(how: str, lengths: List[int]) -> None:
    arrangement = arranged(lengths, how)
    layout = Layout.of(arrangement.sequences, CPU)
    assert sorted(layout.source.tolist()) == sorted(arrangement.place.tolist())
    assert layout.real is None
    assert layout.sizes == [sum(n > t for n in lengths) for t in range(max(lengths))]


@padded
@given(lengths=some_lengths)
def test_a_padded_layout_has_every_row_at_every_step_and_says_which_are_real(how: str, lengths: List[int]) -> None:
    arrangement = arranged(lengths, how)
    layout = Layout.of(arrangement.sequences, CPU)
    assert layout.sizes == [len(lengths)] * (arrangement.sequences.longest or 0)
    assert layout.real is not None
    real = [t < lengths[row] for t, row in zip(steps(layout), layout.row.tolist())]
    assert layout.real.tolist() == real
    assert sorted(layout.source[layout.real].tolist()) == sorted(arrangement.place.tolist())


@layouts
@given(lengths=some_lengths)
def test_a_position_knows_its_token_its_mirror_and_the_one_before(how: str, lengths: List[int]) -> None:
    arrangement = arranged(lengths, how)
    layout = Layout.of(arrangement.sequences, CPU)
    step, row = steps(layout), layout.row.tolist()
    for position, (t, b) in enumerate(zip(step, row)):
        if t < lengths[b]:
            mirror = int(layout.mirror[position])
            assert int(layout.source[position]) == place(arrangement, b, t)
            assert (step[mirror], row[mirror]) == (lengths[b] - 1 - t, b)
        if t:
            before = int(layout.previous[position - layout.n_first])
            assert (step[before], row[before]) == (t - 1, b)
    assert len(layout.previous) == len(row) - layout.n_first
    assert layout.n_first == sum(t == 0 for t in step)


@layouts
@given(lengths=some_lengths)
def test_a_row_knows_its_last_position_and_whether_it_is_empty(how: str, lengths: List[int]) -> None:
    layout = Layout.of(arranged(lengths, how).sequences, CPU)
    assert layout.filled.tolist() == [n > 0 for n in lengths]
    for b, (length, last) in enumerate(zip(lengths, layout.last.tolist())):
        if length:
            assert (steps(layout)[last], int(layout.row[last])) == (length - 1, b)


@padded
@given(lengths=some_lengths)
def test_padding_reads_no_token_but_those_of_its_own_row(how: str, lengths: List[int]) -> None:
    """What stands at masked positions may be NaN."""
    arrangement = arranged(lengths, how)
    layout = Layout.of(arrangement.sequences, CPU)
    for source, b in zip(layout.source.tolist(), layout.row.tolist()):
        assert source in [place(arrangement, b, t) for t in range(max(lengths[b], 1))]


@layouts
def test_values_are_summed_by_row_and_padding_may_be_nan(how: str) -> None:
    lengths = [3, 0, 5, 1]
    layout = Layout.of(arranged(lengths, how).sequences, CPU)
    values = torch.ones(len(layout.row))
    if layout.real is not None:
        values[~layout.real] = torch.nan
    assert layout.per_row(values).tolist() == lengths


@pytest.mark.parametrize("shape", [(), (2,), (2, 2)])
def test_a_number_takes_the_place_of_padding(shape: List[int]) -> None:
    layout = Layout.of(arranged([1, 2], "padded").sequences, CPU)
    values = torch.tensor([1.0, 1.0, torch.inf, 1.0]).view(-1, *[1] * len(shape)).expand(-1, *shape)
    assert torch.equal(layout.at_real(values, 7.0), values.nan_to_num(posinf=7.0))
    assert layout.at_real(values).sum() == 3 * values[0].numel()


@layouts
@pytest.mark.parametrize("shape", [(), (2,)])
def test_what_stands_at_the_ends_is_0_for_an_empty_row(how: str, shape: List[int]) -> None:
    lengths = [3, 0, 5, 1]
    layout = Layout.of(arranged(lengths, how).sequences, CPU)
    step = torch.tensor(steps(layout), dtype=torch.float64)
    if layout.real is not None:
        step[~layout.real] = torch.nan
    at_last = layout.at_last(step.view(-1, *[1] * len(shape)).expand(-1, *shape))
    assert torch.equal(
        at_last, torch.tensor([2.0, 0, 4, 0]).double().view(-1, *[1] * len(shape)).expand(-1, *shape)
    )


@layouts
@pytest.mark.parametrize("lengths", [[], [0], [0, 0]])
def test_a_batch_without_tokens_has_a_layout(lengths: List[int], how: str) -> None:
    layout = Layout.of(arranged(lengths, how).sequences, CPU)
    assert layout.filled.tolist() == [False] * len(lengths)
    ones = torch.ones(len(layout.row))
    assert layout.per_row(ones).tolist() == layout.at_last(ones).tolist() == [0.0] * len(lengths)


@given(lengths=some_lengths)
def test_the_rows_of_a_mask_are_those_of_the_time_major_array(lengths: List[int]) -> None:
    sequences = Sequences.from_mask(length_mask(torch.tensor(lengths), CPU))
    expected = arranged(lengths, "time-major").sequences
    assert sequences.lengths.tolist() == lengths
    assert sequences.origin.tolist() == expected.origin.tolist()
    assert (sequences.stride, sequences.longest) == (expected.stride, None)


@pytest.mark.parametrize("hole", [0, 2])
def test_a_mask_with_a_hole_is_refused_by_row(hole: int) -> None:
    mask = torch.ones(4, 3, dtype=torch.bool)
    mask[hole, 1] = False
    with pytest.raises(ValueError, match=f"^row 1: the mask is off at step {hole} "):
        Sequences.from_mask(mask)


def test_a_mask_on_a_device_is_padded_to_its_length_and_its_numbers_are_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The meta device has no numbers; a flag is what the test says it is."""
    monkeypatch.setattr(torch.Tensor, "__bool__", lambda self: False)
    sequences = Sequences.from_mask(torch.ones(6, 2, dtype=torch.bool, device="meta"))
    assert (sequences.longest, sequences.lengths.device.type, sequences.origin.device.type) == (6, "meta", "meta")


def test_consecutive_rows_begin_where_the_one_before_ends() -> None:
    sequences = Sequences.consecutive(torch.tensor([3, 0, 2]))
    assert sequences.origin.tolist() == [0, 3, 3]
    assert (sequences.stride, sequences.longest) == (1, None)


@layouts
def test_rows_come_once_more_after_all_others(how: str) -> None:
    sequences = arranged([3, 0, 2], how).sequences
    repeated = sequences.repeated(torch.tensor([2, 0]))
    assert repeated.lengths.tolist() == [3, 0, 2, 2, 3]
    assert repeated.origin.tolist() == sequences.origin[[0, 1, 2, 2, 0]].tolist()
    assert (repeated.stride, repeated.longest) == (sequences.stride, sequences.longest)


def test_a_packed_layout_is_made_on_the_host_and_lies_on_the_device() -> None:
    layout = Layout.of(Sequences.consecutive(torch.tensor([3, 0, 2])), torch.device("meta"))
    assert layout.sizes == [2, 2, 1]
    tensors = (layout.row, layout.source, layout.mirror, layout.previous, layout.last, layout.filled)
    assert {x.device.type for x in tensors} == {"meta"}
