import json
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spacy_crf_ner.formats.doc_builder import MISSING_WRITTEN, DocMaker
from spacy_crf_ner.formats.errors import FormatError
from spacy_crf_ner.formats.huggingface import NO_RELATIONS, SPACING, write_huggingface
from spacy_crf_ner.formats.records import UNANNOTATED
from spacy_crf_ner.formats.source import Source
from tests.formats.json_util import BLANK, back, entities, read, refused, write_records
from tests.formats.reading import found_in, text_of
from tests.formats.util import sentences
from tests.util import n_drawn

TOKENS = ["Ann", "Lee", "left", "Rome"]
TAGS = ["B-PER", "I-PER", "O", "B-LOC"]
ANN, ROME = (0, 7, "PER"), (13, 17, "LOC")
NUMBERS = [1, 2, 0, 3]
NAMES = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "train.jsonl"


@pytest.mark.parametrize(
    ("record", "options"),
    [
        ({"tokens": TOKENS, "ner_tags": TAGS}, {}),
        ({"tokens": TOKENS, "tags": TAGS}, {}),
        ({"words": TOKENS, "labels": TAGS}, {}),
        ({"words": TOKENS, "ner": TAGS}, {}),
        ({"tokens": TOKENS, "ner_tags": NUMBERS}, {"names": NAMES}),
        ({"tokens": TOKENS, "tags": NUMBERS}, {"names": ",".join(NAMES)}),
        ({"tokens": TOKENS, "ner_tags": NUMBERS}, {"names": "O, B-PER, E-PER, S-LOC"}),
        ({"tokens": TOKENS, "ner_tags": NUMBERS}, {"names": "O,PER_B,PER_E,LOC_S", "spelling": "PER_B"}),
        ({"tokens": TOKENS, "ner_tags": ["B-PER", "E-PER", "O", "S-LOC"]}, {"scheme": "bioes"}),
        ({"tokens": TOKENS, "ner_tags": ["PER_B", "PER_I", "O", "LOC_B"]}, {"spelling": "PER_B"}),
        ({"tokens": TOKENS, "ner_tags": ["I-PER", "I-PER", "O", "I-LOC"]}, {"scheme": "iob1"}),
        ({"tokens": TOKENS, "ner_tags": ["I-PER", "I-PER", "O", "I-LOC"]}, {"repair": True}),
        ({"tokens": TOKENS, "ner_tags": TAGS, "tags": ["NNP", "NNP", "VBD", "NNP"]}, {}),
    ],
)
def test_tags(path: Path, record: Dict[str, Any], options: Dict[str, Any]) -> None:
    found = read("huggingface", write_records(path, record, record), **options)
    assert [(doc.text, entities(doc)) for doc in found.docs] == [("Ann Lee left Rome", [ANN, ROME])] * 2
    given = options if "names" in options else {}
    assert found_in(path, lang="en", **given).ents == [[ANN, ROME]] * 2  # a look at the file tells the rest


def test_tags_without_labels(path: Path) -> None:
    record = {"tokens": ["p53", "binds"], "ner_tags": ["B", "O"]}
    docs = read("huggingface", write_records(path, record), type="GENE").docs
    assert entities(docs[0]) == [(0, 3, "GENE")]
    assert "--set type=LABEL" in refused("huggingface", path, record).fix


def test_keys_that_are_named(path: Path) -> None:
    record = {"forms": TOKENS, "gold": TAGS, "ner_tags": ["O"] * 4}
    doc = read("huggingface", write_records(path, record), token_key="forms", label_key="gold").docs[0]
    assert entities(doc) == [ANN, ROME]
    assert doc.user_data["meta"] == {"ner_tags": ["O"] * 4}


def test_other_columns_are_meta(path: Path) -> None:
    record = {"id": "7", "tokens": TOKENS, "pos_tags": [1, 1, 2, 1], "chunk_tags": ["B-NP"] * 4, "ner_tags": TAGS}
    found = read("huggingface", write_records(path, record))
    assert found.docs[0].user_data["meta"] == {"id": "7", "pos_tags": [1, 1, 2, 1], "chunk_tags": ["B-NP"] * 4}
    assert not found.notes


def test_record_without_tags_is_not_annotated(path: Path) -> None:
    records: List[Any] = [{"tokens": TOKENS}, {"tokens": TOKENS, "ner_tags": None}, {"tokens": [], "ner_tags": []}]
    docs, make = read("huggingface", write_records(path, *records))
    assert [doc.has_annotation("ENT_IOB") for doc in docs[:2]] == [False, False]
    assert (make.counts.notes[UNANNOTATED], make.counts.empty) == (2, 1)


@pytest.mark.parametrize(
    ("record", "options", "what", "fix"),
    [
        ({"ner_tags": TAGS}, {}, 'the record has no "tokens"', "a list"),
        ({"tokens": "a b", "ner_tags": []}, {}, "\"tokens\" of the record is the string 'a b'", "write a list"),
        ({"tokens": ["a", ""], "ner_tags": ["O", "O"]}, {}, "token 1 is empty", "delete it and its tag"),
        ({"tokens": ["a", 1], "ner_tags": ["O", "O"]}, {}, "token 1 is 1", "write a string"),
        ({"tokens": TOKENS, "ner_tags": TAGS[1:]}, {}, '"ner_tags" holds 3 tags for 4 tokens', "for each token"),
        ({"tokens": TOKENS, "ner_tags": "O O O O"}, {}, "\"ner_tags\" is the string 'O O O O'", "write a list"),
        ({"tokens": TOKENS, "ner_tags": NUMBERS}, {}, '"ner_tags" holds numbers', "--set names=O,B-PER,I-PER"),
        (
            {"tokens": TOKENS, "ner_tags": NUMBERS},
            {"names": "O,B-X"},
            '"ner_tags" holds 2, and there are 2',
            "all",
        ),
        ({"tokens": TOKENS, "ner_tags": [-100, 0, 0, 0]}, {"names": NAMES}, '"ner_tags" holds -100', "all names"),
        ({"tokens": TOKENS, "ner_tags": ["O", None, "O", "O"]}, {}, '"ner_tags" holds null', "for each token"),
        ({"tokens": TOKENS, "ner_tags": ["S-X", "O", "O", "O"]}, {}, "'S-X' has the unknown prefix S-", "format"),
        ({"tokens": TOKENS, "ner_tags": ["I-X", "O", "O", "O"]}, {}, "'I-X' continues no X entity", "--repair"),
        ({"tokens": TOKENS, "ner_tags": TAGS, "tags": ["O"] * 4}, {}, "hold different tags", "label_key=ner_tags"),
        ({"tokens": TOKENS, "gold": TAGS}, {}, "'gold' looks like annotation", "--set label_key=gold"),
        ({"tokens": TOKENS, "tags": ["NN"] * 4}, {}, "tag 'NN' is not a tag of bio", "write O"),
    ],
)
def test_what_is_refused(path: Path, record: Dict[str, Any], options: Dict[str, Any], what: str, fix: str) -> None:
    error = refused("huggingface", path, {"tokens": ["a"]}, record, line=2, **options)
    assert what in error.what
    assert fix in error.fix


def test_numbers_are_refused_by_auto_with_what_to_give(path: Path) -> None:
    write_records(path, {"tokens": TOKENS, "ner_tags": NUMBERS})
    with pytest.raises(FormatError, match="--set names=O,B-PER,I-PER"):
        found_in(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=n_drawn(60))
@given(written=st.lists(sentences(), min_size=1, max_size=3), lang=st.sampled_from(["zh", "en"]))
def test_round_trip(path: Path, written: Any, lang: str) -> None:
    records = [
        {"tokens": [token for token, _ in columns], "ner_tags": [tag for _, tag in columns], "id": i}
        for i, columns in enumerate(written)
    ]
    docs = read("huggingface", write_records(path, *records), lang=lang).docs
    notes: Counter[str] = Counter()
    path.write_text("".join(text_of(write_huggingface, doc, notes) for doc in docs), encoding="utf8")
    again = read("huggingface", path, lang=lang).docs
    assert set(notes) <= {SPACING}
    assert notes[SPACING] == sum(doc.text != other.text for doc, other in zip(docs, again))
    for doc, other in zip(docs, again):
        assert other.user_data["meta"] == doc.user_data["meta"]
        assert [ent.label_ for ent in other.ents] == [ent.label_ for ent in doc.ents]
        if other.text == doc.text:
            assert entities(other) == entities(doc)


def test_chinese_with_spaces_loses_no_character(path: Path) -> None:
    make = DocMaker(lambda: BLANK["zh"])
    doc = make.from_text("王 明 去", [(0, 3, "PER")], Source(path), 1, meta={"id": 1})
    assert json.loads(text_of(write_huggingface, doc)) == {
        "tokens": ["王", " ", "明", " ", "去"],
        "ner_tags": ["B-PER", "I-PER", "I-PER", "O", "O"],
        "id": 1,
    }
    again = back("huggingface", path, [doc], lang="zh").docs[0]
    assert (again.text, entities(again)) == (doc.text, entities(doc))


def test_what_tags_cannot_hold_is_noted(path: Path) -> None:
    make = DocMaker(lambda: BLANK["en"])
    spans = [(0, 1, "A"), (2, 3, "A")]
    doc = make.from_text("a b  c", spans, Source(path), 1, meta={"tags": ["x"]}, relations=[("R", 0, 1)])
    doc.set_ents(list(doc.ents), default="missing")
    notes: Counter[str] = Counter()
    assert json.loads(text_of(write_huggingface, doc, notes))["ner_tags"] == ["B-A", "B-A", "O", "O"]
    assert notes[SPACING] == notes[NO_RELATIONS] == 1
    assert notes[MISSING_WRITTEN] == 2
    assert any("'tags'" in note for note in notes)
    missing = make.nlp.make_doc("a b")
    assert json.loads(text_of(write_huggingface, missing)) == {"tokens": ["a", "b"]}
