"""A teacher's potentials on disk: the same as in memory, and a run that was cut goes on."""

import random
from collections import Counter
from pathlib import Path
from typing import Any, List

import numpy
import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.training import Example

from spacy_crf_ner.ner import teacher_cache
from spacy_crf_ner.ner.teacher_cache import KEY, TaughtCorpus, TeacherCache, lesson_from_cache
from tests.util import TEXTS, get_pipe, overfitted

READ = [text for text, _ in TEXTS] * 3 + ["北京"]
N_GOLD = 6
"""Of those that are read, the first are annotated."""


@pytest.fixture(scope="module")
def teacher() -> Language:
    return overfitted()


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher_cache, "SHARD_SIZE", 3)


def filled(folder: Path, teacher: Language, texts: List[str] = READ, **more: Any) -> TeacherCache:
    gold = [Example(teacher.make_doc(text), annotated(teacher, text)) for text in texts[:N_GOLD]]
    return TeacherCache.fill(
        folder, teacher, "crf_ner", gold, texts[N_GOLD:], made_of={"texts": len(texts)}, **more
    )


def annotated(nlp: Language, text: str) -> Doc:
    doc = nlp.make_doc(text)
    doc.ents = [Span(doc, 0, 1, "ORG")]
    return doc


def numbered(nlp: Language, *numbers: int) -> List[Doc]:
    docs = [nlp.make_doc(READ[number]) for number in numbers]
    for doc, number in zip(docs, numbers):
        doc.user_data[KEY] = number
    return docs


def test_what_the_teacher_says_comes_back(teacher: Language, tmp_path: Path) -> None:
    done: List[int] = []
    cache = filled(tmp_path / "cache", teacher, progress=done.append)
    assert sum(done) == len(READ) == sum(cache.about["n_docs"].values())
    assert cache.labels == ["LOC", "ORG", "PER"] and cache.inactive_labels == []
    numbers = [15, 0, 7, 2, 3]
    docs = numbered(spacy.blank("zh"), *numbers)
    expected = get_pipe(teacher, "crf_ner").predict([teacher.make_doc(READ[number]) for number in numbers])
    found = cache.potentials_of(docs)
    assert found.emissions.lengths.tolist() == expected.emissions.lengths.tolist()
    ours: Any
    for ours, theirs in zip(found.arrays, expected.arrays):
        assert ours.dtype == "float32"
        # Half precision on disk.
        numpy.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)


def test_a_run_that_was_cut_goes_on(teacher: Language, tmp_path: Path) -> None:
    whole = filled(tmp_path / "whole", teacher)

    class Cut(Exception):
        pass

    def cut() -> Any:
        for i, text in enumerate(READ[N_GOLD:]):
            if i == 7:
                raise Cut
            yield text

    folder = tmp_path / "cut"
    gold = [Example(teacher.make_doc(text), annotated(teacher, text)) for text in READ[:N_GOLD]]
    with pytest.raises(Cut):
        TeacherCache.fill(folder, teacher, "crf_ner", gold, cut(), made_of={"texts": len(READ)})
    with pytest.raises(FileNotFoundError, match="no complete cache"):
        TeacherCache(folder)
    done = sorted(folder.glob("emissions-*.npy"))
    assert len(done) == 4
    before = [path.stat().st_mtime_ns for path in done]
    cache = filled(folder, teacher)
    assert [path.stat().st_mtime_ns for path in done] == before
    docs = numbered(spacy.blank("zh"), *range(len(READ)))
    ours: Any
    for ours, theirs in zip(cache.potentials_of(docs).arrays, whole.potentials_of(docs).arrays):
        assert (ours == theirs).all()


def test_the_docs_come_in_another_order_each_time_and_all_of_them(teacher: Language, tmp_path: Path) -> None:
    nlp = spacy.blank("zh")
    filled(tmp_path / "cache", teacher)
    corpus = TaughtCorpus(tmp_path / "cache", gold_repeats=2)
    rounds = [list(corpus(nlp)) for _ in range(2)]
    orders = [[example.predicted.user_data[KEY] for example in found] for found in rounds]
    for order in orders:
        assert Counter(order) == {number: 2 if number < N_GOLD else 1 for number in range(len(READ))}
    assert orders[0] != orders[1]
    for example in rounds[0]:
        number = example.predicted.user_data[KEY]
        assert example.predicted.text == example.reference.text == READ[number]
        assert [ent.label_ for ent in example.reference.ents] == ["ORG"] * (number < N_GOLD)
        assert example.reference.has_annotation("ENT_IOB") == (number < N_GOLD)
    again = TaughtCorpus(tmp_path / "cache", gold_repeats=2)(nlp)
    assert [example.predicted.user_data[KEY] for example in again] == orders[0]


def test_few_shards_are_in_memory(teacher: Language, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher_cache, "SHARDS_AT_A_TIME", 1)
    cache = filled(tmp_path / "cache", teacher)
    order = [example.predicted.user_data[KEY] for example in cache.examples(spacy.blank("zh"), random.Random(0))]
    shards = [number // 3 for number in order]
    assert shards == sorted(shards, key=shards.index)


def test_a_pipe_that_is_initialized_with_a_lesson_learns_it(teacher: Language, tmp_path: Path) -> None:
    cache = filled(tmp_path / "cache", teacher)
    lesson = lesson_from_cache(tmp_path / "cache", alpha=1.0, temperature=1.0)
    nlp = spacy.blank("zh")
    pipe: Any = nlp.add_pipe("crf_ner")
    examples = list(cache.examples(nlp, random.Random(0)))
    pipe.initialize(lambda: examples, nlp=nlp, labels=["PER", "LOC", "ORG"], lesson=lesson)
    potentials = pipe.predict([example.predicted for example in examples])
    loss, _ = pipe.get_loss(examples, potentials)
    expected, _ = lesson.divergence([example.predicted for example in examples], potentials, pipe.labels)
    assert loss == expected > 0
    with pytest.raises(ValueError, match=r"lacks \['LOC'\]|lacks \[LOC\]"):
        pipe = spacy.blank("zh").add_pipe("crf_ner")
        pipe.initialize(lambda: examples, nlp=nlp, labels=["PER", "ORG"], lesson=lesson)


def test_another_teacher_or_other_texts_are_refused(teacher: Language, tmp_path: Path) -> None:
    filled(tmp_path / "cache", teacher)
    with pytest.raises(ValueError, match="holds what another teacher says, or of other texts; name another"):
        filled(tmp_path / "cache", teacher, READ[:-1])


def test_docs_that_the_teacher_has_not_read_are_refused(teacher: Language, tmp_path: Path) -> None:
    cache = filled(tmp_path / "cache", teacher)
    (doc,) = numbered(spacy.blank("zh"), 0)
    doc.user_data[KEY] = 15
    with pytest.raises(ValueError, match="doc 15 must have the teacher's 2 tokens, got 11"):
        cache.potentials_of([doc])
    with pytest.raises(ValueError, match="no number among those that the teacher has read"):
        cache.potentials_of([spacy.blank("zh").make_doc("北京")])
