from pathlib import Path
from typing import Any, Dict, Tuple

import pytest

from spacy_crf_ner.formats.records import INCOMPLETE
from spacy_crf_ner.formats.uie import RELATION_PROMPTS
from tests.formats.json_util import entities, read, refused, write_records
from tests.formats.reading import found_in

ZHANG, LI = "张三生于北京", "李四去了"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "train.txt"


def asked(content: str, prompt: str, *places: Tuple[int, int]) -> Dict[str, Any]:
    results = [{"text": content[start:end], "start": start, "end": end} for start, end in places]
    return {"content": content, "result_list": results, "prompt": prompt}


WHOLE = [
    asked(ZHANG, "人名", (0, 2)),
    asked(LI, "人名", (0, 2)),
    asked(LI, "地名"),
    asked(ZHANG, "张三的出生地", (4, 6)),
    asked(ZHANG, "地名", (4, 6)),
]


def test_records_of_a_text_are_one_doc_wherever_they_are(path: Path) -> None:
    found = read("uie", write_records(path, *WHOLE), lang="zh")
    assert [doc.text for doc in found.docs] == [ZHANG, LI]
    assert [entities(doc) for doc in found.docs] == [[(0, 2, "人名"), (4, 6, "地名")], [(0, 2, "人名")]]
    assert found.notes == {RELATION_PROMPTS: 1}
    assert found_in(path).ents == [entities(doc) for doc in found.docs]


def test_label_that_a_text_is_not_asked_for_is_missing(path: Path) -> None:
    write_records(path, *WHOLE[:2], *WHOLE[3:])
    found = read("uie", path, lang="zh")
    assert [[token.ent_iob for token in doc] for doc in found.docs] == [[3, 1, 2, 2, 3, 1], [3, 1, 0, 0]]
    assert found.notes == {RELATION_PROMPTS: 1, INCOMPLETE: 1}
    found = read("uie", path, lang="zh", complete=True)
    assert [token.ent_iob for token in found.docs[1]] == [3, 1, 2, 2]


@pytest.mark.parametrize(
    ("content", "prompt"),
    [(ZHANG, "张三的出生地"), ("Ann was born in Rome", "place of birth of Ann"), (ZHANG, "张三的父亲的名字")],
)
def test_prompt_for_a_relation_is_left_out(path: Path, content: str, prompt: str) -> None:
    found = read(
        "uie", write_records(path, asked(content, "X", (0, 2)), asked(content, prompt, (3, 5))), lang="zh"
    )
    assert [label for *_, label in entities(found.docs[0])] == ["X"]
    assert found.notes == {RELATION_PROMPTS: 1}


def test_label_may_look_like_a_relation(path: Path) -> None:
    label = "公司的名称"
    records = [asked("公司叫百度", label, (3, 5)), asked("他去了", label), asked("date of it", "date of issue")]
    found = read("uie", write_records(path, *records), lang="zh", complete=True)
    assert [entities(doc) for doc in found.docs] == [[(3, 5, label)], [], []]
    assert not found.notes


def test_prompt_for_a_class_is_left_out(path: Path) -> None:
    record = {**asked(LI, "情感倾向[正向,负向]"), "result_list": [{"text": "正向", "start": -6, "end": -4}]}
    found = read("uie", write_records(path, record, asked(LI, "人名", (0, 2)), asked(ZHANG, record["prompt"])))
    assert found.notes[RELATION_PROMPTS] == 2


def test_other_keys_of_the_first_record_are_meta(path: Path) -> None:
    records = [{**WHOLE[0], "id": 1}, {**WHOLE[4], "id": 2}]
    assert read("uie", write_records(path, *records), lang="zh").docs[0].user_data["meta"] == {"id": 1}


@pytest.mark.parametrize(
    ("record", "what", "fix"),
    [
        ({"content": "a", "prompt": "X"}, '"result_list" is null', "write a list"),
        ({"content": "a", "result_list": []}, 'the record has no "prompt"', "a string"),
        ({**asked("a", " ")}, 'the "prompt" is empty', "write the label"),
        ({**asked("ab", "X"), "result_list": [{"start": 0}]}, 'a result has no "end"', "a whole number"),
        (asked("ab", "X", (0, 3)), "ends beyond the text of 2 characters", "correct it"),
        (asked("ab", "X", (-2, -1)), "holds no text", "from 0"),
        (
            {**asked("ab", "X"), "result_list": [{"start": 0, "end": 1, "text": "b"}]},
            "'b' should be at",
            "correct",
        ),
    ],
)
def test_what_is_refused(path: Path, record: Dict[str, Any], what: str, fix: str) -> None:
    error = refused("uie", path, WHOLE[0], record, line=2)
    assert what in error.what
    assert fix in error.fix


def test_setting_is_checked(path: Path) -> None:
    with pytest.raises(ValueError, match="the setting complete is 'yes'; give true or false"):
        read("uie", write_records(path, *WHOLE), complete="yes")
