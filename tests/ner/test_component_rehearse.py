"""Keeping what was learnt while something else is learnt."""

from typing import Any, List

import pytest
import spacy
import torch
from spacy.language import Language
from spacy.training import Example
from thinc.api import Adam, fix_random_seed

from tests.util import (
    SMALL_MODEL,
    TEXTS,
    assert_learnt,
    ents,
    example_from,
    examples_from,
    get_pipe,
    head_of,
    optimizer,
    overfitted,
)

TIME = [("今天天气很好，大家都很高兴。", {"今天": "TIME"}), ("昨天李红去了北京。", {"昨天": "TIME"})]
"""Texts in which a new type alone is marked: the person and the place of the second are O."""


def raw(nlp: Language) -> List[Example]:
    docs = [(nlp.make_doc(text), nlp.make_doc(text)) for text, _ in TEXTS]
    return [Example(predicted, reference) for predicted, reference in docs]


def taught(rehearse: bool) -> Language:
    """A pipeline that has learnt `TEXTS`, and then `TIME`."""
    nlp = overfitted()
    sgd = nlp.resume_training(sgd=Adam(0.02, L2=0.0, use_averages=False))
    get_pipe(nlp, "crf_ner").add_label("TIME")
    fix_random_seed(0)
    for _ in range(30):
        nlp.update([example_from(nlp, text, mentions) for text, mentions in TIME], sgd=sgd)
        if rehearse:
            nlp.rehearse(raw(nlp), sgd=sgd)
    return nlp


def test_rehearsal_keeps_the_old_labels_while_a_new_one_is_learnt() -> None:
    forgetful, rehearsed = taught(rehearse=False), taught(rehearse=True)
    for nlp in (forgetful, rehearsed):
        for text, mentions in TIME:
            assert set(mentions.items()) <= set(ents(nlp(text)))
    remembered = [
        sum(set(mentions.items()) <= set(ents(nlp(text))) for text, mentions in TEXTS if mentions)
        for nlp in (forgetful, rehearsed)
    ]
    assert remembered[1] == 4
    assert remembered[0] < 4


def test_the_divergence_of_an_unchanged_model_is_zero_and_has_no_gradient() -> None:
    nlp = overfitted()
    nlp.resume_training()
    losses = get_pipe(nlp, "crf_ner").rehearse(raw(nlp))
    assert losses["crf_ner"] == pytest.approx(0.0, abs=1e-9)
    for parameter in head_of(nlp).parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().max() < 1e-6


def test_rehearsal_steps_back_towards_the_earlier_model() -> None:
    """Also through `nlp.rehearse`, which collects the gradients of all pipes before it steps."""
    nlp = overfitted()
    sgd = nlp.resume_training(sgd=optimizer())
    with torch.no_grad():
        head_of(nlp).head.output.bias.add_(torch.linspace(-2, 2, 7))
    before: Any = nlp.rehearse(raw(nlp), sgd=sgd)["crf_ner"]
    for _ in range(20):
        after = nlp.rehearse(raw(nlp), sgd=sgd)["crf_ner"]
    assert after < before / 10
    assert_learnt(nlp)


def test_rehearsal_moves_the_embedding_too_and_leaves_no_gradient_behind() -> None:
    nlp = overfitted()
    sgd = nlp.resume_training(sgd=optimizer())
    with torch.no_grad():
        head_of(nlp).head.output.bias.add_(torch.linspace(-2, 2, 7))
    tok2vec = get_pipe(nlp, "crf_ner").model.get_ref("tok2vec")
    nodes = [node for node in tok2vec.walk() if node.param_names]
    before = [node.get_param(name).copy() for node in nodes for name in node.param_names]
    nlp.rehearse(raw(nlp), sgd=sgd)
    after = [node.get_param(name) for node in nodes for name in node.param_names]
    assert any((x != y).any() for x, y in zip(before, after))
    assert all(not node.get_grad(name).any() for node in nodes for name in node.param_names if node.has_grad(name))
    assert all(p.grad is None or not p.grad.any() for p in head_of(nlp).parameters())


@pytest.mark.parametrize("added_first", [True, False])
def test_labels_that_the_earlier_model_had_not_learnt_have_no_part_in_it(added_first: bool) -> None:
    nlp = overfitted()
    pipe = get_pipe(nlp, "crf_ner")
    if added_first:
        pipe.add_label("TIME")
    nlp.resume_training()
    if not added_first:
        pipe.add_label("TIME")
    with torch.no_grad():
        head_of(nlp).head.output.bias[7:].add_(5.0)  # of B-TIME and I-TIME
    assert pipe.rehearse(raw(nlp))["crf_ner"] == pytest.approx(0.0, abs=1e-9)
    gradient: Any = head_of(nlp).head.output.bias.grad
    assert not gradient[7:].any()


def test_annotation_is_not_looked_at() -> None:
    nlp = overfitted()
    nlp.resume_training()
    pipe = get_pipe(nlp, "crf_ner")
    marked = [example_from(nlp, text, {}) for text, _ in TEXTS]
    assert pipe.rehearse(marked)["crf_ner"] == pipe.rehearse(raw(nlp))["crf_ner"]


def test_docs_without_words_are_no_loss() -> None:
    nlp = overfitted(steps=1)
    nlp.resume_training()
    docs = [nlp.make_doc(text) for text in ("", "　")]
    examples = [Example(doc, doc.copy()) for doc in docs]
    pipe = get_pipe(nlp, "crf_ner")
    assert pipe.rehearse(examples[:1]) == {"crf_ner": 0.0}
    assert pipe.rehearse(examples) == {"crf_ner": 0.0}


def test_without_an_earlier_model_there_is_nothing_to_rehearse() -> None:
    nlp = overfitted(steps=1)
    with pytest.raises(ValueError, match=r"'crf_ner' has no earlier model.*nlp\.resume_training\(\)"):
        nlp.rehearse(raw(nlp), sgd=optimizer())


def test_a_component_that_listens_is_refused_until_it_has_its_own_embedding() -> None:
    nlp = spacy.blank("zh")
    nlp.add_pipe("tok2vec")
    listener = {"@architectures": "spacy.Tok2VecListener.v1", "width": 96, "upstream": "tok2vec"}
    nlp.add_pipe("crf_ner", config={"model": {**SMALL_MODEL, "tok2vec": listener}})
    nlp.initialize(lambda: examples_from(nlp))
    sgd = nlp.resume_training()
    nlp.update(examples_from(nlp), sgd=sgd)
    with pytest.raises(ValueError, match=r"'crf_ner' listens to 'tok2vec'.*nlp\.replace_listeners\(\)"):
        nlp.rehearse(raw(nlp), sgd=sgd)
    nlp.replace_listeners("tok2vec", "crf_ner", ["model.tok2vec"])
    nlp.resume_training()
    assert nlp.rehearse(raw(nlp), sgd=sgd)["crf_ner"] == pytest.approx(0.0, abs=1e-9)


def test_beside_other_pipes_it_is_stepped_when_they_are_excluded() -> None:
    """`Language.rehearse` steps the last of the pipes alone."""
    nlp = overfitted()
    nlp.add_pipe("tagger")
    get_pipe(nlp, "tagger").add_label("X")
    get_pipe(nlp, "tagger").initialize(lambda: examples_from(nlp), nlp=nlp)
    sgd = nlp.resume_training(sgd=optimizer())
    for _ in range(5):
        with torch.no_grad():
            head_of(nlp).head.output.bias.add_(torch.linspace(-2, 2, 7))
        before = head_of(nlp).head.output.bias.detach().clone()
        nlp.rehearse(raw(nlp), sgd=sgd, exclude=["tagger"])
        assert not torch.equal(before, head_of(nlp).head.output.bias)


def test_an_earlier_model_is_forgotten_when_another_takes_its_place() -> None:
    nlp = overfitted(steps=1)
    pipe = get_pipe(nlp, "crf_ner")
    changes = [
        lambda: pipe.initialize(lambda: examples_from(nlp), nlp=nlp),
        lambda: pipe.from_bytes(pipe.to_bytes()),
    ]
    for change in changes:
        nlp.resume_training()
        assert pipe._rehearsal_model is not None
        change()
        assert pipe._rehearsal_model is None


def test_a_copy_that_rehearses_is_saved_and_loaded_without_it() -> None:
    nlp = overfitted(steps=1)
    nlp.resume_training()
    loaded = spacy.blank("zh")
    loaded.add_pipe("crf_ner", config={"model": nlp.config["components"]["crf_ner"]["model"]})
    loaded.from_bytes(nlp.to_bytes())
    assert get_pipe(loaded, "crf_ner")._rehearsal_model is None
