"""Listeners: layers that take token vectors from a pipe upstream, and what spaCy leaves to be checked of them.

In a prediction a listener reads what its upstream pipe has written on the docs, `doc.tensor` or `doc._.trf_data`.
Where that pipe did not run, spaCy's listener and that of spacy-transformers return zeros of the right shape, under
which all texts look the same: the entities are then arbitrary.
"""

from typing import Iterable, Iterator

from spacy.pipeline.tok2vec import Tok2VecListener
from spacy.tokens import Doc
from thinc.api import Model

TRANSFORMER_OUTPUT = "trf_data"
"""The extension attribute that spacy-transformers writes; its import, and so torch's, is not needed here."""


def listeners_of(model: Model) -> Iterator[Model]:
    """The layers of a model that listen to another pipe; each has an `upstream_name`."""
    return (node for node in model.walk() if hasattr(node, "upstream_name"))


def require_output(name: str, model: Model, docs: Iterable[Doc], *, training: bool = False) -> None:
    """Refuse docs that the pipe upstream has not seen. Docs without tokens need no output.

    name (str): The component's name.
    model (Model): Its model.
    docs (Iterable[Doc]): The docs.
    training (bool): Whether it is an update with the pipe upstream frozen, for the message.
    RAISES (ValueError): A doc lacks the output of a pipe that the model listens to.
    """
    for node in listeners_of(model):
        of_tok2vec = isinstance(node, Tok2VecListener)
        lacks = _lacks_tensor if of_tok2vec else _lacks_transformer_output
        doc = next((doc for doc in docs if len(doc) and lacks(doc)), None)
        if doc is None:
            continue
        kind = "tok2vec" if of_tok2vec else "transformer"
        known = node.upstream_name != "*"  # type: ignore[attr-defined]
        upstream = repr(node.upstream_name) if known else f"the '{kind}' pipe"  # type: ignore[attr-defined]
        where = "doc.tensor" if of_tok2vec else f"doc._.{TRANSFORMER_OUTPUT}"
        frozen = "; if it is frozen, name it in annotating_components" if training else ""
        raise ValueError(
            f"component '{name}' listens to {upstream}, which has not run: {where} is not set on the doc "
            f"{doc.text[:20]!r}; put {upstream} before the component and enable it, or, while it is there, let "
            f"nlp.replace_listeners() give the component a copy of its own{frozen}"
        )


def read_docs_in_training(model: Model) -> bool:
    """Whether listeners have received no batch from upstream to learn from, so that they read the docs instead."""
    return any(node._batch_id is None for node in listeners_of(model) if hasattr(node, "_batch_id"))


def forget_batch(model: Model) -> None:
    """Let listeners forget the batch that they received for an update. spaCy's own listener keeps it, and would
    learn from it once more in an update in which its upstream pipe has no part."""
    for node in listeners_of(model):
        if isinstance(node, Tok2VecListener):
            node._batch_id = node._outputs = node._backprop = None


def refuse_listeners(name: str, model: Model, what: str) -> None:
    """Refuse a rehearsal or a distillation of a component that listens to another's embedding.

    name (str): The component's name.
    model (Model): Its model.
    what (str): Which of the two it is.
    RAISES (ValueError): It has a listener, and nothing computes the upstream embedding there.
    """
    for upstream in (node.upstream_name for node in listeners_of(model)):  # type: ignore[attr-defined]
        raise ValueError(
            f"component '{name}' listens to '{upstream}', whose embedding is not computed in a {what}: "
            "give it one of its own, by nlp.replace_listeners() before nlp.resume_training()"
        )


def _lacks_tensor(doc: Doc) -> bool:
    return doc.tensor.size == 0


def _lacks_transformer_output(doc: Doc) -> bool:
    return not Doc.has_extension(TRANSFORMER_OUTPUT) or doc._.get(TRANSFORMER_OUTPUT) is None
