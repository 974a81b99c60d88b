import subprocess
import sys
from collections import Counter
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, Iterator

import catalogue  # type: ignore[import-untyped]
import pytest
from spacy.tokens import Doc, DocBin

import spacy_crf_ner.cli  # noqa: F401
from spacy_crf_ner.formats.doc_builder import DocMaker
from spacy_crf_ner.formats.errors import FormatError
from spacy_crf_ner.formats.registry import (
    check_bool,
    check_choice,
    files_of,
    get_reader,
    get_writer,
    keywords,
    readers,
    writers,
)
from spacy_crf_ner.formats.source import Source
from tests.cli.util import invoke
from tests.formats.reading import BLANK, found_in, put, text_of

READERS = (
    "biluo, bio, bioes, bios, bmes, bmewo, brat, cluener, conll, conll2012, conllu, csv, gliner, huggingface, "
    "inline, iob1, jsonl, parquet, spacy, spacy2, spert, uie, webanno"
)
WRITERS = "bio, bioes, bmes, brat, cluener, conllu, doccano, huggingface, jsonl, label_studio, spacy"

run = partial(invoke, "convert")

ACME_WRITER = """
def write_acme(docs, stream, notes):
    for doc in docs:
        stream.write(f"{doc.text}\\n".encode())
"""

ACME = """\
from spacy_crf_ner.formats.registry import readers

@readers("acme")
def read_acme(source, make, *, separator="|"):
    for number, line in source.lines():
        text, *entities = line.split(separator)
        if any(entity not in text for entity in entities):
            raise source.error("an entity is not in the text", "write it as it is there", number)
        spans = [(text.index(entity), text.index(entity) + len(entity), "X") for entity in entities]
        yield make.from_text(text, spans, source, number)
"""
"""A reader as a user writes it."""

ACME_TEXT = "张三去了上海。|张三|上海\n\n没有\n"


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten after it, and what others have registered is not there."""
    ours = {key: value for key, value in catalogue.REGISTRY.items() if key[0] != readers.namespace[0]}
    monkeypatch.setattr(catalogue, "REGISTRY", ours)


def test_reader_that_is_registered_by_decorator(tmp_path: Path) -> None:
    @readers("acme")
    def read_acme(source: Source, make: DocMaker, *, separator: str = ",") -> Iterator[Doc]:
        for line in source.lines():
            text, label = line.text.split(separator)
            yield make.from_text(text, [(0, len(text), label)] if label else [], source, line.number)

    path = put(tmp_path, "张三,PER\n去了,\n,\n")
    assert found_in(path, format="acme").names == [[("张三", "PER")], []]
    assert found_in(put(tmp_path, "张三;PER\n"), format="acme", separator=";").names == [[("张三", "PER")]]
    with pytest.raises(ValueError, match="format 'acme' has no setting 'sep'; its settings are separator"):
        found_in(path, format="acme", sep=";")
    with pytest.raises(ValueError, match="no format 'acne' can be read; choose one of acme, "):
        found_in(path, format="acne")


def test_reader_that_makes_its_docs_itself(tmp_path: Path) -> None:
    @readers("own")
    def read_own(source: Source, make: DocMaker) -> Iterator[Doc]:
        for line in source.lines():
            yield make.nlp.make_doc(line.text)

    assert found_in(put(tmp_path, "中国\n人\n"), format="own").texts == ["中国", "人"]


def test_reader_that_takes_any_settings(tmp_path: Path) -> None:
    """As the protocol is written."""

    @readers("any")
    def read_any(source: Source, make: DocMaker, **settings: Any) -> Iterator[Doc]:
        for line in source.lines():
            yield make.from_text(line.text + settings["more"], [], source, line.number)

    assert found_in(put(tmp_path, "中\n"), format="any", more="国").texts == ["中国"]


def test_reader_from_a_file_of_the_user(tmp_path: Path) -> None:
    code = put(tmp_path, ACME, "acme.py")
    path = put(tmp_path, ACME_TEXT)
    output = tmp_path / "out.spacy"
    status, stdout, stderr = run(path, output, "--code", code, "--format", "acme")
    assert status == 0, stderr
    docs = list(DocBin().from_disk(output).get_docs(BLANK["zh"].vocab))
    assert [[ent.text for ent in doc.ents] for doc in docs] == [["张三", "上海"], []]
    assert "Empty texts" in stdout

    options = ("--code", code, "--format", "acme", "--to", "bio")
    path = put(tmp_path, "张三来了;张三\n")
    status, stdout, stderr = run(path, tmp_path / "b.bio", *options, "--set", "separator=;")
    assert status == 0, stderr
    assert (tmp_path / "b.bio").read_text(encoding="utf8") == "张 B-X\n三 I-X\n来 O\n了 O\n\n"

    path = put(tmp_path, "一\n二|三\n")
    status, _, stderr = run(path, tmp_path / "c.bio", *options)
    assert status == 1
    assert stderr == f"{path}:2: an entity is not in the text; write it as it is there\n"


def test_package_of_a_third_party_is_found_beside_one_that_is_broken(tmp_path: Path) -> None:
    put(tmp_path, ACME + ACME_WRITER, "acme.py")
    put(tmp_path, "Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n", "acme-1.0.dist-info/METADATA")
    put(
        tmp_path,
        "[spacy_crf_ner_readers]\nacme-lines = acme:read_acme\n"
        "[spacy_crf_ner_writers]\nacme-text = acme:write_acme\n",
        "acme-1.0.dist-info/entry_points.txt",
    )
    path, output = put(tmp_path, ACME_TEXT), tmp_path / "out.txt"
    put(tmp_path, "Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n", "broken-1.0.dist-info/METADATA")
    points = "[spacy_crf_ner_readers]\nbroken = no_such_module:read\n"
    put(tmp_path, points, "broken-1.0.dist-info/entry_points.txt")
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
import spacy
from spacy_crf_ner.formats.convert import convert
from spacy_crf_ner.formats.registry import get_reader
convert([{str(path)!r}], {str(output)!r}, lambda: spacy.blank("zh"), format="acme-lines", to="acme-text")
try:
    get_reader("nope", {{}})
except ValueError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert output.read_text(encoding="utf8") == "张三去了上海。\n没有\n"
    assert "acme-lines, biluo, bio, bioes" in result.stdout


@pytest.mark.parametrize("name", ["nope", "", "auto", "BIO"])
def test_unknown_format_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(ValueError) as caught:
        get_reader(name, {})
    assert str(caught.value) == f"no format {name!r} can be read; choose one of {READERS}"
    with pytest.raises(ValueError) as caught:
        get_writer(name, {})
    assert str(caught.value) == f"no format {name!r} can be written; choose one of {WRITERS}"


def test_unknown_setting_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="'bio' has no setting 'separator'; its settings are repair, positions"):
        get_reader("bio", {"repair": True, "separator": ","})
    with pytest.raises(ValueError, match=r"'conll' .*'tags'; .* scheme, token_column, tag_column, .* repair$"):
        get_reader("conll", {"tags": 1})
    with pytest.raises(ValueError, match="format 'spacy' has no setting 'repair'; it has none"):
        get_reader("spacy", {"repair": True})
    with pytest.raises(ValueError, match="format 'bio' has no setting 'spans_key'; it has none"):
        get_writer("bio", {"spans_key": "sc"})
    with pytest.raises(ValueError, match="has no setting 'source'"):
        get_reader("bio", {"source": 1})


@pytest.mark.parametrize("name", READERS.split(", "))
def test_every_format_is_registered_by_entry_point(name: str) -> None:
    settings = {key: parameter.default for key, parameter in keywords(readers.get(name)).items()}
    assert get_reader(name, settings) is readers.get(name)
    assert all(parameter.default is not parameter.empty for parameter in keywords(readers.get(name)).values())


@pytest.mark.parametrize("name", WRITERS.split(", "))
def test_every_writer_is_registered_by_entry_point(name: str) -> None:
    doc = BLANK["zh"].make_doc("中")
    doc.set_ents([], default="outside")
    writer = get_writer(name, {})
    files = files_of(writer)
    if files.per_doc:
        streams = [BytesIO() for _ in files.suffixes]
        writer(doc, streams, Counter())
        assert [stream.getvalue().decode() for stream in streams] == ["中", ""]
    elif files.suffixes:
        stream = BytesIO()
        writer([doc], stream, Counter())
        (found,) = DocBin().from_bytes(stream.getvalue()).get_docs(BLANK["zh"].vocab)
        assert found.text == "中"
    else:
        written = text_of(writer, doc)
        assert written.endswith("\n") and "中" in written
    assert all(parameter.default is not parameter.empty for parameter in keywords(writers.get(name)).values())


def test_error_of_a_reader_names_file_and_line() -> None:
    error = Source("in.txt").error("it is broken", "correct it", 7)
    assert isinstance(error, FormatError)
    assert str(error) == "in.txt:7: it is broken; correct it"
    assert str(Source("in.txt").error("it is broken", "correct it")) == "in.txt: it is broken; correct it"


@pytest.mark.parametrize("value", ["no", "false", 0, 1, None])
def test_what_is_neither_true_nor_false_is_refused(value: Any) -> None:
    check_bool("repair", True)
    check_bool("repair", False)
    with pytest.raises(ValueError, match=rf"the setting repair is {value!r}; give true or false"):
        check_bool("repair", value)


def test_a_name_that_is_none_of_the_choices_is_refused() -> None:
    for unit in ("characters", "utf-16"):
        check_choice("offsets", unit, ("characters", "utf-16"))
    with pytest.raises(ValueError, match="the setting offsets is 'bytes'; choose one of characters, utf-16"):
        check_choice("offsets", "bytes", ("characters", "utf-16"))
