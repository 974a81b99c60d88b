"""Small gold docs and rule pipelines, written to disk as a user would have them."""

from pathlib import Path
from typing import Dict, Iterable, List, Optional, Sequence, Tuple

import spacy
from spacy.language import Language
from spacy.tokens import Doc, DocBin, Span
from spacy.training import Example

Entity = Tuple[int, int, str]

VOCAB = spacy.blank("zh").vocab


def make_doc(
    words: Iterable[str], entities: Sequence[Entity] = (), missing: Optional[Sequence[Tuple[int, int]]] = None
) -> Doc:
    """A doc without spaces; entities and stretches of unknown annotation are token offsets."""
    words = list(words)
    doc = Doc(VOCAB, words=words, spaces=[False] * len(words))
    doc.set_ents(
        [Span(doc, start, end, label=label) for start, end, label in entities],
        missing=[doc[start:end] for start, end in missing or ()],
        default="outside",
    )
    return doc


def make_example(words: Iterable[str], gold: Sequence[Entity], predicted: Sequence[Entity]) -> Example:
    words = list(words)
    return Example(make_doc(words, predicted), make_doc(words, gold))


def write_docs(path: Path, docs: Iterable[Doc]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    DocBin(docs=docs, store_user_data=True).to_disk(path)
    return path


def rule_pipeline(patterns: Dict[str, str]) -> Language:
    """A pipeline that finds texts: {text: label}."""
    nlp = spacy.blank("zh")
    ruler = nlp.add_pipe("entity_ruler")
    ruler.add_patterns([{"label": label, "pattern": text} for text, label in patterns.items()])  # type: ignore[attr-defined]
    return nlp


def write_pipeline(path: Path, patterns: Dict[str, str]) -> Path:
    rule_pipeline(patterns).to_disk(path)
    return path


def gold_docs() -> List[Doc]:
    """Three docs: one place and one person, one organisation, nothing."""
    return [
        make_doc("张三去北京", [(0, 2, "PER"), (3, 5, "LOC")]),
        make_doc("联合国开会", [(0, 3, "ORG")]),
        make_doc("今天下雨", []),
    ]
