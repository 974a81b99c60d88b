"""Where annotation is looked for in a record with a text, and how it is read there."""

from pathlib import Path
from typing import Any, Dict, List

import pytest

from spacy_crf_ner.formats.errors import FormatError
from spacy_crf_ner.formats.records import INCOMPLETE, UNANNOTATED
from tests.formats.json_util import entities, read, refused, write_records
from tests.formats.reading import found_in

TEXT = "王明去上海"
PER, LOC = (0, 2, "PER"), (3, 5, "LOC")
TAGS = ["B-PER", "I-PER", "O", "B-LOC", "I-LOC"]
LISTS: List[Any] = [[0, 2, "PER"], [3, 5, "LOC"]]
CMEEE: List[Dict[str, Any]] = [
    {"start_idx": 0, "end_idx": 1, "type": "PER", "entity": "王明"},
    {"start_idx": 3, "end_idx": 4, "type": "LOC", "entity": "上海"},
]
CCKS = [{"start_pos": 0, "end_pos": 2, "label_type": "PER"}, {"start_pos": 3, "end_pos": 5, "label_type": "LOC"}]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.jsonl"


def keyed(key: str, value: Any, **more: Any) -> Dict[str, Any]:
    return {"text": TEXT, key: value, **more}


RECORDS: List[Dict[str, Any]] = [
    keyed("ner", [{"start": s, "end": e, "labels": [label]} for s, e, label in LISTS]),
    keyed("tags", TAGS),
    keyed("ner_tags", TAGS),
    keyed("labels", TAGS),
    keyed("label", TAGS, tokens=list(TEXT)),
    keyed("annotation", [["PER", 0, 2], ["LOC", 3, 5]], tokens=["王明", "去", "上海"]),
    keyed("tags", ["B-PER", "O", "B-LOC"], tokens=["王明", "去", "上海"]),
    keyed("tags", ["B-PER", "O", "B-LOC"], tokens=[{"start": s, "end": e} for s, e in ((0, 2), (2, 3), (3, 5))]),
    keyed("spans", LISTS),
    keyed("annotations", [{"start_offset": s, "end_offset": e, "label": label} for s, e, label in LISTS]),
    keyed("entities", [{"start": s, "end": e, "type": label, "text": TEXT[s:e]} for s, e, label in LISTS]),
    keyed("ner", [{"start_char": s, "end_char": e, "entity_type": label} for s, e, label in LISTS]),
    keyed("entities", CMEEE),
    keyed("entities", [{**entity, "end_idx": int(entity["end_idx"]) + 1} for entity in CMEEE]),
    keyed("entity_list", [{"entity_index": {"begin": s, "end": e}, "entity_type": label, "entity": TEXT[s:e]}
                          for s, e, label in LISTS]),
    # Other keys that are not annotation are no obstacle.
    keyed("spans", LISTS, label="news", tags=["news", "sport"], annotation="checked"),
    keyed("label", LISTS, tags=[], ner=None),
    # Twice the same.
    keyed("spans", LISTS, ner_tags=TAGS, label=LISTS[::-1]),
]  # fmt: skip


@pytest.mark.parametrize("record", RECORDS)
def test_entities_are_read_under_every_key_and_in_all_words(path: Path, record: Dict[str, Any]) -> None:
    found = read("jsonl", write_records(path, record), lang="zh")
    assert entities(found.docs[0]) == [PER, LOC]
    assert found.docs[0].has_annotation("ENT_IOB")
    assert not found.notes
    assert found_in(path).ents == [[PER, LOC]]


@pytest.mark.parametrize(
    "annotation", [LISTS, TAGS, [["PER", 0, 2], ["LOC", 3, 5]], [{"start": 0, "end": 2, "label": "PER"}]]
)
def test_key_that_is_not_known(path: Path, annotation: Any) -> None:
    error = refused("jsonl", path, keyed("ents", annotation))
    assert error.what == "'ents' looks like annotation, and is not a key that is known"
    assert "--set label_key=ents" in error.fix
    with pytest.raises(FormatError, match="label_key=ents"):
        found_in(path)
    assert entities(read("jsonl", path, lang="zh", label_key="ents").docs[0])[0] == PER


def test_key_that_is_named_is_the_only_one(path: Path) -> None:
    records = [keyed("spans", LISTS, gold=LISTS[:1]), keyed("spans", LISTS), keyed("gold", [])]
    found = read("jsonl", write_records(path, *records), lang="zh", label_key="gold")
    assert [entities(doc) for doc in found.docs] == [[PER], [], []]
    assert [doc.has_annotation("ENT_IOB") for doc in found.docs] == [True, False, True]
    assert found.notes == {
        UNANNOTATED: 1,
        "records with 'spans', which looks like annotation and is not read": 2,
    }


@pytest.mark.parametrize("other", [LISTS[:1], [], [[0, 2, "LOC"], [3, 5, "LOC"]]])
@pytest.mark.parametrize("key", ["entities", "ner", "annotation"])
def test_keys_that_disagree_are_refused(path: Path, key: str, other: Any) -> None:
    error = refused("jsonl", path, keyed("spans", LISTS, **{key: other}))
    assert error.what == f'"spans" and "{key}" hold different annotation'
    assert "--set label_key=spans" in error.fix
    assert len(entities(read("jsonl", path, lang="zh", label_key=key).docs[0])) == len(other)


def test_prediction_beside_no_annotation_is_not_taken_for_it(path: Path) -> None:
    record = keyed("annotation", None, prediction=[["PER", 0, 2]])
    found = read("jsonl", write_records(path, record), lang="zh")
    assert not found.docs[0].has_annotation("ENT_IOB")
    assert found.notes["records with 'prediction', which looks like annotation and is not read"] == 1


def test_lists_that_are_no_annotation_are_meta(path: Path) -> None:
    more = {"chars": list("BEISO"), "pos": ["NN"] * 5, "numbers": [1, 2, 3], "topics": ["a-b"], "x": []}
    found = read("jsonl", write_records(path, {"text": TEXT, **more}), lang="zh")
    assert found.docs[0].user_data["meta"] == more
    assert found.notes == {UNANNOTATED: 1}


@pytest.mark.parametrize(
    ("settings", "tags"),
    [
        ({"scheme": "bioes"}, ["B-PER", "E-PER", "O", "B-LOC", "E-LOC"]),
        ({"scheme": "bmes", "spelling": "PER_B"}, ["PER_B", "PER_E", "O", "LOC_B", "LOC_E"]),
        ({"names": "O,B-PER,I-PER,B-LOC,I-LOC"}, [1, 2, 0, 3, 4]),
        ({"names": ["O", "B-PER", "E-PER", "B-LOC", "E-LOC", "S-LOC"]}, [1, 2, 0, 3, 4]),
        ({"repair": True}, ["I-PER", "I-PER", "O", "I-LOC", "I-LOC"]),
    ],
)
def test_tags_in_any_scheme(path: Path, settings: Dict[str, Any], tags: Any) -> None:
    found = read("jsonl", write_records(path, keyed("tags", tags)), lang="zh", **settings)
    assert entities(found.docs[0]) == [PER, LOC]
    if all(isinstance(tag, str) for tag in tags) and "repair" not in settings:
        assert found_in(path).ents == [[PER, LOC]]  # a look at the file tells scheme and spelling


def test_tokens_stand_in_the_text_with_its_spacing(path: Path) -> None:
    record = {"text": "  Ann  Lee\nleft ", "tokens": ["Ann", "Lee", "left"], "tags": ["B-PER", "I-PER", "O"]}
    (doc,) = read("jsonl", write_records(path, record)).docs
    assert (doc.text, entities(doc)) == (record["text"], [(2, 10, "PER")])


@pytest.mark.parametrize("record", [keyed("entities", CCKS), keyed("entities", [{**CCKS[0], "entity": "天"}])])
def test_ends_that_nothing_tells_are_asked_for(path: Path, record: Dict[str, Any]) -> None:
    settings: Dict[str, Any] = {"verify": False} if "entity" in record["entities"][0] else {}
    error = refused("jsonl", path, record, **settings)
    assert error.what == "nothing says whether the ends of entities are inclusive"
    assert "--set ends=inclusive" in error.fix and "--set ends=exclusive" in error.fix
    docs = read("jsonl", path, lang="zh", ends="exclusive", **settings).docs
    assert entities(docs[0])[0] == PER
    docs = read("jsonl", path, lang="zh", ends="inclusive", verify=False).docs[:1] if settings else []
    assert [entities(doc) for doc in docs] == [[(0, 3, "PER")]] * len(docs)


def test_ccks_is_told_with_its_text_key(path: Path) -> None:
    write_records(path, {"originalText": TEXT, "entities": CCKS})
    assert found_in(path, ends="exclusive").ents == [[PER, LOC]]


def test_mentions_decide_for_the_whole_file(path: Path) -> None:
    bare = [{key: value for key, value in entity.items() if key != "entity"} for entity in CMEEE]
    docs = read("jsonl", write_records(path, keyed("entities", CMEEE), keyed("entities", bare)), lang="zh").docs
    assert [entities(doc) for doc in docs] == [[PER, LOC]] * 2
    exclusive = [{**CMEEE[0], "end_idx": 2}]
    error = refused("jsonl", path, keyed("entities", CMEEE), keyed("entities", exclusive), line=2)
    assert error.what == "the end of '王明' is exclusive, and ends are inclusive in line 1"
    error = refused("jsonl", path, keyed("entities", [CMEEE[0], {**CMEEE[1], "end_idx": 5}]))
    assert error.what == "the end of '上海' is exclusive, and ends are inclusive in line 1"


def test_mention_that_is_not_there_is_refused(path: Path) -> None:
    error = refused("jsonl", path, keyed("entities", [{**CMEEE[0], "entity": "李四"}]))
    assert "'李四' should be at (0, 1)" in error.what
    error = refused("jsonl", path, keyed("entities", [CMEEE[0], {**CMEEE[1], "entity": "李四"}]))
    assert "'李四' should be at (3, 4), where there is '上海'" in error.what


def test_inclusive_ends_under_keys_that_say_otherwise_are_never_guessed(path: Path) -> None:
    items = [{"start": s, "end": e - 1, "label": label, "text": TEXT[s:e]} for s, e, label in (PER, LOC)]
    error = refused("jsonl", path, keyed("spans", items))
    assert "give --set ends=inclusive" in error.fix
    assert entities(read("jsonl", path, lang="zh", ends="inclusive").docs[0]) == [PER, LOC]
    # One entity that is wrong does not make ends inclusive.
    error = refused("jsonl", path, keyed("spans", [{**items[0], "end": 2}, items[1]]))
    assert "'上海' should be at (3, 4), where there is '上'" in error.what


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"ends": "both"}, "the setting ends is 'both'; choose one of exclusive, inclusive"),
        ({"label_key": 3}, "the setting label_key is 3; give the name of a key"),
        ({"text_key": None}, "the setting text_key is None; give the name of a key"),
        ({"names": ["O", 1]}, r"the setting names is \['O', 1\]; give the names in order"),
        ({"names": "O,,B-X"}, "the setting names is 'O,,B-X'; give the names in order"),
        ({"scheme": "x"}, "the setting scheme is 'x'; choose one of"),
    ],
)
def test_wrong_settings(path: Path, settings: Dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read("jsonl", write_records(path, {"text": "a"}), **settings)


@pytest.mark.parametrize(
    ("record", "what", "fix"),
    [
        (keyed("ner_tags", [1, 2, 0, 3, 4]), '"ner_tags" holds numbers', "--set names=O,B-PER,I-PER"),
        (keyed("tags", ["B-PER", "O"]), '"tags" holds 2 tags for 5 tokens', "one tag for each token"),
        (keyed("tags", ["S-PER", *TAGS[1:]]), "'S-PER' has the unknown prefix S-", "--format"),
        (keyed("tags", ["B", "I", "O", "O", "O"]), "tag 'B' of token '王' has no label", "--set type=LABEL"),
        (keyed("tags", ["B-X"], tokens=["王五"]), "token 0, '王五', does not follow in the text", "correct"),
        (keyed("tags", ["B-X"], tokens=["明"]), "token 0, '明', does not follow in the text", "correct"),
        (keyed("tags", ["B-X"], tokens=[{"start": 3, "end": 9}]), "token 0 is at (3, 9)", "from 0"),
        (keyed("ner", {"PER": 1}), '"ner" is an object', "write a list"),
        (keyed("ner", [["PER", 0]]), '"ner" holds a list', "[start, end, label]"),
        (keyed("annotation", [{"start": 0}]), 'an entity has no "label"', "write it"),
        (keyed("entity_list", [{"entity_index": {"begin": 0}, "type": "X"}]), 'has no "end"', "whole number"),
    ],
)
def test_what_is_refused(path: Path, record: Dict[str, Any], what: str, fix: str) -> None:
    error = refused("jsonl", path, keyed("spans", LISTS), record, line=2)
    assert what in error.what
    assert fix in error.fix


def test_region_without_a_place_or_a_label_leaves_the_rest_missing(path: Path) -> None:
    placed = {"start": 0, "end": 2, "labels": ["PER"]}
    paths = {"start": "/text()[1]", "end": "/text()[1]", "startOffset": 3, "endOffset": 5}
    for other in ({**paths, "labels": ["LOC"]}, {"start": 3, "end": 5}, {"start": 3, "end": 5, "labels": []}):
        found = read("jsonl", write_records(path, keyed("label", [placed, other])), lang="zh")
        assert [token.ent_iob for token in found.docs[0]] == [3, 1, 0, 0, 0]
        assert found.notes[INCOMPLETE] == 1
    whole = {**paths, "labels": ["LOC"], "globalOffsets": {"start": 3, "end": 5}, "text": "上海"}
    found = read("jsonl", write_records(path, keyed("label", [placed, whole])), lang="zh")
    assert (entities(found.docs[0]), dict(found.notes)) == ([PER, LOC], {})


BY_TOKEN: Dict[str, Any] = {"text": "Ann Lee left Rome", "tokens": ["Ann", "Lee", "left", "Rome"]}


@pytest.mark.parametrize(
    ("ends", "listed"),
    [
        ("exclusive", [[0, 2, "PER"], [3, 4, "LOC"]]),
        ("inclusive", [[0, 1, "PER"], [3, 3, "LOC"]]),
        ("exclusive", [{"start": 0, "end": 2, "label": "PER"}, {"start": 3, "end": 4, "type": "LOC"}]),
        (
            "inclusive",
            [{"start_idx": 0, "end_idx": 1, "type": "PER"}, {"start_idx": 3, "end_idx": 3, "type": "LOC"}],
        ),
    ],
)
def test_offsets_that_count_tokens_are_read_when_the_setting_says_so(path: Path, ends: str, listed: Any) -> None:
    write_records(path, {**BY_TOKEN, "entities": listed})
    found = read("jsonl", path, lang="en", offsets="tokens", ends=ends)
    assert [(ent.text, ent.label_) for ent in found.docs[0].ents] == [("Ann Lee", "PER"), ("Rome", "LOC")]
    error = refused("jsonl", path, {**BY_TOKEN, "entities": listed})
    assert "cuts a token of the record if offsets count characters" in error.what
    assert "--set offsets=tokens" in error.fix


def test_offsets_of_characters_beside_tokens_are_not_taken_for_token_numbers(path: Path) -> None:
    for listed in ([[0, 3, "PER"]], [[0, 2, "PER"]], [[13, 16, "LOC"]]):
        record = {**BY_TOKEN, "tokens": list(BY_TOKEN["text"].replace(" ", "")), "entities": listed}
        (doc,) = read("jsonl", write_records(path, record), lang="zh").docs
        assert len(doc.ents) == 1
    inside = {**BY_TOKEN, "entities": [[1, 3, "PER"]]}
    (doc,) = read("jsonl", write_records(path, inside), lang="en", offsets="characters").docs
    assert [ent.text for ent in doc.ents] == ["nn"]


def test_tokens_are_counted_only_where_they_are(path: Path) -> None:
    settings = {"offsets": "tokens", "ends": "exclusive"}
    for record, what in (
        ({"text": "Ann left", "entities": [[0, 1, "PER"]]}, "the record has no tokens to count"),
        ({**BY_TOKEN, "entities": [[3, 5, "LOC"]]}, "entity (3, 5) does not fit a text of 4 tokens"),
        ({**BY_TOKEN, "entities": [[2, 2, "LOC"]]}, "entity (2, 2) does not fit a text of 4 tokens"),
    ):
        with pytest.raises(FormatError) as caught:
            read("jsonl", write_records(path, record), lang="en", **settings)
        assert what in caught.value.what
    with pytest.raises(ValueError, match="the setting ends is None"):
        read("jsonl", write_records(path, BY_TOKEN), lang="en", offsets="tokens")
