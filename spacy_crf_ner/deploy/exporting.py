"""A pipeline whose networks are ONNX graphs, made of one whose networks are torch's."""

from typing import Any, Callable, Dict, Iterator, List, cast

import torch
from spacy import util
from spacy.language import Language
from spacy.pipeline.tok2vec import Tok2VecListener
from thinc.api import Model

from spacy_crf_ner.deploy.encoder_graph import encoder_graph
from spacy_crf_ner.deploy.graph import OPSET, OnnxShim
from spacy_crf_ner.deploy.head_graph import head_graphs
from spacy_crf_ner.deploy.onnx_encoder import ENCODER, encoder_facts
from spacy_crf_ner.encoder.merging import merge_lora
from spacy_crf_ner.encoder.transformer import Encoder
from spacy_crf_ner.messages import quote

LOWEST_OPSET = 18
"""The oldest version of ONNX that torch's exporter writes."""
TAGGER, ONNX_TAGGER = "spacy-crf-ner.CRFTagger.v1", "spacy-crf-ner.OnnxTagger.v1"
TRANSFORMER, ONNX_ENCODER = "spacy-crf-ner.Transformer.v1", "spacy-crf-ner.OnnxEncoder.v1"
OWN_ENCODER, LISTENER = "spacy-crf-ner.Tok2VecTransformer.v1", "spacy-transformers.TransformerListener.v1"
_MEAN = {"@layers": "reduce_mean.v1"}

Change = Callable[[bytes], bytes]


def export(nlp: Language, *, opset: int = OPSET) -> Language:
    """Export a pipeline. Adapters are merged into its encoders, in place; nothing else of it changes.

    nlp (Language): The pipeline, on the CPU.
    opset (int): ONNX's version.
    RETURNS (Language): Another one, with the same vocabulary, which predicts the same and does not learn. The pipe
        `transformer` has become a `tok2vec` of the same name.
    RAISES (ValueError): A component cannot be exported; the message names it.
    """
    if opset < LOWEST_OPSET:
        raise ValueError(f"opset must be {LOWEST_OPSET} or more, got {opset}")
    for name, pipe in nlp.components:
        if is_exported(nlp, name):
            raise ValueError(f"component '{name}' is exported already; give the pipeline that it was made from")
        if any(isinstance(node, Encoder) and node.shim._model is None for node in _nodes(pipe)):
            raise ValueError(f"component '{name}' is not trained: its encoder is not loaded; train it before")
    merge_lora(nlp)
    config = nlp.config.copy()
    changed = []
    for name, section in config["components"].items():
        made = _exported_config(nlp, name, section)
        if made != section:
            changed.append(name)
            config["components"][name] = made
        elif any(node.shims for node in _nodes(dict(nlp.components)[name])):
            raise ValueError(
                f"component '{name}' of the factory {quote(section.get('factory'))} has a network of torch that "
                "is not spacy-crf-ner's, and cannot be exported; leave it out"
            )
    _check_one_tensor(nlp)
    exported = util.load_model_from_config(config, vocab=nlp.vocab, auto_fill=True)
    pipes = dict(exported.components)
    for name, pipe in nlp.components:
        if name not in changed:
            continue
        ours: Any = pipes[name]
        if nlp.get_pipe_meta(name).factory != "transformer":
            parts = ["model", "vocab"]
            ours.from_bytes(cast(Any, pipe).to_bytes(exclude=parts), exclude=parts)
        _transfer(cast(Any, pipe).model, ours.model, nlp.vocab.lang, opset, name)
    # At last: a ruler lets the pipes before it read its phrases.
    left_out = [*changed, "config.cfg", "vocab"]
    exported.from_bytes(nlp.to_bytes(exclude=left_out), exclude=left_out)
    return exported


def is_exported(nlp: Language, name: str) -> bool:
    """Whether a component is one that `export` has made.

    nlp (Language): The pipeline.
    name (str): The component.
    """
    return any(
        section.get("@architectures") in (ONNX_TAGGER, ONNX_ENCODER)
        for section in _sections(nlp.get_pipe_config(name))
    )


def change_graphs(nlp: Language, change: Change) -> None:
    """Put other graphs into the place of a pipeline's, as quantized ones.

    nlp (Language): An exported pipeline; it is changed in place.
    change (Callable[[bytes], bytes]): Makes a graph of a graph.
    """
    for shim in _shims(nlp):
        shim.set({name: change(graph.data) for name, graph in shim.graphs.items()}, shim.facts)


def graphs_of(nlp: Language) -> List[bytes]:
    """All graphs of an exported pipeline."""
    return [graph.data for shim in _shims(nlp) for graph in shim.graphs.values()]


def _shims(nlp: Language) -> Iterator[OnnxShim]:
    for _, pipe in nlp.components:
        for node in _nodes(pipe):
            yield from (shim for shim in node.shims if isinstance(shim, OnnxShim))


def _nodes(pipe: object) -> List[Model]:
    model = getattr(pipe, "model", None)
    return list(model.walk()) if isinstance(model, Model) else []


def _sections(config: Any) -> Iterator[Dict[str, Any]]:
    """All blocks of a config."""
    if isinstance(config, dict):
        yield config
        for value in config.values():
            yield from _sections(value)


def _check_one_tensor(nlp: Language) -> None:
    """An exported `transformer` writes `doc.tensor`, of which a doc has one."""
    factories = nlp.pipe_factories
    writers = [name for name in nlp.component_names if factories[name] in ("tok2vec", "transformer")]
    if len(writers) > 1 and any(factories[name] == "transformer" for name in writers):
        raise ValueError(
            f"the pipes {', '.join(writers)} would all write doc.tensor, which can hold the vectors of one; give "
            "the components that listen to the others copies of their own by nlp.replace_listeners(), and leave "
            "those out"
        )


def _exported_config(nlp: Language, name: str, section: Dict[str, Any]) -> Dict[str, Any]:
    """What a component's section of the config becomes."""
    if section.get("factory") != "transformer":
        return _exported_block(nlp, section)
    model = section["model"]
    if model.get("@architectures") != TRANSFORMER:
        raise ValueError(
            f"component '{name}' is of {quote(model.get('@architectures'))}, which cannot be exported; train it "
            f"with {TRANSFORMER}"
        )
    poolings = [
        block["pooling"]
        for other in nlp.component_names
        for block in _sections(nlp.get_pipe_config(other))
        if block.get("@architectures") == LISTENER and block.get("upstream") in ("*", name)
    ]
    if any(pooling != poolings[0] for pooling in poolings):
        raise ValueError(
            f"the components that listen to '{name}' pool its word-pieces in different ways, but token vectors "
            "can be of one; give them the same pooling, or their own copies by nlp.replace_listeners()"
        )
    return {"factory": "tok2vec", "model": _encoder_block(poolings[0] if poolings else _MEAN, model)}


def _encoder_block(pooling: Any, encoder: Dict[str, Any]) -> Dict[str, Any]:
    return {
        "@architectures": ONNX_ENCODER,
        "pooling": pooling,
        "max_padded_tokens": encoder["max_padded_tokens"],
        "n_threads": 1,
    }


def _exported_block(nlp: Language, block: Any) -> Any:
    if isinstance(block, list):
        return [_exported_block(nlp, value) for value in block]
    if not isinstance(block, dict):
        return block
    made = {key: _exported_block(nlp, value) for key, value in block.items()}
    kind = block.get("@architectures")
    if kind == TAGGER:
        return {
            "@architectures": ONNX_TAGGER,
            "tok2vec": made["tok2vec"],
            "max_padded_tokens": block["max_padded_tokens"],
            "n_threads": 1,
        }
    if kind == OWN_ENCODER:
        return _encoder_block(made["pooling"], block["encoder"])
    if kind == LISTENER:
        width = _upstream_width(nlp, block["upstream"])
        return {"@architectures": "spacy.Tok2VecListener.v1", "width": width, "upstream": block["upstream"]}
    return made


def _upstream_width(nlp: Language, upstream: str) -> int:
    factories = nlp.pipe_factories
    for name, pipe in nlp.components:
        for node in _nodes(pipe) if factories[name] == "transformer" and upstream in ("*", name) else []:
            if isinstance(node, Encoder):
                return node.get_dim("nO")
    raise ValueError(f"a component listens to {quote(upstream)}, which is not in the pipeline; put it there")


def _transfer(old: Model, new: Model, lang: str, opset: int, name: str) -> None:
    """Give a model what another one has learnt, of which it was made: what became a graph as a graph."""
    if isinstance(new, Tok2VecListener):
        return
    if new.name == "onnx_encoder":
        encoder = next(node for node in old.walk() if isinstance(node, Encoder))
        _set_encoder(encoder, new, lang, opset)
        # A pooling has no weights: spacy-transformers would not initialize them.
        return
    if new.name == "onnx_crf_head":
        _set_head(old, new, opset)
        return
    if not any(node.shims for node in new.walk()) and not any(isinstance(n, Tok2VecListener) for n in new.walk()):
        if any(node.shims for node in old.walk()):
            raise ValueError(f"component '{name}' has a network of torch beside its encoder; leave it out")
        new.from_bytes(old.to_bytes())
        return
    for dim in old.dim_names:
        if old.has_dim(dim):
            new.set_dim(dim, old.get_dim(dim), force=True)
    for parameter in old.param_names:
        if old.has_param(parameter):
            new.set_param(parameter, old.get_param(parameter))
    for before, after in zip(old.layers, new.layers, strict=True):
        _transfer(before, after, lang, opset, name)


def _set_encoder(encoder: Encoder, new: Model, lang: str, opset: int) -> None:
    shim = encoder.shim
    graph = encoder_graph(
        shim._model, takes_types=shim.pieces.takes_types, window=shim.windowing.window, opset=opset
    )
    facts = encoder_facts(
        shim.pieces, shim.windowing, pad_id=shim._model.pad_id, split_tokens=shim.splits_tokens(lang)
    )
    cast(OnnxShim, new.shims[0]).set({ENCODER: graph}, facts)
    new.set_dim("nO", encoder.get_dim("nO"))


def _set_head(old: Model, new: Model, opset: int) -> None:
    head: Any = old.shims[0]._model
    with torch.no_grad():
        crf = dict(zip(("start", "transitions", "end"), (x.cpu().numpy() for x in head.crf.constrained())))
    window = head.spec.attention_window if head.spec.attention_heads else 0
    graphs = head_graphs(head.head, head.spec.width, opset=opset)
    cast(OnnxShim, new.shims[0]).set(graphs, {**crf, "attention_window": window})
    for dim in ("nI", "nO"):
        new.set_dim(dim, old.get_dim(dim))
