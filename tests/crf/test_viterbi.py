"""The oracle is enumeration; for long rows, the Viterbi algorithm as textbooks have it."""

import tracemalloc
from typing import Any, List, Optional, Tuple

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from spacy_crf_ner.crf.chain import FORBIDDEN
from spacy_crf_ner.crf.layout import Sequences
from spacy_crf_ner.crf.viterbi import k_best, viterbi
from tests.crf.util import (
    ARRANGEMENTS,
    SCHEMES,
    Case,
    Potentials,
    Scheme,
    arranged,
    bio,
    cases,
    chain_of,
    free,
    legal_paths,
    random_potentials,
    scores_of,
)
from tests.util import n_drawn

layouts = pytest.mark.parametrize("how", ARRANGEMENTS)
schemes = pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES.keys())
close = torch.testing.assert_close


def textbook(row: Potentials) -> Tuple[float, List[int]]:
    """The best score of one row and its path."""
    emissions, start, transitions, end = (x.double().numpy() for x in row)
    score, pointers = start + emissions[0], []
    for emission in emissions[1:]:
        candidates = score[:, None] + transitions
        pointers.append(candidates.argmax(axis=0))
        score = candidates.max(axis=0) + emission
    path = [int((score + end).argmax())]
    for pointer in reversed(pointers):
        path.append(int(pointer[path[-1]]))
    return float((score + end).max()), path[::-1]


def best_of(potentials: Potentials, sequences: Sequences, lattice: Optional[Tensor] = None) -> Tensor:
    return torch.from_numpy(viterbi(chain_of(potentials, sequences, lattice)))


def k_best_of(
    potentials: Potentials, sequences: Sequences, k: int, lattice: Optional[Tensor] = None
) -> List[Tuple[Tensor, Tensor]]:
    found = k_best(chain_of(potentials, sequences, lattice), k)
    return [(torch.from_numpy(paths), torch.from_numpy(scores)) for paths, scores in found]


def decoded(case: Case, how: str, lattice: bool = True, gap: float = torch.nan) -> List[Tensor]:
    """The best path of each row."""
    arrangement = arranged(case.lengths, how)
    filled = case.scheme.on(case.potentials)
    flat = filled._replace(emissions=arrangement.spread(filled.emissions, gap))
    best = best_of(flat, arrangement.sequences, arrangement.spread(case.allowed) if lattice else None)
    masked = torch.ones(arrangement.n_tokens, dtype=torch.bool).index_fill(0, arrangement.place, False)
    assert best.dtype == torch.int64 and not best[masked].any()
    return list(best[arrangement.place].split(case.lengths))


@layouts
@pytest.mark.parametrize("lattice", [False, True])
@given(case=cases)
@settings(deadline=None, max_examples=n_drawn(50))
def test_the_best_path_is_that_of_enumeration(how: str, lattice: bool, case: Case) -> None:
    for path, (row, _, allowed) in zip(decoded(case, how, lattice), case.rows()):
        paths = legal_paths(len(allowed), case.scheme, allowed if lattice else None)
        assert path.tolist() == paths[int(scores_of(row, paths).argmax())].tolist()


@layouts
@schemes
def test_the_best_path_is_that_of_the_textbook_at_every_length(scheme: Scheme, how: str) -> None:
    case = Case.random(3, [*range(12), 33, 64, 7, 8, 0, 1, 2], scheme, 3.0)
    for path, row in zip(decoded(case, how, lattice=False), scheme.on(case.potentials).rows(case.lengths)):
        assert path.tolist() == (textbook(row)[1] if len(path) else [])


@layouts
@given(case=cases)
@settings(deadline=None, max_examples=n_drawn(50))
def test_of_paths_that_tie_one_is_chosen_whole(how: str, case: Case) -> None:
    """Two halves of two best paths need not make one."""
    case = case._replace(potentials=case.potentials.each(lambda x: x.clamp(-1, 1).round()))
    for path, (row, _, allowed) in zip(decoded(case, how), case.rows()):
        paths = legal_paths(len(allowed), case.scheme, allowed)
        assert path.tolist() in paths.tolist()
        assert scores_of(row, path[None]) == scores_of(row, paths).max()


@pytest.mark.parametrize("lengths", [[5000], [4999, 17, 5000]])
def test_the_best_path_of_a_long_text_is_exact_in_float32(lengths: List[int]) -> None:
    """A score that grows with the text must not swallow the differences between tags."""
    potentials = random_potentials(8, sum(lengths), 7).each(Tensor.float)
    potentials = potentials._replace(emissions=potentials.emissions + 8)
    best = best_of(potentials, arranged(lengths, "consecutive").sequences)
    for path, row in zip(best.split(lengths), potentials.rows(lengths)):
        assert path.tolist() == textbook(row)[1]


def test_a_text_of_100000_tokens_takes_memory_for_a_few_copies_of_its_emissions() -> None:
    n_tokens, num_tags = 100_000, 9
    row = random_potentials(1, n_tokens, num_tags)
    chain = chain_of(row, arranged([n_tokens], "consecutive").sequences)
    tracemalloc.start()
    try:
        best = torch.from_numpy(viterbi(chain))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * n_tokens * num_tags * 8
    close(float(scores_of(row, best[None])), textbook(row)[0], rtol=1e-12, atol=0)


@layouts
@given(case=cases)
@settings(deadline=None, max_examples=n_drawn(40))
def test_the_k_best_are_the_first_of_all_paths_by_score(how: str, case: Case) -> None:
    for k in (1, 2, 7, 2000):
        check_k_best(case, how, k)


@pytest.mark.parametrize("scheme", [free(11), bio(5)], ids=["free", "bio"])
@pytest.mark.parametrize("rounded", [False, True])
def test_the_k_best_of_many_tags_are_the_first_of_all_paths_by_score(scheme: Scheme, rounded: bool) -> None:
    """Of more tags than `FEW_TAGS`, a step looks at those only that can lead to one of the k best."""
    case = Case.random(4, [4, 0, 3, 1, 2], scheme, 1.0)
    if rounded:
        case = case._replace(potentials=case.potentials.each(lambda x: x.clamp(-1, 1).round()))
    for k in (1, 2, 4, 5, 6, 2000):
        check_k_best(case, "consecutive", k)


def check_k_best(case: Case, how: str, k: int) -> None:
    """Compare the k best of each row with the enumeration of all its paths."""
    arrangement = arranged(case.lengths, how)
    filled = case.scheme.on(case.potentials)
    flat = filled._replace(emissions=arrangement.spread(filled.emissions, torch.nan))
    rows = k_best_of(flat, arrangement.sequences, k, arrangement.spread(case.allowed))
    assert len(rows) == len(case.lengths)
    for (paths, scores), (row, _, allowed) in zip(rows, case.rows()):
        every = legal_paths(len(allowed), case.scheme, allowed)
        assert paths.shape == (min(k, len(every)), len(allowed))
        assert len({tuple(path) for path in paths.tolist()}) == len(paths)
        assert {tuple(path) for path in paths.tolist()} <= {tuple(path) for path in every.tolist()}
        expected = scores_of(row, every).sort(descending=True).values[:k]
        close(scores, expected, rtol=1e-12, atol=1e-12)
        close(scores_of(row, paths), scores, rtol=1e-12, atol=1e-12)


@layouts
def test_the_first_of_the_k_best_is_the_best(how: str) -> None:
    case = Case.random(3, [19, 0, 40, 1, 2], bio(2), 2.0)
    arrangement = arranged(case.lengths, how)
    filled = case.scheme.on(case.potentials)
    flat = filled._replace(emissions=arrangement.spread(filled.emissions, torch.nan))
    rows = k_best_of(flat, arrangement.sequences, 3)
    assert [paths[0].tolist() for paths, _ in rows] == [p.tolist() for p in decoded(case, how, lattice=False)]


@pytest.mark.parametrize("k", [0, -1, 2.5])
def test_fewer_than_one_best_is_refused(k: Any) -> None:
    with pytest.raises(ValueError, match=f"k = {k}, but a whole number"):
        k_best_of(random_potentials(0, 3, 3), arranged([3], "consecutive").sequences, k)


@layouts
@pytest.mark.parametrize("gap", [torch.inf, -torch.inf, 1e6])
def test_what_is_masked_does_not_matter(gap: float, how: str) -> None:
    case = Case.random(6, [3, 0, 6, 1, 2], bio(2), 1.0)
    assert [p.tolist() for p in decoded(case, how, gap=gap)] == [p.tolist() for p in decoded(case, how)]


@pytest.mark.parametrize("length", [1, 2, 5, 6])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, None])
def test_a_row_without_a_best_path_is_refused_by_its_number(bad: Optional[float], length: int) -> None:
    """NaN or infinity at one tag of any token; or no number at all at a token."""
    for token in range(length):
        row = random_potentials(0, 4 + length, 3)
        if bad is None:
            row.emissions[4 + token] = -torch.inf
        else:
            row.emissions[4 + token, 1] = bad
        with pytest.raises(ValueError, match="row 2: "):
            best_of(row, arranged([4, 0, length], "consecutive").sequences)


@layouts
def test_an_emission_of_minus_infinity_forbids_a_tag(how: str) -> None:
    case = Case.random(2, [5, 4, 1], free(4), 1.0)
    forbidding = case.potentials.emissions.masked_fill(~case.allowed, -torch.inf)
    forbidden = case._replace(potentials=case.potentials._replace(emissions=forbidding))
    assert [p.tolist() for p in decoded(forbidden, how, lattice=False)] == [p.tolist() for p in decoded(case, how)]
    sequences = arranged(case.lengths, "consecutive").sequences
    by_number = k_best_of(forbidden.potentials, sequences, 300)
    by_lattice = k_best_of(case.potentials, sequences, 300, case.allowed)
    assert [len(paths) for paths, _ in by_number] == [len(paths) for paths, _ in by_lattice]
    for (paths, scores), (others, expected) in zip(by_number, by_lattice):
        assert torch.equal(paths, others) and torch.equal(scores, expected)


def test_inputs_stay_as_they_are() -> None:
    case = Case.random(2, [5, 4, 1], bio(1), 1.0)
    inputs = case.scheme.on(case.potentials)
    before = [x.clone() for x in (*inputs, case.allowed)]
    sequences = arranged(case.lengths, "consecutive").sequences
    best_of(inputs, sequences, case.allowed)
    k_best_of(inputs, sequences, 2, case.allowed)
    assert all(torch.equal(x, y) for x, y in zip((*inputs, case.allowed), before))


@pytest.mark.parametrize("lengths", [[], [0], [0, 0]])
@layouts
def test_a_batch_without_tokens_has_empty_paths(lengths: List[int], how: str) -> None:
    case = Case.random(0, lengths, free(3), 1.0)
    assert [p.tolist() for p in decoded(case, how)] == [[] for _ in lengths]
    arrangement = arranged(lengths, how)
    flat = case.potentials._replace(emissions=arrangement.spread(case.potentials.emissions))
    for paths, scores in k_best_of(flat, arrangement.sequences, 3):
        assert paths.shape == (1, 0) and scores.tolist() == [0.0]


def test_a_row_whose_only_paths_are_forbidden_has_no_k_best() -> None:
    row = bio(1).on(random_potentials(0, 2, 3))
    row.emissions[0, :2] = FORBIDDEN
    ((paths, scores),) = k_best_of(row, arranged([2], "consecutive").sequences, 3)
    assert paths.shape == (0, 2) and scores.shape == (0,)
    assert len(best_of(row, arranged([2], "consecutive").sequences)) == 2
