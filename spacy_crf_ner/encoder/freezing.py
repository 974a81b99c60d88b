"""Which parts of an encoder do not learn."""

from typing import Any, Union

from torch import nn

Freeze = Union[None, int, str]
"""None; "embeddings"; N: the embeddings and the first N layers; "all"."""


def layers_of(transformer: Any) -> nn.ModuleList:
    """The encoder's layers, lowest first.

    transformer (PreTrainedModel): The encoder; its config says how many layers there are.
    RETURNS (nn.ModuleList): The one list of that many modules.
    RAISES (ValueError): There is none, as where layers share their weights, or there are several.
    """
    wanted = transformer.config.num_hidden_layers
    lists = [m for m in transformer.modules() if isinstance(m, nn.ModuleList) and len(m) == wanted]
    if len(lists) != 1:
        raise ValueError(
            f"{type(transformer).__name__} has {len(lists) or 'no'} lists of {wanted} layers, so its layers "
            "cannot be chosen by number"
        )
    return lists[0]


def freeze(transformer: Any, what: Freeze) -> None:
    """Keep a part of an encoder from learning, in place.

    transformer (PreTrainedModel): The encoder.
    what (Freeze): The part.
    RAISES (ValueError): There is no such part.
    """
    if what is None:
        return
    if what == "all":
        transformer.requires_grad_(False)
        return
    if what != "embeddings" and (isinstance(what, (str, bool)) or what < 0):
        raise ValueError(f'freeze = {what!r}, but it is null, "embeddings", a number of layers or "all"')
    # ELECTRA widens narrow embeddings by a layer of its own.
    for name in ("embeddings", "embeddings_project"):
        getattr(transformer, name, nn.Module()).requires_grad_(False)
    transformer.get_input_embeddings().requires_grad_(False)
    if isinstance(what, int):
        layers = layers_of(transformer)
        if what > len(layers):
            raise ValueError(f'freeze = {what}, but the encoder has {len(layers)} layers; "all" freezes it whole')
        for layer in layers[:what]:
            layer.requires_grad_(False)
