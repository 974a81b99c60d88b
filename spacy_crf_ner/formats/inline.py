"""The format `inline`: one sentence per line, in which tokens and tags alternate (`王 B-PER 明 I-PER 去 O`) or are
pairs (`王/B-PER 明/I-PER 去/O`, or `我们/o 华盛顿/ns 去/o` as in the files of the MSRA bakeoff of 2006).
"""

from itertools import chain
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from spacy.tokens import Doc

from spacy_crf_ner.formats.doc_builder import DocMaker
from spacy_crf_ner.formats.guess import Guess, Head, Unclear
from spacy_crf_ner.formats.registry import check_bool, check_choice
from spacy_crf_ner.formats.rows import Row, Rows, sentences
from spacy_crf_ner.formats.sniff_tags import Tags, guess_tags
from spacy_crf_ner.formats.source import Source
from spacy_crf_ner.formats.spelling import STANDARD, check_spelling
from spacy_crf_ner.labels import OUTSIDE
from spacy_crf_ner.messages import quote
from spacy_crf_ner.tagging import ALL_SCHEMES

SLASH = "/"
SPACE = " "
_UNITS = frozenset({"nr", "ns", "nt"})
"""The labels of MSRA's own files, where each unit between two spaces is a whole entity."""
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
    separator (str): The separator of a token and its tag: " ", where they alternate, or another string, the
        last of which in a pair counts.
    scheme (str): The tagging scheme, one of `tagging.ALL_SCHEMES`: "bare" where neighbouring tokens of one label
        are one entity, "whole" where each is one.
    spelling (str): How tags are spelled, one of `spelling.SPELLINGS`.
    type (Optional[str]): The label of all entities, where tags are only letters.
    repair (bool): Correct what breaks the scheme and has one obvious reading, and count it.
    YIELDS (Doc): The docs, one per line.
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
    if scheme == "bare":
        rows = _noted(rows, make)
    tags = ALL_SCHEMES[scheme]
    for sentence in sentences(rows, tags, source, make, repair=repair, spelling=spelling, type=type):
        yield make.from_tokens(sentence.tokens, sentence.spans, source, sentence.line)


def split_pairs(text: str, separator: str) -> List[Tuple[str, str]]:
    """The tokens of a line and their tags.

    text (str): The line.
    separator (str): The separator of a token and its tag.
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


def recognise(head: Head) -> Optional[Guess]:
    """Tell whether a file is of this format.

    head (Head): Its beginning.
    RETURNS (Optional[Guess]): The format and its settings; None where it is not.
    RAISES (Unclear): Its tags can be read in several ways.
    """
    lines = [line for line in head.lines if line.strip()]
    for separator in (SLASH, SPACE):
        pairs = [split_pairs(line, separator) for line in lines]
        whole = [line for line in pairs if all(token and tag for token, tag in line)]
        if 10 * len(whole) < 9 * len(pairs) or all(len(line) == 1 for line in whole):
            continue
        tags = guess_tags([[tag for _, tag in line] for line in whole])
        tokens = [[token for token, _ in line] for line in whole]
        if tags is None or guess_tags(tokens) is not None:
            continue
        # Between blanks, bare labels are words like others.
        if separator == SPACE and (tags.scheme == "bare" or "\t" in head.text or _are_columns(tokens)):
            continue
        if separator == SLASH and all(SLASH in token for line in tokens for token in line):
            raise Unclear("each token has several tags, with / between", "write one after each, as token/B-PER")
        return _guess(tags, tokens, separator)
    return None


def _are_columns(tokens: Sequence[Sequence[str]]) -> bool:
    """Whether a word, a chunk, a part of speech and an entity are in each line, as columns have them."""
    if len({len(line) for line in tokens}) > 1:
        return False
    return any(all(cell.isupper() for cell in column) for column in [*zip(*tokens)][1:])


def _guess(tags: Tags, tokens: Sequence[Sequence[str]], separator: str) -> Guess:
    scheme = tags.scheme
    if scheme == "bare":
        are_joined = any(end - start > 1 for _, start, end, _ in tags.entities)
        if tags.labels <= _UNITS and not (are_joined and max(map(len, chain(*tokens))) == 1):
            scheme = "whole"
        elif are_joined:
            what = "neighbouring tokens have one label"
            raise Unclear(
                what, "give --set scheme=bare if they are one entity, or --set scheme=whole if each is one"
            )
    settings: Dict[str, Any] = {} if separator == SLASH else {"separator": separator}
    settings["scheme"] = scheme
    if tags.spelling is not None:
        settings["spelling"] = tags.spelling
    how = "joined by /" if separator == SLASH else "in turn"
    return Guess("inline", settings, f"tokens and tags {how}, several in a line, {tags.why}")


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
