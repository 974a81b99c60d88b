"""A saved `crf_ner` that is damaged, or whose parts do not fit: one clear error from disk and from bytes."""

import json
import shutil
from pathlib import Path
from typing import Any, Callable, Dict

import pytest
import spacy
import srsly
from spacy.language import Language
from thinc.api import Config

from tests.util import SMALL_MODEL, TEXTS, ents, get_pipe, overfitted

Files = Dict[str, bytes]


@pytest.fixture(scope="module")
def trained() -> Language:
    return overfitted(steps=2)


def files_of(nlp: Language, folder: Path) -> Files:
    get_pipe(nlp, "crf_ner").to_disk(folder)
    return {name: (folder / name).read_bytes() for name in ("cfg", "model", "gazetteer")}


def assert_refused(nlp: Language, files: Files, folder: Path, said: str) -> None:
    """Both from disk and from bytes, with nothing changed but for the model's own weights."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    parts = {name: files[name] for name in ("cfg", "model") if name in files}
    if "cfg" in parts:
        parts["cfg"] = parts["cfg"].decode("utf8", "replace")  # type: ignore[assignment]
    data = srsly.msgpack_dumps(
        {"pipe": srsly.msgpack_dumps(parts), **({"gazetteer": files["gazetteer"]} if "gazetteer" in files else {})}
    )
    for load in (lambda pipe: pipe.from_disk(folder, exclude=["vocab"]), lambda pipe: pipe.from_bytes(data)):
        pipe = get_pipe(nlp, "crf_ner")
        other: Any = nlp.create_pipe("crf_ner", config={"model": nlp.get_pipe_config("crf_ner")["model"]})
        with pytest.raises((ValueError, OSError), match=said) as caught:
            load(other)
        message = str(caught.value)
        assert message.isprintable()
        assert len(message) < 900
        assert "; " in message
        assert other.cfg["labels"] == []
        assert pipe.labels == ("LOC", "ORG", "PER")


CFG: Dict[str, Any] = {
    "temperature 0": ({"temperature": 0}, "temperature must be a finite number above 0, got 0;"),
    "temperature -1": ({"temperature": -1}, "temperature must be a finite number above 0, got -1;"),
    "temperature NaN": ({"temperature": float("nan")}, "temperature must be .* got nan;"),
    "temperature infinite": ({"temperature": float("inf")}, "temperature must be .* got inf;"),
    "temperature beyond floats": ({"temperature": 10**400}, "temperature must be .* got 1000"),
    "temperature of text": ({"temperature": "x"}, "temperature must be .* got 'x';"),
    "temperature true": ({"temperature": True}, "temperature must be .* got True;"),
    "temperature null": ({"temperature": None}, "temperature must be .* got None;"),
    "labels repeat": ({"labels": ["LOC", "LOC", "PER"]}, "labels must differ, but 'LOC' is there twice"),
    "labels are numbers": ({"labels": [1, 2, 3]}, "labels must be non-empty strings, got 1"),
    "a label is empty": ({"labels": ["LOC", "", "PER"]}, "labels must be non-empty strings, got ''"),
    "labels are one text": ({"labels": "LOC"}, "labels must be a list of labels, got 'LOC'"),
    "labels are an object": ({"labels": {"LOC": 1}}, "labels must be a list of labels"),
    "labels are null": ({"labels": None}, "labels must be a list of labels, got None"),
    "too few labels": ({"labels": ["LOC"]}, "cfg has 1 labels, which make 3 tags, but the model was saved for 7"),
    "no labels": ({"labels": []}, "cfg has 0 labels, which make 1 tags, but the model was saved for 7"),
    "untrained is unknown": ({"untrained": ["X"]}, "untrained names the label 'X', which is not in labels"),
    "untrained is text": ({"untrained": "LOC"}, "untrained must be a list"),
    "long label": ({"labels": ["x" * 30_000] * 3}, "labels must differ, but 'xxxxxxxxxxxxxxxxxxxx…' is"),
    "escape in a label": ({"labels": ["\x1b[31m"] * 3}, r"labels must differ, but '\\x1b\[31m' is"),
}


@pytest.mark.parametrize("change, said", CFG.values(), ids=CFG.keys())
def test_a_cfg_that_is_wrong_is_refused(
    trained: Language, tmp_path: Path, change: Dict[str, Any], said: str
) -> None:
    files = files_of(trained, tmp_path / "whole")
    cfg = {**json.loads(files["cfg"]), **change}
    assert_refused(trained, {**files, "cfg": json.dumps(cfg).encode()}, tmp_path / "wrong", said)


@pytest.mark.parametrize("cfg", [b"", b'{"labels": [', b"[1]", b"3", b"[" * 9999])
def test_a_cfg_that_is_none_is_refused(trained: Language, tmp_path: Path, cfg: bytes) -> None:
    files = files_of(trained, tmp_path / "whole")
    assert_refused(trained, {**files, "cfg": cfg}, tmp_path / "wrong", "cfg: (no JSON|must be an object)")


@pytest.mark.parametrize("name", ["cfg", "model"])
def test_a_missing_part_is_named(trained: Language, tmp_path: Path, name: str) -> None:
    files = files_of(trained, tmp_path / "whole")
    files.pop(name)
    assert_refused(trained, files, tmp_path / "wrong", f"(there is no {name}|{name}: no such file)")


def changed_head(change: Callable[[Dict[str, Any]], Dict[str, Any]]) -> Callable[[bytes], bytes]:
    def tamper(model: bytes) -> bytes:
        saved = srsly.msgpack_loads(model)
        (shims,) = [shims for shims in saved["shims"] if shims]
        outer = srsly.msgpack_loads(shims[0])
        outer["state"] = srsly.msgpack_dumps(change(srsly.msgpack_loads(outer["state"])))
        shims[:] = [srsly.msgpack_dumps(outer)]
        return srsly.msgpack_dumps(saved)

    return tamper


def changed_model(**parts: Any) -> Callable[[bytes], bytes]:
    return lambda model: srsly.msgpack_dumps({**srsly.msgpack_loads(model), **parts})


MODELS: Dict[str, Any] = {
    "empty": (lambda model: b"", "the saved model is damaged or cut off"),
    "cut": (lambda model: model[: len(model) // 2], "the saved model is damaged or cut off"),
    "cut at the end": (lambda model: model[:-1], "the saved model is damaged or cut off"),
    "text": (lambda model: b"{}\n", "the saved model is"),
    "a list": (lambda model: srsly.msgpack_dumps([1]), "the saved model is not a model of Thinc"),
    "another": (lambda model: srsly.msgpack_dumps({"a": 1}), "the saved model is not a model of Thinc"),
    "no shims": (changed_model(shims=[]), "the saved model is damaged, or is not of the model"),
    "no nodes": (changed_model(nodes=[]), "is not of the model that the config describes .*mismatched structure"),
    "nodes are numbers": (changed_model(nodes=3), "the saved model is damaged, or is not of the model"),
    "head is a list": (changed_head(lambda head: [1]), "the saved head is not one of"),  # type: ignore[arg-type, return-value]
    "head without weights": (changed_head(lambda head: {"spec": head["spec"]}), "the saved head is not one of"),
    "weights are cut": (
        changed_head(lambda head: {**head, "state": head["state"][:500]}),
        "the weights of the saved head are damaged",
    ),
    "weights are text": (changed_head(lambda head: {**head, "state": b"x"}), "the weights of the saved head"),
    "sizes of others": (
        changed_head(lambda head: {**head, "spec": {**head["spec"], "width": 3}}),
        r"the saved weights do not fit the saved sizes: .* misshapen",
    ),
    "sizes below 0": (
        changed_head(lambda head: {**head, "spec": {**head["spec"], "n_types": -3}}),
        "n_types of the saved head must be a number from 0, got -3",
    ),
    "size of text": (
        changed_head(lambda head: {**head, "spec": {**head["spec"], "width": "x"}}),
        "width of the saved head must be a number from 0, got 'x'",
    ),
}


@pytest.mark.parametrize("change, said", MODELS.values(), ids=MODELS.keys())
def test_a_model_that_is_damaged_is_refused(
    trained: Language, tmp_path: Path, change: Callable[[bytes], bytes], said: str
) -> None:
    files = files_of(trained, tmp_path / "whole")
    assert_refused(trained, {**files, "model": change(files["model"])}, tmp_path / "wrong", said)


ENTRY: Dict[str, Any] = {
    "label": "LOC",
    "rule": "hard",
    "weight": 0.0,
    "words": ["北"],
    "spaces": [False],
    "norms": [],
}


@pytest.mark.parametrize(
    "entry",
    [
        {**ENTRY, "words": [1]},
        {**ENTRY, "words": []},
        {**ENTRY, "words": [""]},
        {**ENTRY, "words": "北"},
        {**ENTRY, "spaces": [True, False]},
        {**ENTRY, "spaces": ["x"]},
        {**ENTRY, "norms": [1]},
        {**ENTRY, "label": 3},
        {**ENTRY, "rule": "x"},
        {**ENTRY, "rule": "soft", "weight": "x"},
        {**ENTRY, "rule": "soft", "weight": float("nan")},
        {"label": "LOC"},
        3,
    ],
)
def test_a_gazetteer_that_is_damaged_is_refused(trained: Language, tmp_path: Path, entry: Any) -> None:
    files = files_of(trained, tmp_path / "whole")
    good = srsly.msgpack_dumps({"attr": "ORTH", "entries": [ENTRY]})
    get_pipe(trained, "crf_ner").gazetteer.from_bytes(good)
    get_pipe(trained, "crf_ner").gazetteer.clear()
    bad = srsly.msgpack_dumps({"attr": "ORTH", "entries": [entry]})
    for data, said in ((bad, "no gazetteer that can be loaded"), (good[:9], "the saved gazetteer is damaged")):
        other: Any = trained.create_pipe("crf_ner", config={"model": SMALL_MODEL})
        shutil.copytree(tmp_path / "whole", tmp_path / str(said))
        (tmp_path / str(said) / "gazetteer").write_bytes(data)
        with pytest.raises(ValueError, match=said) as caught:
            other.from_disk(tmp_path / str(said), exclude=["vocab"])
        assert str(caught.value).isprintable()
    assert files


@pytest.mark.parametrize(
    "name, value", [("lstm_width", 48), ("lstm_depth", 2), ("attention_heads", 4), ("attention_window", 9)]
)
def test_a_setting_that_is_not_that_of_the_weights_is_refused(
    trained: Language, tmp_path: Path, name: str, value: int
) -> None:
    trained.to_disk(tmp_path)
    was = SMALL_MODEL[name]
    said = rf"says {name} = {value}, but the saved weights are of {name} = {was}; set {name} = {was} in config.cfg"
    with pytest.raises(ValueError, match=said):
        spacy.load(tmp_path, config={f"components.crf_ner.model.{name}": value})
    config = Config().from_disk(tmp_path / "config.cfg")
    config["components"]["crf_ner"]["model"][name] = value
    nlp = spacy.util.load_model_from_config(config)
    with pytest.raises(ValueError, match=said):
        nlp.from_bytes(trained.to_bytes())
    spacy.load(tmp_path, config={"components.crf_ner.model.max_padded_tokens": 99})


def test_a_config_of_other_vectors_is_refused(trained: Language, tmp_path: Path) -> None:
    trained.to_disk(tmp_path)
    with pytest.raises(ValueError, match=r"crf_ner: the saved model .* the config describes .*48"):
        spacy.load(tmp_path, config={"components.crf_ner.model.tok2vec.char_width": 48})


def test_a_good_pipe_still_loads_and_says_the_same(trained: Language, tmp_path: Path) -> None:
    trained.to_disk(tmp_path)
    loaded = spacy.load(tmp_path)
    for text, _ in TEXTS:
        assert ents(loaded(text)) == ents(trained(text))
    assert get_pipe(loaded, "crf_ner").cfg == get_pipe(trained, "crf_ner").cfg
