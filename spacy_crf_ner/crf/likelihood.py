"""The exact log-likelihood of full or partial gold annotation, and its gradient.

The gradient is that of Lafferty et al. (2001): gold counts less expected counts. The partial likelihood
marginalises over unknown tags: Tsuboi, Kashima, Mori, Oda, Matsumoto (2008), "Training conditional random fields
using incomplete annotations", COLING, eq. 4.
"""

from dataclasses import dataclass
from typing import Any, Optional

import numpy
from numpy.typing import NDArray

from spacy_crf_ner.crf.chain import FORBIDDEN, Chain, ExpectedCounts, Floats
from spacy_crf_ner.crf.forward_backward import Posterior, expected_counts, posterior
from spacy_crf_ner.crf.layout import Ints


@dataclass(frozen=True, eq=False)
class Likelihood:
    """The log-likelihood of each row's annotation, and all that its gradient needs.

    values (ndarray): *Shape:* (batch_size,), float64, in nats: the log of the share of mass that the allowed paths
        have; 0 for an empty row, at most about `FORBIDDEN` where no legal path is allowed.
    chain (Chain): The batch.
    path (ndarray): *Shape:* (n_positions,), int64: the gold tags in the layout's order, where they are known.
    opened (ndarray): *Shape:* (n,), int64: the rows that have a token whose tag is not known.
    """

    values: Floats
    chain: Chain
    path: Ints
    opened: Ints
    _posterior: Posterior
    _of_opened: Optional[Posterior]

    def gradient(self, weight: Optional[Floats] = None) -> ExpectedCounts:
        """The gradient by the potentials: gold counts less expected counts.

        weight (Optional[ndarray]): *Shape:* (batch_size,): the derivative by each row's value; ones by default.
        RETURNS (ExpectedCounts): The gradient.
        """
        n_tokens = len(self.chain.emissions)
        weight = numpy.ones(len(self.values)) if weight is None else weight
        with numpy.errstate(all="ignore"):  # an infinite weight makes a gradient that is not a number
            return self._gradient(weight, n_tokens)

    def _gradient(self, weight: Floats, n_tokens: int) -> ExpectedCounts:
        gradient = expected_counts(self._posterior, n_tokens, -weight)
        by_path = weight.copy()
        by_path[self.opened] = 0.0
        _add_path(gradient, self.chain, self.path, by_path)
        if self._of_opened is not None:
            for total, allowed in zip(gradient, expected_counts(self._of_opened, n_tokens, weight[self.opened])):
                total += allowed
        return gradient


def log_likelihood(chain: Chain, gold: NDArray[Any]) -> Likelihood:
    """The log-likelihood of each row's annotation.

    chain (Chain): The batch; its own lattice says what is possible at all.
    gold (ndarray): *Shape:* (n_tokens,), int64: the gold tags; or (n_tokens, n_tags), bool: the tags that the
        annotation leaves to each token. A row all of whose tokens have one is scored as that path, any other by a
        recursion under this lattice.
    RETURNS (Likelihood): Its values and its gradient.
    RAISES (ValueError): A tag is out of range, or `posterior` refuses the emissions.
    """
    layout = chain.layout
    if gold.ndim == 2:
        path = gold.argmax(axis=1)[layout.source]
        unknown = gold.sum(axis=1) != 1
        opened = numpy.flatnonzero(layout.per_row(unknown[layout.source].astype("float64")))
    else:
        path, opened = gold[layout.source], numpy.zeros(0, dtype="int64")
        _check_range(path, layout.row, chain.n_tags)
    found = posterior(chain)
    values = _path_scores(chain, path)
    of_opened = None
    if len(opened):
        of_opened = posterior(chain.rows(opened).under(gold if chain.lattice is None else gold & chain.lattice))
        values[opened] = of_opened.log_z
    with numpy.errstate(all="ignore"):
        return Likelihood(values - found.log_z, chain, path, opened, found, of_opened)


def _steps(chain: Chain, path: Ints) -> Ints:
    """The transitions that paths take, as indices of the flattened matrix. *Shape:* (n_positions - n_first,)."""
    layout = chain.layout
    return path[layout.previous] * chain.n_tags + path[layout.n_first :]


def _path_scores(chain: Chain, path: Ints) -> Floats:
    """The score of each row's path.

    path (ndarray): *Shape:* (n_positions,), int64: tags, in the layout's order.
    RETURNS (ndarray): *Shape:* (batch_size,), in nats; 0 for an empty row.
    """
    layout = chain.layout
    places = layout.source * chain.n_tags + path
    score = chain.emissions.reshape(-1).take(places)
    if chain.lattice is not None:
        score[~chain.lattice.reshape(-1).take(places)] = FORBIDDEN
    score[: layout.n_first] += chain.start.take(path[: layout.n_first])
    score[layout.n_first :] += chain.transitions.reshape(-1).take(_steps(chain, path))
    end = chain.end.take(layout.at_last(path))
    return layout.per_row(score) + numpy.where(layout.filled, end, 0.0)


def _add_path(counts: ExpectedCounts, chain: Chain, path: Ints, weight: Floats) -> None:
    """Add how often paths have each tag and step, each row with its weight, in place."""
    layout, n_tags = chain.layout, chain.n_tags
    by_position = weight.take(layout.row)
    first = layout.n_first

    def add(total: Floats, tags: Ints, weights: Floats) -> None:
        total += numpy.bincount(tags, weights, minlength=total.size).reshape(total.shape)

    counts.emissions.reshape(-1)[layout.source * n_tags + path] += by_position
    add(counts.start, path[:first], by_position[:first])
    add(counts.transitions, _steps(chain, path), by_position[first:])
    add(counts.end, layout.at_last(path), numpy.where(layout.filled, weight, 0.0))


def _check_range(path: Ints, row: Ints, n_tags: int) -> None:
    """path, row: (n_positions,)"""
    odd = (path < 0) | (path >= n_tags)
    if odd.any():
        position = int(odd.argmax())
        step = int((row[:position] == row[position]).sum())
        raise ValueError(
            f"row {int(row[position])}: tag {int(path[position])} at step {step} is out of range: "
            f"there are {n_tags} tags, from 0 on"
        )
