"""The architecture `spacy-crf-ner.CharEmbed.v1`: character and character-bigram embeddings for CPU pipelines.

The features are those of Zhang and Yang (2018), "Chinese NER using lattice LSTM", ACL, section 3.1 (character
and bichar embeddings), the tables hashed as in `spacy.MultiHashEmbed`. A token is a character where the
tokenizer cuts characters, as spaCy's does for Chinese; other tokens are looked up whole.
"""

import unicodedata
from functools import lru_cache
from typing import Callable, List, Optional, Tuple, cast

import numpy
from spacy.attrs import ORTH
from spacy.ml.staticvectors import StaticVectors
from spacy.tokens import Doc
from thinc.api import Dropout, HashEmbed, Model, chain, concatenate, list2ragged, ragged2list, with_array
from thinc.types import Floats2d, Ints2d

from spacy_crf_ner.tagger.bigram_vectors import bigram_vectors

_MIX = numpy.uint64(0x9E3779B97F4A7C15)  # the odd number nearest 2**64 / golden ratio: Fibonacci hashing


def CharEmbed(
    char_width: int = 128,
    char_rows: int = 5000,
    bigram_width: int = 64,
    bigram_rows: int = 50000,
    include_static_vectors: bool = False,
    static_width: int = 200,
    include_bigram_vectors: bool = False,
    bigram_vectors_width: int = 128,
) -> Model[List[Doc], List[Floats2d]]:
    """Build an embedding of width-folded characters and of the bigrams to their left and right.

    char_width (int): Width of the character embedding.
    char_rows (int): Rows of its hash table.
    bigram_width (int): Width of each of the two bigram embeddings; 0 leaves them out.
    bigram_rows (int): Rows of each of their hash tables.
    include_static_vectors (bool): Add a learned projection of the vectors of `[initialize] vectors`, looked
        up by the folded character.
    static_width (int): Width of that projection.
    include_bigram_vectors (bool): Add a learned projection of the vectors of both bigrams, which are looked up
        among the same vectors, as `crf init-vectors` writes them.
    bigram_vectors_width (int): Width of that projection.
    RETURNS (Model[List[Doc], List[Floats2d]]): *Shape:* (n_tokens, width) per doc, where the width is the sum of
        the parts. Its dropout follows the training's: single cells of a character, and a bigram whole, as if
        training had not seen it: of the bigrams of MSRA's dev set, one in thirteen is new.
    """
    # The seeds only have to differ between the tables.
    tables: List[Model] = [chain(HashEmbed(char_width, char_rows, column=0, seed=7), Dropout())]
    if bigram_width:
        bigrams: List[Model] = [HashEmbed(bigram_width, bigram_rows, column=i, seed=7 + i) for i in (1, 2)]
        tables += [chain(table, row_dropout()) for table in bigrams]
    embed = concatenate(*tables) if len(tables) > 1 else tables[0]
    embedded: Model = chain(char_bigrams(), list2ragged(), with_array(embed))
    if include_static_vectors:
        vectors = StaticVectors(static_width)
        del vectors.attrs["dropout_rate"]  # its own dropout would drop the same columns for all tokens of a batch
        embedded = concatenate(embedded, chain(require_vectors(), vectors, Dropout()))
    if include_bigram_vectors:
        embedded = concatenate(embedded, chain(require_vectors(), bigram_vectors(bigram_vectors_width), Dropout()))
    model: Model[List[Doc], List[Floats2d]] = chain(fold_docs(), embedded, ragged2list())
    static = include_static_vectors * static_width + include_bigram_vectors * bigram_vectors_width
    model.set_dim("nO", char_width + 2 * bigram_width + static)
    return model


def require_vectors() -> Model[List[Doc], List[Doc]]:
    """A layer that changes nothing, and refuses to be initialized for a vocabulary without vectors."""
    return Model("require_vectors", _pass_on, init=_check_vectors)


def _pass_on(model: Model[List[Doc], List[Doc]], docs: List[Doc], is_train: bool) -> Tuple[List[Doc], Callable]:
    return docs, lambda d_docs: d_docs


def _check_vectors(
    model: Model[List[Doc], List[Doc]], X: Optional[List[Doc]] = None, Y: Optional[List[Doc]] = None
) -> None:
    if X and not X[0].vocab.vectors_length:
        raise ValueError(
            "the config includes vectors, but the pipeline has none: name some in [initialize] vectors "
            "(--paths.vectors in configs/char_bilstm.cfg), as `crf init-vectors` or `spacy init vectors` does"
        )


def row_dropout() -> Model[Floats2d, Floats2d]:
    """A layer that drops whole rows in training, and scales up those that stay."""
    return Model("row_dropout", _row_dropout, attrs={"dropout_rate": 0.0})


def _row_dropout(
    model: Model[Floats2d, Floats2d], X: Floats2d, is_train: bool
) -> Tuple[Floats2d, Callable[[Floats2d], Floats2d]]:
    rate = model.attrs["dropout_rate"]
    if not is_train or not rate:
        return X, lambda dY: dY
    mask = model.ops.get_dropout_mask((len(X), 1), rate)
    return X * mask, lambda dY: dY * mask


@lru_cache(maxsize=2**16)
def fold_width(text: str) -> str:
    """Fold full- and half-width forms to their ordinary ones, and nothing else: Ａ to A, ｱ to ア.

    Unicode Standard Annex 11: East Asian Width F and H, mapped by their compatibility decomposition.
    """
    return "".join(
        unicodedata.normalize("NFKC", char) if unicodedata.east_asian_width(char) in "FH" else char
        for char in text
    )


def fold_docs() -> Model[List[Doc], List[Doc]]:
    """A layer that folds the width of each token: the same tokens, looked up under one form."""
    return Model("fold_docs", _fold_docs)


def _fold_docs(model: Model[List[Doc], List[Doc]], docs: List[Doc], is_train: bool) -> Tuple[List[Doc], Callable]:
    folded = [Doc(doc.vocab, words=[fold_width(token.text) for token in doc]) for doc in docs]
    return folded, lambda d_docs: []


def char_bigrams() -> Model[List[Doc], List[Ints2d]]:
    """A layer that reads off the ids of each token, of its left bigram and of its right bigram.

    The output has the shape (n_tokens, 3), uint64. The boundaries of the doc count as a token of id 0.
    """
    return Model("char_bigrams", _char_bigrams)


def _char_bigrams(
    model: Model[List[Doc], List[Ints2d]], docs: List[Doc], is_train: bool
) -> Tuple[List[Ints2d], Callable]:
    features = []
    for doc in docs:
        ids = numpy.zeros(len(doc) + 2, dtype="uint64")
        ids[1:-1] = doc.to_array(ORTH)
        bigrams = (ids[:-1] * _MIX) ^ ids[1:]
        columns = numpy.stack((ids[1:-1], bigrams[:-1], bigrams[1:]), axis=1)
        features.append(model.ops.asarray2i(cast(Ints2d, columns), dtype="uint64"))
    return features, lambda d_features: []
