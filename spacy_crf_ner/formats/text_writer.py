"""Makes the writer of a format whose files are text: the text of each doc, one after the other."""

from collections import Counter
from functools import wraps
from typing import IO, Any, Callable, Iterable, NamedTuple, Protocol

from spacy.tokens import Doc

from spacy_crf_ner.formats.registry import Writer

_BYTE_ORDER_MARK = "\ufeff"


class DocText(Protocol):
    """Gives the text of one doc in one format.

    doc (Doc): What to write.
    notes (Counter[str]): As of `Writer`.
    settings: As of `Writer`.
    RETURNS (str): The text, its last line's end included.
    RAISES (FormatError): The format cannot hold the doc.
    """

    def __call__(self, doc: Doc, notes: "Counter[str]", **settings: Any) -> str: ...


class Frame(NamedTuple):
    """The text of a file around its docs: before the first, between two, and after the last."""

    begin: str = ""
    between: str = ""
    end: str = ""


NO_FRAME = Frame()

JSON_ARRAY = Frame("[\n", ",", "]\n")
"""The frame of a file that is one JSON array with one line per doc."""


def text_writer(frame: Frame = NO_FRAME) -> Callable[[Callable[..., str]], Writer]:
    """Make a writer of a function that gives the text of one doc.

    frame (Frame): The text around the docs.
    RETURNS (Callable[[DocText], Writer]): A decorator of the function. The writer has its settings.
    """

    def decorate(text_of: DocText) -> Writer:
        @wraps(text_of)
        def write(docs: Iterable[Doc], stream: IO[bytes], notes: "Counter[str]", **settings: Any) -> None:
            write_texts((text_of(doc, notes, **settings) for doc in docs), stream, frame)

        return write

    return decorate


def write_texts(texts: Iterable[str], stream: IO[bytes], frame: Frame = NO_FRAME) -> None:
    """Write texts to one file, as UTF-8.

    texts (Iterable[str]): The texts, in order.
    stream (IO[bytes]): The file.
    frame (Frame): The text around them.
    """
    stream.write(frame.begin.encode())
    for i, text in enumerate(texts):
        if i:
            stream.write(frame.between.encode())
        elif text.startswith(_BYTE_ORDER_MARK):
            # A reader drops a byte order mark at the beginning of a file: one that is text needs another first.
            text = _BYTE_ORDER_MARK + text
        stream.write(text.encode())
    stream.write(frame.end.encode())
