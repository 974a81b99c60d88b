import gzip
import io
import json
import lzma
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import catalogue  # type: ignore[import-untyped]
import pytest
from spacy.tokens import Doc, DocBin

from spacy_crf_ner.formats.doc_builder import ORIGIN, DocMaker, Origin
from spacy_crf_ner.formats.errors import FormatError
from spacy_crf_ner.formats.reading import read
from spacy_crf_ner.formats.registry import readers
from spacy_crf_ner.formats.sniff import Guess
from spacy_crf_ner.formats.source import Source
from tests.formats.reading import BLANK, found_in, put

BIO = "张 B-PER\n三 I-PER\n来 O\n\n"
CLUENER = json.dumps({"text": "李四", "label": {"PER": {"李四": [[0, 1]]}}}, ensure_ascii=False) + "\n"
BMES = "王 B-PER\n小 M-PER\n五 E-PER\n去 O\n\n"
WEIBO = "科0\tB-ORG\n技1\tI-ORG\n"


def mixed(folder: Path) -> List[Path]:
    """Files of several formats."""
    docbin = DocBin(docs=[Doc(BLANK["zh"].vocab, words=["赵", "六"], spaces=[False, False])])
    return [
        put(folder, BIO, "a.bio"),
        put(folder, gzip.compress(CLUENER.encode()), "b.json.gz"),
        put(folder, lzma.compress(BMES.encode()), "c/d.bmes.xz"),
        put(folder, docbin.to_bytes(), "e.spacy"),
        put(folder, WEIBO, "f"),
    ]


def test_files_and_folders_of_any_formats_are_read_one_after_another(tmp_path: Path) -> None:
    *_, weibo = mixed(tmp_path)
    found = found_in(weibo, tmp_path)
    assert found.texts == ["科技", "张三来", "李四", "王小五去", "赵六", "科技"]
    entities = [[name for name, _ in names] for names in found.names]
    assert entities == [["科技"], ["张三"], ["李四"], ["王小五"], [], ["科技"]]
    assert found.counts.docs == 6
    assert found.counts.entities == {"ORG": 2, "PER": 3}


def test_what_each_file_was_taken_for_is_told(tmp_path: Path) -> None:
    paths = mixed(tmp_path)
    told: List[Tuple[Path, Guess]] = []
    docs = read([tmp_path], DocMaker(lambda: BLANK["zh"]), tell=lambda path, guess: told.append((path, guess)))
    assert next(docs).text == "张三来"
    assert [path for path, _ in told] == paths[:1]  # no file is looked at before it is its turn
    assert len(list(docs)) == 4
    assert [path for path, _ in told] == sorted(paths)
    assert [guess.format for _, guess in told] == ["bio", "cluener", "bmes", "spacy", "bio"]
    assert told[-1][1].settings == {"positions": True}


def test_format_that_is_named_wins_and_nothing_is_told(tmp_path: Path) -> None:
    path = put(tmp_path, WEIBO)
    told: List[object] = []
    make = DocMaker(lambda: BLANK["zh"])
    docs = read([path], make, format="bio", tell=lambda path, guess: told.append(guess))
    assert ([doc.text for doc in docs], told) == (["科0技1"], [])
    with pytest.raises(FormatError, match=r":1: "):
        found_in(put(tmp_path, CLUENER), format="bio")


def test_settings_win_over_what_the_file_looks_like(tmp_path: Path) -> None:
    assert found_in(put(tmp_path, WEIBO), positions=False).texts == ["科0技1"]
    path = put(tmp_path, "a O B-PER\nb B-LOC O\n")
    assert found_in(path, tag_column=2).names == [[("a", "PER")]]
    assert found_in(path, tag_column=1).names == [[("b", "LOC")]]
    path = put(tmp_path, "中 I-A\n国 B-B\n人 B-B\n")
    assert found_in(path, repair=True).ents == [[(0, 1, "A"), (1, 2, "B"), (2, 3, "B")]]


def test_settings_that_the_format_has_not_are_refused(tmp_path: Path) -> None:
    path = put(tmp_path, BIO)
    with pytest.raises(ValueError, match="no setting 'label_key'; its settings are repair, positions"):
        found_in(path, label_key="x")


@pytest.mark.parametrize(
    ("format", "settings", "said"),
    [("nope", {}, "no format 'nope' can be read"), ("bio", {"nope": 1}, "format 'bio' has no setting 'nope'")],
)
def test_option_that_makes_no_sense_is_told_before_a_file_is_looked_for(
    tmp_path: Path, format: str, settings: Dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        found_in(tmp_path / "none.bio", format=format, **settings)


def test_standard_input_is_one_of_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(BMES.encode()))))
    assert found_in(put(tmp_path, BIO), Path("-")).texts == ["张三来", "王小五去"]


def test_empty_texts_are_skipped_and_counted(tmp_path: Path) -> None:
    records: List[Dict[str, Any]] = [{"text": text, "label": {}} for text in ("", "中", "", " ")]
    path = put(tmp_path, "".join(f"{json.dumps(record)}\n" for record in records))
    found = found_in(path)
    assert found.texts == ["中", " "]
    assert (found.counts.docs, found.counts.empty) == (2, 2)


def test_empty_docs_of_a_docbin_are_skipped_and_counted(tmp_path: Path) -> None:
    vocab = BLANK["zh"].vocab
    docs = [Doc(vocab), Doc(vocab, words=["中"], spaces=[False]), Doc(vocab)]
    found = found_in(put(tmp_path, DocBin(docs=docs).to_bytes()))
    assert found.texts == ["中"]
    assert (found.counts.docs, found.counts.empty) == (1, 2)


@pytest.mark.parametrize(
    ("format", "content"),
    [
        ("bio", ""),
        ("bio", "\n\n"),
        ("bio", "\ufeff"),
        ("conll", "-DOCSTART-\n"),
        ("cluener", '{"text": "", "label": {}}\n'),
        ("jsonl", "[]"),
        ("spacy", DocBin().to_bytes()),
        ("spacy", DocBin(docs=[Doc(BLANK["zh"].vocab)]).to_bytes()),
    ],
    ids=["bio", "newlines", "mark", "conll", "cluener", "jsonl", "spacy", "spacy empty doc"],
)
def test_file_without_a_text_is_refused(tmp_path: Path, format: str, content: "str | bytes") -> None:
    good = put(tmp_path, BIO, "good")
    with pytest.raises(FormatError, match=f"a.txt: holds no text in the format {format}; name another file"):
        found_in(put(tmp_path, content), format=format)
    if not isinstance(content, bytes):
        return
    docs = read([good, tmp_path / "a.txt"], DocMaker(lambda: BLANK["zh"]))
    assert next(docs).text == "张三来"
    with pytest.raises(FormatError, match=r"a\.txt: holds no text"):
        next(docs)


def test_missing_file_is_told_before_any_is_read(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"none: no such file"):
        next(read([put(tmp_path, BIO), tmp_path / "none"], DocMaker(lambda: BLANK["zh"])))


def test_progress_adds_up_to_the_size_of_all_files(tmp_path: Path) -> None:
    paths = mixed(tmp_path)
    steps: List[int] = []
    n_docs = len(list(read(paths, DocMaker(lambda: BLANK["zh"]), progress=steps.append)))
    assert n_docs == 5
    assert sum(steps) == sum(path.stat().st_size for path in paths)


def test_docs_know_where_they_were_read(tmp_path: Path) -> None:
    path = put(tmp_path, "\n" + BIO * 2)
    assert [doc.user_data[ORIGIN] for doc in found_in(path).docs] == [Origin(str(path), 2), Origin(str(path), 6)]
    assert str(found_in(path).docs[1].user_data[ORIGIN]) == f"{path}:6"


def test_docs_that_a_reader_makes_itself_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "REGISTRY", dict(catalogue.REGISTRY))

    @readers("own")
    def read_own(source: Source, make: DocMaker) -> Iterator[Doc]:
        for line in source.lines():
            yield Doc(make.nlp.vocab, words=[line.text])

    readers("none", func=lambda source, make: None)
    found = found_in(put(tmp_path, "甲\n乙\n"), format="own")
    assert (found.texts, found.counts.docs) == (["甲 ", "乙 "], 2)
    with pytest.raises(ValueError, match="the reader of the format 'none' gives no docs"):
        found_in(put(tmp_path, "甲\n"), format="none")
