"""No file of one format is taken for another, whatever its line ends, encoding and compression."""

import gzip
import lzma
from pathlib import Path
from typing import Callable, Dict

import pytest

from spacy_crf_ner.formats.examples import EXAMPLES
from spacy_crf_ner.formats.registry import reader_names
from spacy_crf_ner.formats.sniff import sniff
from spacy_crf_ner.formats.source import Source
from tests.formats.reading import found_in, put
from tests.formats.samples import NAMES, SAMPLES

FORMS: Dict[str, Callable[[str], bytes]] = {
    "LF": str.encode,
    "CRLF": lambda text: text.replace("\n", "\r\n").encode(),
    "CR": lambda text: text.replace("\n", "\r").encode(),
    "byte order mark": lambda text: ("\ufeff" + text).encode(),
    "UTF-16": lambda text: text.encode("utf-16"),
    "gzip": lambda text: gzip.compress(text.encode()),
    "xz": lambda text: lzma.compress(text.encode()),
    "no final newline": lambda text: text.rstrip("\n").encode(),
    "empty lines first": lambda text: ("\n\n" + text).encode(),
    "long": lambda text: text.encode() * (70_000 // len(text)),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("format", SAMPLES)
def test_sample_is_told_and_read(tmp_path: Path, format: str, form: str) -> None:
    sample = SAMPLES[format]
    if form == "long" and format in ("webanno", "csv", "uie"):
        content = FORMS["LF"](sample.content)  # a file begins once, and one text has one annotation
    elif form == "empty lines first" and format in ("webanno", "csv"):
        content = FORMS["CRLF"](sample.content)  # they begin with what says what they are
    else:
        content = FORMS[form](sample.content)
    path = put(tmp_path, content)
    guess = sniff(Source(path))
    assert (guess.format, guess.settings) == (format, sample.found)
    assert guess.why
    found = found_in(path, lang="en")
    place = "New New York" if format == "bmes" else "New York"
    expected = [[(text.replace("New York", place), label) for text, label in names] for names in NAMES]
    assert found.names[:3] == expected
    assert len(found.docs) % 3 == 0


@pytest.mark.parametrize("format", SAMPLES)
def test_sample_is_read_where_the_format_is_given(tmp_path: Path, format: str) -> None:
    sample = SAMPLES[format]
    found = found_in(put(tmp_path, sample.content), format=format, lang="en", **sample.settings)
    assert found.counts.entities == {"PER": 2, "LOC": 1}
    assert sample.n_entities(sample.content) == 3


def test_every_reader_has_a_sample_and_an_example() -> None:
    """Those of two files and of bytes have tests of their own."""
    names = set(reader_names())
    assert names >= {"brat", "parquet", "spacy"} | set(SAMPLES)
    assert {name for name in names if name in EXAMPLES} == {"brat", "parquet", "spacy"} | set(SAMPLES)
