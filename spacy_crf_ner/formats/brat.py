"""The format `brat`: brat's standoff, a text ``x.txt`` and its annotation ``x.ann``.

A line of the annotation begins with its ID. ``T1<TAB>Person 0 3<TAB>Ann`` is an entity, with its offsets and the
text there; one of several parts has them as ``0 3;5 8``. ``R1<TAB>Kill Arg1:T1 Arg2:T2`` is a relation. Others are
attributes (A, M), events (E), equivalences (*), normalisations (N) and notes (#).

Source: Stenetorp et al. (2012), brat: a Web-based Tool for NLP-Assisted Text Annotation; its page "brat standoff
format".
"""

import re
from itertools import product
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from spacy.tokens import Doc

from spacy_crf_ner.formats.doc_builder import DocMaker
from spacy_crf_ner.formats.guess import Guess, Head
from spacy_crf_ner.formats.records import Link
from spacy_crf_ner.formats.source import Source
from spacy_crf_ner.formats.unknown import leave_unknown
from spacy_crf_ner.labels import LabeledSpan
from spacy_crf_ner.messages import quote

BRAT = "brat"
TEXT = ".txt"
ANNOTATION = ".ann"
SUFFIXES = (TEXT, ANNOTATION)
DISCONTINUOUS = "entities of several parts, whose tokens are left without annotation"
RELATIONS_LEFT = "relations of what is not an entity of one part, left out"
_LEFT = {
    "A": "attributes, left out",
    "M": "attributes, left out",
    "E": "events, left out",
    "*": "equivalences, left out",
    "N": "normalisations, left out",
    "#": "notes, left out",
}
_ENTITY = re.compile(r"(\S+) (\d{1,12} \d{1,12}(?:;\d{1,12} \d{1,12})*)")
_RELATION = re.compile(r"(\S+) +\S+?:(\S+) +\S+?:(\S+)\s*")
_FIRST_ENTITY = re.compile(r"T\S*\t\S+ \d+ \d+(?:;\d+ \d+)*\t")
_SPACE = re.compile(r"\s+")
_BYTE_ORDER_MARK = "\ufeff"


class Mention(NamedTuple):
    """An entity: its label, its parts as the file has them, the text there, and its line."""

    label: str
    parts: List[Tuple[int, int]]
    text: str
    line: int


class Located(NamedTuple):
    """An entity and its parts in characters of the doc's text. Parts with white space only between them are
    one."""

    mention: Mention
    parts: List[Tuple[int, int]]


class _Relation(NamedTuple):
    label: str
    ends: Tuple[str, str]
    line: int


def read_brat(source: Source, make: DocMaker) -> Iterator[Doc]:
    """Read brat's standoff. A text is one doc.

    Offsets count characters. Where the texts of the entities are found so only if one counts UTF-16 units, or a
    carriage return and a newline as one, or a byte order mark, they are taken to.

    source (Source): The text, or the annotation; the other has the same name, but for its suffix.
    make (DocMaker): Makes the docs.
    YIELDS (Doc): One doc.
    RAISES (FormatError): One of the files is missing, the annotation is not brat's, or an entity has another text.
    """
    path = source.path
    if path.suffix not in SUFFIXES:
        raise source.error(f"is neither {TEXT} nor {ANNOTATION}", f"name the text, which ends in {TEXT}")
    text_source, annotation = (source if path.suffix == suffix else source.beside(suffix) for suffix in SUFFIXES)
    for file, what in ((text_source, "the text"), (annotation, "the annotation")):
        if not file.path.exists():
            raise source.error(f"{what} {file.path.name} is not there", f"write it beside {path.name}")
    text = text_source.text()
    mentions, relations = _parse(annotation, make)
    text, located = _locate(text, mentions, annotation)
    spans: List[LabeledSpan] = []
    links: List[Link] = []
    unknown: List[Tuple[int, int]] = []
    places: Dict[str, int] = {}
    for id_, (mention, parts) in located.items():
        if len(parts) > 1:
            make.counts.notes[DISCONTINUOUS] += 1
            unknown.extend(parts)
        else:
            places[id_] = len(spans)
            spans.append((*parts[0], mention.label))
    for relation in relations:
        link = _link(relation, places, mentions, annotation)
        if link is None:
            make.counts.notes[RELATIONS_LEFT] += 1
        else:
            links.append(link)
    doc = make.from_text(text, spans, text_source, 1, relations=links)
    leave_unknown(doc, unknown)
    yield doc


def _parse(annotation: Source, make: DocMaker) -> Tuple[Dict[str, Mention], List[_Relation]]:
    mentions: Dict[str, Mention] = {}
    relations: List[_Relation] = []
    for number, line in annotation.lines():
        if not line.strip():
            continue
        id_, tab, rest = line.partition("\t")
        kind = id_[0]
        if kind == "T":
            mention = _mention(rest, number, annotation)
            if id_ in mentions:
                what = f"the ID {quote(id_)} is that of line {mentions[id_].line} too"
                raise annotation.error(what, "give each entity an ID of its own", number)
            mentions[id_] = mention
        elif kind == "R":
            found = _RELATION.fullmatch(rest)
            if not found:
                what = f"no relation: {quote(line)}"
                raise annotation.error(what, "write R1<TAB>LABEL Arg1:T1 Arg2:T2", number)
            relations.append(_Relation(found[1], (found[2], found[3]), number))
        elif kind in _LEFT and tab:
            make.counts.notes[_LEFT[kind]] += 1
        else:
            what = f"no line of brat's: {quote(line)}"
            raise annotation.error(what, "write T1<TAB>LABEL START END<TAB>TEXT for an entity", number)
    return mentions, relations


def _mention(rest: str, number: int, annotation: Source) -> Mention:
    body, tab, text = rest.partition("\t")
    found = _ENTITY.fullmatch(body)
    if not found or not tab:
        what = f"no entity: {quote(rest)}"
        raise annotation.error(what, "write T1<TAB>LABEL START END<TAB>TEXT, the label without spaces", number)
    parts = [(int(start), int(end)) for start, end in (part.split(" ") for part in found[2].split(";"))]
    if any(start >= end for start, end in parts):
        what = f"entity {quote(body)} holds no text"
        raise annotation.error(what, "give a start before the end, which is exclusive", number)
    return Mention(found[1], parts, text, number)


def _locate(text: str, mentions: Dict[str, Mention], annotation: Source) -> Tuple[str, Dict[str, Located]]:
    """The text without its byte order mark, and the entities in it."""
    marked = text.startswith(_BYTE_ORDER_MARK)
    text = text.removeprefix(_BYTE_ORDER_MARK)
    # brat counts what is in the file. Other tools write the units of their language, or line ends of their system.
    wide = [False] + [True] * (bool(text) and max(text) > "\uffff")
    joined = [False] + [True] * ("\r\n" in text)
    for mark, is_wide, is_joined in product([False] + [True] * marked, wide, joined):
        places = _places(text, mark=mark, wide=is_wide, joined=is_joined)
        located = {id_: _located(mention, places, text) for id_, mention in mentions.items()}
        if all(located.values()):
            return text, {id_: found for id_, found in located.items() if found}
    places = _places(text, mark=False, wide=False, joined=False)
    mention = next(mention for mention in mentions.values() if _located(mention, places, text) is None)
    (start, _), (_, end) = mention.parts[0], mention.parts[-1]
    there = f"has {quote(text[start:end])}" if end <= len(text) else f"ends at {len(text)}"
    what = f"entity {quote(mention.text)} is at {start} to {end}, where the text {there}"
    raise annotation.error(what, "correct its offsets, which count characters from 0", mention.line)


def _located(mention: Mention, places: Sequence[Optional[int]], text: str) -> Optional[Located]:
    """Where an entity is; None where the text there is another."""
    parts: List[Tuple[int, int]] = []
    for start, end in mention.parts:
        begin, stop = (places[i] if i < len(places) else None for i in (start, end))
        if begin is None or stop is None:
            return None
        # brat divides at a line end what runs across it.
        if parts and parts[-1][1] <= begin and not text[parts[-1][1] : begin].strip():
            parts[-1] = (parts[-1][0], stop)
        else:
            parts.append((begin, stop))
    there = " ".join(text[start:end] for start, end in parts)
    # A line end is a space in the annotation; "\r\n" may be one or two.
    same = _SPACE.sub(" ", there) == _SPACE.sub(" ", mention.text)
    return Located(mention, parts) if same else None


def _places(text: str, *, mark: bool, wide: bool, joined: bool) -> List[Optional[int]]:
    """The character that begins at each offset, and the end.

    text (str): The text, without its byte order mark.
    mark, wide, joined (bool): Whether offsets count the mark, a character beyond U+FFFF as two, and a carriage
        return and a newline as one.
    """
    places: List[Optional[int]] = [None] if mark else []
    for i, character in enumerate(text):
        if joined and character == "\n" and text[i - 1 : i] == "\r":
            continue
        places.append(i)
        if wide and character > "\uffff":
            places.append(None)
    return [*places, len(text)]


def _link(
    relation: _Relation, places: Dict[str, int], mentions: Dict[str, Mention], annotation: Source
) -> Optional[Link]:
    """A relation of two entities; None where one is an event, or has several parts."""
    for end in relation.ends:
        if end not in mentions and not end.startswith("E"):
            what = f"the relation {quote(relation.label)} names {quote(end)}, which is not there"
            raise annotation.error(what, "name an entity of this file", relation.line)
    head, tail = relation.ends
    return (relation.label, places[head], places[tail]) if head in places and tail in places else None


def recognise(head: Head) -> Optional[Guess]:
    """Tell brat's standoff by its two files, or by an annotation.

    head (Head): The beginning of a file.
    RETURNS (Optional[Guess]): What it is taken for; None if it is another format.
    """
    path = head.path
    if path.suffix == TEXT and path.with_suffix(ANNOTATION).is_file():
        return Guess(BRAT, {}, f"a text beside its annotation in {ANNOTATION}")
    lines = [line for line in head.lines if line.strip()]
    if path.suffix == ANNOTATION and (
        path.with_suffix(TEXT).is_file() or (lines and _FIRST_ENTITY.match(lines[0]))
    ):
        return Guess(BRAT, {}, f"an annotation in {ANNOTATION}")
    return None


def without_companions(paths: Sequence[Path]) -> List[Path]:
    """The files to read where some are brat's: not the annotation of a text that is one of them, nor the settings
    of brat's own that are beside one.

    paths (Sequence[Path]): Files.
    RETURNS (List[Path]): Those of them that are inputs of their own, in order.
    """
    files = set(paths)
    texts = {path for path in files if path.suffix == TEXT and path.with_suffix(ANNOTATION) in files}
    folders = {path.parent for path in texts}
    return [
        path
        for path in paths
        if not (path.suffix == ANNOTATION and path.with_suffix(TEXT) in texts)
        and not (path.name in _SETTINGS and path.parent in folders)
    ]


_SETTINGS = ("annotation.conf", "visual.conf", "tools.conf", "kb_shortcuts.conf")
