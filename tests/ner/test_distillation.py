"""Learning from another recognizer, without gold annotation."""

from typing import Any, List

import numpy
import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from thinc.api import fix_random_seed

from spacy_crf_ner.ner.distillation import Lesson, tags_of_teacher
from tests.util import (
    SMALL_MODEL,
    TEXTS,
    assert_learnt,
    ents,
    examples_from,
    get_pipe,
    head_of,
    optimizer,
    overfitted,
)

READ = [text for text, _ in TEXTS]


@pytest.fixture(scope="module")
def teacher() -> Language:
    """A pipeline that has learnt `TEXTS`; its labels are LOC, ORG and PER."""
    return overfitted()


def student(*labels: str) -> Language:
    """A pipeline that has learnt nothing, of labels in this order, with a smaller head."""
    fix_random_seed(1)
    nlp = spacy.blank("zh")
    pipe: Any = nlp.add_pipe("crf_ner", config={"model": {**SMALL_MODEL, "attention_heads": 0}})
    pipe.initialize(lambda: examples_from(nlp), nlp=nlp, labels=labels[:1])
    for label in labels[1:]:
        pipe.add_label(label)
    return nlp


def docs_of(nlp: Language) -> List[Doc]:
    return [nlp.make_doc(text) for text in READ]


def taught(nlp: Language, teacher: Language, steps: int, **settings: Any) -> List[float]:
    """Distil, step by step; the losses."""
    pipe, sgd = get_pipe(nlp, "crf_ner"), optimizer()
    found = []
    for _ in range(steps):
        losses = pipe.distill(get_pipe(teacher, "crf_ner"), docs_of(teacher), docs_of(nlp), sgd=sgd, **settings)
        found.append(losses["crf_ner"])
    return found


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_a_student_learns_what_its_teacher_knows(teacher: Language, temperature: float) -> None:
    """Its labels are in another order than the teacher's."""
    nlp = student("PER", "ORG", "LOC")
    assert get_pipe(nlp, "crf_ner").labels == ("PER", "ORG", "LOC")
    losses = taught(nlp, teacher, 60, temperature=temperature)
    assert losses[-1] < losses[0] / 20
    assert_learnt(nlp)
    assert get_pipe(nlp, "crf_ner").inactive_labels == ()


def test_a_student_of_the_same_weights_has_nothing_to_learn(teacher: Language) -> None:
    nlp = spacy.blank("zh")
    copied: Any = nlp.add_pipe("crf_ner", source=teacher)
    losses = copied.distill(get_pipe(teacher, "crf_ner"), docs_of(teacher), docs_of(nlp))
    assert losses["crf_ner"] == pytest.approx(0.0, abs=1e-9)
    assert all(p.grad is not None and p.grad.abs().max() < 1e-5 for p in head_of(nlp).parameters())


def test_a_label_that_the_teacher_lacks_is_left_as_it_was(teacher: Language) -> None:
    nlp = student("TIME", "PER", "ORG", "LOC")
    pipe = get_pipe(nlp, "crf_ner")
    before = head_of(nlp).crf.transitions[1:3].clone()
    taught(nlp, teacher, 30)
    assert (head_of(nlp).crf.transitions[1:3] == before).all()
    assert set(ents(nlp(READ[0]))) == set(TEXTS[0][1].items())
    assert pipe.labels[0] == "TIME"


def test_gradients_wait_for_an_optimizer(teacher: Language) -> None:
    nlp = student("LOC", "ORG", "PER")
    pipe = get_pipe(nlp, "crf_ner")
    before = {name: p.clone() for name, p in head_of(nlp).named_parameters()}
    losses = {"crf_ner": 1.0}
    assert pipe.distill(get_pipe(teacher, "crf_ner"), docs_of(teacher), docs_of(nlp), losses=losses) is losses
    assert losses["crf_ner"] > 1.0
    assert all((p == before[name]).all() for name, p in head_of(nlp).named_parameters())
    pipe.finish_update(optimizer())
    assert any((p != before[name]).any() for name, p in head_of(nlp).named_parameters())


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_a_lesson_is_a_share_of_the_loss_of_an_update(teacher: Language, alpha: float) -> None:
    nlp, knowing = student("PER", "ORG", "LOC"), get_pipe(teacher, "crf_ner")
    pipe, examples = get_pipe(nlp, "crf_ner"), examples_from(nlp)
    potentials = pipe.predict([example.predicted for example in examples])
    plain, d_plain = pipe.get_loss(examples, potentials)
    told: List[List[str]] = []

    def potentials_of(docs: Any) -> Any:
        told.append([doc.text for doc in docs])
        return knowing.predict(docs)

    pipe.lesson = Lesson(knowing.labels, (), potentials_of, alpha, 2.0)
    taught, d_taught = pipe.lesson.divergence([e.predicted for e in examples], potentials, pipe.labels)
    mixed, d_mixed = pipe.get_loss(examples, potentials)
    assert told == [READ, READ]
    assert mixed == pytest.approx((1 - alpha) * plain + alpha * taught)
    for ours, gold, other in zip(d_mixed.arrays, d_plain.arrays, d_taught.arrays):
        numpy.testing.assert_allclose(ours, (1 - alpha) * gold + alpha * other, atol=1e-7)


def test_texts_without_annotation_are_learnt_from_the_teacher(teacher: Language) -> None:
    nlp, knowing = student("PER", "ORG", "LOC"), get_pipe(teacher, "crf_ner")
    pipe, sgd = get_pipe(nlp, "crf_ner"), optimizer()
    pipe.lesson = Lesson(knowing.labels, (), knowing.predict, 0.5, 2.0)
    raw = [Example(nlp.make_doc(text), nlp.make_doc(text)) for text in READ]
    for label in pipe.labels:
        pipe._seen_labels.add(label)
    for _ in range(60):
        nlp.update(raw, sgd=sgd)
    assert_learnt(nlp)


@pytest.mark.parametrize(
    "settings, said", [({"alpha": 1.5}, "alpha must be"), ({"temperature": 0.0}, "temperature")]
)
def test_a_lesson_out_of_range_is_refused(settings: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Lesson(["A"], [], lambda docs: None, **settings)  # type: ignore[arg-type, return-value]


def test_labels_are_matched_by_name() -> None:
    assert tags_of_teacher(["B", "A"], ["A", "X", "B"]).tolist() == [0, 5, 6, 1, 2]
    assert tags_of_teacher([], ["A"]).tolist() == [0]
    with pytest.raises(ValueError, match=r"must have all labels of the teacher, lacks \['C'\]; add them"):
        tags_of_teacher(["A", "C"], ["A"])


def test_texts_must_be_the_same_and_cut_alike(teacher: Language) -> None:
    nlp = student("LOC", "ORG", "PER")
    pipe, knowing = get_pipe(nlp, "crf_ner"), get_pipe(teacher, "crf_ner")
    with pytest.raises(ValueError, match="as many docs as the teacher, got 4 and 5"):
        pipe.distill(knowing, docs_of(teacher), docs_of(nlp)[1:])
    with pytest.raises(ValueError, match="doc 0 must have the same tokens"):
        pipe.distill(knowing, docs_of(teacher), docs_of(nlp)[::-1])
    words = [Doc(nlp.vocab, words=[text], spaces=[False]) for text in READ]
    with pytest.raises(ValueError, match="doc 0 must have the same tokens"):
        pipe.distill(knowing, docs_of(teacher), words)


def test_docs_without_tokens_teach_nothing(teacher: Language) -> None:
    nlp = student("LOC", "ORG", "PER")
    pipe, knowing = get_pipe(nlp, "crf_ner"), get_pipe(teacher, "crf_ner")
    assert pipe.distill(knowing, [], []) == {"crf_ner": 0.0}
    assert pipe.distill(knowing, [teacher.make_doc("")], [nlp.make_doc("")], sgd=optimizer()) == {"crf_ner": 0.0}


def test_a_listener_is_refused(teacher: Language) -> None:
    nlp = spacy.blank("zh")
    nlp.add_pipe("tok2vec")
    listener = {"@architectures": "spacy.Tok2VecListener.v1", "width": 96}
    pipe: Any = nlp.add_pipe("crf_ner", config={"model": {**SMALL_MODEL, "tok2vec": listener}})
    nlp.initialize(lambda: examples_from(nlp))
    with pytest.raises(ValueError, match=r"listens to '.*', whose embedding is not computed in a distillation"):
        pipe.distill(get_pipe(teacher, "crf_ner"), docs_of(teacher), docs_of(nlp))
