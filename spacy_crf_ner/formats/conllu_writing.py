"""Writes the format `conllu`: CoNLL-U with the tags of entities in its column MISC."""

from bisect import bisect_left
from collections import Counter
from typing import List

from spacy.tokens import Doc, Span, Token

from spacy_crf_ner.formats.conllu import KEY
from spacy_crf_ner.formats.doc_builder import META, MISSING_WRITTEN, ORIGIN, RELATIONS, unwritable
from spacy_crf_ner.formats.text_writer import text_writer
from spacy_crf_ner.labels import OUTSIDE, LabeledSpan
from spacy_crf_ner.messages import quote
from spacy_crf_ner.tagging import SCHEMES

BLANK = "docs of white space only, left out"
LINE_ENDS = "docs with line ends, written as spaces"
TRIMMED = "entities that begin or end with white space, written without it"
_FIX = "CoNLL-U cannot say it: write jsonl or cluener, which hold any text"
_LINE_ENDS = str.maketrans("\r\n", "  ")


@text_writer()
def write_conllu(doc: Doc, notes: "Counter[str]") -> str:
    """Write a doc as one sentence of CoNLL-U.

    A token that is not white space is a word. ``name=B-PER`` in MISC is its tag, O too. A token whose annotation
    is missing has none, and is read so in a file with the tag O; in a doc without, it is noted. ``# text`` holds
    the text, and so its white space.

    doc (Doc): The doc.
    notes (Counter[str]): Counts what CoNLL-U cannot hold.
    RETURNS (str): The lines, and an empty one.
    RAISES (FormatError): CoNLL-U cannot hold a token or a label.
    """
    words = [token for token in doc if not token.is_space]
    for key in (RELATIONS, META):
        notes[f"docs whose {key} CoNLL-U cannot hold"] += key in doc.user_data
    if not words:
        notes[BLANK] += 1
        return ""
    text = doc.text.translate(_LINE_ENDS)
    notes[LINE_ENDS] += text != doc.text
    spans = [_covered(entity, words, notes) for entity in doc.ents]
    tags = SCHEMES["bio"].write(len(words), spans)
    missing = [word.ent_iob == 0 for word in words]
    if any(missing) and not any(tag == OUTSIDE and not unknown for tag, unknown in zip(tags, missing)):
        notes[MISSING_WRITTEN] += sum(missing)
    lines = [f"# text = {text}\n"]
    for i, (word, tag) in enumerate(zip(words, tags)):
        misc = [] if missing[i] else [f"{KEY}={tag}"]
        end = word.idx + len(word)
        if i + 1 < len(words) and words[i + 1].idx == end:
            misc.append("SpaceAfter=No")
        columns = [str(i + 1), _form(word), *["_"] * 7, "|".join(misc) or "_"]
        lines.append("\t".join(columns) + "\n")
    return "".join(lines) + "\n"


def _form(word: Token) -> str:
    text: str = word.text
    if text != text.strip() or any(character in text for character in "\t\r\n"):
        what = f"token {quote(text)} cannot be in a column"
        raise unwritable(word.doc.user_data.get(ORIGIN), what, _FIX)
    return text


def _covered(entity: Span, words: List[Token], notes: "Counter[str]") -> LabeledSpan:
    """The entity, in words."""
    origin = entity.doc.user_data.get(ORIGIN)
    start, end = (bisect_left(words, i, key=_index) for i in (entity.start, entity.end))
    if start == end:
        raise unwritable(origin, f"entity {quote(entity.text)} is only white space", _FIX)
    if any(character == "|" or character.isspace() for character in entity.label_):
        raise unwritable(origin, f"label {quote(entity.label_)} holds white space or '|'", _FIX)
    notes[TRIMMED] += words[start].i != entity.start or words[end - 1].i != entity.end - 1
    return start, end, entity.label_


def _index(word: Token) -> int:
    return int(word.i)
