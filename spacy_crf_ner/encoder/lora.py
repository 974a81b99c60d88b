"""Low-rank adaptation of an encoder, through peft: put in, found, and merged away.

Hu et al. 2022, LoRA: the update of a frozen weight W is (alpha / rank) B A, and B starts at 0.
"""

from dataclasses import asdict, dataclass
from typing import Any, Dict, List, Optional

from torch import nn

from spacy_crf_ner.encoder.freezing import layers_of


@dataclass(frozen=True)
class LoRA:
    """What to adapt, and by how much. Registered as `spacy-crf-ner.LoRA.v1`.

    rank (int): Rank of the update, at least 1.
    alpha (float): The update is scaled by alpha / rank; above 0.
    dropout (float): Dropout of the update's input, in [0, 1).
    targets (Optional[List[str]]): Names of the linear layers to adapt, whole ("query", "output.dense") or their
        last parts; None: "query" and "key".
    layers (Optional[int]): Adapt the last N layers; None: all.
    RAISES (ValueError): A value is out of its range.
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    targets: Optional[List[str]] = None
    layers: Optional[int] = None

    def __post_init__(self) -> None:
        if self.targets is None:
            object.__setattr__(self, "targets", ["query", "key"])
        for name, fits, needed in (
            ("rank", self.rank >= 1, "at least 1"),
            ("alpha", self.alpha > 0, "above 0"),
            ("dropout", 0 <= self.dropout < 1, "in [0, 1)"),
            ("targets", bool(self.targets), "a list of at least one name"),
            ("layers", self.layers is None or self.layers >= 1, "null or at least 1"),
        ):
            if not fits:
                raise ValueError(f"lora.{name} = {getattr(self, name)}, but it must be {needed}")

    @property
    def shape(self) -> Dict[str, Any]:
        """The settings that the saved weights depend on."""
        settings = {name: value for name, value in asdict(self).items() if name != "dropout"}
        return {**settings, "targets": sorted(set(self.targets or []))}


def inject(lora: LoRA, transformer: Any) -> None:
    """Put fresh adapters into an encoder, in place. Only they can learn afterwards, and change nothing yet.

    lora (LoRA): The settings.
    transformer (PreTrainedModel): The encoder.
    RAISES (ImportError): peft is not installed.
    RAISES (ValueError): A target is not a linear layer of the layers to adapt, or the encoder has fewer layers.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ImportError("LoRA needs peft: pip install 'spacy-crf-ner[lora]'") from error
    chosen: List[str] = []
    linear = _linear_layers(transformer, lora.layers)
    for target in lora.targets or []:
        named = [name for name in linear if name == target or name.endswith(f".{target}")]
        if not named:
            kinds = sorted({name.rsplit(".", 1)[-1] for name in linear})
            raise ValueError(f"lora.targets: '{target}' is not a linear layer of the encoder, which has {kinds}")
        chosen += named
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]
        lora_dropout=lora.dropout,
        target_modules=chosen,
    )
    inject_adapter_in_model(config, transformer)


def _linear_layers(transformer: Any, last: Optional[int]) -> List[str]:
    """The names of an encoder's linear layers, or of those in its last layers."""
    linear = [name for name, module in transformer.named_modules() if isinstance(module, nn.Linear)]
    if last is None:
        return linear
    layers = layers_of(transformer)
    if last > len(layers):
        raise ValueError(f"lora.layers = {last}, but the encoder has {len(layers)} layers")
    inside = {id(module) for layer in layers[-last:] for module in layer.modules()}
    return [name for name in linear if id(transformer.get_submodule(name)) in inside]


def is_adapter(name: str) -> bool:
    """Whether a parameter of this name belongs to an adapter."""
    return ".lora_" in name


def merge(transformer: nn.Module) -> None:
    """Add the adapters' updates to the weights they adapt, and take the adapters out, in place.

    transformer (nn.Module): An encoder with adapters; without any it stays as it is.
    """
    for name, module in list(transformer.named_modules()):
        if hasattr(module, "lora_A") and hasattr(module, "get_base_layer"):
            module.merge(safe_merge=True)
            parent, _, last = name.rpartition(".")
            setattr(transformer.get_submodule(parent), last, module.get_base_layer())
