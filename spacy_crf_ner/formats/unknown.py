"""Parts of a text of which a file does not say whether they are entities."""

from itertools import groupby
from typing import Iterable, Tuple

from spacy.tokens import Doc
from spacy.tokens import Span as SpacySpan


def leave_unknown(doc: Doc, places: Iterable[Tuple[int, int]]) -> None:
    """Take from parts of a doc what says that they are not entities: it is not known.

    doc (Doc): A doc with entities.
    places (Iterable[Tuple[int, int]]): (start, end) in characters, the end exclusive. All tokens that share a
        character with one of them, and are in no entity, lose their annotation.
    """
    unknown = {
        token.i
        for start, end in places
        for token in doc
        if token.idx < end and start < token.idx + len(token) and not token.ent_type
    }
    if unknown:
        runs = groupby((i for i in range(len(doc))), key=unknown.__contains__)
        ranges = [list(run) for is_unknown, run in runs if is_unknown]
        missing = [SpacySpan(doc, run[0], run[-1] + 1) for run in ranges]
        doc.set_ents(list(doc.ents), missing=missing, default="unmodified")
