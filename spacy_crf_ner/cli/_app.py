"""The Typer app behind `python -m spacy crf`."""

from spacy.cli._util import app as spacy_app
from typer import Typer

app = Typer(name="crf", help="Convert, check, evaluate and show NER data", no_args_is_help=True)
spacy_app.add_typer(app)
