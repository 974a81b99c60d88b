"""Pipelines that earlier versions saved load, and find what they found.

Those in `saved` were written before the modules moved to the folders that they are in now. Both are tiny. One has
a character embedding, a gazetteer, a temperature and a label that was added after training; the other has an
encoder that LoRA adapts. Beside each is what it found then.
"""

import json
from pathlib import Path
from typing import Any, List

import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc

from tests.util import get_pipe

SAVED = Path(__file__).parent / "saved"
TOLERANCE = 1e-4
"""Of a probability: the head computes in float32, in another order on another processor."""


def before_crf_ner(nlp: Language, text: str) -> Doc:
    doc = nlp.make_doc(text)
    for name, pipe in nlp.pipeline:
        doc = doc if name == "crf_ner" else pipe(doc)
    return doc


def offsets(spans: Any) -> List[List[Any]]:
    return [[span.start_char, span.end_char, span.label_] for span in spans]


@pytest.mark.parametrize("name", ["char_embed", "lora"])
def test_pipeline_of_an_earlier_version_finds_the_same_entities_with_the_same_scores(name: str) -> None:
    nlp = spacy.load(SAVED / name)
    pipe = get_pipe(nlp, "crf_ner")
    for expected in json.loads((SAVED / f"{name}.json").read_text(encoding="utf8")):
        text = expected["text"]
        assert offsets(nlp(text).ents) == expected["set"]
        (found,) = pipe.predict_scores([before_crf_ner(nlp, text)])
        assert offsets(span for span, _ in found) == [entity[:3] for entity in expected["ents"]]
        assert [score for _, score in found] == pytest.approx([e[3] for e in expected["ents"]], abs=TOLERANCE)
        (best,) = pipe.predict_kbest([before_crf_ner(nlp, text)], len(expected["kbest"]))
        assert [offsets(reading.entities) for reading in best] == [entities for _, entities in expected["kbest"]]
        shares = [share for share, _ in expected["kbest"]]
        assert [reading.probability for reading in best] == pytest.approx(shares, abs=TOLERANCE)
