"""Checkpoints of a training: all that is needed to go on as if it had not been cut."""

import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree
from typing import Any, Dict, List, Optional, Tuple, cast

import numpy
import torch
from safetensors.torch import load_file, save_file
from spacy.language import Language
from thinc.api import Optimizer

from spacy_crf_ner.atomic_files import remove_leftovers, replaced_directory
from spacy_crf_ner.messages import show_path
from spacy_crf_ner.training.optimizer_state import Places, load_optimizer_tensors, optimizer_tensors

FOLDER = "checkpoints"
KEPT = 2
"""How many are kept: if the last one cannot be read, the one before can."""
_PIPELINE, _OPTIMIZER, _STATE, _TORCH = "pipeline", "optimizer.safetensors", "state.json", "torch_random_state"


@dataclass
class Progress:
    """Where a training is.

    step (int): The step after which it is.
    evaluations (List[Dict[str, Any]]): "score", "scores" and "losses" of each evaluation so far.
    """

    step: int = -1
    evaluations: List[Dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk.

    folder (Path): Its folder.
    progress (Progress): Where the training was.
    """

    folder: Path
    progress: Progress
    _random: Dict[str, Any]

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
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"{show_path(self.folder)}: is not a checkpoint of this pipeline ({error}); train into another "
                "directory"
            ) from error
        torch.set_rng_state(torch_state)
        version, numbers, gauss = self._random["python"]
        random.setstate((version, tuple(numbers), gauss))
        name, keys, *rest = self._random["numpy"]
        numpy.random.set_state((name, numpy.array(keys, dtype="uint32"), *rest))


def save_checkpoint(output: Path, nlp: Language, optimizer: Optimizer, progress: Progress) -> None:
    """Write a checkpoint whole or not at all, and delete those before the last two.

    Not kept are the random state of a GPU and the scale of half precision's gradients, which begin anew.

    output (Path): The training's directory.
    nlp (Language): The pipeline, with the weights themselves and not their averages.
    optimizer (Optimizer): The optimizer, between two steps.
    progress (Progress): Where the training is.
    RAISES (OSError): It cannot be written. Those before are as they were.
    """
    folder = output / FOLDER
    name, keys, *rest = cast(Tuple[Any, ...], numpy.random.get_state(legacy=True))
    state = {
        "step": progress.step,
        "evaluations": progress.evaluations,
        "random": {"python": random.getstate(), "numpy": [name, keys.tolist(), *rest]},
    }
    with replaced_directory(folder / f"step-{progress.step:08}") as path:
        path.mkdir()
        nlp.to_disk(path / _PIPELINE)
        tensors = optimizer_tensors(optimizer, Places(nlp))
        save_file({**tensors, _TORCH: torch.get_rng_state()}, path / _OPTIMIZER)
        (path / _STATE).write_text(json.dumps(state, default=float), encoding="utf8")
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
        except (OSError, ValueError):
            continue
        return Checkpoint(folder, Progress(state["step"], state["evaluations"]), state["random"])
    return None


def _folders(output: Path) -> List[Path]:
    return sorted(path for path in (output / FOLDER).glob("step-*") if path.is_dir())
