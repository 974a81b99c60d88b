"""White space and punctuation where an entity begins or ends."""

from enum import Enum
from typing import Dict, List, Tuple
from unicodedata import category

from spacy.tokens import Span

_SINGLE = frozenset("'＇‘’‚‛‹›")
_DOUBLE = frozenset('"＂“”„‟«»')
_STRAIGHT = frozenset("'＇\"＂")


class Edge(Enum):
    """What an entity begins or ends with.

    EMPTY: It is nothing but white space.
    WHITESPACE: White space, or a character that is as little seen, at one end at least.
    PUNCTUATION: At one end at least, a token of punctuation that is not a bracket or quotation mark with its
        partner in the entity.
    ENCLOSED: A pair of brackets or quotation marks around the whole.
    PLAIN: Nothing of that.
    """

    EMPTY = "empty"
    WHITESPACE = "whitespace"
    PUNCTUATION = "punctuation"
    ENCLOSED = "enclosed"
    PLAIN = "plain"


def edge_of(entity: Span) -> Edge:
    """What an entity begins or ends with.

    A point, say, that is part of a token, as in "U.S.", is none: the annotator could not leave it out.

    entity (Span): The entity, in the tokens of its file.
    RETURNS (Edge): The first of the kinds that it is of.
    """
    text = entity.text
    if all(map(_is_blank, text)):
        return Edge.EMPTY
    if _is_blank(text[0]) or _is_blank(text[-1]):
        return Edge.WHITESPACE
    partners = partner_marks(text)
    first = _is_punctuation(entity[0].text) and 0 not in partners
    last = _is_punctuation(entity[-1].text) and len(text) - 1 not in partners
    if first or last:
        return Edge.PUNCTUATION
    return Edge.ENCLOSED if partners.get(0) == len(text) - 1 else Edge.PLAIN


def partner_marks(text: str) -> Dict[int, int]:
    """The brackets and quotation marks whose partner is in the text too.

    text (str): The text.
    RETURNS (Dict[int, int]): The position of each, and of its partner.
    """
    partners: Dict[int, int] = {}
    opened: List[Tuple[int, str, str]] = []
    for i, char in enumerate(text):
        kind = _kind(char)
        if not kind:
            continue
        if opened and opened[-1][1] == kind and _closes(char, opened[-1][2]):
            start, _, _ = opened.pop()
            partners[start], partners[i] = i, start
        elif category(char) != "Pe":
            opened.append((i, kind, char))
    return partners


def _kind(char: str) -> str:
    if char in _SINGLE:
        return "single"
    if char in _DOUBLE:
        return "double"
    return "bracket" if category(char) in ("Ps", "Pe") else ""


def _closes(char: str, opening: str) -> bool:
    if char in _SINGLE or char in _DOUBLE:
        # “English”, „deutsch“ and »anders«: only of straight marks are both alike.
        return (char == opening) == (char in _STRAIGHT)
    return category(char) == "Pe"


def _is_blank(char: str) -> bool:
    return char.isspace() or category(char) in ("Cc", "Cf")


def _is_punctuation(token: str) -> bool:
    return all(category(char).startswith("P") for char in token)
