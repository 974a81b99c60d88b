from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List

import numpy
import pytest
import spacy
import torch
from spacy.language import Language
from spacy.tokens import Doc
from thinc.api import Model, fix_random_seed, set_dropout_rate
from torch import Tensor, nn
from transformers import AutoModel

from spacy_crf_ner.labels import BioTags
from spacy_crf_ner.tagger.char_embed import CharEmbed
from spacy_crf_ner.tagger.crf_tagger import CRFTagger
from spacy_crf_ner.tagger.head import TaggerHead
from spacy_crf_ner.tagger.potentials import Potentials
from spacy_crf_ner.tagging import BIO
from tests.encoder.util import LISTENER, save_tiny_bert, transformer_config
from tests.util import (
    NO_STEP,
    SMALL_MODEL,
    TEXTS,
    assert_learnt,
    entity_offsets,
    ents,
    example_from,
    examples_from,
    get_pipe,
    head_of,
    joined,
    optimizer,
    overfitted,
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


def step(nlp: Language) -> float:
    """One update that steps the encoder too: `nlp.update(sgd=...)` would step it one batch late."""
    sgd = optimizer()
    losses = nlp.update(examples_from(nlp), sgd=NO_STEP)
    for name in nlp.pipe_names:
        get_pipe(nlp, name).finish_update(sgd)
    return losses["crf_ner"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("encoder"), [text for text, _ in TEXTS])


@pytest.fixture
def bert(encoder: Path) -> Language:
    fix_random_seed(0)
    nlp = spacy.blank("zh")
    nlp.add_pipe("transformer", config=transformer_config(encoder))
    nlp.add_pipe("crf_ner", config={"model": {**SMALL_MODEL, "tok2vec": LISTENER}})
    nlp.initialize(get_examples=lambda: examples_from(nlp))
    return nlp


class Twin(nn.Module):
    """Encoder, head and CRF as one torch module: what the Thinc model must equal."""

    def __init__(self, encoder: nn.Module, head: TaggerHead) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def loss(self, tokenizer: Any, texts: List[str], tags: List[List[int]]) -> Tensor:
        """The mean loss a token; each character is one word-piece between [CLS] and [SEP]."""
        total = torch.tensor(0.0, dtype=torch.float64)
        for text, gold in zip(texts, tags):
            pieces = tokenizer(text, return_tensors="pt")
            vectors = self.encoder(**pieces).last_hidden_state[0, 1:-1]
            emissions, *_ = self.head(vectors, [len(vectors)])
            total = total - self.head.crf(emissions.unsqueeze(1), torch.tensor(gold).unsqueeze(1))
        return total / sum(map(len, tags))


def test_gradient_of_the_whole_path_is_that_of_one_torch_module(bert: Language, encoder: Path) -> None:
    transformer = get_pipe(bert, "transformer").model.transformer
    twin = Twin(AutoModel.from_pretrained(encoder), TaggerHead(head_of(bert).spec))
    twin.encoder.load_state_dict(transformer.state_dict())
    twin.head.load_state_dict(head_of(bert).state_dict())
    # A run of digits would be one word-piece.
    chosen = [(text, mentions) for text, mentions in TEXTS if "１" not in text]
    index = {tag: i for i, tag in enumerate(BioTags(3).names(["LOC", "ORG", "PER"]))}
    tags = [[index[tag] for tag in BIO.write(len(text), entity_offsets(text, m))] for text, m in chosen]
    tokenizer = get_pipe(bert, "transformer").model.tokenizer
    expected = twin.loss(tokenizer, [text for text, _ in chosen], tags)
    expected.backward()
    losses = bert.update([example_from(bert, *text) for text in chosen], sgd=NO_STEP, drop=0.0)
    assert losses["crf_ner"] == pytest.approx(expected.item(), rel=1e-6)
    compared = 0
    for ours, theirs in ((transformer, twin.encoder), (head_of(bert), twin.head)):
        for (name, parameter), other in zip(ours.named_parameters(), theirs.parameters()):
            if other.grad is None:
                assert parameter.grad is None or not parameter.grad.any(), name
                continue
            compared += 1
            torch.testing.assert_close(parameter.grad, other.grad, atol=1e-6, rtol=1e-4, msg=name)
    assert compared > 40
    assert head_of(bert).crf.transitions.grad.abs().max() > 0


def test_a_transformer_pipeline_learns_and_survives_the_disk(bert: Language, tmp_path: Path) -> None:
    for _ in range(60):
        step(bert)
    assert_learnt(bert)
    bert.to_disk(tmp_path)
    loaded = spacy.load(tmp_path)
    assert_learnt(loaded)


def test_strided_windows_lose_no_entity(encoder: Path) -> None:
    """A document of many windows: each sentence is marked, also where a window ends in it."""
    fix_random_seed(0)
    nlp = spacy.blank("zh")
    nlp.add_pipe("transformer", config=transformer_config(encoder, window=24, stride=16))
    nlp.add_pipe("crf_ner", config={"model": {**SMALL_MODEL, "tok2vec": LISTENER}})
    text = "".join(text for text, _ in TEXTS)
    nlp.initialize(get_examples=lambda: examples_from(nlp))
    docs = list(get_pipe(nlp, "transformer").pipe([nlp.make_doc(text * 20)]))
    lengths = docs[0]._.trf_data.align.lengths
    assert len(lengths) == 20 * len(text) and (lengths > 0).all()
    potentials = get_pipe(nlp, "crf_ner").predict(docs)
    assert numpy.isfinite(potentials.by_doc()[0]).all()
    assert (numpy.abs(potentials.by_doc()[0]).sum(axis=1) > 0).all()


@pytest.mark.parametrize("copies", [15, 90])
def test_a_long_document_loses_no_entity_to_windows(copies: int) -> None:
    """Some 800 and 5,000 characters, with window and buckets far below: all mentions of all copies are found."""
    # Where one text ends and the next begins is a part of what it has learnt.
    nlp = overfitted({**SMALL_MODEL, "attention_window": 8, "max_padded_tokens": 64}, steps=60, together=True)
    text, mentions = joined(copies)
    doc = nlp(text)
    assert len(doc) == len(text) >= {15: 800, 90: 5000}[copies]
    found_mentions = {(ent.start_char, ent.end_char, ent.label_) for ent in doc.ents}
    assert set(mentions) - found_mentions == set()


@pytest.mark.parametrize("switched_off", [{}, {"lstm_depth": 0}, {"attention_heads": 0}])
def test_hash_embed_cnn_and_each_stage_switched_off(switched_off: Dict[str, int]) -> None:
    nlp = overfitted({**SMALL_MODEL, "tok2vec": HASH_EMBED_CNN, **switched_off}, steps=60)
    assert_learnt(nlp)


def test_a_tok2vec_listener_trains_the_shared_tok2vec(tmp_path: Path) -> None:
    fix_random_seed(0)
    nlp = spacy.blank("zh")
    nlp.add_pipe("tok2vec", config={"model": HASH_EMBED_CNN})
    listener = {"@architectures": "spacy.Tok2VecListener.v1", "width": 16}
    nlp.add_pipe("crf_ner", config={"model": {**SMALL_MODEL, "tok2vec": listener}})
    nlp.initialize(get_examples=lambda: examples_from(nlp))
    before = get_pipe(nlp, "tok2vec").model.to_bytes()
    for _ in range(60):
        step(nlp)
    assert get_pipe(nlp, "tok2vec").model.to_bytes() != before
    assert_learnt(nlp)


@pytest.mark.parametrize("kind", ["tok2vec", "transformer"])
def test_replace_listeners(kind: str, encoder: Path, tmp_path: Path) -> None:
    """The pipe gets its own copy of the encoder and predicts the same, also after loading."""
    fix_random_seed(0)
    nlp = spacy.blank("zh")
    if kind == "tok2vec":
        nlp.add_pipe("tok2vec", config={"model": HASH_EMBED_CNN})
        listener: Dict[str, Any] = {"@architectures": "spacy.Tok2VecListener.v1", "width": 16}
    else:
        nlp.add_pipe("transformer", config=transformer_config(encoder))
        listener = LISTENER
    nlp.add_pipe("crf_ner", config={"model": {**SMALL_MODEL, "tok2vec": listener}})
    nlp.initialize(get_examples=lambda: examples_from(nlp))
    for _ in range(20):
        step(nlp)
    texts = [text for text, _ in TEXTS]
    before = [ents(doc) for doc in nlp.pipe(texts)]
    assert any(before)
    nlp.replace_listeners(kind, "crf_ner", ["model.tok2vec"])
    assert [ents(doc) for doc in nlp.pipe(texts)] == before
    nlp.to_disk(tmp_path)
    assert [ents(doc) for doc in spacy.load(tmp_path).pipe(texts)] == before


def test_frozen_listener(bert: Language) -> None:
    """With the transformer frozen and annotating, the head learns and the encoder stays."""
    transformer = get_pipe(bert, "transformer").model.transformer
    before = {name: value.clone() for name, value in transformer.state_dict().items()}
    head = {name: value.clone() for name, value in head_of(bert).state_dict().items()}
    examples = examples_from(bert)
    bert.update(examples, sgd=optimizer(), annotates=["transformer"], exclude=["transformer"])
    for name, value in transformer.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert any(not torch.equal(value, head[name]) for name, value in head_of(bert).state_dict().items())


def small_tagger(tags: int = 7, **changes: Any) -> Model[List[Doc], Potentials]:
    settings = {key: value for key, value in SMALL_MODEL.items() if key not in ("@architectures", "tok2vec")}
    tok2vec = CharEmbed(char_width=16, char_rows=50, bigram_width=4, bigram_rows=50)
    model = CRFTagger(tok2vec, **{**settings, **changes})
    model.get_ref("output_layer").set_dim("nO", tags)
    return model


@pytest.fixture
def docs() -> List[Doc]:
    nlp = spacy.blank("zh")
    return [nlp.make_doc(text) for text in ("王小明在北京。", "", "中", "中美两国在上海会谈。")]


def test_output_is_one_emission_array_a_doc(docs: List[Doc]) -> None:
    model = small_tagger()
    model.initialize(X=docs)
    potentials = model.predict(docs)
    assert [x.shape for x in potentials.by_doc()] == [(len(doc), 7) for doc in docs]
    assert (potentials.start.shape, potentials.transitions.shape, potentials.end.shape) == ((7,), (7, 7), (7,))
    assert {x.dtype for x in potentials.by_doc()} == {numpy.dtype("float32")}


@pytest.mark.parametrize("drop_vectors", [False, True])
def test_training_may_drop_cells_of_the_token_vectors(docs: List[Doc], drop_vectors: bool) -> None:
    """Behind vectors of ones, a last layer that sums up, and no other dropout."""
    gradients: List[Any] = []

    def ones(model: Model, docs: List[Doc], is_train: bool) -> Any:
        return [numpy.ones((len(doc), 64), dtype="f") for doc in docs], gradients.extend

    model = CRFTagger(Model("ones", ones), lstm_depth=0, attention_heads=0, drop_vectors=drop_vectors)
    model.get_ref("output_layer").set_dim("nO", 5)
    model.initialize(X=docs)
    head = model.get_ref("output_layer").shims[0]._model
    head.head.output.weight.data.fill_(1.0)
    head.head.output.bias.data.zero_()
    head.head.dropout = nn.Identity()
    set_dropout_rate(model, 0.5)
    potentials, backprop = model.begin_update(docs)
    emissions: Any = potentials.emissions.dataXd
    sums = emissions[:, 0].copy()
    emissions[:] = 1.0
    backprop(potentials)
    kept = numpy.concatenate(gradients) != 0
    if drop_vectors:
        assert 0.4 < kept.mean() < 0.6
        # What stays is twice as large.
        assert (sums == 2.0 * kept.sum(axis=1)).all()
    else:
        assert kept.all() and (sums == 64.0).all()
    predicted: Any = model.predict(docs).emissions.dataXd
    assert (predicted == 64.0).all()


def test_training_dropout_reaches_the_torch_head(docs: List[Doc]) -> None:
    model = small_tagger()
    model.initialize(X=docs)
    head = model.get_ref("output_layer").shims[0]._model
    set_dropout_rate(model, 0.4)
    model.begin_update(docs)
    assert {m.p for m in head.modules() if isinstance(m, nn.Dropout)} == {0.4}
    # A prediction uses none.
    first, second = model.predict(docs), model.predict(docs)
    assert (first.by_doc()[0] == second.by_doc()[0]).all()


def test_a_model_loads_without_being_initialized(docs: List[Doc]) -> None:
    model = small_tagger()
    model.initialize(X=docs)
    loaded = small_tagger(7, max_padded_tokens=99).from_bytes(model.to_bytes())
    assert (
        loaded.get_ref("output_layer").shims[0]._model.spec.max_padded_tokens == 99
    )  # a loaded model's to choose
    for ours, theirs in zip(model.predict(docs).by_doc(), loaded.predict(docs).by_doc()):
        assert (ours == theirs).all()


def test_copies_share_nothing(docs: List[Doc]) -> None:
    model = small_tagger()
    model.initialize(X=docs)
    before = model.predict(docs).by_doc()[0].copy()
    head = model.copy().layers[-1].shims[0]._model
    head.head.output.bias.data += 1
    assert (model.predict(docs).by_doc()[0] == before).all()


def test_the_output_grows_and_never_shrinks(docs: List[Doc]) -> None:
    model = small_tagger()
    model.initialize(X=docs)
    before = model.predict(docs)
    model.attrs["resize_output"](model, 9)
    after = model.predict(docs)
    assert model.get_ref("output_layer").get_dim("nO") == 9
    assert abs(after.by_doc()[0][:, :7] - before.by_doc()[0]).max() < 1e-6
    with pytest.raises(ValueError, match="has 9 tags and cannot shrink to 7"):
        model.attrs["resize_output"](model, 7)


def test_the_architecture_is_found_by_its_registered_name() -> None:
    assert spacy.registry.architectures.get("spacy-crf-ner.CRFTagger.v1") is CRFTagger


def test_mixed_precision_without_a_gpu_is_refused_before_training(docs: List[Doc]) -> None:
    with pytest.raises(ValueError, match="mixed_precision needs a GPU"):
        small_tagger(mixed_precision=True).initialize(X=docs)


def test_the_head_works_within_its_budget(docs: List[Doc]) -> None:
    """The budget changes what is held at a time, and no result."""
    model = small_tagger(max_padded_tokens=10)
    model.initialize(X=docs)
    head = model.get_ref("output_layer").shims[0]._model
    sizes: List[int] = []
    head.head.register_forward_pre_hook(lambda module, inputs: sizes.append(inputs[0][..., 0].numel()))
    within = model.predict(docs)
    assert sizes == [10, 7, 1]
    head.spec = replace(head.spec, max_padded_tokens=10_000)
    for ours, theirs in zip(within.by_doc(), model.predict(docs).by_doc()):
        assert ours == pytest.approx(theirs, abs=1e-6)
    assert sizes[3:] == [20, 1]
