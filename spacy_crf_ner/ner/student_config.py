"""The training config of a student: how `spacy train` is told to learn from a teacher."""

from pathlib import Path
from typing import Any, Dict, Iterable

from thinc.api import Config

from spacy_crf_ner.ner.teacher_cache import TeacherCache

FACTORY = "crf_ner"


def recognizer_in(config: Config) -> str:
    """The name of the one component of a config that is a crf_ner.

    config (Config): The config.
    RETURNS (str): The name.
    RAISES (ValueError): There is none, or there are several.
    """
    components = config.get("components", {})
    names = [name for name, section in components.items() if section.get("factory") == FACTORY]
    if len(names) != 1:
        raise ValueError(f"the config must have one component of the factory {FACTORY}, got {len(names)}")
    return names[0]


def check_end(config: Config) -> None:
    """Look whether a training that goes through its docs without end has another end.

    config (Config): The config.
    RAISES (ValueError): It has none.
    """
    training = config.get("training", {})
    if training.get("max_steps") == 0 and training.get("patience") == 0:
        raise ValueError(
            "the docs of a distillation are streamed without end, so max_epochs does not count; set "
            "training.max_steps or training.patience"
        )


def student_config(
    config: Config,
    cache: TeacherCache,
    *,
    gold: Path,
    dev: Path,
    labels: Iterable[str] = (),
    gold_repeats: int = 1,
    lesson: Dict[str, Any],
) -> Config:
    """The config by which a student learns from a teacher.

    config (Config): The student's own.
    cache (TeacherCache): What the teacher says.
    gold, dev (Path): The annotated docs.
    labels (Iterable[str]): The labels of the annotated docs.
    gold_repeats (int): As of `TaughtCorpus`.
    lesson (Dict[str, Any]): The settings of `spacy-crf-ner.Lesson.v1`, but for the path.
    RETURNS (Config): The config, which `spacy train` takes. Its reader of training docs is not the student's own.
    """
    made = config.copy()
    name = recognizer_in(made)
    path = str(cache.folder.resolve())
    made["paths"] = {**made.get("paths", {}), "train": str(gold.resolve()), "dev": str(dev.resolve())}
    training = made.get("training", {})
    seed = training.get("seed") or 0
    made["corpora"] = {
        **made.get("corpora", {}),
        "train": {
            "@readers": "spacy-crf-ner.TaughtCorpus.v1",
            "path": path,
            "gold_repeats": gold_repeats,
            "seed": seed,
        },
        "dev": {"@readers": "spacy-crf-ner.AnnotatedCorpus.v1", "path": "${paths.dev}"},
    }
    # Docs are streamed, pass after pass.
    made["training"] = {
        **training,
        "train_corpus": "corpora.train",
        "dev_corpus": "corpora.dev",
        "max_epochs": -1,
    }
    initialize = made.setdefault("initialize", {})
    components = initialize.setdefault("components", {})
    components[name] = {
        **components.get(name, {}),
        "labels": sorted({*labels, *cache.labels}),
        "lesson": {"@misc": "spacy-crf-ner.Lesson.v1", "path": path, **lesson},
    }
    return made
