"""Probabilities of tags, of whole tag sequences and of entities, exactly, from one forward-backward recursion.

A linear-chain CRF is a Markov chain whose steps depend on the text: ``P(tag_t = j | tag_{t-1} = i)`` is
``A_ij omega_t(j)``, normalised over j. So the probability that the tags from s to e are some given ones is that of
the first times that of each step, and an entity's takes one more factor: that the next tag does not go on with it.
The constrained forward-backward algorithm of Culotta, McCallum (2004), "Confidence estimation for information
extraction", HLT-NAACL, yields the same with one recursion per entity.
"""

from typing import List, Sequence

import numpy
from numpy.typing import NDArray

from spacy_crf_ner.crf.chain import Floats
from spacy_crf_ner.crf.forward_backward import Posterior
from spacy_crf_ner.crf.layout import Ints


def token_marginals(posterior: Posterior, n_tokens: int) -> Floats:
    """The probability of each tag at each token.

    posterior (Posterior): The batch.
    n_tokens (int): Number of tokens of the flat array that it was made from.
    RETURNS (ndarray): *Shape:* (n_tokens, n_tags), float64; 0 for tokens in no row.
    """
    layout = posterior.layout
    by_position = posterior.tag_counts(numpy.ones(len(layout.row)))
    marginals = numpy.zeros((n_tokens, by_position.shape[1]))
    marginals[layout.source] = by_position
    return marginals


def path_probabilities(posterior: Posterior, scores: Sequence[Floats]) -> List[List[float]]:
    """The probabilities of whole tag sequences.

    posterior (Posterior): The batch.
    scores (Sequence[ndarray]): *Shape:* (n,), float64: the scores in nats of some sequences of each row.
    RETURNS (List[List[float]]): A probability for each.
    """
    # Rounding may lift a certain sequence a hair above 1.
    return [
        numpy.minimum(numpy.exp(row - total), 1.0).tolist() for row, total in zip(scores, posterior.log_z.tolist())
    ]


def segment_probabilities(
    posterior: Posterior, tags: Ints, starts: Ints, ends: Ints, continues: NDArray[numpy.bool_]
) -> Floats:
    """The probability that the tags of a segment are exactly the given ones, and that the next tag ends it.

    posterior (Posterior): The batch, of rows that follow one another.
    tags (ndarray): *Shape:* (n_tokens,), int64: a tag for each token of the flat array.
    starts (ndarray): *Shape:* (n_segments,), int64: first tokens, by their place in the flat array.
    ends (ndarray): *Shape:* (n_segments,), int64: the tokens after the last; of the same row.
    continues (ndarray): *Shape:* (n_tags, n_tags), bool: whether tag j, after tag i, goes on with i's segment.
    RETURNS (ndarray): *Shape:* (n_segments,), float64.
    """
    layout = posterior.layout
    path = tags[layout.source]
    before = path[layout.previous]
    inner = numpy.arange(layout.n_first, len(path))
    # shape: (n_positions - n_first, n_tags): where the path leads from each token but a row's last
    onward = posterior.next_tag(inner, before)
    entered = numpy.ones(len(tags))
    entered[layout.source[inner]] = onward[numpy.arange(len(inner)), path[inner]]
    left = numpy.ones(len(tags))
    left[layout.source[layout.previous]] = numpy.where(continues[before], 0.0, onward).sum(axis=1)
    # One log per step within a segment, summed by segment.
    sizes = ends - starts - 1
    segment = numpy.arange(len(starts)).repeat(sizes)
    within = numpy.arange(len(segment)) - (sizes.cumsum() - sizes)[segment]
    with numpy.errstate(divide="ignore"):
        log_steps = numpy.log(entered)[starts[segment] + 1 + within]
    log_path = numpy.bincount(segment, log_steps, minlength=len(starts))
    first = token_marginals(posterior, len(tags))[starts, tags[starts]]
    return first * numpy.exp(log_path) * left[ends - 1]
