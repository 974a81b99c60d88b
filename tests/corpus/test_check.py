import json
from pathlib import Path
from typing import Any, Dict, List, Sequence

import pytest
import spacy

from spacy_crf_ner.corpus.check import CorpusCheck, CorpusReport
from spacy_crf_ner.corpus.vocabulary import EncoderVocabulary, VectorsVocabulary
from spacy_crf_ner.formats.doc_builder import DocMaker
from spacy_crf_ner.formats.reading import read
from tests.corpus.test_vocabulary import save_vectors
from tests.corpus.util import PER, check_docs, check_files, found, in_english, others, people
from tests.encoder.util import save_tiny_bert
from tests.evaluation.util import gold_docs, make_doc, write_docs

SPLIT_KEYS = {
    "docs": int,
    "empty_docs": int,
    "docs_without_entity": int,
    "tokens": int,
    "unique_tokens": int,
    "characters": int,
    "unique_characters": int,
    "entities": int,
    "types": dict,
    "docs_with_type": dict,
    "unseen": dict,
    "adjacent": int,
    "enclosed": dict,
    "overlapping": int,
    "duplicates": int,
    "missing_tokens": int,
    "misaligned_tokens": int,
    "lengths": list,
    "common_tokens": list,
    "notes": dict,
}


def full_report(folder: Path) -> CorpusReport:
    """Three splits, an encoder, and vectors."""
    return check_docs(
        folder,
        [*gold_docs(), *gold_docs(), make_doc("")],
        [make_doc("张三去北京", PER), make_doc("《论语》", [(0, 4, "ORG")])],
        [make_doc("李四来", PER)],
        encoder=EncoderVocabulary(str(save_tiny_bert(folder / "encoder", ["张三去北京联合国"]))),
        vectors=VectorsVocabulary(save_vectors(folder / "vectors", list("张三去"))),
    )


def test_json_holds_all_numbers(tmp_path: Path) -> None:
    report = json.loads(json.dumps(full_report(tmp_path).to_json()))
    assert list(report) == [
        "schema",
        "window",
        "splits",
        "duplicates",
        "leaks",
        "contradictions",
        "ambiguity",
        "vocabularies",
        "summary",
        "findings",
    ]
    assert (report["schema"], report["window"]) == ("spacy-crf-ner.check.v1", 128)
    assert list(report["splits"]) == ["train", "dev", "test"]
    for name, split in report["splits"].items():
        assert list(split) == list(SPLIT_KEYS)
        for key, kind in SPLIT_KEYS.items():
            assert isinstance(split[key], kind) or (name, key, split[key]) == ("train", "unseen", None)
    assert report["duplicates"] == {"train": 3, "dev": 0, "test": 0}
    assert report["leaks"] == {"dev in train": 1, "test in train": 0, "test in dev": 0}
    assert report["contradictions"] == {"train": 0, "dev": 0, "test": 0, "train+dev": 1, "train+dev+test": 1}
    assert report["ambiguity"]["forms"] == 3
    assert [(v["kind"], v["split"], v["unit"]) for v in report["vocabularies"]] == [
        *(("encoder", split, "characters") for split in ("train", "dev", "test")),
        *(("vectors", split, "tokens") for split in ("train", "dev", "test")),
    ]
    assert report["vocabularies"][1]["unknown"]["most_common"] == [["《", 1], ["论", 1], ["语", 1], ["》", 1]]
    severities = [finding["severity"] for finding in report["findings"]]
    assert report["summary"] == {level: severities.count(level) for level in ("error", "warning", "info")}
    assert report["summary"]["warning"] > 0


def test_json_of_a_split(tmp_path: Path) -> None:
    report = full_report(tmp_path).to_json()
    dev = report["splits"]["dev"]
    assert (dev["docs"], dev["tokens"], dev["characters"], dev["unique_tokens"], dev["unique_characters"]) == (
        2,
        9,
        9,
        9,
        9,
    )
    assert (dev["entities"], dev["types"], dev["docs_with_type"]) == (
        2,
        {"ORG": 1, "PER": 1},
        {"ORG": 1, "PER": 1},
    )
    assert dev["unseen"] == {"ORG": 1, "PER": 0}
    assert dev["enclosed"] == {"count": 1, "types": {"ORG": 1}}
    assert dev["lengths"] == [
        {"unit": "tokens", "median": 5, "p99": 5, "longest": 5, "window": 128, "longer": 0},
        {"unit": "word-pieces", "median": 7, "p99": 7, "longest": 7, "window": 128, "longer": 0},
    ]
    assert ("张", 1) in dev["common_tokens"]
    assert report["splits"]["train"]["empty_docs"] == 1


def test_json_of_a_corpus_without_entities(tmp_path: Path) -> None:
    report = check_docs(tmp_path, [make_doc("今天")]).to_json()
    assert (report["ambiguity"], report["vocabularies"], report["leaks"]) == (None, [], {})
    assert report["contradictions"] == {"train": 0}


def test_only_train_is_searched_for_ambiguous_forms(tmp_path: Path) -> None:
    report = check_docs(tmp_path, people(), [*others(), make_doc("在李四处"), make_doc("在张三处")])
    assert report.ambiguity is not None
    assert (report.ambiguity.forms, report.ambiguity.also_outside) == (1, 0)


def test_texts_without_a_character_are_counted_whatever_the_format(tmp_path: Path) -> None:
    check = CorpusCheck(128)
    path = tmp_path / "train.jsonl"
    path.write_text('{"text": "", "label": []}\n{"text": "张三", "label": [[0, 2, "PER"]]}\n', encoding="utf8")
    check_files(check, "train", [path, write_docs(tmp_path / "train.spacy", [make_doc(""), make_doc("今天")])])
    (train,) = check.report().splits
    assert (train.docs, train.empty_docs) == (2, 2)


def test_mends_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "train.bio"
    path.write_text("去 B-LOC\n北 O\n京 I-LOC\n", encoding="utf8")
    check = CorpusCheck(128)
    make = DocMaker(lambda: spacy.blank("zh"))
    check.add("train", read([path], make, settings={"repair": True}), make)
    report = check.report()
    (note,) = found(report, "reader_notes")
    assert (note.count, report.to_json()["splits"]["train"]["notes"]) == (1, dict(make.counts.notes))


def test_notes_of_nothing_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "train.bio"
    path.write_text("张0\tB-PER\n三1\tI-PER\n去0\tO\n北0\tO\n京1\tO\n", encoding="utf8")
    check = CorpusCheck(128)
    check_files(check, "train", [path])
    report = check.report()
    assert report.splits[0].words["京"] == 1
    assert report.splits[0].notes == {}
    assert not found(report, "reader_notes")


def test_vectors_are_looked_up_by_token(tmp_path: Path) -> None:
    vectors = VectorsVocabulary(save_vectors(tmp_path / "vectors", ["Paul", "went"], "en"))
    report = check_docs(tmp_path, [in_english("Paul went to Rome", (0, 1, "PER"))], lang="en", vectors=vectors)
    (coverage,) = report.coverages
    assert (coverage.total, coverage.unknown) == (4, {"to": 1, "Rome": 1})


def test_all_docs_of_many_batches_are_seen_once(tmp_path: Path) -> None:
    docs = [make_doc("长" * (i % 7 + 1)) for i in range(600)]
    encoder = EncoderVocabulary(str(save_tiny_bert(tmp_path / "encoder", ["长"])))
    report = check_docs(tmp_path, docs, encoder=encoder)
    (train,) = report.splits
    assert list(train.lengths) == [len(doc) for doc in docs]
    assert list(train.pieces or ()) == [len(doc) + 2 for doc in docs]
    assert report.texts.duplicates["train"].count == 593


@pytest.fixture(scope="module")
def weibo(data_dir: Path) -> CorpusReport:
    check = CorpusCheck(128)
    for name in ("train", "dev", "test"):
        make = DocMaker(lambda: spacy.blank("zh"))
        path = data_dir / "weibo" / f"weiboNER_2nd_conll.{name}"
        check.add(name, read([path], make, settings={"repair": True}), make)
    return check.report()


def test_weibo_has_dev_sentences_in_train(weibo: CorpusReport) -> None:
    leaks = {finding.message: finding.count for finding in found(weibo, "leaked_docs")}
    assert leaks["42 docs of dev whose text is in train too"] == 42
    assert weibo.to_json()["leaks"] == {"dev in train": 42, "test in train": 40, "test in dev": 8}


def test_weibo_has_texts_with_two_taggings(weibo: CorpusReport) -> None:
    train, test = found(weibo, "contradictions")
    assert (train.split, train.count, test.split, test.count) == ("train", 35, "test", 1)
    assert train.message == "35 texts with more than one tagging within train"
    dev = found(weibo, "contradictions_across")[0]
    assert "(train + dev, taken together: 46 with more than one tagging)" in dev.message
    # In the tags of the files there are 59: the two taggings of one text differ by an I- that becomes a B-.
    assert weibo.to_json()["contradictions"]["train+dev+test"] == 58


def test_weibo_counts_are_those_of_its_readme(weibo: CorpusReport) -> None:
    assert [(split.docs, split.entities) for split in weibo.splits] == [(1350, 1895), (270, 389), (270, 418)]
    assert weibo.splits[0].measure(128)[0].longest == 175


@pytest.mark.parametrize(
    ("files", "lang", "expected"),
    [
        (["cluener/dev.json"], "zh", {"docs": 1343, "entities": 3072, "characters": 50260}),
        (["wnut17/emerging.dev.conll"], "en", {"docs": 1009, "entities": 836}),
        (["msra/test.bio"], "zh", {"docs": 4365, "entities": 6181, "docs_without_entity": 1966, "adjacent": 860}),
    ],
)
def test_real_corpora(data_dir: Path, files: Sequence[str], lang: str, expected: Dict[str, Any]) -> None:
    check = CorpusCheck(128)
    check_files(check, "train", [data_dir / file for file in files], lang)
    split = check.report().to_json()["splits"]["train"]
    assert {key: split[key] for key in expected} == expected


def test_invisible_characters_at_an_edge_of_wnut17(data_dir: Path) -> None:
    check = CorpusCheck(128)
    check_files(check, "train", [data_dir / "wnut17" / "emerging.dev.conll"], "en")
    (finding,) = found(check.report(), "whitespace_edges")
    texts: List[str] = [case.text for case in finding.cases]
    assert texts == ["Dubbz\ufeff"]
