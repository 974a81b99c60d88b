"""What the component says of its certainty, in the pipe and to code."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, List, Tuple

import numpy
import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc, DocBin, Span

from spacy_crf_ner.ner.component import CRFEntityRecognizer
from tests.util import SMALL_MODEL, TEXTS, ents, example_from, examples_from, get_pipe, overfitted


def half_trained() -> Language:
    """A pipeline that is not sure of itself."""
    return overfitted(steps=12)


@pytest.fixture(scope="module")
def unsure() -> Language:
    return half_trained()


def with_setting(nlp: Language, **settings: Any) -> Language:
    """The same pipeline, its recognizer created with other settings."""
    again = spacy.blank("zh")
    again.add_pipe("crf_ner", config={"model": SMALL_MODEL, **settings})
    return again.from_bytes(nlp.to_bytes())


def plain(scored: List[List[Tuple[Span, float]]]) -> List[List[Tuple[int, int, str, float]]]:
    return [[(span.start, span.end, span.label_, score) for span, score in doc] for doc in scored]


def saved(doc: Doc, name: str = "crf_ner") -> List[Tuple[int, int, str, float]]:
    group = doc.spans[name]
    assert group.has_overlap is False
    scores: Any = group.attrs["scores"]
    assert len(scores) == len(group)
    return [(span.start, span.end, span.label_, score) for span, score in zip(group, scores)]


def test_scores_are_off_by_default_and_nothing_is_saved(unsure: Language) -> None:
    doc = unsure(TEXTS[0][0])
    assert not doc.spans
    assert get_pipe(unsure, "crf_ner").save_scores is False


def test_saved_scores_are_those_of_predict_scores_and_plain_floats(unsure: Language) -> None:
    nlp = with_setting(unsure, save_scores=True)
    expected = plain(get_pipe(unsure, "crf_ner").predict_scores([unsure.make_doc(text) for text, _ in TEXTS]))
    assert any(expected)
    for (text, _), scored in zip(TEXTS, expected):
        doc = nlp(text)
        assert ents(doc) == ents(unsure(text)) == [(doc[s:e].text, label) for s, e, label, _ in scored]
        assert [x[:3] for x in saved(doc)] == [x[:3] for x in scored]
        assert [x[3] for x in saved(doc)] == pytest.approx([x[3] for x in scored], abs=1e-6)
        assert {type(score) for *_, score in saved(doc)} <= {float}
        assert all(0.0 < score <= 1.0 for *_, score in saved(doc))


def test_a_score_is_the_share_of_all_readings_that_hold_the_entity(unsure: Language) -> None:
    pipe = get_pipe(unsure, "crf_ner")
    doc = unsure.make_doc("中美")
    readings = pipe.predict_kbest([doc], 10_000)[0]
    assert sum(reading.probability for reading in readings) == pytest.approx(1.0, abs=1e-9)
    keys = [{(e.start, e.end, e.label_) for e in reading.entities} for reading in readings]
    assert len({frozenset(key) for key in keys}) == len(keys)
    for start, end, label, score in plain(pipe.predict_scores([doc]))[0]:
        share = sum(r.probability for r, key in zip(readings, keys) if (start, end, label) in key)
        assert score == pytest.approx(share, abs=1e-9)


def test_k_best_readings_begin_with_the_prediction_and_fall_in_probability(unsure: Language) -> None:
    pipe = get_pipe(unsure, "crf_ner")
    docs = [unsure.make_doc(text) for text, _ in TEXTS] + [unsure.make_doc("")]
    for doc, readings in zip(docs, pipe.predict_kbest(docs, 5)):
        assert not doc.ents and not doc.spans  # nothing is written
        probabilities = [reading.probability for reading in readings]
        assert probabilities == sorted(probabilities, reverse=True)
        assert [(e.text, e.label_) for e in readings[0].entities] == ents(unsure(doc.text))
    assert len(readings) == 1 and readings[0].probability == 1.0  # an empty doc has one
    with pytest.raises(ValueError, match="k = 0"):
        pipe.predict_kbest(docs, 0)


def test_scores_survive_bytes_and_docbin(unsure: Language) -> None:
    nlp = with_setting(unsure, save_scores=True)
    doc = nlp(TEXTS[1][0])
    assert saved(doc)
    assert saved(Doc(nlp.vocab).from_bytes(doc.to_bytes())) == saved(doc)
    stored = DocBin(docs=[doc]).to_bytes()
    assert saved(next(DocBin().from_bytes(stored).get_docs(spacy.blank("zh").vocab))) == saved(doc)
    json.dumps(doc.spans["crf_ner"].attrs)


def test_scores_survive_worker_processes(unsure: Language, tmp_path: Path) -> None:
    with_setting(unsure, save_scores=True).to_disk(tmp_path / "pipeline")
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, spacy\n"
        "if __name__ == '__main__':\n"
        "    nlp = spacy.load(sys.argv[1])\n"
        "    texts = sys.argv[2:] * 2\n"
        "    one = [nlp(text).spans['crf_ner'].attrs['scores'] for text in texts]\n"
        "    two = [d.spans['crf_ner'].attrs['scores'] for d in nlp.pipe(texts, n_process=2, batch_size=2)]\n"
        "    assert any(one) and len(one) == len(two), (one, two)\n"
        "    for a, b in zip(one, two):\n"
        "        assert len(a) == len(b) and all(abs(x - y) < 1e-5 for x, y in zip(a, b)), (a, b)\n",
        encoding="utf-8",
    )
    command = [sys.executable, str(script), str(tmp_path / "pipeline"), *(text for text, _ in TEXTS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_min_score_leaves_out_what_is_less_certain(unsure: Language) -> None:
    pipe = get_pipe(unsure, "crf_ner")
    texts = [text for text, _ in TEXTS]
    every = [
        score for doc in plain(pipe.predict_scores([unsure.make_doc(text) for text in texts])) for *_, score in doc
    ]
    bar = float(numpy.median(every))
    assert min(every) < bar
    nlp = with_setting(unsure, min_score=bar, save_scores=True)
    kept = [score for text in texts for *_, score in saved(nlp(text))]
    assert len(kept) == sum(score >= bar for score in every)
    assert all(score >= bar for score in kept)
    assert [len(nlp(text).ents) for text in texts] == [len(saved(nlp(text))) for text in texts]
    # The scores themselves do not know the bar.
    again = get_pipe(nlp, "crf_ner").predict_scores([nlp.make_doc(text) for text in texts])
    assert len(every) == sum(map(len, again))


def test_min_score_is_a_probability() -> None:
    with pytest.raises(ValueError, match=r"min_score = 1\.5, but it is a probability"):
        spacy.blank("zh").add_pipe("crf_ner", config={"min_score": 1.5})


def test_the_group_bears_the_components_name_and_leaves_out_what_was_set_before(unsure: Language) -> None:
    nlp = spacy.blank("zh")
    nlp.add_pipe("crf_ner", name="finder", config={"model": SMALL_MODEL, "save_scores": True})
    get_pipe(nlp, "finder").from_bytes(get_pipe(unsure, "crf_ner").to_bytes())
    doc = nlp.make_doc(TEXTS[1][0])
    doc.set_ents([Span(doc, 0, 1, label="LOC")], default="missing")
    nlp.get_pipe("finder")(doc)
    assert (0, 1, "LOC") in [(ent.start, ent.end, ent.label_) for ent in doc.ents]
    assert len(saved(doc, "finder")) == len(doc.ents) - 1
    assert all(start > 0 for start, *_ in saved(doc, "finder"))


def test_a_second_pass_keeps_the_scores_of_the_first(unsure: Language) -> None:
    nlp = with_setting(unsure, save_scores=True)
    doc = nlp(TEXTS[1][0])
    first = saved(doc)
    assert len(first) > 1
    assert saved(nlp(doc)) == first
    doc.set_ents(list(doc.ents)[1:], default="outside")
    assert saved(nlp(doc))[-1] == first[-1]
    assert {x[:3] for x in saved(doc)} == {(ent.start, ent.end, ent.label_) for ent in doc.ents}


@pytest.mark.parametrize("lost", ["blocked", "blocked in part", "another label", "outside"])
def test_the_score_of_an_entity_that_a_later_pass_does_not_find_again_goes(unsure: Language, lost: str) -> None:
    nlp = with_setting(unsure, save_scores=True)
    doc = nlp(TEXTS[0][0])
    (start, end, label, _), *others = saved(doc)
    assert others and end - start > 1
    rest = list(doc.ents)[1:]
    if lost == "blocked":
        doc.set_ents(rest, blocked=[doc[start:end]], default="outside")
    elif lost == "blocked in part":
        doc.set_ents(rest, blocked=[doc[start : start + 1]], default="outside")
    elif lost == "another label":
        doc.set_ents([*rest, Span(doc, start, end, label="LOC" if label != "LOC" else "ORG")], default="outside")
    else:
        doc.set_ents(rest, missing=[doc[end : end + 1]], default="outside")
    get_pipe(nlp, "crf_ner")(doc)
    assert (start, end, label) not in [(ent.start, ent.end, ent.label_) for ent in doc.ents]
    assert (start, end, label) not in [x[:3] for x in saved(doc)]
    assert set(others) <= set(saved(doc))


def test_no_docs_are_no_error(unsure: Language) -> None:
    pipe = get_pipe(unsure, "crf_ner")
    assert pipe.predict_scores([]) == [] and pipe.predict_kbest([], 2) == []
    pipe.set_annotations([], pipe.predict([]))
    loss, gradient = pipe.get_loss([], pipe.predict([]))
    assert loss == 0.0 and not gradient.transitions.any()


def test_temperature_is_fitted_saved_and_changes_scores_alone(tmp_path: Path) -> None:
    nlp = half_trained()
    pipe = get_pipe(nlp, "crf_ner")
    # A model that makes no mistake could be as sure as it likes.
    held_out = [*examples_from(nlp), example_from(nlp, *TEXTS[4]), example_from(nlp, TEXTS[4][0], {})]
    before = plain(pipe.predict_scores([nlp.make_doc(text) for text, _ in TEXTS]))
    fitted = pipe.fit_temperature(held_out)
    assert fitted == pipe.temperature != 1.0
    after = plain(pipe.predict_scores([nlp.make_doc(text) for text, _ in TEXTS]))
    assert [[x[:3] for x in doc] for doc in after] == [[x[:3] for x in doc] for doc in before]
    assert [x[3] for doc in after for x in doc] != pytest.approx([x[3] for doc in before for x in doc], abs=1e-3)
    nlp.to_disk(tmp_path)
    assert get_pipe(spacy.load(tmp_path), "crf_ner").temperature == fitted
    pipe.initialize(lambda: examples_from(nlp), nlp=nlp)
    assert pipe.temperature == 1.0


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_that_is_none_is_refused(unsure: Language, value: float) -> None:
    with pytest.raises(ValueError, match="a finite number above 0"):
        get_pipe(unsure, "crf_ner").temperature = value


def test_a_temperature_needs_annotation(unsure: Language) -> None:
    example = example_from(unsure, "我在北京。", {"北京": "LOC"})
    example.reference.set_ents([], default="missing")
    pipe: CRFEntityRecognizer = get_pipe(unsure, "crf_ner")
    with pytest.raises(ValueError, match="no token of the examples is annotated"):
        pipe.fit_temperature([example])
    with pytest.raises(ValueError, match="no token of the examples is annotated"):
        pipe.fit_temperature([])


def test_missing_annotation_is_seen_beside_whitespace_too(unsure: Language) -> None:
    example = example_from(unsure, "我在北京。\n", {"北京": "LOC"})
    example.reference.set_ents([], default="missing")
    with pytest.raises(ValueError, match="no token of the examples is annotated"):
        get_pipe(unsure, "crf_ner").fit_temperature([example])


def test_labels_that_are_not_predicted_have_no_part_in_the_fit() -> None:
    nlp = half_trained()
    pipe = get_pipe(nlp, "crf_ner")
    held_out = [*examples_from(nlp), example_from(nlp, TEXTS[4][0], {}), example_from(nlp, TEXTS[0][0], {})]
    fitted = pipe.fit_temperature(held_out)
    for label in ("GAME", "TIME", "LAW"):
        pipe.add_label(label)
    assert pipe.fit_temperature(held_out) == pytest.approx(fitted, rel=1e-4)
    marked = example_from(nlp, "今天天气很好，大家都很高兴。", {"今天": "TIME"})
    assert pipe.fit_temperature([*held_out, marked]) > 0


def test_a_model_of_other_labels_is_refused(unsure: Language) -> None:
    nlp = with_setting(unsure)
    get_pipe(nlp, "crf_ner").cfg["labels"] = ["LOC"]
    with pytest.raises(ValueError, match="scores 7 tags, but the component's labels make 3"):
        nlp("我在北京。")
