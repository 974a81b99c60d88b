"""A teacher's potentials on disk: the same as in memory, and a run that was cut goes on."""

from itertools import islice
from pathlib import Path
from typing import Any, List

import numpy
import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc

from spacy_crf_ner.ner import teacher_cache
from spacy_crf_ner.ner.teacher_cache import KEY, TeacherCache
from tests.util import TEXTS, get_pipe, overfitted

READ = [text for text, _ in TEXTS] * 3 + ["北京"]


@pytest.fixture(scope="module")
def teacher() -> Language:
    return overfitted()


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher_cache, "SHARD_SIZE", 3)


def filled(folder: Path, teacher: Language, texts: List[str] = READ, **more: Any) -> TeacherCache:
    docs = map(teacher.make_doc, texts)
    return TeacherCache.fill(folder, teacher, "crf_ner", docs, made_of={"texts": len(texts)}, **more)


def numbered(nlp: Language, *numbers: int) -> List[Doc]:
    docs = [nlp.make_doc(READ[number]) for number in numbers]
    for doc, number in zip(docs, numbers):
        doc.user_data[KEY] = number
    return docs


def test_what_the_teacher_says_comes_back(teacher: Language, tmp_path: Path) -> None:
    done: List[int] = []
    cache = filled(tmp_path / "cache", teacher, progress=done.append)
    assert sum(done) == len(READ) == cache.about["n_docs"]
    assert cache.labels == ["LOC", "ORG", "PER"] and cache.inactive_labels == []
    numbers = [15, 0, 7, 2, 3]
    docs = numbered(spacy.blank("zh"), *numbers)
    expected = get_pipe(teacher, "crf_ner").predict([teacher.make_doc(READ[number]) for number in numbers])
    found = cache.potentials_of(docs)
    assert found.emissions.lengths.tolist() == expected.emissions.lengths.tolist()
    for ours, theirs in zip(found.arrays, expected.arrays):
        assert ours.dtype == "float32"
        # Half precision on disk.
        numpy.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)


def test_a_run_that_was_cut_goes_on(teacher: Language, tmp_path: Path) -> None:
    whole = filled(tmp_path / "whole", teacher)

    class Cut(Exception):
        pass

    def cut(texts: List[str]) -> Any:
        for i, text in enumerate(texts):
            if i == 7:
                raise Cut
            yield teacher.make_doc(text)

    folder = tmp_path / "cut"
    with pytest.raises(Cut):
        TeacherCache.fill(folder, teacher, "crf_ner", cut(READ), made_of={"texts": len(READ)})
    with pytest.raises(FileNotFoundError, match="no complete cache"):
        TeacherCache(folder)
    first = folder / "emissions-00000.npy"
    before = first.stat().st_mtime_ns
    cache = filled(folder, teacher)
    assert first.stat().st_mtime_ns == before
    docs = numbered(spacy.blank("zh"), *range(len(READ)))
    for ours, theirs in zip(cache.potentials_of(docs).arrays, whole.potentials_of(docs).arrays):
        assert numpy.array_equal(ours, theirs)


def test_the_docs_come_in_another_order_each_time_and_all_of_them(teacher: Language, tmp_path: Path) -> None:
    nlp = spacy.blank("zh")
    stream = filled(tmp_path / "cache", teacher).examples(nlp, seed=1)
    rounds = [list(islice(stream, len(READ))) for _ in range(2)]
    orders = [[example.predicted.user_data[KEY] for example in found] for found in rounds]
    assert all(sorted(order) == list(range(len(READ))) for order in orders)
    assert orders[0] != orders[1]
    assert all(e.predicted.text == READ[e.predicted.user_data[KEY]] for found in rounds for e in found)


def test_another_teacher_or_other_texts_are_refused(teacher: Language, tmp_path: Path) -> None:
    filled(tmp_path / "cache", teacher)
    with pytest.raises(ValueError, match="is of another teacher or of other texts; name another folder"):
        filled(tmp_path / "cache", teacher, READ[1:])


def test_docs_that_the_teacher_has_not_read_are_refused(teacher: Language, tmp_path: Path) -> None:
    cache = filled(tmp_path / "cache", teacher)
    (doc,) = numbered(spacy.blank("zh"), 0)
    doc.user_data[KEY] = 15
    with pytest.raises(ValueError, match="doc 15 must have the teacher's 2 tokens, got 11"):
        cache.potentials_of([doc])
    with pytest.raises(ValueError, match="no number of the teacher's"):
        cache.potentials_of([spacy.blank("zh").make_doc("北京")])
