import json
import logging
import random
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from spacy.language import Language
from spacy.tokens import Doc, DocBin, Span
from spacy.training import Example
from spacy.training.initialize import init_nlp
from spacy.training.loop import train
from spacy.util import load_config_from_str, registry

from spacy_crf_ner.corpus.annotated_corpus import AnnotatedCorpus, split_at_sentences
from spacy_crf_ner.formats.errors import FormatError
from tests.formats.reading import BLANK, put
from tests.util import SMALL_MODEL, get_pipe

BIO = "张 B-PER\n三 I-PER\n\n李 B-PER\n四 I-PER\n来 O\n\n去 O\n\n在 O\n北 B-LOC\n京 I-LOC\n。 O\n"
TEXTS = ["张三", "李四来", "去", "在北京。"]


def texts(corpus: AnnotatedCorpus, nlp: Language = BLANK["zh"]) -> List[str]:
    return [example.reference.text for example in corpus(nlp)]


def logged(caplog: pytest.LogCaptureFixture, corpus: AnnotatedCorpus) -> List[str]:
    caplog.set_level(logging.INFO, logger="spacy")
    caplog.clear()
    corpus._told.clear()  # it tells once
    list(corpus(BLANK["zh"]))
    return caplog.messages


@pytest.fixture
def bio(tmp_path: Path) -> Path:
    return put(tmp_path, BIO, "a.bio")


def test_examples_have_the_tokens_of_the_pipeline_and_the_entities_of_the_file(bio: Path) -> None:
    examples = list(AnnotatedCorpus(bio)(BLANK["zh"]))
    assert [example.reference.text for example in examples] == TEXTS
    assert [example.get_aligned_ner() for example in examples] == [
        ["B-PER", "L-PER"],
        ["B-PER", "L-PER", "O"],
        ["O"],
        ["O", "B-LOC", "L-LOC", "O"],
    ]
    for example in examples:
        assert example.predicted.vocab is example.reference.vocab is BLANK["zh"].vocab
        assert not example.predicted.ents
        assert [token.text for token in example.predicted] == [token.text for token in example.reference]


def test_every_call_reads_the_same(bio: Path) -> None:
    corpus = AnnotatedCorpus(bio)
    assert texts(corpus) == texts(corpus) == TEXTS


def test_paths_of_any_kind(tmp_path: Path, bio: Path) -> None:
    cluener = put(tmp_path, '{"text": "人", "label": {}}\n', "folder/b.json")
    assert texts(AnnotatedCorpus(str(bio))) == TEXTS
    assert texts(AnnotatedCorpus([str(cluener), bio])) == ["人", *TEXTS]
    assert texts(AnnotatedCorpus(cluener.parent)) == ["人"]


def test_format_and_its_settings(tmp_path: Path) -> None:
    path = put(tmp_path, "科0\tB-A\n技1\tI-A\n全0\tI-A\n")
    (example,) = AnnotatedCorpus(path, format="bio", settings={"positions": True, "repair": True})(BLANK["zh"])
    assert example.get_aligned_ner() == ["B-A", "I-A", "L-A"]
    with pytest.raises(ValueError, match="no format 'iob2' can be read"):
        texts(AnnotatedCorpus(path, format="iob2"))
    with pytest.raises(ValueError, match="has no setting 'position'"):
        texts(AnnotatedCorpus(path, format="bio", settings={"position": True}))


def test_bad_line_is_named(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"a\.txt:2: tag 'I-A' continues no A entity"):
        texts(AnnotatedCorpus(put(tmp_path, "中 O\n国 I-A\n"), format="bio"))


def test_spans_key_keeps_entities_that_overlap(tmp_path: Path) -> None:
    record = {"text": "北京大学在。", "label": {"LOC": {"北京": [[0, 1]]}, "ORG": {"北京大学": [[0, 3]]}}}
    path = put(tmp_path, json.dumps(record) + "\n")
    (example,) = AnnotatedCorpus(path, spans_key="sc")(BLANK["zh"])
    assert [span.text for span in example.reference.spans["sc"]] == ["北京", "北京大学"]
    assert [span.label_ for span in example.reference.spans["sc"]] == ["LOC", "ORG"]
    assert [ent.text for ent in example.reference.ents] == ["北京大学"]
    (example,) = AnnotatedCorpus(path)(BLANK["zh"])
    assert not example.reference.spans


@pytest.mark.parametrize(("min_length", "n_kept"), [(0, 4), (1, 4), (2, 3), (3, 2), (4, 1), (5, 0)])
def test_shorter_docs_are_left_out_and_their_number_is_logged(
    bio: Path, caplog: pytest.LogCaptureFixture, min_length: int, n_kept: int
) -> None:
    corpus = AnnotatedCorpus(bio, min_length=min_length)
    assert texts(corpus) == [text for text in TEXTS if len(text) >= min_length]
    left = [f"{bio}: {4 - n_kept} docs that are shorter than min_length, left out"] if n_kept < 4 else []
    assert logged(caplog, corpus) == [f"{bio}: read 4 docs with 3 entities (LOC 1, PER 2)", *left]


@pytest.mark.parametrize("limit", [0, 1, 3, 4, 9])
@pytest.mark.parametrize("shuffle", [False, True])
def test_limit(bio: Path, limit: int, shuffle: bool) -> None:
    found = texts(AnnotatedCorpus(bio, limit=limit, shuffle=shuffle))
    assert len(found) == min(limit or 4, 4)
    assert set(found) <= set(TEXTS)
    if not shuffle:
        assert found == TEXTS[: limit or None]


def test_shuffle_is_seeded_and_new_each_time(tmp_path: Path) -> None:
    path = put(tmp_path, "".join(f"{character} O\n\n" for character in "一二三四五六七八九十"))
    corpus = AnnotatedCorpus(path, shuffle=True)
    random.seed(1)
    first, second = texts(corpus), texts(corpus)
    random.seed(1)
    assert [texts(corpus), texts(corpus)] == [first, second]
    assert first != second
    assert sorted(first) == sorted(second) == sorted("一二三四五六七八九十")
    assert first != list("一二三四五六七八九十") or second != list("一二三四五六七八九十")


def test_long_docs_are_split_and_longer_sentences_stay_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = "我来了。他去了。这一句话很长很长很长。好。是。”不。"
    path = put(tmp_path, "".join(f"{character} O\n" for character in text))
    corpus = AnnotatedCorpus(path, max_length=8)
    assert texts(corpus) == ["我来了。他去了。", "这一句话很长很长很长。", "好。是。”不。"]
    assert logged(caplog, corpus) == [
        f"{path}: read 1 docs with 0 entities",
        f"{path}: 1 sentences that are longer than max_length, and whole",
    ]
    assert texts(AnnotatedCorpus(path, max_length=8, min_length=9)) == ["这一句话很长很长很长。"]
    assert texts(AnnotatedCorpus(path, max_length=len(text))) == texts(AnnotatedCorpus(path)) == [text]
    sentences = ["我来了。", "他去了。", "这一句话很长很长很长。", "好。是。”", "不。"]
    assert texts(AnnotatedCorpus(path, max_length=5)) == sentences


def test_parts_are_examples_like_any(tmp_path: Path) -> None:
    path = put(tmp_path, "张 B-PER\n。 O\n李 B-PER\n四 I-PER\n。 O\n")
    examples = list(AnnotatedCorpus(path, max_length=3)(BLANK["zh"]))
    assert [example.get_aligned_ner() for example in examples] == [["U-PER", "O"], ["B-PER", "L-PER", "O"]]
    assert [example.predicted.text for example in examples] == ["张。", "李四。"]


def marked_doc(words: List[str], starts: List[int], ents: List[Tuple[int, int]], lang: str = "zh") -> Doc:
    """A doc with sentence starts and entities, which are in `doc.spans` too."""
    doc = Doc(BLANK[lang].vocab, words=words, spaces=[i % 3 == 0 for i in range(len(words))])
    for i, token in enumerate(doc):
        token.is_sent_start = i in starts
    doc.set_ents([Span(doc, start, end, "X") for start, end in ents], default="outside")
    doc.spans["sc"] = list(doc.ents)
    return doc


@st.composite
def marked_docs(draw: st.DrawFn) -> Doc:
    sentences = draw(st.lists(st.integers(1, 6), min_size=1, max_size=8))
    n = sum(sentences)
    edges = draw(st.lists(st.integers(0, n), max_size=8).map(lambda drawn: sorted(set(drawn))))
    return marked_doc(list("中" * n), [0, *accumulate(sentences)], list(zip(edges[::2], edges[1::2])))


@given(doc=marked_docs(), max_length=st.integers(1, 12))
def test_parts_are_the_doc_and_cut_nothing(doc: Doc, max_length: int) -> None:
    parts = split_at_sentences(doc, max_length)
    assert "".join(part.text for part in parts) == doc.text
    offsets = [0, *accumulate(map(len, parts))]
    assert offsets[-1] == len(doc)
    ents = [(ent.start, ent.end, ent.label_) for ent in doc.ents]
    for found in ([list(part.ents) for part in parts], [list(part.spans.get("sc", ())) for part in parts]):
        moved = [(at + s.start, at + s.end, s.label_) for at, spans in zip(offsets, found) for s in spans]
        assert moved == ents
    starts = {token.i for token in doc if token.is_sent_start}
    assert set(offsets[1:-1]) <= starts
    legal = sorted(i for i in starts | {len(doc)} if not any(start < i < end for start, end, _ in ents))
    for begin, end in pairwise(offsets):
        assert end - begin <= max_length or not [i for i in legal if begin < i < end]
    for begin, end in zip(offsets, offsets[2:]):  # no two could have stayed one
        assert end - begin > max_length


def test_entity_that_runs_over_a_sentence_s_end_keeps_it_together() -> None:
    doc = marked_doc(list("一二三四五六"), [0, 2, 4], [(1, 3)])
    assert [len(part) for part in split_at_sentences(doc, 2)] == [4, 2]
    doc.set_ents([], default="outside")
    assert [len(part) for part in split_at_sentences(doc, 2)] == [4, 2]  # it is in doc.spans still


def test_sentence_starts_that_are_known_are_used() -> None:
    doc = marked_doc(list("一。二三。四"), [0, 3], [])
    assert [part.text.replace(" ", "") for part in split_at_sentences(doc, 1)] == ["一。二", "三。四"]


def test_parts_keep_unknown_spaces(tmp_path: Path) -> None:
    """An example of such a doc has the tokens of the file, since its text is not known."""
    words = ["I", "can't", ".", "She", "can't", "."]
    path = put(tmp_path, DocBin(docs=[Doc(BLANK["en"].vocab, words=words)]).to_bytes())
    for max_length in (0, 3):
        examples = list(AnnotatedCorpus(path, max_length=max_length)(BLANK["en"]))
        assert [token.text for example in examples for token in example.predicted] == words
        assert len(examples) == (2 if max_length else 1)


def test_what_was_met_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = put(tmp_path, "中\tI-A\n国\t\n")
    assert logged(caplog, AnnotatedCorpus(path, format="bio", settings={"repair": True})) == [
        f"{path}: read 1 docs with 1 entities (A 1)",
        f"{path}: 1 empty tag is O",
        f"{path}: 1 a stray tag begins an entity",
    ]
    caplog.clear()
    records: List[Dict[str, Any]] = [
        {"text": "北京大", "label": {"A": {"北京": [[0, 1]], "京大": [[1, 2]]}}},
        {"text": "", "label": {}},
    ]
    path = put(tmp_path, "".join(f"{json.dumps(record)}\n" for record in records))
    said = logged(caplog, AnnotatedCorpus(path))
    assert f"{path}: 1 Overlapping entities, the longest kept" in said
    assert f"{path}: 1 Empty texts, left out" in said


def test_counts_are_logged_once_and_not_of_a_part(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    records: List[Dict[str, Any]] = [
        {"text": "张三去", "spans": [{"start": 0, "end": 2, "label": "PER"}]},
        {"text": "李四"},
        {"text": "在北京", "spans": [{"start": 1, "end": 3, "label": "LOC"}]},
    ]
    path = put(tmp_path, "".join(f"{json.dumps(record)}\n" for record in records))
    corpus = AnnotatedCorpus(path)
    caplog.set_level(logging.INFO, logger="spacy")
    first = corpus(BLANK["zh"])
    next(first)
    first.close()  # type: ignore[attr-defined]
    assert not caplog.messages
    for _ in range(2):
        assert len(list(corpus(BLANK["zh"]))) == 3
    said = f"{path}: read 3 docs with 2 entities (LOC 1, PER 1); 1 docs are without annotation"
    assert [record.levelno for record in caplog.records if record.message == said] == [logging.INFO]


def test_no_entity_at_all_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = put(tmp_path, '{"text": "张三去"}\n')
    with caplog.at_level(logging.WARNING, logger="spacy"):
        list(AnnotatedCorpus(path, format="jsonl")(BLANK["zh"]))
    assert caplog.messages == [f"{path}: read 1 docs with 0 entities; 1 docs are without annotation"]


@pytest.mark.parametrize("name", ["min_length", "max_length", "limit"])
def test_negative_number_is_refused(bio: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is -1; give 0 or more"):
        registry.resolve({"corpus": {"@readers": "spacy-crf-ner.AnnotatedCorpus.v1", "path": str(bio), name: -1}})


def test_path_that_is_not_given_has_the_error_of_spacy() -> None:
    with pytest.raises(ValueError, match="E913"):
        registry.resolve({"corpus": {"@readers": "spacy-crf-ner.AnnotatedCorpus.v1", "path": None}})


def test_config_resolves(bio: Path) -> None:
    config = {"@readers": "spacy-crf-ner.AnnotatedCorpus.v1", "path": [str(bio)], "min_length": 2, "limit": 2}
    corpus = registry.resolve({"corpus": config})["corpus"]
    assert isinstance(corpus, AnnotatedCorpus)
    assert texts(corpus) == TEXTS[:2]
    with pytest.raises(ValueError, match="min_lenght"):
        registry.resolve({"corpus": {**config, "min_lenght": 2}})


CONFIG = """
[paths]
train = null
dev = null

[nlp]
lang = "zh"
pipeline = ["crf_ner"]

[components]

[components.crf_ner]
factory = "crf_ner"

[corpora]

[corpora.train]
@readers = "spacy-crf-ner.AnnotatedCorpus.v1"
path = ${paths.train}
max_length = 20
shuffle = true

[corpora.dev]
@readers = "spacy-crf-ner.AnnotatedCorpus.v1"
path = ${paths.dev}
format = "bio"
settings = {"repair": true}

[training]
seed = 0
gpu_allocator = null
max_steps = 40
eval_frequency = 20

[training.optimizer]
@optimizers = "Adam.v1"
learn_rate = 0.01
"""


def test_pipeline_trains_straight_from_the_files(bio: Path) -> None:
    config = load_config_from_str(CONFIG)
    config["paths"] = {"train": str(bio), "dev": str(bio)}
    config["components"]["crf_ner"]["model"] = SMALL_MODEL
    nlp = init_nlp(config)
    assert get_pipe(nlp, "crf_ner").labels == ("LOC", "PER")
    trained, _ = train(nlp)
    examples: List[Example] = list(AnnotatedCorpus(bio)(spacy.blank("zh")))
    assert trained.evaluate(examples)["ents_f"] == 1.0


def test_limit_is_that_of_the_first_and_mixed_then(bio: Path) -> None:
    corpus = AnnotatedCorpus(bio, limit=2, shuffle=True)
    assert {tuple(sorted(texts(corpus))) for _ in range(5)} == {tuple(sorted(TEXTS[:2]))}


def test_what_was_met_is_logged_with_a_limit_too_and_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = [
        '{"text": "foobar baz", "spans": [{"start": 0, "end": 3, "label": "A"}]}',
        '{"text": "b", "spans": []}',
    ]
    path = put(tmp_path, "\n".join(lines * 2))
    corpus = AnnotatedCorpus(path, limit=1)
    caplog.set_level(logging.INFO, logger="spacy")
    nlp = spacy.blank("en")
    for _ in range(2):
        assert len(list(corpus(nlp))) == 1
    counts, said = caplog.messages
    assert counts == f"{path}: read 1 docs with 1 entities (A 1)"
    assert said.startswith(f"{path}: 1 docs with token boundaries of their own") and f"({path}:1)" in said


def test_relations_within_a_part_are_kept_and_others_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spans = [{"start": start, "end": start + 1, "label": "A"} for start in (0, 1, 4, 5)]
    links = [(0, 1), (2, 3), (1, 2)]
    relations = [{"head_span": spans[head], "child_span": spans[child], "label": "R"} for head, child in links]
    path = put(tmp_path, json.dumps({"text": "甲乙去。丙丁来。", "spans": spans, "relations": relations, "id": 7}))
    caplog.set_level(logging.INFO, logger="spacy")
    examples = list(AnnotatedCorpus(path, max_length=4)(spacy.blank("zh")))
    relation = {"label": "R", "head": [0, 1, "A"], "tail": [1, 2, "A"]}
    assert [example.reference.user_data["relations"] for example in examples] == [[relation], [relation]]
    assert [example.reference.user_data["meta"] for example in examples] == [{"id": 7}] * 2
    assert any("1 relations across sentences, left out" in message for message in caplog.messages)
