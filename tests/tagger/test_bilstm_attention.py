from typing import List

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from spacy_crf_ner.tagger.bilstm_attention import (
    BiLSTM,
    BiLSTMAttention,
    WindowedSelfAttention,
    reverse_by_length,
    windowed_attention,
)
from tests.crf.util import length_mask


def test_reversal_stays_within_each_length_and_undoes_itself() -> None:
    mask = length_mask(torch.tensor([4, 2, 1]))
    padded = torch.arange(12.0).view(4, 3, 1)
    reversed_ = reverse_by_length(padded, mask)
    assert reversed_[:, :, 0].t().tolist() == [[9, 6, 3, 0], [4, 1, 7, 10], [2, 5, 8, 11]]
    assert torch.equal(reverse_by_length(reversed_, mask), padded)


@pytest.mark.parametrize("depth", [1, 2])
def test_bilstm_is_the_packed_bidirectional_lstm(depth: int) -> None:
    torch.manual_seed(0)
    ours = BiLSTM(5, 4, depth).double()
    theirs = nn.LSTM(5, 4, num_layers=depth, bidirectional=True).double()
    theirs.load_state_dict(
        {
            f"{name}_l{layer}{suffix}": value
            for suffix, direction in (("", ours.ahead), ("_reverse", ours.back))
            for layer, lstm in enumerate(direction)
            for name, value in ((key[:-3], value) for key, value in lstm.state_dict().items())
        }
    )
    lengths = torch.tensor([7, 5, 1])
    x = torch.randn(7, 3, 5, dtype=torch.float64)
    expected, _ = pad_packed_sequence(theirs(pack_padded_sequence(x, lengths))[0])
    mask = length_mask(lengths)
    torch.testing.assert_close(ours(x, mask)[mask], expected[mask])


@pytest.mark.parametrize("window", [1, 3, 4, 50])
@pytest.mark.parametrize("lengths", [[23, 23], [1, 1], [30, 4, 1], [8, 5]])
def test_windowed_attention_is_dense_attention_under_a_band(window: int, lengths: List[int]) -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(3, len(lengths), 2, max(lengths), 4, dtype=torch.float64)
    mask = length_mask(torch.tensor(lengths)).t()
    steps = torch.arange(max(lengths))
    band = (steps[:, None] - steps).abs() <= window
    expected = F.scaled_dot_product_attention(
        query, key, value, attn_mask=(band & mask[:, None, None, :]) | torch.eye(len(steps), dtype=torch.bool)
    )
    actual = windowed_attention(query, key, value, mask, window)
    assert torch.isfinite(actual).all()
    real = mask[:, None, :].expand(-1, 2, -1)
    torch.testing.assert_close(actual[real], expected[real])


@pytest.mark.parametrize("lstm_depth, attention_heads", [(1, 2), (0, 2), (1, 0), (0, 0)])
def test_each_stage_can_be_left_out(lstm_depth: int, attention_heads: int) -> None:
    torch.manual_seed(0)
    head = BiLSTMAttention(
        6, 5, lstm_width=8, lstm_depth=lstm_depth, attention_heads=attention_heads, attention_window=3
    )
    stages = {name.partition(".")[0] for name, _ in head.named_parameters()}
    expected = {"output"} | ({"lstm"} if lstm_depth else set()) | ({"attention"} if attention_heads else set())
    assert stages == expected
    x = torch.randn(9, 1, 6, requires_grad=True)
    mask = torch.ones(9, 1, dtype=torch.bool)
    head(x, mask)[0, 0].sum().backward()
    assert x.grad is not None
    reached = (x.grad != 0).any(dim=2).flatten().tolist()
    if lstm_depth:
        assert all(reached)
    else:
        assert reached == [i <= 3 * bool(attention_heads) for i in range(9)]


def test_output_keeps_full_precision_under_autocast() -> None:
    head = BiLSTMAttention(6, 5, lstm_width=8, lstm_depth=1, attention_heads=2, attention_window=3)
    # oneDNN has no LSTM in bfloat16 for every processor.
    with torch.backends.mkldnn.flags(enabled=False), torch.autocast("cpu", dtype=torch.bfloat16):
        emissions = head(torch.randn(4, 2, 6), torch.ones(4, 2, dtype=torch.bool))
    assert emissions.dtype == torch.float32


@pytest.mark.parametrize(
    "width, heads, window, message", [(10, 4, 8, "does not divide"), (8, 4, 0, "attention_window")]
)
def test_attention_refuses_what_does_not_fit(width: int, heads: int, window: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WindowedSelfAttention(width, heads, window)


def test_an_odd_lstm_width_is_refused() -> None:
    with pytest.raises(ValueError, match="lstm_width = 7 is odd"):
        BiLSTMAttention(6, 5, lstm_width=7, lstm_depth=1, attention_heads=0, attention_window=3)


def test_attention_has_a_residual() -> None:
    """With nothing attended to, LayerNorm of the input is left."""
    attention = WindowedSelfAttention(8, 2, 3)
    nn.init.zeros_(attention.merge.weight)
    nn.init.zeros_(attention.merge.bias)
    x = torch.randn(5, 2, 8)
    torch.testing.assert_close(attention(x, torch.ones(5, 2, dtype=torch.bool)), F.layer_norm(x, (8,)))
