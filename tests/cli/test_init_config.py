import json
import re
import shlex
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import pytest
import spacy
from spacy import util
from spacy.cli.debug_config import debug_config
from spacy.cli.init_config import fill_config
from spacy.cli.train import train
from spacy.lang.xx import MultiLanguage
from spacy.language import BaseDefaults, Language
from spacy.tokens import DocBin
from thinc.api import Config
from typer.testing import CliRunner, Result

from spacy_crf_ner.cli import app
from spacy_crf_ner.cli import init_config as command_module
from spacy_crf_ner.cli.init_config import Head, init_config
from tests.encoder.util import save_tiny_bert
from tests.util import TEXTS, examples_from, get_pipe, head_of
from tests.warm_python import WarmPython

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
ENCODER = "hfl/chinese-roberta-wwm-ext"
ENCODERS: List[Dict[str, Any]] = [{"encoder": None}, {"encoder": ENCODER}, {"encoder": ENCODER, "lora": True}]
COMBINATIONS: List[Dict[str, Any]] = [
    {"head": head, **encoder, "gpu": gpu, "lang": lang}
    for head, encoder, gpu, lang in product(
        [head.value for head in Head],
        ENCODERS,
        [False, True],
        ["zh", "en"],
    )
]


@cache
def made(**options: Any) -> str:
    """The config of a combination, made once for all tests."""
    return init_config(**options)


def named(options: Dict[str, Any]) -> str:
    return "-".join(str(value) if value is not True else name for name, value in options.items() if value)


def run(*args: object) -> Result:
    """The command within this process."""
    return CliRunner().invoke(app, ["init-config", *map(str, args)])


@pytest.mark.parametrize(
    "layers, width, rate", [(12, 768, 2e-5), (24, 1024, 2e-5), (6, 768, 5e-5), (4, 512, 1e-4), (6, 384, 1e-4)]
)
def test_the_rate_of_an_encoder_in_a_folder_is_that_of_its_size(
    layers: int, width: int, rate: float, tmp_path: Path
) -> None:
    sizes = {"num_hidden_layers": layers, "hidden_size": width}
    (tmp_path / "config.json").write_text(json.dumps(sizes), encoding="utf8")
    config = Config().from_str(init_config(encoder=str(tmp_path)), interpolate=False)
    assert config["training"]["optimizer"]["groups"]["encoder"]["learn_rate"] == rate


@pytest.mark.parametrize("content", [None, "{", "[]", "{}", '{"num_hidden_layers": "4", "hidden_size": null}'])
def test_the_rate_of_an_encoder_whose_size_is_not_known_is_that_of_base_size(
    content: Optional[str], tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content, encoding="utf8")
    config = Config().from_str(init_config(encoder=str(tmp_path)), interpolate=False)
    assert config["training"]["optimizer"]["groups"]["encoder"]["learn_rate"] == 2e-5


def one_line(result: Result) -> str:
    """The one line with which a refusal ends."""
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    return result.stderr.rstrip("\n")


def comment_above(text: str, key: str) -> Optional[str]:
    """The comment line above a key or section, None if there is none."""
    lines = text.splitlines()
    (index,) = [i for i, line in enumerate(lines) if line == key or line.startswith(f"{key} = ")]
    return lines[index - 1] if lines[index - 1].startswith("# ") else None


@pytest.mark.parametrize("options", COMBINATIONS, ids=named)
def test_config_is_complete_and_valid(
    options: Dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.cfg"
    path.write_text(made(**options), encoding="utf8")
    config, filled = fill_config(tmp_path / "filled.cfg", path, silent=True)
    assert filled == config
    debug_config(path, overrides={"paths.train": "x", "paths.dev": "x"})
    assert "Config is valid" in capsys.readouterr().out


@pytest.mark.parametrize("options", COMBINATIONS, ids=named)
def test_a_loaded_pipeline_can_make_its_optimizer(options: Dict[str, Any]) -> None:
    """`nlp.resume_training` and `nlp.initialize` do, from the config as it stands, variables and all."""
    config = Config().from_str(made(**options), interpolate=False)
    optimizer = util.load_model_from_config(config).create_optimizer()
    schedule = config["training"]["optimizer"]["schedule" if options["encoder"] else "learn_rate"]
    assert schedule["total_steps"] == config["training"]["max_steps"]
    assert optimizer.learn_rate == 0.0  # the first step of the warm-up


@pytest.mark.parametrize("options", COMBINATIONS, ids=named)
def test_config_is_commented(options: Dict[str, Any]) -> None:
    text = made(**options)
    assert text.splitlines()[0].startswith("# python -m spacy crf init-config OUT ")
    keys = ["train", "batch_size", "lstm_width", "max_padded_tokens", "max_steps", "[training.batcher]"]
    if options["encoder"]:
        keys.remove("max_padded_tokens")  # stands there twice
        keys += ["encoder", "max_batch_items", "window", "freeze", "save_mode", "[training.optimizer.groups]"]
    else:
        keys += ["include_static_vectors", "[components.crf_ner.model.tok2vec]"]
    if options.get("lora"):
        keys += ["[components.transformer.model.lora]", "alpha", "targets", "layers"]
    for key in keys:
        assert comment_above(text, key), key
    assert max(map(len, text.splitlines())) <= 120
    assert text.endswith("\n") and "\n\n\n" not in text
    assert not re.search(r"[{}][%#]|[%#][{}]|\{\{", text)  # nothing of the template is left


@pytest.mark.parametrize("options", COMBINATIONS[::5], ids=named)
def test_first_line_is_the_command_that_writes_the_config(options: Dict[str, Any]) -> None:
    text = made(**options)
    words = shlex.split(text.splitlines()[0])
    assert words[:7] == ["#", "python", "-m", "spacy", "crf", "init-config", "OUT"]
    result = run("-", *words[7:])
    assert result.exit_code == 0, result.output
    assert result.stdout == text


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {},
            {
                "nlp.lang": "zh",
                "nlp.pipeline": ["crf_ner"],
                "nlp.tokenizer": {"@tokenizers": "spacy.zh.ChineseTokenizer", "segmenter": "char"},
                "initialize.tokenizer": {"pkuseg_model": None, "pkuseg_user_dict": "default"},
                "components.crf_ner.model.lstm_depth": 1,
                "components.crf_ner.model.attention_heads": 4,
                "components.crf_ner.model.tok2vec.@architectures": "spacy-crf-ner.CharEmbed.v1",
                "components.crf_ner.model.mixed_precision": False,
                "system.gpu_allocator": None,
                "training.gpu_allocator": None,
                "training.batcher.size": 2000,
                "training.optimizer.@optimizers": "Adam.v1",
            },
        ),
        (
            {"lang": "en", "head": "bilstm-crf"},
            {
                "nlp.lang": "en",
                "nlp.tokenizer": {"@tokenizers": "spacy.Tokenizer.v1"},
                "initialize.tokenizer": {},
                "components.crf_ner.model.lstm_depth": 1,
                "components.crf_ner.model.attention_heads": 0,
                "components.crf_ner.model.tok2vec.@architectures": "spacy.MultiHashEmbed.v2",
                "components.crf_ner.model.tok2vec.include_static_vectors": False,
            },
        ),
        (
            {"head": "crf", "gpu": True},
            {
                "components.crf_ner.model.lstm_depth": 0,
                "components.crf_ner.model.attention_heads": 0,
                "components.crf_ner.model.mixed_precision": "fp16",
                "training.gpu_allocator": "pytorch",
                "training.batcher.size": 4000,
            },
        ),
        (
            {"encoder": "some/encoder"},
            {
                "nlp.pipeline": ["transformer", "crf_ner"],
                "components.transformer.max_batch_items": 512,
                "components.transformer.model.@architectures": "spacy-crf-ner.Transformer.v1",
                "components.transformer.model.name": "some/encoder",
                "components.transformer.model.lora": None,
                "components.transformer.model.mixed_precision": False,
                "components.crf_ner.model.tok2vec.@architectures": "spacy-transformers.TransformerListener.v1",
                "system.gpu_allocator": None,
                "training.batcher.size": 1000,
                "training.optimizer.@optimizers": "spacy-crf-ner.AdamW.v1",
                "training.optimizer.groups.encoder.learn_rate": 2e-5,
            },
        ),
        (
            {"encoder": "some/encoder", "lora": True, "gpu": True},
            {
                "components.transformer.max_batch_items": 8192,
                "components.transformer.model.lora.@misc": "spacy-crf-ner.LoRA.v1",
                "components.transformer.model.lora.rank": 8,
                "components.transformer.model.mixed_precision": "fp16",
                "components.crf_ner.model.mixed_precision": "fp16",
                "training.batcher.size": 4000,
                "training.optimizer.groups.lora.learn_rate": 5e-4,
                "training.optimizer.groups.head.learn_rate": 1e-3,
                "training.optimizer.groups.crf.learn_rate": 1e-2,
            },
        ),
    ],
)
def test_options_land_in_the_config(options: Dict[str, Any], expected: Dict[str, Any]) -> None:
    config = Config().from_str(init_config(**options))
    assert {key: util.dot_to_object(config, key) for key in expected} == expected


def test_lora_has_a_group_in_place_of_the_encoders() -> None:
    groups = {
        lora: set(Config().from_str(init_config(encoder=ENCODER, lora=lora))["training"]["optimizer"]["groups"])
        for lora in (False, True)
    }
    assert groups == {False: {"encoder", "head", "crf"}, True: {"lora", "head", "crf"}}


@pytest.mark.parametrize("lang", ["de", "xx", "ru", "ar", "hi"])
def test_tokenizer_and_lang_are_the_languages_own(lang: str) -> None:
    config = Config().from_str(init_config(lang=lang))
    assert config["nlp"]["tokenizer"] == spacy.blank(lang).config["nlp"]["tokenizer"]
    assert config["nlp"]["lang"] == lang


def test_a_languages_three_letters_become_its_two() -> None:
    assert init_config(lang="eng") == init_config(lang="en")


def test_settings_come_from_a_languages_own_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of Korean, whose tokenizer has settings, and whose words have no letters."""

    @spacy.registry.tokenizers("test_init_config.Tokenizer.v1")
    def make_tokenizer(mode: Optional[str], size: int = 7) -> Callable[[Language], Any]:
        return lambda nlp: MultiLanguage().tokenizer

    class OwnDefaults(BaseDefaults):
        config = Config({"nlp": {"tokenizer": {"@tokenizers": "test_init_config.Tokenizer.v1", "mode": None}}})
        writing_system: Dict[str, Any] = {"direction": "ltr", "has_letters": False}  # noqa: RUF012

    class Own(Language):
        lang = "own"
        Defaults = OwnDefaults

    monkeypatch.setattr(util, "get_lang_class", lambda lang: Own)
    config = Config().from_str(init_config(lang="own"))
    tokenizer = {"@tokenizers": "test_init_config.Tokenizer.v1", "mode": None, "size": 7}
    assert config["nlp"]["tokenizer"] == tokenizer
    assert config["components"]["crf_ner"]["model"]["tok2vec"]["attrs"] == ["ORTH", "SHAPE"]


@pytest.mark.parametrize(
    "encoder", ["models/我的 编码器", "C:\\models\\bert", 'a "quoted" one', "it's", "123", "null", "100%"]
)
def test_any_name_of_an_encoder_survives(encoder: str) -> None:
    text = init_config(encoder=encoder)
    model = Config().from_str(text)["components"]["transformer"]["model"]
    assert model["name"] == encoder
    assert shlex.split(text.splitlines()[0])[8] == encoder


@pytest.mark.parametrize("encoder", ["", "a\nb", "${system.seed}", "a$b", "a\x00"])
def test_what_no_config_can_hold_is_no_encoder(encoder: str) -> None:
    with pytest.raises(ValueError, match=r"^--encoder .*; give"):
        init_config(encoder=encoder)


def test_file_is_written_and_the_training_command_said(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "my.cfg"
    result = run(path, "--lang", "en", "--gpu")
    assert result.exit_code == 0, result.output
    assert path.read_bytes() == init_config(lang="en", gpu=True).encode("utf8")
    assert [file.name for file in path.parent.iterdir()] == ["my.cfg"]
    command = next(line for line in result.stdout.splitlines() if line.startswith("python -m spacy train "))
    assert shlex.split(command)[4] == str(path)
    assert command.endswith(" --gpu-id 0")


def test_existing_file_is_kept_without_force(tmp_path: Path) -> None:
    path = tmp_path / "my.cfg"
    path.write_text("mine", encoding="utf8")
    assert one_line(run(path)) == f"{path}: is there already; name another file, or overwrite it with --force"
    assert path.read_text(encoding="utf8") == "mine"
    assert run(path, "--force").exit_code == 0
    assert path.read_text(encoding="utf8") == init_config()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--lora"], "--lora: there is no encoder to adapt; name one with --encoder, or leave --lora away"),
        (["--lang", "klingon"], "--lang klingon: "),
        (["--encoder", ""], "--encoder '': no name that a config can hold; give a name on the hub or a folder"),
    ],
)
def test_refusals_write_nothing(args: List[str], message: str, tmp_path: Path) -> None:
    assert one_line(run(tmp_path / "my.cfg", *args)).startswith(message)
    assert one_line(run("-", *args)).startswith(message)
    assert not list(tmp_path.iterdir())


def test_unknown_head(tmp_path: Path) -> None:
    result = run(tmp_path / "my.cfg", "--head", "lstm")
    assert result.exit_code == 2
    assert "bilstm-crf" in result.stderr
    assert not list(tmp_path.iterdir())
    with pytest.raises(
        ValueError, match="--head lstm: no such head; choose from bilstm-attention-crf, bilstm-crf"
    ):
        init_config(head="lstm")


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    inside = file / "my.cfg"
    assert one_line(run(inside)).startswith(f"{inside}: cannot be written (")
    assert one_line(run(tmp_path)) == f"{tmp_path}: is a directory; name a file in it"
    assert one_line(run(tmp_path, "--force")) == f"{tmp_path}: is a directory; name a file in it"


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ('factory = "crf_ner"', 'factory = "crf"'),
        ("attention_window = 128", 'attention_window = "wide"'),
        ("patience = 0\n", ""),
        ("buffer = 512", "buffers = 512"),
        ("[training.logger]", "[training.loggers]"),
        ("seed = ${system.seed}", "seed = ${system.sed}"),
        ("{{ lstm_depth }}", "{{ depth }}"),
    ],
)
def test_an_error_of_the_template_is_not_written(
    right: str, wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = (command_module.TEMPLATES / command_module.TEMPLATE).read_text(encoding="utf8")
    assert template.count(right) == 1
    (tmp_path / command_module.TEMPLATE).write_text(template.replace(right, wrong), encoding="utf8")
    monkeypatch.setattr(command_module, "TEMPLATES", tmp_path)
    assert run(tmp_path / "my.cfg").exit_code != 0
    assert not (tmp_path / "my.cfg").exists()


@pytest.mark.slow
def test_stdout_is_only_the_config(shell: WarmPython) -> None:
    done = shell.spacy("crf", "init-config", "-", "--encoder", "my/编码器", check=True)
    assert done.stdout == init_config(encoder="my/编码器")
    assert done.stderr == ""


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.cfg")), ids=lambda path: path.stem)
def test_shipped_config_is_what_its_first_line_writes(path: Path, tmp_path: Path) -> None:
    shipped = path.read_bytes()
    words = shlex.split(shipped.decode("utf8").splitlines()[0])
    assert words[:7] == ["#", "python", "-m", "spacy", "crf", "init-config", "OUT"], words
    assert run(tmp_path / path.name, *words[7:]).exit_code == 0
    fix = f"run the command of {path.name}'s first line with OUT = configs/{path.name} and --force"
    assert (tmp_path / path.name).read_bytes() == shipped, fix


def test_shipped_configs_are_these() -> None:
    commands = {path.stem: path.read_text(encoding="utf8").splitlines()[0] for path in CONFIGS.glob("*.cfg")}
    assert {name: command.split(" OUT ")[1] for name, command in commands.items()} == {
        "char_bilstm": "--lang zh",
        "bilstm_words": "--lang en",
        "roberta": f"--encoder {ENCODER} --lang zh --gpu",
        "roberta_lora": f"--encoder {ENCODER} --lora --lang zh --gpu",
    }


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """The test texts as a DocBin."""
    docs = [example.reference for example in examples_from(spacy.blank("zh"))]
    path = tmp_path / "corpus.spacy"
    DocBin(docs=docs * 4).to_disk(path)
    return path


def train_a_little(config: Path, corpus: Path, output: Path, **overrides: object) -> Language:
    """`spacy train` for four steps; the pipeline that it saves."""
    few = {"training.max_steps": 4, "training.eval_frequency": 2, "training.batcher.size": 60}
    paths = {"paths.train": str(corpus), "paths.dev": str(corpus)}
    train(config, output, overrides={**few, **paths, **overrides})
    return spacy.load(output / "model-last")


@pytest.mark.parametrize("head", list(Head))
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_config_with_an_encoder_trains(head: Head, lora: bool, corpus: Path, tmp_path: Path) -> None:
    if lora:
        pytest.importorskip("peft")
    encoder = save_tiny_bert(tmp_path / "tiny", [text for text, _ in TEXTS])
    path = tmp_path / "my.cfg"
    args = ["--encoder", encoder, "--head", head.value, *(["--lora"] if lora else [])]
    assert run(path, *args).exit_code == 0
    nlp = train_a_little(path, corpus, tmp_path / "out")
    assert nlp.pipe_names == ["transformer", "crf_ner"]
    assert get_pipe(nlp, "crf_ner").labels == ("LOC", "ORG", "PER")
    stages = {name.split(".")[0] for name, _ in head_of(nlp).head.named_parameters()}
    assert len(stages) == 1 + sum(map(bool, command_module.STAGES[head])), stages
    assert len(list(nlp.pipe(text for text, _ in TEXTS))) == len(TEXTS)


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_config_without_an_encoder_trains(lang: str, corpus: Path, tmp_path: Path) -> None:
    path = tmp_path / "my.cfg"
    assert run(path, "--lang", lang).exit_code == 0
    nlp = train_a_little(path, corpus, tmp_path / "out", **{"components.crf_ner.model.lstm_width": 32})
    assert nlp.lang == lang
    assert get_pipe(nlp, "crf_ner").labels == ("LOC", "ORG", "PER")
