"""Vectors of characters and of their bigrams, learnt from text: word2vec with skip-gram.

Mikolov, Chen, Corrado, Dean (2013), "Efficient estimation of word representations in vector space", by gensim. A
token and the bigrams that it is part of are each other's neighbours, so both are learnt in one space; pretrained
bigrams are what Zhang and Yang (2018), "Chinese NER using lattice LSTM", ACL, gain most by beside the lattice.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Callable, Iterable, Iterator, List, Optional

from spacy.language import Language
from spacy.vectors import Vectors

from spacy_crf_ner.messages import show_path
from spacy_crf_ner.tagger.char_embed import fold_width

LONGEST = 10_000
"""gensim cuts longer lines."""


def require_gensim() -> None:
    """Look for gensim, before anything is read.

    RAISES (ValueError): It is not installed.
    """
    try:
        import gensim  # noqa: F401
    except ImportError as error:
        raise ValueError(f"gensim is not installed ({error}); pip install 'spacy-crf-ner[vectors]'") from error


def learn_vectors(
    nlp: Language,
    texts: Iterable[str],
    *,
    width: int = 100,
    window: int = 5,
    min_count: int = 5,
    epochs: int = 5,
    bigrams: bool = True,
    seed: int = 0,
    threads: int = 1,
    progress: Optional[Callable[[], object]] = None,
) -> Vectors:
    """Learn vectors of the tokens of texts, folded as `CharEmbed` folds them, and of their bigrams.

    nlp (Language): Its tokenizer makes the tokens; its string store gets their texts.
    texts (Iterable[str]): The texts, which are read once.
    width (int): Width of the vectors.
    window (int): Tokens to either side that are neighbours.
    min_count (int): What is rarer has no vector.
    epochs (int): How often the texts are learnt from.
    bigrams (bool): Whether bigrams have vectors too.
    seed (int): Random seed; the same vectors need one thread.
    threads (int): How many.
    progress (Optional[Callable[[], object]]): Called after each epoch.
    RETURNS (Vectors): The vectors, most frequent first.
    RAISES (ValueError): gensim is not installed, or nothing is as frequent as `min_count`.
    """
    require_gensim()
    from gensim.models import Word2Vec
    from gensim.models.callbacks import CallbackAny2Vec

    class Progress(CallbackAny2Vec):
        def on_epoch_end(self, model: Any) -> None:
            if progress is not None:
                progress()

    with TemporaryDirectory() as folder:
        path = Path(folder) / "tokens.txt"
        try:
            with path.open("w", encoding="utf8") as file:
                for line in _lines(nlp, texts, bigrams):
                    file.write(line + "\n")
        except OSError as error:
            if error.strerror is None:  # It says all.
                raise
            what = f"{show_path(folder)}: the tokens cannot be written ({error.strerror})"
            raise OSError(f"{what}; set TMPDIR to a directory that has room for all texts, and twice") from error
        try:
            found = Word2Vec(
                corpus_file=str(path),
                vector_size=width,
                # A token's neighbours are as far apart again when bigrams are between them.
                window=2 * window if bigrams else window,
                min_count=min_count,
                sg=1,
                seed=seed,
                workers=threads,
                epochs=epochs,
                callbacks=[Progress()],
            ).wv
        except RuntimeError as error:
            raise ValueError(
                f"the texts have no token that is there {min_count} times ({error}); give more texts, or a lower "
                "--min-count"
            ) from error
    return Vectors(
        strings=nlp.vocab.strings,
        data=found.vectors,
        keys=[nlp.vocab.strings.add(text) for text in found.index_to_key],
    )


def _lines(nlp: Language, texts: Iterable[str], bigrams: bool) -> Iterator[str]:
    """What gensim reads: token, bigram, token, bigram, ..., with spaces between."""
    for text in texts:
        # A token of white space would be a space between two others.
        words = [fold_width(token.text) for token in nlp.make_doc(text) if not token.is_space]
        items: List[str] = []
        for word, following in zip(words, [*words[1:], ""]):
            items.append(word)
            if bigrams and following:
                items.append(word + following)
        for begin in range(0, len(items), LONGEST):
            yield " ".join(items[begin : begin + LONGEST])
