"""brat: what is written is read back, and the directory is written whole or not at all."""

from collections import Counter
from io import BytesIO
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from spacy.tokens import Doc, Span

from spacy_crf_ner.formats import writing
from spacy_crf_ner.formats.brat_writing import META_LEFT, write_brat
from spacy_crf_ner.formats.doc_builder import MISSING_WRITTEN, ORIGIN, Origin
from spacy_crf_ner.formats.errors import FormatError
from spacy_crf_ner.formats.records import RELATIONS_LEFT
from spacy_crf_ner.formats.writing import write
from tests.formats.json_util import KEY, Annotated, annotated, assert_same, make_docs, read, write_records
from tests.formats.reading import BLANK, found_in, put
from tests.util import n_drawn


def labelled(texts: List[Annotated]) -> List[Annotated]:
    """Without what brat cannot hold: white space in labels, meta, and missing annotation."""
    return [
        Annotated(text, [(start, end, label.replace(" ", "_")) for start, end, label in spans or []], links, {})
        for text, spans, links, _ in texts
    ]


@pytest.mark.parametrize("lang", ["zh", "en"])
@settings(max_examples=n_drawn(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(annotated(overlapping=False, related=True), min_size=1, max_size=3))
@example(texts=[Annotated("\ufeffa", [(0, 1, "X")], [], {}), Annotated("\ufeff\ufeff", [], [], {})])
@example(texts=[Annotated("a\nb\r\n\nc\n", [(0, 7, "X"), (7, 8, "Y")], [("r", 0, 1)], {})])
@example(texts=[Annotated("a\n\nb 😀\r", [(1, 4, "X"), (4, 5, "Y"), (5, 7, "Z")], [], {})])
def test_round_trip(tmp_path: Path, lang: str, texts: List[Annotated]) -> None:
    docs = list(make_docs(labelled(texts), tmp_path / "x", lang=lang, spans_key=None))
    written = write(docs, tmp_path / "out", format="brat")
    assert (written.files, +written.notes) == (2 * len(docs), {})
    assert_same(docs, found_in(tmp_path / "out", lang=lang).docs)


@settings(max_examples=n_drawn(40), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=annotated(overlapping=True, related=True))
def test_overlapping_entities_are_written_with_spans_key(tmp_path: Path, text: Annotated) -> None:
    (doc,) = make_docs(labelled([text]), tmp_path / "x", lang="en", spans_key=KEY)
    write([doc], tmp_path / "out", format="brat", settings={"spans_key": KEY})
    again = read("brat", tmp_path / "out" / "out-00000.txt", spans_key=KEY).docs
    assert_same([doc], again, spans_key=KEY)


def met(**more: Any) -> Dict[str, Any]:
    spans = [{"start": 0, "end": 3, "label": "PER"}, {"start": 8, "end": 13, "label": "PER"}]
    link = {"head_span": spans[0], "child_span": spans[1], "label": "Met"}
    return {"text": "Ann met Bo\nLi", "spans": spans, "relations": [link], **more}


def texts_of(doc: Doc, notes: "Counter[str]") -> Tuple[str, str]:
    """The text of a doc, and its annotation."""
    streams = (BytesIO(), BytesIO())
    write_brat(doc, streams, notes)
    text, annotation = (stream.getvalue().decode("utf8") for stream in streams)
    return text, annotation


def test_what_is_written(tmp_path: Path) -> None:
    notes: Counter[str] = Counter()
    (doc, unknown) = read("jsonl", write_records(tmp_path / "x", met(id=1), {"text": "a b"})).docs
    text, annotation = texts_of(doc, notes)
    assert text == "Ann met Bo\nLi"
    assert annotation == "T1\tPER 0 3\tAnn\nT2\tPER 8 10;11 13\tBo Li\nR1\tMet Arg1:T1 Arg2:T2\n"
    assert +notes == {META_LEFT: 1}
    assert texts_of(unknown, notes) == ("a b", "")
    assert +notes == {META_LEFT: 1, MISSING_WRITTEN: 2}
    doc.set_ents([], default="outside")
    assert texts_of(doc, notes)[1] == ""
    assert notes[RELATIONS_LEFT] == 1


@pytest.mark.parametrize("label", ["a b", "a\u00a0b", "\t"])
def test_label_with_white_space_is_refused(label: str) -> None:
    doc = BLANK["en"].make_doc("Ann")
    doc.set_ents([Span(doc, 0, 1, label)])
    doc.user_data[ORIGIN] = Origin("a.jsonl", 3)
    with pytest.raises(FormatError) as caught:
        texts_of(doc, Counter())
    what = f"label {label!r} holds white space, which brat cannot hold"
    assert str(caught.value) == f"a.jsonl:3: {what}; rename it, or write jsonl"


def some(n: int) -> Iterator[Doc]:
    for i in range(n):
        yield BLANK["en"].make_doc(f"text {i}")


def test_files_are_in_order_and_replace_others(tmp_path: Path) -> None:
    write(some(12), tmp_path / "out", format="brat")
    names = [path.name for path in sorted((tmp_path / "out").iterdir())]
    assert names == [f"out-{i:05}{suffix}" for i in range(12) for suffix in (".ann", ".txt")]
    assert (tmp_path / "out" / "out-00011.txt").read_text() == "text 11"
    assert write(some(1), tmp_path / "out", format="brat").files == 2
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_nothing_is_left_of_a_run_that_fails(tmp_path: Path) -> None:
    write(some(2), tmp_path / "out", format="brat")
    bad = BLANK["en"].make_doc("bad")
    bad.set_ents([Span(bad, 0, 1, "a b")])
    with pytest.raises(FormatError, match="holds white space"):
        write([*some(3), bad], tmp_path / "out", format="brat")
    with pytest.raises(FormatError, match="holds white space"):
        write([*some(3), bad], tmp_path / "new", format="brat")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert len(list((tmp_path / "out").iterdir())) == 4


def test_output_that_makes_no_sense_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(output: "str | Path", **settings: Any) -> str:
        with pytest.raises(FormatError) as caught:
            write(some(3), output, format="brat", **settings)
        return str(caught.value).removeprefix(f"{tmp_path}/")

    assert (
        refused("-")
        == "-: files of the format brat do not go to standard output; name a directory or another format with --to"
    )
    what = "out: --n-docs-per-file is not for brat, which has one doc per file; leave the option away"
    assert refused(tmp_path / "out", n_docs_per_file=2) == what
    for name in ("out.txt", "out.ann"):
        assert (
            refused(tmp_path / name) == f"{name}: brat is written as a directory of files; leave {name[3:]} away"
        )
    put(tmp_path, "x", "there/annotation.conf")
    assert "there: holds 'annotation.conf', which is no .txt or .ann file" in refused(tmp_path / "there")
    put(tmp_path, "x", "file")
    assert "file: is there already and is not a directory" in refused(tmp_path / "file")
    monkeypatch.setattr(writing, "MAX_FILES", 2)
    assert (
        refused(tmp_path / "out") == "out: would take the files of more than 2 docs; convert fewer files at a time"
    )
    assert not (tmp_path / "out").exists()
