"""docs/universe.json, the entry for the spaCy Universe."""

import json
import re
from pathlib import Path
from typing import Any, Dict

import pytest

from tests.pages import ROOT
from tests.warm_python import WarmPython

CATEGORIES = [
    *("pipeline", "training", "conversational", "research", "scientific", "visualizers", "apis", "nonpython"),
    *("standalone", "models", "books", "courses", "videos", "podcasts"),
]
"""Those of spaCy's website/meta/universe.json."""

FIELDS: Dict[str, type] = {
    "id": str,
    "title": str,
    "slogan": str,
    "description": str,
    "github": str,
    "pip": str,
    "code_example": list,
    "code_language": str,
    "author": str,
    "author_links": dict,
    "category": list,
    "tags": list,
}
"""Those of spaCy's website/UNIVERSE.md that a project has."""


def universe() -> Dict[str, Any]:
    return dict(json.loads((ROOT / "docs" / "universe.json").read_text(encoding="utf8")))


def test_the_entry_has_the_fields_of_a_project() -> None:
    entry = universe()
    assert {name: type(entry[name]) for name in FIELDS} == FIELDS
    assert {*entry} <= {*FIELDS, "url", "thumb", "image"}
    assert re.fullmatch(r"[\w.-]+/spacy-crf-ner", entry["github"])
    assert {*entry["author_links"]} <= {"twitter", "github", "website"}
    for name in ("code_example", "category", "tags"):
        assert entry[name] and all(isinstance(item, str) for item in entry[name])
    assert {*entry["category"]} <= {*CATEGORIES}
    assert not [line for line in entry["code_example"] if "\n" in line]


@pytest.mark.slow
def test_the_code_example_runs(tmp_path: Path, shell: WarmPython) -> None:
    (tmp_path / "example.py").write_text("\n".join(universe()["code_example"]), encoding="utf8")
    status, printed = shell.run("python example.py", tmp_path)
    assert status == 0, printed
    assert printed.splitlines()[-1] == "[('Ann Lee', 'PER'), ('New York', 'LOC')]"
