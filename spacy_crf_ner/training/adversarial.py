"""Adversarial training: each batch is learnt once more, with word-piece embeddings moved to where the loss grows.

Miyato, Dai, Goodfellow (2017), "Adversarial training methods for semi-supervised text classification", ICLR, eq. 2
and 5: a step of a fixed length along the gradient, here of the whole table at once, as implementations for
pretrained encoders do.
"""

from contextlib import contextmanager
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
        with self.moved(nlp):
            nlp.update(examples, **{**settings, "losses": {}})

    @contextmanager
    def moved(self, nlp: Language) -> Iterator[None]:
        """Move the embeddings along their gradients, and back.

        nlp (Language): The pipeline, after an update without a step.
        RAISES (ValueError): As of `update`.
        """
        tables = word_embeddings(nlp)
        if not tables:
            raise ValueError(
                "[adversarial] moves the word-piece embeddings of spacy-crf-ner.Transformer.v1, but the pipeline "
                "has none that learn; leave the section out, or let them learn (lora = null, freeze = null)"
            )
        before = [table.detach().clone() for table in tables]
        try:
            with torch.no_grad():
                for table in tables:
                    norm = 0.0 if table.grad is None else float(table.grad.norm())
                    if norm > 0:
                        table.add_(table.grad, alpha=self.epsilon / norm)  # type: ignore[arg-type]
            yield
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
