"""Sentences of an annotation file -> Docs with the tokens that the pipeline itself will see."""

from enum import Enum
from itertools import accumulate
from typing import List, Tuple

from spacy.language import Language
from spacy.tokens import Doc, Span

from spacy_crf_ner.formats.bio import Sentence
from spacy_crf_ner.labels import tags_to_spans


class Boundaries(Enum):
    """Whose token boundaries a Doc has."""

    SHARED = "the tokenizer's, equal to the file's"
    TOKENIZER = "the tokenizer's"
    FILE = "the file's: the tokenizer changes the text, or makes a token that an entity begins or ends inside"


def sentence_to_doc(nlp: Language, sentence: Sentence) -> Tuple[Doc, Boundaries]:
    """Make a Doc of a sentence, its entities in `doc.ents` and all other tokens outside.

    The tokens are joined, with a space between them where the language writes one, and tokenized as at
    prediction. Only where an entity would not begin and end with such a token does the Doc keep the file's
    tokens, so that no entity is lost.

    nlp (Language): The pipeline whose tokenizer will be used.
    sentence (Sentence): At least one token.
    RETURNS (Tuple[Doc, Boundaries]): The Doc, and whose token boundaries it has.
    """
    separator = " " if nlp.vocab.writing_system.get("has_letters", True) else ""
    words = [word + separator for word in sentence.tokens[:-1]] + sentence.tokens[-1:]
    text = "".join(words)
    starts = [0, *accumulate(map(len, words))]
    entities = tags_to_spans(sentence.tags)
    doc = nlp.make_doc(text)
    spans: List[Span] = []
    for start, end, label in entities:
        span = doc.char_span(starts[start], starts[end - 1] + len(sentence.tokens[end - 1]), label=label)
        if span is not None:
            spans.append(span)
    same = [token.text for token in doc] == sentence.tokens
    boundaries = Boundaries.SHARED if same else Boundaries.TOKENIZER
    # A tokenizer may also change the text, where its language's analyser normalises.
    if len(spans) < len(entities) or doc.text != text:
        spaces = [bool(separator)] * (len(words) - 1) + [False]
        doc = Doc(nlp.vocab, words=sentence.tokens, spaces=spaces)
        spans = [Span(doc, start, end, label=label) for start, end, label in entities]
        boundaries = Boundaries.FILE
    doc.set_ents(spans, default="outside")
    return doc, boundaries
