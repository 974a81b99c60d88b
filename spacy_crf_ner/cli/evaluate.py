"""`python -m spacy crf evaluate`: score a pipeline with spaCy's scorer and seqeval at once."""

from pathlib import Path
from typing import Annotated, Optional

import srsly
from spacy.cli.evaluate import print_prf_per_type
from typer import Option
from wasabi import Printer

from spacy_crf_ner.atomic_files import whole_file
from spacy_crf_ner.cli._app import app
from spacy_crf_ner.cli._errors import one_line_errors
from spacy_crf_ner.cli._options import BatchSizeOption, FunctionsOption, GoldArgument, GpuOption, ModelArgument
from spacy_crf_ner.evaluation.predictions import load_pipeline, predict, read_examples
from spacy_crf_ner.evaluation.scores import Scores, score
from spacy_crf_ner.messages import show_path


@app.command("evaluate")
def evaluate_cli(
    model: ModelArgument,
    data: GoldArgument,
    output: Annotated[Optional[Path], Option("--output", "-o", help="JSON file for the scores")] = None,
    report: Annotated[Optional[Path], Option("--report", "-r", help="Text file for seqeval's report")] = None,
    gpu_id: GpuOption = -1,
    code: FunctionsOption = None,
    batch_size: BatchSizeOption = None,
) -> None:
    """Score a pipeline's entities with spaCy's scorer and seqeval (strict, IOB2), on the same predictions.

    The JSON file holds spaCy's ents_p, ents_r, ents_f, ents_per_type and token_acc; speed (words per second);
    seqeval (its report, by label and average); and counts (docs, tokens, gold, predicted and correct entities,
    and what could not be aligned or was ignored for missing annotation).
    """
    msg = Printer()
    with one_line_errors():
        nlp = load_pipeline(model, code=code, gpu_id=gpu_id)
        examples = read_examples(data, nlp)
        n_words, seconds = predict(nlp, examples, batch_size=batch_size)
        scores = score(examples, speed=n_words / seconds)
        _print_scores(msg, scores)
        if output is not None:
            with whole_file(output) as part:
                srsly.write_json(part, scores.to_json())
            msg.good(f"Saved the scores to {show_path(output)}")
        if report is not None:
            with whole_file(report) as part:
                part.write_text(scores.report.rstrip("\n") + "\n", encoding="utf-8")
            msg.good(f"Saved seqeval's report to {show_path(report)}")


def _print_scores(msg: Printer, scores: Scores) -> None:
    """Print both scorers' results and say where they cannot agree."""
    counts = scores.counts
    rows = {
        "Docs": f"{counts.docs:,}",
        "Tokens": f"{counts.tokens:,}",
        "Gold entities": f"{counts.gold:,}",
        "Predicted": f"{counts.predicted:,}",
        "Correct": f"{counts.correct:,}",
        "NER P": _percent(scores.spacy["ents_p"]),
        "NER R": _percent(scores.spacy["ents_r"]),
        "NER F (spaCy)": _percent(scores.spacy["ents_f"]),
        "NER F (seqeval)": _percent(scores.seqeval_f),
        "Words/s": f"{scores.speed:,.0f}",
    }
    msg.table(rows, title="Results", aligns=("l", "r"))
    if scores.spacy["ents_per_type"]:
        print_prf_per_type(msg, scores.spacy["ents_per_type"], "NER", "type")
    msg.divider("seqeval (strict, IOB2)")
    print(scores.report)
    if not counts.gold:
        msg.warn("No gold entities: every prediction counts as wrong")
    if counts.missing_tokens:
        msg.warn(
            f"{counts.missing_tokens} gold tokens have no annotation; "
            f"{counts.ignored} predictions on them are not scored"
        )
    if counts.misaligned_tokens:
        msg.warn(
            f"{counts.misaligned_tokens} gold tokens are cut otherwise by the pipeline's tokenizer; "
            f"{counts.unaligned} predictions begin or end inside one: "
            "wrong for seqeval, widened to the token by spaCy"
        )


def _percent(value: Optional[float]) -> str:
    return "-" if value is None else f"{value * 100:.2f}"
