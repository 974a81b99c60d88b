"""The format `conll2012`: columns with entities in brackets, as OntoNotes and the shared task of CoNLL 2012 have
them: ``(PERSON*`` at the first token, ``*`` within and outside, ``*)`` at the last, ``(GPE)`` at a single one.

Source: Pradhan et al. (2012), CoNLL-2012 Shared Task: Modeling Multilingual Unrestricted Coreference in OntoNotes.
"""

import re
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from spacy.tokens import Doc

from spacy_crf_ner.formats.conll import COMMENTS, split_columns
from spacy_crf_ner.formats.doc_builder import DocMaker
from spacy_crf_ner.formats.guess import Guess, Head
from spacy_crf_ner.formats.source import Source
from spacy_crf_ner.labels import LabeledSpan
from spacy_crf_ner.messages import quote

TOKEN_COLUMN = 3
TAG_COLUMN = 10
N_COLUMNS = 12
"""The columns of the shared task: document, part, number, word, part of speech, parse, lemma, frameset, sense,
speaker, entities, then one for each predicate, and coreference."""

DOCUMENT_LINES = "#begin document and #end document lines"
MASKED = "[WORD]"
_DOCUMENT = re.compile(r"#(?:begin|end) document\b")
_BEGIN = "#begin document"
_TAG = re.compile(r"(?P<open>(?:\([^()*\s]+)*)(?P<star>\*?)(?P<close>\)*)")


class _Row(NamedTuple):
    token: str
    tag: str
    line: int


def read_conll2012(
    source: Source, make: DocMaker, *, token_column: int = TOKEN_COLUMN, tag_column: int = TAG_COLUMN
) -> Iterator[Doc]:
    """Read columns with entities in brackets.

    Columns are separated by TAB in a line that holds one, else by white space; how many there are may differ from
    sentence to sentence. Lines ``#begin document`` and ``#end document`` end a sentence, as an empty line does.
    They are counted, and so is any other line before the first token of a sentence that begins with ``#``.

    source (Source): The file.
    make (DocMaker): Makes the docs. Of entities inside each other, it keeps the longest in `doc.ents`.
    token_column, tag_column (int): The columns, from 0, or from -1 backwards. The defaults are those of the task.
    YIELDS (Doc): The docs, one per sentence.
    RAISES (FormatError): A line has not the columns, brackets do not match, or the words are masked.
    RAISES (ValueError): A column is not an integer.
    """
    for name, column in (("token_column", token_column), ("tag_column", tag_column)):
        if type(column) is not int:
            raise ValueError(
                f"the setting {name} is {column!r}; give an integer: 0 is the first column, -1 the last"
            )
    for sentence in _sentences(source, make, token_column, tag_column):
        yield make.from_tokens(
            [row.token for row in sentence], _entities(sentence, source), source, sentence[0].line
        )


def _sentences(source: Source, make: DocMaker, token_column: int, tag_column: int) -> Iterator[List[_Row]]:
    sentence: List[_Row] = []
    n_columns = 0
    for number, text in source.lines():
        columns = split_columns(text)
        is_document = bool(_DOCUMENT.match(text))
        is_comment = not sentence and text.startswith("#") and not any(map(_is_tag, columns))
        if is_document or is_comment or not any(columns):
            make.counts.notes[DOCUMENT_LINES] += is_document
            make.counts.notes[COMMENTS] += is_comment and not is_document
            if sentence:
                yield sentence
            sentence = []
            continue
        if sentence and len(columns) != n_columns:
            what = f"{len(columns)} column(s) where line {sentence[0].line} has {n_columns}: {quote(text)}"
            raise source.error(what, "write all columns, or an empty line before a new sentence", number)
        n_columns = len(columns)
        sentence.append(_row(number, columns, source, token_column, tag_column))
    if sentence:
        yield sentence


def _row(number: int, columns: List[str], source: Source, token_column: int, tag_column: int) -> _Row:
    n_columns = len(columns)
    if not all(-n_columns <= column < n_columns for column in (token_column, tag_column)) or (
        token_column % n_columns == tag_column % n_columns
    ):
        what = (
            f"{n_columns} column(s), of which token_column={token_column} and tag_column={tag_column} name no two"
        )
        raise source.error(what, "name the columns, from 0, with --set", number)
    token, tag = columns[token_column], columns[tag_column]
    if token == MASKED:
        what = f"the token is {MASKED}: the words were taken out of this file"
        raise source.error(what, "put them back with the tool of the corpus, or name a file that has them", number)
    if not token:
        raise source.error(f"tag {quote(tag)} has no token", "write the token", number)
    return _Row(token, tag, number)


def _is_tag(tag: str) -> bool:
    found = _TAG.fullmatch(tag)
    return bool(found and (found["star"] or (found["open"] and found["close"])))


def _entities(sentence: Sequence[_Row], source: Source) -> List[LabeledSpan]:
    """The entities of a sentence, in tokens, the outer before those inside it."""
    spans: List[LabeledSpan] = []
    opened: List[Tuple[int, str]] = []
    for i, (_, tag, line) in enumerate(sentence):
        found = _TAG.fullmatch(tag)
        if not found or not _is_tag(tag):
            what = f"tag {quote(tag)} of token {quote(sentence[i].token)} has no brackets"
            fix = "write *, (LABEL*, *) or (LABEL), or name the column with --set tag_column=NUMBER"
            raise source.error(what, fix, line)
        opened.extend((i, label) for label in found["open"].split("(")[1:])
        for _ in found["close"]:
            if not opened:
                what = f"tag {quote(tag)} closes a bracket that is not open"
                raise source.error(what, "delete ')', or write '(LABEL*' at the first token of the entity", line)
            start, label = opened.pop()
            spans.append((start, i + 1, label))
    if opened:
        start, label = opened[-1]
        what = f"the bracket {quote(f'({label}')} is not closed in the sentence"
        raise source.error(what, "write '*)' at the last token of the entity", sentence[start].line)
    spans.reverse()  # of two with the same tokens, the inner one was closed first
    return sorted(spans, key=lambda span: (span[0], -span[1]))


def recognise(head: Head) -> Optional[Guess]:
    """Tell columns with entities in brackets by their brackets.

    head (Head): The beginning of a file.
    RETURNS (Optional[Guess]): The settings name the columns, where they are not those of the shared task. None if
        it is another format, or several columns could be the one.
    """
    begins = [line.startswith(_BEGIN) for line in head.lines if line.strip()][:1] == [True]
    sentences: List[List[List[str]]] = [[]]
    for line in head.lines:
        columns = split_columns(line)
        if not any(columns) or _DOCUMENT.match(line):
            sentences.append([])
        elif sentences[-1] or not line.startswith("#") or any(map(_is_tag, columns)):
            sentences[-1].append(columns)
    sentences = list(filter(None, sentences))
    width = min((len(row) for sentence in sentences for row in sentence), default=0)
    if width < 2:
        return None
    of = {i: [[row[i] for row in sentence] for sentence in sentences] for i in range(width)}
    if width >= N_COLUMNS and all(map(_is_tag, _all(of[TAG_COLUMN]))) and (begins or _count_up(of[2])):
        return Guess(
            "conll2012", {}, f"entities in brackets in column {TAG_COLUMN}, words in column {TOKEN_COLUMN}"
        )
    tags = [i for i in range(width) if _holds_entities(of[i])]
    if len(tags) != 1:
        return None
    numbers = [i for i in range(width - 1) if i + 1 != tags[0] and _count_up(of[i])]
    settings = {"token_column": numbers[0] + 1 if numbers else int(tags[0] == 0), "tag_column": tags[0]}
    told: Dict[str, int] = {
        name: column
        for name, column in settings.items()
        if column != {"token_column": TOKEN_COLUMN, "tag_column": TAG_COLUMN}[name]
    }
    return Guess("conll2012", told, f"entities in brackets in column {tags[0]}")


_ROLE = re.compile(r"\((?:R-|C-)?(?:V|A\d|AA|A[MG]\b.*|ARG.*)")


def _all(column: Sequence[Sequence[str]]) -> List[str]:
    return [value for values in column for value in values]


def _count_up(column: Sequence[Sequence[str]]) -> bool:
    """Whether a column counts the tokens of each sentence, from 0 or 1."""
    return all(
        [int(value) for value in values] in (list(range(len(values))), list(range(1, len(values) + 1)))
        if all(value.isascii() and value.isdecimal() for value in values)
        else False
        for values in column
    )


def _holds_entities(column: Sequence[Sequence[str]]) -> bool:
    """Whether a column has brackets that are neither a parse of the sentence nor the roles of a predicate."""
    values = _all(column)
    if not any(value.startswith("(") for value in values) or not all(map(_is_tag, values)):
        return False
    if any(_ROLE.match(value) for value in values):
        return False
    return not all(map(_is_bracketed, column))


def _is_bracketed(tags: Sequence[str]) -> bool:
    """Whether brackets hold a sentence of several tokens from its first to its last, as a parse does."""
    depth = 0
    for tag in tags[:-1]:
        depth += tag.count("(") - tag.count(")")
        if depth <= 0:
            return False
    return len(tags) > 1
