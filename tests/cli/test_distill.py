"""`crf distill`: a student finds what its teacher finds, and a run that was cut goes on."""

from pathlib import Path
from typing import Any, Dict, List

import pytest
import spacy
from spacy.language import Language
from spacy.training.initialize import init_nlp
from spacy.util import load_config
from typer.testing import CliRunner, Result

from spacy_crf_ner.cli import app
from spacy_crf_ner.cli.init_config import init_config
from spacy_crf_ner.ner.teacher_cache import TeacherCache
from tests.evaluation.util import make_doc, write_docs
from tests.util import TEXTS, entity_offsets, ents, get_pipe, overfitted

SMALL = {
    "components.crf_ner.model.lstm_width": 32,
    "components.crf_ner.model.attention_heads": 0,
    "components.crf_ner.model.tok2vec.char_width": 32,
    "components.crf_ner.model.tok2vec.char_rows": 100,
    "components.crf_ner.model.tok2vec.bigram_width": 0,
    "training.max_steps": 60,
    "training.eval_frequency": 30,
    "training.dropout": 0.0,
    "training.optimizer.learn_rate.warmup_steps": 5,
    "training.optimizer.learn_rate.total_steps": 60,
    "training.optimizer.learn_rate.initial_rate": 0.02,
    "training.batcher.size": 100,
}

LONGER = ["--training.max_steps", 150, "--training.optimizer.learn_rate.total_steps", 150]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("teacher") / "model"
    overfitted().to_disk(path)
    return path


@pytest.fixture
def files(tmp_path: Path) -> Dict[str, Path]:
    """One annotated doc, and the others as texts."""
    (text, mentions), *rest = TEXTS
    gold = write_docs(tmp_path / "gold.spacy", [make_doc(text, entity_offsets(text, mentions))])
    texts = tmp_path / "texts.txt"
    texts.write_text("\n\n".join(text for text, _ in rest) + "\n", encoding="utf8")
    config = tmp_path / "student.cfg"
    config.write_text(init_config(lang="zh", head="bilstm-crf"), encoding="utf8")
    return {"gold": gold, "texts": texts, "config": config, "output": tmp_path / "out"}


def distill(teacher: Any, files: Dict[str, Path], *more: Any, small: bool = True) -> Result:
    given = [teacher, files["config"], files["output"], "--train", files["gold"], "--dev", files["gold"]]
    overrides = [part for name, value in SMALL.items() for part in (f"--{name}", value)] if small else []
    return CliRunner().invoke(app, ["distill", *map(str, [*given, *overrides, *more])])


def found(nlp: Language) -> List[Any]:
    return [ents(doc) for doc in nlp.pipe(text for text, _ in TEXTS)]


@pytest.mark.parametrize("of", ["sequences", "k-best", "tokens"])
def test_a_student_learns_from_texts_what_only_the_teacher_knows(
    teacher: Path, files: Dict[str, Path], of: str
) -> None:
    result = distill(teacher, files, "--texts", files["texts"], "--objective", of, "--temperature", 1, *LONGER)
    assert result.exit_code == 0, result.output
    student = spacy.load(files["output"] / "model-last")
    assert get_pipe(student, "crf_ner").labels == ("LOC", "ORG", "PER")
    assert found(student) == found(spacy.load(teacher))
    assert "1 annotated docs and 4 texts" in result.output
    rows = {line.split()[0]: line.split()[1:] for line in result.output.splitlines() if line.strip()}
    assert rows["teacher"][0] == rows["student"][0] == "100.00"


def test_without_texts_the_teacher_reads_what_is_annotated(teacher: Path, files: Dict[str, Path]) -> None:
    result = distill(teacher, files, "--training.max_steps", 30)
    assert result.exit_code == 0, result.output
    assert TeacherCache(files["output"] / "teacher").about["n_docs"] == {"gold": 1, "texts": 0}


def test_what_the_teacher_has_read_is_not_read_again(teacher: Path, files: Dict[str, Path]) -> None:
    cache = files["output"].parent / "cache"
    more = ["--texts", files["texts"], "--cache", cache, "--training.max_steps", 30]
    assert distill(teacher, files, *more).exit_code == 0
    shards = {path: path.stat().st_mtime_ns for path in cache.glob("emissions-*.npy")}
    assert shards
    files["output"] = files["output"].with_name("other")
    assert distill(teacher, files, *more, "--alpha", 0.9).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in shards} == shards
    files["texts"].write_text("其他\n", encoding="utf8")
    result = distill(teacher, files, *more)
    assert result.exit_code == 1
    assert "holds what another teacher says, or of other texts" in result.output


def test_a_training_of_other_settings_is_not_gone_on_with(teacher: Path, files: Dict[str, Path]) -> None:
    assert distill(teacher, files, "--training.max_steps", 30).exit_code == 0
    weights = (files["output"] / "model-last" / "crf_ner" / "model").read_bytes()
    result = distill(teacher, files, "--training.max_steps", 30, "--alpha", 0.9)
    assert result.exit_code == 1
    said = "was begun with initialize.components.crf_ner.lesson.alpha = 0.5, not 0.9; give the same config"
    assert said in result.output
    assert distill(teacher, files, "--training.max_steps", 30).exit_code == 0
    assert (files["output"] / "model-last" / "crf_ner" / "model").read_bytes() == weights


def test_the_config_says_all(teacher: Path, files: Dict[str, Path]) -> None:
    more = ["--alpha", 0.25, "--temperature", 2, "--objective", "k-best", "--gold-repeats", 3]
    assert distill(teacher, files, "--training.max_steps", 30, *more).exit_code == 0
    nlp = init_nlp(load_config(files["output"] / "config.cfg"))
    lesson = get_pipe(nlp, "crf_ner").lesson
    assert (lesson.alpha, lesson.temperature, lesson.objective) == (0.25, 2.0, "k-best")
    assert nlp.config["corpora"]["train"]["gold_repeats"] == 3
    assert nlp.config["training"]["max_steps"] == 30


def test_records_are_texts_too(teacher: Path, files: Dict[str, Path]) -> None:
    records = files["texts"].with_suffix(".jsonl")
    records.write_text('{"text": "北京"}\n{"text": " "}\n{"text": "上海", "id": 3}\n', encoding="utf8")
    assert distill(teacher, files, "--training.max_steps", 30, "--texts", records).exit_code == 0
    assert TeacherCache(files["output"] / "teacher").about["n_docs"]["texts"] == 2


@pytest.mark.parametrize(
    "data, said",
    [
        ('{"text": "北京"}\n{"txt": "上海"}\n', 'bad.jsonl:2: record has no "text"; give each record a "text"'),
        ('{"text": 3}\n', 'bad.jsonl:1: record has no "text"'),
        ("[3]\n", "bad.jsonl:1: "),
    ],
)
def test_bad_texts_are_refused_before_the_teacher_reads(
    teacher: Path, files: Dict[str, Path], data: str, said: str
) -> None:
    bad = files["texts"].with_name("bad.jsonl")
    bad.write_text(data, encoding="utf8")
    result = distill(teacher, files, "--texts", bad)
    assert result.exit_code == 1
    assert said in result.output
    assert not list(files["output"].rglob("*.npy"))


def test_a_text_that_is_not_utf_8_is_named(teacher: Path, files: Dict[str, Path]) -> None:
    files["texts"].write_bytes("北京\n".encode() + "上海\n".encode("gb18030"))
    result = distill(teacher, files, "--texts", files["texts"])
    assert result.exit_code == 1
    assert "texts.txt:2: " in result.output


@pytest.mark.parametrize(
    "config, said",
    [
        ("[nlp]\nlang = 'zh'\n", "must have one component of the factory crf_ner, got 0"),
        ("[components.a]\nfactory = crf_ner\n", "student.cfg: "),
        ("nothing", "student.cfg: "),
    ],
)
def test_a_config_that_trains_no_student_is_refused(
    teacher: Path, files: Dict[str, Path], config: str, said: str
) -> None:
    files["config"].write_text(config, encoding="utf8")
    result = distill(teacher, files, small=False)
    assert result.exit_code == 1
    assert said in result.output
    assert len(result.output.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "more, said",
    [
        (["--texts", "-"], "--texts -: texts are read twice, which standard input cannot be; name a file"),
        (["--temperature", 0], "temperature must be above 0, got 0"),
        (["--dev", "nowhere.spacy"], "nowhere.spacy: "),
        (["--training.max_steps", 0, "--training.patience", 0], "set training.max_steps or training.patience"),
        (["--components.crf_ner.model.lstm_width", "wide"], "student.cfg: "),
        (["--components.crf_ner.model.@architectures", "no.Such.v1"], "student.cfg: "),
    ],
)
def test_what_is_wrong_is_said_before_the_teacher_reads(
    teacher: Path, files: Dict[str, Path], more: List[Any], said: str
) -> None:
    result = distill(teacher, files, *more)
    assert result.exit_code == 1
    assert said in result.output and len(result.output.strip().splitlines()) == 1
    assert not files["output"].exists()


def test_a_training_without_a_seed_reads_in_an_order_all_the_same(teacher: Path, files: Dict[str, Path]) -> None:
    result = distill(teacher, files, "--training.max_steps", 30, "--training.seed", "null")
    assert result.exit_code == 0, result.output
    assert load_config(files["output"] / "config.cfg")["corpora"]["train"]["seed"] == 0


def test_a_teacher_without_a_recognizer_is_refused(files: Dict[str, Path], tmp_path: Path) -> None:
    spacy.blank("zh").to_disk(tmp_path / "blank")
    result = distill(tmp_path / "blank", files)
    assert result.exit_code == 1
    assert "has no crf_ner (it has nothing); give one that has" in result.output
