"""`python -m spacy crf init-vectors`: character and bigram vectors from one's own text."""

from pathlib import Path
from typing import Annotated, List, Optional

from tqdm import tqdm  # type: ignore[import-untyped]
from typer import Argument, Option
from wasabi import Printer

from spacy_crf_ner.atomic_files import whole_directory
from spacy_crf_ner.cli._app import app
from spacy_crf_ner.cli._errors import one_line_errors, orderly_termination
from spacy_crf_ner.cli._options import EncodingOption, LangOption
from spacy_crf_ner.cli._reading import blank
from spacy_crf_ner.corpus.text_vectors import learn_vectors, require_gensim
from spacy_crf_ner.formats.plain_text import read_texts
from spacy_crf_ner.languages import CHARACTER_LANGS
from spacy_crf_ner.messages import show_path


@app.command("init-vectors")
def init_vectors_cli(
    inputs: Annotated[
        List[Path],
        Argument(metavar="TEXT", help="Files of texts, one per line or JSON records, or folders"),
    ],
    output: Annotated[Path, Argument(metavar="OUT", help="Directory for the vectors, new or empty")],
    lang: LangOption = "zh",
    width: Annotated[int, Option(min=1, help="Width of the vectors")] = 100,
    window: Annotated[int, Option(min=1, help="Tokens to either side that are neighbours")] = 5,
    min_count: Annotated[int, Option(min=1, help="What is rarer has no vector")] = 5,
    epochs: Annotated[int, Option(min=1, help="How often the texts are learnt from")] = 5,
    bigrams: Annotated[
        Optional[bool], Option("--bigrams/--no-bigrams", help="Vectors of bigrams too  [default: for zh and ja]")
    ] = None,
    seed: Annotated[int, Option(min=0, help="Random seed")] = 0,
    threads: Annotated[int, Option(min=1, help="Only one thread makes the same vectors again")] = 1,
    encoding: EncodingOption = None,
) -> None:
    """Learn vectors of characters and of their bigrams from texts (word2vec, skip-gram).

    OUT is what `spacy init vectors` writes: a pipeline without components, for --paths.vectors of a training. The
    tokens are those of the language's tokenizer, with full-width forms folded; for zh they are characters.
    """
    msg = Printer()
    with one_line_errors(), orderly_termination():
        require_gensim()
        nlp = blank(lang)
        with whole_directory(output) as directory:
            with tqdm(total=epochs, unit=" epochs", disable=None, leave=False) as bar:
                nlp.vocab.vectors = learn_vectors(
                    nlp,
                    read_texts(inputs, encoding=encoding),
                    width=width,
                    window=window,
                    min_count=min_count,
                    epochs=epochs,
                    bigrams=nlp.lang in CHARACTER_LANGS if bigrams is None else bigrams,
                    seed=seed,
                    threads=threads,
                    progress=bar.update,
                )
            nlp.to_disk(directory)
    n_vectors, n_columns = nlp.vocab.vectors.shape
    msg.good(f"Saved {n_vectors:,} vectors of width {n_columns} to {show_path(output)}")
    msg.text("Train with them:")
    print(
        f"--paths.vectors {output} --components.crf_ner.model.tok2vec.include_static_vectors true"
        " --components.crf_ner.model.tok2vec.include_bigram_vectors true"
    )
