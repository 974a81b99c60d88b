"""`python -m spacy crf calibrate`: make a pipeline's probabilities say how often it is right."""

from pathlib import Path
from typing import Annotated, List, Optional

import srsly
from spacy.language import Language
from spacy.training import Example
from typer import Argument, Option
from wasabi import Printer

from spacy_crf_ner.atomic_files import whole_directory
from spacy_crf_ner.cli._app import app
from spacy_crf_ner.cli._errors import one_line_errors, orderly_termination
from spacy_crf_ner.cli._options import FunctionsOption, GpuOption, ModelArgument
from spacy_crf_ner.evaluation.calibration import N_BINS, Calibration, Recognizer, calibrate
from spacy_crf_ner.evaluation.predictions import component_name, load_pipeline, read_examples
from spacy_crf_ner.evaluation.reliability_plot import draw_reliability, require_matplotlib
from spacy_crf_ner.messages import show_path

FEW_ENTITIES = 100


@app.command("calibrate")
def calibrate_cli(
    model: ModelArgument,
    data: Annotated[
        Path,
        Argument(
            metavar="DEV", help="Gold dev docs: a .spacy file or one of another format, or a directory of them"
        ),
    ],
    output: Annotated[Path, Argument(metavar="OUT", help="Directory for the calibrated pipeline, new or empty")],
    component: Annotated[Optional[str], Option(help="Which component, if several are crf_ner")] = None,
    bins: Annotated[int, Option(min=1, help="Bins of the calibration errors, of equal width")] = N_BINS,
    gpu_id: GpuOption = -1,
    code: FunctionsOption = None,
) -> None:
    """Fit a temperature for the probabilities of a pipeline's crf_ner on dev docs, and save the pipeline with it.

    The entities stay the same, and so do precision, recall and F, unless the component has a min_score or a
    gazetteer with bonuses. OUT/calibration holds report.json and reliability.png: how well probabilities match the
    share of entities that are right, before and after. The cross-fitted figures are those to quote: no doc is
    measured at a temperature that was fitted on it.
    """
    msg = Printer()
    with one_line_errors(), orderly_termination():
        require_matplotlib()
        with whole_directory(output) as directory:
            nlp = load_pipeline(model, code=code, gpu_id=gpu_id)
            name = component_name(nlp, model, component)
            examples = read_examples(data, nlp)
            _run_preceding(nlp, name, examples)
            pipe: Recognizer = nlp.get_pipe(name)  # type: ignore[assignment]
            own = pipe.temperature
            try:
                result = calibrate(pipe, examples, n_bins=bins, batch_size=nlp.batch_size)
            except ValueError as error:
                raise ValueError(f"{show_path(data)}: {error}") from error
            nlp.to_disk(directory)
            _write_report(directory / "calibration", result)
    _print_result(msg, result)
    if own != 1.0:
        msg.info(f"The pipeline had temperature {own:.3f}, which is replaced; 'before' is at 1")
    if pipe.min_score:
        msg.warn(
            f"The figures are of all entities, but '{name}' drops those below its min_score of {pipe.min_score}, "
            "which are others now; choose it anew"
        )
    if result.n_changed:
        msg.warn(result.note)
    else:
        msg.info(result.note)
    if result.cross_fitted.ece >= result.before.ece:
        msg.warn(
            f"Cross-fitted, the calibration error of these {result.after.n} entities is no smaller than before: "
            "the temperature makes whole tag sequences likelier, what was missed included; compare on more docs"
        )
    if result.after.n < FEW_ENTITIES:
        msg.warn(f"Only {result.after.n} predicted entities: calibration errors are mostly noise; give more docs")
    msg.good(f"Saved the pipeline to {show_path(output)}, report and plot to {show_path(output / 'calibration')}")


def _run_preceding(nlp: Language, name: str, examples: List[Example]) -> None:
    """Annotate the predicted docs as they are when the component gets them."""
    names = nlp.component_names
    docs = nlp.pipe((example.predicted for example in examples), disable=names[names.index(name) :])
    for example, doc in zip(examples, docs, strict=True):
        example.predicted = doc


def _write_report(directory: Path, result: Calibration) -> None:
    directory.mkdir(exist_ok=True)  # a component may have that name
    srsly.write_json(directory / "report.json", result.to_json())
    panels = [
        ("before: temperature 1", result.before),
        (f"after: temperature {result.temperature:.3f}", result.after),
    ]
    draw_reliability(directory / "reliability.png", panels)


def _print_result(msg: Printer, result: Calibration) -> None:
    """Print what was measured, a column a temperature."""
    counts = {
        "Docs": f"{result.n_docs:,}",
        "Gold entities": f"{result.n_gold:,}",
        "Predicted": f"{result.after.n:,}",
        "NER P": _percent(result.precision),
        "NER R": _percent(result.recall),
        "NER F": _percent(result.f),
    }
    msg.table(counts, title="Entities", aligns=("l", "r"))
    measured = (result.before, result.after, result.cross_fitted)
    rows = [
        ("Temperature", "1", f"{result.temperature:.3f}", ", ".join(f"{t:.3f}" for t in result.fold_temperatures)),
        ("ECE %", *(_percent(r.ece) for r in measured)),
        ("MCE %", *(_percent(r.mce) for r in measured)),
        ("Brier score", *(f"{r.brier:.4f}" for r in measured)),
        ("Mean score %", *(_percent(r.mean_score) for r in measured)),
        ("Correct %", *(_percent(r.accuracy) for r in measured)),
    ]
    header = ("", "before", "after", "cross-fitted")
    msg.table(rows, title="Calibration", header=header, divider=True, aligns=("l", "r", "r", "r"))
    if result.n_ignored:
        msg.warn(f"{result.n_ignored} predictions on tokens without gold annotation are left out of all figures")


def _percent(value: float) -> str:
    return f"{value * 100:.2f}"
