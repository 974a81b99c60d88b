"""The format `webanno`: WebAnno TSV 3, the export of WebAnno and INCEpTION.

The header names the layers: ``#T_SP=`` spans, ``#T_CH=`` chains, ``#T_RL=`` relations, each with its features,
which have a column each. A sentence has its text in ``#Text=`` lines, and then a row for each token: ``1-2``, its
offsets ``4-8`` in UTF-16 units, its text, and the values. ``_`` means no annotation, ``*`` one without a value;
``|`` separates several, and those that have the same number, as ``PER[1]``, are one. A part of a token has a row
``1-2.1``.

Source: the WebAnno TSV 3.3 format in INCEpTION's user guide.
"""

import re
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from spacy.tokens import Doc

from spacy_crf_ner.formats.doc_builder import DocMaker
from spacy_crf_ner.formats.guess import Guess, Head
from spacy_crf_ner.formats.source import Source
from spacy_crf_ner.formats.unknown import leave_unknown
from spacy_crf_ner.labels import LabeledSpan
from spacy_crf_ner.messages import quote

NO_VALUE = "entities without a value, whose tokens are left without annotation"
NO_TEXT = "entities of no character, left out"
OTHER_LAYER = "annotations of other layers and features, left out"
RELATIONS_LEFT = "relations, left out"
CHAINS_LEFT = "links of chains, left out"
IN_CHARACTERS = "sentences whose offsets count characters, not UTF-16 units"

_FORMAT = re.compile(r"#FORMAT=WebAnno TSV (\d+)\.(\d+)")
_LAYER = re.compile(r"#T_(SP|CH|RL)=(.*)")
_TEXT = "#Text="
_ROW = re.compile(r"(\d+)-(\d+)(\.\d+)?")
_OFFSETS = re.compile(r"(\d{1,12})-(\d{1,12})")
_NUMBERED = re.compile(r"(.*?)(?<!\\)\[(\d+)\]", re.DOTALL)
_STACKED = re.compile(r"(?:[^\\|]|\\.)+", re.DOTALL)
_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|.)", re.DOTALL)
_ESCAPED = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "b": "\b"}
NONE, NO_FEATURE = "_", "*"
_LINGUISTIC = "de.tudarmstadt.ukp.dkpro.core.api."
_ENTITY = f"{_LINGUISTIC}ner."
_USUAL_FEATURES = ("value", "label", "type", "category", "class", "tag")


class Column(NamedTuple):
    """A column of values: its layer, its feature ("" where the layer has none) and the kind of layer."""

    layer: str
    feature: str
    kind: str


class Unit(NamedTuple):
    """A token or a part of one: its offsets as the file has them, its text, its values, and its line."""

    start: int
    end: int
    text: str
    values: List[str]
    line: int


@dataclass
class Sentence:
    """The rows of a sentence, its text, and its first line."""

    line: int
    text: str = ""
    units: List[Unit] = field(default_factory=list)


class Entity(NamedTuple):
    """An entity: its label (None where it has no value), the numbers of its units in the file, and its line."""

    label: Optional[str]
    units: List[int]
    line: int


def read_webanno(
    source: Source, make: DocMaker, *, layer: Optional[str] = None, feature: Optional[str] = None
) -> Iterator[Doc]:
    """Read WebAnno TSV 3. The file, which is one document, is held in memory.

    source (Source): The file.
    make (DocMaker): Makes the docs.
    layer (Optional[str]): The layer of the entities, by its name or what follows the last dot in it. By default,
        the only layer of spans with annotations, those of words (as part of speech) left aside.
    feature (Optional[str]): Its feature that holds the labels; by default "value", "label" or another usual name,
        or the only one.
    YIELDS (Doc): The docs, one per sentence. Sentences that an entity runs across are one doc.
    RAISES (FormatError): The file is not WebAnno TSV 3, or has several such layers, or none.
    RAISES (ValueError): A setting is not a name.
    """
    for name, value in (("layer", layer), ("feature", feature)):
        if value is not None and (not isinstance(value, str) or not value):
            raise ValueError(f"the setting {name} is {value!r}; give a name")
    columns, sentences = _parse(source)
    units = [unit for sentence in sentences for unit in sentence.units]
    column = _chosen(columns, units, source, layer, feature)
    _count_others(columns, column, units, make)
    entities = _entities(units, column, source)
    for group in _groups(sentences, entities):
        yield _doc(group, units, entities, source, make)


def _parse(source: Source) -> Tuple[List[Column], List[Sentence]]:
    columns: List[Column] = []
    sentences: List[Sentence] = []
    old = between = False
    for number, text in source.lines():
        layer = _LAYER.fullmatch(text)
        if number == 1:
            version = _FORMAT.fullmatch(text.rstrip())
            if not version or version[1] != "3":
                what = f"the first line is {quote(text)}, not '#FORMAT=WebAnno TSV 3.3' or another 3.x"
                raise source.error(what, "export the document as WebAnno TSV 3", 1)
            old = int(version[2]) < 2
        elif layer and not sentences:
            name, *features = layer[2].split("|")
            kept = [feature for feature in features if feature] or [""]
            columns.extend(Column(name, feature, layer[1]) for feature in kept)
        elif text.startswith(_TEXT):
            line = _unescaped(text.removeprefix(_TEXT), old)
            if sentences and not sentences[-1].units and not between:
                sentences[-1].text += f"\n{line}"
            else:
                sentences.append(Sentence(number, line))
            between = False
        elif text.startswith("#") or not text.strip():
            between = True
        else:
            if not sentences:
                raise source.error(
                    f"a token without a sentence: {quote(text)}", f"write {_TEXT} before it", number
                )
            sentences[-1].units.append(_unit(text.split("\t"), len(columns), number, source, old))
    for sentence in sentences:
        if not sentence.units:
            raise source.error("a sentence without a token", "write its tokens, or delete it", sentence.line)
    return columns, sentences


def _unit(parts: List[str], n_columns: int, number: int, source: Source, old: bool) -> Unit:
    offsets = _OFFSETS.fullmatch(parts[1]) if len(parts) > 2 else None
    if offsets is None or not _ROW.fullmatch(parts[0]):
        what = f"no row of a token: {quote(parts[0])}"
        raise source.error(what, "write SENTENCE-TOKEN, BEGIN-END and the text, with TABs between", number)
    values = parts[3:]
    if len(values) == n_columns + 1 and not values[-1]:
        values.pop()  # each row ends with a TAB
    if len(values) != n_columns:
        what = f"{len(values)} value(s) where the header names {n_columns}"
        raise source.error(what, "write a value or _ for each feature", number)
    return Unit(int(offsets[1]), int(offsets[2]), _unescaped(parts[2], old), values, number)


def _unescaped(text: str, old: bool) -> str:
    r"""A text without escapes. Before version 3.2, \u and four digits mean a UTF-16 unit."""
    if "\\" not in text:
        return text

    def character(found: "re.Match[str]") -> str:
        escape = found[1]
        if len(escape) > 1:
            return chr(int(escape[1:], 16)) if old else escape
        return _ESCAPED.get(escape, escape)

    plain = _ESCAPE.sub(character, text)
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass") if old else plain


def _short(layer: str) -> str:
    return layer.rpartition(".")[2]


def _stacked(value: str) -> List[str]:
    return [part for part in _STACKED.findall(value) if part != NONE]


def _chosen(
    columns: Sequence[Column], units: Sequence[Unit], source: Source, layer: Optional[str], feature: Optional[str]
) -> int:
    """The column of the labels."""
    names = list(dict.fromkeys(column.layer for column in columns if column.kind == "SP"))
    if not names:
        raise source.error(
            "the header names no layer of spans (#T_SP=)", "export the layer of the entities too", 1
        )
    if layer is None:
        names = [name for name in names if not name.startswith(_LINGUISTIC) or name.startswith(_ENTITY)]
        used = [name for name in names if _is_used(name, columns, units)]
        if not names or len(used) > 1:
            what = f"annotations in the layers {_listed(used)}" if used else "no layer that could be of entities"
            raise source.error(what, "name the layer with --set layer=NAME", 1)
        if not used and len(names) > 1:
            what = f"no annotation in any of the layers {_listed(names)}"
            raise source.error(what, "name the layer with --set layer=NAME", 1)
        (chosen,) = used or names
    else:
        found = [name for name in names if layer in (name, _short(name))]
        if len(found) != 1:
            what = f"{len(found)} layers are called {quote(layer)}; the header names {_listed(names, short=False)}"
            raise source.error(what, "name one with --set layer=NAME", 1)
        (chosen,) = found
    own = {
        column.feature: i for i, column in enumerate(columns) if column.layer == chosen and _is_plain(columns, i)
    }
    if feature is None:
        usual = [name for name in _USUAL_FEATURES if name in own] or list(own) * (len(own) == 1)
        feature = usual[0] if usual else ""
    if feature not in own:
        which = f"no feature {quote(feature)}" if feature else "several features" if own else "no feature"
        what = f"the layer {quote(_short(chosen))} has {which}{': ' if own else ''}{', '.join(map(quote, own))}"
        raise source.error(what, "name the one of the labels with --set feature=NAME, or another layer", 1)
    return own[feature]


def _is_plain(columns: Sequence[Column], i: int) -> bool:
    """Whether a column is of a feature, and neither the role nor the target of a slot."""
    feature = columns[i].feature
    after_role = i > 0 and columns[i - 1].layer == columns[i].layer and columns[i - 1].feature.startswith("ROLE_")
    return bool(feature) and not feature.startswith("ROLE_") and not after_role


def _is_used(layer: str, columns: Sequence[Column], units: Sequence[Unit]) -> bool:
    own = [i for i, column in enumerate(columns) if column.layer == layer and column.kind == "SP"]
    return any(unit.values[i] != NONE for unit in units for i in own)


def _listed(names: Sequence[str], *, short: bool = True) -> str:
    return ", ".join(quote(_short(name) if short else name) for name in names)


def _count_others(columns: Sequence[Column], chosen: int, units: Sequence[Unit], make: DocMaker) -> None:
    notes = {"SP": OTHER_LAYER, "RL": RELATIONS_LEFT, "CH": CHAINS_LEFT}
    for i, column in enumerate(columns):
        last = i + 1 == len(columns) or columns[i + 1].layer != column.layer
        if i != chosen and (column.kind == "SP" or last):
            values = {
                (value if _NUMBERED.fullmatch(value) else (value, unit.line))
                for unit in units
                for value in _stacked(unit.values[i])
                if column.kind != "SP" or not column.feature or value.partition("[")[0] != NO_FEATURE
            }
            make.counts.notes[notes[column.kind]] += len(values)


def _entities(units: Sequence[Unit], column: int, source: Source) -> List[Entity]:
    """The entities, in units."""
    entities: List[Entity] = []
    numbered: Dict[str, int] = {}
    for i, unit in enumerate(units):
        for value in _stacked(unit.values[column]):
            found = _NUMBERED.fullmatch(value)
            raw = found[1] if found else value
            label = None if raw == NO_FEATURE else _unescaped(raw, old=False)
            place = numbered.get(found[2]) if found else None
            if place is None:
                if found:
                    numbered[found[2]] = len(entities)
                entities.append(Entity(label, [i], unit.line))
            elif entities[place].label != label:
                first = entities[place]
                what = f"annotation {quote(value)} has the number of {quote(first.label or NO_FEATURE)}"
                raise source.error(f"{what} in line {first.line}", "give each a number of its own", unit.line)
            else:
                entities[place].units.append(i)
    return entities


def _first(entity: Entity) -> int:
    return entity.units[0]


class Group(NamedTuple):
    """Sentences that are one doc, and their first unit in the file."""

    sentences: List[Sentence]
    first: int


def _groups(sentences: Sequence[Sentence], entities: Sequence[Entity]) -> Iterator[Group]:
    """The sentences, those together that an entity runs across."""
    reach: Dict[int, int] = {}
    for entity in entities:
        first, last = entity.units[0], entity.units[-1]
        reach[first] = max(reach.get(first, 0), last)
    group: List[Sentence] = []
    first = position = end = 0
    for sentence in sentences:
        group.append(sentence)
        for _ in sentence.units:
            end = max(end, reach.get(position, 0))
            position += 1
        if end < position:
            yield Group(group, first)
            group, first = [], position


def _doc(group: Group, units: Sequence[Unit], entities: Sequence[Entity], source: Source, make: DocMaker) -> Doc:
    text = ""
    places: List[Tuple[int, int]] = []
    end = 0
    for sentence in group.sentences:
        # The format does not say what is between sentences, but that something does.
        text += " " * (bool(text) and sentence.units[0].start > end)
        places.extend((len(text) + start, len(text) + stop) for start, stop in _placed(sentence, source, make))
        text += sentence.text
        end = max(unit.end for unit in sentence.units)
    spans: List[LabeledSpan] = []
    unknown: List[Tuple[int, int]] = []
    own = (bisect_left(entities, unit, key=_first) for unit in (group.first, group.first + len(places)))
    for label, numbers, line in entities[slice(*own)]:
        covered = [places[number - group.first] for number in numbers]
        start, stop = covered[0][0], max(stop for _, stop in covered)
        if start == stop:
            make.counts.notes[NO_TEXT] += 1
        elif label is None:
            make.counts.notes[NO_VALUE] += 1
            unknown.append((start, stop))
        elif not label.strip():
            raise source.error("an annotation with an empty value", "write its label, or *", line)
        else:
            spans.append((start, stop, label))
    doc = make.from_text(text, spans, source, group.sentences[0].line)
    leave_unknown(doc, unknown)
    return doc


def _placed(sentence: Sentence, source: Source, make: DocMaker) -> List[Tuple[int, int]]:
    """Where the units are in the text of their sentence, in characters."""
    first = sentence.units[0].start
    for wide in (True, False):
        places = _places(sentence.text, wide=wide)
        found = [_place(unit, first, places) for unit in sentence.units]
        if all(place and sentence.text[slice(*place)] == unit.text for place, unit in zip(found, sentence.units)):
            make.counts.notes[IN_CHARACTERS] += not wide
            return [place for place in found if place]
    places = _places(sentence.text, wide=True)
    for unit in sentence.units:
        place = _place(unit, first, places)
        there = place and sentence.text[slice(*place)]
        if there != unit.text:
            what = f"token {quote(unit.text)} is at {unit.start}-{unit.end}, where the text "
            what += "ends" if there is None else f"has {quote(there)}"
            raise source.error(what, f"correct its offsets, or {_TEXT} in line {sentence.line}", unit.line)
    raise AssertionError


def _place(unit: Unit, first: int, places: Sequence[Optional[int]]) -> Optional[Tuple[int, int]]:
    start, end = unit.start - first, unit.end - first
    if not 0 <= start <= end < len(places):
        return None
    begin, stop = places[start], places[end]
    return None if begin is None or stop is None else (begin, stop)


def _places(text: str, *, wide: bool) -> List[Optional[int]]:
    """The character that begins at each unit, and the end. A character beyond U+FFFF has two units if `wide`."""
    places: List[Optional[int]] = []
    for i, character in enumerate(text):
        places.append(i)
        if wide and character > "\uffff":
            places.append(None)
    return [*places, len(text)]


def recognise(head: Head) -> Optional[Guess]:
    """Tell WebAnno TSV 3 by its first line.

    head (Head): The beginning of a file.
    RETURNS (Optional[Guess]): What it is taken for; None if it is another format.
    """
    found = _FORMAT.match(head.text)
    return Guess("webanno", {}, f"the line {quote(found[0])}") if found else None
