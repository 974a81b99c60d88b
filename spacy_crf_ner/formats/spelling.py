"""How tags are spelled: a letter, a separator and a label, in either order, in capitals or not."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Dict, Optional

from spacy_crf_ner.formats.registry import check_choice
from spacy_crf_ner.labels import OUTSIDE
from spacy_crf_ner.tagging import SCHEMES

STANDARD = "B-PER"


@dataclass(frozen=True, eq=False)  # each is one of a kind; so its hash is fast
class Spelling:
    """One way to spell tags.

    name (str): Its name, which shows it.
    separator (str): The separator of letter and label; "" where there is no label.
    suffix (bool): Whether the letter is after the label.
    lower (bool): Whether the letter, and the tag for "outside", are in lower case.
    """

    name: str
    separator: str
    suffix: bool = False
    lower: bool = False

    @lru_cache(maxsize=4096)  # noqa: B019 - the spellings are few and live as long as the module
    def standard(self, tag: str) -> str:
        """The tag in the standard spelling.

        tag (str): A tag in this spelling.
        RETURNS (str): "O", or letter, hyphen and label. A tag that is not in this spelling is returned as it is.
        """
        if self.lower and tag == OUTSIDE.lower():
            return OUTSIDE
        if not self.separator:
            return tag
        if self.suffix:
            label, _, letter = tag.rpartition(self.separator)
        else:
            letter, _, label = tag.partition(self.separator)
        if len(letter) != 1 or not label or letter.islower() != self.lower:
            return tag
        return f"{letter.upper()}-{label}"


SPELLINGS: Dict[str, Spelling] = {
    spelling.name: spelling
    for spelling in (
        Spelling(STANDARD, "-"),
        Spelling("B_PER", "_"),
        Spelling("PER-B", "-", suffix=True),
        Spelling("PER_B", "_", suffix=True),
        Spelling("b-per", "-", lower=True),
        Spelling("b_per", "_", lower=True),
        Spelling("per-b", "-", suffix=True, lower=True),
        Spelling("per_b", "_", suffix=True, lower=True),
    )
}
"""All spellings, by name. The case of labels is kept as it is."""


LETTERS = frozenset(letter for scheme in SCHEMES.values() for letter in scheme.prefixes)
"""The letters of all schemes."""


def check_spelling(spelling: str, type: Optional[str]) -> None:
    """Check the settings `spelling` and `type` of a reader.

    RAISES (ValueError): There is no such spelling, or the type is not a label.
    """
    check_choice("spelling", spelling, list(SPELLINGS))
    if type is not None and (not isinstance(type, str) or not type or any(map(str.isspace, type))):
        raise ValueError(f"the setting type is {type!r}; give a label, such as GENE")
