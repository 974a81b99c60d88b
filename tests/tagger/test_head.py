from typing import List

import pytest
import torch
from torch import Tensor, nn

from spacy_crf_ner.crf import module as crf
from spacy_crf_ner.tagger.head import HeadSpec, TaggerHead

SPEC = HeadSpec(
    width=6, n_types=2, lstm_width=8, lstm_depth=1, attention_heads=2, attention_window=3, max_padded_tokens=40
)


@pytest.fixture
def head() -> TaggerHead:
    torch.manual_seed(0)
    return TaggerHead(SPEC)


@pytest.mark.parametrize("lengths", [[5, 0, 30, 70, 1, 18, 3], [1], [0, 2]])
def test_a_batch_scores_each_sequence_as_if_it_were_alone(head: TaggerHead, lengths: List[int]) -> None:
    vectors = torch.randn(sum(lengths), SPEC.width)
    together = head(vectors, lengths)[0]
    alone = torch.cat([head(x, [len(x)])[0] for x in vectors.split(lengths)])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-5)


def test_padding_leaks_no_gradient(head: TaggerHead) -> None:
    lengths = [7, 5, 2]
    vectors = torch.randn(sum(lengths), SPEC.width, requires_grad=True)
    head(vectors, lengths)[0][7:12].sum().backward()
    assert vectors.grad is not None
    assert (vectors.grad[7:12] != 0).all()
    assert (vectors.grad[:7] == 0).all() and (vectors.grad[12:] == 0).all()


def test_potentials_carry_the_constraints(head: TaggerHead) -> None:
    _, start, transitions, end = head(torch.randn(3, SPEC.width), [3])
    assert (start == crf.FORBIDDEN).tolist() == [False, False, True, False, True]
    assert (transitions[0] == crf.FORBIDDEN).tolist() == [False, False, True, False, True]
    assert (end > crf.FORBIDDEN).all()


def test_a_batch_without_tokens_stays_differentiable(head: TaggerHead) -> None:
    vectors = torch.zeros(0, SPEC.width, requires_grad=True)
    emissions, *_ = head(vectors, [0, 0])
    assert emissions.shape == (0, 5)
    emissions.sum().backward()
    assert vectors.grad is not None


def test_dropout_reaches_every_stage(head: TaggerHead) -> None:
    head.set_dropout(0.5)
    assert {m.p for m in head.modules() if isinstance(m, nn.Dropout)} == {0.5}
    vectors = torch.randn(20, SPEC.width)
    first, second = head(vectors, [20])[0], head(vectors, [20])[0]
    assert not torch.equal(first, second)


def test_parameters_are_named_for_the_optimizer(head: TaggerHead) -> None:
    names = [name for name, _ in head.named_parameters()]
    assert {name.partition(".")[0] for name in names} == {"head", "crf"}
    assert all(parameter.dim() for parameter in head.parameters())


def test_growing_keeps_the_scores_of_the_old_tags(head: TaggerHead) -> None:
    vectors = torch.randn(12, SPEC.width)
    before = head(vectors, [12])
    after = head.grown(3)(vectors, [12])

    def old_part(x: Tensor) -> Tensor:
        return x[..., :5] if x.dim() < 2 or len(x) != 7 else x[:5, :5]

    for old, new in zip(before, after):
        torch.testing.assert_close(old_part(new), old)
        assert new.shape[-1] == 7


def test_memory_of_a_mixed_batch_stays_bounded() -> None:
    """One text of 5,000 tokens among 63 short ones: no tensor holds 64 times 5,000 tokens."""
    head = TaggerHead(HeadSpec(**{**vars(SPEC), "max_padded_tokens": 1024}))
    padded: List[int] = []
    head.head.register_forward_pre_hook(lambda module, inputs: padded.append(inputs[0][..., 0].numel()))
    lengths = [20] * 30 + [5000] + [20] * 33
    with torch.no_grad():
        head(torch.randn(sum(lengths), SPEC.width), lengths)
    assert max(padded) == 5000
    assert sum(padded) == sum(lengths)


def test_memory_of_the_attention_grows_linearly() -> None:
    """The largest score matrix of a text twice as long is twice as large, not four times."""
    sizes = []
    for length in (2000, 4000):
        with torch.profiler.profile(profile_memory=True) as profile, torch.no_grad():
            TaggerHead(SPEC)(torch.randn(length, SPEC.width), [length])
        sizes.append(sum(max(0, event.cpu_memory_usage) for event in profile.events()))
    assert sizes[1] < 2.5 * sizes[0]
