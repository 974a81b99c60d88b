"""Pretrained vectors of bigrams, in `CharEmbed`."""

from typing import Any, List

import numpy
import pytest
import spacy
from spacy.language import Language
from spacy.vectors import Vectors
from thinc.api import Model

from spacy_crf_ner.tagger.bigram_vectors import bigram_vectors
from spacy_crf_ner.tagger.char_embed import CharEmbed

BIGRAMS = ("我在", "在北", "北京", "A1")


@pytest.fixture
def nlp() -> Language:
    nlp = spacy.blank("zh")
    nlp.vocab.reset_vectors(width=4)
    vector: Any
    for bigram, vector in zip(BIGRAMS, numpy.eye(4, dtype="f")):
        nlp.vocab.set_vector(bigram, vector)
    return nlp


def layer(nlp: Language) -> Model:
    """Its projection passes both vectors on as they are."""
    model = bigram_vectors(8)
    model.initialize(X=[nlp.make_doc("北京")])
    identity: Any = numpy.eye(8, dtype="f")
    model.set_param("W", identity)
    return model


def looked_up(rows: List[str]) -> Any:
    """Of each token, its left and its right bigram; "" is a zero."""
    table = {"": numpy.zeros(4), **dict(zip(BIGRAMS, numpy.eye(4)))}
    return numpy.array([numpy.concatenate([table[bigram] for bigram in row.split("/")]) for row in rows])


def test_each_token_has_the_vectors_of_its_two_bigrams(nlp: Language) -> None:
    docs = [nlp.make_doc(text) for text in ("我在北京", "", "京", "北京我")]
    found: Any = layer(nlp).predict(docs)
    assert found.lengths.tolist() == [4, 0, 1, 3]
    expected = ["/我在", "我在/在北", "在北/北京", "北京/", "/", "/北京", "北京/", "/"]
    assert (found.data == looked_up(expected)).all()


def test_the_gradient_is_of_what_was_looked_up(nlp: Language) -> None:
    model = layer(nlp)
    docs = [nlp.make_doc("我在北京"), nlp.make_doc("京我")]
    output: Any
    output, backprop = model.begin_update(docs)
    d_output = numpy.random.default_rng(0).normal(size=output.data.shape).astype("f")
    output.data = d_output
    backprop(output)
    looked = looked_up(["/我在", "我在/在北", "在北/北京", "北京/", "/", "/"])
    gradient: Any = model.get_grad("W")
    numpy.testing.assert_allclose(gradient, d_output.T @ looked, atol=1e-6)


def test_the_embedding_looks_them_up_folded(nlp: Language) -> None:
    settings = {"char_width": 8, "char_rows": 100, "bigram_width": 0, "bigram_vectors_width": 6}
    model = CharEmbed(**settings, include_bigram_vectors=True)  # type: ignore[arg-type]
    model.initialize(X=[nlp.make_doc("北京")])
    assert model.get_dim("nO") == 14
    full, half, other = (model.predict([nlp.make_doc(text)])[0] for text in ("Ａ１", "A1", "A2"))
    assert full.shape == (2, 14)
    assert (full == half).all() and full[:, 8:].any()
    assert not other[:, 8:].any()
    for docs in ([nlp.make_doc("")], [nlp.make_doc(""), nlp.make_doc("A")], []):
        assert list(map(len, model.predict(docs))) == list(map(len, docs))


def test_a_saved_embedding_finds_the_same(nlp: Language) -> None:
    settings = {"char_width": 8, "char_rows": 100, "include_bigram_vectors": True}
    model, again = CharEmbed(**settings), CharEmbed(**settings)  # type: ignore[arg-type]
    docs = [nlp.make_doc("我在北京")]
    model.initialize(X=docs)
    again.from_bytes(model.to_bytes())
    assert (model.predict(docs)[0] == again.predict(docs)[0]).all()


def test_vectors_that_know_no_bigrams_are_refused() -> None:
    """Floret's are of parts of words: each text has one, and none is that of a bigram."""
    nlp = spacy.blank("zh")
    data: Any = numpy.ones((8, 4), dtype="f")
    nlp.vocab.vectors = Vectors(data=data, mode="floret", minn=1, maxn=1, hash_count=1)
    with pytest.raises(ValueError, match="the pipeline's are floret vectors; take vectors of `crf init-vectors`"):
        bigram_vectors(8).initialize(X=[nlp.make_doc("北京")])
