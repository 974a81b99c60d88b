"""The exact log-likelihood of full or partial gold annotation, as one `torch.autograd.Function` without a tape.

Where a gradient is itself to be differentiated (``create_graph=True``), it comes from a recursion with a tape.

The gradient is that of Lafferty et al. (2001): gold counts less expected counts. The partial likelihood
marginalises over unknown tags: Tsuboi, Kashima, Mori, Oda, Matsumoto (2008), "Training conditional random fields
using incomplete annotations", COLING, eq. 4. Both its terms come from one recursion, over the batch's rows and the
partly annotated ones once more.
"""

from typing import Any, Optional, Tuple

import torch
from torch import Tensor

from spacy_crf_ner.crf.forward_backward import forward_backward, taped_log_partition
from spacy_crf_ner.crf.layout import Layout, Sequences

Tensors = Tuple[Tensor, Tensor, Tensor, Tensor]


def log_likelihood(
    emissions: Tensor,
    start: Tensor,
    transitions: Tensor,
    end: Tensor,
    sequences: Sequences,
    tags: Tensor,
    lattice: Optional[Tensor] = None,
) -> Tensor:
    """The log-likelihood of each row's annotation: the log of the share of mass that its allowed paths have.

    emissions (Tensor): *Shape:* (n_tokens, num_tags), any float dtype, in nats.
    start (Tensor): *Shape:* (num_tags,).
    transitions (Tensor): *Shape:* (num_tags, num_tags); entry ``[i, j]`` is the step from tag i to tag j.
    end (Tensor): *Shape:* (num_tags,).
    sequences (Sequences): Where the rows lie in the flat arrays.
    tags (Tensor): *Shape:* (n_tokens,), int64: the gold tags. Ignored in rows that `lattice` opens.
    lattice (Optional[Tensor]): *Shape:* (n_tokens, num_tags), bool: the tags that each token may have. A row all
        of whose tokens have one is scored by `tags`. None: all are.
    RETURNS (Tensor): *Shape:* (batch_size,), float64, in nats; 0 for an empty row, at most about
        `FORBIDDEN` where no legal path is allowed. Differentiable by the first four, as often as wanted.
    RAISES (ValueError): A tag is out of range, or `forward_backward` refuses the emissions.
    """
    return _LogLikelihood.apply(emissions, start, transitions, end, sequences, tags, lattice)


class _LogLikelihood(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        emissions: Tensor,
        start: Tensor,
        transitions: Tensor,
        end: Tensor,
        sequences: Sequences,
        tags: Tensor,
        lattice: Optional[Tensor],
    ) -> Tensor:
        batch_size, num_tags = len(sequences.lengths), len(start)
        opened: Optional[Tensor] = None
        allowed: Optional[Tensor] = None
        layout = Layout.of(sequences, emissions.device)
        if lattice is not None:
            opened = _opened(sequences, lattice)
        if lattice is not None and opened is not None:
            layout = Layout.of(sequences.repeated(opened), emissions.device)
            once_more = (layout.row >= batch_size).unsqueeze(1)
            allowed = lattice.to(emissions.device)[layout.source] | ~once_more
            opened = opened.to(emissions.device)
        # shape: (n_positions,)
        path = layout.at_real(tags.to(emissions.device).index_select(0, layout.source), 0)
        if lattice is None:
            _refuse_out_of_range(path, layout.row, num_tags)
        else:
            path = path.clamp(0, num_tags - 1)
        posterior = forward_backward(emissions, start, transitions, end, layout, allowed)
        # The transitions that the paths take, as indices of the flattened matrix. shape: (n_positions - n_first,)
        taken = path.index_select(0, layout.previous).mul_(num_tags).add_(path[layout.n_first :])
        potentials = (emissions, start, transitions, end)
        gold = _gold_mass(potentials, layout, path, taken, posterior.log_z, opened, batch_size)
        ctx.posterior, ctx.path, ctx.taken, ctx.opened, ctx.allowed = posterior, path, taken, opened, allowed
        ctx.inputs = [(x.shape, x.dtype) for x in potentials]
        ctx.save_for_backward(*potentials)
        return gold - posterior.log_z[:batch_size]

    @staticmethod
    def backward(ctx: Any, d_likelihood: Tensor) -> Tuple[Optional[Tensor], ...]:
        # Autograd switches its tape on in here where the caller asked for create_graph=True. `once_differentiable`
        # would not refuse that where the incoming gradient needs none, and the second derivative would be wrong.
        gradient = _taped_gradient if torch.is_grad_enabled() else _gradient
        return (*gradient(ctx, d_likelihood), None, None, None)


def _gold_mass(
    potentials: Tensors,
    layout: Layout,
    path: Tensor,
    taken: Tensor,
    log_z: Tensor,
    opened: Optional[Tensor],
    batch_size: int,
) -> Tensor:
    """The log of the mass that each row's annotation allows: its path's score, or its partition if it is opened.

    path (Tensor): *Shape:* (n_positions,).
    taken (Tensor): *Shape:* (n_positions - n_first,): the path's transitions, as indices of the flattened matrix.
    log_z (Tensor): *Shape:* (rows of the layout,).
    opened (Optional[Tensor]): *Shape:* (n,), int64: the rows that come once more in the layout, under a lattice.
    RETURNS (Tensor): *Shape:* (batch_size,).
    """
    emissions, start, transitions, end = potentials
    score = emissions.reshape(-1).index_select(0, (layout.source * len(start)).add_(path)).double()
    score[: layout.n_first] += start.index_select(0, path[: layout.n_first])
    score[layout.n_first :] += transitions.reshape(-1).index_select(0, taken)
    mass = layout.per_row(score) + layout.at_filled(end.index_select(0, layout.at_last(path)))
    mass = mass[:batch_size]
    if opened is not None:
        mass[opened] = log_z[batch_size:]
    return mass


def _gradient(ctx: Any, d_likelihood: Tensor) -> Tuple[Tensor, ...]:
    """Gold counts less expected counts, for emissions, start, transitions and end."""
    layout: Layout = ctx.posterior.layout
    # All paths count against a row, and for it the one that is gold or, once more, those that are allowed.
    if ctx.opened is None:
        gold = layout.at_real(d_likelihood.index_select(0, layout.row))
        weight = -gold
    else:
        once_more = d_likelihood[ctx.opened]
        by_path = torch.cat((d_likelihood.index_fill(0, ctx.opened, 0.0), torch.zeros_like(once_more)))
        gold = layout.at_real(by_path[layout.row])
        weight = torch.cat((-d_likelihood, once_more))[layout.row]
    # shape: (n_positions, num_tags), (num_tags, num_tags)
    d_position, d_transitions = ctx.posterior.expectations(weight)
    d_position.scatter_add_(1, ctx.path.unsqueeze(1), gold.unsqueeze(1))
    d_transitions.view(-1).index_add_(0, ctx.taken, gold[layout.n_first :])
    d_start = d_position[: layout.n_first].sum(dim=0)
    d_end = layout.at_last(d_position).sum(dim=0)
    (shape, dtype), *shared = ctx.inputs
    d_emissions = d_position.new_zeros(shape, dtype=dtype).index_add_(0, layout.source, d_position.to(dtype))
    d_shared = (grad.to(dtype) for grad, (_, dtype) in zip((d_start, d_transitions, d_end), shared))
    return (d_emissions, *d_shared)


def _taped_gradient(ctx: Any, d_likelihood: Tensor) -> Tuple[Optional[Tensor], ...]:
    """The same as a function of the potentials and of `d_likelihood` that autograd can differentiate."""
    # Emissions may depend on the other three: each derivative is by the argument alone.
    emissions, start, transitions, end = (x.view_as(x) for x in ctx.saved_tensors)
    inputs = (emissions, start, transitions, end)
    layout: Layout = ctx.posterior.layout
    log_z = taped_log_partition(*inputs, layout, ctx.allowed)
    batch_size = len(d_likelihood)
    gold = _gold_mass(inputs, layout, ctx.path, ctx.taken, log_z, ctx.opened, batch_size)
    wanted = [x for x, needed in zip(inputs, ctx.needs_input_grad) if needed]
    found = iter(
        torch.autograd.grad(
            gold - log_z[:batch_size], wanted, d_likelihood, create_graph=True, materialize_grads=True
        )
    )
    return tuple(next(found) if needed else None for needed in ctx.needs_input_grad[:4])


def _opened(sequences: Sequences, lattice: Tensor) -> Optional[Tensor]:
    """The rows that have a token whose tag is not known, as the lattice's own device knows them.

    RETURNS (Optional[Tensor]): *Shape:* (n,), int64, on the device of `sequences`; None where all are known.
    """
    unknown = (lattice.sum(dim=1) != 1).to(sequences.lengths.device)
    layout = Layout.of(sequences, sequences.lengths.device)
    rows = layout.per_row(unknown[layout.source].double()).nonzero().squeeze(1)
    return rows if len(rows) else None


def _refuse_out_of_range(path: Tensor, row: Tensor, num_tags: int) -> None:
    """path, row: (n_positions,)"""
    if not len(path):
        return
    least, most = path.aminmax()
    if (least < 0) | (most >= num_tags):
        odd = (path < 0) | (path >= num_tags)
        position = int(odd.int().argmax())
        step = int((row[:position] == row[position]).sum())
        raise ValueError(
            f"row {int(row[position])}: tag {int(path[position])} at step {step} is out of range: "
            f"there are {num_tags} tags, from 0 on"
        )
