"""The linear-chain CRF: importable and testable without spaCy and Thinc.

Padded tensors are time-major, ``(seq_length, batch_size, ...)``, as in `torchcrf` and `torch.nn.LSTM`;
masks are bool, True on real positions, and always left-aligned.
"""
