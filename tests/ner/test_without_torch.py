"""What predicts once the potentials are there needs no torch: a runtime may compute them by other means."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict

from tests.warm_python import WarmPython

DECODE = """
import json, sys
if len(sys.argv) > 1:
    # An import of torch fails, and spacy-transformers, which imports it, is not found.
    sys.modules["torch"] = None
    import importlib.metadata as metadata
    distributions = metadata.distributions
    there = lambda **more: (d for d in distributions(**more) if d.metadata["Name"] != "spacy-transformers")
    metadata.distributions = there
import numpy, spacy
from thinc.types import Ragged
from spacy_crf_ner.crf.chain import FORBIDDEN
from spacy_crf_ner.labels import BioTags
from spacy_crf_ner.ner.component import CRFEntityRecognizer
from spacy_crf_ner.ner.decoding import Decoding
from spacy_crf_ner.ner.gazetteer import Gazetteer
from spacy_crf_ner.tagger.potentials import Potentials

nlp = spacy.blank("zh")
docs = [nlp("王志远在　安和见了林业部的人。"), nlp("今天天气好。")]
labels = ["LOC", "ORG", "PER"]
gazetteer = Gazetteer(nlp.vocab)
gazetteer.add("LOC", [nlp.make_doc("安和")])
gazetteer.add("PER", [nlp.make_doc("王志远")], rule="soft", weight=3.0)
gazetteer.add(None, [nlp.make_doc("今天")], rule="never")
rng = numpy.random.default_rng(0)
bio = BioTags(len(labels))
lengths = numpy.array([len(doc) for doc in docs])
emissions = rng.normal(size=(lengths.sum(), bio.size)).astype("f")
start = numpy.where(bio.legal_starts, 0.0, FORBIDDEN).astype("f")
transitions = numpy.where(bio.legal_transitions, 0.5, FORBIDDEN).astype("f")
potentials = Potentials(Ragged(emissions, lengths), start, transitions, numpy.zeros(bio.size, dtype="f"))
decoding = Decoding(docs, potentials, labels=labels, inactive_labels=["ORG"], gazetteer=gazetteer, temperature=1.5)
spans = lambda found: [(span.start, span.end, span.label_) for span in found]
print(json.dumps({
    "entities": [spans(found) for found in decoding.entities()],
    "scores": [[round(score, 9) for _, score in found] for found in decoding.scored_entities()],
    "best": [[(spans(e), round(p, 9)) for e, p in found] for found in decoding.k_best(3)],
    "torch": sys.modules.get("torch") is not None,
}))
"""


def run(folder: Path, python: str, *arguments: str) -> Dict[str, Any]:
    (folder / "decode.py").write_text(DECODE, encoding="utf8")
    command = [python, str(folder / "decode.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf8")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_decoding_says_the_same_where_torch_cannot_be_imported(tmp_path: Path, shell: WarmPython) -> None:
    without, with_torch = run(tmp_path, sys.executable, "without"), run(tmp_path, shell.python)
    assert (without.pop("torch"), with_torch.pop("torch")) == (False, True)
    assert without == with_torch
    assert any(without["entities"])
