from typing import Any, Dict, List, Tuple

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertConfig, BertModel

from spacy_crf_ner.encoder.windowed_encoder import WindowedEncoder
from spacy_crf_ner.encoder.windows import WindowBatch, find_overlaps
from spacy_crf_ner.encoder.windows import encode as encode_by
from spacy_crf_ner.torch_utils.arrays import torch_arrays
from spacy_crf_ner.torch_utils.buckets import NUMPY
from tests.util import n_drawn

torch.manual_seed(0)
BERT = BertModel(
    BertConfig(
        vocab_size=20,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=40,
    ),
    add_pooling_layer=False,
).eval()
# Types of word-pieces that stand out, so that a mistaken one is seen.
BERT.embeddings.token_type_embeddings.weight.data[1] += 3.0


TORCH = torch_arrays(torch.zeros(1))


def batch_of(windows: List[List[int]], stride: int = 4, types: int = 0) -> WindowBatch:
    """Windows of these lengths, of texts as grouped, without special tokens."""
    generator = torch.Generator().manual_seed(sum(map(sum, windows)))
    ids = [torch.randint(1, 20, (n,), generator=generator).numpy() for group in windows for n in group]
    return WindowBatch(
        input_ids=ids,
        token_type_ids=[numpy.full_like(x, types) for x in ids],
        overlaps=find_overlaps(windows, stride, before=0, after=0),
    )


def alone(batch: WindowBatch) -> List[torch.Tensor]:
    """What the encoder makes of each window by itself."""
    types = batch.token_type_ids or [numpy.zeros_like(ids) for ids in batch.input_ids]
    with torch.no_grad():
        return [
            BERT(input_ids=torch.tensor(ids[None]), token_type_ids=torch.tensor(kind[None])).last_hidden_state[0]
            for ids, kind in zip(batch.input_ids, types)
        ]


def encode(batch: WindowBatch, max_padded_tokens: int) -> Tuple[torch.Tensor, List[Dict[str, torch.Tensor]]]:
    """Encode, and look at what the encoder was called with."""
    calls: List[Dict[str, torch.Tensor]] = []

    def note(_: Any, args: Any, inputs: Dict[str, torch.Tensor]) -> None:
        calls.append(inputs)

    encoder = WindowedEncoder(BERT, pad_id=7, max_padded_tokens=max_padded_tokens)
    hook = BERT.register_forward_pre_hook(note, with_kwargs=True)
    try:
        with torch.no_grad():
            return encoder.eval()(batch), calls
    finally:
        hook.remove()


@given(st.lists(st.integers(1, 40), min_size=1, max_size=9), st.integers(1, 200))
@settings(deadline=None, max_examples=n_drawn(40))
def test_each_text_is_encoded_as_if_alone_whatever_the_budget(lengths: List[int], budget: int) -> None:
    batch = batch_of([[n] for n in lengths])
    rows, _ = encode(batch, budget)
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows, torch.cat(alone(batch)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("budget", [1, 20, 10_000])
def test_windows_of_a_text_are_merged(budget: int) -> None:
    batch = batch_of([[6, 6, 3], [5], [6, 4]])
    rows, _ = encode(batch, budget)
    expected = batch.overlaps.merge(torch.cat(alone(batch)), TORCH)
    assert len(rows) == (8 + 3) + 5 + (4 + 4)
    torch.testing.assert_close(rows, expected, atol=1e-5, rtol=1e-5)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.integers(1, 200))
@settings(deadline=None, max_examples=n_drawn(30))
def test_no_pass_is_larger_than_the_budget_and_padding_stays_below_a_quarter(
    lengths: List[int], budget: int
) -> None:
    _, calls = encode(batch_of([[n] for n in lengths]), budget)
    padded = 0
    for inputs in calls:
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        assert ids.shape == mask.shape == inputs["token_type_ids"].shape
        assert ids.numel() <= budget or len(ids) == 1
        assert (ids[mask == 0] == 7).all()
        padded += ids.numel()
    assert sum(int(inputs["attention_mask"].sum()) for inputs in calls) == sum(lengths)
    assert padded <= sum(lengths) / 0.8


@pytest.mark.parametrize("budget", [1, 20, 10_000])
def test_another_runtime_encodes_the_same(budget: int) -> None:
    def run(inputs: Dict[str, numpy.ndarray]) -> numpy.ndarray:
        assert all(ids.dtype == "int64" for ids in inputs.values())
        with torch.no_grad():
            output = BERT(**{name: torch.tensor(ids) for name, ids in inputs.items()})
        return output.last_hidden_state.numpy()

    batch = batch_of([[6, 6, 3], [5], [6, 4]], types=1)
    rows = encode_by(run, batch, NUMPY, pad_id=7, max_padded_tokens=budget)
    assert isinstance(rows, numpy.ndarray)
    torch.testing.assert_close(torch.from_numpy(rows), encode(batch, budget)[0])


def test_types_of_word_pieces_reach_the_encoder() -> None:
    batch = batch_of([[5], [9]], types=1)
    rows, _ = encode(batch, 100)
    torch.testing.assert_close(rows, torch.cat(alone(batch)), atol=1e-5, rtol=1e-5)
    untyped, calls = encode(WindowBatch(batch.input_ids, None, batch.overlaps), 100)
    assert "token_type_ids" not in calls[0]
    assert (rows - untyped).abs().max() > 0.1


def test_gradients_reach_the_encoder_once_for_each_window() -> None:
    batch = batch_of([[6, 6], [3]])
    weight = torch.randn(13, 16, generator=torch.Generator().manual_seed(1))
    gradients = []
    for budget in (1, 1000):
        encoder = WindowedEncoder(BERT, pad_id=0, max_padded_tokens=budget).eval()
        encoder.zero_grad()
        (encoder(batch) * weight).sum().backward()
        gradients.append([parameter.grad.clone() for parameter in BERT.parameters() if parameter.grad is not None])
        encoder.zero_grad()
    merged = batch.overlaps.merge(
        torch.cat([BERT(input_ids=torch.tensor(ids[None])).last_hidden_state[0] for ids in batch.input_ids]), TORCH
    )
    (merged * weight).sum().backward()
    expected = [parameter.grad for parameter in BERT.parameters() if parameter.grad is not None]
    BERT.zero_grad()
    for got in gradients:
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


def test_an_encoder_that_is_all_frozen_is_not_trainable() -> None:
    encoder = WindowedEncoder(torch.nn.Linear(2, 2), pad_id=0, max_padded_tokens=1)
    assert encoder.is_trainable
    next(encoder.parameters()).requires_grad_(False)
    assert encoder.is_trainable
    encoder.requires_grad_(False)
    assert not encoder.is_trainable


def test_the_last_layers_may_be_averaged() -> None:
    batch = batch_of([[5], [3]])
    ids = [torch.tensor(x[None]) for x in batch.input_ids]
    with torch.no_grad():
        hidden = [BERT(input_ids=x, output_hidden_states=True).hidden_states for x in ids]
        for n in (1, 2):
            encoder = WindowedEncoder(BERT, pad_id=0, max_padded_tokens=64, averaged_layers=n).eval()
            expected = torch.cat([torch.stack(layers[-n:]).mean(dim=0)[0] for layers in hidden])
            torch.testing.assert_close(encoder(batch), expected, atol=1e-5, rtol=1e-4)


def test_the_last_layer_is_what_the_encoder_returns_as_such() -> None:
    """Some normalise it once more than what they call its hidden state."""

    class Normalised(BertModel):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            output = super().forward(*args, **kwargs)
            output.last_hidden_state = output.last_hidden_state * 2
            return output

    bert = Normalised(BERT.config, add_pooling_layer=False).eval()
    batch = batch_of([[5]])
    with torch.no_grad():
        output = bert(input_ids=torch.tensor(batch.input_ids[0][None]), output_hidden_states=True)
        encoder = WindowedEncoder(bert, pad_id=0, max_padded_tokens=64, averaged_layers=2).eval()
        expected = (output.hidden_states[-2] + output.last_hidden_state) / 2
        torch.testing.assert_close(encoder(batch), expected[0], atol=1e-5, rtol=1e-4)
