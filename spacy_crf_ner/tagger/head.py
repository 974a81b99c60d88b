"""The whole trainable head: token vectors of a batch in, CRF potentials out."""

from dataclasses import dataclass
from math import log
from typing import Any, Dict, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from spacy_crf_ner.crf.module import LinearChainCRF
from spacy_crf_ner.labels import BioTags
from spacy_crf_ner.tagger.bilstm_attention import BiLSTMAttention
from spacy_crf_ner.torch_utils.arrays import torch_arrays
from spacy_crf_ner.torch_utils.buckets import map_buckets
from spacy_crf_ner.torch_utils.precision import autocast

ODDS_OF_OUTSIDE = 9.0
"""How much more mass O has at each token than all other tags together, before the first update: texts are mostly
outside of entities."""


@dataclass(frozen=True)
class HeadSpec:
    """All that is needed to build a `TaggerHead`; saved beside its weights.

    width (int): Width of the token vectors.
    n_types (int): Number of labels.
    max_padded_tokens (int): The most tokens that are padded together.
    The others are those of `BiLSTMAttention`.
    """

    width: int
    n_types: int
    lstm_width: int
    lstm_depth: int
    attention_heads: int
    attention_window: int
    max_padded_tokens: int


class TaggerHead(nn.Module):
    """Emissions (`head.*`) and CRF (`crf.*`) under BIO constraints.

    spec (HeadSpec): The shape.
    autocast_dtype (Optional[torch.dtype]): Type that `head.*` computes in on a GPU, but for its last layer; None
        for full precision.
    RAISES (ValueError): The spec's widths do not fit together.
    """

    def __init__(self, spec: HeadSpec, autocast_dtype: Optional[torch.dtype] = None) -> None:
        super().__init__()
        self.spec = spec
        self.autocast_dtype = autocast_dtype
        tags = BioTags(spec.n_types)
        self.head = BiLSTMAttention(
            spec.width,
            tags.size,
            lstm_width=spec.lstm_width,
            lstm_depth=spec.lstm_depth,
            attention_heads=spec.attention_heads,
            attention_window=spec.attention_window,
        )
        self.crf = LinearChainCRF(
            tags.size,
            legal_starts=torch.from_numpy(tags.legal_starts),
            legal_transitions=torch.from_numpy(tags.legal_transitions),
        )

    def set_dropout(self, rate: float) -> None:
        """Set the rate of every dropout in the head.

        rate (float): Between 0 and 1.
        """
        for module in self.modules():
            if isinstance(module, nn.Dropout):
                module.p = rate

    def favour_outside(self) -> None:
        """Start where O wins at every token of every text, so that an untrained pipe marks nothing.

        The weights of the last layer are 0, and so the emissions are its biases, whatever comes in. Where a path
        has n tags other than O in a row, O in their place changes n + 1 shared potentials, which `torchcrf` draws
        from -0.1 to 0.1: that loses at most 0.2 nats each, and gains at least log(2 * ODDS_OF_OUTSIDE) per tag.
        """
        output = self.head.output
        nn.init.zeros_(output.weight)
        nn.init.zeros_(output.bias)
        with torch.no_grad():
            output.bias[0] = log(ODDS_OF_OUTSIDE * max(len(output.bias) - 1, 1))

    def forward(self, vectors: Tensor, lengths: Sequence[int]) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
        """Compute the potentials of a batch of sequences, in buckets of like length.

        vectors (Tensor): *Shape:* (sum of lengths, width): the sequences one after the other.
        lengths (Sequence[int]): Number of tokens of each sequence; 0 is fine.
        RETURNS (Tuple[Tensor, Tensor, Tensor, Tensor]): Emissions, *shape:* (sum of lengths, num_tags), in
            the order of the input; start, transition and end potentials, the constraints filled in.
        """
        if len(vectors):
            with autocast(vectors.device, self.autocast_dtype):
                emissions = map_buckets(
                    self.head, vectors, lengths, self.spec.max_padded_tokens, torch_arrays(vectors)
                )
        else:
            # A product keeps a batch without tokens on the tape.
            emissions = vectors[:, :1] * self.head.output.bias
        return (emissions, *self.crf.constrained())

    def grown(self, n_types: int) -> "TaggerHead":
        """A head of more labels that scores the old tags as this one does.

        n_types (int): Number of labels, no less than now. The new tags' parameters are fresh.
        RETURNS (TaggerHead): A new module on the same device.
        """
        fields: Dict[str, Any] = {**vars(self.spec), "n_types": n_types}
        grown = TaggerHead(HeadSpec(**fields), self.autocast_dtype).to(self.crf.transitions.device)
        wider = grown.state_dict()
        for name, old in self.state_dict().items():
            wider[name][tuple(slice(n) for n in old.shape)] = old
        grown.load_state_dict(wider)
        return grown
