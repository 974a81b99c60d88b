"""`python -m spacy crf distill`: train a small pipeline on what a large one says."""

import hashlib
from enum import Enum
from pathlib import Path
from typing import Annotated, Dict, List, Optional, Sequence, Set, Tuple

import spacy
import typer
from spacy import util
from spacy.cli._util import parse_config_overrides
from spacy.language import Language
from spacy.training import Example
from spacy.training.initialize import init_nlp
from thinc.api import Config
from tqdm import tqdm  # type: ignore[import-untyped]
from typer import Argument, Option
from wasabi import Printer

from spacy_crf_ner.atomic_files import whole_file
from spacy_crf_ner.cli._app import app
from spacy_crf_ner.cli._errors import one_line_errors, orderly_termination
from spacy_crf_ner.cli._options import EncodingOption, FunctionsOption, GpuOption
from spacy_crf_ner.cli.train import read_config
from spacy_crf_ner.evaluation.predictions import (
    component_name,
    load_pipeline,
    megabytes_on_disk,
    predict,
    read_examples,
)
from spacy_crf_ner.evaluation.scores import score
from spacy_crf_ner.formats.plain_text import read_texts
from spacy_crf_ner.formats.source import STDIN, find_files
from spacy_crf_ner.messages import one_line, show_path
from spacy_crf_ner.ner.distillation import OBJECTIVES, TEMPERATURE, check_settings
from spacy_crf_ner.ner.student_config import check_end, recognizer_in, student_config
from spacy_crf_ner.ner.teacher_cache import TeacherCache
from spacy_crf_ner.training.loop import train

CONFIG, CACHE = "config.cfg", "teacher"

Objective = Enum("Objective", {name: name for name in OBJECTIVES}, type=str)  # type: ignore[misc]


@app.command("distill", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def distill_cli(
    ctx: typer.Context,
    teacher: Annotated[str, Argument(help="Package name or directory of the pipeline that teaches")],
    config: Annotated[
        Path, Argument(metavar="STUDENT.cfg", help="Training config of the pipeline that learns", dir_okay=False)
    ],
    output: Annotated[Path, Argument(help="Directory for the student: model-best, model-last and config.cfg")],
    gold: Annotated[Path, Option("--train", help="Annotated docs for training, of any format")],
    dev: Annotated[Path, Option("--dev", help="Annotated docs by which the best student is chosen")],
    texts: Annotated[
        Optional[List[Path]],
        Option(help="Files of texts without annotation, one per line or JSON records; may be repeated"),
    ] = None,
    alpha: Annotated[
        float, Option(min=0, max=1, help="The teacher's share of the loss; the rest is of --train")
    ] = 0.5,
    temperature: Annotated[float, Option(help="The higher, the more counts what the teacher holds unlikely")] = (
        TEMPERATURE
    ),
    objective: Annotated[Objective, Option(help="What the student learns of the teacher")] = Objective.sequences,  # type: ignore[attr-defined]
    gold_repeats: Annotated[int, Option(min=1, help="How often each doc of --train comes per pass")] = 1,
    cache: Annotated[
        Optional[Path], Option(help="Directory for what the teacher says  [default: OUTPUT/teacher]")
    ] = None,
    component: Annotated[
        Optional[str], Option(help="Which component of the teacher, if several are crf_ner")
    ] = None,
    encoding: EncodingOption = None,
    gpu_id: GpuOption = -1,
    code: FunctionsOption = None,
) -> None:
    """Train a small pipeline on what a large one says of annotated docs and of texts without annotation.

    The student learns how probable the teacher holds every way to mark a text, mixed with the annotation where
    there is some. The teacher reads everything once, and what it says is kept on disk. Then the student is trained
    as by `crf train`, with OUTPUT/config.cfg: settings may be overridden, as --training.max_steps 20000. The same
    command goes on where a run was cut.
    """
    msg = Printer()
    with one_line_errors(), orderly_termination():
        student = read_config(config, parse_config_overrides(ctx.args))
        lesson = {"alpha": alpha, "temperature": temperature, "objective": objective.value}
        # What is wrong is said before the teacher reads for hours.
        check_settings(**lesson)
        _check_student(config, student)
        if any(str(path) == STDIN for path in texts or ()):
            raise ValueError("--texts -: texts are read twice, which standard input cannot be; name a file")
        read_examples(dev, spacy.blank(student.interpolate()["nlp"]["lang"]))
        filled, labels = _taught(
            cache or output / CACHE, teacher, component, gold, texts or [], encoding, code=code, gpu_id=gpu_id
        )
        n_docs = filled.about["n_docs"]
        msg.good(
            f"The teacher has read {n_docs['gold']:,} annotated docs and {n_docs['texts']:,} texts: "
            f"{show_path(filled.folder)}"
        )
        made = student_config(
            student, filled, gold=gold, dev=dev, labels=labels, gold_repeats=gold_repeats, lesson=lesson
        )
        output.mkdir(parents=True, exist_ok=True)
        with whole_file(output / CONFIG) as part:
            made.to_disk(part)
        nlp = init_nlp(made, use_gpu=gpu_id)
        train(nlp, output, resume=True, use_gpu=gpu_id)
        _print_comparison(msg, {"teacher": teacher, "student": str(output / "model-best")}, dev, code, gpu_id)


def _check_student(path: Path, config: Config) -> None:
    try:
        recognizer_in(config)
        check_end(config)
        util.load_model_from_config(config, auto_fill=True)
    except Exception as error:  # the factories of any package may run here
        raise ValueError(f"{show_path(path)}: {one_line(error)}; `crf init-config` writes a config") from error


def _taught(
    folder: Path,
    teacher: str,
    component: Optional[str],
    gold: Path,
    texts: Sequence[Path],
    encoding: Optional[str],
    *,
    code: Optional[Path],
    gpu_id: int,
) -> Tuple[TeacherCache, Set[str]]:
    """What the teacher says, and the labels of the annotated docs. Teacher and docs are forgotten afterwards."""
    nlp = load_pipeline(teacher, code=code, gpu_id=gpu_id)
    name = component_name(nlp, teacher, component)
    examples = read_examples(gold, nlp)
    labels = {ent.label_ for example in examples for ent in example.reference.ents}
    return fill_cache(folder, nlp, name, examples, [gold], texts, encoding), labels


def fill_cache(
    folder: Path,
    teacher: Language,
    name: str,
    examples: Sequence[Example],
    gold: Sequence[Path],
    texts: Sequence[Path],
    encoding: Optional[str] = None,
) -> TeacherCache:
    """Let the teacher read everything, with a progress bar.

    folder (Path): Where what it says is kept.
    teacher (Language): The pipeline.
    name (str): Its `crf_ner`.
    examples (Sequence[Example]): The annotated docs.
    gold, texts (Sequence[Path]): The files of the annotated docs, and of the others.
    encoding (Optional[str]): The encoding of the latter.
    RETURNS (TeacherCache): What it says.
    RAISES (ValueError): The folder holds something else.
    RAISES (FormatError): A text cannot be read.
    """
    # All are read once before hours are spent.
    n_texts = sum(1 for _ in read_texts(texts, encoding=encoding)) if texts else 0
    made_of = {
        "teacher": _digest_of_bytes(teacher.to_bytes(exclude=["vocab"])),
        "gold": _digest(gold),
        "texts": _digest(texts),
        "encoding": encoding,
    }
    with tqdm(total=len(examples) + n_texts, unit=" docs", desc="The teacher reads", disable=None) as bar:
        return TeacherCache.fill(
            folder,
            teacher,
            name,
            examples,
            read_texts(texts, encoding=encoding) if texts else [],
            made_of=made_of,
            progress=bar.update,
        )


def _digest(paths: Sequence[Path]) -> List[str]:
    found = []
    for path in find_files(paths) if paths else []:
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        found.append(digest.hexdigest())
    return found


def _digest_of_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _print_comparison(msg: Printer, models: Dict[str, str], dev: Path, code: Optional[Path], gpu_id: int) -> None:
    rows = []
    for who, model in models.items():
        nlp = load_pipeline(model, code=code, gpu_id=gpu_id)
        examples = read_examples(dev, nlp)
        _, seconds = predict(nlp, examples)
        n_characters = sum(len(example.reference.text) for example in examples)
        found = score(examples).spacy["ents_f"]
        size = megabytes_on_disk(nlp.path) if nlp.path else 0.0
        rows.append(
            (
                who,
                "-" if found is None else f"{found * 100:.2f}",
                f"{n_characters / seconds:,.0f}",
                f"{size:,.1f}",
            )
        )
    header = ("", "NER F on dev", "characters/s", "MB on disk")
    msg.table(rows, header=header, divider=True, aligns=("l", "r", "r", "r"))
