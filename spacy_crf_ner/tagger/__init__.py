"""Docs to potentials: the character embedding, the head, and the architecture that joins them."""
