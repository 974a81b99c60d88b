"""`python -m spacy crf COMMAND`: one module a command. Importing this package registers them all."""

from spacy_crf_ner.cli import (  # noqa: F401
    calibrate,
    check,
    convert,
    distill,
    evaluate,
    export,
    init_config,
    init_vectors,
    merge_lora,
    render,
    serve,
    split,
    train,
)
from spacy_crf_ner.cli._app import app

__all__ = ["app"]
