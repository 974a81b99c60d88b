"""`python -m spacy crf init-config`: a complete and commented training config."""

import json
import shlex
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Dict, List, Optional, Tuple, Union

from jinja2 import Environment
from spacy import util
from spacy.language import Language
from spacy.schemas import ConfigSchemaInit, ConfigSchemaTraining
from spacy.util import registry
from thinc.api import Config
from typer import Argument, Option, echo
from wasabi import Printer

from spacy_crf_ner.atomic_files import whole_file
from spacy_crf_ner.cli._app import app
from spacy_crf_ner.cli._errors import one_line_errors, orderly_termination, require_stdout
from spacy_crf_ner.cli._reading import blank
from spacy_crf_ner.languages import CHARACTER_LANGS
from spacy_crf_ner.messages import show_path
from spacy_crf_ner.templates import environment
from spacy_crf_ner.training.parameter_groups import DEFAULT_GROUPS, NO_DECAY

TEMPLATES = Path(__file__).parent / "templates"
TEMPLATE = "training.cfg.jinja"
COMMAND = "python -m spacy crf init-config OUT"
STDOUT = "-"


class Head(str, Enum):
    """What is between the token vectors and the entities."""

    BILSTM_ATTENTION_CRF = "bilstm-attention-crf"
    BILSTM_CRF = "bilstm-crf"
    CRF = "crf"


STAGES: Dict[Head, Tuple[int, int]] = {
    Head.BILSTM_ATTENTION_CRF: (1, 4),
    Head.BILSTM_CRF: (1, 0),
    Head.CRF: (0, 0),
}
"""Layers of the BiLSTM and heads of the self-attention."""


ENCODER_RATES = ((12 * 640**2, 2e-5), (6 * 640**2, 5e-5))
"""From how many layers, times their squared width, which rate suits an encoder."""
SMALL_ENCODER_RATE = 1e-4


@app.command("init-config")
def init_config_cli(
    output: Annotated[
        Path,
        Argument(metavar="OUT", allow_dash=True, help="File for the config, or - for stdout and nothing else"),
    ],
    encoder: Annotated[
        Optional[str], Option(help="Hugging Face encoder, a name on the hub or a folder; without, a CPU model")
    ] = None,
    head: Annotated[Head, Option(help="What finds the entities in the token vectors")] = Head.BILSTM_ATTENTION_CRF,
    lora: Annotated[
        bool, Option("--lora", help="Adapt the encoder by LoRA and leave its own weights as they are")
    ] = False,
    lang: Annotated[str, Option("--lang", "-l", help="Language of the pipeline")] = "zh",
    gpu: Annotated[bool, Option("--gpu", "-G", help="Train on a GPU: half precision and larger batches")] = False,
    force: Annotated[bool, Option("--force", "-F", help="Overwrite the file if it is there")] = False,
) -> None:
    """Write a training config for a crf_ner pipeline, complete and with comments.

    Without --encoder, the tokens of zh and ja are embedded by character and bigram, those of other languages by
    word, prefix, suffix and shape.
    """
    with one_line_errors(), orderly_termination():
        if str(output) != STDOUT and output.is_file() and not force:
            raise FileExistsError(
                f"{show_path(output)}: is there already; name another file, or overwrite it with --force"
            )
        text = init_config(lang=lang, encoder=encoder, head=head, lora=lora, gpu=gpu)
        if str(output) == STDOUT:
            require_stdout()
            echo(text.encode("utf8"), nl=False)
            return
        _write(output, text)
    msg = Printer()
    msg.good(f"Saved the config to {output}")
    msg.text("Train with it:")
    print(
        f"python -m spacy train {shlex.quote(str(output))} --output training"
        f" --paths.train corpus/train --paths.dev corpus/dev{' --gpu-id 0' if gpu else ''}"
    )


def init_config(
    *,
    lang: str = "zh",
    encoder: Optional[str] = None,
    head: Union[Head, str] = Head.BILSTM_ATTENTION_CRF,
    lora: bool = False,
    gpu: bool = False,
) -> str:
    """Make a training config, complete and with comments, whose first line is the command that writes it.

    The pipeline of the config is constructed once, to be sure that it can be; no encoder is loaded.

    lang (str): Language code, as of `spacy.blank`.
    encoder (Optional[str]): Hugging Face encoder, a name on the hub or a folder; None for none.
    head (Union[Head, str]): What is between the token vectors and the entities: "bilstm-attention-crf",
        "bilstm-crf" or "crf".
    lora (bool): Adapt the encoder by LoRA and leave its own weights as they are.
    gpu (bool): Half precision and larger batches.
    RETURNS (str): The config; `thinc.api.Config().from_str` reads it, and `spacy train` its file.
    RAISES (ValueError): The language or the head is unknown, the language's tokenizer is not installed, there is
        no encoder for LoRA, or the encoder's name cannot be in a config.
    """
    nlp = blank(lang)
    lang = str(nlp.lang)
    if head not in STAGES:
        raise ValueError(f"--head {head}: no such head; choose from {', '.join(known.value for known in Head)}")
    head = Head(head)
    if lora and encoder is None:
        raise ValueError("--lora: there is no encoder to adapt; name one with --encoder, or leave --lora away")
    # `$` begins a config's variables; a line break would end the comment that the command is.
    if encoder is not None and (not encoder or not encoder.isprintable() or "$" in encoder):
        raise ValueError(
            f"--encoder {encoder!r}: no name that a config can hold; give a name on the hub or a folder"
        )
    lstm_depth, attention_heads = STAGES[head]
    attrs, rows = _word_attributes(nlp)
    text = (
        _environment()
        .get_template(TEMPLATE)
        .render(
            command=_command(lang, encoder, head, lora, gpu),
            title=_title(lang, encoder, head, lora, gpu),
            lang=lang,
            encoder=encoder,
            lora=lora,
            gpu=gpu,
            lstm_depth=lstm_depth,
            attention_heads=attention_heads,
            characters=lang in CHARACTER_LANGS,
            attrs=attrs,
            rows=rows,
            no_decay=NO_DECAY,
            groups=DEFAULT_GROUPS,
            encoder_rate=_encoder_rate(encoder),
            tokenizer=nlp.config["nlp"]["tokenizer"],
            tokenizer_init=nlp.config["initialize"]["tokenizer"],
        )
    )
    _construct(util.load_config_from_str(text))
    return text


def _encoder_rate(encoder: Optional[str]) -> float:
    """The rate for the size of an encoder in a folder; that of an encoder of base size for any other."""
    rate: float = DEFAULT_GROUPS["encoder"]["learn_rate"]
    if encoder is None:
        return rate
    try:
        config = json.loads((Path(encoder) / "config.json").read_text(encoding="utf8"))
        size = config["num_hidden_layers"] * config["hidden_size"] ** 2
    except (OSError, ValueError, KeyError, TypeError):  # what it is, is told when it is loaded
        return rate
    return next((found for least, found in ENCODER_RATES if size >= least), SMALL_ENCODER_RATE)


def _environment() -> Environment:
    made = environment(TEMPLATES, autoescape=False)
    # Jinja's own `tojson` is made for HTML: it escapes characters that a path may have.
    made.filters.update(json=_json, decimal=_decimal)
    return made


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _decimal(value: float) -> str:
    """A number without an exponent."""
    return format(Decimal(repr(value)), "f")


def _command(lang: str, encoder: Optional[str], head: Head, lora: bool, gpu: bool) -> str:
    """The command line that makes the config; OUT is the file."""
    words = [COMMAND]
    if encoder is not None:
        words.append(f"--encoder {shlex.quote(encoder)}")
    if head is not Head.BILSTM_ATTENTION_CRF:
        words.append(f"--head {head.value}")
    if lora:
        words.append("--lora")
    words.append(f"--lang {shlex.quote(lang)}")
    if gpu:
        words.append("--gpu")
    return " ".join(words)


def _title(lang: str, encoder: Optional[str], head: Head, lora: bool, gpu: bool) -> str:
    """One sentence on the pipeline and what it needs."""
    if encoder is not None:
        first = "An encoder with LoRA" if lora else "An encoder"
    elif lang in CHARACTER_LANGS:
        first = "Characters and bigrams" if lang == "zh" else "Tokens and bigrams"
    else:
        first = "Words and their attributes"
    lstm_depth, attention_heads = STAGES[head]
    stages = [first, *(["BiLSTM"] * bool(lstm_depth)), *(["self-attention"] * bool(attention_heads)), "CRF"]
    where = "trains on a GPU" if gpu else "trains on a CPU"
    return f"{' -> '.join(stages)}: {where}{', downloads nothing' if encoder is None else ''}."


def _word_attributes(nlp: Language) -> Tuple[List[str], List[int]]:
    """The attributes of a word that `spacy.MultiHashEmbed` embeds, and the rows of each one's table.

    A script whose characters are not letters, as Korean's here, has no prefixes and suffixes worth a table.
    """
    if nlp.Defaults.writing_system["has_letters"]:
        return ["NORM", "PREFIX", "SUFFIX", "SHAPE"], [5000, 1000, 2500, 2500]
    return ["ORTH", "SHAPE"], [5000, 2500]


def _construct(config: Config) -> None:
    """Make everything that a config describes, as `spacy debug config` does.

    RAISES (ValueError): A value is missing or wrong.
    """
    nlp = util.load_model_from_config(config, auto_fill=False, validate=True)
    filled = nlp.config.interpolate()
    registry.resolve(filled["initialize"], schema=ConfigSchemaInit)
    registry.resolve(filled["training"], schema=ConfigSchemaTraining)


def _write(path: Path, text: str) -> None:
    """Write a config whole or not at all, with the same bytes on every system.

    RAISES (OSError): The folder or the file cannot be written.
    """
    try:
        with whole_file(path) as part:
            part.write_bytes(text.encode("utf8"))
    except OSError as error:
        if error.strerror is None:  # It says all.
            raise
        fix = "name a file in a folder that can be written to"
        raise OSError(f"{show_path(path)}: cannot be written ({error.strerror or error}); {fix}") from error
