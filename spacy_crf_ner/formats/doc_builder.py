"""What the files say -> Docs with the tokens that the pipeline itself will see."""

from collections import Counter
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, cast

from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.util import filter_spans
from spacy.vocab import Vocab

from spacy_crf_ner.formats.errors import FormatError
from spacy_crf_ner.formats.source import Source
from spacy_crf_ner.formats.unknown import leave_unknown
from spacy_crf_ner.labels import LabeledSpan
from spacy_crf_ner.languages import SPACELESS
from spacy_crf_ner.messages import quote

ORIGIN = "spacy_crf_ner.origin"
"""The key in `Doc.user_data` of where a doc was read. It is not written to any file."""
META = "meta"
"""The key in `Doc.user_data` of what else the file says of a text: a dict that JSON can hold."""
RELATIONS = "relations"
"""The key in `Doc.user_data` of the relations between entities: a list of `Relation.as_dict`."""

RENEW_EVERY = 5000
"""After how many docs a long run asks for another pipeline, so that memory stays constant."""

MISSING_WRITTEN = "tokens without annotation, written as no entity"
"""What the writers note where a format cannot say that annotation is missing."""


def separator_of(vocab: Vocab) -> str:
    """The separator of two words of a language: a space, or nothing where it writes none.

    vocab (Vocab): The language's vocabulary.
    RETURNS (str): What joins the words.
    """
    return "" if vocab.lang in SPACELESS else " "


class Origin(NamedTuple):
    """Where a doc was read: the file, and the line or, in a DocBin, the number of the doc, from 1."""

    file: str
    number: int
    unit: str = "line"

    def __str__(self) -> str:
        return f"{self.file}:{self.number}" if self.unit == "line" else f"{self.file}: {self.unit} {self.number}"


@dataclass
class Counts:
    """What was read.

    docs, characters, tokens (int): Docs; characters and tokens as the file has them. Where a format has no
        tokens, they are the tokenizer's.
    longest_characters, longest_tokens (int): The same of the longest doc.
    entities (Counter[str]): Entities in `doc.ents`, by label.
    overlapping (int): Entities that overlap a longer one, or an equally long one before, and are not in
        `doc.ents`.
    duplicates (int): Entities that the file gives twice, and which count once.
    relations (int): Relations between entities.
    empty (int): Texts without a character, for which there is no doc.
    retokenised (int): Docs whose tokens are the tokenizer's, and otherwise than the file's.
    joined (int): Docs in which two words in Latin letters follow each other, and no space is written between them.
    own_boundaries (int): Docs with token boundaries of their own: the tokenizer changes the text, or makes a
        token that an entity begins or ends inside.
    first_own (Optional[Origin]): The first of them.
    notes (Counter[str]): What else a reader met, skipped or corrected.
    """

    docs: int = 0
    characters: int = 0
    tokens: int = 0
    longest_characters: int = 0
    longest_tokens: int = 0
    entities: "Counter[str]" = field(default_factory=Counter)
    overlapping: int = 0
    duplicates: int = 0
    relations: int = 0
    empty: int = 0
    retokenised: int = 0
    joined: int = 0
    own_boundaries: int = 0
    first_own: Optional[Origin] = None
    notes: "Counter[str]" = field(default_factory=Counter)

    def losses(self) -> Dict[str, int]:
        """What is not as the file has it, by what it is. What did not happen is left out."""
        losses = {
            "Overlapping entities, the longest kept": self.overlapping,
            "Entities given twice, which count once": self.duplicates,
            "Empty texts, left out": self.empty,
            "Docs whose Latin words are joined, for the language writes no spaces": self.joined,
            **self.notes,
        }
        return {name: count for name, count in losses.items() if count}


class Relation(NamedTuple):
    """A relation between two entities, each given as (start, end, label) in characters, end exclusive."""

    label: str
    head: LabeledSpan
    tail: LabeledSpan

    def as_dict(self) -> Mapping[str, Any]:
        """The relation as it is in `Doc.user_data`."""
        return {"label": self.label, "head": list(self.head), "tail": list(self.tail)}


class DocMaker:
    """Makes Docs of one language and counts what goes into them.

    A Doc has the tokens that the tokenizer makes of its text, as at prediction. Only where an entity would not
    begin and end with such a token does it keep the file's tokens or, where the file has none, is the token
    cut there: no entity is lost. Of entities that overlap, the longest is put into `doc.ents`.

    make_nlp (Callable[[], Language]): Gives the pipeline whose tokenizer is used.
    spans_key (Optional[str]): The key in `doc.spans` under which all entities are kept, the overlapping too.
    renew_every (Optional[int]): Ask for another pipeline after so many docs. A vocab keeps every string that it
        meets; so memory stays constant.
    """

    def __init__(
        self,
        make_nlp: Callable[[], Language],
        *,
        spans_key: Optional[str] = None,
        renew_every: Optional[int] = None,
    ) -> None:
        self.counts = Counts()
        self.spans_key = spans_key
        self.nlp = make_nlp()
        self._make_nlp = make_nlp
        self._renew_every = renew_every
        self._n_made = 0

    @property
    def separator(self) -> str:
        """The separator of two words of the language."""
        return separator_of(self.nlp.vocab)

    def from_tokens(
        self,
        tokens: Sequence[str],
        spans: Sequence[LabeledSpan],
        source: Source,
        line: int,
        *,
        meta: Optional[Mapping[str, Any]] = None,
        relations: Sequence[Tuple[str, int, int]] = (),
    ) -> Doc:
        """Make a Doc of a sentence that its file has cut into tokens.

        tokens (Sequence[str]): The tokens, none of them empty. They are joined, with a space between where the
            language writes one.
        spans (Sequence[LabeledSpan]): The entities, as (start, end, label) in tokens, the end exclusive.
        source (Source): Where the sentence is.
        line (int): The line in it, counted from 1.
        meta (Optional[Mapping[str, Any]]): What else the file says, for `doc.user_data`.
        relations (Sequence[Tuple[str, int, int]]): (label, head, tail), the last two indices of `spans`.
        RETURNS (Doc): The doc.
        RAISES (FormatError): A span is not in the sentence, a token cannot be encoded, or the sentence is too
            long for a doc.
        """
        for span in spans:
            _check_span(span, len(tokens), "tokens", source, line)
        separator = self.separator
        joined = [token + separator for token in tokens[:-1]] + list(tokens[-1:])
        starts = [0, *accumulate(map(len, joined))]
        places = [(starts[start], starts[end - 1] + len(tokens[end - 1]), label) for start, end, label in spans]
        self.counts.joined += not separator and any(map(_are_words, tokens, tokens[1:]))
        return self._make("".join(joined), places, source, line, meta, relations, list(tokens))

    def from_text(
        self,
        text: str,
        spans: Sequence[LabeledSpan],
        source: Source,
        line: int,
        *,
        meta: Optional[Mapping[str, Any]] = None,
        relations: Sequence[Tuple[str, int, int]] = (),
    ) -> Doc:
        """Make a Doc of a text.

        text (str): The text.
        spans (Sequence[LabeledSpan]): The entities, as (start, end, label) in characters, the end exclusive.
        source (Source): Where the text is.
        line (int): The line in it, counted from 1.
        meta (Optional[Mapping[str, Any]]): What else the file says, for `doc.user_data`.
        relations (Sequence[Tuple[str, int, int]]): (label, head, tail), the last two indices of `spans`.
        RETURNS (Doc): The doc. That of an empty text has no token, and is counted only as `empty`.
        RAISES (FormatError): A span is not in the text, the text holds a lone surrogate, or it is too long.
        """
        for span in spans:
            _check_span(span, len(text), "characters", source, line)
        return self._make(text, list(spans), source, line, meta, relations, None)

    def adopt(self, doc: Doc, source: Source, number: int) -> Doc:
        """Count a Doc in that was made before, and remember where it is.

        doc (Doc): A doc of the vocab of `nlp`.
        source (Source): The DocBin.
        number (int): Which of its docs it is, from 1.
        RETURNS (Doc): The same doc. One without a token is counted only as `empty`.
        """
        doc.user_data[ORIGIN] = Origin(str(source.path), number, "doc")
        if len(doc):
            self._count(doc, len(doc.text), len(doc))
        else:
            self.counts.empty += 1
        return doc

    def renew(self) -> Language:
        """The pipeline for the next doc: another one, where it is time."""
        if self._renew_every and self._n_made == self._renew_every:
            self.nlp = self._make_nlp()
            self._n_made = 0
        self._n_made += 1
        return self.nlp

    def _make(
        self,
        text: str,
        places: List[LabeledSpan],
        source: Source,
        line: int,
        meta: Optional[Mapping[str, Any]],
        relations: Sequence[Tuple[str, int, int]],
        tokens: Optional[Sequence[str]],
    ) -> Doc:
        nlp = self.renew()
        if not text:
            self.counts.empty += 1
            return Doc(nlp.vocab)
        _check_text(text, nlp.max_length, source, line)
        doc = nlp.make_doc(text)
        spans = _spans(doc, places)
        # A tokenizer may also change the text, where its language's analyser normalises.
        own = None in spans or doc.text != text
        # Tokens of one text are the same if they are as long.
        as_file = tokens is None or doc.to_array("LENGTH").tolist() == list(map(len, tokens))
        if own:
            doc = _doc_of_tokens(doc, tokens, self.separator) if tokens else _doc_cut(doc, text, places)
            spans = _spans(doc, places)
        origin = doc.user_data[ORIGIN] = Origin(str(source.path), line)
        # None is left: the tokens now begin and end where the entities do.
        unique = list(dict(zip(places, cast(List[Span], spans))).values())
        self.counts.duplicates += len(places) - len(unique)
        entities = filter_spans(unique)
        self.counts.overlapping += len(unique) - len(entities)
        doc.set_ents(entities, default="outside")
        if len(entities) < len(unique):  # what is left out of a text is missing, not O
            leave_unknown(doc, [(span.start_char, span.end_char) for span in unique])
        if self.spans_key is not None:
            doc.spans[self.spans_key] = unique
        if meta:
            doc.user_data[META] = dict(meta)
        if relations:
            doc.user_data[RELATIONS] = [
                Relation(label, places[head], places[tail]).as_dict() for label, head, tail in relations
            ]
            self.counts.relations += len(relations)
        self.counts.retokenised += not own and not as_file
        if own:
            self.counts.own_boundaries += 1
            self.counts.first_own = self.counts.first_own or origin
        n_characters = sum(map(len, tokens)) if tokens else len(text)
        self._count(doc, n_characters, len(tokens or doc))
        return doc

    def _count(self, doc: Doc, n_characters: int, n_tokens: int) -> None:
        counts = self.counts
        counts.docs += 1
        counts.characters += n_characters
        counts.tokens += n_tokens
        counts.longest_characters = max(counts.longest_characters, n_characters)
        counts.longest_tokens = max(counts.longest_tokens, n_tokens)
        counts.entities.update(entity.label_ for entity in doc.ents)


def unwritable(origin: Optional[Origin], what: str, fix: str) -> FormatError:
    """An error that a doc cannot be written, which names where the doc was read.

    origin (Optional[Origin]): Where, as far as it is known.
    what (str): What is wrong.
    fix (str): What the user can do about it.
    RETURNS (FormatError): The error.
    """
    if origin is None:
        return FormatError("doc", what, fix)
    if origin.unit == "line":
        return FormatError(origin.file, what, fix, origin.number)
    return FormatError(origin.file, f"{origin.unit} {origin.number}: {what}", fix)


def _are_words(first: str, second: str) -> bool:
    return len(first) > 1 and len(second) > 1 and (first + second).isascii() and (first + second).isalpha()


def _check_text(text: str, limit: int, source: Source, line: int) -> None:
    if len(text) > limit:
        what = f"a text of {len(text):,} characters, too long for one Doc (at most {limit:,})"
        raise source.error(what, "separate its sentences", line)
    try:
        text.encode("utf8")
    except UnicodeEncodeError as error:
        what = f"a lone surrogate, {text[error.start]!r}, at character {error.start} of the text"
        fix = "write the whole pair, or the character itself"
        raise source.error(what, fix, line) from None


def _check_span(span: LabeledSpan, length: int, unit: str, source: Source, line: int) -> None:
    start, end, label = span
    if not 0 <= start < end <= length:
        what = f"entity ({start}, {end}, {quote(label)}) does not fit a text of {length} {unit}"
        raise source.error(what, f"count {unit} from 0, and give a start before the end, which is exclusive", line)
    if not label or label.isspace():
        raise source.error(f"entity ({start}, {end}) has no label", "write its label", line)


def _spans(doc: Doc, places: Sequence[LabeledSpan]) -> List[Optional[Span]]:
    return [doc.char_span(start, end, label=label) for start, end, label in places]


def _doc_of_tokens(doc: Doc, tokens: Sequence[str], separator: str) -> Doc:
    spaces = [bool(separator)] * (len(tokens) - 1) + [False]
    return Doc(doc.vocab, words=list(tokens), spaces=spaces)


def _doc_cut(doc: Doc, text: str, places: Sequence[LabeledSpan]) -> Doc:
    """The text with the doc's tokens, but cut where an entity begins or ends."""
    starts = {start for start, _, _ in places}
    ends = {end for _, end, _ in places}
    cuts = {0, len(text), *starts, *ends}
    if doc.text == text:
        cuts.update(token.idx for token in doc)
        cuts.update(token.idx + len(token) for token in doc)
    else:
        cuts.update(i for i, character in enumerate(text) if character.isspace())
        cuts.update(i for i, character in enumerate(text, start=1) if character.isspace())
    words: List[str] = []
    spaces: List[bool] = []
    for start, end in pairwise(sorted(cuts)):
        # A space belongs to the token before it, unless an entity says otherwise.
        if text[start:end] == " " and words and not spaces[-1] and start not in starts and end not in ends:
            spaces[-1] = True
        else:
            words.append(text[start:end])
            spaces.append(False)
    return Doc(doc.vocab, words=words, spaces=spaces)
