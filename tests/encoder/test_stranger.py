"""Pipelines and encoders from strangers: no code of theirs is run, and nobody is asked to run it."""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest
import safetensors.torch
import spacy
import srsly
import torch
from thinc.api import Config

from spacy_crf_ner.corpus.vocabulary import EncoderVocabulary
from spacy_crf_ner.encoder.pretrained import load_config
from spacy_crf_ner.encoder.serialization import TOKENIZER_FILES
from tests.encoder.util import encoder_pipeline, save_encoder, shim_of, spec_of, token_vectors
from tests.util import TEXTS, get_pipe

LORA = {"@misc": "spacy-crf-ner.LoRA.v1", "rank": 2}
ADAPTER: Dict[str, Any] = {"lora": LORA, "save_mode": "adapter"}
TRUSTING = {"trust_remote_code": True}
Saved = Dict[str, Any]


class Planted:
    """Writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (open, (str(self.mark), "w"))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    save_encoder(folder, "bert")
    return folder


@pytest.fixture(scope="module")
def pipelines(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Saved pipelines, by their save_mode."""
    folder = tmp_path_factory.mktemp("pipelines")
    encoder_pipeline(encoder).to_disk(folder / "full")
    encoder_pipeline(encoder, **ADAPTER).to_disk(folder / "adapter")
    return folder


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that planted code writes. Who asks whether to run it fails."""

    def ask(prompt: object = "") -> str:
        raise AssertionError(f"asked: {prompt}")

    monkeypatch.setattr("builtins.input", ask)
    return tmp_path / "ran"


def code(mark: Path) -> str:
    return (
        f"open({str(mark)!r}, 'w').close()\n"
        "from transformers import BertConfig, BertModel, BertTokenizerFast\n"
        "class OwnConfig(BertConfig): pass\n"
        "class OwnModel(BertModel): pass\n"
        "class OwnTokenizer(BertTokenizerFast): pass\n"
    )


def plant(folder: Path, mark: Path, *, config: bool = True, tokenizer: bool = True) -> Path:
    """Code in an encoder's folder, which its files ask for."""
    (folder / "own.py").write_text(code(mark), encoding="utf8")
    changes: Dict[str, Dict[str, Any]] = {}
    if tokenizer:
        changes["tokenizer_config.json"] = {
            "auto_map": {"AutoTokenizer": [None, "own.OwnTokenizer"]},
            "tokenizer_class": "OwnTokenizer",
        }
    if config:
        changes["config.json"] = {
            "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"},
            "model_type": "own",
        }
    for name, change in changes.items():
        path = folder / name
        path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf8")), **change}), encoding="utf8")
    return folder


def with_config(saved: Path, to: Path, **settings: Any) -> Path:
    """A copy of a saved pipeline whose config has other settings of the encoder."""
    shutil.copytree(saved, to)
    config = Config().from_disk(to / "config.cfg", interpolate=False)
    config["components"]["transformer"]["model"].update(settings)
    config.to_disk(to / "config.cfg")
    return to


def tampered(saved: Path, to: Path, change: Callable[[Saved], Saved]) -> Path:
    """A copy of a saved pipeline whose encoder was saved otherwise."""
    shutil.copytree(saved, to)
    path = to / "transformer" / "model"
    model = srsly.msgpack_loads(path.read_bytes())
    (shims,) = [shims for shims in model["shims"] if shims]
    shims[:] = [srsly.msgpack_dumps(change(srsly.msgpack_loads(shims[0])))]
    path.write_bytes(srsly.msgpack_dumps(model))
    return to


def test_the_planted_code_works(encoder: Path, tmp_path: Path, mark: Path) -> None:
    """Otherwise the other tests prove nothing: a user who trusts an encoder's tokenizer has its code run."""
    folder = plant(shutil.copytree(encoder, tmp_path / "own"), mark, config=False)
    encoder_pipeline(folder, tokenizer_config=TRUSTING)
    assert mark.exists()


@pytest.mark.parametrize("trusting", [{}, {"tokenizer_config": TRUSTING}], ids=["plain", "trusting"])
def test_an_adapter_whose_encoder_brings_code_is_refused(
    pipelines: Path, encoder: Path, tmp_path: Path, mark: Path, trusting: Dict[str, Any]
) -> None:
    folder = plant(shutil.copytree(encoder, tmp_path / "own"), mark, config=False)
    path = with_config(pipelines / "adapter", tmp_path / "adapter", name=str(folder), **trusting)
    with pytest.raises(ValueError, match=r"encoder '.*own' comes with code of its own .*which is not run; choose"):
        spacy.load(path)
    assert not mark.exists()


def test_an_adapter_whose_encoder_is_in_its_own_folder_runs_no_code(
    pipelines: Path, encoder: Path, tmp_path: Path, mark: Path
) -> None:
    path = with_config(pipelines / "adapter", tmp_path / "stranger", name=str(tmp_path / "stranger" / "encoder"))
    plant(shutil.copytree(encoder, path / "encoder"), mark)
    with pytest.raises(ValueError, match=r"comes with code of its own .AutoConfig.*which is not run; choose"):
        spacy.load(path)
    assert not mark.exists()


@pytest.mark.parametrize("setting", [TRUSTING, {"auto_map": {"AutoModel": "own.OwnModel"}}])
def test_settings_of_the_encoder_that_ask_for_code_are_refused(
    pipelines: Path, encoder: Path, tmp_path: Path, mark: Path, setting: Dict[str, Any]
) -> None:
    folder = plant(shutil.copytree(encoder, tmp_path / "own"), mark)
    message = rf"transformer_config sets {next(iter(setting))}, .*; leave it out"
    with pytest.raises(ValueError, match=message):
        encoder_pipeline(folder, transformer_config=setting)
    for name in ("full", "adapter"):
        path = with_config(pipelines / name, tmp_path / name, name=str(folder), transformer_config=setting)
        with pytest.raises(ValueError, match=message):
            spacy.load(path)
    assert not mark.exists()


def test_a_trust_that_is_denied_is_no_setting_of_the_encoder(encoder: Path) -> None:
    encoder_pipeline(encoder, transformer_config={"trust_remote_code": False})


@pytest.mark.parametrize("part", ["config", "tokenizer"])
def test_a_first_load_never_asks(encoder: Path, tmp_path: Path, mark: Path, part: str) -> None:
    parts = {"config": False, "tokenizer": False, part: True}
    folder = plant(shutil.copytree(encoder, tmp_path / "own"), mark, **parts)
    with pytest.raises(ValueError, match=r"comes with code of its own .*which is not run"):
        encoder_pipeline(folder)
    if part == "tokenizer":
        with pytest.raises(ValueError, match=r"comes with code of its own .*which is not run"):
            EncoderVocabulary(str(folder))
    assert not mark.exists()


def test_code_that_transformers_has_itself_is_taken_from_there(encoder: Path, tmp_path: Path, mark: Path) -> None:
    """As many encoders of the hub say it: the code beside them is older than that of transformers."""
    folder = shutil.copytree(encoder, tmp_path / "own")
    plant(folder, mark)
    for name, change in (("config.json", {"model_type": "bert"}), ("tokenizer_config.json", {})):
        settings = json.loads((folder / name).read_text(encoding="utf8"))
        kind = {"tokenizer_class": "BertTokenizer"} if name == "tokenizer_config.json" else change
        (folder / name).write_text(json.dumps({**settings, **kind}), encoding="utf8")
    nlp = encoder_pipeline(folder)
    nlp.to_disk(tmp_path / "saved")
    shutil.rmtree(folder)
    loaded = spacy.load(tmp_path / "saved")
    assert (token_vectors(loaded, TEXTS[0][0]) == token_vectors(nlp, TEXTS[0][0])).all()
    assert not mark.exists()
    saved = srsly.msgpack_loads(shim_of(nlp).to_bytes())
    assert b"auto_map" not in saved["tokenizer"]["tokenizer_config.json"]
    assert "auto_map" not in saved["config"]


def test_a_tokenizer_that_was_trusted_is_saved_without_its_code(encoder: Path, tmp_path: Path, mark: Path) -> None:
    folder = plant(shutil.copytree(encoder, tmp_path / "own"), mark, config=False)
    nlp = encoder_pipeline(folder, tokenizer_config=TRUSTING)
    mark.unlink()
    assert type(shim_of(nlp).tokenizer).__module__.startswith("transformers.")
    nlp.to_disk(tmp_path / "saved")
    assert srsly.msgpack_loads(shim_of(nlp).to_bytes())["tokenizer"].keys() <= set(TOKENIZER_FILES)
    shutil.rmtree(folder)
    loaded = spacy.load(tmp_path / "saved")
    assert (token_vectors(loaded, TEXTS[0][0]) == token_vectors(nlp, TEXTS[0][0])).all()
    assert not mark.exists()


def test_a_trusted_tokenizer_is_refused_where_only_the_adapter_is_saved(
    encoder: Path, tmp_path: Path, mark: Path
) -> None:
    folder = plant(shutil.copytree(encoder, tmp_path / "own"), mark, config=False)
    with pytest.raises(ValueError, match=r'a saved pipeline never runs; set save_mode = "full"'):
        encoder_pipeline(folder, tokenizer_config=TRUSTING, **ADAPTER)


def test_trust_is_not_handed_on_to_a_pipeline_that_is_loaded_before_it_is_trained(
    encoder: Path, tmp_path: Path, mark: Path
) -> None:
    folder = plant(shutil.copytree(encoder, tmp_path / "own"), mark, config=False)
    encoder_pipeline(folder, initialize=False, tokenizer_config=TRUSTING).to_disk(tmp_path / "saved")
    nlp = spacy.load(tmp_path / "saved")
    with pytest.raises(ValueError, match="code of its own"):
        nlp.initialize()
    assert not mark.exists()


def own_tokenizer(saved: Saved) -> Saved:
    settings = json.loads(saved["tokenizer"]["tokenizer_config.json"])
    settings.update(auto_map={"AutoTokenizer": [None, "own.OwnTokenizer"]}, tokenizer_class="OwnTokenizer")
    files = {**saved["tokenizer"], "tokenizer_config.json": json.dumps(settings).encode()}
    return {**saved, "tokenizer": files}


def test_saved_bytes_that_name_code_are_refused_or_read_without_it(
    pipelines: Path, encoder: Path, tmp_path: Path, mark: Path
) -> None:
    folder = plant(shutil.copytree(encoder, tmp_path / "own"), mark)
    with pytest.raises(ValueError, match="the saved tokenizer is a 'OwnTokenizer', which is none of the fast"):
        spacy.load(tampered(pipelines / "full", tmp_path / "tokenizer", own_tokenizer))

    def with_code(saved: Saved) -> Saved:
        settings = json.loads(saved["config"])
        settings.update(
            auto_map={"AutoModel": f"{folder}--own.OwnModel"},
            attn_implementation="someone/kernel:attend",
            _attn_implementation_internal="someone/kernel:attend",
        )
        return {**saved, "config": json.dumps(settings)}

    nlp = spacy.load(tampered(pipelines / "full", tmp_path / "config", with_code))
    config = shim_of(nlp).transformer.config
    assert not hasattr(config, "auto_map")
    assert "/" not in config._attn_implementation
    assert not mark.exists()


@pytest.mark.parametrize("name", ["own.py", "vocab.pkl", "../escaped", "/tmp/escaped", "config.json", 3])
def test_only_files_of_a_tokenizer_are_written(pipelines: Path, tmp_path: Path, mark: Path, name: Any) -> None:
    def with_file(saved: Saved) -> Saved:
        return {**saved, "tokenizer": {**saved["tokenizer"], name: pickle.dumps(Planted(mark))}}

    with pytest.raises(ValueError, match=r"the saved tokenizer has a file .*, but only 'tokenizer.json'"):
        spacy.load(tampered(pipelines / "full", tmp_path / "stranger", with_file))
    assert not list(tmp_path.rglob("*escaped*"))
    assert not mark.exists()


def test_a_pickle_as_the_weights_is_not_unpickled(pipelines: Path, tmp_path: Path, mark: Path) -> None:
    pickled = pickle.dumps(Planted(mark))
    with pytest.raises(ValueError, match="the saved encoder is damaged: its weights cannot be read"):
        spacy.load(tampered(pipelines / "full", tmp_path / "a", lambda saved: {**saved, "state": pickled}))
    torch.save({"weight": Planted(mark)}, tmp_path / "pickled.bin")
    shutil.copytree(pipelines / "full", tmp_path / "b")
    path = tmp_path / "b" / "crf_ner" / "model"
    model = srsly.msgpack_loads(path.read_bytes())
    (shims,) = [shims for shims in model["shims"] if shims]
    outer = srsly.msgpack_loads(shims[0])
    inner = srsly.msgpack_loads(outer["state"])
    inner["state"] = (tmp_path / "pickled.bin").read_bytes()
    shims[:] = [srsly.msgpack_dumps({**outer, "state": srsly.msgpack_dumps(inner)})]
    path.write_bytes(srsly.msgpack_dumps(model))
    with pytest.raises(ValueError, match="weights of the saved head are damaged, or more than numbers") as caught:
        spacy.load(tmp_path / "b")
    assert "\n" not in str(caught.value)
    assert not mark.exists()


def test_a_pickle_in_the_folder_of_an_adapters_encoder_is_not_unpickled(
    pipelines: Path, encoder: Path, tmp_path: Path, mark: Path
) -> None:
    folder = shutil.copytree(encoder, tmp_path / "pickled")
    (folder / "model.safetensors").unlink()
    torch.save({"weight": Planted(mark)}, folder / "pytorch_model.bin")
    with pytest.raises(OSError, match=r"encoder folder '.*pickled'"):
        spacy.load(with_config(pipelines / "adapter", tmp_path / "a", name=str(folder)))
    with pytest.raises(OSError, match=r"encoder folder '.*pickled'"):
        encoder_pipeline(folder)
    assert not mark.exists()


def test_a_folder_in_the_place_of_the_encoder_is_not_looked_into(
    pipelines: Path, encoder: Path, tmp_path: Path, mark: Path
) -> None:
    """spacy-transformers takes it for what its version 1.0 saved, and would load an encoder from there."""
    path = with_config(pipelines / "full", tmp_path / "old", tokenizer_config=TRUSTING)
    (path / "transformer" / "model").unlink()
    plant(shutil.copytree(encoder, path / "transformer" / "model"), mark)
    with pytest.warns(UserWarning, match="v1.0"), pytest.raises(ValueError, match="must be a file"):
        spacy.load(path)
    assert not mark.exists()


def test_a_kernel_from_the_hub_is_not_fetched(pipelines: Path, encoder: Path, tmp_path: Path) -> None:
    message = r"'someone/kernel:a.*' is a kernel on the hub, whose code is not run; name one that transformers has"
    with pytest.raises(ValueError, match=f"attention = {message}"):
        spacy.load(with_config(pipelines / "full", tmp_path / "a", attention="someone/kernel:attend"))
    folder = shutil.copytree(encoder, tmp_path / "own")
    settings = json.loads((folder / "config.json").read_text(encoding="utf8"))
    settings["_attn_implementation_internal"] = "someone/kernel:attend"
    (folder / "config.json").write_text(json.dumps(settings), encoding="utf8")
    with pytest.raises(ValueError, match=f"encoder '.*own': attention = {message}"):
        load_config(spec_of(folder))


def test_a_name_on_the_hub_that_cannot_be_had_is_one_error(
    pipelines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The environment variable is read when the library is imported.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("transformers.utils.hub._is_offline_mode", True)
    path = with_config(pipelines / "adapter", tmp_path / "a", name="someone/encoder", tokenizer_config=TRUSTING)
    with pytest.raises(OSError, match="encoder 'someone/encoder' is not a folder, it is not in") as caught:
        spacy.load(path)
    assert "\n" not in str(caught.value)


# What does not fit


@pytest.mark.parametrize(
    "family, settings, said",
    [
        ("bert", {"hidden_size": 48}, "its hidden_size is 48, not 32"),
        ("bert", {"num_hidden_layers": 3}, "its num_hidden_layers is 3, not 2"),
        ("bert", {"intermediate_size": 48}, "its intermediate_size is 48, not 64"),
        ("electra", {}, "its model_type is 'electra', not 'bert'"),
    ],
)
def test_an_adapter_over_an_encoder_of_another_shape_blames_the_encoder(
    pipelines: Path, encoder: Path, tmp_path: Path, family: str, settings: Dict[str, Any], said: str
) -> None:
    save_encoder(tmp_path / "other", family, **settings)
    path = with_config(pipelines / "adapter", tmp_path / "a", name=str(tmp_path / "other"))
    with pytest.raises(ValueError) as caught:
        spacy.load(path)
    message = str(caught.value)
    assert f"trained on the encoder '{encoder}', but '{tmp_path / 'other'}' is another" in message
    assert f"which the adapter does not fit: {said}. Give the right one" in message


def cut(saved: Saved, name: str) -> Saved:
    return {key: value for key, value in saved.items() if key != name}


def of_tokenizer(name: str, content: Any) -> Callable[[Saved], Saved]:
    return lambda saved: {**saved, "tokenizer": {**saved["tokenizer"], name: content}}


def of_config(**settings: Any) -> Callable[[Saved], Saved]:
    return lambda saved: {**saved, "config": json.dumps({**json.loads(saved["config"]), **settings})}


DAMAGED: Dict[str, Any] = {
    "no tokenizer": (lambda saved: cut(saved, "tokenizer"), "has no tokenizer, .* the file is incomplete"),
    "no tokenizer.json": (
        lambda saved: {**saved, "tokenizer": cut(saved["tokenizer"], "tokenizer.json")},
        "the saved tokenizer has no tokenizer.json",
    ),
    "broken tokenizer.json": (of_tokenizer("tokenizer.json", b"{"), "the saved tokenizer is damaged"),
    "tokenizer of numbers": (of_tokenizer("tokenizer.json", 3), "damaged: tokenizer.json is 3"),
    "broken settings": (of_tokenizer("tokenizer_config.json", b"{"), "tokenizer_config.json is not JSON"),
    "settings of a list": (of_tokenizer("tokenizer_config.json", b"[]"), r"tokenizer_config.json is \[\]"),
    "slow tokenizer": (
        of_tokenizer("tokenizer_config.json", b'{"tokenizer_class": "TransfoXLTokenizer"}'),
        "'TransfoXLTokenizer', which is none of the fast tokenizers",
    ),
    "tokenizer is a text": (lambda saved: {**saved, "tokenizer": "x"}, "damaged: its tokenizer is 'x'"),
    "no state": (lambda saved: cut(saved, "state"), "none of this architecture's"),
    "state is a text": (lambda saved: {**saved, "state": "x"}, "damaged: state is 'x'"),
    "cut weights": (lambda saved: {**saved, "state": saved["state"][:999]}, "its weights cannot be read"),
    "config is not JSON": (lambda saved: {**saved, "config": "{"}, "config is not JSON"),
    "deep config": (lambda saved: {**saved, "config": "[" * 9999}, "config is not JSON"),
    "unknown kind": (of_config(model_type="noble"), "of the kind 'noble', of which this transformers"),
    "no kind": (lambda saved: {**saved, "config": "{}"}, "of the kind None"),
    "sizes of texts": (of_config(hidden_size="x"), "cannot be built from its saved configuration"),
    "sizes below 0": (of_config(intermediate_size=-3), "cannot be built from its saved configuration"),
    "too few embeddings": (of_config(vocab_size=3), "word-pieces, but embeddings for 3 of them"),
    "base is a list": (lambda saved: {**saved, "base": [1]}, r"damaged: base is \[1\]"),
    "base without name": (lambda saved: {**saved, "base": {"x": 1}}, "the base of its adapters is"),
    "a list": (lambda saved: [1, 2], "none of this architecture's"),
}


@pytest.mark.parametrize("change, said", DAMAGED.values(), ids=DAMAGED.keys())
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_damaged_encoder_is_one_clear_error(
    pipelines: Path, tmp_path: Path, change: Callable[[Saved], Saved], said: str
) -> None:
    path = tampered(pipelines / "full", tmp_path / "a", change)
    with pytest.raises(ValueError, match=said) as caught:
        spacy.load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 700
    config = Config().from_disk(path / "config.cfg")
    nlp = spacy.util.load_model_from_config(config)
    with pytest.raises(ValueError, match=said):
        get_pipe(nlp, "transformer").model.from_bytes((path / "transformer" / "model").read_bytes())


@pytest.mark.parametrize("length", [0, 1, 5000, -1])
def test_a_cut_file_is_one_clear_error(pipelines: Path, tmp_path: Path, length: int) -> None:
    path = shutil.copytree(pipelines / "full", tmp_path / "a") / "transformer" / "model"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"the saved model is damaged or cut off .*; fetch the pipeline again"):
        spacy.load(tmp_path / "a")


def test_a_failed_load_leaves_the_encoder_as_it_was(encoder: Path) -> None:
    nlp = encoder_pipeline(encoder, **ADAPTER)
    shim = shim_of(nlp)
    before, model = shim.to_bytes(), shim._model
    saved = srsly.msgpack_loads(before)
    state = safetensors.torch.load(saved["state"])
    state.pop(next(iter(state)))
    broken = {**saved, "state": safetensors.torch.save(state), "base": {"name": "x", "fingerprint": "y"}}
    with pytest.raises(ValueError):
        shim.from_bytes(srsly.msgpack_dumps(broken))
    assert shim._model is model
    assert shim.to_bytes() == before


def test_names_of_a_stranger_are_shortened_and_escaped(encoder: Path) -> None:
    shim = shim_of(encoder_pipeline(encoder, **ADAPTER))
    saved = srsly.msgpack_loads(shim.to_bytes())
    names: List[str] = ["\x1b[31mred\n", "x" * 30_000]
    for name in names:
        changed = {**saved, "base": {"name": name, "fingerprint": "y"}, "transformers_version": name}
        with pytest.raises(ValueError) as caught:
            shim.from_bytes(srsly.msgpack_dumps(changed))
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 1500
