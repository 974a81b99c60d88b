"""What a pipe says before its first update: nothing, as spaCy's `ner` does."""

from functools import cache
from itertools import product
from typing import Any, Dict, List

import numpy
import pytest
import spacy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.language import Language
from spacy.tokens import Span
from thinc.api import fix_random_seed

from spacy_crf_ner.crf.autograd import chain_from_tensors
from spacy_crf_ner.crf.layout import Sequences
from spacy_crf_ner.crf.viterbi import k_best, viterbi
from spacy_crf_ner.tagger.head import HeadSpec, TaggerHead
from tests.util import (
    SMALL_MODEL,
    TEXTS,
    assert_learnt,
    ents,
    examples_from,
    get_pipe,
    head_of,
    n_drawn,
    optimizer,
)

HASH_EMBED_CNN: Dict[str, Any] = {
    "@architectures": "spacy.HashEmbedCNN.v2",
    "pretrained_vectors": None,
    "width": 16,
    "depth": 1,
    "embed_size": 100,
    "window_size": 1,
    "maxout_pieces": 2,
    "subword_features": True,
}
MODELS: Dict[str, Dict[str, Any]] = {
    "BiLSTM and attention": {},
    "BiLSTM": {"attention_heads": 0},
    "two BiLSTMs": {"lstm_depth": 2},
    "attention": {"lstm_depth": 0},
    "neither": {"lstm_depth": 0, "attention_heads": 0},
    "spaCy's tok2vec": {"tok2vec": HASH_EMBED_CNN},
    "spaCy's tok2vec and no more": {"tok2vec": HASH_EMBED_CNN, "lstm_depth": 0, "attention_heads": 0},
}

heads = st.builds(
    HeadSpec,
    width=st.just(4),
    n_types=st.integers(1, 30),
    lstm_width=st.just(6),
    lstm_depth=st.integers(0, 2),
    attention_heads=st.sampled_from([0, 2]),
    attention_window=st.integers(1, 3),
    max_padded_tokens=st.just(64),
)


def untrained(n_labels: int = 3, seed: int = 0, **changes: Any) -> Language:
    fix_random_seed(seed)
    nlp = spacy.blank("zh")
    pipe: Any = nlp.add_pipe("crf_ner", config={"model": {**SMALL_MODEL, **changes}})
    for i in range(n_labels):
        pipe.add_label(f"TYPE{i}")
    nlp.initialize()
    return nlp


@given(
    spec=heads,
    lengths=st.lists(st.integers(0, 12), min_size=1, max_size=5),
    scale=st.sampled_from([0.0, 1.0, 1e3, 1e9]),
    seed=st.integers(0, 2**31),
)
@settings(deadline=None, max_examples=n_drawn(150))
def test_outside_wins_in_every_head_whatever_its_seed_its_labels_and_the_vectors(
    spec: HeadSpec, lengths: List[int], scale: float, seed: int
) -> None:
    torch.manual_seed(seed)
    head = TaggerHead(spec)
    head.favour_outside()
    emissions, start, transitions, end = head(scale * torch.randn(sum(lengths), spec.width), lengths)
    rows = Sequences.consecutive(numpy.array(lengths))
    chain = chain_from_tensors(emissions, start, transitions, end, rows)
    assert not viterbi(chain).any()
    for length, (paths, scores) in zip(lengths, k_best(chain, 2)):
        assert length == 0 or (paths[1].any() and scores[0] > scores[1] + 2.0)


@pytest.mark.parametrize("n_labels", [1, 2, 50])
def test_outside_has_nine_tenths_of_the_mass_of_a_token_however_many_labels_there_are(n_labels: int) -> None:
    head = head_of(untrained(n_labels))
    emissions = head(torch.randn(1, head.spec.width), [1])[0].double().softmax(dim=1)
    assert emissions[0, 0].item() == pytest.approx(0.9, abs=1e-6)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
def test_no_text_has_an_entity_before_the_first_update(model: Dict[str, Any]) -> None:
    texts = [
        *(text for text, _ in TEXTS),
        "京",
        " ",
        "",
        "在" * 200,
        "a b\n\nc １２",
        "".join(map(chr, range(0x4E00, 0x4F00))),
    ]
    for n_labels, seed in product([1, 7], range(3)):
        nlp = untrained(n_labels, seed, **model)
        assert [ents(doc) for doc in nlp.pipe(texts)] == [[]] * len(texts)


remembered = cache(untrained)


@given(text=st.text(max_size=40), seed=st.integers(0, 2), n_labels=st.sampled_from([1, 20]))
@settings(deadline=None, max_examples=n_drawn(50))
def test_no_text_at_all_has_one(text: str, seed: int, n_labels: int) -> None:
    assert not remembered(n_labels, seed)(text).ents


def test_a_label_that_is_added_after_initialize_is_not_predicted_either() -> None:
    nlp = untrained()
    for i in range(4):
        assert get_pipe(nlp, "crf_ner").add_label(f"NEW{i}") == 1
        assert not any(doc.ents for doc in nlp.pipe(text for text, _ in TEXTS))
    loaded = spacy.blank("zh", config=nlp.config).from_bytes(nlp.to_bytes())
    assert not any(doc.ents for doc in loaded.pipe(text for text, _ in TEXTS))
    nlp.initialize()  # for all labels anew
    assert not any(doc.ents for doc in nlp.pipe(text for text, _ in TEXTS))


def test_what_is_set_stays_and_brings_nothing_beside_it() -> None:
    nlp = untrained()
    doc = nlp.make_doc(TEXTS[0][0])
    doc.set_ents([Span(doc, 0, 3, label="TYPE0")], default="missing")
    doc[5].is_sent_start = True
    assert ents(get_pipe(nlp, "crf_ner")(doc)) == [("王小明", "TYPE0")]


def test_scores_and_readings_say_that_nothing_is_the_likeliest() -> None:
    pipe = get_pipe(nlp := untrained(), "crf_ner")
    docs = [nlp.make_doc(text) for text, _ in TEXTS]
    assert pipe.predict_scores(docs) == [[]] * len(docs)
    for doc, (first, *others) in zip(docs, pipe.predict_kbest(docs, 4)):
        assert first.entities == () and all(reading.entities for reading in others)
        assert 0.8 ** len(doc) < first.probability < 1.0
        assert len(others) == 3 and others[0].probability < first.probability / 10


def test_the_first_update_reaches_the_last_layer_and_the_next_all_below() -> None:
    fix_random_seed(0)
    nlp = spacy.blank("zh")
    nlp.add_pipe("crf_ner", config={"model": SMALL_MODEL})
    nlp.initialize(get_examples=lambda: examples_from(nlp))
    head, sgd = head_of(nlp), optimizer()
    moved = []
    for _ in range(2):
        before = {name: parameter.detach().clone() for name, parameter in head.named_parameters()}
        nlp.update(examples_from(nlp), sgd=sgd)
        moved.append(
            {name for name, parameter in head.named_parameters() if not torch.equal(parameter, before[name])}
        )
    assert {"head.output.weight", "head.output.bias", "crf.transitions"} <= moved[0]
    assert moved[1] == {name for name, _ in head.named_parameters()}
    for _ in range(38):
        nlp.update(examples_from(nlp), sgd=sgd)
    assert_learnt(nlp)
