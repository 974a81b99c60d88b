"""`python -m spacy crf train`: `spacy train`, with checkpoints from which a training that was cut goes on."""

from pathlib import Path
from typing import Annotated, Any, Dict, Optional

import typer
from spacy import util
from spacy.cli._util import import_code, parse_config_overrides, setup_gpu
from spacy.training.initialize import init_nlp
from thinc.api import Config
from typer import Argument, Option

from spacy_crf_ner.cli._app import app
from spacy_crf_ner.cli._errors import one_line_errors, orderly_termination
from spacy_crf_ner.cli._options import FunctionsOption, GpuOption
from spacy_crf_ner.messages import one_line, show_path
from spacy_crf_ner.training.loop import train


@app.command("train", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def train_cli(
    ctx: typer.Context,
    config: Annotated[Path, Argument(metavar="CONFIG", help="Training config", dir_okay=False)],
    output: Annotated[
        Optional[Path], Option("--output", "-o", help="Directory for model-best, model-last and checkpoints")
    ] = None,
    resume: Annotated[
        Optional[Path],
        Option(metavar="OUTPUT", help="Go on in this directory after its last checkpoint, if it has one"),
    ] = None,
    code: FunctionsOption = None,
    gpu_id: GpuOption = -1,
) -> None:
    """Train a pipeline as `spacy train` does, so that it survives being cut.

    At every evaluation a checkpoint is written: weights, the optimizer's moments and averages, and random states.
    A run that was cut and goes on with --resume ends with the same weights as one that was not: bit for bit on one
    thread. Settings of the config may be overridden, as --training.max_steps 20000.
    """
    with one_line_errors(), orderly_termination():
        if (output is None) == (resume is None):
            raise ValueError(
                "--output OUTPUT begins a training, --resume OUTPUT goes on with one; give one of both"
            )
        import_code(code)
        loaded = read_config(config, parse_config_overrides(ctx.args))
        setup_gpu(gpu_id)
        folder = resume or output
        assert folder is not None
        nlp = init_nlp(loaded, use_gpu=gpu_id)
        train(nlp, folder, resume=resume is not None, use_gpu=gpu_id)


def read_config(path: Path, overrides: Dict[str, Any]) -> Config:
    """Read a training config.

    path (Path): The file.
    overrides (Dict[str, Any]): Settings that take the place of its own, by dotted name.
    RETURNS (Config): The config, whose variables are not resolved.
    RAISES (ValueError): It is not a config, or has no such setting.
    """
    try:
        return util.load_config(path, overrides=overrides, interpolate=False)
    except Exception as error:  # of several kinds, some of many lines
        raise ValueError(f"{show_path(path)}: {one_line(error)}; `crf init-config` writes a config") from error
