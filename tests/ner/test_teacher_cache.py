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
    emissions: Any
    theirs: Any
    (emissions, *others), (theirs, *their_others) = found.arrays, expected.arrays
    assert all(x.dtype == "float32" for x in found.arrays)
    # The greatest of a token is 0: that changes no distribution, and half precision is exact about it.
    assert emissions.max(axis=1).tolist() == [0.0] * len(emissions)
    differences = theirs - theirs.max(axis=1, keepdims=True)
    numpy.testing.assert_allclose(emissions, differences, rtol=1e-3, atol=1e-3)
    for ours, theirs in zip(others, their_others):
        numpy.testing.assert_array_equal(ours, theirs)


def test_scores_beyond_half_precision_come_back_too(tmp_path: Path) -> None:
    """A tag that was impossible still is, and the others are as far apart as they were."""
    nlp = overfitted()
    pipe = get_pipe(nlp, "crf_ner")
    predict = pipe.predict

    def far(docs: Any) -> Any:
        potentials = predict(docs)
        potentials.emissions.data[:] += 2e5
        potentials.emissions.data[:, 1] = -1e9
        return potentials

    pipe.predict = far
    cache = filled(tmp_path / "cache", nlp)
    found: Any = cache.potentials_of(numbered(spacy.blank("zh"), 0)).arrays[0]
    expected: Any = predict([nlp.make_doc(READ[0])]).arrays[0]
    rest = [0, *range(2, found.shape[1])]
    best = expected[:, rest].max(axis=1, keepdims=True)
    # 2e5 leaves float32 two digits after the point.
    numpy.testing.assert_allclose(found[:, rest], expected[:, rest] - best, atol=0.05)
    assert (found[:, 1] < -60_000).all() and numpy.isfinite(found).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_scores_that_are_no_numbers_are_refused(tmp_path: Path, bad: float) -> None:
    nlp = overfitted()
    pipe = get_pipe(nlp, "crf_ner")
    predict = pipe.predict

    def broken(docs: Any) -> Any:
        potentials = predict(docs)
        potentials.emissions.data[3, 0] = bad
        return potentials

    pipe.predict = broken
    with pytest.raises(ValueError, match="the teacher's scores are not finite numbers; train it anew"):
        filled(tmp_path / "cache", nlp)


def test_a_first_batch_without_tokens_does_no_harm(teacher: Language, tmp_path: Path) -> None:
    cache = TeacherCache.fill(tmp_path, teacher, "crf_ner", [], ["", "北京"], made_of={})
    start, transitions, end = cache.potentials_of([]).arrays[1:]
    expected = get_pipe(teacher, "crf_ner").predict([teacher.make_doc("北京")]).arrays[1:]
    for ours, theirs in zip((start, transitions, end), expected):
        numpy.testing.assert_array_equal(ours, theirs)


def test_a_teacher_reads_with_the_pipes_that_come_before(tmp_path: Path) -> None:
    """Functions too, which no `predict` has; and of two recognizers, the one that is named."""
    calls: List[str] = []

    @Language.component("test_teacher_cache_noting")
    def noting(doc: Doc) -> Doc:
        calls.append(doc.text)
        return doc

    nlp = overfitted()
    other: Any = nlp.add_pipe("crf_ner", name="other", first=True)
    other.initialize(lambda: [Example(nlp.make_doc("北京"), annotated(nlp, "北京"))], nlp=nlp)
    nlp.add_pipe("test_teacher_cache_noting", before="crf_ner")
    expected = overfitted()
    filled(tmp_path / "cache", nlp)
    assert calls == READ
    filled(tmp_path / "expected", expected)
    docs = numbered(spacy.blank("zh"), *range(len(READ)))
    ours: Any
    for ours, theirs in zip(
        TeacherCache(tmp_path / "cache").potentials_of(docs).arrays,
        TeacherCache(tmp_path / "expected").potentials_of(docs).arrays,
    ):
        assert (ours == theirs).all()
    with pytest.raises(ValueError, match="holds what another teacher says"):
        TeacherCache.fill(tmp_path / "cache", nlp, "other", [], READ, made_of={"texts": len(READ)})


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
    with pytest.raises(ValueError, match="doc 15 must have the teacher's 2 tokens, got 11, or others; make both"):
        cache.potentials_of([doc])
    # As many tokens, but others.
    words = [token.text for token in doc]
    doc = Doc(doc.vocab, [words[0] + words[1][:0] + "很", *words[1:]], user_data={KEY: 0})
    with pytest.raises(ValueError, match="doc 0 must have the teacher's 11 tokens, got 11, or others"):
        cache.potentials_of([doc])
    with pytest.raises(ValueError, match="no number among those that the teacher has read"):
        cache.potentials_of([spacy.blank("zh").make_doc("北京")])
