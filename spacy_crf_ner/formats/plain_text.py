"""Texts without annotation: the lines of plain files, or what JSON records have under "text"."""

from pathlib import Path
from typing import Iterator, Optional, Sequence, Union

from spacy_crf_ner.formats.json_values import values
from spacy_crf_ner.formats.source import Source, find_files

JSON_SUFFIXES = (".jsonl", ".json")


def read_texts(paths: Sequence[Union[str, Path]], *, encoding: Optional[str] = None) -> Iterator[str]:
    """Read texts.

    paths (Sequence[Union[str, Path]]): Files, compressed or not, or folders of files. A .jsonl or .json holds
        records with a "text"; any other holds a text per line.
    encoding (Optional[str]): Encoding of the files; None: that of the byte order mark, or UTF-8.
    YIELDS (str): The texts that are not blank, without white space at their ends.
    RAISES (FormatError): A file cannot be read, or a record has no "text".
    """
    for path in find_files(paths):
        source = Source(path, encoding=encoding)
        is_json = any(suffix in JSON_SUFFIXES for suffix in path.suffixes[-2:])
        for text in _texts_of_records(source) if is_json else (line.text for line in source.lines()):
            if text := text.strip():
                yield text


def _texts_of_records(source: Source) -> Iterator[str]:
    for record in values(source, lists=True):
        text = record.value.get("text") if isinstance(record.value, dict) else None
        if not isinstance(text, str):
            raise source.error('record has no "text"', 'give each record a "text", a string', record.line)
        yield text
