"""Checkpoints of a training: all that is needed to go on as if it had not been cut."""

import json
import random
from dataclasses import asdict, dataclass, field
from pathlib import Path
from shutil import rmtree
from typing import Any, Dict, List, Optional, Tuple, cast

import numpy
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from spacy.language import Language
from spacy.util import dict_to_dot, logger
from thinc.api import Config, Optimizer

from spacy_crf_ner.atomic_files import remove_leftovers, replaced_directory
from spacy_crf_ner.messages import one_line, quote, show_path
from spacy_crf_ner.training.optimizer_state import Places, load_optimizer_tensors, optimizer_tensors

RandomStates = Dict[str, Any]
"""The states of Python's and NumPy's random numbers."""

FOLDER = "checkpoints"
KEPT = 2
"""How many are kept: if the last one cannot be read, the one before can."""
_PIPELINE, _OPTIMIZER, _STATE, _TORCH = "pipeline", "optimizer.safetensors", "state.json", "torch_random_state"


@dataclass
class Progress:
    """Where a training is.

    random_at_start (RandomStates): The random states before the corpus was read.
    step (int): The step after which it is.
    scores (List[float]): The score of each evaluation so far.
    digest (int): A checksum of all examples so far.
    """

    random_at_start: RandomStates
    step: int = -1
    scores: List[float] = field(default_factory=list)
    digest: int = 0


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk.

    folder (Path): Its folder.
    progress (Progress): Where the training was.
    random (RandomStates): The random states there.
    config (Dict[str, Any]): The settings of the training, by dotted name.
    """

    folder: Path
    progress: Progress
    random: RandomStates
    config: Dict[str, Any]

    def check_config(self, config: Config) -> None:
        """Look whether a training was begun with the same config.

        config (Config): The config of the initialized pipeline, its variables resolved.
        RAISES (ValueError): A setting is another one.
        """
        now = _settings(config)
        for name in {**self.config, **now}:
            before, after = (quote(x[name]) if name in x else "nothing" for x in (self.config, now))
            if before != after:
                raise ValueError(
                    f"{show_path(self.folder)}: the training was begun with {name} = {before}, not {after}; give "
                    "the same config to go on, or begin anew"
                )

    def restore(self, nlp: Language, optimizer: Optimizer) -> None:
        """Set weights, the optimizer's state and the random states as they were.

        nlp (Language): The pipeline, initialized as it was for the training.
        optimizer (Optimizer): A new one of the same settings, its schedules where they were.
        RAISES (ValueError): The pipeline is another one.
        """
        try:
            nlp.from_disk(self.folder / _PIPELINE)
            tensors = load_file(self.folder / _OPTIMIZER)
            torch_state = tensors.pop(_TORCH)
            load_optimizer_tensors(optimizer, Places(nlp), tensors)
        except (KeyError, ValueError, SafetensorError) as error:
            raise ValueError(
                f"{show_path(self.folder)}: is not a checkpoint of this pipeline ({error}); train into another "
                "directory"
            ) from error
        torch.set_rng_state(torch_state)
        set_random_states(self.random)


def random_states() -> RandomStates:
    """The states of Python's and NumPy's random numbers, as JSON can hold them."""
    name, keys, *rest = cast(Tuple[Any, ...], numpy.random.get_state(legacy=True))
    return {"python": random.getstate(), "numpy": [name, keys.tolist(), *rest]}


def set_random_states(states: RandomStates) -> None:
    """Set what `random_states` returned."""
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, *rest = states["numpy"]
    numpy.random.set_state((name, numpy.array(keys, dtype="uint32"), *rest))


def save_checkpoint(output: Path, nlp: Language, optimizer: Optimizer, progress: Progress, config: Config) -> None:
    """Write a checkpoint whole or not at all, and delete those before the last two.

    Not kept are the random state of a GPU and the scale of half precision's gradients, which begin anew.

    output (Path): The training's directory.
    nlp (Language): The pipeline, with the weights themselves and not their averages.
    optimizer (Optimizer): The optimizer, between two steps.
    progress (Progress): Where the training is.
    config (Config): The config that the training was begun with, its variables resolved.
    RAISES (OSError): It cannot be written. Those before are as they were.
    """
    folder = output / FOLDER
    state = {**asdict(progress), "random": random_states(), "config": _settings(config)}
    with replaced_directory(folder / f"step-{progress.step:08}") as path:
        path.mkdir()
        nlp.to_disk(path / _PIPELINE)
        tensors = optimizer_tensors(optimizer, Places(nlp))
        try:
            save_file({**tensors, _TORCH: torch.get_rng_state()}, path / _OPTIMIZER)
        except SafetensorError as error:
            what = f"{show_path(folder)}: a checkpoint cannot be written ({error})"
            raise OSError(f"{what}; choose a place that has room") from error
        (path / _STATE).write_text(json.dumps(state), encoding="utf8")
    for old in _folders(output)[:-KEPT]:
        rmtree(old)


def last_checkpoint(output: Path) -> Optional[Checkpoint]:
    """The last checkpoint of a training that can be read.

    output (Path): The training's directory. What a killed process left half written in it is deleted.
    RETURNS (Optional[Checkpoint]): The checkpoint; None if there is none yet.
    """
    remove_leftovers(output / FOLDER, "step")
    for folder in reversed(_folders(output)):
        try:
            state = json.loads((folder / _STATE).read_text(encoding="utf8"))
            with safe_open(folder / _OPTIMIZER, "pt") as file:  # reads its header, and checks its size
                file.keys()
            states, config = state.pop("random"), state.pop("config")
            return Checkpoint(folder, Progress(**state), states, config)
        except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
            logger.warning("%s: cannot be read (%s), and the checkpoint before is taken", folder, one_line(error))
    return None


def _settings(config: Config) -> Dict[str, Any]:
    """The settings of a config by dotted name, as JSON reads them back. spaCy's own JSON reads the last bit of a
    float wrongly."""
    return json.loads(
        json.dumps(dict_to_dot(config), default=str), parse_float=lambda number: float(f"{float(number):.12g}")
    )


def _folders(output: Path) -> List[Path]:
    return sorted(path for path in (output / FOLDER).glob("step-*") if path.is_dir())
