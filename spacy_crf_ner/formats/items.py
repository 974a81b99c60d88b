"""Entities as records give them, before it is known what their offsets count -> entities in characters."""

from typing import List, NamedTuple, Optional, Sequence

from spacy_crf_ner.formats.offsets import UNITS, Offsets, bare
from spacy_crf_ner.formats.records import Record
from spacy_crf_ner.formats.registry import check_bool, check_choice
from spacy_crf_ner.labels import LabeledSpan
from spacy_crf_ner.messages import quote

EXCLUSIVE = "exclusive"
INCLUSIVE = "inclusive"
ENDS = (EXCLUSIVE, INCLUSIVE)
"""What an end may be: the offset after the last character, or that of the last character."""

_ASK = "give --set ends=inclusive where an end is the last character's offset, or else --set ends=exclusive"


class Item(NamedTuple):
    """An entity of a record.

    start, end (int): Its offsets, as the file has them.
    labels (Sequence[str]): Its labels, each of which makes an entity.
    mention (Optional[str]): Its text, where the file gives it.
    sure (bool): Whether the names of its keys are those of a tool whose ends are known to be exclusive.
    """

    start: int
    end: int
    labels: Sequence[str]
    mention: Optional[str] = None
    sure: bool = True


class Placing:
    """Places the entities of one file's records. Whether ends are inclusive is the same in the whole file.

    unit (str): What offsets count: one of `offsets.UNITS`.
    ends (Optional[str]): One of `ENDS`. None: exclusive where the keys say so; else the mentions decide.
    verify (bool): Where the text of an entity is given, check that it is there, white space aside.
    RAISES (ValueError): A setting is wrong.
    """

    def __init__(self, unit: str, ends: Optional[str], verify: bool) -> None:
        check_choice("offsets", unit, UNITS)
        if ends is not None:
            check_choice("ends", ends, ENDS)
        check_bool("verify", verify)
        self._unit = unit
        self._ends = ends
        self._verify = verify
        self._told: Optional[str] = None
        self._told_line = 0

    def offsets(self, record: Record, text: str, items: Sequence[Item] = ()) -> Offsets:
        """How the offsets of a record are read.

        record (Record): The record, for errors.
        text (str): Its text.
        items (Sequence[Item]): Its entities.
        RETURNS (Offsets): What converts them.
        RAISES (FormatError): Nothing tells whether ends are inclusive, or what tells it contradicts itself or what
            the keys say.
        """
        exclusive, inclusive = (Offsets(text, self._unit, inclusive=ends == INCLUSIVE) for ends in ENDS)
        if self._ends is not None:
            return inclusive if self._ends == INCLUSIVE else exclusive
        told = _told(exclusive, inclusive, items)
        if all(item.sure for item in items):
            if told == [INCLUSIVE] * len(items) != [] and self._verify:
                first = items[0]
                what = f"{quote(first.mention or '')} is at ({first.start}, {first.end}) if ends are inclusive"
                raise record.error(f"{what}, as in all entities of the record", "give --set ends=inclusive")
            return exclusive
        for item, ends in zip(items, told):
            if ends is None:
                continue
            if self._told is None:
                self._told, self._told_line = ends, record.line
            elif ends != self._told:
                what = f"the end of {quote(item.mention or '')} is {ends}, and ends are {self._told} in line"
                raise record.error(f"{what} {self._told_line}", "correct the one or the other")
        if self._told is None:
            for item in items:
                if item.mention is not None and self._verify and exclusive.mention(item.start, item.end):
                    exclusive.check_mention(record, item.start, item.end, item.mention)
            raise record.error("nothing says whether the ends of entities are inclusive", _ASK)
        return inclusive if self._told == INCLUSIVE else exclusive

    def spans(self, record: Record, offsets: Offsets, items: Sequence[Item]) -> List[List[LabeledSpan]]:
        """The entities of each item: one for each of its labels.

        RAISES (FormatError): There is no text, or another than the mention.
        """
        placed = []
        for start, end, labels, mention, _ in items:
            spans = [offsets.span(record, start, end, label) for label in labels]
            if self._verify and spans and mention is not None:
                offsets.check_mention(record, start, end, mention)
            placed.append(spans)
        return placed


def _told(exclusive: Offsets, inclusive: Offsets, items: Sequence[Item]) -> List[Optional[str]]:
    """What each mention says of the ends; None where there is none, or it fits both or neither."""
    told: List[Optional[str]] = []
    for item in items:
        fits: List[bool] = []
        if item.mention is not None:
            texts = [offsets.mention(item.start, item.end) for offsets in (exclusive, inclusive)]
            fits = [text == item.mention for text in texts]
            if not any(fits):
                fits = [text is not None and bare(text) == bare(item.mention) for text in texts]
        told.append(ENDS[fits.index(True)] if sum(fits) == 1 else None)
    return told
