"""The format `parquet`: rows of tokens and tags, or of a text and its entities, as the Hugging Face Hub has them.

Needs PyArrow: ``pip install "spacy-crf-ner[parquet]"``.
"""

import base64
import json
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any, Dict, Iterator, List, Optional, Sequence

from spacy.tokens import Doc

from spacy_crf_ner.formats.annotation_keys import TAG_KEYS, TOKEN_KEYS
from spacy_crf_ner.formats.doc_builder import DocMaker
from spacy_crf_ner.formats.errors import FormatError
from spacy_crf_ner.formats.records import Record
from spacy_crf_ner.formats.source import STDIN, Source
from spacy_crf_ner.formats.spelling import STANDARD
from spacy_crf_ner.formats.tag_lists import Names, TagReader
from spacy_crf_ner.formats.text_records import TextRecords
from spacy_crf_ner.formats.token_records import TokenRecords
from spacy_crf_ner.messages import quote

MAGIC = b"PAR1"
"""The first bytes of a file."""

N_ROWS = 1000
"""How many rows are held in memory at a time, beside what PyArrow holds of a row group."""


def read_parquet(
    source: Source,
    make: DocMaker,
    *,
    names: Names = None,
    token_key: Optional[str] = None,
    text_key: str = "text",
    label_key: Optional[str] = None,
    offsets: Optional[str] = None,
    ends: Optional[str] = None,
    verify: bool = True,
    scheme: Optional[str] = None,
    spelling: str = STANDARD,
    type: Optional[str] = None,
    repair: bool = False,
) -> Iterator[Doc]:
    """Read Parquet. Where there is the column of a text, and that of the tokens is not named, a row is read as
    `jsonl` is; else it is read as `huggingface` is.

    Row groups are read one after another. What is compressed once more, or comes from standard input, is held in
    memory whole. In errors the number of the row, from 1, takes the place of the line's.

    source (Source): The file.
    make (DocMaker): Makes the docs.
    names (Names): The names of tags that are numbers, in order. None: those that Hugging Face's `datasets` writes
        into the file.
    token_key, text_key, label_key, offsets, ends, verify, scheme, spelling, type, repair: As of the two readers.
        The keys are columns.
    YIELDS (Doc): The docs, in order.
    RAISES (FormatError): PyArrow is not installed, or the file is not Parquet of this kind.
    RAISES (ValueError): A setting is wrong.
    """
    file_ = _opened(source)
    columns = file_.schema_arrow.names
    if names is None:
        names = _names_in(file_.schema_arrow.metadata, [label_key] if label_key else list(TAG_KEYS))
    tags = TagReader(scheme=scheme, spelling=spelling, type=type, repair=repair, names=names)
    read: Any = TokenRecords(make, tags, token_key=token_key, label_key=label_key)
    if text_key in columns and token_key is None:
        read = TextRecords(
            make, tags, text_key=text_key, label_key=label_key, offsets=offsets, ends=ends, verify=verify
        )
    elif not any(key in columns for key in (token_key, *TOKEN_KEYS)):
        what = f"no column of a text or of tokens among {', '.join(map(quote, columns[:8]))}"
        raise source.error(what, "name it with --set text_key=NAME or --set token_key=NAME")
    for number, row in enumerate(_rows(source, file_), start=1):
        doc = read.doc(Record(_plain(row), number, source))
        if doc is not None:
            yield doc


def _opened(source: Source) -> Any:
    """The file as PyArrow has it, which is imported only here: it is large, and optional."""
    try:
        from pyarrow import ArrowException, BufferReader
        from pyarrow.parquet import ParquetFile
    except ImportError:
        fix = 'install it: pip install "spacy-crf-ner[parquet]"'
        raise source.error("Parquet is read by PyArrow, which is not installed", fix) from None
    data: Any = source.path
    if str(source.path) == STDIN or _first_bytes(source) != MAGIC:
        data = BufferReader(source.read())
    else:
        next(source.chunks(), None)  # closes the file, which PyArrow opens itself
    try:
        return ParquetFile(data)
    except (ArrowException, OSError) as error:
        raise _broken(source, error) from None


def _first_bytes(source: Source) -> bytes:
    """The first bytes as they are in the file, not decompressed."""
    source.head()  # it explains what cannot be opened
    with source.path.open("rb") as file_:
        return file_.read(len(MAGIC))


def _rows(source: Source, file_: Any) -> Iterator[Dict[str, Any]]:
    from pyarrow import ArrowException

    try:
        for batch in file_.iter_batches(batch_size=N_ROWS):
            yield from batch.to_pylist()
    except (ArrowException, OSError) as error:
        raise _broken(source, error) from None


def _broken(source: Source, error: Exception) -> FormatError:
    what = f"not Parquet, or damaged ({' '.join(str(error).split())[:80]})"
    return source.error(what, "fetch the file again, or name its --format")


def _names_in(metadata: Optional[Dict[bytes, bytes]], columns: Sequence[str]) -> Optional[List[str]]:
    """The names of the tags, where `datasets` has written what the columns hold: of the first that has any."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return None
    for column in columns:
        feature = features.get(column) if isinstance(features, dict) else None
        # A sequence holds what its items are; old versions write [{...}].
        while isinstance(feature, (dict, list)) and feature:
            if isinstance(feature, list):
                feature = feature[0]
            elif "names" in feature:
                return list(feature["names"])
            else:
                feature = feature.get("feature")
    return None


def _plain(value: Any) -> Any:
    """A value as JSON would have it. Parquet gives each row, and each object in a list, all keys of the others, as
    null: those are absent.
    """
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items() if part is not None}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, (date, time, timedelta, Decimal)):
        return str(value)
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value
