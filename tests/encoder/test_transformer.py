"""The encoder in a pipeline: listeners, replaced listeners, empty docs, processes, and texts of any length."""

from pathlib import Path
from random import Random
from typing import Any, Dict, List, Tuple

import numpy
import pytest
import spacy
import torch
from spacy.language import Language
from spacy.training import Example
from thinc.api import Adam

from tests.encoder.util import (
    HEAD,
    LISTENER,
    assert_loads_bit_equal,
    encoder_pipeline,
    gradients,
    in_new_process,
    save_tiny_bert,
    shim_of,
    train,
    weights,
)
from tests.util import NO_STEP, TEXTS, entity_offsets, ents, example_from, examples_from, get_pipe, head_of

READ = [text for text, _ in TEXTS]
FILLER = "今天天气很好大家都高兴，"
LORA = {"@misc": "spacy-crf-ner.LoRA.v1", "rank": 4, "targets": ["query", "value", "dense"]}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("encoder"), READ, max_position_embeddings=40)


@pytest.fixture(scope="module")
def trained(encoder: Path) -> Language:
    """A pipeline that has learnt a little. Not to be changed."""
    nlp = encoder_pipeline(encoder)
    train(nlp, 10, rate=0.01)
    return nlp


def emissions(nlp: Language, texts: List[str]) -> List[Any]:
    """What `crf_ner` makes of each text."""
    pipe = get_pipe(nlp, "crf_ner")
    return [pipe.predict([nlp(text)]).by_doc()[0] for text in texts]


# What is handed on


def test_each_doc_gets_its_word_pieces_as_one_sequence(trained: Language) -> None:
    text = "王小明在北京大学读书。" * 9
    docs = [trained(text), trained("李红")]
    for doc in docs:
        data = doc._.trf_data
        n_pieces = len(doc) + 2
        assert data.model_output["last_hidden_state"].shape == (1, n_pieces, 32)
        assert list(data.model_output) == ["last_hidden_state"]
        assert data.wordpieces.lengths == [n_pieces]
        assert data.wordpieces.strings == [["[CLS]", *doc.text, "[SEP]"]]
        assert data.wordpieces.input_ids.shape == data.wordpieces.attention_mask.shape == (1, n_pieces)
        assert data.align.dataXd.tolist() == list(range(1, n_pieces - 1))
        assert (data.align.lengths == 1).all()


def test_a_batch_is_as_its_docs_alone(trained: Language) -> None:
    texts = [*READ, "", "王小明在北京大学读书。" * 9, " ", "李红"]
    alone = [trained(text) for text in texts]
    batch = get_pipe(trained, "transformer").predict([trained.make_doc(text) for text in texts])
    assert len(batch.doc_data) == len(texts)
    begin = 0
    for doc, data in zip(alone, batch.doc_data):
        if not len(doc):
            assert "last_hidden_state" not in data.model_output
            continue
        rows = doc._.trf_data.model_output["last_hidden_state"]
        numpy.testing.assert_allclose(data.model_output["last_hidden_state"], rows, atol=1e-5)
        # The whole batch says the same, one doc after the other.
        n_rows = rows.shape[1]
        whole = batch.model_output["last_hidden_state"][0, begin : begin + n_rows]
        numpy.testing.assert_allclose(whole, rows[0], atol=1e-5)
        begin += n_rows
    assert begin == batch.model_output["last_hidden_state"].shape[1]
    aligned = batch.align.dataXd.tolist()
    assert aligned == sorted(aligned)
    assert len(batch.align.lengths) == sum(map(len, alone))


def test_white_space_has_zero_rows(trained: Language) -> None:
    doc = trained("王 \n小\u200b明")
    vectors = get_pipe(trained, "crf_ner").model.get_ref("tok2vec").predict([doc])[0]
    assert len(vectors) == len(doc)
    for token, vector in zip(doc, vectors):
        assert vector.any() == (token.text in "王小明")


@pytest.mark.parametrize("window, stride", [(40, None), (12, 5), (12, 10), (9, 4)])
def test_the_gradient_reaches_the_encoder_through_the_windows(encoder: Path, window: int, stride: Any) -> None:
    """Against differences: a step along the gradient lowers the loss as much as it says."""
    nlp = encoder_pipeline(encoder, window=window, stride=stride)
    text = "今天天气很好，" * 5 + "王小明去了上海。"
    example = example_from(nlp, text, {"王小明": "PER", "上海": "LOC"})
    nlp.update([example], sgd=NO_STEP)
    found = gradients(nlp)
    pipe = get_pipe(nlp, "crf_ner")
    norm = float(sum((gradient.double() ** 2).sum() for gradient in found.values()))
    losses = []
    parameters = dict(shim_of(nlp)._model.named_parameters())
    step = 0.01 / norm**0.5
    for sign in (-1, 1):
        with torch.no_grad():
            for name, gradient in found.items():
                parameters[name].add_(gradient, alpha=sign * step)
        losses.append(pipe.get_loss([example], pipe.predict([nlp(text)]))[0])
        with torch.no_grad():
            for name, gradient in found.items():
                parameters[name].add_(gradient, alpha=-sign * step)
    assert (losses[1] - losses[0]) / (2 * step) == pytest.approx(norm, rel=0.02)


# Empty docs


def test_empty_docs_may_stand_anywhere(trained: Language) -> None:
    texts = ["", READ[0], "", "", READ[1], " ", "\n\n", READ[4], ""]
    for batch_size in (1, 2, 100):
        docs = list(trained.pipe(texts, batch_size=batch_size))
        assert [doc.text for doc in docs] == texts
        assert [ents(doc) for doc in docs] == [ents(trained(text)) for text in texts]
    assert [ents(doc) for doc in trained.pipe(["", "", ""])] == [[], [], []]
    assert [ents(doc) for doc in trained.pipe([" ", "\n"])] == [[], []]


def test_the_model_itself_takes_batches_without_tokens(trained: Language) -> None:
    model = get_pipe(trained, "transformer").model
    docs = [trained.make_doc(""), trained.make_doc("")]
    for output in (model.predict(docs), model.begin_update(docs)[0]):
        assert [len(data.align.lengths) for data in output.doc_data] == [0, 0]
    assert model.begin_update(docs)[1](output) == docs


@pytest.mark.parametrize("replaced", [False, True])
def test_batches_without_tokens_change_nothing_in_training(encoder: Path, replaced: bool) -> None:
    nlp = encoder_pipeline(encoder)
    if replaced:
        nlp.replace_listeners("transformer", "crf_ner", ["model.tok2vec"])
        nlp.remove_pipe("transformer")
    shim = own_encoder(nlp).shims[0] if replaced else shim_of(nlp)
    before = weights(shim._model)
    for texts in ([""], ["", ""]):
        train(nlp, 1, [example_from(nlp, text, {}) for text in texts])
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(shim._model).items())
    mixed = [example_from(nlp, "", {}), *examples_from(nlp), example_from(nlp, " ", {}), example_from(nlp, "", {})]
    train(nlp, 1, mixed)
    assert any(not torch.equal(tensor, before[name]) for name, tensor in weights(shim._model).items())
    train(nlp, 1, [example_from(nlp, " \n", {})])
    assert [ents(doc) for doc in nlp.pipe(["", ""])] == [[], []]


# Listeners


def tagged(nlp: Language) -> List[Example]:
    """`TEXTS` with a part-of-speech for each character: whether it is a full stop."""
    examples = examples_from(nlp)
    for example, (text, mentions) in zip(examples, TEXTS):
        tags = ["PUNCT" if token.text == "。" else "X" for token in example.reference]
        offsets = entity_offsets(text, mentions)
        examples[examples.index(example)] = Example.from_dict(
            nlp.make_doc(text), {"entities": offsets, "tags": tags}
        )
    return examples


def test_the_gradients_of_two_listeners_add_up(encoder: Path, tmp_path: Path) -> None:
    nlp = encoder_pipeline(encoder, initialize=False)
    nlp.add_pipe("tagger", config={"model": {"@architectures": "spacy.Tagger.v2", "tok2vec": LISTENER}})
    examples = tagged(nlp)
    nlp.initialize(get_examples=lambda: examples)
    # The tagger's output layer starts at zero.
    train(nlp, 2, examples)
    nlp.to_disk(tmp_path)
    found: Dict[str, Dict[str, torch.Tensor]] = {}
    for left_out in ("", "tagger", "crf_ner"):
        some = spacy.load(tmp_path, exclude=[left_out])
        some.update(tagged(some), sgd=NO_STEP)
        found[left_out] = gradients(some)
    assert found[""].keys() == found["tagger"].keys() == found["crf_ner"].keys()
    for name, both in found[""].items():
        torch.testing.assert_close(both, found["tagger"][name] + found["crf_ner"][name], atol=1e-6, rtol=1e-4)
    assert any(gradient.any() for gradient in found["crf_ner"].values())
    doc = nlp(READ[0])
    assert all(token.tag_ for token in doc)


@pytest.mark.parametrize("replaced", [False, True])
def test_the_listeners_grad_factor_scales_the_gradient(encoder: Path, replaced: bool) -> None:
    found = []
    for factor in (1.0, 0.25):
        nlp = encoder_pipeline(encoder, head={**HEAD, "tok2vec": {**LISTENER, "grad_factor": factor}})
        parameters = shim_of(nlp)._model.named_parameters
        if replaced:
            nlp.replace_listeners("transformer", "crf_ner", ["model.tok2vec"])
            nlp.remove_pipe("transformer")
            assert nlp.config["components"]["crf_ner"]["model"]["tok2vec"]["grad_factor"] == factor
            # As it is built when it is loaded.
            nlp = spacy.util.load_model_from_config(nlp.config).from_bytes(nlp.to_bytes())
            parameters = own_encoder(nlp).shims[0]._model.named_parameters
        nlp.update(examples_from(nlp), sgd=NO_STEP)
        found.append({name: parameter.grad for name, parameter in parameters() if parameter.grad is not None})
    assert len(found[0]) > 20
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], 0.25 * gradient, atol=1e-7, rtol=1e-4)


def own_encoder(nlp: Language) -> Any:
    """The node of `crf_ner` that holds the encoder which was the listener's."""
    (found,) = [node for node in get_pipe(nlp, "crf_ner").model.walk() if node.name == "windowed_encoder"]
    return found


@pytest.mark.parametrize("lora", [None, LORA])
def test_replaced_listeners_predict_the_same_and_are_saved(encoder: Path, tmp_path: Path, lora: Any) -> None:
    nlp = encoder_pipeline(encoder, lora=lora)
    train(nlp, 5)
    expected = emissions(nlp, READ)
    ids = {shim_of(nlp).id, get_pipe(nlp, "transformer").model.id}
    nlp.replace_listeners("transformer", "crf_ner", ["model.tok2vec"])
    nlp.remove_pipe("transformer")
    tok2vec = nlp.config["components"]["crf_ner"]["model"]["tok2vec"]
    assert tok2vec["@architectures"] == "spacy-crf-ner.Tok2VecTransformer.v1"
    assert tok2vec["encoder"]["@architectures"] == "spacy-crf-ner.Transformer.v1"
    assert {own_encoder(nlp).shims[0].id, own_encoder(nlp).id}.isdisjoint(ids)
    assert all((ours == theirs).all() for ours, theirs in zip(expected, emissions(nlp, READ)))
    assert_loads_bit_equal(nlp, tmp_path)
    assert all((ours == theirs).all() for ours, theirs in zip(expected, in_new_process(tmp_path)))
    before = weights(own_encoder(nlp).shims[0]._model)
    train(nlp, 1)
    changed = [name for name, x in weights(own_encoder(nlp).shims[0]._model).items() if (x != before[name]).any()]
    assert changed
    assert all(".lora_" in name for name in changed) == bool(lora)


def test_a_replaced_listener_leaves_the_transformer_alone(encoder: Path) -> None:
    nlp = encoder_pipeline(encoder)
    nlp.replace_listeners("transformer", "crf_ner", ["model.tok2vec"])
    before = weights(shim_of(nlp)._model)
    train(nlp, 1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(shim_of(nlp)._model).items())


def test_a_pipeline_with_its_own_encoder_is_built_from_its_config(encoder: Path, tmp_path: Path) -> None:
    """`Tok2VecTransformer.v1` written by hand, without a `transformer` pipe ever."""
    model = {
        "@architectures": "spacy-crf-ner.CRFTagger.v1",
        "lstm_depth": 0,
        "attention_heads": 0,
        "tok2vec": {
            "@architectures": "spacy-crf-ner.Tok2VecTransformer.v1",
            "encoder": {"@architectures": "spacy-crf-ner.Transformer.v1", "name": str(encoder)},
            "pooling": {"@layers": "reduce_mean.v1"},
            "grad_factor": 0.25,
        },
    }
    nlp = spacy.blank("zh")
    nlp.add_pipe("crf_ner", config={"model": model})
    examples = examples_from(nlp)
    nlp.initialize(get_examples=lambda: examples)
    (aligned,) = [node for node in get_pipe(nlp, "crf_ner").model.walk() if node.name == "trfs2arrays"]
    assert aligned.attrs["grad_factor"] == 0.25
    train(nlp, 2)
    assert_loads_bit_equal(nlp, tmp_path)


def test_with_replaced_listeners_what_was_learnt_can_be_rehearsed(encoder: Path) -> None:
    nlp = encoder_pipeline(encoder)
    train(nlp, 30, rate=0.01)
    before = [ents(nlp(text)) for text in READ]
    assert any(before)
    nlp.replace_listeners("transformer", "crf_ner", ["model.tok2vec"])
    nlp.remove_pipe("transformer")
    sgd = nlp.resume_training(sgd=Adam(0.003, L2=0.0, use_averages=False))
    examples = [Example(nlp.make_doc(text), nlp.make_doc(text)) for text in READ]
    losses: Dict[str, float] = {}
    get_pipe(nlp, "crf_ner").rehearse(examples, losses=losses)
    assert losses["crf_ner"] == pytest.approx(0.0, abs=1e-6)
    get_pipe(nlp, "crf_ner").finish_update(lambda _, weights, gradient: (weights, 0 * gradient))
    with torch.no_grad():
        head_of(nlp).head.output.bias.add_(torch.linspace(-1, 1, len(head_of(nlp).head.output.bias)))
    disturbed = nlp.rehearse(examples, sgd=sgd)["crf_ner"]
    for _ in range(15):
        rehearsed = nlp.rehearse(examples, sgd=sgd)["crf_ner"]
    assert rehearsed < disturbed / 4
    assert [ents(nlp(text)) for text in READ] == before


# Processes


def test_multiprocessing(trained: Language) -> None:
    texts = [*READ, "", *READ[::-1], "王小明在北京大学读书。" * 9]
    torch.set_num_threads(1)
    alone = list(trained.pipe(texts))
    together = list(trained.pipe(texts, n_process=2, batch_size=3))
    assert [doc.text for doc in together] == texts
    assert [ents(doc) for doc in together] == [ents(doc) for doc in alone]
    assert any(ents(doc) for doc in together)


# Long texts


def texts_with_names(seed: int, n_texts: int) -> List[Tuple[str, Dict[str, str]]]:
    """Short texts with one name each, which stands anywhere."""
    random = Random(seed)
    made = []
    for _ in range(n_texts):
        before, after = random.randrange(34), random.randrange(34)
        text = "".join(random.choices(FILLER, k=before)) + "王小明" + "".join(random.choices(FILLER, k=after))
        start = max(0, before - random.randrange(34))
        made.append((text[start : max(start + 36, before + 3)], {"王小明": "PER"}))
    return made


@pytest.fixture(scope="module")
def finder(tmp_path_factory: pytest.TempPathFactory) -> Language:
    """Finds one name, and was trained on texts of one window alone. Not to be changed."""
    folder = save_tiny_bert(tmp_path_factory.mktemp("encoder"), [FILLER, "王小明"], max_position_embeddings=40)
    nlp = encoder_pipeline(folder, max_padded_tokens=2000)
    for step in range(12):
        train(nlp, 3, [example_from(nlp, *text) for text in texts_with_names(step, 12)], rate=0.01)
    return nlp


def test_an_entity_far_beyond_the_window_is_found(finder: Language) -> None:
    assert shim_of(finder).windowing.window == 40
    for n_before in (30, 35, 36, 37, 38, 39, 40, 64, 65, 66, 67, 68, 400, 1999):
        text = (FILLER * 200)[:n_before] + "王小明"
        (ent,) = finder(text).ents
        assert (ent.text, ent.label_, ent.start_char) == ("王小明", "PER", n_before)


def test_a_text_of_100_000_characters_is_read_in_bounded_pieces(finder: Language) -> None:
    """Every name is found, and nothing in the encoder is larger than the budget, whatever the text's length."""
    shim = shim_of(finder)
    calls: List[Tuple[int, ...]] = []
    sizes: List[int] = []

    def note(_: Any, __: Any, inputs: Dict[str, torch.Tensor]) -> None:
        calls.append(tuple(inputs["input_ids"].shape))

    def measure(_: Any, __: Any, output: Any) -> None:
        tensor = output[0] if isinstance(output, tuple) else getattr(output, "last_hidden_state", output)
        sizes.append(tensor.numel())

    hooks = [shim.transformer.register_forward_pre_hook(note, with_kwargs=True)]
    hooks += [module.register_forward_hook(measure) for module in shim.transformer.modules()]
    length, apart = 100_000, 997
    text = list((FILLER * (length // len(FILLER) + 1))[:length])
    places = [*range(0, length - 3, apart), length - 3]
    for place in places:
        text[place : place + 3] = "王小明"
    try:
        doc = finder("".join(text))
    finally:
        for hook in hooks:
            hook.remove()
    assert [ent.start_char for ent in doc.ents] == places
    assert {ent.text for ent in doc.ents} == {"王小明"}
    assert all(n_windows * n_pieces <= 2000 and n_pieces <= 40 for n_windows, n_pieces in calls)
    widest = shim.transformer.config.intermediate_size
    assert max(sizes) <= 2000 * widest
    # Each word-piece is read once, or twice where windows overlap by a quarter, and padding adds little.
    assert sum(n_windows * n_pieces for n_windows, n_pieces in calls) < 1.5 * length


def test_the_prediction_does_not_depend_on_the_budget(finder: Language, tmp_path: Path) -> None:
    finder.to_disk(tmp_path)
    text = (FILLER * 20)[:150] + "王小明" + (FILLER * 20)[:60]
    expected = emissions(finder, [text])[0]
    for budget in (1, 100_000):
        other = spacy.load(tmp_path, config={"components.transformer.model.max_padded_tokens": budget})
        numpy.testing.assert_allclose(emissions(other, [text])[0], expected, atol=1e-4)
