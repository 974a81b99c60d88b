"""Makes LoRA's adapters part of the weights of their encoders."""

from typing import Any, List

from spacy.language import Language
from thinc.api import Model

from spacy_crf_ner.encoder.transformer import Encoder


def merge_lora(nlp: Language) -> List[str]:
    """Merge the adapters of all encoders of a pipeline, in place, disabled components included.

    nlp (Language): The pipeline; its config follows.
    RETURNS (List[str]): The names of the components that had adapters.
    """
    merged = []
    for name, pipe in nlp.components:
        model = getattr(pipe, "model", None)
        encoders = [node for node in model.walk() if isinstance(node, Encoder)] if isinstance(model, Model) else []
        adapted = [encoder.shim for encoder in encoders if encoder.shim.spec.lora is not None]
        for shim in adapted:
            shim.merge_lora()
        if adapted:
            _set_without_lora(nlp.get_pipe_config(name))
            merged.append(name)
    return merged


def _set_without_lora(config: Any) -> None:
    """Take LoRA out of every encoder's block of a component's config, in place."""
    if not isinstance(config, dict):
        return
    if config.get("@architectures") == "spacy-crf-ner.Transformer.v1":
        config.update(lora=None, save_mode="full")
    for value in config.values():
        _set_without_lora(value)
