from pathlib import Path

import spacy
from spacy.language import Language
from spacy.tokens import Doc, Span

from spacy_crf_ner.evaluation.predictions import predict, read_examples
from tests.evaluation.util import gold_docs, make_doc, write_docs


@Language.component("crf_test_returns_a_new_doc")
def returns_a_new_doc(doc: Doc) -> Doc:
    new = doc.copy()
    new.set_ents([Span(new, 0, 1, label="PER")])
    return new


def test_gold_annotation_does_not_reach_the_pipeline(tmp_path: Path) -> None:
    nlp = spacy.blank("zh")
    examples = read_examples(write_docs(tmp_path / "dev.spacy", gold_docs()), nlp)
    predict(nlp, examples)
    assert [len(eg.reference.ents) for eg in examples] == [2, 1, 0]
    assert not any(eg.predicted.ents for eg in examples)


def test_pipe_may_return_new_docs(tmp_path: Path) -> None:
    nlp = spacy.blank("zh")
    nlp.add_pipe("crf_test_returns_a_new_doc")
    examples = read_examples(write_docs(tmp_path / "dev.spacy", gold_docs()), nlp)
    n_tokens, seconds = predict(nlp, examples, batch_size=2)
    assert [len(eg.predicted.ents) for eg in examples] == [1, 1, 1]
    assert n_tokens == 14
    assert seconds > 0


def test_empty_docs_are_passed_over(tmp_path: Path) -> None:
    path = write_docs(tmp_path / "dev.spacy", [make_doc(""), make_doc("今天")])
    assert [eg.text for eg in read_examples(path, spacy.blank("zh"))] == ["今天"]
