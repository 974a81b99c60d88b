"""Thinc models: the registered architectures and what flows between them and the component."""
