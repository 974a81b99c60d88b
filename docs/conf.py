"""Sphinx's settings: `sphinx-build -W -b html docs docs/_build`."""

import sys
from pathlib import Path
from typing import List

from sphinx.application import Sphinx

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

project = "spacy-crf-ner"
author = "The spacy-crf-ner authors"
copyright = f"2026, {author}"
language = "en"

extensions = ["myst_parser", "option_tables"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
smartquotes = False
exclude_patterns = ["_build", "model_card.md"]
highlight_language = "text"

html_theme = "furo"
html_title = "spacy-crf-ner"
html_static_path = ["_static"]
html_css_files = ["custom.css"]


def without_broken_links(app: Sphinx, page: str, source: List[str]) -> None:
    """What `spacy project document` writes links files beside project.yml, which are not part of the pages."""
    if page == "project":
        source[0] = source[0].replace("[`project.yml`](project.yml)", "`project.yml`")


def setup(app: Sphinx) -> None:
    app.connect("source-read", without_broken_links)
