from typing import Any

import numpy
import pytest
import spacy
from spacy.language import Language
from thinc.api import Model, set_dropout_rate

from spacy_crf_ner.tagger.char_embed import CharEmbed, char_bigrams, fold_docs, fold_width, row_dropout
from tests.util import SMALL_MODEL, TEXTS, assert_learnt, examples_from, optimizer


@pytest.fixture
def nlp() -> Language:
    return spacy.blank("zh")


def built(nlp: Language, **settings: Any) -> Model:
    model = CharEmbed(**{"char_width": 8, "char_rows": 100, "bigram_width": 4, "bigram_rows": 100, **settings})
    model.initialize(X=[nlp.make_doc("北京")])
    return model


@pytest.mark.parametrize(
    "text, folded",
    [("Ａ１％，", "A1%,"), ("　", " "), ("ｶﾞ", "カ\u3099"), ("北京", "北京"), ("①㎏ﬁ", "①㎏ﬁ"), ("", "")],
)
def test_only_width_is_folded(text: str, folded: str) -> None:
    assert fold_width(text) == folded


def test_folding_keeps_the_tokens_apart(nlp: Language) -> None:
    doc = nlp.make_doc("Ｇ２０ 峰会　。")
    (folded,) = fold_docs().predict([doc])
    assert [token.text for token in folded] == ["G", "2", "0", "峰", "会", " ", "。"]
    assert len(folded) == len(doc)


def test_full_and_half_width_text_have_the_same_vectors(nlp: Language) -> None:
    model = built(nlp)
    full, half = model.predict([nlp.make_doc("Ｇ２０在北京"), nlp.make_doc("G20在北京")])
    assert (full == half).all()


def test_bigrams_tell_order_and_neighbours(nlp: Language) -> None:
    features = char_bigrams().predict([nlp.make_doc(text) for text in ("北京市", "京北", "北京", "")])
    city, reverse, capital, empty = features
    assert empty.shape == (0, 3) and city.shape == (3, 3)
    assert (city[0] == capital[0]).all()  # the same character between the same neighbours
    assert city[0, 2] == city[1, 1]  # one's right bigram is the next one's left
    assert city[1, 0] == capital[1, 0] and city[1, 2] != capital[1, 2]
    assert city[0, 2] != reverse[0, 2]


def test_width_is_the_sum_of_the_parts(nlp: Language) -> None:
    assert built(nlp).get_dim("nO") == 16
    assert built(nlp).predict([nlp.make_doc("北京")])[0].shape == (2, 16)
    assert built(nlp, bigram_width=0).predict([nlp.make_doc("北京")])[0].shape == (2, 8)


def test_static_vectors_are_looked_up_by_the_folded_character(nlp: Language) -> None:
    nlp.vocab.reset_vectors(width=5)
    for i, char in enumerate("A京"):
        nlp.vocab.set_vector(char, numpy.eye(5, dtype="f")[i])
    model = built(nlp, include_static_vectors=True, static_width=6)
    (vectors,) = model.predict([nlp.make_doc("Ａ京北")])
    assert vectors.shape == (3, 22)
    static = vectors[:, 16:]
    assert static[0].any() and static[1].any() and not static[2].any()
    assert (static[0] != static[1]).any()


@pytest.mark.parametrize("parts", [slice(0, 64), slice(64, 128)], ids=["characters", "static vectors"])
def test_dropout_drops_single_cells(nlp: Language, parts: slice) -> None:
    nlp.vocab.reset_vectors(width=5)
    ones: Any = numpy.ones(5, dtype="f")
    for char in "北京":
        nlp.vocab.set_vector(char, ones)
    model = built(nlp, char_width=64, bigram_width=0, include_static_vectors=True, static_width=64)
    docs = [nlp.make_doc("北京" * 50)]
    set_dropout_rate(model, 0.5)
    dropped = model.begin_update(docs)[0][0][:, parts] == 0
    assert 0.45 < dropped.mean() < 0.55
    # Cell by cell, and not one mask for all tokens or for all columns.
    assert (dropped.mean(axis=0) > 0.2).all() and (dropped.mean(axis=0) < 0.8).all()
    assert (dropped.mean(axis=1) > 0.2).all() and (dropped.mean(axis=1) < 0.8).all()
    assert (model.predict(docs)[0] != 0).all()


def test_bigrams_are_dropped_whole_and_so_are_their_gradients(nlp: Language) -> None:
    model = built(nlp, bigram_width=16)
    set_dropout_rate(model, 0.5)
    (dropped,), _ = model.begin_update([nlp.make_doc("北京" * 50)])
    for table in (dropped[:, 8:24], dropped[:, 24:40]):
        rows = (table == 0).mean(axis=1)
        assert set(rows.tolist()) == {0.0, 1.0} and 0.3 < rows.mean() < 0.7
    layer = row_dropout()
    set_dropout_rate(layer, 0.5)
    X: Any = numpy.ones((100, 3), dtype="f")
    Y, backprop = layer.begin_update(X)
    assert (backprop(X) == Y).all() and set(Y.ravel().tolist()) == {0.0, 2.0}


@pytest.mark.parametrize("what", ["include_static_vectors", "include_bigram_vectors"])
def test_vectors_of_a_pipeline_without_any_are_refused(nlp: Language, what: str) -> None:
    with pytest.raises(ValueError, match="the pipeline has none: name some in"):
        built(nlp, **{what: True})


def test_vectors_come_through_initialize(nlp: Language) -> None:
    """A pipeline with vectors trains, and they travel with it."""
    chars = sorted({char for text, _ in TEXTS for char in text})
    nlp.vocab.reset_vectors(width=12)
    for char in chars:
        vector: Any = numpy.random.default_rng(ord(char)).normal(size=12).astype("f")
        nlp.vocab.set_vector(fold_width(char), vector)
    tok2vec = {**SMALL_MODEL["tok2vec"], "include_static_vectors": True, "static_width": 12}
    nlp.add_pipe("crf_ner", config={"model": {**SMALL_MODEL, "tok2vec": tok2vec}})
    nlp.initialize(get_examples=lambda: examples_from(nlp))
    sgd = optimizer()
    for _ in range(40):
        nlp.update(examples_from(nlp), sgd=sgd)
    loaded = spacy.blank("zh", config=nlp.config).from_bytes(nlp.to_bytes())
    assert_learnt(loaded)


def test_other_tokens_than_characters_are_looked_up_whole() -> None:
    nlp = spacy.blank("en")
    model = built(nlp)
    first, second = model.predict([nlp.make_doc("Berlin is big"), nlp.make_doc("Berlin is small")])
    assert (first[0] == second[0]).all() and (first[2] != second[2]).any()
