"""The format `inline`: a sentence a line, in which tokens and tags take turns (`王 B-PER 明 I-PER 去 O`) or are
pairs (`王/B-PER 明/I-PER 去/O`, or `我们/o 华盛顿/ns 去/o` as in the files of the MSRA bakeoff of 2006).
"""

from typing import Iterator, List, Optional, Tuple

from spacy.tokens import Doc

from spacy_crf_ner.formats.docs import DocMaker
from spacy_crf_ner.formats.rows import Row, Rows, quote, respelled, sentences
from spacy_crf_ner.formats.schemes import ALL_SCHEMES, SCHEMES
from spacy_crf_ner.formats.settings import check_bool, check_choice
from spacy_crf_ner.formats.source import Source
from spacy_crf_ner.formats.spelling import STANDARD, check_spelling
from spacy_crf_ner.labels import OUTSIDE

SLASH = "/"
SPACE = " "
NEIGHBOURS = "pairs of neighbouring tokens of one label, which are one entity (--set scheme=whole makes them two)"


def read_inline(
    source: Source,
    make: DocMaker,
    *,
    separator: str = SLASH,
    scheme: str = "bio",
    spelling: str = STANDARD,
    type: Optional[str] = None,
    repair: bool = False,
) -> Iterator[Doc]:
    """Read sentences of tokens and tags. White space separates the tokens; an empty line is none.

    source (Source): The file.
    make (DocMaker): Makes the docs.
    separator (str): What stands between a token and its tag: " ", where they alternate, or another string, the
        last of which in a pair counts.
    scheme (str): The tagging scheme, one of `schemes.ALL_SCHEMES`: "bare" where neighbouring tokens of one label
        are one entity, "whole" where each is one.
    spelling (str): How tags are spelled, one of `spelling.SPELLINGS`.
    type (Optional[str]): The label of all entities, where tags are letters alone.
    repair (bool): Mend what breaks the scheme and has one obvious reading, and count it.
    YIELDS (Doc): The docs, one a line.
    RAISES (FormatError): A token has no tag, or a tag is none of the scheme.
    RAISES (ValueError): A setting is wrong.
    """
    check_choice("scheme", scheme, list(ALL_SCHEMES))
    check_bool("repair", repair)
    check_spelling(spelling, type)
    if (
        not isinstance(separator, str)
        or not separator
        or (separator != SPACE and separator.split() != [separator])
    ):
        raise ValueError(f'the setting separator is {separator!r}; give " ", "/" or another without white space')
    rows = _rows(source, separator)
    if scheme in SCHEMES:
        rows = respelled(rows, source, spelling=spelling, type=type)
    elif scheme == "bare":
        rows = _noted(rows, make)
    for sentence in sentences(rows, ALL_SCHEMES[scheme], source, make, repair=repair):
        yield make.from_tokens(sentence.tokens, sentence.spans, source, sentence.line)


def split_pairs(text: str, separator: str) -> List[Tuple[str, str]]:
    """The tokens of a line and their tags.

    text (str): The line.
    separator (str): What stands between a token and its tag.
    RETURNS (List[Tuple[str, str]]): The pairs. One of them is empty where it is not there.
    """
    parts = text.split()
    if separator == SPACE:
        return [*zip(parts[::2], [*parts[1::2], ""])]
    pairs = []
    for part in parts:
        token, found, tag = part.rpartition(separator)
        pairs.append((token, tag) if found else (part, ""))
    return pairs


def _rows(source: Source, separator: str) -> Rows:
    for number, text in source.lines():
        yield None
        for token, tag in split_pairs(text, separator):
            if not tag:
                what = f"token {quote(token)} has no tag"
                raise source.error(what, f"write the tag after {separator!r}", number)
            if not token:
                raise source.error(
                    f"tag {quote(tag)} has no token", f"write the token before {separator!r}", number
                )
            yield Row(token, tag, number)


def _noted(rows: Rows, make: DocMaker) -> Rows:
    """The rows; neighbours of one label are counted."""
    before = None
    for row in rows:
        if row is not None and before is not None and row.tag == before.tag and row.tag.upper() != OUTSIDE:
            make.counts.notes[NEIGHBOURS] += 1
        before = row
        yield row
