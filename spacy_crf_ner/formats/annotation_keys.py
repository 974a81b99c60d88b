"""Under which keys records hold annotation, and what it looks like there."""

import re
from typing import Any, Collection, Optional

TEXT_KEYS = ("text", "originalText", "content", "sentence")
"""Keys of a text, the usual one first."""

TOKEN_KEYS = ("tokens", "words")
TAG_KEYS = ("ner_tags", "tags", "labels", "label", "ner")
"""Keys of the tags of tokens, the most telling first."""

ENTITY_KEYS = (
    "spans",
    "entities",
    "label",
    "labels",
    "ner",
    "entity_list",
    "annotation",
    "annotations",
    "ner_tags",
    "tags",
)
"""Keys under which the text's entities are looked for."""

PLACES = (
    ("start", "end", True),
    ("start_offset", "end_offset", True),
    ("start_char", "end_char", True),
    ("start_idx", "end_idx", False),
    ("start_pos", "end_pos", False),
    ("begin", "end", False),
)
"""The keys of an entity's offsets, and whether the end is known to be exclusive."""

LABELS = ("label", "labels", "type", "label_type", "entity_type", "entity_group", "tag")
"""The keys of an entity's label."""

MENTIONS = ("text", "entity", "mention", "word")
"""The keys of an entity's text."""

OFFSETS = "offsets"
TAGS = "tags"
NOTHING = "nothing"
"""The shapes of annotation: a list of entities, a tag for each token or character, and an empty list."""

_TAG = re.compile(r"[OoBIESLUMWbieslumw]|[BIESLUMW][-_].+|.+[-_][BIESLUMW]|[bieslumw][-_].+|.+[-_][bieslumw]")


def shape(key: str, value: Any, lengths: Collection[int]) -> Optional[str]:
    """What kind of annotation a value of a record looks like.

    key (str): Its key. An empty list of tags says nothing of a text: documents have tags, too.
    value (Any): The value.
    lengths (Collection[int]): How many tags there must be: as many as tokens, or as characters.
    RETURNS (Optional[str]): `OFFSETS`, `TAGS` or `NOTHING`; None where it looks like no annotation.
    """
    if not isinstance(value, list):
        return None
    if not value:
        return NOTHING if "tags" not in key or 0 in lengths else None
    if all(map(_is_entity, value)):
        return OFFSETS
    return TAGS if len(value) in lengths and are_tags(value) else None


def looks_annotated(key: str, value: Any, text: Optional[str], tokens: Any) -> bool:
    """Whether a value of a record holds entities or tags of it, and not only lists that could be so by chance."""
    kind = shape(key, value, lengths(text, tokens))
    return kind == OFFSETS or (kind == TAGS and any(len(tag) > 1 for tag in value))


def are_words(value: Any) -> bool:
    """Whether a value is a list of strings."""
    return isinstance(value, list) and all(isinstance(word, str) for word in value)


def are_tags(value: Any) -> bool:
    """Whether a value is a list of tags, in any scheme and spelling."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(tag, str) and _TAG.fullmatch(tag) is not None for tag in value)
    )


def are_numbers(value: Any) -> bool:
    """Whether a value is a list of whole numbers from 0, as tags are where their names are elsewhere."""
    return isinstance(value, list) and bool(value) and all(type(tag) is int and tag >= 0 for tag in value)


def lengths(text: Optional[str], tokens: Any) -> Collection[int]:
    """How many tags a record must have: one for each token, where it has tokens, or each character."""
    if isinstance(tokens, list):
        return {len(tokens)}
    return set() if text is None else {len(text)}


def _is_entity(item: Any) -> bool:
    if isinstance(item, list):
        return len(item) == 3 and [type(part) for part in item] in ([int, int, str], [str, int, int])
    if not isinstance(item, dict):
        return False
    inner = item.get("entity_index", item.get("globalOffsets"))
    places = {**item, **inner} if isinstance(inner, dict) else item
    is_placed = any(type(places.get(start)) is int and type(places.get(end)) is int for start, end, _ in PLACES)
    return is_placed and (any(_is_label(item.get(key)) for key in LABELS) or "hypertextlabels" in item)


def _is_label(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(label, str) for label in value))
