"""A look at the beginning of a JSON file, to tell its format by the keys of its records and what is under them."""

import json
import re
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from spacy_crf_ner.formats.annotation_keys import (
    ENTITY_KEYS,
    TAG_KEYS,
    TEXT_KEYS,
    TOKEN_KEYS,
    are_numbers,
    are_tags,
    are_words,
    lengths,
    looks_annotated,
    shape,
)
from spacy_crf_ner.formats.guess import Guess
from spacy_crf_ner.formats.sniff_tags import guess_tags
from spacy_crf_ner.messages import quote

MAX_RECORDS = 200
"""How many records are looked at."""

_WHITE = re.compile(r"[ \t\n\r,]*")
_TASK_KEYS = ("annotations", "completions", "predictions")
_LABEL_OBJECT = re.compile(r'"label"\s*:\s*\{')
_PAIR = re.compile(r'\[\s*"(?:[^"\\\n]|\\.)*(?:"\s*,\s*\{|\Z)')
_DECODER = json.JSONDecoder()


class _Verdict(NamedTuple):
    """What a record could be of: one of some formats, the settings of its reader, and what says so."""

    formats: Sequence[str]
    why: str
    settings: Optional[Dict[str, Any]] = None
    tags: Sequence[str] = ()


def guess_json(text: str) -> Optional[Guess]:
    """Tell the format of JSON.

    text (str): The beginning of the file, which may end anywhere.
    RETURNS (Optional[Guess]): What it is taken for; None where it is not JSON, or of no format or of several.
    """
    start = text.lstrip()
    inner = start[1:].lstrip() if start.startswith("[") else start
    if not inner.startswith(("{", "[", "null")) and not _PAIR.match(start):
        return None
    records = list(_records(start))
    if not records:
        return _by_keys(inner if inner.startswith(("{", "[")) else start)
    formats, verdicts = _told(records)
    if len(formats) != 1:
        return None if verdicts else _without_annotation(records)
    number, first = next((number, verdict) for number, verdict in verdicts if verdict.formats == formats)
    settings = dict(first.settings or {})
    tags = guess_tags([verdict.tags for _, verdict in verdicts if verdict.tags])
    if tags is not None:
        settings.update(tags.settings())
    return Guess(formats[0], settings, f"{first.why} in {_nth(number)}")


def explain_json(text: str) -> Optional[Tuple[str, str]]:
    """What is to be said of JSON whose format cannot be told.

    text (str): The beginning of the file, which may end anywhere.
    RETURNS (Optional[Tuple[str, str]]): What is wrong, and what to do; None where the first record is not an
        object.
    """
    records = list(_records(text.lstrip()))
    if not records:
        return None
    formats, verdicts = _told(records)
    if len(formats) > 1:
        return f"the records may be of the format {' or '.join(formats)}", "name the one with --format"
    if verdicts:
        kinds: Dict[str, Tuple[int, str]] = {}
        for number, verdict in verdicts:
            kinds.setdefault(" or ".join(verdict.formats), (number, verdict.why))
        told = [f"{kind} ({why} in {_nth(number)})" for kind, (number, why) in kinds.items()]
        return f"the records are of different formats: {', '.join(told)}", "give a file of one format"
    record = records[0]
    if not isinstance(record, dict):
        return None
    keys = ", ".join(map(quote, list(record)[:8]))
    fix = "name it with --format; --format jsonl --set text_key=NAME --set label_key=NAME where those keys differ"
    return f"a record with the keys {keys or 'of none'} is of no format that can be told", fix


def _nth(number: int) -> str:
    return "the first record" if number == 0 else f"record {number + 1}"


def _records(start: str) -> Iterator[Any]:
    """The records that the head holds whole: values one after another, or in an array."""
    at = 0 if not start.startswith("[") or _PAIR.match(start) else 1
    for _ in range(MAX_RECORDS):
        match = _WHITE.match(start, at)
        assert match is not None
        if start[match.end() : match.end() + 1] not in ("{", "[", "n"):
            return
        try:
            value, at = _DECODER.raw_decode(start, match.end())
        except (ValueError, RecursionError):
            return
        if value is not None:
            yield value


def _told(records: Sequence[Any]) -> Tuple[List[str], List[Tuple[int, _Verdict]]]:
    """The formats that the records can all be of, and what each record says that says anything."""
    found = ((number, _verdict(record)) for number, record in enumerate(records))
    verdicts = [(number, verdict) for number, verdict in found if verdict is not None]
    formats: List[str] = list(verdicts[0][1].formats) if verdicts else []
    for _, verdict in verdicts:
        formats = [name for name in formats if name in verdict.formats]
    return formats, verdicts


def _verdict(record: Any) -> Optional[_Verdict]:
    """What a record is of; None where it says nothing of that."""
    if isinstance(record, list):
        is_pair = len(record) == 2 and isinstance(record[0], str) and isinstance(record[1], dict)
        return _Verdict(["spacy2"], "a text and an object") if is_pair else None
    if not isinstance(record, dict):
        return None
    return _of_tokens(record) or _of_text(record)


def _of_tokens(record: Dict[str, Any]) -> Optional[_Verdict]:
    """What a record is of whose keys are those of one format, or that has tokens and no text."""
    if isinstance(record.get("classes"), list) and isinstance(record.get("annotations"), list):
        pairs = [_verdict(part) for part in record["annotations"] if part is not None]
        return _Verdict(["spacy2"], "classes and annotations") if all(pairs) else None
    if isinstance(record.get("tokenized_text"), list) and isinstance(record.get("ner"), list):
        return _Verdict(["gliner"], "tokenized_text and ner")
    if all(key in record for key in ("content", "result_list", "prompt")):
        return _Verdict(["uie"], "content, result_list and prompt")
    token_key = next((key for key in TOKEN_KEYS if isinstance(record.get(key), list)), None)
    if token_key is None or not are_words(record[token_key]):
        return None
    tokens = record[token_key]
    has_text = any(isinstance(record.get(key), str) for key in TEXT_KEYS)
    if token_key == "tokens" and _are_spert(record.get("entities"), len(tokens)):
        return _Verdict(["spert", "jsonl"] if has_text else ["spert"], "tokens and entities")
    if has_text or "data" in record:
        return None
    for key in TAG_KEYS:
        tags = record.get(key)
        if not isinstance(tags, list) or len(tags) != len(tokens):
            continue
        # Labels without a letter can be told only by this key: parts of speech are words, too.
        if are_tags(tags) or are_numbers(tags) or (key == "ner_tags" and are_words(tags)):
            named = tags if are_words(tags) else ()
            return _Verdict(["huggingface"], f"{token_key} and {key}", tags=named)
    return None


def _are_spert(entities: Any, n_tokens: int) -> bool:
    """Whether entities can be SpERT's, whose offsets count tokens."""
    return isinstance(entities, list) and all(
        isinstance(entity, dict)
        and {"type", "start", "end"} <= entity.keys()
        and type(entity["end"]) is int
        and entity["end"] <= n_tokens
        for entity in entities
    )


def _of_text(record: Dict[str, Any]) -> Optional[_Verdict]:
    data = record.get("data")
    text_key = next((key for key in TEXT_KEYS if isinstance(record.get(key), str)), None)
    if isinstance(record.get("label"), dict):
        return _Verdict(["cluener"], "a label that is an object") if text_key == "text" else None
    if isinstance(data, dict) and text_key is None:
        if not any(key in record for key in _TASK_KEYS):
            return None
        inner = next((key for key in TEXT_KEYS if isinstance(data.get(key), str)), None)
        strings = [key for key, value in data.items() if isinstance(value, str)]
        inner = inner or (strings[0] if len(strings) == 1 else None)
        if inner is None:
            return None
        task_key = next(key for key in _TASK_KEYS if key in record)
        return _Verdict(["jsonl"], f"data and {task_key}", _text_setting(inner))
    text = data if isinstance(data, str) else record.get(text_key or "")
    if not isinstance(text, str):
        return None
    tokens = next((record[key] for key in TOKEN_KEYS if isinstance(record.get(key), list)), None)
    for key in ENTITY_KEYS:
        if key in record and shape(key, record[key], lengths(text, tokens)) is not None:
            settings = {} if text_key is None else _text_setting(text_key)
            named = record[key] if are_tags(record[key]) else ()
            return _Verdict(["jsonl"], f"{text_key or 'data'} and {key}", settings, named)
    if text_key is not None and any(looks_annotated(key, part, text, tokens) for key, part in record.items()):
        return _Verdict(["jsonl"], text_key, _text_setting(text_key))  # whose reader names the key
    return None


def _text_setting(key: str) -> Dict[str, Any]:
    return {} if key == TEXT_KEYS[0] else {"text_key": key}


def _without_annotation(records: Sequence[Any]) -> Optional[Guess]:
    """What records are of none of which has annotation, or what it should."""
    for keys in (("text",), ("data", "label")):
        for number, record in enumerate(records):
            if isinstance(record, dict) and all(key in record for key in keys):
                return Guess("jsonl", {}, f"{' and '.join(keys)} in {_nth(number)}")
    for number, record in enumerate(records):
        if isinstance(record, dict) and "tokens" in record and "entities" in record:
            return Guess("spert", {}, f"tokens and entities in {_nth(number)}")
    return None


_JSON_KEYS: Sequence[Tuple[str, Tuple[str, ...]]] = (
    ("spacy2", ("classes", "annotations")),
    ("gliner", ("tokenized_text",)),
    ("uie", ("content", "result_list")),
    ("spert", ("tokens", "entities")),
    ("huggingface", ("tokens", "ner_tags")),
    ("jsonl", ("text", "spans")),
    ("jsonl", ("text", "label")),
    ("jsonl", ("text", "labels")),
    ("jsonl", ("text", "entities")),
    ("jsonl", ("data", "label")),
    ("jsonl", ("data", "annotations")),
    ("jsonl", ("data", "completions")),
    ("jsonl", ("data", "predictions")),
    ("jsonl", ("text",)),
)


def _by_keys(start: str) -> Optional[Guess]:
    """What a record is of that the head does not hold whole, by the keys that are in it."""
    if _PAIR.match(start):
        return Guess("spacy2", {}, "a text in a list, the first record")
    if not start.startswith("{"):
        return None
    if _LABEL_OBJECT.search(start):
        return Guess("cluener", {}, "a label that is an object, in the first record")
    for name, keys in _JSON_KEYS:
        if all(f'"{key}"' in start for key in keys):
            return Guess(name, {}, f"{' and '.join(keys)} in the first record")
    return None
