"""The tags of a record -> its entities: a list of tags, or of their numbers, beside a list of tokens."""

from typing import Any, List, Optional, Sequence, Tuple, Union

from spacy_crf_ner.formats.doc_builder import DocMaker
from spacy_crf_ner.formats.records import Record, shown
from spacy_crf_ner.formats.registry import check_bool, check_choice
from spacy_crf_ner.formats.rows import Row, sentences
from spacy_crf_ner.formats.sniff_tags import has_letter
from spacy_crf_ner.formats.spelling import LETTERS, SPELLINGS, check_spelling
from spacy_crf_ner.labels import OUTSIDE, LabeledSpan
from spacy_crf_ner.messages import quote
from spacy_crf_ner.tagging import ALL_SCHEMES, SCHEMES

Names = Union[str, Sequence[str], None]
"""The names of tags that are numbers, in order: a list, or one string with commas between."""


class TagReader:
    """Reads the tags of one file's records.

    scheme (Optional[str]): The tagging scheme, one of `tagging.ALL_SCHEMES`. None: the one that has the letters
        of the names, where those are given; else "bio".
    spelling (str): How tags are spelled, one of `spelling.SPELLINGS`.
    type (Optional[str]): The label of all entities, where tags are letters without one.
    repair (bool): Correct what breaks the scheme and has one obvious reading, and count it.
    names (Names): The names of tags that are numbers.
    RAISES (ValueError): A setting is wrong.
    """

    def __init__(
        self, *, scheme: Optional[str], spelling: str, type: Optional[str], repair: bool, names: Names
    ) -> None:
        if scheme is not None:
            check_choice("scheme", scheme, list(ALL_SCHEMES))
        check_spelling(spelling, type)
        check_bool("repair", repair)
        self._spelling = spelling
        self._type = type
        self._repair = repair
        self.names = check_names(names)
        self._scheme = ALL_SCHEMES[
            scheme or scheme_of([SPELLINGS[spelling].standard(name) for name in self.names])
        ]

    def spans(
        self, record: Record, tokens: Sequence[str], tags: Any, key: str, make: DocMaker
    ) -> List[LabeledSpan]:
        """Read the entities of a record.

        record (Record): The record.
        tokens (Sequence[str]): What each tag is of.
        tags (Any): What should be the tags: strings, or numbers that have names.
        key (str): The key of the tags.
        make (DocMaker): Counts the corrections.
        RETURNS (List[LabeledSpan]): The entities, in tokens.
        RAISES (FormatError): The tags are not of this kind, or break the scheme.
        """
        named = [self._name(record, tag, key) for tag in record.check(tags, list, f'"{key}"')]
        if len(named) != len(tokens):
            what = f'"{key}" holds {len(named)} tags for {len(tokens)} tokens'
            raise record.error(what, "write one tag for each token")
        rows = (Row(token, tag, record.line) for token, tag in zip(tokens, named))
        found = sentences(
            rows,
            self._scheme,
            record.source,
            make,
            repair=self._repair,
            spelling=self._spelling,
            type=self._type,
        )
        return [span for sentence in found for span in sentence.spans]

    def _name(self, record: Record, tag: Any, key: str) -> str:
        if isinstance(tag, str):
            return tag
        if type(tag) is not int:
            raise record.error(f'"{key}" holds {shown(tag)}', "write a tag for each token, such as B-PER")
        if not self.names:
            what = f'"{key}" holds numbers, and their names are not given'
            raise record.error(what, "give the names in order, with --set names=O,B-PER,I-PER,…")
        if not 0 <= tag < len(self.names):
            what = f'"{key}" holds {tag}, and there are {len(self.names)} names, the first of which is of 0'
            raise record.error(what, "give all names in order, with --set names=O,B-PER,I-PER,…")
        return self.names[tag]


def check_names(names: Names) -> Tuple[str, ...]:
    """Check the setting `names` of a reader.

    RETURNS (Tuple[str, ...]): The names; none where none are given.
    RAISES (ValueError): They are not names of tags.
    """
    if names is None:
        return ()
    listed = [name.strip() for name in names.split(",")] if isinstance(names, str) else names
    if not isinstance(listed, (list, tuple)) or not all(isinstance(name, str) and name for name in listed):
        raise ValueError(f"the setting names is {names!r}; give the names in order, as O,B-PER,I-PER")
    return tuple(listed)


def scheme_of(names: Sequence[str]) -> str:
    """The first scheme that has the letters of some names; "bio" where there is none or no name. Names without any
    letter are labels of their own (Few-NERD).

    Which of the schemes with the same letters it is, only the order of the tags in a text can tell.
    """
    labels = [name for name in names if name != OUTSIDE]
    if labels and not any(has_letter(label) or label.upper() in LETTERS for label in labels):
        return "bare"
    letters = {name.partition("-")[0] for name in names} - {OUTSIDE}
    return next((scheme.name for scheme in SCHEMES.values() if letters <= {*scheme.prefixes}), "bio")


def tokens_of(record: Record, key: str) -> List[str]:
    """The tokens of a record, none of them empty.

    RAISES (FormatError): It has none under this key, or they are not strings.
    """
    tokens = record.take(record.value, key, list, "the record")
    for i, token in enumerate(tokens):
        if not record.check(token, str, f"token {i}"):
            raise record.error(f"token {i} is empty", "write its text, or delete it and its tag")
    return tokens


def places_of(record: Record, text: str, tokens: Sequence[Any]) -> List[Tuple[int, int]]:
    """Where the tokens of a record are in its text, as (start, end) in characters.

    tokens (Sequence[Any]): Strings, or objects with "text", "start" and "end", as Prodigy has them.
    RAISES (FormatError): A token is not in the text after the one before.
    """
    places: List[Tuple[int, int]] = []
    end = 0
    for i, token in enumerate(tokens):
        if isinstance(token, dict):
            start, end = (record.take(token, key, int, f"token {i}") for key in ("start", "end"))
            if not 0 <= start < end <= len(text):
                what = f"token {i} is at ({start}, {end}) in a text of {len(text)} characters"
                raise record.error(what, "count characters from 0, and give a start before the end")
        else:
            word = record.check(token, str, f"token {i}")
            start = text.find(word, end)
            # There is only white space between two tokens of a text.
            if not word or start < 0 or text[end:start].strip():
                what = f"token {i}, {quote(word)}, does not follow in the text, where there is {quote(text[end:])}"
                raise record.error(
                    what, "correct the one or the other, or read the tokens only (--format huggingface)"
                )
            end = start + len(word)
        places.append((start, end))
    return places
