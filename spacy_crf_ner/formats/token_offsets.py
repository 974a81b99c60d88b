"""Offsets that count the tokens of a record that has a text too -> offsets in characters."""

from typing import Any, List, Sequence, Tuple

from spacy_crf_ner.formats.errors import FormatError
from spacy_crf_ner.formats.items import Item
from spacy_crf_ner.formats.records import Record
from spacy_crf_ner.formats.tag_lists import places_of

TOKENS = "tokens"
"""The value of the setting `offsets` for them."""

_EXCLUSIVE = "before the end, which is the number of the token after the last"
_INCLUSIVE = "not after the end, which is the number of the last token"


def in_characters(
    record: Record, items: Sequence[Item], places: Sequence[Tuple[int, int]], *, inclusive: bool
) -> List[Item]:
    """Convert the offsets of entities.

    record (Record): Where they are, for errors.
    items (Sequence[Item]): The entities, whose offsets count tokens from 0.
    places (Sequence[Tuple[int, int]]): Where each token is in the text, as (start, end) in characters.
    inclusive (bool): Whether an end is the number of the last token, not of the one after it.
    RETURNS (List[Item]): The entities, whose offsets count characters, the ends exclusive.
    RAISES (FormatError): An entity has no token, or ends beyond the last.
    """
    converted = []
    for item in items:
        start, end = item.start, item.end + inclusive
        if not 0 <= start < end <= len(places):
            what = f"entity ({item.start}, {item.end}) does not fit a text of {len(places)} tokens"
            order = _INCLUSIVE if inclusive else _EXCLUSIVE
            raise record.error(what, f"count tokens from 0, and give a start {order}")
        converted.append(item._replace(start=places[start][0], end=places[end - 1][1]))
    return converted


def refuse_token_offsets(record: Record, items: Sequence[Item], text: str, tokens: Sequence[Any]) -> None:
    """Refuse offsets that, taken for characters, cut the record's own tokens, and that may count tokens.

    record (Record): Where the entities are, for errors.
    items (Sequence[Item]): The entities; whether their offsets count characters or tokens is not known.
    text (str): The text of the record.
    tokens (Sequence[Any]): Its tokens, as of `tag_lists.places_of`. Those that are not the text's say nothing.
    RAISES (FormatError): An entity begins or ends inside a token, and all offsets are numbers of tokens.
    """
    if not all(0 <= item.start <= item.end <= len(tokens) for item in items):
        return
    try:
        places = places_of(record, text, tokens)
    except FormatError:
        return
    starts, ends = ({place[side] for place in places} for side in (0, 1))
    for item in items:
        if item.mention is None and (item.start not in starts or not {item.end, item.end + 1} & ends):
            what = f"entity ({item.start}, {item.end}) cuts a token of the record if offsets count characters"
            fix = "give --set offsets=tokens --set ends=exclusive (or inclusive), or else --set offsets=characters"
            raise record.error(what, fix)
