import io
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any, List

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spacy.tokens import Doc, Span, SpanGroup

from spacy_crf_ner.formats.errors import FormatError
from spacy_crf_ner.formats.label_studio_writing import write_label_studio
from spacy_crf_ner.formats.writing import write
from spacy_crf_ner.ner.decoding import save_scores
from tests.formats.json_util import BLANK, KEY, all_spans, annotated, entities, make_docs, read, relations
from tests.formats.reading import found_in, text_of
from tests.util import n_drawn


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tasks.json"


@pytest.fixture
def doc() -> Doc:
    doc = BLANK["en"].make_doc("Ann left Rome")
    doc.set_ents([Span(doc, 0, 1, "PER"), Span(doc, 2, 3, "LOC")])
    return doc


def task(doc: Doc, **options: Any) -> Any:
    (task,) = json.loads(text_of(write_label_studio, doc, **options))
    return task


def test_task_with_its_prediction(doc: Doc) -> None:
    tags = {"from_name": "label", "to_name": "text", "type": "labels"}
    assert task(doc) == {
        "data": {"text": "Ann left Rome"},
        "predictions": [
            {
                "model_version": "spacy-crf-ner",
                "result": [
                    {"id": "e0", **tags, "value": {"start": 0, "end": 3, "text": "Ann", "labels": ["PER"]}},
                    {"id": "e1", **tags, "value": {"start": 9, "end": 13, "text": "Rome", "labels": ["LOC"]}},
                ],
            }
        ],
    }


def test_scores_are_those_that_the_component_saves(doc: Doc) -> None:
    ann, rome = doc.ents
    save_scores(doc, "crf_ner", {ann: 0.75, rome: 0.5})
    (prediction,) = task(doc)["predictions"]
    assert [region["score"] for region in prediction["result"]] == [0.75, 0.5]
    assert prediction["score"] == 0.5
    notes: Counter[str] = Counter()
    text_of(write_label_studio, doc, notes)
    assert not notes
    doc.spans["crf_ner"] = SpanGroup(doc, spans=[ann], attrs={"scores": [0.75]})
    assert ["score" in region for region in task(doc)["predictions"][0]["result"]] == [True, False]
    doc.spans["crf_ner"] = SpanGroup(doc, spans=[ann], attrs={"scores": []})
    assert "score" not in task(doc)["predictions"][0]


def test_names_of_the_labelling_interface(doc: Doc) -> None:
    made = task(doc, from_name="ner", to_name="t", text_key="content", model_version="v2")
    assert made["data"] == {"content": "Ann left Rome"}
    (prediction,) = made["predictions"]
    assert prediction["model_version"] == "v2"
    assert {(region["from_name"], region["to_name"]) for region in prediction["result"]} == {("ner", "t")}


def test_doc_without_annotation_has_no_prediction_and_meta_is_data() -> None:
    doc = BLANK["en"].make_doc("a")
    doc.user_data["meta"] = {"id": 3, "text": "b"}
    notes: Counter[str] = Counter()
    assert json.loads(text_of(write_label_studio, doc, notes)) == [{"data": {"text": "a", "id": 3}}]
    assert len(notes) == 1


@pytest.mark.parametrize("n", [0, 1, 3])
@pytest.mark.parametrize("to_stdout", [False, True])
def test_file_is_one_array(path: Path, doc: Doc, n: int, to_stdout: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out))
    write([doc] * n, "-" if to_stdout else path, format="label_studio")
    data = out.getvalue() if to_stdout else path.read_bytes()
    assert json.loads(data) == [task(doc)] * n


def test_other_formats_have_nothing_around_their_docs(path: Path, doc: Doc) -> None:
    write([doc, doc], path, format="jsonl")
    assert [json.loads(line)["text"] for line in path.read_text().splitlines()] == [doc.text] * 2


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=n_drawn(60))
@given(data=st.data(), lang=st.sampled_from(["zh", "en"]), spans_key=st.sampled_from([None, KEY]))
def test_round_trip(path: Path, data: st.DataObject, lang: str, spans_key: Any) -> None:
    texts: List[Any] = data.draw(
        st.lists(annotated(overlapping=spans_key is not None, related=True), min_size=1, max_size=3)
    )
    docs = list(make_docs(texts, path, lang=lang, spans_key=spans_key))
    options = {"spans_key": spans_key} if spans_key else {}
    written = write(docs, path, format="label_studio", settings=options)
    again = read("jsonl", path, lang=lang, spans_key=spans_key, label_key="predictions").docs
    assert not written.notes
    assert [doc.text for doc in again] == [doc.text for doc in docs]
    for doc, other in zip(docs, again):
        assert other.has_annotation("ENT_IOB") == doc.has_annotation("ENT_IOB")
        assert (other.user_data.get("meta") or {}).get("data") == doc.user_data.get("meta")
        assert relations(other) == relations(doc)
        assert entities(other) == entities(doc)
        if spans_key in doc.spans:
            assert sorted(all_spans(other)) == sorted(all_spans(doc))


def test_predictions_are_no_annotation_unless_that_is_said(path: Path, doc: Doc) -> None:
    write([doc], path, format="label_studio")
    with pytest.raises(FormatError, match=r"none of its 1 texts has annotation; .* --format jsonl"):
        found_in(path, lang="en")
    assert not found_in(path, format="jsonl", lang="en").docs[0].has_annotation("ENT_IOB")
    assert found_in(path, lang="en", label_key="predictions").names == [[("Ann", "PER"), ("Rome", "LOC")]]
