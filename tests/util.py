"""Small pipelines and examples that several tests use."""

from typing import Any, Dict, List, Optional, Tuple

import spacy
from hypothesis import settings
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from thinc.api import Adam, Optimizer, fix_random_seed

from spacy_crf_ner.ner.component import CRFEntityRecognizer
from spacy_crf_ner.tagger.head import TaggerHead

FIXED_EXAMPLES = 50
"""How many examples Hypothesis draws in the fixed profile, which CI uses."""

SMALL_MODEL: Dict[str, Any] = {
    "@architectures": "spacy-crf-ner.CRFTagger.v1",
    "lstm_width": 32,
    "lstm_depth": 1,
    "attention_heads": 2,
    "attention_window": 8,
    "tok2vec": {
        "@architectures": "spacy-crf-ner.CharEmbed.v1",
        "char_width": 32,
        "char_rows": 200,
        "bigram_width": 8,
        "bigram_rows": 200,
    },
}

TEXTS: List[Tuple[str, Dict[str, str]]] = [
    ("王小明在北京大学读书。", {"王小明": "PER", "北京大学": "ORG"}),
    ("中美两国在上海会谈。", {"中": "LOC", "美": "LOC", "上海": "LOC"}),
    ("今天天气很好，大家都很高兴。", {}),
    ("李红１９９８年加入华兴公司。", {"李红": "PER", "华兴公司": "ORG"}),
    ("张伟去了广州。", {"张伟": "PER", "广州": "LOC"}),
]
"""Texts and their mentions, each of which occurs once in its text."""


def n_drawn(n: int) -> int:
    """The `max_examples` of a test that needs another number than the profile's; the deep profile multiplies it.

    n (int): The number in the fixed profile.
    """
    return n * settings().max_examples // FIXED_EXAMPLES


NO_STEP: Any = False
"""For `nlp.update(sgd=...)`: leave the gradients, step nothing. spaCy takes False, its type hints do not."""


def get_pipe(nlp: Language, name: str) -> Any:
    """`nlp.get_pipe`, whose type hint knows components as mere callables."""
    return nlp.get_pipe(name)


def entity_offsets(text: str, mentions: Dict[str, str]) -> List[Tuple[int, int, str]]:
    return [(text.index(m), text.index(m) + len(m), label) for m, label in mentions.items()]


def example_from(nlp: Language, text: str, mentions: Dict[str, str]) -> Example:
    """An example whose text has these mentions and no other."""
    return Example.from_dict(nlp.make_doc(text), {"entities": entity_offsets(text, mentions)})


def examples_from(nlp: Language) -> List[Example]:
    return [example_from(nlp, text, mentions) for text, mentions in TEXTS]


def ents(doc: Doc) -> List[Tuple[str, str]]:
    return [(ent.text, ent.label_) for ent in doc.ents]


def head_of(nlp: Language) -> TaggerHead:
    """The torch module of a pipeline's `crf_ner`."""
    return get_pipe(nlp, "crf_ner").model.get_ref("output_layer").shims[0]._model


def at_random(nlp: Language) -> Language:
    """The pipeline, the last layer of each `crf_ner` at random: from zero weights, nothing below it has a gradient
    before the second update."""
    for _, pipe in nlp.pipeline:
        if isinstance(pipe, CRFEntityRecognizer):
            shim: Any = pipe.model.get_ref("output_layer").shims[0]
            shim._model.head.output.reset_parameters()
    return nlp


def assert_learnt(nlp: Language) -> None:
    """The pipeline marks all mentions of `TEXTS`, and nothing else."""
    for text, mentions in TEXTS:
        assert set(ents(nlp(text))) == set(mentions.items())


def optimizer() -> Optimizer:
    return Adam(0.01, L2=0.0, use_averages=False)


def joined(copies: int = 1) -> Tuple[str, List[Tuple[int, int, str]]]:
    """All texts as one, some times over, and its mentions by their offsets."""
    text, mentions = "", []
    for part, found in TEXTS * copies:
        mentions += [
            (len(text) + start, len(text) + end, label) for start, end, label in entity_offsets(part, found)
        ]
        text += part
    return text, mentions


def overfitted(model: Optional[Dict[str, Any]] = None, steps: int = 40, together: bool = False) -> Language:
    """A pipeline with a `crf_ner` that has learnt `TEXTS` by heart; with `together`, as one text too."""
    fix_random_seed(0)
    nlp = spacy.blank("zh")
    nlp.add_pipe("crf_ner", config={"model": model or SMALL_MODEL})
    examples = examples_from(nlp)
    if together:
        text, mentions = joined(2)
        examples.append(Example.from_dict(nlp.make_doc(text), {"entities": mentions}))
    nlp.initialize(get_examples=lambda: examples)
    sgd = optimizer()
    for _ in range(steps):
        nlp.update(examples, sgd=sgd)
    return nlp


def refuse(index: int, what: str, fix: str, kind: str) -> None:
    """For `Scheme.read`: what breaks the scheme fails the test."""
    raise AssertionError(f"position {index}: {what}")
