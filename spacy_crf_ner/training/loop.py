"""spaCy's training loop, saved so that it can be cut anywhere and goes on.

A training that goes on first repeats what is cheap, with the same random numbers: it reads the corpus, shuffles
and batches it, and advances the schedules, without a single update. So no reader, batcher or schedule needs to be
saved. At the step of the checkpoint, weights, moments and random states are set as they were. `before_update` is
not called for steps that are repeated.
"""

import sys
from pathlib import Path
from shutil import copytree, rmtree
from typing import IO, Any, Callable, Dict, Iterable, Iterator, Optional, Tuple, cast
from zlib import crc32

from spacy.language import Language
from spacy.schemas import ConfigSchemaTraining
from spacy.training.loop import (
    DIR_MODEL_BEST,
    DIR_MODEL_LAST,
    create_before_to_disk_callback,
    create_evaluation_callback,
    create_train_batches,
    train_while_improving,
    update_meta,
)
from spacy.util import registry, resolve_dot_names
from thinc.api import fix_random_seed, set_gpu_allocator
from wasabi import Printer

from spacy_crf_ner.atomic_files import remove_leftovers, replaced_directory
from spacy_crf_ner.messages import show_path
from spacy_crf_ner.training.adversarial import FastGradient
from spacy_crf_ner.training.checkpoints import (
    FOLDER,
    Checkpoint,
    Progress,
    RandomStates,
    last_checkpoint,
    random_states,
    save_checkpoint,
    set_random_states,
)

ADVERSARIAL = "adversarial"
"""The section of a config that names a `FastGradient`."""


def train(
    nlp: Language,
    output: Path,
    *,
    resume: bool = False,
    use_gpu: int = -1,
    stdout: Optional[IO] = None,
    stderr: Optional[IO] = None,
) -> Language:
    """Train a pipeline as `spacy.training.loop.train` does, and write checkpoints. The result is the same, unless
    updates draw from Python's `random`, as those of spaCy's `ner` do: here the order of the examples has random
    numbers of its own.

    At each evaluation, model-last, if it is the best also model-best, and a checkpoint are written, each whole or
    not at all. What an interrupt or an error ends is saved as model-last. A section ``[adversarial]`` of the
    config is heeded, which spaCy's function passes over.

    nlp (Language): The pipeline, as `init_nlp` makes it from the config.
    output (Path): The directory.
    resume (bool): Go on after the last checkpoint in the directory, if there is one. Without it, the models and
        checkpoints of an earlier training there are deleted.
    use_gpu (int): The GPU, or -1.
    stdout, stderr (Optional[IO]): Where the logger writes; None: the process's own.
    RETURNS (Language): The trained pipeline.
    RAISES (ValueError): The checkpoint is of another pipeline, config or corpus.
    """
    stdout, stderr = stdout or sys.stdout, stderr or sys.stderr
    msg = Printer(no_print=True)
    config = nlp.config.interpolate()
    if config["training"]["seed"] is not None:
        fix_random_seed(config["training"]["seed"])
    if use_gpu >= 0 and config["training"]["gpu_allocator"]:
        set_gpu_allocator(config["training"]["gpu_allocator"])
    T: Dict[str, Any] = registry.resolve(config["training"], schema=ConfigSchemaTraining)
    train_corpus, dev_corpus = resolve_dot_names(config, [T["train_corpus"], T["dev_corpus"]])
    optimizer, frozen = T["optimizer"], T["frozen_components"]
    before_to_disk = create_before_to_disk_callback(T["before_to_disk"])
    output.mkdir(parents=True, exist_ok=True)
    remove_leftovers(output, DIR_MODEL_LAST, DIR_MODEL_BEST)
    checkpoint = last_checkpoint(output) if resume else None
    if checkpoint is not None:
        checkpoint.check_config(config)
    if not resume:
        for name in (DIR_MODEL_LAST, DIR_MODEL_BEST, FOLDER):
            if (output / name).is_dir():
                rmtree(output / name)
    adversarial = registry.resolve({"adversarial": config[ADVERSARIAL]}) if ADVERSARIAL in config else {}
    run = _Run(nlp, checkpoint, adversarial.get("adversarial"))

    def save_model() -> None:
        with nlp.use_params(optimizer.averages), replaced_directory(output / DIR_MODEL_LAST) as path:
            before_to_disk(nlp).to_disk(path)

    steps = train_while_improving(
        cast(Language, run),
        optimizer,
        own_random_numbers(
            create_train_batches(nlp, train_corpus, T["batcher"], T["max_epochs"]), run.progress.random_at_start
        ),
        run.evaluation(create_evaluation_callback(nlp, dev_corpus, T["score_weights"])),
        dropout=T["dropout"],
        accumulate_gradient=T["accumulate_gradient"],
        patience=T["patience"],
        max_steps=T["max_steps"],
        eval_frequency=T["eval_frequency"],
        exclude=frozen,
        annotating_components=T["annotating_components"],
        before_update=run.before_update(T["before_update"]),
    )
    stdout.write(msg.info(f"Pipeline: {nlp.pipe_names}") + "\n")
    if frozen:
        stdout.write(msg.info(f"Frozen components: {frozen}") + "\n")
    if T["annotating_components"]:
        stdout.write(msg.info(f"Set annotations on update for: {T['annotating_components']}") + "\n")
    stdout.write(msg.info(f"Initial learn rate: {optimizer.learn_rate}") + "\n")
    if checkpoint is not None:
        stdout.write(msg.info(f"Going on after step {checkpoint.progress.step}") + "\n")
    with nlp.select_pipes(disable=frozen):
        log_step, finalize_logger = T["logger"](nlp, stdout, stderr)
    try:
        for _, info, is_best in steps:
            if run.is_replaying:
                if info["step"] == run.progress.step:
                    assert checkpoint is not None
                    run.check_replay(checkpoint)
                    checkpoint.restore(nlp, optimizer)
                    run.is_replaying = False
                continue
            if is_best is not None:
                run.note(info)
                with nlp.select_pipes(disable=frozen):
                    update_meta(T, nlp, info)
                save_model()
                if is_best:
                    with replaced_directory(output / DIR_MODEL_BEST) as path:
                        copytree(output / DIR_MODEL_LAST, path)
                save_checkpoint(output, nlp, optimizer, run.progress, config)
                info["output_path"] = str(output / DIR_MODEL_LAST)
            log_step(info if is_best is not None else None)
    except Exception as error:
        stdout.write(msg.warn(f"Aborting and saving the last model. Encountered exception: {error!r}") + "\n")
        raise
    finally:
        finalize_logger()
        if not run.is_replaying:
            save_model()
    if run.is_replaying:
        raise ValueError(
            f"{show_path(output)}: the corpus ends before step {run.progress.step}, that of the checkpoint; go on "
            "with the same corpus, or begin anew"
        )
    stdout.write(msg.good("Saved pipeline to output directory", output / DIR_MODEL_LAST) + "\n")
    return nlp


class _Run:
    """The pipeline as spaCy's loop sees it: as long as a run is replayed, it has no pipes and learns nothing.

    nlp (Language): The pipeline.
    checkpoint (Optional[Checkpoint]): Until where the run is replayed.
    adversarial (Optional[FastGradient]): How a batch is learnt, if not plainly.
    """

    def __init__(
        self, nlp: Language, checkpoint: Optional[Checkpoint], adversarial: Optional[FastGradient] = None
    ) -> None:
        self.nlp = nlp
        self.adversarial = adversarial
        self.progress = Progress(random_at_start=random_states()) if checkpoint is None else checkpoint.progress
        self._digest = 0  # of all examples so far
        self.is_replaying = checkpoint is not None
        self._n_replayed = 0

    @property
    def pipeline(self) -> Iterable[Tuple[str, Any]]:
        return [] if self.is_replaying else self.nlp.pipeline

    def update(self, examples: Any, **settings: Any) -> None:
        for example in examples:
            self._digest = crc32(example.reference.text.encode("utf8"), self._digest)
        if self.is_replaying:
            return
        if self.adversarial is None:
            self.nlp.update(examples, **settings)
        else:
            self.adversarial.update(self.nlp, examples, **settings)

    def use_params(self, params: Any) -> Any:
        return self.nlp.use_params(params)

    def evaluation(self, evaluate: Callable[[], Tuple[float, Dict[str, Any]]]) -> Callable[[], Tuple[float, Any]]:
        """An evaluation that returns what it did the first time."""

        def evaluated() -> Tuple[float, Any]:
            if not self.is_replaying:
                return evaluate()
            self._n_replayed += 1
            return self.progress.scores[self._n_replayed - 1], {}

        return evaluated

    def before_update(self, callback: Optional[Callable[[Language, Dict[str, Any]], None]]) -> Any:
        """The user's callback, which was called for the replayed steps before."""
        if callback is None:
            return None

        def called(_: Any, info: Dict[str, Any]) -> None:
            if not self.is_replaying:
                callback(self.nlp, info)

        return called

    def note(self, info: Dict[str, Any]) -> None:
        """Remember an evaluation."""
        self.progress.step = info["step"]
        self.progress.digest = self._digest
        self.progress.scores.append(float(info["score"]))

    def check_replay(self, checkpoint: Checkpoint) -> None:
        """Look whether the examples up to the checkpoint were those of the first time.

        RAISES (ValueError): They were others.
        """
        if self._digest != self.progress.digest:
            raise ValueError(
                f"{show_path(checkpoint.folder)}: the training has seen other examples up to step "
                f"{self.progress.step} than the corpus holds now; go on with the same corpus, or begin anew"
            )


def own_random_numbers(batches: Iterator[Any], start: RandomStates) -> Iterator[Any]:
    """The same batches, drawn with random states of their own, Python's and NumPy's: what an update draws makes no
    difference to the batches after it, and so they can be repeated without the updates.

    batches (Iterator[Any]): The batches.
    start (RandomStates): The states before the first.
    YIELDS (Any): The batches.
    """
    own = start
    while True:
        others = random_states()
        set_random_states(own)
        try:
            batch = next(batches)
        except StopIteration:
            return
        finally:
            own = random_states()
            set_random_states(others)
        yield batch
