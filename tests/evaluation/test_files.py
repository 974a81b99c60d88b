from pathlib import Path

import pytest

from spacy_crf_ner.evaluation.files import read_docs, whole_file
from tests.evaluation.util import VOCAB, gold_docs, make_doc, write_docs


def test_directory_is_read_in_order_of_names(tmp_path: Path) -> None:
    write_docs(tmp_path / "b.spacy", gold_docs()[:1])
    write_docs(tmp_path / "a" / "x.spacy", [make_doc("甲"), make_doc("")])
    assert [doc.text for doc in read_docs(tmp_path, VOCAB)] == ["甲", "", "张三去北京"]


def test_missing_path_names_itself(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.spacy: no such file"):
        read_docs(tmp_path / "nowhere.spacy", VOCAB)


def test_directory_without_docbins(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no \.spacy file in it"):
        read_docs(tmp_path, VOCAB)


def test_other_suffix(tmp_path: Path) -> None:
    path = tmp_path / "train.bio"
    path.write_text("张 B-PER", encoding="utf-8")
    with pytest.raises(ValueError, match=r"train\.bio: not a \.spacy file"):
        read_docs(path, VOCAB)


def test_broken_docbin_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "broken.spacy"
    path.write_bytes(write_docs(tmp_path / "good.spacy", gold_docs()).read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"broken\.spacy: not a DocBin"):
        read_docs(path, VOCAB)


def test_file_appears_whole_with_its_parents(tmp_path: Path) -> None:
    path = tmp_path / "metrics" / "new" / "dev.json"
    with whole_file(path) as part:
        part.write_text("{}", encoding="utf-8")
        assert not path.exists()
    assert path.read_text(encoding="utf-8") == "{}"
    assert list(path.parent.iterdir()) == [path]


def test_failure_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "dev.json"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(RuntimeError), whole_file(path) as part:
        part.write_text("half", encoding="utf-8")
        raise RuntimeError
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="name a file in it"), whole_file(tmp_path):
        pass
