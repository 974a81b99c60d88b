"""The format `conllu`: CoNLL-U with the tags of entities in its column MISC, as ``name=B-PER``.

A word has ten columns between TABs: ID, FORM, LEMMA, UPOS, XPOS, FEATS, HEAD, DEPREL, DEPS and MISC. The last
holds ``KEY=VALUE`` pairs with ``|`` between them; ``SpaceAfter=No`` says that no space follows. ``# text = ...``
before a sentence gives its text. Words ``2`` and ``3`` that are written as one have a line ``2-3`` before them.

Source: Nivre et al. (2020), Universal Dependencies v2; https://universaldependencies.org/format.html.
"""

import re
from dataclasses import dataclass, field
from itertools import chain
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from spacy.tokens import Doc

from spacy_crf_ner.formats.conll import COMMENTS
from spacy_crf_ner.formats.doc_builder import DocMaker
from spacy_crf_ner.formats.errors import FormatError
from spacy_crf_ner.formats.guess import Guess, Head
from spacy_crf_ner.formats.records import unannotated
from spacy_crf_ner.formats.registry import check_bool, check_choice
from spacy_crf_ner.formats.rows import Row, sentences
from spacy_crf_ner.formats.source import Source
from spacy_crf_ner.formats.spelling import SPELLINGS, STANDARD, check_spelling
from spacy_crf_ner.formats.unknown import leave_unknown
from spacy_crf_ner.labels import OUTSIDE, LabeledSpan
from spacy_crf_ner.messages import quote
from spacy_crf_ner.tagging import SCHEMES, Scheme

COLUMNS = ("ID", "FORM", "LEMMA", "UPOS", "XPOS", "FEATS", "HEAD", "DEPREL", "DEPS", "MISC")
KEY = "name"
EMPTY_NODES = "empty nodes, left out"
RANGES = "multiword tokens, whose words have no text of their own"
PARTS = "entities that begin or end inside a multiword token, which is taken whole"
OTHER_TAGS = "tags of multiword tokens and empty nodes, left out"
OTHER_TEXT = "sentences whose '# text' is not that of their words, which are taken"
UNTAGGED = "words without a tag where others have the tag O: their annotation is missing"

_ID = re.compile(r"(\d{1,9})(?:-(\d{1,9})|\.\d{1,9})?")
_TEXT = re.compile(r"# ?text ?= ?(.*)", re.DOTALL)
_KNOWN_COMMENT = re.compile(r"# ?(?:text|sent_id|newdoc|newpar|global\.columns)\b")
_NO = "No"
_BRACKETS = re.compile(r"(?:\w+\))*\(")


def read_conllu(
    source: Source,
    make: DocMaker,
    *,
    key: str = KEY,
    scheme: str = "bio",
    spelling: str = STANDARD,
    type: Optional[str] = None,
    repair: bool = False,
) -> Iterator[Doc]:
    """Read CoNLL-U.

    The text is that of ``# text`` where the words are found in it; else the words, with a space after each that
    has no ``SpaceAfter=No``. A word without the key is in no entity. But where a file writes the tag O, its
    annotation is missing, and is counted.

    source (Source): The file.
    make (DocMaker): Makes the docs.
    key (str): The key in MISC whose values are tags.
    scheme (str): The tagging scheme, one of `tagging.SCHEMES`.
    spelling (str): How tags are spelled, one of `spelling.SPELLINGS`.
    type (Optional[str]): The label of all entities, where tags are letters without one.
    repair (bool): Correct what breaks the scheme and has one obvious reading, and count it.
    YIELDS (Doc): The docs, one per sentence.
    RAISES (FormatError): The file is not CoNLL-U, no word has the key, or a tag is not of the scheme.
    RAISES (ValueError): A setting has a value that it cannot have.
    """
    check_choice("scheme", scheme, list(SCHEMES))
    check_spelling(spelling, type)
    check_bool("repair", repair)
    if not isinstance(key, str) or not key:
        raise ValueError(f"the setting key is {key!r}; give a key of the column MISC, such as {KEY}")
    reading = _Tags(key, SCHEMES[scheme], spelling, type, repair)
    outside = {tag for tag in (OUTSIDE, OUTSIDE.lower()) if SPELLINGS[spelling].standard(tag) == OUTSIDE}
    # Whether the tag O is written decides what a word without a tag means. A look ahead tells it for the first
    # ones.
    written = re.compile(rf"[\t|]{re.escape(key)}=(?:{'|'.join(outside)})(?=[|\r\n])")
    says_outside = bool(written.search(source.text_head().decode("utf8", errors="replace")))
    parser = _Parser(source, make, key)
    for sentence in parser:
        says_outside = says_outside or any(word.tag in outside for word in sentence.words)
        yield _doc(sentence, source, make, reading, says_outside)
    if parser.n_words and not parser.n_tagged:
        raise _without_key(source, key, parser.keys)


def _without_key(source: Source, key: str, keys: Dict[str, str]) -> FormatError:
    what = f"no word has {key}= in the column MISC"
    if _BRACKETS.match(keys.get("Entity", "")):
        what += ", and Entity= holds brackets of coreference, which are not read"
    has = f"its keys are {', '.join(map(quote, list(keys)[:8]))}" if keys else "it has no keys"
    return source.error(f"{what}; {has}", "name the key that holds tags with --set key=NAME")


class Word(NamedTuple):
    """A word: its form, its tag (None where it has no key), whether a space follows (None where MISC does not say
    it), and its line."""

    form: str
    tag: Optional[str]
    space: Optional[bool]
    line: int


class Multiword(NamedTuple):
    """A multiword token: its first and last word, counted from 0, its form, and whether a space follows."""

    first: int
    last: int
    form: str
    space: Optional[bool]


class Surface(NamedTuple):
    """A token of the text: its form, whether a space follows, and its first and last word."""

    form: str
    space: Optional[bool]
    first: int
    last: int


class _Tags(NamedTuple):
    """How the tags are read."""

    key: str
    scheme: Scheme
    spelling: str
    type: Optional[str]
    repair: bool


@dataclass
class _Sentence:
    text: Optional[str] = None
    words: List[Word] = field(default_factory=list)
    ranges: List[Multiword] = field(default_factory=list)

    @property
    def range_end(self) -> int:
        """How many words there are up to the end of the last multiword token."""
        return self.ranges[-1].last + 1 if self.ranges else 0

    def surface(self) -> List[Surface]:
        """The tokens of the text. The words of a multiword token that make it up ("do" and "n't") are such."""
        tokens: List[Surface] = []
        ranges = {part.first: part for part in self.ranges}
        inside = 0
        for i, word in enumerate(self.words):
            part = ranges.get(i)
            if part is not None:
                forms = [word.form for word in self.words[i : part.last + 1]]
                inside = part.last + 1
                if "".join(forms) == part.form:
                    tokens.extend(Surface(form, False, j, j) for j, form in enumerate(forms, start=i))
                    tokens[-1] = tokens[-1]._replace(space=part.space)
                else:
                    tokens.append(Surface(part.form, part.space, i, part.last))
            elif i >= inside:
                tokens.append(Surface(word.form, word.space, i, i))
        return tokens


class _Parser:
    """Iterates over the sentences of a file."""

    def __init__(self, source: Source, make: DocMaker, key: str) -> None:
        self.source = source
        self.notes = make.counts.notes
        self.key = key
        self.keys: Dict[str, str] = {}  # each with its first value
        self.n_words = self.n_tagged = 0

    def __iter__(self) -> Iterator[_Sentence]:
        sentence = _Sentence()
        for number, text in self.source.lines():
            if not text.strip():
                yield from self._ended(sentence, number)
                sentence = _Sentence()
            elif text.startswith("#"):
                self._comment(text, sentence, number)
            else:
                self._row(text.split("\t"), sentence, number)
        yield from self._ended(sentence, None)

    def _ended(self, sentence: _Sentence, number: Optional[int]) -> Iterator[_Sentence]:
        if sentence.range_end > len(sentence.words):
            what = f"the sentence ends before word {sentence.range_end}, which a multiword token names"
            raise self.source.error(what, "write all its words", number)
        if sentence.words:
            yield sentence

    def _comment(self, text: str, sentence: _Sentence, number: int) -> None:
        if sentence.words:
            what = f"a comment inside a sentence: {quote(text)}"
            raise self.source.error(what, "write an empty line before it", number)
        found = _TEXT.fullmatch(text)
        if found:
            sentence.text = found[1]
        else:
            self.notes[COMMENTS] += 1

    def _row(self, columns: List[str], sentence: _Sentence, number: int) -> None:
        if len(columns) != len(COLUMNS):
            what = f"{len(columns)} column(s) where CoNLL-U has {len(COLUMNS)}: {quote(columns[0])}"
            raise self.source.error(what, f"write {', '.join(COLUMNS)} with TABs between", number)
        id_, form, misc = columns[0], columns[1], columns[-1]
        found = _ID.fullmatch(id_)
        if not found:
            what = f"ID {quote(id_)} is not a number"
            raise self.source.error(what, "count words from 1 in each sentence", number)
        if not form or form.isspace():
            raise self.source.error(f"word {id_} has no text", "write its text into the column FORM", number)
        pairs = self._pairs(misc, number)
        space = pairs["SpaceAfter"] != _NO if "SpaceAfter" in pairs else None
        following = len(sentence.words) + 1
        if not id_.isdecimal():
            self.notes[OTHER_TAGS] += self.key in pairs
        if found[2]:
            first, last = int(found[1]), int(found[2])
            if first != following or first <= sentence.range_end or last <= first:
                what = f"multiword token {id_} does not begin at word {following}, or has one word"
                raise self.source.error(what, "write it before its first word", number)
            sentence.ranges.append(Multiword(first - 1, last - 1, form, space))
        elif not id_.isdecimal():
            self.notes[EMPTY_NODES] += 1
        elif int(id_) != following:
            what = f"word {id_} where word {following} would follow"
            raise self.source.error(what, "write an empty line before each sentence, and count from 1", number)
        else:
            sentence.words.append(Word(form, pairs.get(self.key), space, number))
            self.n_words += 1
            self.n_tagged += self.key in pairs

    def _pairs(self, misc: str, number: int) -> Dict[str, str]:
        pairs = _pairs(misc)
        if sum(pair.startswith(f"{self.key}=") for pair in misc.split("|")) > 1:
            raise self.source.error(f"MISC gives {self.key}= twice: {quote(misc)}", "keep one", number)
        for key, value in pairs.items():
            self.keys.setdefault(key, value)
        return pairs


def _doc(sentence: _Sentence, source: Source, make: DocMaker, reading: _Tags, says_outside: bool) -> Doc:
    words, line = sentence.words, sentence.words[0].line
    surface = sentence.surface()
    places = _placed(sentence, surface, make)
    make.counts.notes[RANGES] += sum(token.first != token.last for token in surface)
    spans: List[LabeledSpan] = []
    of_word = [i for i, token in enumerate(surface) for _ in range(token.first, token.last + 1)]
    for start, end, label in _entities(words, source, make, reading):
        first, last = of_word[start], of_word[end - 1]
        make.counts.notes[PARTS] += surface[first].first != start or surface[last].last != end - 1
        spans.append((first, last + 1, label))
    if places is None:
        doc = make.from_tokens([token.form for token in surface], spans, source, line)
        starts = [0]
        for token in surface:
            starts.append(starts[-1] + len(token.form) + len(make.separator))
        places = _Places(doc.text, [(start, start + len(token.form)) for start, token in zip(starts, surface)])
    else:
        parts = [(places.of[start][0], places.of[end - 1][1], label) for start, end, label in spans]
        doc = make.from_text(places.text, parts, source, line)
    untagged: Set[int] = set()
    if says_outside:
        untagged = {of_word[i] for i, word in enumerate(words) if word.tag is None}
    if untagged and all(word.tag is None for word in words):
        return unannotated(doc, make)
    make.counts.notes[UNTAGGED] += len(untagged)
    leave_unknown(doc, [places.of[i] for i in untagged])
    return doc


def _entities(words: Sequence[Word], source: Source, make: DocMaker, reading: _Tags) -> List[LabeledSpan]:
    """The entities of a sentence, in words."""
    tags = [OUTSIDE if word.tag is None else word.tag for word in words]
    rows = (Row(word.form, tag, word.line) for word, tag in zip(words, tags))
    (sentence,) = sentences(
        rows,
        reading.scheme,
        source,
        make,
        repair=reading.repair,
        spelling=reading.spelling,
        type=reading.type,
    )
    return sentence.spans


class _Places(NamedTuple):
    """A text, and where each of its tokens begins and ends in it."""

    text: str
    of: List[Tuple[int, int]]


def _placed(sentence: _Sentence, surface: Sequence[Surface], make: DocMaker) -> Optional[_Places]:
    """The text of a sentence; None where the file does not tell where it has spaces."""
    if sentence.text is not None:
        places = _found(sentence.text, surface)
        if places is not None:
            return _Places(sentence.text, places)
        make.counts.notes[OTHER_TEXT] += 1
    if all(token.space is None for token in surface) and not make.separator:
        return None
    text, of = "", []
    for i, token in enumerate(surface):
        of.append((len(text), len(text) + len(token.form)))
        text += token.form + " " * (token.space is not False and i < len(surface) - 1)
    return _Places(text, of)


def _found(text: str, surface: Sequence[Surface]) -> Optional[List[Tuple[int, int]]]:
    """Where the tokens are in a text that holds nothing else but white space; None where it is another text."""
    places: List[Tuple[int, int]] = []
    end = 0
    for token in surface:
        start = text.find(token.form, end)
        if start < 0 or text[end:start].strip():
            return None
        end = start + len(token.form)
        places.append((start, end))
    return None if text[end:].strip() else places


def recognise(head: Head) -> Optional[Guess]:
    """Tell CoNLL-U by its ten columns, its IDs and its column MISC.

    head (Head): The beginning of a file.
    RETURNS (Optional[Guess]): The settings name the key in MISC that holds tags. None if it is another format.
    """
    sentences: List[List[List[str]]] = [[]]
    for line in head.lines:
        if not line.strip() or line.startswith("#"):
            sentences.append([])
        else:
            sentences[-1].append(line.split("\t"))
    rows = [row for sentence in sentences for row in sentence]
    if not rows or any(len(row) != len(COLUMNS) or not _ID.fullmatch(row[0]) for row in rows):
        return None
    if any(row[-1] != "_" and "=" not in row[-1] for row in rows):
        return None
    pairs = [[_pairs(row[-1]) for row in sentence if row[0].isdecimal()] for sentence in sentences]
    keys = dict.fromkeys(key for sentence in pairs for of_word in sentence for key in of_word)
    for key in sorted(keys, key=lambda key: key not in _USUAL_KEYS):
        told = _told([[of_word.get(key, OUTSIDE) for of_word in sentence] for sentence in pairs])
        if (
            told is None
            and key in _USUAL_KEYS
            and {of_word.get(key, OUTSIDE) for of_word in chain(*pairs)} == {OUTSIDE}
        ):
            told = {}
        if told is not None:
            settings = {} if key == KEY else {"key": key}
            return Guess("conllu", {**settings, **told}, f"{len(COLUMNS)} columns, tags as {key}= in the last")
    others = ([[row[i] for row in sentence] for sentence in sentences] for i in range(2, len(COLUMNS) - 1))
    if any(_told(column) is not None for column in others):
        return None  # columns with tags in one of them
    if keys or any(map(_KNOWN_COMMENT.match, head.lines)):
        return Guess("conllu", {}, f"{len(COLUMNS)} columns, as CoNLL-U has them")
    return None


_USUAL_KEYS = ("name", "NER", "ner", "NE", "ne")


def _pairs(misc: str) -> Dict[str, str]:
    """What the column MISC holds."""
    parts = (pair.partition("=") for pair in misc.split("|"))
    return {key: value for key, equals, value in parts if equals}


def _told(sentences: Sequence[Sequence[str]]) -> Optional[Dict[str, str]]:
    """Settings with which the tags of some sentences are such and break their scheme least; None where there are
    none, or where all are O."""
    best: Optional[Dict[str, str]] = None
    fewest = -1
    for spelling in SPELLINGS.values():
        standard = [[spelling.standard(tag) for tag in tags] for tags in sentences]
        distinct = set(chain(*standard))
        if distinct <= {OUTSIDE}:
            continue
        for scheme in SCHEMES.values():
            if all(map(scheme.has, distinct)):
                n_faults = _n_faults(scheme, standard)
                if best is None or n_faults < fewest:
                    fewest, best = n_faults, {"scheme": scheme.name, "spelling": spelling.name}
    return best and {name: value for name, value in best.items() if value not in ("bio", STANDARD)}


def _n_faults(scheme: Scheme, sentences: Sequence[Sequence[str]]) -> int:
    faults: List[int] = []
    for tags in sentences:
        scheme.read(tags, lambda i, what, fix, kind: faults.append(i))
    return len(faults)
