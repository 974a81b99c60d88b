"""Docs to word-piece vectors: a pretrained encoder over windows, with LoRA and freezing."""
