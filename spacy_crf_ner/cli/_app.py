"""The Typer app behind `python -m spacy crf`."""

from spacy.cli._util import app as spacy_app
from typer import Typer

from spacy_crf_ner.cli._errors import OneLineErrors

app = Typer(name="crf", cls=OneLineErrors, help="Convert, check, evaluate and show NER data", no_args_is_help=True)
spacy_app.add_typer(app)
