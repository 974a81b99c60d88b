"""Reads small files that a test writes."""

from collections import Counter
from io import BytesIO
from pathlib import Path
from typing import Any, Callable, Iterable, List, NamedTuple, Optional, Tuple, Union

import spacy
from spacy.tokens import Doc, DocBin

from spacy_crf_ner.formats.doc_builder import Counts, DocMaker
from spacy_crf_ner.formats.docbin import write_spacy
from spacy_crf_ner.formats.reading import AUTO, read

BLANK = {lang: spacy.blank(lang) for lang in ("zh", "en")}


class Found(NamedTuple):
    """What a file held."""

    docs: List[Doc]
    counts: Counts

    @property
    def texts(self) -> List[str]:
        return [doc.text for doc in self.docs]

    @property
    def ents(self) -> List[List[Tuple[int, int, str]]]:
        """The entities of each doc, in characters."""
        return [[(ent.start_char, ent.end_char, ent.label_) for ent in doc.ents] for doc in self.docs]

    @property
    def names(self) -> List[List[Tuple[str, str]]]:
        """The text and type of the entities of each doc."""
        return [[(ent.text, ent.label_) for ent in doc.ents] for doc in self.docs]


def put(folder: Path, content: Union[str, bytes], name: str = "a.txt") -> Path:
    """Write a file, its line ends as they are."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def found_in(*paths: Path, format: str = AUTO, lang: str = "zh", **settings: Any) -> Found:
    """Read files."""
    make = DocMaker(lambda: BLANK[lang])
    return Found(list(read(paths, make, format=format, settings=settings)), make.counts)


def text_of(write: Callable[..., None], doc: Doc, notes: "Optional[Counter[str]]" = None, **settings: Any) -> str:
    """What a writer makes of one doc."""
    stream = BytesIO()
    write([doc], stream, Counter() if notes is None else notes, **settings)
    return stream.getvalue().decode("utf8")


def stored(docs: Iterable[Doc]) -> DocBin:
    """The docs as a DocBin, saved and loaded."""
    stream = BytesIO()
    write_spacy(docs, stream, Counter())
    return DocBin().from_bytes(stream.getvalue())
