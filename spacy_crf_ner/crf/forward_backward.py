"""The forward-backward recursion of a linear-chain CRF, and the probabilities that follow from it.

Lafferty, McCallum, Pereira (2001), "Conditional random fields", ICML; the scaling of the recursion by its own
sums is that of Rabiner (1989), "A tutorial on hidden Markov models", section V.A.

There are two forms. In scaled exp space, float64, a step is one matrix product for both directions at once. Where
the potentials of one sequence span more than float64 can hold, its probabilities vanish; that is seen on the
result (`ScaledPosterior.holds`), and the batch is computed again in log space, which is slower and always right.

Notation: ``before[t]`` is the mass of all that precedes token t and steps into it, without its emission;
``alpha[t]`` is ``before[t]`` with it; ``omega[t]`` is the mass of token t's emission and all that follows it.
The marginal of a tag is ``before[t] * omega[t]``, normalised.
"""

from dataclasses import dataclass
from typing import List, Optional, Protocol, Tuple

import numpy
import torch
from torch import Tensor

from spacy_crf_ner.crf.layout import Layout

FORBIDDEN = -1e30
"""The log potential of what cannot be. Finite, so that no ``inf - inf`` makes a NaN of a gradient, and so low that
its exponential is an exact 0 beside any other."""

RESCALE_EVERY = 8
"""Steps between two rescalings. Eight steps that each lose 80 nats stay within float64's range."""

MAX_CELLS = 2**22
"""The most (token, tag, tag) cells that are held at a time in log space."""

TINY = 1e-300

MIN_MASS = 1e-260
"""Below this, the mass at some token may owe something to numbers that float64 has already rounded to 0."""


class Posterior(Protocol):
    """What is known of a batch once its forward-backward recursion has run. All in float64, without gradient.

    layout (Layout): The batch; the positions below are its.
    log_z (Tensor): *Shape:* (batch_size,): the log partition of each row, 0 for an empty row. At most about
        ``FORBIDDEN`` where no tag sequence is allowed.
    """

    @property
    def layout(self) -> Layout: ...

    @property
    def log_z(self) -> Tensor: ...

    def expectations(self, weight: Tensor) -> Tuple[Tensor, Tensor]:
        """Expected counts: of each tag at each position, and of each transition over the batch.

        weight (Tensor): *Shape:* (n_positions,): how much a position, and the step into it, counts. With ones, the
            first result is the marginals.
        RETURNS (Tuple[Tensor, Tensor]): *Shapes:* (n_positions, num_tags), 0 at padding; (num_tags, num_tags).
        """
        ...

    def next_tag(self, positions: Tensor, tags: Tensor) -> Tensor:
        """The distribution of the tag at some positions, given the tag one step before.

        positions (Tensor): *Shape:* (n,), int64; none of a first step.
        tags (Tensor): *Shape:* (n,), int64: the tags before.
        RETURNS (Tensor): *Shape:* (n, num_tags); finite, but of no meaning where the tag before has probability 0.
        """
        ...


@torch.no_grad()
def forward_backward(
    emissions: Tensor,
    start: Tensor,
    transitions: Tensor,
    end: Tensor,
    layout: Layout,
    allowed: Optional[Tensor] = None,
) -> Posterior:
    """Run the recursion: scaled where that is exact, in log space else.

    emissions (Tensor): *Shape:* (n_tokens, num_tags), any float dtype, in nats: the layout's flat array.
    start (Tensor): *Shape:* (num_tags,).
    transitions (Tensor): *Shape:* (num_tags, num_tags); entry ``[i, j]`` is the step from tag i to tag j.
    end (Tensor): *Shape:* (num_tags,).
    layout (Layout): The batch.
    allowed (Optional[Tensor]): *Shape:* (n_positions, num_tags), bool: which tags may stand where; all by default.
    RETURNS (Posterior): The result. The host waits for the device once, for one flag, when all is queued.
    RAISES (ValueError): A row's emissions hold NaN or infinity, or minus infinity for all tags of a token.
    """

    def tokens() -> Tensor:
        chosen = layout.at_real(emissions.index_select(0, layout.source).double())
        return chosen if allowed is None else chosen.masked_fill_(~allowed, FORBIDDEN)

    shared = (start.double(), transitions.double(), end.double())
    scaled = ScaledPosterior.run(tokens(), *shared, layout=layout)
    if scaled.holds():
        return scaled
    in_nats = LogPosterior.run(tokens(), *shared, layout=layout)
    odd = ~in_nats.log_z.isfinite()
    if odd.any():
        row = int(odd.int().argmax())
        own = tokens()[layout.row == row]
        refused = own.isnan() | (own == torch.inf) | (own == -torch.inf).all(dim=1, keepdim=True)
        if not refused.any():
            raise ValueError("a start, transition or end potential is NaN or infinite, but numbers are needed")
        step = int(refused.any(dim=1).int().argmax())
        raise ValueError(
            f"row {row}: the emissions at step {step} are {own[step].tolist()}, but numbers are needed; "
            "minus infinity may stand where a token has another tag"
        )
    return in_nats


@dataclass(frozen=True, eq=False)
class ScaledPosterior:
    """The recursion in exp space: each row of these arrays is right up to a factor of its own. See `Posterior`.

    alpha, omega (Tensor): *Shape:* (n_positions, num_tags): the masses of the module's notation.
    joint (Tensor): *Shape:* (n_positions, num_tags): ``before * omega``.
    mass (Tensor): *Shape:* (n_positions,): its sum over the tags.
    scale (Tensor): *Shape:* (n_positions,): by what `alpha` was divided at this position.
    least (Tensor): *Shape:* (n_positions,): the mass before either direction was divided at this position.
    step (Tensor): *Shape:* (num_tags, num_tags): the exponentiated transitions.
    """

    layout: Layout
    log_z: Tensor
    alpha: Tensor
    omega: Tensor
    joint: Tensor
    mass: Tensor
    scale: Tensor
    least: Tensor
    step: Tensor

    @classmethod
    def run(
        cls, tokens: Tensor, start: Tensor, transitions: Tensor, end: Tensor, layout: Layout
    ) -> "ScaledPosterior":
        """tokens: (n_positions, num_tags), the emissions in the layout's order; overwritten. All are float64."""
        num_tags = tokens.shape[1]
        # Nothing exceeds 1 after the exponential.
        top = tokens.amax(dim=1)
        emitted = tokens.sub_(top.unsqueeze(1)).exp_()
        # shape: (num_tags + 2, num_tags)
        shared = torch.cat((start.unsqueeze(0), transitions, end.unsqueeze(0)))
        shared_top = shared.amax()
        begin, step, close = shared.sub_(shared_top).exp_().split((1, num_tags, 1))
        # The backward direction goes over the mirrored rows beside the forward one.
        # shape: (n_positions, 2 * num_tags)
        both = torch.cat((emitted, emitted.index_select(0, layout.mirror)), dim=1)
        recurse = _recurse_on_host if both.device.type == "cpu" else _recurse_on_device
        # shape: (n_positions, 2 * num_tags), (n_positions, 2)
        masses, scales = recurse(both, step, torch.cat((begin, close), dim=1)[0], layout.sizes)
        alpha = masses[:, :num_tags]
        omega = masses[:, num_tags:].index_select(0, layout.mirror)
        scale = scales[:, 0]
        # One shared potential more than tokens: a transition between each two, the start and the end.
        log_z = layout.per_row(scale.log().add_(top).add_(shared_top)).add_(shared_top)
        log_z += (layout.at_last(alpha) @ close[0]).log_()
        log_z = layout.at_filled(log_z)
        # alpha without its emission. An emission of 0 left a mass of 0, and nothing to divide.
        joint = torch.div(alpha, emitted.clamp_(min=TINY), out=emitted).mul_(omega)
        mass = joint @ torch.ones_like(start)
        least = mass * scale * scales[:, 1].index_select(0, layout.mirror)
        return cls(layout, log_z, alpha, omega, joint, mass, scale, least, step)

    def holds(self) -> bool:
        """Whether no number that mattered was too small for float64, and all are finite.

        Whatever was rounded to 0, or to few digits, was below 1e-300 when it was, and so nothing beside a mass
        that was `MIN_MASS` then.
        """
        return not len(self.least) or self.layout.at_real(self.least, 1.0).amin().item() >= MIN_MASS

    def expectations(self, weight: Tensor) -> Tuple[Tensor, Tensor]:
        layout = self.layout
        share = weight / self.mass
        # What was divided away at a step is no part of the product that led to it.
        into = layout.at_real(self.omega * (share / self.scale).unsqueeze(1))[layout.n_first :]
        out_of = layout.at_real(self.alpha).index_select(0, layout.previous)
        return layout.at_real(self.joint * share.unsqueeze(1)), (out_of.t() @ into).mul_(self.step)

    def next_tag(self, positions: Tensor, tags: Tensor) -> Tensor:
        # shape: (n, num_tags)
        joint = self.step[tags] * self.omega[positions]
        total = joint.sum(dim=1, keepdim=True)
        return torch.where(total > 0, joint / total, 0.0)


def _recurse_on_host(both: Tensor, step: Tensor, first: Tensor, sizes: List[int]) -> Tuple[Tensor, Tensor]:
    """The loop of both directions: ``masses[t] = (masses[t - 1] @ onward) * both[t]``, rescaled now and then,
    where ``onward`` is `step` for the forward and its transpose for the backward half. In NumPy, which starts an
    operation on a small array two to three times as fast as torch does.

    both (Tensor): *Shape:* (n_positions, 2 * num_tags).
    step (Tensor): *Shape:* (num_tags, num_tags).
    first (Tensor): *Shape:* (2 * num_tags,): stands in for the product at the first step.
    sizes (List[int]): Rows of each step.
    RETURNS (Tuple[Tensor, Tensor]): The masses, *shape:* that of `both`, and by what the two halves of each
        position were divided, *shape:* (n_positions, 2).
    """
    num_tags = len(step)
    onward = numpy.zeros((2 * num_tags, 2 * num_tags))
    onward[:num_tags, :num_tags], onward[num_tags:, num_tags:] = step.numpy(), step.numpy().T
    halves = numpy.eye(2).repeat(num_tags, axis=0)
    masses, scale = torch.empty_like(both), both.new_ones(len(both), 2)
    emitted, filled, divisors = both.numpy(), masses.numpy(), scale.numpy()
    mass = numpy.empty((0, 2 * num_tags))
    begin = 0
    # A mass that has vanished is divided by 0 here, and `holds` sees it.
    with numpy.errstate(all="ignore"):
        for t, size in enumerate(sizes):
            position = slice(begin, begin + size)
            begin += size
            before, mass = mass, filled[position]
            if t:
                numpy.dot(before[:size], onward, out=mass)
            else:
                mass[...] = first.numpy()
            mass *= emitted[position]
            if t % RESCALE_EVERY == RESCALE_EVERY - 1:
                # shape: (size, 2)
                total = mass.dot(halves)
                mass *= (1.0 / total).dot(halves.T)
                divisors[position] = total
    return masses, scale


def _recurse_on_device(both: Tensor, step: Tensor, first: Tensor, sizes: List[int]) -> Tuple[Tensor, Tensor]:
    """`_recurse_on_host` in torch. The host queues it without ever waiting."""
    onward = torch.block_diag(step, step.t())
    halves = torch.block_diag(*both.new_ones(2, len(step), 1))
    masses, scale = torch.empty_like(both), both.new_ones(len(both), 2)
    mass = first
    for t, (emitted, filled, divisor) in enumerate(zip(*(x.split(sizes) for x in (both, masses, scale)))):
        if t:
            mass = mass[: len(emitted)] @ onward
        mass = torch.mul(mass, emitted, out=filled)
        if t % RESCALE_EVERY == RESCALE_EVERY - 1:
            # shape: (size, 2)
            total = mass @ halves
            mass.view(len(mass), 2, -1).div_(total.unsqueeze(2))
            divisor.copy_(total)
    return masses, scale


@dataclass(frozen=True, eq=False)
class LogPosterior:
    """The recursion in log space, for potentials that span more than float64 can hold. See `Posterior`.

    before, alpha, omega (Tensor): *Shape:* (n_positions, num_tags), in nats; see the module's notation.
    transitions (Tensor): *Shape:* (num_tags, num_tags), in nats.
    """

    layout: Layout
    log_z: Tensor
    before: Tensor
    alpha: Tensor
    omega: Tensor
    transitions: Tensor

    @classmethod
    def run(
        cls, tokens: Tensor, start: Tensor, transitions: Tensor, end: Tensor, layout: Layout
    ) -> "LogPosterior":
        """tokens: (n_positions, num_tags), the emissions in the layout's order; all float64."""
        # shape: (n_positions, 2, num_tags): forward, and backward over mirrored rows
        emitted = torch.stack((tokens, tokens.index_select(0, layout.mirror)), dim=1)
        # shape: (2, num_tags, num_tags): from the last dimension to the one before
        onward = torch.stack((transitions.t(), transitions))
        without, with_emission = torch.empty_like(emitted), torch.empty_like(emitted)
        steps = zip(*(x.split(layout.sizes) for x in (emitted, without, with_emission)))
        mass = torch.stack((start, end))
        for t, (emission, product, following) in enumerate(steps):
            if t:
                product.copy_(torch.logsumexp(mass[: len(product)].unsqueeze(2) + onward, dim=3))
            else:
                product.copy_(mass)
            mass = torch.add(product, emission, out=following)
        before, alpha = without[:, 0], with_emission[:, 0]
        omega = with_emission[:, 1].index_select(0, layout.mirror)
        log_z = torch.logsumexp(layout.at_last(alpha) + end, dim=1)
        return cls(layout, layout.at_filled(log_z), before, alpha, omega, transitions)

    def expectations(self, weight: Tensor) -> Tuple[Tensor, Tensor]:
        previous, weight = self.layout.previous, self.layout.at_real(weight)
        transitions = torch.zeros_like(self.transitions)
        inner = torch.arange(self.layout.n_first, len(weight), device=weight.device)
        at_a_time = max(MAX_CELLS // transitions.numel(), 1)
        for before, after in zip(previous.split(at_a_time), inner.split(at_a_time)):
            # shape: (n, num_tags, num_tags)
            joint = self.alpha[before].unsqueeze(2) + self.transitions + self.omega[after].unsqueeze(1)
            transitions += (weight[after] @ torch.softmax(joint.flatten(1), dim=1)).view_as(transitions)
        gamma = torch.softmax(self.before + self.omega, dim=1)
        return self.layout.at_real(gamma * weight.unsqueeze(1)), transitions

    def next_tag(self, positions: Tensor, tags: Tensor) -> Tensor:
        return torch.softmax(self.transitions[tags] + self.omega[positions], dim=1)


def taped_log_partition(
    emissions: Tensor,
    start: Tensor,
    transitions: Tensor,
    end: Tensor,
    layout: Layout,
    allowed: Optional[Tensor] = None,
) -> Tensor:
    """The log partition of each row by a forward recursion that autograd can differentiate, as often as wanted. It
    is in log space; the tape holds (rows, num_tags, num_tags) numbers per step.

    The arguments are those of `forward_backward`, which has looked at the numbers before.
    RETURNS (Tensor): *Shape:* (batch_size,), float64: `Posterior.log_z`.
    """
    tokens = layout.at_real(emissions.index_select(0, layout.source).double())
    if allowed is not None:
        tokens = tokens.masked_fill(~allowed, FORBIDDEN)
    mass = start.double()
    # shape: (size, num_tags) each
    alpha: List[Tensor] = [tokens[:0]]
    for t, token in enumerate(tokens.split(layout.sizes)):
        if t:
            mass = torch.logsumexp(mass[: len(token)].unsqueeze(2) + transitions, dim=1)
        mass = mass + token
        alpha.append(mass)
    return layout.at_filled(torch.logsumexp(layout.at_last(torch.cat(alpha)) + end, dim=1))
