"""`python -m spacy crf merge-lora`: a pipeline whose adapters have become part of its encoder's weights."""

from pathlib import Path
from typing import Annotated

from typer import Argument
from wasabi import Printer

from spacy_crf_ner.atomic_files import whole_directory
from spacy_crf_ner.cli._app import app
from spacy_crf_ner.cli._errors import one_line_errors, orderly_termination
from spacy_crf_ner.cli._options import FunctionsOption, GpuOption, ModelArgument
from spacy_crf_ner.evaluation.predictions import load_pipeline
from spacy_crf_ner.messages import show_path


@app.command("merge-lora")
def merge_lora_cli(
    model: ModelArgument,
    output: Annotated[Path, Argument(metavar="OUT", help="Directory for the merged pipeline, new or empty")],
    gpu_id: GpuOption = -1,
    code: FunctionsOption = None,
) -> None:
    """Save a pipeline with its LoRA adapters merged into the encoder's weights.

    It computes what it did, a little faster, and neither peft nor, where only the adapter was saved, the base
    encoder is needed to load it. The original stays as it is.
    """
    # It brings transformers with it: seconds, which every `python -m spacy` command would wait.
    from spacy_crf_ner.encoder.merging import merge_lora

    with one_line_errors(), orderly_termination(), whole_directory(output) as directory:
        nlp = load_pipeline(model, code=code, gpu_id=gpu_id)
        merged = merge_lora(nlp)
        if not merged:
            raise ValueError(f"pipeline {model!r} has no LoRA adapters in {nlp.component_names}")
        nlp.to_disk(directory)
    Printer().good(f"Merged the adapters of {', '.join(merged)} and saved the pipeline to {show_path(output)}")
