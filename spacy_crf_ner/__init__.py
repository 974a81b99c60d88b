"""Named-entity recognition for spaCy with an exact CRF over any tok2vec."""

from importlib.metadata import version

__version__ = version("spacy-crf-ner")
