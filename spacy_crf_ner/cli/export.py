"""`python -m spacy crf export`: a pipeline for a CPU server, whose networks ONNX Runtime computes."""

import re
from functools import partial
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Dict, List, Optional, Sequence, Tuple

import srsly
from spacy import util
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
from spacy_crf_ner.evaluation.predictions import component_name, load_pipeline, read_examples
from spacy_crf_ner.messages import MAX_QUOTED, quote, show_path

MOST_CHARACTERS = 20_000
"""Of the dev docs, what is read to measure speed."""
TORCH, FULL, INT8 = "torch", "ONNX", "ONNX INT8"

Columns = Dict[str, Tuple[Reading, Optional[Parity], Cost, float]]


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
    entities; --int8 may cost --max-loss points of F1. Integers differ between CPUs: run this where it will serve.
    """
    msg = Printer()
    with one_line_errors(), orderly_termination():
        _require_extra()
        # They import torch's exporter and onnx, which no other command needs.
        from spacy_crf_ner.deploy import exporting, quantization

        with whole_directory(output) as directory, TemporaryDirectory() as work:
            nlp = load_pipeline(model, code=code)
            name = component_name(nlp, model, component)
            examples = read_examples(dev, nlp)
            readings = {TORCH: read(nlp, name, examples)}
            models = {TORCH: nlp.path or Path(model)}
            exported = exporting.export(nlp, opset=opset)
            made = [(FULL, exported)]
            for kind, pipeline in made:
                models[kind] = Path(work) / kind
                pipeline.to_disk(models[kind])
                readings[kind] = read(util.load_model(models[kind]), name, examples)
                if int8 and kind == FULL:
                    layers = [
                        name for graph in exporting.graphs_of(exported) for name in quantization.layer_names(graph)
                    ]
                    _check_patterns(keep_fp32 or [], layers)
                    integers = util.load_model(models[FULL])
                    exporting.change_graphs(integers, partial(quantization.quantize, keep=keep_fp32 or []))
                    made.append((INT8, integers))
            measured = costs(list(models.values()), _some_texts(examples), code)
            columns: Columns = {}
            for (kind, reading), cost in zip(readings.items(), measured, strict=True):
                parity = None if kind == TORCH else compare(readings[TORCH], reading)
                columns[kind] = reading, parity, cost, _megabytes(models[kind])
            _print_table(msg, columns)
            chosen = INT8 if int8 else FULL
            _check_full(msg, columns[FULL][1], examples)
            if int8:
                _check_integers(msg, columns[INT8][1], examples, max_loss)
            copytree(models[chosen], directory, dirs_exist_ok=True)
            srsly.write_json(directory / "export.json", _report(columns))
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


def _megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def _print_table(msg: Printer, columns: Columns) -> None:
    def row(title: str, values: Sequence[Optional[float]], form: str) -> Tuple[str, ...]:
        return (title, *("-" if value is None else format(value, form) for value in values))

    readings, parities, measured, sizes = zip(*columns.values())
    rows = [
        row("NER F on dev", [reading.f and reading.f * 100 for reading in readings], ".2f"),
        row("Docs with the same entities", [p and p.n_identical for p in parities], ",d"),
        row("Largest difference of a potential", [p and p.difference for p in parities], ".1g"),
        row("Calibration error %", [reading.ece and reading.ece * 100 for reading in readings], ".2f"),
        row("Characters per CPU second", [cost.characters_per_second for cost in measured], ",.0f"),
        row("Seconds from start to first doc", [cost.seconds_to_first for cost in measured], ".1f"),
        row("Peak memory, MB", [cost.megabytes for cost in measured], ",.0f"),
        row("On disk, MB", sizes, ",.1f"),
    ]
    aligns = ("l", *("r" for _ in columns))
    msg.table(rows, header=("", *columns), divider=True, aligns=aligns, max_col=40)


def _check_full(msg: Printer, parity: Optional[Parity], examples: Sequence[Example]) -> None:
    assert parity is not None
    if not parity.is_exact:
        _print_worst(msg, parity, examples)
        raise ValueError(
            f"the exported pipeline has other entities in {parity.n_docs - parity.n_identical} of {parity.n_docs} "
            f"docs, and a potential differs by {parity.difference:.2g} (at most {TOLERANCE:g} may be); nothing is "
            "written"
        )


def _check_integers(msg: Printer, parity: Optional[Parity], examples: Sequence[Example], max_loss: float) -> None:
    assert parity is not None
    if parity.loss > max_loss:
        _print_worst(msg, parity, examples)
        raise ValueError(
            f"--int8 costs {parity.loss:.2f} points of F1, more than --max-loss {max_loss:g}; nothing is written: "
            "leave layers as they are by --keep-fp32, as --keep-fp32 'layer.0'"
        )


def _print_worst(msg: Printer, parity: Parity, examples: Sequence[Example]) -> None:
    def shown(entities: Any, text: str, example: Example) -> str:
        doc = example.predicted
        return ", ".join(f"{doc[start:end].text} {label}" for start, end, label in entities) or "-"

    rows = []
    for place, difference, ours, theirs in parity.worst:
        text = examples[place].reference.text
        short = text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}…"
        rows.append(
            (
                f"{place + 1:,}",
                f"{difference:.2g}",
                repr(short),
                shown(sorted({*theirs} - {*ours}), text, examples[place]),
                shown(sorted({*ours} - {*theirs}), text, examples[place]),
            )
        )
    header = ("Doc", "Difference", "Text", "Only torch", "Only exported")
    msg.table(rows, title="The docs that differ most", header=header, divider=True)


def _report(columns: Columns) -> Dict[str, Any]:
    return {
        kind: {
            "ents_f": reading.f,
            "ece": reading.ece,
            **(
                {}
                if parity is None
                else {
                    "docs": parity.n_docs,
                    "identical": parity.n_identical,
                    "largest_difference": parity.difference,
                }
            ),
            **cost._asdict(),
            "megabytes_on_disk": size,
        }
        for kind, (reading, parity, cost, size) in columns.items()
    }
