"""An exported pipeline is the same pipeline: in memory, from the disk, in other threads and processes."""

import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Dict, List, cast

import numpy
import pytest
import spacy
import srsly
from spacy.language import Language
from spacy.training import Example

from spacy_crf_ner.deploy.exporting import change_graphs, export, graphs_of
from spacy_crf_ner.deploy.parity import compare, read
from spacy_crf_ner.deploy.quantization import layer_names, quantize
from spacy_crf_ner.saved_state import SavedStateError
from tests.encoder.test_token_pieces import sentencepiece
from tests.encoder.util import (
    HEAD,
    LISTENER,
    encoder_pipeline,
    save_encoder,
    save_tiny_bert,
    train,
    transformer_config,
)
from tests.util import SMALL_MODEL, TEXTS, at_random, ents, examples_from, get_pipe, overfitted

READ = [*(text for text, _ in TEXTS), "", " \n", "北京", "王小明在北京大学读书，" * 30, "hello １９９８"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("bert"), [text for text, _ in TEXTS])


def trained(nlp: Language) -> Language:
    train(nlp, 8)
    return nlp


def with_tagger(bert: Path) -> Language:
    """A pipe of spaCy that listens to the same encoder, and one that does not."""
    nlp = encoder_pipeline(bert, initialize=False)
    nlp.add_pipe("tagger", config={"model": {"@architectures": "spacy.Tagger.v2", "tok2vec": LISTENER}})
    nlp.add_pipe("textcat")
    examples = [
        Example.from_dict(
            nlp.make_doc(text),
            {
                "entities": [(text.index(m), text.index(m) + len(m), label) for m, label in mentions.items()],
                "tags": ["A" if i % 2 else "B" for i, _ in enumerate(nlp.make_doc(text))],
                "cats": {"X": float(i % 2), "Y": 1.0 - i % 2},
            },
        )
        for i, (text, mentions) in enumerate(TEXTS)
    ]
    nlp.initialize(lambda: examples)
    train(at_random(nlp), 12, examples)
    nlp.add_pipe("sentencizer", first=True)
    return nlp


def with_parser(bert: Path) -> Language:
    """Two recognizers and a parser that listen to an encoder of another name; vectors; a disabled pipe."""
    nlp = spacy.blank("zh")
    nlp.vocab.set_vector("北", cast(Any, numpy.ones(3, dtype="f")))
    encoder = {"@architectures": "spacy-crf-ner.Transformer.v1", "name": str(bert)}
    nlp.add_pipe("transformer", name="encoder", config={"model": encoder})
    listener = {**LISTENER, "upstream": "encoder"}
    nlp.add_pipe("crf_ner", config={"model": {**HEAD, "tok2vec": listener}})
    nlp.add_pipe("crf_ner", name="other", config={"model": {**SMALL_MODEL, "tok2vec": listener}})
    parser: Dict[str, Any] = {"@architectures": "spacy.TransitionBasedParser.v2", "state_type": "parser"}
    parser.update(tok2vec=listener, extra_state_tokens=False, hidden_width=8, maxout_pieces=2, use_upper=False)
    nlp.add_pipe("parser", config={"model": parser, "min_action_freq": 1})
    examples = []
    for text, mentions in TEXTS:
        n = len(nlp.make_doc(text))
        entities = [(text.index(m), text.index(m) + len(m), label) for m, label in mentions.items()]
        tree = {"heads": [max(i - 1, 0) for i in range(n)], "deps": ["ROOT", *["dep"] * (n - 1)]}
        examples.append(Example.from_dict(nlp.make_doc(text), {"entities": entities, **tree}))
    nlp.initialize(lambda: examples)
    train(at_random(nlp), 12, examples)
    ruler: Any = nlp.add_pipe("entity_ruler")
    ruler.add_patterns([{"label": "DAY", "pattern": "天"}])
    nlp.disable_pipe("entity_ruler")
    return nlp


def of_roberta(tmp_path: Path) -> Language:
    save_encoder(tmp_path / "roberta", "roberta")
    return encoder_pipeline(tmp_path / "roberta", split_tokens=True, window=20, averaged_layers=2)


def of_sentencepiece(tmp_path: Path) -> Language:
    save_encoder(tmp_path / "xlmr", "roberta")
    for path in (tmp_path / "xlmr").glob("*.json"):
        if "token" in path.name or path.name in ("vocab.json", "special_tokens_map.json"):
            path.unlink()
    for name in ("merges.txt", "vocab.txt"):
        (tmp_path / "xlmr" / name).unlink(missing_ok=True)
    tokenizer: Any = sentencepiece()
    tokenizer.save_pretrained(tmp_path / "xlmr")
    return encoder_pipeline(tmp_path / "xlmr")


def with_own_encoder(bert: Path) -> Language:
    nlp = encoder_pipeline(bert, head={**SMALL_MODEL, "tok2vec": LISTENER})
    nlp.replace_listeners("transformer", "crf_ner", ["model.tok2vec"])
    nlp.remove_pipe("transformer")
    return nlp


PIPELINES: Dict[str, Callable[[Path, Path], Language]] = {
    "characters": lambda bert, path: overfitted(),
    "characters, no attention": lambda bert, path: overfitted({**SMALL_MODEL, "attention_heads": 0}),
    "listener": lambda bert, path: trained(encoder_pipeline(bert)),
    "listener and LSTM": lambda bert, path: trained(
        encoder_pipeline(bert, head={**SMALL_MODEL, "tok2vec": LISTENER}, window=16)
    ),
    "LoRA": lambda bert, path: trained(
        encoder_pipeline(bert, lora={"@misc": "spacy-crf-ner.LoRA.v1", "rank": 2, "alpha": 4.0})
    ),
    "an encoder of its own": lambda bert, path: with_own_encoder(bert),
    "byte-level, cut, two layers": lambda bert, path: of_roberta(path),
    "SentencePiece": lambda bert, path: of_sentencepiece(path),
    "another listener": lambda bert, path: with_tagger(bert),
    "several listeners": lambda bert, path: with_parser(bert),
}


@pytest.mark.parametrize("make", PIPELINES.values(), ids=PIPELINES)
def test_an_exported_pipeline_says_the_same(
    make: Callable[[Path, Path], Language], bert: Path, tmp_path: Path
) -> None:
    nlp = make(bert, tmp_path)
    expected = read(nlp, "crf_ner", examples_from(nlp))
    docs = list(nlp.pipe(READ))
    exported = export(nlp)
    exported.to_disk(tmp_path / "exported")
    for ours in (exported, spacy.load(tmp_path / "exported"), pickle.loads(pickle.dumps(exported))):
        parity = compare(expected, read(ours, "crf_ner", examples_from(ours)))
        assert parity.is_exact and parity.n_docs == len(TEXTS)
        for theirs, doc in zip(docs, ours.pipe(READ), strict=True):
            assert doc.to_json() == theirs.to_json()
    assert any(doc.ents for doc in docs)
    # All that was there is, and nothing of torch.
    assert exported.pipe_names == nlp.pipe_names and exported.disabled == nlp.disabled
    assert exported.vocab.vectors.to_bytes() == nlp.vocab.vectors.to_bytes()
    assert not [node.name for _, pipe in exported.pipeline for node in nodes_of(pipe) if node.name == "crf_head"]
    bytes_loaded = spacy.blank("zh").from_config(exported.config).from_bytes(exported.to_bytes())
    assert [doc.to_json() for doc in bytes_loaded.pipe(READ)] == [doc.to_json() for doc in docs]


def nodes_of(pipe: Any) -> List[Any]:
    return list(pipe.model.walk()) if hasattr(pipe, "model") else []


def test_scores_alternatives_and_phrases_are_the_same() -> None:
    nlp = overfitted()
    pipe = get_pipe(nlp, "crf_ner")
    pipe.temperature = 2.0
    pipe.gazetteer.add("LOC", [nlp.make_doc("北京大学")])
    exported = export(nlp)
    ours = get_pipe(exported, "crf_ner")
    ours.save_scores = pipe.save_scores = True
    for (text, _), (theirs, found) in zip(
        TEXTS, zip(nlp.pipe(t for t, _ in TEXTS), exported.pipe(t for t, _ in TEXTS)), strict=True
    ):
        assert [(e.text, e.label_) for e in theirs.ents] == [(e.text, e.label_) for e in found.ents], text
        numpy.testing.assert_allclose(
            theirs.spans["crf_ner"].attrs["scores"], found.spans["crf_ner"].attrs["scores"], atol=1e-4
        )
    docs = [exported.make_doc(text) for text, _ in TEXTS]
    for best, expected in zip(ours.predict_kbest(docs, 3), pipe.predict_kbest(docs, 3), strict=True):
        assert [[(e.text, e.label_) for e in h.entities] for h in best] == [
            [(e.text, e.label_) for e in h.entities] for h in expected
        ]
    assert ours.temperature == 2.0


def test_threads_and_processes_say_the_same(bert: Path, tmp_path: Path) -> None:
    """Sessions are made in the process that needs them: here there is one already before it forks."""
    nlp = export(trained(encoder_pipeline(bert)))
    texts = [text for text, _ in TEXTS] * 8
    expected = [doc.to_json() for doc in nlp.pipe(texts)]
    assert [doc.to_json() for doc in nlp.pipe(texts, n_process=2, batch_size=5)] == expected
    with ThreadPoolExecutor(4) as pool:
        assert [doc.to_json() for doc in pool.map(nlp, texts)] == expected


def test_spawned_processes_say_the_same(tmp_path: Path) -> None:
    """They get the pipeline by pickling; nothing is imported yet."""
    nlp = export(overfitted())
    nlp.to_disk(tmp_path / "model")
    code = (
        "import multiprocessing, json, sys, spacy\n"
        "if __name__ == '__main__':\n"
        "    multiprocessing.set_start_method('spawn')\n"
        "    nlp, texts = spacy.load(sys.argv[1]), json.load(sys.stdin)\n"
        "    docs = nlp.pipe(texts, n_process=2, batch_size=2)\n"
        "    print(json.dumps([[[ent.text, ent.label_] for ent in doc.ents] for doc in docs]))\n"
    )
    (tmp_path / "spawn.py").write_text(code, encoding="utf8")
    done = subprocess.run(
        [sys.executable, tmp_path / "spawn.py", tmp_path / "model"],
        input=srsly.json_dumps(READ),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found = [[tuple(ent) for ent in doc] for doc in srsly.json_loads(done.stdout)]
    assert found == [ents(doc) for doc in nlp.pipe(READ)] and any(found)


def test_it_does_not_learn() -> None:
    nlp = export(overfitted())
    for act in (
        lambda: nlp.update(examples_from(nlp), sgd=nlp.create_optimizer()),
        lambda: nlp.initialize(lambda: examples_from(nlp)),
        lambda: get_pipe(nlp, "crf_ner").add_label("NEW"),
    ):
        with pytest.raises(ValueError, match="was exported and does not learn; train the pipeline that it was"):
            act()


def other_transformer(bert: Path) -> Language:
    nlp = spacy.blank("zh")
    nlp.add_pipe("transformer", config=transformer_config(bert))
    nlp.add_pipe("crf_ner", config={"model": HEAD})
    examples = examples_from(nlp)
    nlp.initialize(lambda: examples)
    return nlp


def two_poolings(bert: Path) -> Language:
    nlp = encoder_pipeline(bert, initialize=False)
    listener = {**LISTENER, "pooling": {"@layers": "reduce_max.v1"}}
    nlp.add_pipe("crf_ner", name="other", config={"model": {**HEAD, "tok2vec": listener}})
    examples = examples_from(nlp)
    nlp.initialize(lambda: examples)
    return nlp


REFUSED: Dict[str, Any] = {
    "exported already": (lambda bert: export(overfitted()), "component 'crf_ner' is exported already; give the"),
    "another transformer": (
        other_transformer,
        "component 'transformer' is of 'spacy-transformers.T…', which cannot",
    ),
    "two poolings": (two_poolings, "listen to 'transformer' pool its word-pieces in different ways"),
    "not loaded": (
        lambda bert: encoder_pipeline(bert, initialize=False),
        "component 'transformer' is not trained",
    ),
}


@pytest.mark.parametrize("make, said", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_exported_is_refused(make: Callable[[Path], Language], said: str, bert: Path) -> None:
    with pytest.raises(ValueError, match=said):
        export(make(bert))


def test_an_old_opset_is_refused() -> None:
    with pytest.raises(ValueError, match="opset must be 18 or more, got 17"):
        export(overfitted(), opset=17)


def damaged(path: Path, change: Callable[[Dict[str, Any]], None]) -> None:
    model = srsly.msgpack_loads(path.read_bytes())
    (place,) = [i for i, shims in enumerate(model["shims"]) if shims]
    saved = srsly.msgpack_loads(model["shims"][place][0])
    change(saved)
    model["shims"][place][0] = srsly.msgpack_dumps(saved)
    path.write_bytes(srsly.msgpack_dumps(model))


def flip(saved: Dict[str, Any]) -> None:
    data = bytearray(saved["graphs"]["output"])
    data[-20] ^= 1
    saved["graphs"]["output"] = bytes(data)


DAMAGES: Dict[str, Any] = {
    "one bit": (flip, "is not the one that was exported: its checksum differs; fetch"),
    "no checksum": (lambda saved: saved.pop("sha256"), "is not one of `crf export`; fetch"),
    "no bytes": (lambda saved: saved.update(graphs={"output": 3}), "the saved graph is damaged; fetch"),
}


@pytest.mark.parametrize("change, said", DAMAGES.values(), ids=DAMAGES)
def test_a_changed_graph_is_refused(change: Any, said: str, tmp_path: Path) -> None:
    export(overfitted()).to_disk(tmp_path)
    damaged(tmp_path / "crf_ner" / "model", change)
    with pytest.raises(SavedStateError, match=said):
        spacy.load(tmp_path)


def test_a_graph_that_the_runtime_does_not_know_is_refused() -> None:
    def newer(data: bytes) -> bytes:
        import onnx

        model = onnx.load_from_string(data)
        model.opset_import[0].version = 99
        return model.SerializeToString()

    nlp = export(overfitted())
    change_graphs(nlp, newer)
    with pytest.raises(
        SavedStateError, match=r"onnxruntime .* does not run the saved graph .*; install a newer one"
    ):
        nlp("北京")


def test_integers_are_smaller_and_nearly_the_same(bert: Path, tmp_path: Path) -> None:
    nlp = trained(encoder_pipeline(bert, head={**SMALL_MODEL, "tok2vec": LISTENER}))
    theirs = read(nlp, "crf_ner", examples_from(nlp))
    exported = export(nlp)
    before = graphs_of(exported)
    layers = [name for graph in before for name in layer_names(graph)]
    assert any("encoder.layer.0.attention.self.query/" in name for name in layers)
    change_graphs(exported, quantize)
    after = graphs_of(exported)
    assert all(layer_names(graph) == [] for graph in after)
    exported.to_disk(tmp_path)
    parity = compare(theirs, read(spacy.load(tmp_path), "crf_ner", examples_from(nlp)))
    assert 0.0 < parity.difference < 1.0


def test_layers_may_be_left_as_they_are(bert: Path) -> None:
    exported = export(encoder_pipeline(bert))
    change_graphs(exported, lambda graph: quantize(graph, keep=[r"self\.query/", "^output"]))
    kept = [name for graph in graphs_of(exported) for name in layer_names(graph)]
    assert kept and all("self.query/" in name or name.startswith("output") for name in kept)
