"""The project as a user runs it: in a copy, with its own commands."""

import re
import shlex
import shutil
from pathlib import Path
from typing import List

import pytest
import spacy
import srsly
from spacy import util
from spacy.cli.debug_config import debug_config
from spacy.util import registry
from thinc.api import Config

from spacy_crf_ner.formats.convert import convert
from spacy_crf_ner.formats.doc_builder import DocMaker
from spacy_crf_ner.formats.reading import read
from tests.encoder.util import save_tiny_bert
from tests.pages import PAGES, blocks_of, runs_command
from tests.util import get_pipe
from tests.warm_python import WarmPython

ROOT = Path(__file__).resolve().parents[1]
TWO_STEPS = "--training.max_steps 2 --training.eval_frequency 2 --training.batcher.size 200"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what the project needs, with a small part of the sample."""
    for name in ("project.yml", "configs", "scripts"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    sample = tmp_path / "assets" / "sample"
    sample.mkdir(parents=True)
    for path in (ROOT / "assets" / "sample").glob("*.bio"):
        sentences = path.read_text(encoding="utf8").split("\n\n")
        (sample / path.name).write_text("\n\n".join(sentences[:40]) + "\n\n", encoding="utf8")
    return tmp_path


def run(shell: WarmPython, project: Path, command: str, arguments: str = "") -> None:
    """Run a command of the pages, whose PATH is assets/real and whose GPU is the CPU, with further arguments."""
    command = command.replace("PATH", "assets/real").replace("--vars.gpu_id 0", "--vars.gpu_id -1")
    status, printed = shell.run(f"{command} {arguments}", project)
    assert status == 0, printed


def check_labels(project: Path, name: str) -> None:
    nlp = spacy.load(project / "training" / name / "model-best")
    assert get_pipe(nlp, "crf_ner").labels == ("LOC", "ORG", "PER")


def check_outputs(project: Path, name: str, n_test_docs: int) -> None:
    check_labels(project, name)
    for split in ("dev", "test"):
        scores = srsly.read_json(project / "metrics" / name / f"{split}.json")
        assert scores["ents_f"] == pytest.approx(scores["seqeval"]["micro avg"]["f1-score"])
        report = (project / "metrics" / name / f"{split}.txt").read_text(encoding="utf8")
        assert all(label in report for label in ("LOC", "ORG", "PER", "micro avg"))
    assert scores["counts"]["docs"] == n_test_docs
    assert "<mark" in (project / "metrics" / name / "test.html").read_text(encoding="utf8")


@pytest.mark.slow
@runs_command("python -m spacy project run msra . --vars.msra PATH --vars.gpu_id")
def test_the_workflow_msra_runs_on_other_files_with_a_tiny_encoder(
    command: str, project: Path, shell: WarmPython
) -> None:
    """`roberta.cfg` end to end: the production path, from a saved encoder to the rendered page."""
    data = project / "assets" / "sample"
    texts = [doc.text for doc in read([data / "train.bio"], DocMaker(lambda: spacy.blank("zh")))]
    save_tiny_bert(project / "tiny", texts, dropout=0.1)
    on_cpu = "--system.mixed_precision false --system.gpu_allocator null"
    data.rename(project / "assets" / "real")
    run(shell, project, command, f'--vars.encoder tiny --vars.msra_args " {on_cpu} {TWO_STEPS}"')
    check_outputs(project, "msra", 40)
    assert spacy.load(project / "training" / "msra" / "model-best").pipe_names == ["transformer", "crf_ner"]


@pytest.mark.slow
@runs_command("python -m spacy project run msra . --vars.msra PATH --vars.msra_config")
def test_the_workflow_msra_runs_on_a_cpu(command: str, project: Path, shell: WarmPython) -> None:
    (project / "assets" / "sample").rename(project / "assets" / "real")
    run(shell, project, command, f'--vars.msra_args " {TWO_STEPS}"')
    check_outputs(project, "msra", 40)


@pytest.mark.slow
@runs_command("python -m spacy init vectors zh VECTORS.vec training/vectors", "init_vectors")
@runs_command("python -m spacy project run msra . --vars.msra PATH --vars.msra_name msra_vectors")
def test_the_workflow_msra_takes_vectors(
    command: str, init_vectors: str, project: Path, shell: WarmPython
) -> None:
    (project / "assets" / "sample").rename(project / "assets" / "real")
    rows = [f"{char} {n % 2} {n} 1" for n, char in enumerate("的一国人在", 1)]
    (project / "VECTORS.vec").write_text("\n".join([f"{len(rows)} 3", *rows]) + "\n", encoding="utf8")
    # As it is for a reader, who has trained on the sample.
    (project / "training").mkdir()
    status, printed = shell.run(init_vectors, project)
    assert status == 0, printed
    assert command.endswith('true"')
    run(shell, project, f'{command[:-1]} {TWO_STEPS}"')
    check_outputs(project, "msra_vectors", 40)
    assert spacy.load(project / "training" / "msra_vectors" / "model-best").vocab.vectors.shape == (5, 3)


@pytest.mark.slow
@runs_command("python -m spacy project run cluener")
def test_the_workflow_cluener_runs_without_a_test_set(command: str, project: Path, shell: WarmPython) -> None:
    data = project / "assets" / "real"
    data.mkdir()
    for part in ("train", "dev"):
        sample = project / "assets" / "sample" / f"{part}.bio"
        convert([sample], data / f"{part}.json", lambda: spacy.blank("zh"), to="cluener")
    run(shell, project, command, f'--vars.cluener_args " {TWO_STEPS}"')
    check_labels(project, "cluener")
    scores = srsly.read_json(project / "metrics" / "cluener" / "dev.json")
    assert scores["counts"]["docs"] == 40
    assert sorted(path.name for path in (project / "corpus" / "cluener").iterdir()) == ["dev", "train"]


@pytest.mark.slow
@runs_command("python -m spacy project run weibo")
def test_the_workflow_weibo_takes_positions_away(command: str, project: Path, shell: WarmPython) -> None:
    data = project / "assets" / "real"
    data.mkdir()
    for part in ("train", "dev", "test"):
        text = (project / "assets" / "sample" / f"{part}.bio").read_text(encoding="utf8")
        text = re.sub(r"^(.) ", r"\g<1>0\t", text, flags=re.MULTILINE)
        stray = "人0\tO\n民1\tI-LOC\n\n"
        (data / f"weiboNER_2nd_conll.{part}").write_text(stray + text, encoding="utf8")
    steps = TWO_STEPS.replace("200", "400")
    run(shell, project, command, f'--vars.weibo_args " {steps}"')
    check_outputs(project, "weibo", 41)
    texts = [doc.text for doc in read([project / "corpus" / "weibo"], DocMaker(lambda: spacy.blank("zh")))]
    assert texts.count("人民") == 3
    assert not any("0" in text for text in texts)


@pytest.mark.slow
@runs_command("python -m spacy project run wnut17")
def test_the_workflow_wnut17_reads_words(command: str, project: Path, shell: WarmPython) -> None:
    data = project / "assets" / "real"
    data.mkdir()
    names = {"train": "wnut17train.conll", "dev": "emerging.dev.conll", "test": "emerging.test.annotated"}
    for part, name in names.items():
        text = (project / "assets" / "sample" / f"{part}.bio").read_text(encoding="utf8")
        (data / name).write_text(text.replace(" ", "\t").replace("\n\n", "\n\t\n"), encoding="utf8")
    run(shell, project, command, f'--vars.wnut17_args " {TWO_STEPS}"')
    check_outputs(project, "wnut17", 40)
    assert spacy.load(project / "training" / "wnut17" / "model-best").lang == "en"


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "configs").glob("*.cfg")))
def test_configs_pass_spacys_own_check(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    debug_config(ROOT / "configs" / f"{name}.cfg", overrides={"paths.train": "x", "paths.dev": "x"})
    assert "Config is valid" in capsys.readouterr().out


def config_files(script: str) -> List[str]:
    return [word for word in shlex.split(script) if word.startswith(("scripts/", "configs/"))]


def test_every_script_and_config_stands_in_deps() -> None:
    from weasel.util.config import load_project_config

    commands = load_project_config(ROOT)["commands"]
    used = {
        command["name"]: {f for script in command["script"] for f in config_files(script)} for command in commands
    }
    for command in commands:
        assert used[command["name"]] <= set(command["deps"]), command["name"]
    assert used["train"] and used["sample"] and used["all-on-msra"]


def test_a_partial_config_is_filled_from_the_defaults() -> None:
    """A user's partial config needs nothing of this package's beyond the factory's name."""
    config = util.load_config_from_str(
        '[nlp]\nlang = "en"\npipeline = ["crf_ner"]\n[components]\n[components.crf_ner]\nfactory = "crf_ner"\n'
    )
    nlp = util.load_model_from_config(config, auto_fill=True)
    assert nlp.config["components"]["crf_ner"]["model"]["@architectures"] == "spacy-crf-ner.CRFTagger.v1"


def test_the_optimizer_of_the_pages_is_one() -> None:
    blocks = [block for page in PAGES for block in blocks_of(page) if block.language == "ini"]
    (block,) = [block.text for block in blocks if "spacy-crf-ner.AdamW.v1" in block.text]
    optimizer = registry.resolve(Config().from_str(f"[training]\n\n{block}")["training"])["optimizer"]
    names = ["transformer.encoder.layer.0.output.dense.weight", "head.output.weight", "crf.transitions"]
    assert [optimizer._groups.of(name).name for name in names] == ["encoder", "head", "crf"]
    assert optimizer._groups.of("transformer.encoder.layer.0.query.lora_A.default.weight") is None
