"""Gradients of several updates are averaged by an optimizer that can, and counted right."""

from typing import Any, Dict, List, Tuple

import pytest
import spacy
import torch
from spacy.language import Language
from spacy.training import Example
from spacy.training.loop import subdivide_batch, train_while_improving
from thinc.api import Adam, fix_random_seed

from spacy_crf_ner.training.protocols import AveragesUpdates
from tests.training.util import adamw, gradients, plain
from tests.util import NO_STEP, SMALL_MODEL, at_random, examples_from, get_pipe


def pipeline(*names: str) -> Language:
    fix_random_seed(0)
    nlp = spacy.blank("zh")
    for name in names:
        nlp.add_pipe("crf_ner", name=name, config={"model": SMALL_MODEL})
    nlp.initialize(get_examples=lambda: examples_from(nlp))
    return at_random(nlp)


class Spy:
    """Records what it is told; takes gradients as an optimizer does."""

    def __init__(self) -> None:
        self.told: List[int] = []

    def average_over(self, n_updates: int) -> None:
        self.told.append(n_updates)

    def __call__(self, key: Any, weights: Any, gradient: Any) -> Tuple[Any, Any]:
        gradient *= 0
        return weights, gradient


def test_which_optimizers_average() -> None:
    assert isinstance(adamw(), AveragesUpdates)
    assert not isinstance(Adam(), AveragesUpdates)


@pytest.mark.parametrize("pipes", [["crf_ner"], ["a", "b"]])
@pytest.mark.parametrize("accumulate, parts", [(1, 1), (2, 3), (3, 4), (4, 5), (7, 1)])
def test_accumulated_gradients_are_the_mean_over_the_parts_of_a_batch(
    accumulate: int, parts: int, pipes: List[str]
) -> None:
    """Five texts: 2 parts and a remainder make 3, and 7 parts of none leave all to the remainder."""
    twin, nlp = pipeline(*pipes), pipeline(*pipes)
    divided = list(subdivide_batch(examples_from(twin), accumulate))
    assert len(divided) == parts
    mean: List[torch.Tensor] = []
    for part in divided:
        twin.update(part, sgd=NO_STEP)
        found = [gradient for _, _, gradient in gradients(twin, pipes)]
        mean = mean or [torch.zeros_like(gradient) for gradient in found]
        for total, gradient in zip(mean, found):
            total += gradient / parts
            gradient.zero_()
    before = [weights.clone() for _, weights, _ in gradients(twin, pipes)]
    settings: Dict[str, Any] = {"dropout": 0.0, "eval_frequency": 1, "patience": 0, "max_steps": 0}
    settings.update(exclude=[], annotating_components=[], before_update=None)
    batches = [(0, examples_from(nlp))]
    steps = train_while_improving(
        nlp, plain(), batches, lambda: (0.0, {}), accumulate_gradient=accumulate, **settings
    )
    assert len(list(steps)) == 1
    nlp.update(examples_from(nlp), sgd=NO_STEP)  # what was trained is told by its gradient, which the step took
    after = list(gradients(nlp, pipes))
    assert len(after) == len(before) == len(mean)
    for (key, weights, _), start, expected in zip(after, before, mean):
        torch.testing.assert_close(start - weights, expected, atol=1e-6, rtol=1e-4, msg=str(key))
        assert expected.abs().max() > 0


def test_a_component_counts_its_updates_since_the_last_step() -> None:
    nlp = pipeline("crf_ner")
    pipe, examples, spy = get_pipe(nlp, "crf_ner"), examples_from(nlp), Spy()
    for n_updates in (1, 3, 2):
        for _ in range(n_updates):
            pipe.update(examples)
        pipe.finish_update(spy)
    pipe.finish_update(spy)
    pipe.update(examples, sgd=spy)
    nlp.update(examples, sgd=spy)  # type: ignore[arg-type]
    assert spy.told == [1, 3, 2, 1, 1]


def test_updates_without_tokens_or_with_an_error_do_not_count() -> None:
    nlp = pipeline("crf_ner")
    pipe, examples, spy = get_pipe(nlp, "crf_ner"), examples_from(nlp), Spy()
    unknown = Example.from_dict(nlp.make_doc("王小明"), {"entities": [(0, 3, "UNKNOWN")]})
    pipe.update(examples)
    pipe.update([Example.from_dict(nlp.make_doc(""), {})])
    with pytest.raises(ValueError, match="UNKNOWN"):
        pipe.update([unknown])
    pipe.update(examples)
    pipe.finish_update(spy)
    assert spy.told == [2]


def test_a_rehearsal_is_no_further_update_and_hands_over_what_is_there() -> None:
    nlp = pipeline("crf_ner")
    nlp.resume_training()
    pipe, examples, spy = get_pipe(nlp, "crf_ner"), examples_from(nlp), Spy()
    pipe.update(examples)
    pipe.rehearse(examples)
    pipe.update(examples)
    pipe.rehearse(examples)
    pipe.finish_update(spy)
    for _ in range(3):
        pipe.update(examples)
    pipe.rehearse(examples, sgd=spy)
    pipe.rehearse(examples, sgd=spy)
    pipe.update(examples, sgd=spy)
    assert spy.told == [2, 3, 1]


def test_nlp_rehearse_steps_with_the_optimizer() -> None:
    nlp = pipeline("crf_ner")
    optimizer = plain()
    nlp.resume_training(sgd=optimizer)
    examples = examples_from(nlp)
    for _ in range(2):
        nlp.update(examples, sgd=optimizer)
    before = nlp.to_bytes()
    nlp.rehearse(examples, sgd=optimizer)
    assert nlp.to_bytes() != before
