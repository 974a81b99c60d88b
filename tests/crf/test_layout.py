from typing import Any, List

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_crf_ner.crf.layout import Layout, Sequences
from tests.crf.util import ARRANGEMENTS, Arrangement, arranged

some_lengths = st.lists(st.integers(0, 9), min_size=1, max_size=6)
layouts = pytest.mark.parametrize("how", ARRANGEMENTS)


def layout_of(lengths: List[int], how: str) -> Layout:
    return Layout.from_sequences(arranged(lengths, how).sequences)


def steps(layout: Layout) -> List[int]:
    """The step of each position."""
    return [t for t, size in enumerate(layout.sizes) for _ in range(size)]


def place(arrangement: Arrangement, row: int, step: int) -> int:
    return int(arrangement.sequences.origin[row]) + step * arrangement.sequences.stride


@layouts
@given(lengths=some_lengths)
def test_a_layout_holds_each_token_once_and_nothing_else(how: str, lengths: List[int]) -> None:
    arrangement = arranged(lengths, how)
    layout = Layout.from_sequences(arrangement.sequences)
    assert sorted(layout.source.tolist()) == sorted(arrangement.place.tolist())
    assert layout.sizes == [sum(n > t for n in lengths) for t in range(max(lengths))]


@layouts
@given(lengths=some_lengths)
def test_a_position_knows_its_token_its_mirror_and_the_one_before(how: str, lengths: List[int]) -> None:
    arrangement = arranged(lengths, how)
    layout = Layout.from_sequences(arrangement.sequences)
    step, row = steps(layout), layout.row.tolist()
    for position, (t, b) in enumerate(zip(step, row)):
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
    layout = layout_of(lengths, how)
    assert layout.filled.tolist() == [n > 0 for n in lengths]
    for b, (length, last) in enumerate(zip(lengths, layout.last.tolist())):
        if length:
            assert (steps(layout)[last], int(layout.row[last])) == (length - 1, b)


@layouts
def test_values_are_summed_by_row(how: str) -> None:
    lengths = [3, 0, 5, 1]
    layout = layout_of(lengths, how)
    assert layout.per_row(numpy.ones(len(layout.row))).tolist() == lengths


@layouts
@pytest.mark.parametrize("shape", [(), (2,)])
def test_what_is_at_the_ends_is_0_for_an_empty_row(how: str, shape: Any) -> None:
    layout = layout_of([3, 0, 5, 1], how)
    step = numpy.array(steps(layout), dtype="float64")
    spread = numpy.broadcast_to(step.reshape(-1, *[1] * len(shape)), (len(step), *shape))
    for b, end in enumerate([2.0, 0.0, 4.0, 0.0]):
        assert (layout.at_last(spread)[b] == end).all()


@layouts
@pytest.mark.parametrize("lengths", [[], [0], [0, 0]])
def test_a_batch_without_tokens_has_a_layout(lengths: List[int], how: str) -> None:
    layout = layout_of(lengths, how)
    assert layout.filled.tolist() == [False] * len(lengths)
    ones = numpy.ones(len(layout.row))
    assert layout.per_row(ones).tolist() == layout.at_last(ones).tolist() == [0.0] * len(lengths)


@given(lengths=some_lengths)
def test_the_rows_of_a_mask_are_those_of_the_time_major_array(lengths: List[int]) -> None:
    mask = numpy.arange(max(lengths))[:, None] < numpy.array(lengths)
    sequences = Sequences.from_mask(mask)
    expected = arranged(lengths, "time-major").sequences
    assert sequences.lengths.tolist() == lengths
    assert sequences.origin.tolist() == expected.origin.tolist()
    assert sequences.stride == expected.stride


@pytest.mark.parametrize("hole", [0, 2])
def test_a_mask_with_a_hole_is_refused_by_row(hole: int) -> None:
    mask = numpy.ones((4, 3), dtype=bool)
    mask[hole, 1] = False
    with pytest.raises(ValueError, match=f"^row 1: the mask is off at step {hole} "):
        Sequences.from_mask(mask)


def test_consecutive_rows_begin_where_the_one_before_ends() -> None:
    sequences = Sequences.consecutive(numpy.array([3, 0, 2]))
    assert sequences.origin.tolist() == [0, 3, 3]
    assert sequences.stride == 1


@layouts
def test_some_rows_are_where_they_were(how: str) -> None:
    sequences = arranged([3, 0, 2], how).sequences
    some = sequences.rows(numpy.array([2, 0]))
    assert some.lengths.tolist() == [2, 3]
    assert some.origin.tolist() == sequences.origin[[2, 0]].tolist()
    assert some.stride == sequences.stride
