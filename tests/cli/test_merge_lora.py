"""`python -m spacy crf merge-lora` by its real command line, on a pipeline with trained adapters."""

import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import numpy
import spacy
import torch
from spacy.language import Language

from tests.encoder.util import LISTENER, save_tiny_bert
from tests.util import NO_STEP, SMALL_MODEL, TEXTS, examples_from, get_pipe, optimizer
from tests.warm_python import WarmPython

LORA: Dict[str, Any] = {"@misc": "spacy-crf-ner.LoRA.v1", "rank": 4, "targets": ["query", "output.dense"]}


def adapted(encoder: Path, save_mode: str) -> Language:
    """A pipeline whose adapters have been trained a little."""
    nlp = spacy.blank("zh")
    config = {"@architectures": "spacy-crf-ner.Transformer.v1", "name": str(encoder), "lora": LORA}
    nlp.add_pipe("transformer", config={"model": {**config, "save_mode": save_mode}})
    nlp.add_pipe("crf_ner", config={"model": {**SMALL_MODEL, "tok2vec": LISTENER}})
    examples = examples_from(nlp)
    sgd = nlp.initialize(lambda: examples, sgd=optimizer())
    for _ in range(5):
        nlp.update(examples, sgd=NO_STEP)
        for name in nlp.pipe_names:
            get_pipe(nlp, name).finish_update(sgd)
    return nlp


def vectors(nlp: Language) -> List[numpy.ndarray]:
    return [doc._.trf_data.model_output.last_hidden_state for doc in nlp.pipe([text for text, _ in TEXTS])]


def test_the_merged_pipeline_computes_the_same_without_peft_and_without_the_base(
    tmp_path: Path, shell: WarmPython
) -> None:
    before = {}
    for save_mode in ("full", "adapter"):
        folder = tmp_path / save_mode
        encoder = save_tiny_bert(folder / "encoder", [text for text, _ in TEXTS])
        nlp = adapted(encoder, save_mode)
        plain = get_pipe(nlp, "transformer").model.transformer.get_submodule(
            "encoder.layer.0.attention.self.query"
        )
        assert plain.lora_B["default"].weight.abs().max() > 1e-3  # the adapters do something
        before[save_mode] = numpy.concatenate(vectors(nlp), axis=1)
        nlp.to_disk(folder / "model")
        done = shell.spacy("crf", "merge-lora", folder / "model", folder / "merged")
        assert done.returncode == 0, done.stderr
        encoder.rename(folder / "gone")
    # A process in which peft cannot be imported.
    check = f"""
import sys
sys.modules["peft"] = None
import numpy, spacy
for folder in {[str(tmp_path / save_mode) for save_mode in before]!r}:
    nlp = spacy.load(folder + "/merged")
    model = nlp.config["components"]["transformer"]["model"]
    assert model["lora"] is None and model["save_mode"] == "full", model
    docs = nlp.pipe({[text for text, _ in TEXTS]!r})
    after = [doc._.trf_data.model_output.last_hidden_state for doc in docs]
    numpy.save(folder + "/after.npy", numpy.concatenate(after, axis=1))
    names = nlp.get_pipe("transformer").model.transformer.state_dict()
    assert not [name for name in names if "lora" in name or "base_layer" in name], names.keys()
"""
    checked = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    for save_mode, expected in before.items():
        numpy.testing.assert_allclose(numpy.load(tmp_path / save_mode / "after.npy"), expected, atol=1e-5)


def test_the_original_is_left_as_it_is(tmp_path: Path, shell: WarmPython) -> None:
    encoder = save_tiny_bert(tmp_path / "encoder", [text for text, _ in TEXTS])
    nlp = adapted(encoder, "full")
    nlp.to_disk(tmp_path / "model")
    content = (tmp_path / "model/transformer/model").read_bytes()
    assert shell.spacy("crf", "merge-lora", tmp_path / "model", tmp_path / "merged").returncode == 0
    assert (tmp_path / "model/transformer/model").read_bytes() == content
    again = spacy.load(tmp_path / "model")
    assert all(numpy.array_equal(a, b) for a, b in zip(vectors(nlp), vectors(again)))


def test_an_encoder_of_the_components_own_is_merged_too(tmp_path: Path, shell: WarmPython) -> None:
    nlp = adapted(save_tiny_bert(tmp_path / "encoder", [text for text, _ in TEXTS]), "full")
    nlp.replace_listeners("transformer", "crf_ner", ["model.tok2vec"])
    nlp.remove_pipe("transformer")
    before = [get_pipe(nlp, "crf_ner").predict([nlp.make_doc(text)]).by_doc()[0] for text, _ in TEXTS]
    nlp.to_disk(tmp_path / "model")
    assert shell.spacy("crf", "merge-lora", tmp_path / "model", tmp_path / "merged").returncode == 0
    merged = spacy.load(tmp_path / "merged")
    after = [get_pipe(merged, "crf_ner").predict([merged.make_doc(text)]).by_doc()[0] for text, _ in TEXTS]
    for a, b in zip(before, after):
        torch.testing.assert_close(torch.from_numpy(a), torch.from_numpy(b), rtol=0, atol=1e-5)
    assert "lora" not in str(get_pipe(merged, "crf_ner").model.get_ref("tok2vec").layers[0].layers[0].transformer)


def test_what_cannot_be_merged_is_refused_in_one_line(tmp_path: Path, shell: WarmPython) -> None:
    plain = spacy.blank("zh")
    plain.add_pipe("sentencizer")
    plain.to_disk(tmp_path / "plain")
    done = shell.spacy("crf", "merge-lora", tmp_path / "plain", tmp_path / "merged")
    assert done.returncode == 1
    assert "has no LoRA adapters in ['sentencizer']" in done.stderr
    assert not (tmp_path / "merged").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("mine")
    done = shell.spacy("crf", "merge-lora", tmp_path / "plain", tmp_path / "full")
    assert done.returncode == 1
    assert "is not empty" in done.stderr
