"""The format `spacy`: DocBins."""

from collections import Counter
from typing import IO, Any, Iterable, Iterator, Optional, Set, Tuple, cast

import srsly
from spacy.attrs import DEP, ENT_ID, ENT_KB_ID, ENT_TYPE, LEMMA, MORPH, NORM, ORTH, TAG
from spacy.tokens import Doc, DocBin, Token

from spacy_crf_ner.formats.doc_builder import ORIGIN, DocMaker, unwritable
from spacy_crf_ner.formats.registry import Files, written_to
from spacy_crf_ner.formats.source import Source

SUFFIX = ".spacy"


def read_spacy(source: Source, make: DocMaker) -> Iterator[Doc]:
    """Read a DocBin. It is held in memory whole; `crf convert` writes several where there is much.

    source (Source): The DocBin.
    make (DocMaker): Its vocab is that of the docs.
    YIELDS (Doc): The docs, with all that is saved in them, the empty ones too.
    RAISES (FormatError): It is not a DocBin.
    """
    data = source.read()
    try:
        docs = DocBin().from_bytes(data).get_docs(make.renew().vocab)
        for number, doc in enumerate(docs, start=1):
            yield make.adopt(doc, source, number)
    except Exception as error:  # zlib, msgpack and NumPy each raise their own
        what = f"not a DocBin ({type(error).__name__}: {error})"
        raise source.error(what, "write it again with `python -m spacy crf convert`") from error


@written_to(Files((SUFFIX,)))
def write_spacy(
    docs: Iterable[Doc], stream: IO[bytes], notes: "Counter[str]", *, spans_key: Optional[str] = None
) -> None:
    """Write docs as one DocBin, which takes memory in proportion to its size.

    docs (Iterable[Doc]): The docs. Where they were read is taken from their user data, and not saved.
    stream (IO[bytes]): The file.
    notes (Counter[str]): Receives nothing: a DocBin holds all of a doc.
    spans_key (Optional[str]): Changes nothing: a DocBin holds `doc.ents` and all of `doc.spans`.
    RAISES (FormatError): The user data of a doc cannot be saved.
    """
    stream.write(_make_doc_bin(docs).to_bytes())


def _make_doc_bin(docs: Iterable[Doc]) -> DocBin:
    doc_bin = DocBin()
    seen: Set[Tuple[int, ...]] = set()
    for doc in docs:
        origin = doc.user_data.pop(ORIGIN, None)
        if doc.user_data and not doc_bin.store_user_data:
            # For every doc or for none. Where there is none to store, a third of the time is saved.
            doc_bin.store_user_data = True
            doc_bin.user_data = [srsly.msgpack_dumps({}) for _ in range(len(doc_bin))]
        try:
            doc_bin.add(cast(Doc, _WithNewTokens(doc, seen)))
        except (OverflowError, TypeError, ValueError) as error:
            what = f"the user data of the doc cannot be saved ({error})"
            raise unwritable(origin, what, "keep in it what JSON can hold") from error
    return doc_bin


class _WithNewTokens:
    """A Doc that iterates over only those tokens that have a string which was not seen before.

    `DocBin.add` asks each token for nine strings, which it puts into a set. That would take most of the time of a
    conversion.
    """

    def __init__(self, doc: Doc, seen: Set[Tuple[int, ...]]) -> None:
        self._doc = doc
        self._seen = seen

    def __iter__(self) -> Iterator[Token]:
        for i, strings in enumerate(map(tuple, self._doc.to_array(_STRINGS).tolist())):
            if strings not in self._seen:
                self._seen.add(strings)
                yield self._doc[i]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._doc, name)


_STRINGS = [ORTH, NORM, TAG, LEMMA, MORPH, DEP, ENT_TYPE, ENT_KB_ID, ENT_ID]
"""The attributes of a token that are strings."""
