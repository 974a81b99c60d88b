"""Load a pipeline, run it once over gold docs, and pair what it says with what they say."""

from pathlib import Path
from timeit import default_timer
from typing import Iterable, List, Optional, Sequence, Tuple

from spacy import util
from spacy.cli._util import setup_gpu
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example

from spacy_crf_ner.corpus.annotated_corpus import AnnotatedCorpus
from spacy_crf_ner.messages import one_line, show_path

FACTORY = "crf_ner"


def load_pipeline(model: str, *, code: Optional[Path] = None, gpu_id: int = -1) -> Language:
    """Load a pipeline by its package name or path.

    model (str): A name or path, as for `spacy.load`.
    code (Optional[Path]): A Python file with registered functions that the pipeline needs.
    gpu_id (int): The GPU, or -1 for the CPU.
    RETURNS (Language): The pipeline.
    RAISES (ValueError): The code, the GPU or the pipeline cannot be loaded; the message says which.
    """
    if code is not None:
        try:
            util.import_file("python_code", code)
        except Exception as error:  # whatever the user's file raises
            raise ValueError(f"{show_path(code)}: cannot be imported ({type(error).__name__}: {error})") from error
    try:
        setup_gpu(gpu_id, silent=True)
    except ValueError as error:
        raise ValueError(f"GPU {gpu_id} cannot be used ({error}); pass --gpu-id -1 for the CPU") from error
    try:
        return util.load_model(model)
    except Exception as error:  # the factories of any package may run here
        raise ValueError(
            f"pipeline {model!r} cannot be loaded ({type(error).__name__}: {one_line(error)}); "
            "give a package name or a directory that nlp.to_disk wrote, and --code for functions of your own"
        ) from error


def megabytes_on_disk(folder: Path) -> float:
    """The size of all files of a pipeline, in units of 10^6 bytes.

    folder (Path): Its directory.
    """
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def read_examples(path: Path, nlp: Language) -> List[Example]:
    """Read gold docs and tokenize their text anew, as `spacy train` and `spacy evaluate` do.

    path (Path): A file of any format that `crf convert` can tell, or a directory of such. Empty docs are passed
        over, with nothing to score.
    nlp (Language): The pipeline whose tokenizer and vocabulary are used.
    RETURNS (List[Example]): The gold docs as references.
    RAISES (FormatError): The path cannot be read, or holds no doc with a token.
    """
    return list(AnnotatedCorpus(path)(nlp))


def component_name(nlp: Language, model: str, chosen: Optional[str] = None) -> str:
    """The name of a pipeline's `crf_ner`.

    nlp (Language): The pipeline.
    model (str): What it was loaded from, for messages.
    chosen (Optional[str]): The name that the user gave, with --component.
    RETURNS (str): The name.
    RAISES (ValueError): There is none, the chosen one is none, or none is chosen among several.
    """
    names = [name for name, factory in nlp.pipe_factories.items() if factory == FACTORY]
    if not names:
        there = ", ".join(nlp.component_names) or "nothing"
        raise ValueError(f"pipeline {model!r} has no {FACTORY} (it has {there}); give one that has")
    if chosen is None and len(names) > 1:
        raise ValueError(f"pipeline {model!r} has several {FACTORY}: {', '.join(names)}; choose by --component")
    if chosen is not None and chosen not in names:
        raise ValueError(
            f"--component {chosen}: no {FACTORY} of pipeline {model!r}; choose from {', '.join(names)}"
        )
    return chosen or names[0]


def require_enabled(nlp: Language, name: str) -> None:
    """Check that a component runs in a pipeline.

    nlp (Language): The pipeline.
    name (str): The component.
    RAISES (ValueError): It is disabled.
    """
    if name not in nlp.pipe_names:
        raise ValueError(f"component '{name}' is disabled; enable it in the pipeline's config")


def pipe_through(nlp: Language, names: Sequence[str], docs: Iterable[Doc]) -> List[Doc]:
    """Let some components of a pipeline, and no others, run over docs.

    nlp (Language): The pipeline.
    names (Sequence[str]): The components; they run in the order of the pipeline.
    docs (Iterable[Doc]): The docs.
    RETURNS (List[Doc]): The docs, annotated.
    """
    return list(nlp.pipe(docs, disable=[name for name in nlp.pipe_names if name not in names]))


def predict(nlp: Language, examples: List[Example], *, batch_size: Optional[int] = None) -> Tuple[int, float]:
    """Run the pipeline over the examples and set their `predicted`.

    As in `Language.evaluate`, the time taken includes the tokenizer's.

    nlp (Language): The pipeline.
    examples (List[Example]): Examples whose predicted docs are tokenized and not yet annotated.
    batch_size (Optional[int]): Docs a batch; None for the pipeline's own.
    RETURNS (Tuple[int, float]): Tokens predicted and seconds taken.
    """
    start = default_timer()
    for example in examples:
        nlp.make_doc(example.reference.text)
    docs = nlp.pipe((example.predicted for example in examples), batch_size=batch_size or nlp.batch_size)
    for example, doc in zip(examples, docs, strict=True):
        example.predicted = doc
    seconds = default_timer() - start
    return sum(len(example.predicted) for example in examples), seconds
