"""Adversarial training: each batch is learnt once more, with word-piece embeddings moved to where the loss grows.

Miyato, Dai, Goodfellow (2017), "Adversarial training methods for semi-supervised text classification", ICLR, eq. 2
and 5: a step of a fixed length along the gradient, here of the whole table at once, as implementations for
pretrained encoders do.
"""

from contextlib import contextmanager
from math import inf
from typing import Any, Iterable, Iterator, List

import torch
from spacy.language import Language
from spacy.training import Example
from torch import nn


class FastGradient:
    """`spacy-crf-ner.FastGradient.v1`: what ``[adversarial]`` of a config names, for `crf train`.

    The gradients of both passes go into one step. It takes twice the time. With `accumulate_gradient`, the
    direction is that of the sum so far.

    epsilon (float): How far the embeddings are moved: the norm of the change of the whole table.
    RAISES (ValueError): `epsilon` is not above 0.
    """

    def __init__(self, epsilon: float = 1.0) -> None:
        if not epsilon > 0:
            raise ValueError(f"epsilon must be above 0, got {epsilon}; 1.0 is usual")
        self.epsilon = epsilon

    def update(self, nlp: Language, examples: Iterable[Example], **settings: Any) -> None:
        """Learn from a batch twice.

        nlp (Language): The pipeline.
        examples (Iterable[Example]): The batch.
        settings (Any): As of `Language.update`, without an optimizer: no step is made. The losses are those of the
            first pass.
        RAISES (ValueError): No pipe has an encoder whose embeddings learn.
        """
        examples = list(examples)
        nlp.update(examples, **settings)
        with self.moved(nlp) as is_moved:
            if is_moved:
                nlp.update(examples, **{**settings, "losses": {}})

    @contextmanager
    def moved(self, nlp: Language) -> Iterator[bool]:
        """Move the embeddings along their gradients, and back.

        nlp (Language): The pipeline, after an update without a step.
        YIELDS (bool): Whether they are moved: not where the gradient is 0, or overflows in half precision.
        RAISES (ValueError): As of `update`.
        """
        tables = [table for table in word_embeddings(nlp) if table.grad is not None]
        if not tables:
            raise ValueError(
                "[adversarial] moves the word-piece embeddings of spacy-crf-ner.Transformer.v1, but none learns "
                "in this pipeline; leave the section out, or let them learn (lora = null, freeze = null)"
            )
        norms = [float(table.grad.norm()) for table in tables]  # type: ignore[union-attr]
        if not all(0 < norm < inf for norm in norms):
            yield False
            return
        before = [table.detach().clone() for table in tables]
        try:
            with torch.no_grad():
                for table, norm in zip(tables, norms):
                    table.add_(table.grad, alpha=self.epsilon / norm)  # type: ignore[arg-type]
            yield True
        finally:
            with torch.no_grad():
                for table, old in zip(tables, before):
                    table.copy_(old)


def word_embeddings(nlp: Language) -> List[nn.Parameter]:
    """The tables of word-piece embeddings in a pipeline that learn.

    nlp (Language): The pipeline.
    RETURNS (List[nn.Parameter]): *Shape:* (n_pieces, width) each.
    """
    from spacy_crf_ner.encoder.encoder_shim import EncoderShim  # with transformers, which few trainings need

    shims = {
        id(shim): shim
        for _, pipe in nlp.pipeline
        if hasattr(pipe, "model") and hasattr(pipe.model, "walk")
        for layer in pipe.model.walk()
        for shim in layer.shims
        if isinstance(shim, EncoderShim)
    }
    tables = [shim.transformer.get_input_embeddings().weight for shim in shims.values()]
    return [table for table in tables if table.requires_grad]
