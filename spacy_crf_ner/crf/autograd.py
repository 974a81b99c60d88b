"""The log-likelihood for PyTorch's autograd: one function without a tape, computed on the host.

Potentials on a device are copied once, there and back: they are few numbers, and a recursion on the device would
start several kernels per step. Where a gradient is itself to be differentiated (``create_graph=True``), it comes
from a recursion with a tape.
"""

from typing import Any, List, Optional, Tuple

import torch
from torch import Tensor

from spacy_crf_ner.crf.chain import FORBIDDEN, Chain, Floats
from spacy_crf_ner.crf.layout import Layout, Sequences
from spacy_crf_ner.crf.likelihood import log_likelihood


def chain_from_tensors(
    emissions: Tensor,
    start: Tensor,
    transitions: Tensor,
    end: Tensor,
    sequences: Sequences,
    lattice: Optional[Tensor] = None,
) -> Chain:
    """A batch whose potentials are tensors, without gradient.

    emissions (Tensor): *Shape:* (n_tokens, n_tags), any float dtype, in nats.
    start, transitions, end (Tensor): *Shapes:* (n_tags,), (n_tags, n_tags), (n_tags,).
    sequences (Sequences): Where the rows are in the flat arrays.
    lattice (Optional[Tensor]): *Shape:* (n_tokens, n_tags), bool: the tags that each token may have.
    RETURNS (Chain): The batch; it shares memory with tensors that are float64 and on the CPU.
    """

    def on_host(x: Tensor) -> Floats:
        return x.detach().cpu().double().numpy()

    allowed = None if lattice is None else lattice.cpu().numpy()
    return Chain(on_host(emissions), on_host(start), on_host(transitions), on_host(end), sequences, allowed)


def likelihood_from_tensors(
    emissions: Tensor, start: Tensor, transitions: Tensor, end: Tensor, sequences: Sequences, gold: Tensor
) -> Tensor:
    """The log-likelihood of each row's annotation.

    emissions, start, transitions, end, sequences: As of `chain_from_tensors`.
    gold (Tensor): Tags or a lattice, as of `likelihood.log_likelihood`.
    RETURNS (Tensor): *Shape:* (batch_size,), float64, in nats, on the device of the emissions. Differentiable by
        the first four, as often as wanted.
    RAISES (ValueError): As of `likelihood.log_likelihood`.
    """
    return _LogLikelihood.apply(emissions, start, transitions, end, sequences, gold)


class _LogLikelihood(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        emissions: Tensor,
        start: Tensor,
        transitions: Tensor,
        end: Tensor,
        sequences: Sequences,
        gold: Tensor,
    ) -> Tensor:
        chain = chain_from_tensors(emissions, start, transitions, end, sequences)
        likelihood = log_likelihood(chain, gold.cpu().numpy())
        potentials = (emissions, start, transitions, end)
        ctx.likelihood, ctx.gold = likelihood, gold
        ctx.inputs = [(x.dtype, x.device) for x in potentials]
        ctx.save_for_backward(*potentials)
        return torch.from_numpy(likelihood.values).to(emissions.device)

    @staticmethod
    def backward(ctx: Any, d_likelihood: Tensor) -> Tuple[Optional[Tensor], ...]:
        # Autograd switches its tape on in here where the caller asked for create_graph=True. `once_differentiable`
        # would not refuse that where the incoming gradient needs none, and the second derivative would be wrong.
        gradient = _taped_gradient if torch.is_grad_enabled() else _gradient
        return (*gradient(ctx, d_likelihood), None, None)


def _gradient(ctx: Any, d_likelihood: Tensor) -> Tuple[Tensor, ...]:
    """For emissions, start, transitions and end, each in its own dtype and on its own device."""
    counts = ctx.likelihood.gradient(d_likelihood.cpu().double().numpy())
    # Not of the saved tensors: the counts do not depend on them, which may have changed in their place since.
    return tuple(
        torch.from_numpy(count).to(dtype).to(device) for count, (dtype, device) in zip(counts, ctx.inputs)
    )


def _taped_gradient(ctx: Any, d_likelihood: Tensor) -> Tuple[Optional[Tensor], ...]:
    """The same as a function of the potentials and of `d_likelihood` that autograd can differentiate."""
    # Emissions may depend on the other three: each derivative is only by the argument.
    emissions, start, transitions, end = (x.view_as(x) for x in ctx.saved_tensors)
    inputs = (emissions, start, transitions, end)
    layout: Layout = ctx.likelihood.chain.layout
    # A row whose tags are all known is scored as its path: under a lattice, what the path may not take would be as
    # good as what it takes.
    gold = _path_scores(*inputs, layout, torch.from_numpy(ctx.likelihood.path).to(emissions.device))
    opened = torch.from_numpy(ctx.likelihood.opened).to(emissions.device)
    if len(opened):
        partial = log_partition(*inputs, layout, ctx.gold.to(emissions.device))
        gold = gold.index_copy(0, opened, partial.index_select(0, opened))
    likelihood = gold - log_partition(*inputs, layout, None)
    wanted = [x for x, needed in zip(inputs, ctx.needs_input_grad) if needed]
    found = iter(torch.autograd.grad(likelihood, wanted, d_likelihood, create_graph=True, materialize_grads=True))
    return tuple(next(found) if needed else None for needed in ctx.needs_input_grad[:4])


def _path_scores(
    emissions: Tensor, start: Tensor, transitions: Tensor, end: Tensor, layout: Layout, path: Tensor
) -> Tensor:
    """The score of each row's path, differentiable. path: (n_positions,). *Shape:* (batch_size,), float64."""
    device, first = emissions.device, layout.n_first
    source, row, previous, last, filled = (
        torch.from_numpy(x).to(device)
        for x in (layout.source, layout.row, layout.previous, layout.last, layout.filled)
    )
    scores = emissions[source, path].double()
    steps = torch.cat((start[path[:first]].double(), transitions[path[previous], path[first:]].double()))
    totals = scores.new_zeros(len(filled)).index_add(0, row, scores + steps)
    rows = filled.nonzero().squeeze(1)
    return totals.index_add(0, rows, end[path[last[rows]]].double())


def log_partition(
    emissions: Tensor, start: Tensor, transitions: Tensor, end: Tensor, layout: Layout, lattice: Optional[Tensor]
) -> Tensor:
    """The log partition of each row, by a forward recursion in log space that autograd can differentiate as often
    as wanted. The tape holds (rows, n_tags, n_tags) numbers per step. *Shape:* (batch_size,), float64."""
    device = emissions.device
    source = torch.from_numpy(layout.source).to(device)
    # shape: (n_positions, n_tags)
    tokens = emissions.index_select(0, source).double()
    if lattice is not None:
        tokens = tokens.masked_fill(~lattice.index_select(0, source), FORBIDDEN)
    mass = start.double()
    # shape: (size, n_tags) each
    alpha: List[Tensor] = [tokens[:0]]
    for t, token in enumerate(tokens.split(layout.sizes)):
        if t:
            mass = torch.logsumexp(mass[: len(token)].unsqueeze(2) + transitions, dim=1)
        mass = mass + token
        alpha.append(mass)
    filled = torch.from_numpy(layout.filled.nonzero()[0]).to(device)
    last = torch.from_numpy(layout.last).to(device)[filled]
    totals = torch.logsumexp(torch.cat(alpha).index_select(0, last) + end, dim=1)
    return totals.new_zeros(len(layout.filled)).index_copy(0, filled, totals)
