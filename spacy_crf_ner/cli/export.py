"""`python -m spacy crf export`: a pipeline for a CPU server, whose networks ONNX Runtime computes."""

import re
from functools import partial
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Dict, List, Optional, Sequence

import srsly
from spacy import util
from spacy.tokens import Doc
from spacy.training import Example
from typer import Argument, Option
from wasabi import Printer

from spacy_crf_ner.atomic_files import whole_directory
from spacy_crf_ner.cli._app import app
from spacy_crf_ner.cli._errors import one_line_errors, orderly_termination
from spacy_crf_ner.cli._options import FunctionsOption, ModelArgument
from spacy_crf_ner.deploy.graph import OPSET
from spacy_crf_ner.deploy.parity import TOLERANCE, Parity, Reading, compare, read
from spacy_crf_ner.deploy.speed import Cost, costs
from spacy_crf_ner.evaluation.predictions import (
    component_name,
    load_pipeline,
    megabytes_on_disk,
    read_examples,
    require_enabled,
)
from spacy_crf_ner.messages import quote, show_path

MOST_CHARACTERS = 20_000
"""Of the dev docs, what is read to measure speed."""
TORCH, FULL, INT8 = "torch", "ONNX", "ONNX INT8"

Report = Dict[str, Dict[str, Any]]


@app.command("export")
def export_cli(
    model: ModelArgument,
    output: Annotated[Path, Argument(help="Directory for the exported pipeline, new or empty")],
    dev: Annotated[Path, Option("--dev", help="Gold docs on which it must say the same, of any format")],
    int8: Annotated[bool, Option("--int8", help="Compute in 8-bit integers")] = False,
    max_loss: Annotated[float, Option(min=0, help="How many points of F1 --int8 may cost on --dev")] = 0.3,
    keep_fp32: Annotated[
        Optional[List[str]],
        Option(
            metavar="LAYERS", help="Layers that --int8 leaves as they are, a regular expression; may be repeated"
        ),
    ] = None,
    opset: Annotated[int, Option(help="Version of the ONNX operations")] = OPSET,
    component: Annotated[Optional[str], Option(help="Which component is compared, if several are crf_ner")] = None,
    code: FunctionsOption = None,
) -> None:
    """Export a pipeline to ONNX: the same spacy.load, the same doc.ents, faster on a CPU, and without torch.

    Before anything is written, both pipelines read the dev docs. In full precision every doc must have the same
    entities and other annotation; --int8 may cost --max-loss points of F1. Integers differ between CPUs: run this
    where it will serve.
    """
    msg = Printer()
    with one_line_errors(), orderly_termination():
        _require_extra()
        # They import torch's exporter and onnx, which no other command needs.
        from spacy_crf_ner.deploy import exporting, quantization

        with whole_directory(output) as directory, TemporaryDirectory() as work:
            nlp = load_pipeline(model, code=code)
            name = component_name(nlp, model, component)
            require_enabled(nlp, name)
            examples = read_examples(dev, nlp)
            readings = {TORCH: read(nlp, name, examples)}
            models = {TORCH: nlp.path or Path(model)}
            exported = exporting.export(nlp, opset=opset)

            def save_and_read(kind: str) -> None:
                models[kind] = Path(work) / kind
                exported.to_disk(models[kind])
                readings[kind] = read(util.load_model(models[kind]), name, examples)

            save_and_read(FULL)
            if int8:
                layers = [x for graph in exporting.graphs_of(exported) for x in quantization.layer_names(graph)]
                _check_patterns(keep_fp32 or [], layers)
                exporting.change_graphs(exported, partial(quantization.quantize, keep=keep_fp32 or []))
                save_and_read(INT8)
            parities = {kind: compare(readings[TORCH], reading) for kind, reading in readings.items()}
            chosen = INT8 if int8 else FULL
            said = _refusal(parities, max_loss)
            # What is refused need not be measured.
            measured = [] if said else costs(list(models.values()), _some_texts(examples), code)
            report = _report(readings, parities, measured, models)
            _print_table(msg, report)
            if said is not None:
                _print_worst(msg, parities[chosen if parities[FULL].is_exact else FULL], examples)
                raise ValueError(said)
            copytree(models[chosen], directory, dirs_exist_ok=True)
            srsly.write_json(directory / "export.json", report)
        msg.good(f"Saved the pipeline ({chosen}) to {show_path(output)}, and the figures to export.json in it")


def _require_extra() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # type: ignore[import-untyped]  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ValueError(f"{error.name} is not installed; pip install 'spacy-crf-ner[onnx]'") from None


def _check_patterns(patterns: Sequence[str], layers: Sequence[str]) -> None:
    for pattern in patterns:
        try:
            found = [layer for layer in layers if re.search(pattern, layer)]
        except re.error as error:
            raise ValueError(f"--keep-fp32 {quote(pattern)}: is no regular expression ({error})") from None
        if not found:
            there = ", ".join(layers[:10])
            raise ValueError(f"--keep-fp32 {quote(pattern)}: no layer has such a name; there are {there}, ...")


def _some_texts(examples: Sequence[Example]) -> List[str]:
    texts: List[str] = []
    n_characters = 0
    for example in examples:
        if n_characters >= MOST_CHARACTERS:
            break
        texts.append(example.reference.text)
        n_characters += len(texts[-1])
    return texts


def _refusal(parities: Dict[str, Parity], max_loss: float) -> Optional[str]:
    """Why nothing may be written, if it may not."""
    full, integers = parities[FULL], parities.get(INT8)
    if not full.is_exact:
        return (
            f"the exported pipeline has other entities in {full.n_docs - full.n_identical} of {full.n_docs} docs, "
            f"and other annotation in {full.n_docs - full.n_alike}; a potential differs by "
            f"{full.difference:.2g} (at most {TOLERANCE:g} may be); nothing is written"
        )
    if integers is not None and integers.loss is None:
        return (
            "the pipeline finds no entity of --dev, by which the loss of --int8 could be measured; nothing is "
            "written: give docs with entities"
        )
    if integers is not None and integers.loss is not None and integers.loss > max_loss:
        return (
            f"--int8 costs {integers.loss:.2f} points of F1, more than --max-loss {max_loss:g}; nothing is "
            "written: leave layers as they are by --keep-fp32, as --keep-fp32 'layer.0'"
        )
    return None


def _report(
    readings: Dict[str, Reading], parities: Dict[str, Parity], measured: Sequence[Cost], models: Dict[str, Path]
) -> Report:
    """All figures, by kind of pipeline."""
    report: Report = {}
    for i, (kind, reading) in enumerate(readings.items()):
        report[kind] = {
            "ents_f": reading.f,
            "docs": parities[kind].n_docs,
            "identical": parities[kind].n_identical,
            "all_pipes_identical": parities[kind].n_alike,
            "largest_difference": parities[kind].difference,
            "ece": reading.ece,
            **(measured[i]._asdict() if measured else {}),
            "megabytes_on_disk": megabytes_on_disk(models[kind]),
        }
    return report


ROWS = {
    "ents_f": ("NER F on dev, %", 100, ".2f"),
    "identical": ("Docs with the same entities", 1, ",.0f"),
    "all_pipes_identical": ("Docs in which all pipes say the same", 1, ",.0f"),
    "largest_difference": ("Largest difference of a potential", 1, ".1g"),
    "ece": ("Calibration error, %", 100, ".2f"),
    "characters_per_second": ("Characters per second of CPU time", 1, ",.0f"),
    "seconds_to_first": ("Seconds from start to first doc", 1, ".1f"),
    "megabytes": ("Peak memory, MB", 1, ",.0f"),
    "megabytes_on_disk": ("On disk, MB", 1, ",.1f"),
}


def _print_table(msg: Printer, report: Report) -> None:
    rows = []
    for key, (title, factor, form) in ROWS.items():
        values = [figures.get(key) for figures in report.values()]
        if any(value is not None for value in values):
            rows.append((title, *("-" if value is None else format(value * factor, form) for value in values)))
    aligns = ("l", *("r" for _ in report))
    msg.table(rows, header=("", *report), divider=True, aligns=aligns, max_col=40)


def _print_worst(msg: Printer, parity: Parity, examples: Sequence[Example]) -> None:
    def shown(entities: Any, doc: Doc) -> str:
        return ", ".join(f"{doc[start:end].text} {label}" for start, end, label in entities) or "-"

    rows = []
    for place, difference, ours, theirs in parity.worst:
        doc = examples[place].predicted
        rows.append(
            (
                f"{place + 1:,}",
                f"{difference:.2g}",
                quote(examples[place].reference.text),
                shown(sorted({*theirs} - {*ours}), doc),
                shown(sorted({*ours} - {*theirs}), doc),
            )
        )
    header = ("Doc", "Difference", "Text", "Only torch", "Only exported")
    msg.table(rows, title="The docs that differ most", header=header, divider=True)
