"""The tests that every spaCy pipe has, and those of this one; `spacy/tests/parser/test_ner.py` is the model."""

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any, List

import pytest
import spacy
from spacy.language import Language
from spacy.training import Example
from thinc.api import Adam, fix_random_seed

from spacy_crf_ner.ner.component import CRFEntityRecognizer
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
    optimizer,
    overfitted,
)


@pytest.fixture(scope="module")
def trained() -> Language:
    return overfitted()


def test_the_default_pipe_needs_no_configuration() -> None:
    nlp = spacy.blank("en")
    pipe: Any = nlp.add_pipe("crf_ner")
    assert isinstance(pipe, CRFEntityRecognizer)
    analysis: Any = nlp.analyze_pipes()
    assert analysis["summary"]["crf_ner"]["assigns"] == ["doc.ents", "token.ent_iob", "token.ent_type"]
    assert nlp.meta["labels"]["crf_ner"] == []
    assert nlp.config["training"]["score_weights"]["ents_f"] == 1.0


def test_label_types() -> None:
    pipe: Any = spacy.blank("zh").add_pipe("crf_ner")
    assert pipe.add_label("ORG") == 1
    assert pipe.add_label("ORG") == 0
    assert pipe.labels == ("ORG",)
    with pytest.raises(ValueError, match="string"):
        pipe.add_label(9)
    with pytest.raises(ValueError, match="empty"):
        pipe.add_label("")


def test_no_label() -> None:
    nlp = spacy.blank("zh")
    nlp.add_pipe("crf_ner")
    with pytest.raises(ValueError, match="Labels for component 'crf_ner' not initialized"):
        nlp.initialize()


def test_requires_labels() -> None:
    nlp = spacy.blank("zh")
    nlp.add_pipe("crf_ner")
    with pytest.raises(ValueError, match="Labels for component 'crf_ner' not initialized"):
        nlp("北京")


def test_implicit_label_is_read_off_the_examples_and_sorted() -> None:
    nlp = spacy.blank("zh")
    pipe: Any = nlp.add_pipe("crf_ner", config={"model": SMALL_MODEL})
    nlp.initialize(get_examples=lambda: examples_from(nlp))
    assert pipe.labels == ("LOC", "ORG", "PER")
    assert pipe.model.get_ref("output_layer").get_dim("nO") == 7


def test_labels_added_before_initialize_stay() -> None:
    nlp = spacy.blank("zh")
    pipe: Any = nlp.add_pipe("crf_ner", config={"model": SMALL_MODEL})
    pipe.add_label("TIME")
    nlp.initialize(get_examples=lambda: examples_from(nlp))
    assert pipe.labels == ("LOC", "ORG", "PER", "TIME")


def test_label_data() -> None:
    nlp = spacy.blank("zh")
    pipe: Any = nlp.add_pipe("crf_ner", config={"model": SMALL_MODEL})
    assert pipe.label_data == ()
    nlp.initialize(get_examples=lambda: examples_from(nlp))
    assert pipe.label_data == ("LOC", "ORG", "PER")
    again = spacy.blank("zh")
    other: Any = again.add_pipe("crf_ner", config={"model": SMALL_MODEL})
    other.initialize(lambda: examples_from(again), nlp=again, labels=pipe.label_data)
    assert other.labels == pipe.labels


def test_initialize_examples() -> None:
    nlp = spacy.blank("zh")
    pipe: Any = nlp.add_pipe("crf_ner", config={"model": SMALL_MODEL})
    pipe.add_label("LOC")
    nlp.initialize()
    nlp.initialize(get_examples=lambda: examples_from(nlp))
    wrong: List[Any] = [lambda: None, lambda: examples_from(nlp)[0], lambda: ["x"], examples_from(nlp)]
    for get_examples in wrong:
        with pytest.raises(TypeError):
            nlp.initialize(get_examples=get_examples)


def test_initialize_again_starts_anew_with_more_labels() -> None:
    nlp = spacy.blank("zh")
    pipe: Any = nlp.add_pipe("crf_ner", config={"model": SMALL_MODEL})
    nlp.initialize(get_examples=lambda: [example_from(nlp, "我在北京。", {"北京": "LOC"})])
    assert pipe.labels == ("LOC",)
    nlp.initialize(get_examples=lambda: examples_from(nlp))
    assert pipe.labels == ("LOC", "ORG", "PER")
    nlp("我在北京。")


def test_no_data() -> None:
    """The other pipe's data holds nothing for this one: it trains without a change."""
    nlp = spacy.blank("zh")
    pipe: Any = nlp.add_pipe("crf_ner", config={"model": SMALL_MODEL})
    pipe.add_label("LOC")
    nlp.add_pipe("textcat")
    get_pipe(nlp, "textcat").add_label("A")
    get_pipe(nlp, "textcat").add_label("B")
    example = Example.from_dict(nlp.make_doc("我在北京。"), {"cats": {"A": 1.0, "B": 0.0}})
    nlp.initialize(get_examples=lambda: [example])
    losses = nlp.update([example], sgd=nlp.create_optimizer())
    assert losses["crf_ner"] == 0.0


def test_incomplete_data() -> None:
    """What is missing is marginalised, never taken for O: three copies without a mention outvote nothing."""
    fix_random_seed(0)
    nlp = spacy.blank("zh")
    nlp.add_pipe("crf_ner", config={"model": SMALL_MODEL})
    examples = examples_from(nlp)
    for text, mentions in TEXTS:
        reference = nlp.make_doc(text)
        missing = [reference[start:end] for start, end, _ in entity_offsets(text, mentions)]
        reference.set_ents([], missing=missing, default="outside")
        examples += [Example(nlp.make_doc(text), reference) for _ in range(3)]
    nlp.initialize(get_examples=lambda: examples)
    sgd = optimizer()
    for _ in range(40):
        nlp.update(examples, sgd=sgd)
    assert_learnt(nlp)


def test_overfitting_IO(trained: Language, tmp_path: Path) -> None:
    assert_learnt(trained)
    # Pipe and call agree, whatever the batch.
    texts = [text for text, _ in TEXTS] + ["", "京", "在" * 40]
    expected = [ents(trained(text)) for text in texts]
    for batch_size in (1, 3, 100):
        assert [ents(doc) for doc in trained.pipe(texts, batch_size=batch_size)] == expected
    # Disk, bytes, pickle and a copy.
    trained.to_disk(tmp_path)
    pipe = get_pipe(trained, "crf_ner")
    other: Any = trained.create_pipe("crf_ner", config={"model": SMALL_MODEL})
    other.from_bytes(pipe.to_bytes())
    assert other.labels == pipe.labels
    loaded = [
        spacy.load(tmp_path),
        spacy.blank("zh", config=trained.config).from_bytes(trained.to_bytes()),
        pickle.loads(pickle.dumps(trained)),
    ]
    for nlp in loaded:
        assert get_pipe(nlp, "crf_ner").labels == ("LOC", "ORG", "PER")
        assert [ents(doc) for doc in nlp.pipe(texts)] == expected


def test_a_saved_pipeline_predicts_the_same_in_a_new_process(trained: Language, tmp_path: Path) -> None:
    """The entry points alone must do: the new process imports spaCy and nothing of this package."""
    trained.to_disk(tmp_path)
    text = "".join(text for text, _ in TEXTS)
    script = (
        "import sys, spacy; doc = spacy.load(sys.argv[1])(sys.argv[2]);"
        "print([(ent.text, ent.label_) for ent in doc.ents])"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), text], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == str(ents(trained(text)))
    assert ents(trained(text))


def test_loading_refuses_weights_that_do_not_fit(trained: Language) -> None:
    """A missing or misshapen weight is an error, not a warning."""
    pipe = get_pipe(trained, "crf_ner")
    head = head_of(trained)
    other = pickle.loads(pickle.dumps(head))
    del other.crf.transitions
    message = pickle.loads(pickle.dumps(pipe.model))
    message.get_ref("output_layer").shims[0]._model = other
    untouched: Any = spacy.blank("zh").add_pipe("crf_ner", config={"model": SMALL_MODEL})
    with pytest.raises(ValueError, match=r"crf\.transitions missing"):
        untouched.model.from_bytes(message.to_bytes())


def test_resize() -> None:
    """A label added after training leaves what is predicted unchanged, and can then be learnt."""
    nlp = overfitted()
    pipe = get_pipe(nlp, "crf_ner")
    texts = [text for text, _ in TEXTS] + ["下周二我去上海。", "在" * 30]
    before = [ents(doc) for doc in nlp.pipe(texts)]
    assert pipe.add_label("TIME") == 1
    assert pipe.labels == ("LOC", "ORG", "PER", "TIME")
    assert [ents(doc) for doc in nlp.pipe(texts)] == before
    # Until it is trained, also after a round trip.
    reloaded: Any = spacy.blank("zh").add_pipe("crf_ner", config={"model": SMALL_MODEL})
    reloaded.from_bytes(pipe.to_bytes())
    doc = nlp.make_doc(texts[0])
    assert ents(reloaded(doc)) == before[0]
    # An optimizer that has seen the old shapes goes on with the new ones.
    sgd = optimizer()
    examples = [*examples_from(nlp), example_from(nlp, "下周二我去上海。", {"下周二": "TIME", "上海": "LOC"})]
    for _ in range(30):
        nlp.update(examples, sgd=sgd)
    assert ents(nlp("下周二我去上海。")) == [("下周二", "TIME"), ("上海", "LOC")]
    assert_learnt(nlp)


def test_an_optimizer_survives_a_resize() -> None:
    nlp = overfitted(steps=1)
    sgd = optimizer()
    nlp.update(examples_from(nlp), sgd=sgd)
    get_pipe(nlp, "crf_ner").add_label("TIME")
    nlp.update(examples_from(nlp), sgd=sgd)


def test_a_new_label_stays_silent_until_an_update_shows_it() -> None:
    """Updates without annotation, with other labels alone or without tokens do not train it."""
    nlp = overfitted()
    pipe = get_pipe(nlp, "crf_ner")
    pipe.add_label("NEW")
    head = head_of(nlp)
    sgd = Adam(1e-9, use_averages=False)
    unannotated = Example(nlp.make_doc(TEXTS[0][0]), nlp.make_doc(TEXTS[0][0]))
    empty = Example(nlp.make_doc(""), nlp.make_doc(""))
    for examples in ([unannotated], [empty], examples_from(nlp)):
        nlp.update(examples, sgd=sgd)
        head.head.output.bias.data[7:] = 100.0
        assert_learnt(nlp)
    nlp.update([example_from(nlp, "我在北京。", {"北京": "NEW"})], sgd=sgd)
    assert {ent.label_ for text, _ in TEXTS for ent in nlp(text).ents} == {"NEW"}


def test_an_untrained_label_is_not_predicted_however_its_weights_fell() -> None:
    nlp = overfitted()
    pipe = get_pipe(nlp, "crf_ner")
    pipe.add_label("NEW")
    head = head_of(nlp)
    head.head.output.bias.data[7:] = 100.0
    assert_learnt(nlp)


def test_a_gold_label_that_the_pipe_does_not_know_is_refused(trained: Language) -> None:
    example = example_from(trained, "我在北京。", {"北京": "GPE"})
    with pytest.raises(ValueError, match="'GPE' is not among the labels"):
        trained.update([example], sgd=NO_STEP)


def test_empty_docs(trained: Language) -> None:
    empty = trained.make_doc("")
    assert ents(trained("")) == []
    assert [ents(doc) for doc in trained.pipe(["", TEXTS[4][0], ""])] == [[], ents(trained(TEXTS[4][0])), []]
    assert [ents(doc) for doc in trained.pipe(["", ""])] == [[], []]
    assert list(trained.pipe([])) == []
    example = Example(empty, trained.make_doc(""))
    assert trained.update([example, example], sgd=NO_STEP)["crf_ner"] == 0.0
    mixed = trained.update([example, *examples_from(trained), example], sgd=NO_STEP)
    alone = trained.update(examples_from(trained), sgd=NO_STEP)
    assert mixed["crf_ner"] == pytest.approx(alone["crf_ner"], rel=1e-5)
    get_pipe(trained, "crf_ner").model.finish_update(lambda key, weights, gradient: (weights, 0 * gradient))


def test_nan_is_an_error_that_says_what_to_do() -> None:
    nlp = overfitted(steps=1)
    head = head_of(nlp)
    head.head.output.bias.data[0] = float("nan")
    with pytest.raises(ValueError, match=r"scores for doc 0 of the batch are not finite.*grad_clip"):
        nlp.update(examples_from(nlp), sgd=NO_STEP)


def test_frozen_while_another_pipe_trains() -> None:
    nlp = overfitted()
    before = get_pipe(nlp, "crf_ner").model.to_bytes()
    tagger: Any = nlp.add_pipe("tagger")
    tagger.add_label("N")
    example = Example.from_dict(nlp.make_doc("我在"), {"tags": ["N", "N"]})
    with nlp.select_pipes(enable=["tagger"]):
        sgd = nlp.initialize(get_examples=lambda: [example])
        nlp.update([example], sgd=sgd)
    assert get_pipe(nlp, "crf_ner").model.to_bytes() == before


def test_an_uninitialized_pipe_can_be_saved() -> None:
    nlp = spacy.blank("zh")
    nlp.add_pipe("crf_ner", config={"model": SMALL_MODEL})
    loaded = spacy.blank("zh", config=nlp.config).from_bytes(nlp.to_bytes())
    loaded.initialize(get_examples=lambda: examples_from(loaded))
    assert get_pipe(loaded, "crf_ner").labels == ("LOC", "ORG", "PER")


@pytest.mark.parametrize("labels", ["LOC", {"LOC": 1}, ["LOC", ""], ["LOC", 1]])
def test_initialize_refuses_labels_that_are_no_list_of_types(labels: Any) -> None:
    nlp = spacy.blank("zh")
    pipe: Any = nlp.add_pipe("crf_ner", config={"model": SMALL_MODEL})
    with pytest.raises(ValueError, match="labels must be"):
        pipe.initialize(lambda: examples_from(nlp), nlp=nlp, labels=labels)


def test_initialize_again_frees_labels_added_in_between() -> None:
    nlp = overfitted(steps=1)
    pipe = get_pipe(nlp, "crf_ner")
    pipe.add_label("NEW")
    nlp.initialize(get_examples=lambda: examples_from(nlp))
    head = head_of(nlp)
    head.head.output.bias.data[2 * pipe.labels.index("NEW") + 1] = 100.0
    assert {ent.label_ for ent in nlp(TEXTS[0][0]).ents} == {"NEW"}


@pytest.mark.slow
def test_multiprocessing() -> None:
    """In a process of its own, since the start method is global; spawn pickles the pipeline."""
    script = (
        "import multiprocessing, torch\n"
        "from tests.util import TEXTS, ents, overfitted\n"
        "if __name__ == '__main__':\n"
        "    multiprocessing.set_start_method('spawn')\n"
        "    torch.set_num_threads(1)\n"
        "    nlp = overfitted()\n"
        "    texts = [text for text, _ in TEXTS] * 4\n"
        "    docs = nlp.pipe(texts, n_process=2, batch_size=5)\n"
        "    assert [ents(doc) for doc in docs] == [ents(nlp(text)) for text in texts]\n"
        "    print('same')\n"
    )
    root = Path(__file__).resolve().parents[2]
    run = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, timeout=300)
    assert run.stdout.strip() == "same", run.stderr
