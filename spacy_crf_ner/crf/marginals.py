"""Probabilities of tags, of stretches of a tag sequence and of entities, exactly, from one forward-backward
recursion.

A linear-chain CRF is a Markov chain whose steps depend on the text: ``P(tag_t = j | tag_{t-1} = i)`` is
``A_ij omega_t(j)``, normalised over j. So the probability that the tags from s to e are some given ones is that of
the first times that of each step, and an entity's takes one more factor: that the next tag does not go on with it.
The constrained forward-backward algorithm of Culotta, McCallum (2004), "Confidence estimation for information
extraction", HLT-NAACL, yields the same with a recursion an entity.
"""

from typing import List, Optional, Sequence, Tuple

import torch
from torch import Tensor

from spacy_crf_ner.crf.forward_backward import Posterior, forward_backward
from spacy_crf_ner.crf.layout import Layout, Sequences


def posterior_of(
    emissions: Tensor,
    start: Tensor,
    transitions: Tensor,
    end: Tensor,
    sequences: Sequences,
    lattice: Optional[Tensor] = None,
) -> Posterior:
    """Run the recursion over some rows.

    emissions (Tensor): *Shape:* (n_tokens, num_tags), any float dtype, in nats.
    start (Tensor): *Shape:* (num_tags,).
    transitions (Tensor): *Shape:* (num_tags, num_tags); entry ``[i, j]`` is the step from tag i to tag j.
    end (Tensor): *Shape:* (num_tags,).
    sequences (Sequences): Where the rows lie in `emissions`.
    lattice (Optional[Tensor]): *Shape:* (n_tokens, num_tags), bool: the tags that each token may have; all by
        default.
    RETURNS (Posterior): What the functions below take.
    """
    layout = Layout.of(sequences, emissions.device)
    allowed = None if lattice is None else lattice.to(emissions.device).index_select(0, layout.source)
    return forward_backward(emissions, start, transitions, end, layout, allowed)


def token_marginals(posterior: Posterior, n_tokens: int) -> Tensor:
    """The probability of each tag at each token.

    posterior (Posterior): The batch.
    n_tokens (int): Number of tokens of the flat array that it was made from.
    RETURNS (Tensor): *Shape:* (n_tokens, num_tags), float64; 0 for tokens in no row.
    """
    layout = posterior.layout
    gamma, _ = posterior.expectations(torch.ones_like(layout.row, dtype=torch.float64))
    return gamma.new_zeros(n_tokens, gamma.shape[1]).index_add_(0, layout.source, gamma)


def path_probabilities(posterior: Posterior, scores: Sequence[Tensor]) -> List[List[float]]:
    """The probabilities of whole tag sequences.

    posterior (Posterior): The batch.
    scores (Sequence[Tensor]): *Shape:* (n,), float64: the scores in nats of some sequences of each row.
    RETURNS (List[List[float]]): A probability for each.
    """
    # Rounding may lift a certain sequence a hair above 1.
    log_z = posterior.log_z.cpu()
    return [(row.cpu() - total).exp().clamp_(max=1.0).tolist() for row, total in zip(scores, log_z)]


def segment_probabilities(
    posterior: Posterior, tags: Tensor, starts: Tensor, ends: Tensor, continues: Tensor
) -> Tensor:
    """The probability that the tags of a segment are exactly the given ones, and that the next tag ends it.

    posterior (Posterior): The batch, of packed rows that follow one another.
    tags (Tensor): *Shape:* (n_tokens,), int64: a tag for each token of the flat array.
    starts (Tensor): *Shape:* (n_segments,), int64: first tokens, by their place in the flat array.
    ends (Tensor): *Shape:* (n_segments,), int64: the tokens after the last; of the same row.
    continues (Tensor): *Shape:* (num_tags, num_tags), bool: whether tag j, after tag i, goes on with i's segment.
    RETURNS (Tensor): *Shape:* (n_segments,), float64.
    """
    layout = posterior.layout
    tags, starts, ends, continues = (x.to(layout.row.device) for x in (tags, starts, ends, continues))
    path = tags[layout.source]
    before = path[layout.previous]
    inner = torch.arange(layout.n_first, len(path), device=path.device)
    # shape: (n_positions - n_first, num_tags): where the path leads from each token but a row's last
    onward = posterior.next_tag(inner, before)
    entered = onward.new_ones(len(tags))
    entered[layout.source[inner]] = onward.gather(1, path[inner].unsqueeze(1)).squeeze(1)
    left = onward.new_ones(len(tags))
    left[layout.source[layout.previous]] = onward.masked_fill(continues[before], 0.0).sum(dim=1)
    # One log a step within a segment, summed by segment.
    sizes = ends - starts - 1
    segment = torch.arange(len(starts), device=path.device).repeat_interleave(sizes)
    within = torch.arange(len(segment), device=path.device) - (sizes.cumsum(0) - sizes)[segment]
    log_steps = entered.log()[starts[segment] + 1 + within]
    log_path = entered.new_zeros(len(starts)).index_add_(0, segment, log_steps)
    first = token_marginals(posterior, len(tags))[starts, tags[starts]]
    return first * log_path.exp() * left[ends - 1]


def span_probabilities(
    posterior: Posterior, n_tokens: int, begin: Tensor, inside: Tensor, max_length: int
) -> Tensor:
    """The probability of every span up to some length to be exactly an entity, of each type.

    posterior (Posterior): The batch, of packed rows that follow one another.
    n_tokens (int): Number of tokens of the flat array that it was made from.
    begin, inside (Tensor): *Shape:* (n_types,), int64: the tags B and I of each entity type.
    max_length (int): The most tokens of a span, at least 1.
    RETURNS (Tensor): *Shape:* (n_tokens, max_length, n_types), float64; entry ``[s, n]`` is of the span of n + 1
        tokens that begins at token s, 0 where that leaves the row.
    """
    layout = posterior.layout
    (into_b, out_b), (into_i, out_i) = (
        _steps_inside(posterior, n_tokens, tags, inside) for tags in (begin, inside)
    )
    # The probability that an entity has begun at each token and runs on for so many tokens.
    running = token_marginals(posterior, n_tokens)[:, begin.to(layout.row.device)]
    spans = running.new_zeros(n_tokens, max_length, len(begin))
    spans[:, 0] = running * out_b
    for n in range(1, min(max_length, n_tokens)):
        running = running[:-1] * (into_b if n == 1 else into_i)[n:]
        spans[:-n, n] = running * out_i[n:]
    return spans


def _steps_inside(posterior: Posterior, n_tokens: int, tags: Tensor, inside: Tensor) -> Tuple[Tensor, Tensor]:
    """From one tag of each type: the probability of the step to its I at each token, 0 at a row's first; and that
    the step after each token is another, 1 at a row's last. *Shapes:* (n_tokens, n_types)."""
    layout = posterior.layout
    inner = torch.arange(layout.n_first, len(layout.row), device=layout.row.device)
    into = torch.zeros(n_tokens, len(tags), dtype=torch.float64, device=inner.device)
    out = torch.ones_like(into)
    for i, (tag, goes_on) in enumerate(zip(tags.tolist(), inside.tolist())):
        onward = posterior.next_tag(inner, torch.full_like(inner, tag))
        into[layout.source[inner], i] = onward[:, goes_on]
        onward[:, goes_on] = 0.0
        out[layout.source[layout.previous], i] = onward.sum(dim=1)
    return into, out
