"""Offsets into a text, in the unit of the tool that wrote them."""

from itertools import accumulate
from typing import List, Optional, Tuple

from spacy_crf_ner.formats.records import Record
from spacy_crf_ner.labels import LabeledSpan
from spacy_crf_ner.messages import quote

CHARACTERS = "characters"
UTF_16 = "utf-16"
UNITS = (CHARACTERS, UTF_16)
"""What a tool may count: characters (code points, as Python does), or UTF-16 units, as JavaScript does. Of these
an emoji, or a rare Chinese character, beyond U+FFFF has two: a surrogate pair."""

_NAMES = {CHARACTERS: "characters", UTF_16: "UTF-16 units"}
_OTHERS = {CHARACTERS: UTF_16, UTF_16: CHARACTERS}


class Offsets:
    """Converts offsets into a text.

    text (str): The text.
    unit (str): One of `UNITS`.
    inclusive (bool): Whether an end is the offset of the last character, not of the one after it.
    """

    def __init__(self, text: str, unit: str, *, inclusive: bool = False) -> None:
        self.text = text
        self.unit = unit
        self.inclusive = inclusive
        # The units differ only beyond U+FFFF.
        differ = unit == UTF_16 and not text.isascii() and max(text) > "\uffff"
        self._places = _places(text) if differ else None

    def span(self, record: Record, start: int, end: int, label: str) -> LabeledSpan:
        """Convert the offsets of an entity.

        record (Record): Where they are, for errors.
        start, end (int): The offsets.
        label (str): The entity's label.
        RETURNS (LabeledSpan): The entity, in characters.
        RAISES (FormatError): There is no text, or an offset is inside a surrogate pair.
        """
        place = self._characters(start, end)
        if place is not None:
            return *place, label
        length = len(self.text) if self._places is None else len(self._places) - 1
        entity, name = f"entity ({start}, {end}, {quote(label)})", _NAMES[self.unit]
        if not 0 <= start < end + self.inclusive:
            ends = (
                "not after the end, which is inclusive" if self.inclusive else "before the end, which is exclusive"
            )
            raise record.error(f"{entity} holds no text", f"count {name} from 0, and give a start {ends}")
        if end + self.inclusive > length:
            raise record.error(f"{entity} ends beyond the text of {length} {name}", self.other())
        raise record.error(f"{entity} begins or ends inside a surrogate pair", self.other())

    def mention(self, start: int, end: int) -> Optional[str]:
        """The text between two offsets; None where there is none."""
        place = self._characters(start, end)
        return None if place is None else self.text[slice(*place)]

    def check_mention(self, record: Record, start: int, end: int, mention: str) -> None:
        """Check that a text is where the file says, but for white space: Label Studio has folded it.

        RAISES (FormatError): There is another text.
        """
        found = self.mention(start, end)
        assert found is not None
        if bare(found) == bare(mention):
            return
        what = f"{quote(mention)} should be at ({start}, {end}), where there is {quote(found)}"
        other = Offsets(self.text, _OTHERS[self.unit], inclusive=self.inclusive)
        fits = bare(other.mention(start, end) or "") == bare(mention)
        fix = (
            f"give --set offsets={other.unit}"
            if fits
            else "correct it, or trust the offsets with --set verify=false"
        )
        raise record.error(what, fix)

    def other(self) -> str:
        """What to do: to count in the other unit."""
        other = _OTHERS[self.unit]
        return f"correct it or, if the file counts {_NAMES[other]}, give --set offsets={other}"

    def _characters(self, start: int, end: int) -> Optional[Tuple[int, int]]:
        places = self._places
        end += self.inclusive
        if not 0 <= start < end or end > (len(self.text) if places is None else len(places) - 1):
            return None
        if places is None:
            return start, end
        first, last = places[start], places[end]
        return None if first is None or last is None else (first, last)


def bare(text: str) -> str:
    """A text without its white space, and without line ends that are written as a backslash and an n."""
    return "".join(text.replace("\\n", "").split())


def units_before(text: str) -> List[int]:
    """The UTF-16 units before each character, and those of the whole text.

    text (str): The text.
    RETURNS (List[int]): One number more than there are characters.
    """
    return [0, *accumulate(2 if character > "\uffff" else 1 for character in text)]


def _places(text: str) -> List[Optional[int]]:
    """The character that begins at each UTF-16 unit, and the end; None inside a surrogate pair."""
    places: List[Optional[int]] = []
    for i, character in enumerate(text):
        places.append(i)
        if character > "\uffff":
            places.append(None)
    return [*places, len(text)]
