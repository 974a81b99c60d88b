"""What a linear-chain CRF is, written down from the definition, and the batches that the tests draw.

The oracle is the enumeration of all tag sequences; for longer ones, the recursion in log space as textbooks have
it, differentiated by autograd. Where sequences are enumerated, an illegal one is left out.
"""

from functools import cache
from itertools import product
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

import numpy
import torch
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import one_hot

from spacy_crf_ner.crf.autograd import chain_from_tensors
from spacy_crf_ner.crf.chain import FORBIDDEN, Chain
from spacy_crf_ner.crf.layout import Sequences
from spacy_crf_ner.crf.module import LinearChainCRF
from spacy_crf_ner.labels import BioTags


class Potentials(NamedTuple):
    """emissions (Tensor): *Shape:* (n_tokens, num_tags), one row after the other; start, end: (num_tags,);
    transitions: (num_tags, num_tags)."""

    emissions: Tensor
    start: Tensor
    transitions: Tensor
    end: Tensor

    def each(self, change: Callable[[Tensor], Tensor]) -> "Potentials":
        return Potentials(*(change(x) for x in self))

    def leaves(self) -> "Potentials":
        return self.each(lambda x: x.detach().clone().requires_grad_())

    def rows(self, lengths: List[int]) -> "List[Potentials]":
        return [self._replace(emissions=part) for part in self.emissions.split(lengths)]


def random_potentials(seed: int, n_tokens: int, num_tags: int, scale: float = 1.0) -> Potentials:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(n_tokens, num_tags), (num_tags,), (num_tags, num_tags), (num_tags,)]
    return Potentials(*(scale * torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes))


class Scheme(NamedTuple):
    """Which tags may begin, follow one another and end: bool, *shapes* those of the potentials."""

    starts: Tensor
    transitions: Tensor
    ends: Tensor

    @property
    def num_tags(self) -> int:
        return len(self.starts)

    def on(self, potentials: Potentials) -> Potentials:
        """What the engine takes: `FORBIDDEN` in place of what is illegal."""
        filled = (x.masked_fill(~legal, FORBIDDEN) for x, legal in zip(potentials[1:], self))
        return Potentials(potentials.emissions, *filled)


def free(num_tags: int) -> Scheme:
    ones = torch.ones(num_tags, num_tags, dtype=torch.bool)
    return Scheme(ones[0], ones, ones[0])


def bio(n_types: int) -> Scheme:
    starts, transitions = map(
        torch.from_numpy, (BioTags(n_types).legal_starts, BioTags(n_types).legal_transitions)
    )
    return Scheme(starts, transitions, torch.ones_like(starts))


def bioes(n_types: int) -> Scheme:
    """Tags O, B-1, I-1, E-1, S-1, B-2, ...: here most tags may not follow themselves."""
    tags = [("O", 0), *((prefix, n) for n in range(n_types) for prefix in "BIES")]
    first, final = torch.tensor([[p in "OBS" for p, _ in tags], [p in "OES" for p, _ in tags]])
    same = torch.tensor([[m == n for _, n in tags] for _, m in tags])
    return Scheme(first, torch.where(final[:, None], first, ~first & same), final)


SCHEMES = {"free 3": free(3), "free 4": free(4), "BIO 1": bio(1), "BIO 2": bio(2), "BIOES 1": bioes(1)}


@cache
def all_paths(length: int, num_tags: int) -> Tensor:
    """*Shape:* (num_tags ** length, length)"""
    paths = list(product(range(num_tags), repeat=length))
    return torch.tensor(paths, dtype=torch.int64).view(len(paths), length)


def scores_of(row: Potentials, paths: Tensor) -> Tensor:
    """The definition. row: the potentials of one row; paths: (n, length)."""
    if not paths.shape[1]:
        return row.start.new_zeros(len(paths))
    scores = row.start[paths[:, 0]] + row.end[paths[:, -1]]
    scores = scores + row.emissions[torch.arange(paths.shape[1]), paths].sum(dim=1)
    return scores + row.transitions[paths[:, :-1], paths[:, 1:]].sum(dim=1)


def legal_paths(length: int, scheme: Scheme, allowed: Optional[Tensor] = None) -> Tensor:
    """All sequences that a scheme, and a lattice (length, num_tags), allow. *Shape:* (n, length)."""
    paths = all_paths(length, scheme.num_tags)
    if not length:
        return paths
    legal = scheme.starts[paths[:, 0]] & scheme.ends[paths[:, -1]]
    legal &= scheme.transitions[paths[:, :-1], paths[:, 1:]].all(dim=1)
    if allowed is not None:
        legal &= allowed[torch.arange(length), paths].all(dim=1)
    return paths[legal]


def tag_shares(share: Tensor, paths: Tensor, num_tags: int) -> Tuple[Tensor, Tensor]:
    """The probability of each tag at each token, and of each pair at each step.

    share (Tensor): *Shape:* (n,): the probability of each path.
    RETURNS (Tuple[Tensor, Tensor]): *Shapes:* (length, num_tags), (length - 1, num_tags, num_tags); the second
        one's entry ``[t, i, j]`` is of tag i at token t and j at t + 1.
    """
    taken = one_hot(paths, num_tags).double()
    pairs = torch.einsum("n,nti,ntj->tij", share, taken[:, :-1], taken[:, 1:])
    return torch.einsum("n,nti->ti", share, taken), pairs


def log_partition(row: Potentials, scheme: Scheme, allowed: Optional[Tensor] = None) -> Tensor:
    """The recursion of any textbook, for a row too long to enumerate; not empty."""
    emissions, start, transitions, end = scheme.on(row)
    if allowed is not None:
        emissions = emissions.masked_fill(~allowed, FORBIDDEN)
    alpha = start + emissions[0]
    for emission in emissions[1:]:
        alpha = torch.logsumexp(alpha[:, None] + transitions, dim=0) + emission
    return torch.logsumexp(alpha + end, dim=0)


def random_legal_path(seed: int, length: int, scheme: Scheme) -> Tensor:
    """*Shape:* (length,). Follows the scheme, and ends as it says."""
    generator = torch.Generator().manual_seed(seed)
    # Which tags lead to a legal end in so many steps.
    leads = [scheme.ends]
    for _ in range(length - 1):
        leads.append((scheme.transitions & leads[-1]).any(dim=1))
    path: List[int] = []
    for t in range(length):
        options = (scheme.transitions[path[-1]] if path else scheme.starts) & leads[length - 1 - t]
        path.append(int(torch.multinomial(options.double(), 1, generator=generator)))
    return torch.tensor(path, dtype=torch.int64)


class Case(NamedTuple):
    """A batch, its rows one after the other.

    potentials: without the scheme's constraints. gold: (n_tokens,), legal. allowed: (n_tokens, num_tags), bool, a
    lattice in which the gold path lies.
    """

    lengths: List[int]
    potentials: Potentials
    scheme: Scheme
    gold: Tensor
    allowed: Tensor

    @classmethod
    def random(cls, seed: int, lengths: List[int], scheme: Scheme, scale: float, density: float = 0.5) -> "Case":
        paths = [random_legal_path(seed + row, n, scheme) for row, n in enumerate(lengths)]
        gold = torch.cat([torch.zeros(0, dtype=torch.int64), *paths])
        chances = torch.rand(len(gold), scheme.num_tags, generator=torch.Generator().manual_seed(seed))
        allowed = (chances < density).scatter_(1, gold[:, None], True)
        potentials = random_potentials(seed, len(gold), scheme.num_tags, scale)
        return cls(list(lengths), potentials, scheme, gold, allowed)

    def rows(self) -> List[Tuple[Potentials, Tensor, Tensor]]:
        """Each row's potentials, gold path and lattice."""
        parts = (x.split(self.lengths) for x in (self.gold, self.allowed))
        return list(zip(self.potentials.rows(self.lengths), *parts))


cases = st.builds(
    Case.random,
    seed=st.integers(0, 2**31),
    lengths=st.lists(st.integers(0, 5), min_size=1, max_size=4),
    scheme=st.sampled_from(list(SCHEMES.values())),
    scale=st.sampled_from([0.1, 1.0, 10.0]),
    density=st.sampled_from([0.2, 0.6]),
)


class Arrangement(NamedTuple):
    """Where the tokens of a batch lie in a flat array that may have gaps.

    place (Tensor): *Shape:* (sum of lengths,): of each token, one row after the other.
    """

    sequences: Sequences
    place: Tensor
    n_tokens: int

    def spread(self, values: Tensor, gap: float = 0) -> Tensor:
        """values: (sum of lengths, ...); `gap` stands between the rows."""
        return values.new_full((self.n_tokens, *values.shape[1:]), gap).index_copy(0, self.place, values)


ARRANGEMENTS = ("consecutive", "time-major", "with gaps")


def arranged(lengths: List[int], how: str) -> Arrangement:
    """how: "with gaps": each row is in a place of two more tokens than the longest needs."""
    sizes, longest = numpy.array(lengths, dtype="int64"), max(lengths, default=0)
    batch_size, width = len(lengths), longest + 2
    origin, stride, n_tokens = {
        "consecutive": (sizes.cumsum() - sizes, 1, sum(lengths)),
        "time-major": (numpy.arange(batch_size), batch_size, batch_size * longest),
        "with gaps": (numpy.arange(batch_size) * width, 1, batch_size * width),
    }[how]
    place = [first + torch.arange(n) * stride for first, n in zip(origin.tolist(), lengths)]
    empty = torch.zeros(0, dtype=torch.int64)
    return Arrangement(Sequences(sizes, origin, stride), torch.cat([empty, *place]), n_tokens)


def chain_of(potentials: Potentials, sequences: Sequences, lattice: Optional[Tensor] = None) -> Chain:
    """What the engine takes. In NumPy; it shares memory with the tensors."""
    return chain_from_tensors(*potentials, sequences, lattice)


def length_mask(lengths: Tensor) -> Tensor:
    """The mask of left-aligned sequences. *Shape:* (seq_length, batch_size), bool."""
    return torch.arange(int(lengths.max())).unsqueeze(1) < lengths


def padded(case: Case, batch_first: bool = False, gap: float = torch.nan) -> Dict[str, Tensor]:
    """A case as the arguments of `LinearChainCRF`; garbage where masked."""
    spread = arranged(case.lengths, "time-major").spread
    shape = (max(case.lengths), len(case.lengths))
    full = (*shape, case.scheme.num_tags)
    arguments = {
        "emissions": spread(case.potentials.emissions, gap).view(full),
        "tags": spread(case.gold, -100).view(shape),
        "lattice": spread(case.allowed, False).view(full),
        "mask": length_mask(torch.tensor(case.lengths)),
    }
    return {name: x.transpose(0, 1) if batch_first else x for name, x in arguments.items()}


def crf_of(scheme: Scheme, batch_first: bool = False) -> LinearChainCRF:
    """A module under a scheme."""
    torch.manual_seed(0)
    module = LinearChainCRF(
        scheme.num_tags,
        batch_first,
        legal_starts=scheme.starts,
        legal_transitions=scheme.transitions,
        legal_ends=scheme.ends,
    ).double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    return module


def random_case(scheme: Scheme, lengths: List[int], scale: float = 2.0, seed: int = 0) -> Case:
    return Case.random(seed, lengths, scheme, scale)


def as_module(case: Case, module: LinearChainCRF) -> Case:
    """The case with the module's parameters."""
    shared = (module.start_transitions, module.transitions, module.end_transitions)
    potentials = Potentials(case.potentials.emissions, *(x.detach() for x in shared))
    return case._replace(potentials=potentials)
