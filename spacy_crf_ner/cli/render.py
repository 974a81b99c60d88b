"""`python -m spacy crf render`: a pipeline's predictions and mistakes as one HTML page."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option
from wasabi import Printer

from spacy_crf_ner.atomic_files import whole_file
from spacy_crf_ner.cli._app import app
from spacy_crf_ner.cli._errors import one_line_errors
from spacy_crf_ner.cli._options import BatchSizeOption, FunctionsOption, GoldArgument, GpuOption, ModelArgument
from spacy_crf_ner.evaluation.html_report import render_page
from spacy_crf_ner.evaluation.predictions import load_pipeline, predict, read_examples
from spacy_crf_ner.messages import show_path


@app.command("render")
def render_cli(
    model: ModelArgument,
    data: GoldArgument,
    output: Annotated[Path, Argument(help="HTML file to write")],
    limit: Annotated[int, Option("--limit", "-n", min=1, help="Docs to show at most")] = 100,
    errors_only: Annotated[bool, Option("--errors-only", "-e", help="Show only docs with mistakes")] = False,
    gpu_id: GpuOption = -1,
    code: FunctionsOption = None,
    batch_size: BatchSizeOption = None,
) -> None:
    """Show what a pipeline predicts on gold docs, with missed and spurious entities marked.

    The scores at the head of the page are those of all the docs, however few are shown.
    """
    with one_line_errors():
        nlp = load_pipeline(model, code=code, gpu_id=gpu_id)
        examples = read_examples(data, nlp)
        predict(nlp, examples, batch_size=batch_size)
        title = f"{Path(model).name} on {data.name}"
        page = render_page(examples, title=title, lang=nlp.lang or "und", limit=limit, errors_only=errors_only)
        with whole_file(output) as part:
            part.write_text(page.html, encoding="utf-8")
    Printer().good(f"Wrote {page.n_shown} of {len(examples)} docs to {show_path(output)}")
