"""A component whose upstream pipe did not run says so; as long as it runs, or has run, all works as ever."""

from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest
import spacy
from spacy.language import Language
from spacy.training import Example
from thinc.api import fix_random_seed

from tests.encoder.util import LISTENER, save_tiny_bert, transformer_config
from tests.ner.test_component_untrained import HASH_EMBED_CNN
from tests.util import NO_STEP, SMALL_MODEL, TEXTS, ents, examples_from, get_pipe, optimizer

KINDS = ["tok2vec", "transformer"]
kinds = pytest.mark.parametrize("kind", KINDS)
TEXT = TEXTS[0][0]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("encoder"), [text for text, _ in TEXTS])


def listener_of(kind: str, upstream: str) -> Dict[str, Any]:
    if kind == "transformer":
        return {**LISTENER, "upstream": upstream}
    return {"@architectures": "spacy.Tok2VecListener.v1", "width": 16, "upstream": upstream}


def listening(kind: str, encoder: Path, *, upstream: str = "*", name: str = "") -> Language:
    """A pipeline that has learnt a little. Its upstream pipe is called `kind` unless `name` says otherwise."""
    fix_random_seed(0)
    nlp = spacy.blank("zh")
    config = {"model": HASH_EMBED_CNN} if kind == "tok2vec" else transformer_config(encoder)
    nlp.add_pipe(kind, name=name or kind, config=config)
    nlp.add_pipe("crf_ner", config={"model": {**SMALL_MODEL, "tok2vec": listener_of(kind, upstream)}})
    nlp.initialize(get_examples=lambda: examples_from(nlp))
    learn(nlp, 12)
    return nlp


def learn(nlp: Language, steps: int) -> None:
    sgd = optimizer()
    for _ in range(steps):
        nlp.update(examples_from(nlp), sgd=NO_STEP)
        for name in nlp.pipe_names:
            get_pipe(nlp, name).finish_update(sgd)


@pytest.fixture(scope="module", params=KINDS)
def saved(request: pytest.FixtureRequest, encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained pipeline on the disk; the folder bears the name of its upstream pipe."""
    nlp = listening(request.param, encoder)
    assert any(doc.ents for doc in nlp.pipe(text for text, _ in TEXTS))
    path = tmp_path_factory.mktemp("saved") / request.param
    nlp.to_disk(path)
    return path


WITHOUT: Dict[str, Callable[[Path, str], Language]] = {
    "excluded": lambda path, kind: spacy.load(path, exclude=[kind]),
    "loaded disabled": lambda path, kind: spacy.load(path, disable=[kind]),
    "removed": lambda path, kind: removed(spacy.load(path), kind),
    "disabled": lambda path, kind: disabled(spacy.load(path), kind),
}
USES: Dict[str, Callable[[Language], Any]] = {
    "call": lambda nlp: nlp(TEXT),
    "pipe": lambda nlp: list(nlp.pipe([TEXT, ""])),
    "scores": lambda nlp: get_pipe(nlp, "crf_ner").predict_scores([nlp.make_doc(TEXT)]),
    "k best": lambda nlp: get_pipe(nlp, "crf_ner").predict_kbest([nlp.make_doc(TEXT)], 2),
    "evaluate": lambda nlp: nlp.evaluate(examples_from(nlp)),
    "temperature": lambda nlp: get_pipe(nlp, "crf_ner").fit_temperature(examples_from(nlp)),
    "update": lambda nlp: nlp.update(examples_from(nlp), sgd=NO_STEP),
}


def removed(nlp: Language, kind: str) -> Language:
    nlp.remove_pipe(kind)
    return nlp


def disabled(nlp: Language, kind: str) -> Language:
    nlp.select_pipes(disable=kind)
    return nlp


@pytest.mark.parametrize("without", WITHOUT.values(), ids=WITHOUT.keys())
def test_a_pipe_upstream_that_is_missing_is_named_in_whatever_use(
    saved: Path, without: Callable[[Path, str], Language]
) -> None:
    nlp = without(saved, saved.name)
    where = {"tok2vec": r"doc\.tensor", "transformer": r"doc\._\.trf_data"}[saved.name]
    wanted = (
        rf"^component 'crf_ner' listens to the '{saved.name}' pipe, which has not run: {where} .*'王小明.*; put "
    )
    for name, use in USES.items():
        with pytest.raises(ValueError, match=wanted) as raised:
            use(nlp)
        assert ("annotating_components" in str(raised.value)) == (name == "update"), name
    # Docs without tokens need nothing of it.
    assert not nlp("").ents and not any(doc.ents for doc in nlp.pipe(["", ""]))


@kinds
def test_it_is_named_by_its_own_name_where_the_listener_knows_it(kind: str, encoder: Path) -> None:
    nlp = listening(kind, encoder, upstream="vectors", name="vectors")
    before = ents(nlp(TEXT))
    with (
        nlp.select_pipes(disable="vectors"),
        pytest.raises(ValueError, match="'crf_ner' listens to 'vectors', which"),
    ):
        nlp(TEXT)
    assert ents(nlp(TEXT)) == before
    # The one doc of a batch that it has not seen is the one that is named.
    seen = get_pipe(nlp, "vectors")(nlp.make_doc(TEXT))
    with pytest.raises(ValueError, match=f"the doc '{TEXTS[4][0]}'"):
        list(get_pipe(nlp, "crf_ner").pipe([seen, nlp.make_doc(TEXTS[4][0])]))


def test_a_pipe_that_comes_after_the_component_is_missed_by_it() -> None:
    nlp = spacy.blank("zh")
    nlp.add_pipe("crf_ner", config={"model": {**SMALL_MODEL, "tok2vec": listener_of("tok2vec", "*")}})
    nlp.add_pipe("tok2vec", config={"model": HASH_EMBED_CNN})
    nlp.initialize(get_examples=lambda: examples_from(nlp))
    for use in USES.values():
        with pytest.raises(ValueError, match="listens to the 'tok2vec' pipe, which has not run"):
            use(nlp)


def test_it_is_missed_in_worker_processes(encoder: Path) -> None:
    nlp = listening("tok2vec", encoder)
    nlp.remove_pipe("tok2vec")
    with pytest.raises(ValueError, match="listens to the 'tok2vec' pipe, which has not run"):
        list(nlp.pipe([TEXT] * 4, n_process=2, batch_size=2))


def test_an_error_handler_gets_the_docs() -> None:
    nlp = spacy.blank("zh")
    nlp.add_pipe("crf_ner", config={"model": {**SMALL_MODEL, "tok2vec": listener_of("tok2vec", "*")}})
    nlp.initialize(get_examples=lambda: examples_from(nlp))
    failed: List[str] = []
    handler: Any = lambda name, proc, docs, error: failed.extend(doc.text for doc in docs)  # noqa: E731
    nlp.set_error_handler(handler)
    assert list(nlp.pipe([TEXT])) == [] and failed == [TEXT]


@kinds
def test_an_update_without_it_learns_nothing_from_an_earlier_batch(kind: str, encoder: Path) -> None:
    """spaCy's listener still holds what it received for the same texts."""
    nlp = listening(kind, encoder)
    nlp.update(examples_from(nlp), sgd=NO_STEP)
    with nlp.select_pipes(disable=kind), pytest.raises(ValueError, match=f"the '{kind}' pipe, which has not run"):
        nlp.update(examples_from(nlp), sgd=NO_STEP)
    nlp.update(examples_from(nlp), sgd=NO_STEP)


@kinds
def test_output_that_is_there_is_taken_whoever_put_it_there(kind: str, encoder: Path) -> None:
    nlp = listening(kind, encoder)
    texts = [text for text, _ in TEXTS]
    expected = [ents(doc) for doc in nlp.pipe(texts)]
    assert any(expected)
    docs = list(get_pipe(nlp, kind).pipe([nlp.make_doc(text) for text in ["", *texts, " "]]))
    nlp.remove_pipe(kind)
    assert [ents(doc) for doc in nlp.pipe(docs)][1:-1] == expected


@kinds
def test_a_frozen_pipe_upstream_that_annotates_is_enough_to_learn(kind: str, encoder: Path) -> None:
    """Also after updates in which it learnt, and with an empty doc in the batch."""
    nlp = listening(kind, encoder)
    before = get_pipe(nlp, kind).model.to_bytes()
    empty = Example(nlp.make_doc(""), nlp.make_doc(""))
    losses: List[float] = []
    for _ in range(15):
        examples = [*examples_from(nlp), empty]
        losses.append(nlp.update(examples, sgd=optimizer(), annotates=[kind], exclude=[kind])["crf_ner"])
    assert losses[-1] < losses[0] / 2
    assert get_pipe(nlp, kind).model.to_bytes() == before
    # Frozen alone it is not.
    with pytest.raises(ValueError, match=r"which has not run.*name it in annotating_components"):
        nlp.update(examples_from(nlp), sgd=NO_STEP, exclude=[kind])


@kinds
def test_a_copy_of_its_own_needs_no_pipe_upstream(kind: str, encoder: Path) -> None:
    """What the error tells the user to do."""
    nlp = listening(kind, encoder)
    texts = [text for text, _ in TEXTS]
    expected = [ents(doc) for doc in nlp.pipe(texts)]
    nlp.replace_listeners(kind, "crf_ner", ["model.tok2vec"])
    nlp.remove_pipe(kind)
    assert [ents(doc) for doc in nlp.pipe(texts)] == expected and any(expected)


def test_two_components_that_listen_learn_together() -> None:
    """That one forgets its batch takes none from the other."""
    fix_random_seed(0)
    nlp = spacy.blank("zh")
    nlp.add_pipe("tok2vec", config={"model": HASH_EMBED_CNN})
    for name in ("first", "second"):
        nlp.add_pipe("crf_ner", name, config={"model": {**SMALL_MODEL, "tok2vec": listener_of("tok2vec", "*")}})
    nlp.initialize(get_examples=lambda: examples_from(nlp))
    before = get_pipe(nlp, "tok2vec").model.to_bytes()
    first = nlp.update(examples_from(nlp), sgd=NO_STEP)
    learn(nlp, 20)
    last = nlp.update(examples_from(nlp), sgd=NO_STEP)
    assert all(last[name] < first[name] / 2 for name in ("first", "second"))
    assert get_pipe(nlp, "tok2vec").model.to_bytes() != before
