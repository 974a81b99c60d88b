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

import sys
from dataclasses import dataclass
from typing import List, Protocol, Tuple

import numpy

from spacy_crf_ner.crf.chain import Chain, ExpectedCounts, Floats
from spacy_crf_ner.crf.layout import Ints, Layout

RESCALE_EVERY = 8
"""Steps between two rescalings. Eight steps that each lose 80 nats stay within float64's range."""

MAX_CELLS = 2**22
"""The most (token, tag, tag) cells that are held at a time in log space."""

TINY = 1e-300

MIN_MASS = 1e-260
"""Below this, the mass at some token may owe something to numbers that float64 has already rounded to 0."""


class Posterior(Protocol):
    """What is known of a batch once its forward-backward recursion has run. All in float64.

    layout (Layout): The batch; the positions below are its.
    log_z (ndarray): *Shape:* (batch_size,): the log partition of each row, 0 for an empty row. At most about
        ``FORBIDDEN`` where no tag sequence is allowed.
    """

    @property
    def layout(self) -> Layout: ...

    @property
    def log_z(self) -> Floats: ...

    def tag_counts(self, weight: Floats) -> Floats:
        """The expected count of each tag at each position.

        weight (ndarray): *Shape:* (n_positions,): how much a position counts. With ones: the marginals.
        RETURNS (ndarray): *Shape:* (n_positions, n_tags).
        """
        ...

    def step_counts(self, weight: Floats) -> Floats:
        """The expected count of each transition over the batch.

        weight (ndarray): *Shape:* (n_positions,): how much the step into a position counts.
        RETURNS (ndarray): *Shape:* (n_tags, n_tags).
        """
        ...

    def next_tag(self, positions: Ints, tags: Ints) -> Floats:
        """The distribution of the tag at some positions, given the tag one step before.

        positions (ndarray): *Shape:* (n,), int64; none of a first step.
        tags (ndarray): *Shape:* (n,), int64: the tags before.
        RETURNS (ndarray): *Shape:* (n, n_tags); finite, but of no meaning where the tag before has probability 0.
        """
        ...


def posterior(chain: Chain) -> Posterior:
    """Run the recursion: scaled where that is exact, in log space otherwise.

    chain (Chain): The batch.
    RETURNS (Posterior): The result.
    RAISES (ValueError): A row's emissions hold NaN or infinity, or minus infinity for all tags of a token.
    """
    # What is not a number is looked for in the result.
    with numpy.errstate(all="ignore"):
        scaled = ScaledPosterior.from_chain(chain)
        if scaled.holds():
            return scaled
        in_nats = LogPosterior.from_chain(chain)
    odd = ~numpy.isfinite(in_nats.log_z)
    if odd.any():
        _refuse(chain, int(odd.argmax()))
    return in_nats


def _refuse(chain: Chain, row: int) -> None:
    """Say what is wrong with a row that has no partition.

    RAISES (ValueError): Always.
    """
    own = chain.tokens()[chain.layout.row == row]
    refused = numpy.isnan(own) | (own == numpy.inf) | (own == -numpy.inf).all(axis=1, keepdims=True)
    if not refused.any():
        raise ValueError("a start, transition or end potential is NaN or infinite, but numbers are needed")
    step = int(refused.any(axis=1).argmax())
    raise ValueError(
        f"row {row}: the emissions at step {step} are {own[step].tolist()}, but numbers are needed; "
        "minus infinity is allowed where a token has another tag"
    )


def expected_counts(posterior: Posterior, n_tokens: int, weight: Floats) -> ExpectedCounts:
    """The expected counts of a batch.

    posterior (Posterior): The batch.
    n_tokens (int): Number of tokens of the chain's flat array.
    weight (ndarray): *Shape:* (batch_size,): how much each row counts.
    RETURNS (ExpectedCounts): The counts, by token.
    """
    layout = posterior.layout
    of_position = weight.take(layout.row)
    by_position = posterior.tag_counts(of_position)
    emissions = numpy.zeros((n_tokens, by_position.shape[1]))
    emissions[layout.source] = by_position
    start, end = by_position[: layout.n_first].sum(axis=0), layout.at_last(by_position).sum(axis=0)
    return ExpectedCounts(emissions, start, posterior.step_counts(of_position), end)


@dataclass(frozen=True, eq=False)
class ScaledPosterior:
    """The recursion in exp space: each row of these arrays is right up to a factor of its own. See `Posterior`.

    alpha, omega (ndarray): *Shape:* (n_positions, n_tags): the masses of the module's notation.
    joint (ndarray): *Shape:* (n_positions, n_tags): ``before * omega``.
    mass (ndarray): *Shape:* (n_positions,): its sum over the tags.
    scale (ndarray): *Shape:* (n_positions,): by what `alpha` was divided at this position.
    least (ndarray): *Shape:* (n_positions,): the mass before either direction was divided at this position.
    step (ndarray): *Shape:* (n_tags, n_tags): the exponentiated transitions.
    """

    layout: Layout
    log_z: Floats
    alpha: Floats
    omega: Floats
    joint: Floats
    mass: Floats
    scale: Floats
    least: Floats
    step: Floats

    @classmethod
    def from_chain(cls, chain: Chain) -> "ScaledPosterior":
        """Run the recursion."""
        layout, n_tags = chain.layout, chain.n_tags
        # Nothing exceeds 1 after the exponential.
        emitted = chain.tokens()
        # NumPy's maximum over the first axis goes over whole vectors.
        top = numpy.ascontiguousarray(emitted.T).max(axis=0)
        emitted -= top[:, None]
        _exponentiate(emitted)
        # shape: (n_tags + 2, n_tags)
        shared = numpy.concatenate((chain.start[None], chain.transitions, chain.end[None]))
        shared_top = shared.max()
        shared = numpy.exp(shared - shared_top)
        begin, step, close = shared[0], shared[1:-1], shared[-1]
        # The backward direction goes over the mirrored rows beside the forward one.
        # shape: (n_positions, 2 * n_tags)
        both = numpy.empty((len(emitted), 2 * n_tags))
        both[:, :n_tags] = emitted
        both[:, n_tags:] = emitted.take(layout.mirror, axis=0)
        # shape: (n_positions, 2 * n_tags), (n_positions, 2)
        masses, scales = _recurse(both, step, numpy.concatenate((begin, close)), layout.sizes)
        alpha = masses[:, :n_tags]
        omega = masses[:, n_tags:].take(layout.mirror, axis=0)
        scale = scales[:, 0]
        # One shared potential more than tokens: a transition between each two, the start and the end.
        log_z = layout.per_row(numpy.log(scale) + top + shared_top) + shared_top
        log_z += numpy.log(layout.at_last(alpha) @ close)
        log_z[~layout.filled] = 0.0
        # alpha without its emission. An emission of 0 left a mass of 0, and nothing to divide.
        joint = alpha / numpy.maximum(emitted, TINY)
        joint *= omega
        mass = joint @ numpy.ones(n_tags)
        least = mass * scale * scales[:, 1].take(layout.mirror)
        return cls(layout, log_z, alpha, omega, joint, mass, scale, least, step)

    def holds(self) -> bool:
        """Whether no number that mattered was too small for float64, and all are finite.

        Whatever was rounded to 0, or to few digits, was below 1e-300 when it was, and so nothing beside a mass
        that was `MIN_MASS` then.
        """
        return not len(self.least) or bool(self.least.min() >= MIN_MASS)

    def tag_counts(self, weight: Floats) -> Floats:
        """As of `Posterior`."""
        return self.joint * (weight / self.mass)[:, None]

    def step_counts(self, weight: Floats) -> Floats:
        """As of `Posterior`."""
        layout = self.layout
        inner = slice(layout.n_first, None)
        # What was divided away at a step is not part of the product that led to it.
        share = weight[inner] / (self.mass[inner] * self.scale[inner])
        into = self.omega[inner] * share[:, None]
        return (self.alpha.take(layout.previous, axis=0).T @ into) * self.step

    def next_tag(self, positions: Ints, tags: Ints) -> Floats:
        """As of `Posterior`."""
        # shape: (n, n_tags)
        joint = self.step[tags] * self.omega[positions]
        total = joint.sum(axis=1, keepdims=True)
        return numpy.divide(joint, total, out=numpy.zeros_like(joint), where=total > 0)


def _exponentiate(x: Floats) -> None:
    """The exponential, in place. Torch's is three times as fast where the processor has no AVX-512, and is taken
    where torch is loaded anyway; the two differ in the last bit at most."""
    from_numpy = getattr(sys.modules.get("torch"), "from_numpy", None)
    if from_numpy is None:
        numpy.exp(x, out=x)
    else:
        from_numpy(x).exp_()


def _recurse(both: Floats, step: Floats, first: Floats, sizes: List[int]) -> Tuple[Floats, Floats]:
    """The loop of both directions: ``masses[t] = (masses[t - 1] @ onward) * both[t]``, rescaled now and then,
    where ``onward`` is `step` for the forward and its transpose for the backward half.

    both (ndarray): *Shape:* (n_positions, 2 * n_tags).
    step (ndarray): *Shape:* (n_tags, n_tags).
    first (ndarray): *Shape:* (2 * n_tags,): takes the place of the product at the first step.
    sizes (List[int]): Rows of each step.
    RETURNS (Tuple[ndarray, ndarray]): The masses, *shape:* that of `both`, and by what the two halves of each
        position were divided, *shape:* (n_positions, 2).
    """
    n_tags = len(step)
    onward = numpy.zeros((2 * n_tags, 2 * n_tags))
    onward[:n_tags, :n_tags], onward[n_tags:, n_tags:] = step, step.T
    halves = numpy.eye(2).repeat(n_tags, axis=0)
    masses, divisors = numpy.empty_like(both), numpy.ones((len(both), 2))
    mass = masses[:0]
    begin = 0
    # A mass that has vanished is divided by 0 here, and `holds` sees it.
    for t, size in enumerate(sizes):
        position = slice(begin, begin + size)
        begin += size
        before, mass = mass, masses[position]
        if t:
            numpy.dot(before[:size], onward, out=mass)
        else:
            mass[...] = first
        mass *= both[position]
        if t % RESCALE_EVERY == RESCALE_EVERY - 1:
            # shape: (size, 2)
            total = mass.dot(halves)
            mass *= (1.0 / total).dot(halves.T)
            divisors[position] = total
    return masses, divisors


@dataclass(frozen=True, eq=False)
class LogPosterior:
    """The recursion in log space, for potentials that span more than float64 can hold. See `Posterior`.

    before, alpha, omega (ndarray): *Shape:* (n_positions, n_tags), in nats; see the module's notation.
    transitions (ndarray): *Shape:* (n_tags, n_tags), in nats.
    """

    layout: Layout
    log_z: Floats
    before: Floats
    alpha: Floats
    omega: Floats
    transitions: Floats

    @classmethod
    def from_chain(cls, chain: Chain) -> "LogPosterior":
        """Run the recursion."""
        layout, tokens = chain.layout, chain.tokens()
        # shape: (n_positions, 2, n_tags): forward, and backward over mirrored rows
        emitted = numpy.stack((tokens, tokens.take(layout.mirror, axis=0)), axis=1)
        # shape: (2, n_tags, n_tags): from the last dimension to the one before
        onward = numpy.stack((chain.transitions.T, chain.transitions))
        without, with_emission = numpy.empty_like(emitted), numpy.empty_like(emitted)
        mass = numpy.stack((chain.start, chain.end))
        begin = 0
        for t, size in enumerate(layout.sizes):
            position = slice(begin, begin + size)
            begin += size
            without[position] = numpy.logaddexp.reduce(mass[:size, :, None] + onward, axis=3) if t else mass
            mass = without[position] + emitted[position]
            with_emission[position] = mass
        before, alpha = without[:, 0], with_emission[:, 0]
        omega = with_emission[:, 1].take(layout.mirror, axis=0)
        log_z = numpy.logaddexp.reduce(layout.at_last(alpha) + chain.end, axis=1)
        log_z[~layout.filled] = 0.0
        return cls(layout, log_z, before, alpha, omega, chain.transitions)

    def tag_counts(self, weight: Floats) -> Floats:
        """As of `Posterior`."""
        return _softmax(self.before + self.omega) * weight[:, None]

    def step_counts(self, weight: Floats) -> Floats:
        """As of `Posterior`."""
        layout = self.layout
        transitions = numpy.zeros_like(self.transitions)
        at_a_time = max(MAX_CELLS // transitions.size, 1)
        for begin in range(0, len(layout.previous), at_a_time):
            before = layout.previous[begin : begin + at_a_time]
            after = slice(layout.n_first + begin, layout.n_first + begin + len(before))
            # shape: (n, n_tags, n_tags)
            joint = self.alpha[before][:, :, None] + self.transitions + self.omega[after][:, None]
            shares = _softmax(joint.reshape(len(joint), -1))
            transitions += (weight[after] @ shares).reshape(transitions.shape)
        return transitions

    def next_tag(self, positions: Ints, tags: Ints) -> Floats:
        """As of `Posterior`."""
        return _softmax(self.transitions[tags] + self.omega[positions])


def _softmax(x: Floats) -> Floats:
    """Of each row. *Shape:* (n, m)."""
    shares = numpy.exp(x - x.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return shares
