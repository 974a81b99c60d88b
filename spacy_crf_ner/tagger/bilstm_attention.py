"""BiLSTM -> windowed multi-head self-attention -> dropout -> Linear: token vectors to emissions.

Huang, Xu, Yu (2015), "Bidirectional LSTM-CRF models for sequence tagging"; the attention is scaled dot-product
attention with a residual and LayerNorm (Vaswani et al. 2017, eq. 1 and section 3.1), limited to a window as in
Beltagy, Peters, Cohan (2020), "Longformer", section 3.1, so that its cost grows linearly with the text.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

QUERIES_AT_A_TIME = 8192
"""How many queries of long sequences compute their scores together, which bounds the memory beside the tape."""


def reverse_by_length(padded: Tensor, mask: Tensor) -> Tensor:
    """Reverse each sequence within its own length; its own inverse.

    padded (Tensor): *Shape:* (seq_length, batch_size, width).
    mask (Tensor): *Shape:* (seq_length, batch_size), bool.
    RETURNS (Tensor): *Shape:* that of `padded`; padding stays where it is.
    """
    steps = torch.arange(padded.shape[0], device=padded.device).unsqueeze(1)
    # shape: (seq_length, batch_size)
    source = torch.where(mask, mask.sum(dim=0) - 1 - steps, steps)
    return padded.gather(0, source.unsqueeze(2).expand_as(padded))


class BiLSTM(nn.Module):
    """Stacked bidirectional LSTM over padded sequences, equal to the packed form of `torch.nn.LSTM`.

    Each layer is two one-directional LSTMs, the second over the reversed sequences: padding lies behind both,
    so neither sees it before it has read the whole sequence.

    width (int): Width of the input.
    hidden (int): Width of each direction; the output has twice that.
    depth (int): Number of layers; dropout is between two of them.
    """

    def __init__(self, width: int, hidden: int, depth: int) -> None:
        super().__init__()
        self.hidden = hidden
        widths = [width] + [2 * hidden] * (depth - 1)
        self.ahead = nn.ModuleList(nn.LSTM(n, hidden) for n in widths)
        self.back = nn.ModuleList(nn.LSTM(n, hidden) for n in widths)
        self.dropout = nn.Dropout(0.0)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x: (seq_length, batch_size, width); mask: (seq_length, batch_size), bool.

        RETURNS (Tensor): *Shape:* (seq_length, batch_size, 2 * hidden); values at padding are arbitrary.
        """
        for i, (ahead, back) in enumerate(zip(self.ahead, self.back)):
            if i:
                x = self.dropout(x)
            backward, _ = back(reverse_by_length(x, mask))
            x = torch.cat((ahead(x)[0], reverse_by_length(backward, mask)), dim=2)
        return x


def windowed_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, window: int) -> Tensor:
    """Scaled dot-product attention of each token to those at most `window` away.

    A sequence longer than the window is cut into blocks of `window` queries, each against the three blocks of
    keys around it: exact, and linear in time and memory.

    query, key, value (Tensor): *Shape:* (batch_size, heads, seq_length, width).
    mask (Tensor): *Shape:* (batch_size, seq_length), bool.
    window (int): Tokens to either side, at least 1.
    RETURNS (Tensor): *Shape:* (batch_size, heads, seq_length, width); values at padding are arbitrary.
    """
    length = query.shape[2]
    if length <= window + 1:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None, :])
    tail = -length % window
    # shape: (batch_size, heads, blocks, window, width)
    query = F.pad(query, (0, 0, 0, tail)).unflatten(2, (-1, window))
    # shape: (batch_size, heads, blocks, 3 * window, width)
    key, value = (
        F.pad(x, (0, 0, window, tail + window)).unfold(2, 3 * window, window).transpose(3, 4) for x in (key, value)
    )
    # shape: (batch_size, 1, blocks, 1, 3 * window)
    real = F.pad(mask, (window, tail + window)).unfold(1, 3 * window, window)[:, None, :, None, :]
    distance = (
        torch.arange(3 * window, device=mask.device)
        - torch.arange(window, 2 * window, device=mask.device).unsqueeze(1)
    ).abs()
    # A query in the padding may have no real key: it attends to itself, so that its softmax is not 0 / 0.
    near = ((distance <= window) & real) | (distance == 0)
    # Some blocks at a time, because each holds `window` rows of scores.
    blocks = max(1, QUERIES_AT_A_TIME // (len(mask) * window))
    parts = zip(*(x.split(blocks, dim=2) for x in (query, key, value, near)))
    attended = [F.scaled_dot_product_attention(q, k, v, attn_mask=allowed) for q, k, v, allowed in parts]
    return torch.cat(attended, dim=2).flatten(2, 3)[:, :, :length]


class WindowedSelfAttention(nn.Module):
    """Multi-head self-attention over a bounded window, with residual and LayerNorm.

    width (int): Width of input and output.
    heads (int): Number of heads; must divide the width.
    window (int): Tokens to either side that a token attends to, at least 1.
    RAISES (ValueError): The heads do not divide the width, or the window is below 1.
    """

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"attention_heads = {heads} does not divide the width {width} of its input")
        if window < 1:
            raise ValueError(f"attention_window = {window}, but at least 1 is needed")
        self.heads = heads
        self.window = window
        self.project = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x: (seq_length, batch_size, width); mask: (seq_length, batch_size), bool. RETURNS: shape of x."""
        length, batch_size, width = x.shape
        # shape: 3 times (batch_size, heads, seq_length, width / heads)
        query, key, value = self.project(x).view(length, batch_size, 3, self.heads, -1).permute(2, 1, 3, 0, 4)
        attended = windowed_attention(query, key, value, mask.t(), self.window)
        # shape: (seq_length, batch_size, width)
        merged = self.merge(attended.permute(2, 0, 1, 3).reshape(length, batch_size, width))
        return self.norm(x + merged)


class BiLSTMAttention(nn.Module):
    """BiLSTM -> self-attention -> dropout -> Linear. Each of the first two stages can be left out.

    width (int): Width of the token vectors.
    num_tags (int): Number of tags.
    lstm_width (int): Width of the BiLSTM's output, both directions together; must be even.
    lstm_depth (int): Layers of the BiLSTM; 0 leaves it out.
    attention_heads (int): Heads of the attention; 0 leaves it out.
    attention_window (int): Tokens to either side that a token attends to.
    RAISES (ValueError): `lstm_width` is odd, or the attention's arguments do not fit.
    """

    def __init__(
        self,
        width: int,
        num_tags: int,
        *,
        lstm_width: int,
        lstm_depth: int,
        attention_heads: int,
        attention_window: int,
    ) -> None:
        super().__init__()
        self.lstm = self.attention = None
        if lstm_depth:
            if lstm_width % 2:
                raise ValueError(f"lstm_width = {lstm_width} is odd, but each direction takes half of it")
            self.lstm = BiLSTM(width, lstm_width // 2, lstm_depth)
            width = lstm_width
        if attention_heads:
            self.attention = WindowedSelfAttention(width, attention_heads, attention_window)
        self.dropout = nn.Dropout(0.0)
        self.output = nn.Linear(width, num_tags)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x: (seq_length, batch_size, width), float; mask: (seq_length, batch_size), bool.

        RETURNS (Tensor): Emissions, *shape:* (seq_length, batch_size, num_tags), float32 (float64 for float64
            input) under autocast too; values at padding are arbitrary.
        """
        if self.lstm is not None:
            x = self.lstm(x, mask)
        if self.attention is not None:
            x = self.attention(x, mask)
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(self.output.weight.dtype)
            return self.output(self.dropout(x))
