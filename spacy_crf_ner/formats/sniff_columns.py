"""Which columns of a file hold the tokens and the tags, by what is in them."""

import re
from collections import Counter
from itertools import groupby, pairwise
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from spacy_crf_ner.formats.conll import DOCSTART, split_columns
from spacy_crf_ner.formats.guess import Guess, Unclear
from spacy_crf_ner.formats.sniff_tags import Tags, guess_tags
from spacy_crf_ner.formats.tagged import position_end
from spacy_crf_ner.tagging import SCHEMES

_MAX_COLUMNS = 64
_CHUNKS = frozenset({"ADJP", "ADVP", "CONJP", "INTJ", "LST", "NP", "O", "PP", "PRT", "SBAR", "UCP", "VP"})
"""The labels of the shared task of CoNLL-2000, whose chunks are beside the entities in that of 2003."""
_CODE = re.compile(r"[A-Z]+[A-Z$]*|-[A-Z]+-|\W+|_|\S*[(*)]\S*|\w+=\S*")
"""A part of speech, as most tag sets write it, a bracket of a tree or a role, or features."""
_MIN_ROWS, _MANY = 30, 3
"""From how many rows on one column is taken for text because it has so many times the values of the other."""

_TWO = re.compile(r"2 columns, tokens in column 0, (.*) in column 1")

Sentences = List[List[List[str]]]
"""The columns of the lines of the sentences."""


class Column(NamedTuple):
    """A column, and what is known of it.

    number (int): Which it is, from 0.
    kind (str): "tags", "numbers", "one value", "ids", "codes" or "text".
    tags (Optional[Tags]): Its tags, where it holds any.
    n_values (int): How many different values it has.
    """

    number: int
    kind: str
    tags: Optional[Tags]
    n_values: int


def guess_columns(lines: Sequence[str], given: Mapping[str, Any]) -> Optional[Guess]:
    """Tell the columns of a file.

    lines (Sequence[str]): Its first lines.
    given (Mapping[str, Any]): Settings that the user gives: what they say is not asked.
    RETURNS (Optional[Guess]): The format and its settings; None where the lines are not columns with tags.
    RAISES (Unclear): Two columns would do for the tokens or for the tags, or none holds tokens.
    """
    # What only `conll` has or reads past.
    strict = not any(name.endswith("_column") for name in given) and not any(
        line.startswith(DOCSTART) or is_comment(line, before) for before, line in pairwise(["", *lines])
    )
    if strict and (sentences := in_two_columns(lines)):
        guess = _guess(sentences, given, "")
        # What is told by a column more than these two is for `conll`.
        found = {} if guess is None else guess.settings
        if guess is not None and found.keys() <= {"scheme", "spelling"} and found["scheme"] in SCHEMES:
            settings = {name: value for name, value in found.items() if name != "scheme"}
            why = _TWO.sub(r"\1", guess.why)
            if has_positions(sentences):
                settings["positions"] = True
                why += ", tokens that end in their position in the word"
            return Guess(found["scheme"], settings, why)
    return _in_columns(lines, given)


def _in_columns(lines: Sequence[str], given: Mapping[str, Any]) -> Optional[Guess]:
    sentences: Sentences = [[]]
    why = ""
    for line in lines:
        columns = split_columns(line)
        if line.startswith(DOCSTART) or not any(columns):
            why = f", {DOCSTART} lines" if any(columns) else why
            sentences.append([])
        elif sentences[-1] or not line.startswith("#"):
            sentences[-1].append(columns)
    widths = Counter(len(row) for sentence in sentences for row in sentence)
    if not widths or max(widths) > _MAX_COLUMNS:
        return None
    ((width, n_rows),) = widths.most_common(1)
    if width < 2 or 2 * n_rows <= widths.total():
        return None
    rows = [[row for row in sentence if len(row) == width] for sentence in sentences]
    return _guess([sentence for sentence in rows if sentence], given, why)


def _guess(sentences: Sentences, given: Mapping[str, Any], why: str) -> Optional[Guess]:
    """Tell the columns of sentences whose rows are all of one width."""
    sentences = [sentence for sentence in sentences if sentence]
    width = len(sentences[0][0])
    # A position in the word, which ends each token of Weibo NER, is not part of it.
    at_end = width == 2 and has_positions(sentences)
    bare = [[[token[:-1], tag] for token, tag in sentence] for sentence in sentences] if at_end else sentences
    columns = [_column(number, bare) for number in range(width)]
    tagged = [column for column in columns if column.tags is not None]
    if not tagged:
        return None
    names = ("tag_column", "token_column")
    place = {name: given[name] % width for name in names if _is_column(given.get(name), width)}
    tags = columns[place["tag_column"]] if "tag_column" in place else _tag_column(tagged, sum(map(len, sentences)))
    if tags.tags is None:
        return None
    others = [column for column in columns if column is not tags]
    # So it is in the files of the shared tasks of CoNLL: -DOCSTART- lines, or chunks beside the entities.
    is_conll = bool(why) or any(_holds_chunks(column) for column in tagged if column is not tags)
    if "token_column" in place:
        token = columns[place["token_column"]]
    elif is_conll and columns[0].kind in ("text", "codes"):
        token = columns[0]
    else:
        token = _token_column(others, sentences)
    settings: Dict[str, Any] = {"scheme": tags.tags.scheme}
    if tags.tags.spelling is not None:
        settings["spelling"] = tags.tags.spelling
    if tags.number != width - 1:
        settings["tag_column"] = tags.number
    if token.number:
        settings["token_column"] = token.number
    boundaries, reason = _boundaries(sentences, others, token, given)
    settings.update(boundaries)
    said = ""
    for other in tagged:
        if other is not tags and other.tags is not None and other.tags.n_entities:
            said += f"; column {other.number} holds {other.tags.told()} (--set tag_column={other.number} reads it)"
    where = f"tokens in column {token.number}, {tags.tags.why} in column {tags.number}{reason}{said}"
    return Guess("conll", settings, f"{width} columns{why}, {where}")


def _is_column(value: Any, width: int) -> bool:
    return type(value) is int and -width <= value < width


def _column(number: int, sentences: Sentences) -> Column:
    cells = [[row[number] for row in sentence] for sentence in sentences]
    values = Counter(cell for sentence in cells for cell in sentence)
    tags = guess_tags(cells)
    kind = "tags" if tags is not None else _kind(cells, values)
    return Column(number, kind, tags, len(values))


def _kind(cells: Sequence[Sequence[str]], values: "Counter[str]") -> str:
    n_rows = values.total()
    if all(_is_number(value) for value in values):
        return "numbers"
    if len(values) == 1 and n_rows > 1:
        return "one value"
    # Names of documents and sentences, offsets, times, addresses: of a text, not every token holds a digit.
    if n_rows > 1 and all(any(map(str.isdecimal, value)) or "://" in value for value in values):
        return "ids"
    return "codes" if all(_CODE.fullmatch(value) for value in values) else "text"


def _is_number(cell: str) -> bool:
    return cell.isascii() and cell.replace(".", "", 1).replace("-", "", 1).isdecimal()


def _tag_column(tagged: Sequence[Column], n_rows: int) -> Column:
    """The column of the entities, of those that hold tags."""
    holding = [column for column in tagged if column.tags is not None and column.tags.n_entities]
    named = [column for column in holding if not _holds_chunks(column)] or holding
    if not named and len(tagged) > 1:
        numbers = " and ".join(f"column {column.number}" for column in tagged)
        raise Unclear(f"{numbers} hold nothing but O where they begin", "choose one with --set tag_column=N")
    if not named:
        return tagged[-1]
    if len({column.tags.entities for column in named if column.tags is not None}) > 1 or (
        n_rows == 1 < len(named)
    ):
        each = ", ".join(
            f"column {column.number} ({column.tags.told()})" for column in named if column.tags is not None
        )
        raise Unclear(f"several columns hold tags: {each}", "choose one with --set tag_column=N")
    return named[-1]


def _holds_chunks(column: Column) -> bool:
    return column.tags is not None and bool(column.tags.labels) and column.tags.labels <= _CHUNKS


def _token_column(columns: Sequence[Column], sentences: Sentences) -> Column:
    """The column of the tokens, of those that are not that of the tags."""
    texts = [column for column in columns if column.kind == "text"]
    codes = [column for column in columns if column.kind == "codes"]
    if not texts and len(columns) == 1 and sentences[0][0][columns[0].number][:1].isalpha():
        texts = [column for column in columns if column.kind in ("one value", "ids")]  # there is no other
    if not texts and not any(column.kind == "numbers" and not _counts(column, sentences) for column in columns):
        texts, codes = codes, []  # tokens in capitals; numbers beside them may be the tokens, unless they count
    if not texts:
        held = ", ".join(f"column {column.number} holds {column.kind}" for column in columns)
        what = f"no column holds text: {held}"
        raise Unclear(what, "if one holds the tokens all the same, choose it with --set token_column=N")
    # Words in capitals look like parts of speech, and parts of speech in small letters like words: there are fewer
    # of these.
    texts += [column for column in codes if column.n_values > max(text.n_values for text in texts)]
    most = max(texts, key=lambda column: column.n_values)
    if sum(map(len, sentences)) >= _MIN_ROWS:
        texts = [column for column in texts if column.n_values * _MANY > most.n_values]
    if len(texts) > 1:
        seen = " and ".join(
            f"column {column.number} ({', '.join(repr(row[column.number][:20]) for row in sentences[0][:3])})"
            for column in texts
        )
        raise Unclear(f"several columns could hold the tokens: {seen}", "choose one with --set token_column=N")
    return texts[0]


def _counts(column: Column, sentences: Sentences) -> bool:
    """Whether numbers count the tokens of sentences, or name them."""
    rows = [row[column.number] for sentence in sentences for row in sentence]
    if rows[0] not in ("0", "1"):
        return False
    steps = {
        int(after) - int(before) for before, after in pairwise(rows) if after.isdecimal() and before.isdecimal()
    }
    return all(step <= 1 for step in steps)


def _boundaries(
    sentences: Sentences, columns: Sequence[Column], token: Column, given: Mapping[str, Any]
) -> Tuple[Dict[str, Any], str]:
    """The setting that tells where sentences begin, where no empty line does, and why."""
    names = ("sentence_column", "index_column")
    if len(sentences) > 1 or any(given.get(name) is not None for name in names):
        return {}, ""
    (rows,) = sentences
    indices = [
        column.number
        for column in columns
        if column is not token and column.kind == "numbers" and _counts_anew([row[column.number] for row in rows])
    ]
    ids = {
        column.number: len([*groupby(row[column.number] for row in rows)])
        for column in columns
        if column is not token and _names_sentences(column, rows)
    }
    if indices and set(indices) <= set(ids):
        what = f"column {indices[0]} may name the sentences or count their tokens"
        raise Unclear(what, f"choose --set sentence_column={indices[0]} or --set index_column={indices[0]}")
    if indices:
        return {"index_column": indices[0]}, f", sentences where column {indices[0]} counts anew"
    if ids:
        number = max(ids, key=lambda number: ids[number])
        return {"sentence_column": number}, f", sentences where column {number} changes"
    return {}, ""


def _counts_anew(cells: Sequence[str]) -> bool:
    """Whether a column counts up by 1 and begins again at least once."""
    if not all(cell.isdecimal() for cell in cells):
        return False
    counts = [*map(int, cells)]
    anew = [after for before, after in pairwise(counts) if after != before + 1]
    return bool(anew) and set(anew) == {counts[0]} and counts[0] in (0, 1) and len(anew) + 1 < len(counts)


def _names_sentences(column: Column, rows: Sequence[Sequence[str]]) -> bool:
    """Whether a column has several values, each in one run, one of them of several rows; numbers go up by 1."""
    if column.kind not in ("numbers", "ids"):
        return False
    runs = [value for value, _ in groupby(row[column.number] for row in rows)]
    if not 1 < len(runs) == len(set(runs)) < len(rows):
        return False
    return column.kind == "ids" or all(
        before.isdecimal() and after.isdecimal() and int(after) == int(before) + 1
        for before, after in pairwise(runs)
    )


def is_comment(line: str, before: str) -> bool:
    """Whether a line is a comment of columns; `before` is the line before."""
    return (
        line.startswith("#") and len(split_columns(line)) != 2 and (not before.strip() or before.startswith("#"))
    )


def in_two_columns(lines: Sequence[str]) -> Sentences:
    """The lines as a token and, after one SPACE or TAB, something without blanks; none where most are not so."""
    sentences: Sentences = [[]]
    n_other = 0
    for line in lines:
        if line in ("", " ", "\t"):
            sentences.append([])
            continue
        token, found, tag = line.rpartition("\t" if "\t" in line else " ")
        if not found or not token or " " in tag or "\t" in token or (" " in token and token != " "):
            n_other += 1
        else:
            sentences[-1].append([token, tag])
    # What a few lines have wrong is for the reader to say, which names them.
    return sentences if n_other < sum(map(len, sentences)) else []


def has_positions(sentences: Sentences) -> bool:
    """Whether each token ends in a digit, and that is mostly 0 or one more than that of the token before."""
    n_tokens = n_in_order = highest = 0
    for sentence in sentences:
        position = -1
        for token, *_ in sentence:
            end = position_end(token, position)
            if not end:
                return False
            n_tokens += 1
            n_in_order += int(end) in (0, position + 1)
            position = int(end)
            highest = max(highest, position)
    return highest > 0 and n_in_order > 0.9 * n_tokens
