from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence

import pytest
import spacy
from spacy.tokens import Doc

from spacy_crf_ner.corpus.check import CorpusCheck, CorpusReport
from spacy_crf_ner.corpus.finding import KINDS
from spacy_crf_ner.corpus.problems import amount, listed, percent
from spacy_crf_ner.corpus.vocabulary import EncoderVocabulary, VectorsVocabulary
from spacy_crf_ner.formats.doc_builder import DocMaker
from spacy_crf_ner.formats.reading import read
from tests.corpus.test_vocabulary import save_vectors
from tests.corpus.util import PER, check_docs, check_files, codes, found, in_english, others, people
from tests.encoder.util import save_tiny_bert
from tests.evaluation.util import make_doc, write_docs


@dataclass(frozen=True)
class Expected:
    """A corpus, and the only finding in it beside those named in `also`."""

    make: Callable[[Path], CorpusReport]
    split: Optional[str]
    count: int
    message: str
    types: Dict[str, int] = field(default_factory=dict)
    text: Optional[str] = None
    origin: str = ""
    also: Sequence[str] = ()


def with_dev(*docs: Doc, **options: Any) -> Callable[[Path], CorpusReport]:
    """A good corpus, whose dev set has some docs more."""
    return lambda folder: check_docs(folder, people(), [*others(), *docs], **options)


def with_train(*docs: Doc, **options: Any) -> Callable[[Path], CorpusReport]:
    """A good corpus, whose training data has some docs more."""
    return lambda folder: check_docs(folder, [*people(), *docs], others(), **options)


def blocked() -> Doc:
    doc = make_doc("他来")
    doc.set_ents([], blocked=[doc[1:2]], default="outside")
    return doc


def sentences() -> Doc:
    doc = make_doc("张三", PER)
    doc[0].is_sent_start = doc[1].is_sent_start = True
    return doc


def english() -> List[Doc]:
    """Good training data, in English."""
    return [*(in_english(f"Paul {n}", (0, 1, "PER")) for n in range(120)), in_english("no one")]


def cut(*words: str) -> Doc:
    """A doc of words without a space between them, the last of which is an entity."""
    return make_doc(words, [(len(words) - 1, len(words), "PER")])


def from_file(name: str, text: str) -> Callable[[Path], CorpusReport]:
    """A good corpus, whose dev set is a text file."""

    def make(folder: Path) -> CorpusReport:
        check = CorpusCheck(128)
        check_files(check, "train", [write_docs(folder / "train.spacy", people())])
        path = folder / name
        path.write_text(text, encoding="utf8")
        check_files(check, "dev", [path])
        return check.report()

    return make


def changed(folder: Path) -> CorpusReport:
    """A corpus and a tokenizer that drops a character."""
    check = CorpusCheck(128)
    check_files(check, "train", [write_docs(folder / "train.spacy", people())])
    make = DocMaker(lambda: spacy.blank("zh"))
    tokenizer = make.nlp.tokenizer
    make.nlp.tokenizer = lambda text: tokenizer(text.replace("很", "狠"))
    path = write_docs(folder / "dev.spacy", [*others(), make_doc("很好")])
    check.add("dev", read([path], make), make)
    return check.report()


CORPORA: Dict[str, Expected] = {
    "no_entities": Expected(
        lambda f: check_docs(f, people(), [make_doc("今天"), make_doc("天今")]), "dev", 2, "dev has no entities"
    ),
    "label_not_in_train": Expected(
        with_dev(make_doc("北京上海", [(0, 2, "LOC"), (2, 4, "LOC")])),
        "dev",
        2,
        "dev has labels that train lacks: LOC (2)",
        {"LOC": 2},
    ),
    "empty_label": Expected(
        with_dev(blocked()), "dev", 1, "1 token of dev with an entity that has no label", {}, "来", "doc 3"
    ),
    "whitespace_entities": Expected(
        with_dev(make_doc(["来", "\n"], [(1, 2, "PER")])),
        "dev",
        1,
        "1 entity of dev of nothing but white space: PER (1)",
        {"PER": 1},
        "\n",
        "doc 3",
    ),
    "changed_texts": Expected(changed, "dev", 1, "1 doc of dev whose text the tokenizer changes", {}, "很好"),
    "leaked_docs": Expected(
        with_dev(people()[0], people()[0]),
        "dev",
        2,
        "2 docs of dev whose text is in train too",
        {},
        "张三一",
        "doc 3",
        also=["duplicate_docs"],
    ),
    "contradictions": Expected(
        with_dev(make_doc("北京来", PER), make_doc("北京来")),
        "dev",
        1,
        "1 text with more than one tagging within dev",
        {},
        "北京来",
        "doc 3",
        also=["duplicate_docs"],
    ),
    "contradictions_across": Expected(
        with_dev(make_doc("张三一")),
        "dev",
        1,
        "1 text of dev tagged otherwise in train (train + dev, taken together: 1 with more than one tagging)",
        {},
        "张三一",
        "doc 3",
        also=["leaked_docs"],
    ),
    "duplicate_docs": Expected(
        with_train(people()[0]),
        "train",
        1,
        "1 doc of train whose text an earlier doc of train has",
        {},
        "张三一",
        "doc 121",
    ),
    "misaligned_entities": Expected(
        lambda f: check_docs(f, english(), [cut("anti", "Trump")], lang="en"),
        "dev",
        1,
        "1 entity of dev with an edge inside a token: PER (1)",
        {"PER": 1},
        "Trump",
        "doc 1",
        also=["misaligned_tokens"],
    ),
    "misaligned_tokens": Expected(
        lambda f: check_docs(f, english(), [cut("anti", "war", " ", "Ann")], lang="en"),
        "dev",
        1,
        "1 token of dev that the tokenizer cuts otherwise",
    ),
    "whitespace_edges": Expected(
        with_dev(make_doc(["北", "京", "\n"], [(0, 3, "PER")])),
        "dev",
        1,
        "1 entity of dev with white space at an edge: PER (1)",
        {"PER": 1},
        "北京\n",
        "doc 3",
    ),
    "punctuation_edges": Expected(
        with_dev(make_doc("北京。", [(0, 3, "PER")]), make_doc("，上海", [(0, 3, "PER")])),
        "dev",
        2,
        "2 entities of dev with punctuation at an edge: PER (2)",
        {"PER": 2},
        "北京。",
        "doc 3",
    ),
    "crossed_sentences": Expected(
        with_dev(sentences()),
        "dev",
        1,
        "1 entity of dev across a sentence's end: PER (1)",
        {"PER": 1},
        "张三",
        "doc 3",
    ),
    "overlapping_entities": Expected(
        from_file(
            "dev.jsonl",
            '{"text": "北京大学", "label": [[0, 4, "PER"], [0, 2, "PER"]]}\n',
        ),
        "dev",
        1,
        "1 entity of dev left out, for they overlap a longer one",
    ),
    "missing_annotation": Expected(
        with_dev(make_doc("今天下雨", missing=[(1, 3)])),
        "dev",
        2,
        "2 tokens of dev without annotation (not even O)",
    ),
    "few_examples": Expected(
        with_train(*(make_doc(f"北京{chr(0x6E00 + i)}", [(0, 2, "LOC")]) for i in range(49))),
        "train",
        49,
        "fewer than 50 examples in train of LOC (49)",
        {"LOC": 49},
        also=["label_not_in_dev"],
    ),
    "no_negative_examples": Expected(
        lambda f: check_docs(f, people()[:-1], others()),
        "train",
        1,
        "no doc of train without PER (119)",
        {"PER": 119},
    ),
    "very_few_docs": Expected(
        lambda f: check_docs(f, people(99), others()), "train", 99, "fewer than 100 docs in train (99)"
    ),
    "empty_docs": Expected(with_dev(make_doc(""), make_doc("")), "dev", 2, "2 docs of dev without text"),
    "unknown_to_encoder": Expected(
        lambda f: check_docs(
            f,
            people(),
            others(),
            encoder=EncoderVocabulary(
                str(save_tiny_bert(f / "encoder", [d.text for d in people()] + ["李四来王五"]))
            ),
        ),
        "dev",
        1,
        "1 characters of dev (16.7 %; 1 different) unknown to the encoder; after width folding 16.7 %",
        {},
        "走",
    ),
    "unknown_to_vectors": Expected(
        lambda f: check_docs(
            f,
            people(),
            [*others(), make_doc("Ｑ三Ｑ")],
            vectors=VectorsVocabulary(
                save_vectors(f / "vectors", [*"李四来王五走Q", *{c for d in people() for c in d.text}])
            ),
        ),
        "dev",
        2,
        "2 tokens of dev (22.2 %; 1 different) unknown to the vectors; after width folding 0.0 %",
        {},
        "Ｑ",
    ),
    "duplicate_entities": Expected(
        from_file(
            "dev.jsonl",
            '{"text": "北京大学", "label": [[0, 4, "PER"], [0, 4, "PER"]]}\n',
        ),
        "dev",
        1,
        "1 entity of dev given twice",
    ),
    "reader_notes": Expected(
        from_file("dev.conll", "-DOCSTART- O\n\n李 B-PER\n四 I-PER\n\n-DOCSTART- O\n\n王 B-PER\n五 I-PER\n"),
        "dev",
        2,
        "notes on reading dev: ",
    ),
    "long_docs": Expected(
        with_dev(make_doc("很" * 129), make_doc("很" * 128)),
        "dev",
        1,
        "1 doc of dev (25.0 %) longer than the window of 128 tokens",
    ),
    "ambiguous_forms": Expected(
        with_train(make_doc("在张三处")),
        "train",
        1,
        "1 of 1 different mention in train ambiguous: 0 of several labels, 1 also no entity",
        {},
        "张三",
        "doc 1",
    ),
    "label_not_in_dev": Expected(
        with_train(*(make_doc(f"北京{chr(0x6E00 + i)}", [(0, 2, "LOC")]) for i in range(50))),
        "dev",
        50,
        "dev lacks labels that train has: LOC (50)",
        {"LOC": 50},
    ),
    "few_docs": Expected(
        lambda f: check_docs(f, people(1999), others()), "train", 1999, "fewer than 2,000 docs in train (1,999)"
    ),
    "no_dev": Expected(lambda f: check_docs(f, people()), None, 1, "no data but train"),
}


def test_every_kind_is_tested() -> None:
    assert list(CORPORA) == list(KINDS)


def test_good_corpus_has_no_finding(tmp_path: Path) -> None:
    report = check_docs(tmp_path, people(2000), others(), [make_doc("赵六去", PER)])
    assert report.findings == []


@pytest.mark.parametrize("code", CORPORA)
def test_finding(tmp_path: Path, code: str) -> None:
    expected = CORPORA[code]
    report = expected.make(tmp_path)
    (finding,) = found(report, code)
    assert {*codes(report), code} == {code, *expected.also}
    assert (finding.split, finding.count, finding.types) == (expected.split, expected.count, expected.types)
    assert finding.message.startswith(expected.message)
    assert (finding.severity, finding.advice) == KINDS[code]
    if expected.text is not None:
        case = finding.cases[0]
        assert case.text == expected.text
        assert case.origin.endswith(expected.origin)


def test_no_entities_of_train(tmp_path: Path) -> None:
    report = check_docs(tmp_path, [make_doc(chr(0x4E00 + i)) for i in range(120)], others())
    assert codes(report) == ["no_entities"]


def test_a_label_is_enough_or_negative_by_one_doc(tmp_path: Path) -> None:
    docs = [make_doc(f"北京{chr(0x6E00 + i)}", [(0, 2, "LOC")]) for i in range(50)]
    report = check_docs(tmp_path, [*people(), *docs], [*others(), make_doc("北京", [(0, 2, "LOC")])])
    assert codes(report) == []


@pytest.mark.parametrize(("n", "code"), [(99, "very_few_docs"), (100, "few_docs")])
def test_thresholds_of_docs_are_those_of_spacy(tmp_path: Path, n: int, code: str) -> None:
    assert [finding.code for finding in check_docs(tmp_path, people(n), others()).findings] == [code]


def test_a_rare_label_of_dev_alone_is_not_few_examples(tmp_path: Path) -> None:
    report = check_docs(tmp_path, people(), [*others(), make_doc("北京", [(0, 2, "LOC")])])
    assert codes(report) == ["label_not_in_train"]


@pytest.mark.parametrize(("n_unknown", "expected"), [(2, []), (3, ["unknown_to_vectors"])])
def test_few_unknown_characters_are_no_finding(tmp_path: Path, n_unknown: int, expected: List[str]) -> None:
    docs = people(700)
    rare = [doc.text[-1] for doc in docs[:n_unknown]]
    known = {char for doc in docs + others() for char in doc.text}.difference(rare)
    vectors = VectorsVocabulary(save_vectors(tmp_path / "vectors", sorted(known)))
    report = check_docs(tmp_path, docs, others(), vectors=vectors)
    assert report.coverages[0].share == n_unknown / 2100
    assert codes(report) == expected


def test_windows_count_wordpieces_with_an_encoder(tmp_path: Path) -> None:
    encoder = EncoderVocabulary(
        str(save_tiny_bert(tmp_path / "encoder", [d.text for d in people()] + ["李四来王五走很"]))
    )
    docs = [*others(), make_doc("很" * 6), make_doc("很" * 7)]
    (finding,) = found(check_docs(tmp_path, people(), docs, window=8, encoder=encoder), "long_docs")
    assert finding.message == "1 doc of dev (25.0 %) longer than the window of 8 word-pieces"


def test_leaks_and_contradictions_of_three_splits_say_which_is_which(tmp_path: Path) -> None:
    report = check_docs(
        tmp_path,
        [*people(), make_doc("北京来", PER), make_doc("上海来", PER)],
        [*others(), make_doc("北京来")],
        [make_doc("北京来"), make_doc("上海来"), others()[0]],
    )
    assert [finding.message for finding in found(report, "leaked_docs")] == [
        "1 doc of dev whose text is in train too",
        "2 docs of test whose text is in train too",
        "2 docs of test whose text is in dev too",
    ]
    assert [finding.message for finding in found(report, "contradictions_across")] == [
        "1 text of dev tagged otherwise in train (train + dev, taken together: 1 with more than one tagging)",
        "2 texts of test tagged otherwise in train or dev "
        "(train + dev + test, taken together: 2 with more than one tagging)",
    ]
    assert not found(report, "contradictions")


def test_findings_stand_worst_first_and_by_split(tmp_path: Path) -> None:
    dev: List[Doc] = [make_doc("北京。", [(0, 3, "LOC")]), make_doc("张三一", PER), make_doc("")]
    report = check_docs(tmp_path, people(60), dev, [make_doc("北京。", [(0, 3, "LOC")])])
    assert [(finding.code, finding.split) for finding in report.findings] == [
        ("label_not_in_train", "dev"),
        ("label_not_in_train", "test"),
        ("leaked_docs", "dev"),
        ("leaked_docs", "test"),
        ("punctuation_edges", "dev"),
        ("punctuation_edges", "test"),
        ("very_few_docs", "train"),
        ("empty_docs", "dev"),
        ("label_not_in_dev", "test"),
    ]


def test_types_stand_by_their_count(tmp_path: Path) -> None:
    docs = [make_doc(f"{c}。", [(0, 2, label)]) for c, label in [("甲", "A"), ("乙", "PER"), ("丙", "PER")]]
    (finding,) = found(check_docs(tmp_path, people(), docs), "punctuation_edges")
    assert finding.message == "3 entities of dev with punctuation at an edge: PER (2), A (1)"


def test_numbers_in_words() -> None:
    assert [amount(n, unit) for n, unit in [(0, "doc"), (1, "entity"), (2000, "entity")]] == [
        "0 docs",
        "1 entity",
        "2,000 entities",
    ]
    assert [percent(x) for x in (0.0, 0.0004, 0.001, 0.5, 1.0)] == [
        "0.0 %",
        "< 0.1 %",
        "0.1 %",
        "50.0 %",
        "100.0 %",
    ]
    assert listed({"PER": 1, "LOC": 2000}) == "PER (1), LOC (2,000)"
