"""The linear-chain CRF as a module: `torchcrf.CRF` with constraints, partial gold, probabilities and k-best paths.

Lafferty, McCallum, Pereira (2001), "Conditional random fields: probabilistic models for segmenting and labeling
sequence data", ICML. The computations are in `likelihood`, `forward_backward`, `marginals` and `viterbi`, in NumPy
and float64, whatever comes in; the module is thin over them.
"""

from typing import List, Optional, Tuple

import torch
import torchcrf
from torch import Tensor

from spacy_crf_ner.crf.autograd import chain_from_tensors, likelihood_from_tensors
from spacy_crf_ner.crf.chain import FORBIDDEN, Chain
from spacy_crf_ner.crf.forward_backward import posterior
from spacy_crf_ner.crf.layout import Sequences
from spacy_crf_ner.crf.marginals import path_probabilities, token_marginals
from spacy_crf_ner.crf.viterbi import k_best, viterbi


class LinearChainCRF(torchcrf.CRF):
    """`torchcrf.CRF` 0.7 with constraints that hold in training and in decoding, exact and several times as fast.

    The parameters, their initialisation and the arguments of ``forward`` and ``decode`` are those of
    `torchcrf.CRF`. Beyond it, rows may be empty, ``forward`` takes partial annotation, and a mask with holes is
    refused, which `torchcrf` misreads. The constraints are buffers that stay out of the state dict, since they
    follow from the labels. A gold path that breaks them has a log-likelihood of about `FORBIDDEN`.

    num_tags (int): Number of tags.
    batch_first (bool): Whether all methods take and give (batch_size, seq_length, ...).
    legal_starts (Optional[Tensor]): *Shape:* (num_tags,), bool. Which tags may begin a sequence.
    legal_transitions (Optional[Tensor]): *Shape:* (num_tags, num_tags), bool. ``[i, j]``: may j follow i?
    legal_ends (Optional[Tensor]): *Shape:* (num_tags,), bool. Which tags may end a sequence.
    RAISES (ValueError): A constraint is of another shape.
    """

    illegal_starts: Tensor
    illegal_transitions: Tensor
    illegal_ends: Tensor

    def __init__(
        self,
        num_tags: int,
        batch_first: bool = False,
        *,
        legal_starts: Optional[Tensor] = None,
        legal_transitions: Optional[Tensor] = None,
        legal_ends: Optional[Tensor] = None,
    ) -> None:
        super().__init__(num_tags, batch_first)
        self._is_free = legal_starts is None and legal_transitions is None and legal_ends is None
        for name, legal, shape in (
            ("starts", legal_starts, (num_tags,)),
            ("transitions", legal_transitions, (num_tags, num_tags)),
            ("ends", legal_ends, (num_tags,)),
        ):
            if legal is None:
                legal = torch.ones(shape, dtype=torch.bool)
            if tuple(legal.shape) != shape:
                raise ValueError(f"legal_{name} has shape {tuple(legal.shape)}, but {shape} is needed")
            self.register_buffer(f"illegal_{name}", ~legal, persistent=False)

    def constrained(self) -> Tuple[Tensor, Tensor, Tensor]:
        """The start, transition and end potentials with `FORBIDDEN` where a constraint forbids.

        RETURNS (Tuple[Tensor, Tensor, Tensor]): *Shapes:* (num_tags,), (num_tags, num_tags), (num_tags,). New
            tensors: what is handed out does not change with a step.
        """
        start, transitions, end = self._potentials()
        return start.clone(), transitions.clone(), end.clone()

    def _potentials(self) -> Tuple[Tensor, Tensor, Tensor]:
        if self._is_free:
            return self.start_transitions, self.transitions, self.end_transitions
        # Half precision has no number as low as `FORBIDDEN`.
        wide = torch.promote_types(self.transitions.dtype, torch.float32)
        return (
            self.start_transitions.to(wide).masked_fill(self.illegal_starts, FORBIDDEN),
            self.transitions.to(wide).masked_fill(self.illegal_transitions, FORBIDDEN),
            self.end_transitions.to(wide).masked_fill(self.illegal_ends, FORBIDDEN),
        )

    def forward(
        self, emissions: Tensor, tags: Tensor, mask: Optional[Tensor] = None, reduction: str = "sum"
    ) -> Tensor:
        """The log-likelihood of gold tags.

        emissions (Tensor): *Shape:* (seq_length, batch_size, num_tags), any float dtype, in nats.
        tags (Tensor): *Shape:* (seq_length, batch_size), int64: the gold tags; or (seq_length, batch_size,
            num_tags), bool: those that each token may have. Whatever is at masked positions is ignored.
        mask (Optional[Tensor]): *Shape:* (seq_length, batch_size), bool, left-aligned; all True by default.
        reduction (str): "none", "sum", "mean" (over rows) or "token_mean".
        RETURNS (Tensor): *Shape:* (batch_size,) for "none", else (); float64, in nats.
        RAISES (ValueError): The shapes do not fit, the mask has holes, a tag is out of range, an allowed set is
            empty, or a row's emissions are not numbers.
        """
        if reduction not in ("none", "sum", "mean", "token_mean"):
            raise ValueError(f"invalid reduction: {reduction}")
        given = emissions.shape
        emissions, mask = self._time_major(emissions, mask)
        if tags.shape != (given if tags.dtype == torch.bool else given[:2]) or tags.is_floating_point():
            raise ValueError(
                f"tags are {tags.dtype} of shape {tuple(tags.shape)}, emissions of {tuple(given)}: "
                "integers of the shape of the first two dimensions are needed, or booleans of all three"
            )
        tags = tags.transpose(0, 1) if self.batch_first else tags
        sequences = Sequences.from_mask(mask.cpu().numpy())
        inputs = (emissions.flatten(0, 1), *self._potentials(), sequences)
        if tags.dim() == 3:
            self._check_allowed(tags, mask)
            likelihood = likelihood_from_tensors(*inputs, tags.flatten(0, 1))
        else:
            likelihood = likelihood_from_tensors(*inputs, tags.flatten().long())
        if reduction == "none":
            return likelihood
        if reduction == "sum":
            return likelihood.sum()
        return likelihood.sum() / (mask.sum() if reduction == "token_mean" else mask.shape[1])

    def decode(self, emissions: Tensor, mask: Optional[Tensor] = None) -> List[List[int]]:
        """The best tag sequence of each row. The arguments and errors are those of `forward`.

        RETURNS (List[List[int]]): One sequence per row, as long as its mask says.
        """
        chain, mask = self._chain(emissions, mask)
        rows = viterbi(chain).reshape(tuple(mask.shape)).T.tolist()
        return [row[:length] for row, length in zip(rows, chain.sequences.lengths.tolist())]

    def decode_k_best(
        self, emissions: Tensor, k: int, mask: Optional[Tensor] = None
    ) -> List[List[Tuple[List[int], float]]]:
        """The k best tag sequences of each row, and the probability of each.

        k (int): How many; there are fewer where fewer are possible.
        RETURNS (List[List[Tuple[List[int], float]]]): For each row, sequences with their probabilities, best
            first. The other arguments and the errors are those of `forward`.
        """
        chain, _ = self._chain(emissions, mask)
        found = posterior(chain)  # refuses what is not a number
        best = k_best(chain, k)
        by_row = path_probabilities(found, [scores for _, scores in best])
        return [list(zip(paths.tolist(), shares)) for (paths, _), shares in zip(best, by_row)]

    def marginals(self, emissions: Tensor, mask: Optional[Tensor] = None) -> Tensor:
        """The probability of each tag at each token. The arguments and errors are those of `forward`.

        RETURNS (Tensor): *Shape:* (seq_length, batch_size, num_tags), float64, 0 where masked; without gradient.
        """
        chain, mask = self._chain(emissions, mask)
        found = torch.from_numpy(token_marginals(posterior(chain), len(chain.emissions))).to(emissions.device)
        by_step = found.view(*mask.shape, self.num_tags)
        return by_step.transpose(0, 1) if self.batch_first else by_step

    def _chain(self, emissions: Tensor, mask: Optional[Tensor]) -> Tuple[Chain, Tensor]:
        """A batch as the functions of this folder take it, and the mask, time first."""
        emissions, mask = self._time_major(emissions, mask)
        sequences = Sequences.from_mask(mask.cpu().numpy())
        return chain_from_tensors(emissions.flatten(0, 1), *self._potentials(), sequences), mask

    def _time_major(self, emissions: Tensor, mask: Optional[Tensor]) -> Tuple[Tensor, Tensor]:
        """Check the shapes, fill in the mask and put time first."""
        if emissions.dim() != 3 or emissions.shape[2] != self.num_tags:
            raise ValueError(
                f"emissions have shape {tuple(emissions.shape)}, but three dimensions are needed, the last one of "
                f"{self.num_tags} tags"
            )
        shape = emissions.shape[:2]
        mask = torch.ones(shape, dtype=torch.bool, device=emissions.device) if mask is None else mask.bool()
        if mask.shape != shape:
            raise ValueError(f"mask has shape {tuple(mask.shape)}, but emissions have {tuple(emissions.shape)}")
        return (emissions.transpose(0, 1), mask.t()) if self.batch_first else (emissions, mask)

    @staticmethod
    def _check_allowed(lattice: Tensor, mask: Tensor) -> None:
        """lattice: (seq_length, batch_size, num_tags), bool; mask: (seq_length, batch_size)"""
        empty = ~lattice.any(dim=2) & mask
        if empty.any():
            row = int(empty.any(dim=0).int().argmax())
            raise ValueError(f"row {row}: no tag is allowed at step {int(empty[:, row].int().argmax())}")
