"""docs/model_card.py and its template, the README of a packaged pipeline."""

import json
import re
from pathlib import Path
from typing import Any, Dict

from tests.pages import ROOT, load_script

META: Dict[str, Any] = {
    "lang": "en",
    "name": "names",
    "version": "1.2.3",
    "spacy_version": ">=3.8",
    "labels": {"crf_ner": ["LOC", "PER"], "sentencizer": []},
    "pipeline": ["sentencizer", "crf_ner"],
}
SCORES: Dict[str, Any] = {
    "counts": {"docs": 12, "gold": 34},
    "ents_p": 0.5,
    "ents_r": 0.25,
    "ents_f": 0.333333,
    "ents_per_type": {"PER": {"p": 0.5, "r": 0.25, "f": 0.333333}},
}


def test_the_model_card_is_filled(tmp_path: Path) -> None:
    model_card = load_script(ROOT / "docs" / "model_card.py").model_card
    (tmp_path / "meta.json").write_text(json.dumps(META), encoding="utf8")
    (tmp_path / "scores.json").write_text(json.dumps(SCORES), encoding="utf8")
    (tmp_path / "more.json").write_text('{"author": "Ann Lee", "license": "MIT"}', encoding="utf8")
    card = model_card(tmp_path, tmp_path / "more.json", tmp_path / "scores.json")
    assert card.startswith("---\ntags:\n- spacy\n")
    assert "# en_names 1.2.3" in card
    assert "- `crf_ner`: `LOC`, `PER`\n\n## Results" in card
    assert "`sentencizer`, `crf_ner`." in card
    assert "On 12 docs with 34 entities (`scores.json`)" in card
    assert "| `PER` | 0.500 | 0.250 | 0.333 |\n| all | 0.500 | 0.250 | 0.333 |" in card
    assert "license: mit" in card and card.endswith("## Author\n\nAnn Lee\n")


def test_the_model_card_says_what_is_not_known(tmp_path: Path) -> None:
    model_card = load_script(ROOT / "docs" / "model_card.py").model_card
    (tmp_path / "meta.json").write_text(json.dumps(META), encoding="utf8")
    card = model_card(tmp_path)
    assert "license: unknown" in card and "Not measured." in card and "## Author" not in card
    assert re.findall(r"^([A-Z]+):", card, flags=re.MULTILINE) == ["DESCRIPTION", "SOURCES", "LIMITS"]
