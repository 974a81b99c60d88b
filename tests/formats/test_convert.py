from pathlib import Path
from typing import Dict, List, Tuple

import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.tokens import Doc, DocBin
from spacy.training import Corpus

import spacy_crf_ner.formats.convert as module
from spacy_crf_ner.formats.bio import EMPTY_TAG
from spacy_crf_ner.formats.convert import convert
from spacy_crf_ner.formats.errors import FormatError
from tests.formats.util import BAD_LINES, MENDABLE_LINES, Column, sentences, write_bio

COUNTS = {
    ("msra", "train.bio"): (41719, 1955420, {"LOC": 32987, "ORG": 18572, "PER": 15787}, 625, 0),
    ("msra", "dev.bio"): (4636, 214459, {"LOC": 3530, "ORG": 1999, "PER": 1828}, 551, 0),
    ("msra", "test.bio"): (4365, 172601, {"LOC": 2877, "ORG": 1331, "PER": 1973}, 1475, 0),
    ("msra_45k", "msra_train_bio"): (45000, 2171573, {"LOC": 36860, "ORG": 20584, "PER": 17615}, 746, 57),
    ("msra_45k", "msra_test_bio"): (3442, 172601, {"LOC": 2886, "ORG": 1331, "PER": 1973}, 2427, 0),
}
"""Sentences, tokens, entities, longest and mends, as the data's README has them."""


def snapshot(folder: Path) -> Dict[str, bytes]:
    """Every file and folder below, with its bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"<folder>"
        for path in sorted(folder.rglob("*"))
    }


def numbered(n: int) -> List[List[Column]]:
    return [[(char, "B-LOC") for char in str(i)] for i in range(n)]


def read_docs(path: Path) -> List[Doc]:
    vocab = spacy.blank("zh").vocab
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [doc for file in files for doc in DocBin().from_disk(file).get_docs(vocab)]


@pytest.fixture
def bio(tmp_path: Path) -> Path:
    path = tmp_path / "in.bio"
    write_bio(path, numbered(12))
    return path


@settings(max_examples=25)
@given(written=st.lists(sentences(), min_size=1, max_size=6), size=st.integers(1, 4))
def test_entities_survive(
    written: List[List[Column]], size: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("convert")
    write_bio(folder / "in.bio", written)
    summary = convert(folder / "in.bio", folder / "out", n_docs_per_file=size)
    docs = read_docs(folder / "out")
    assert [doc.text for doc in docs] == ["".join(token for token, _ in columns) for columns in written]
    beginnings = [tag[2:] for columns in written for _, tag in columns if tag.startswith("B-")]
    assert [ent.label_ for doc in docs for ent in doc.ents] == beginnings
    assert summary.sentences == len(written)
    assert summary.tokens == sum(map(len, written))
    assert summary.longest == max(map(len, written))
    assert summary.entities.total() == len(beginnings)


@pytest.mark.parametrize(("size", "files"), [(1, 12), (5, 3), (6, 2), (12, 1), (100, 1)])
def test_files_hold_n_docs_in_order(tmp_path: Path, bio: Path, size: int, files: int) -> None:
    out = tmp_path / "train"
    assert convert(bio, out, n_docs_per_file=size).files == files
    assert [path.name for path in sorted(out.iterdir())] == [f"train-{i:05}.spacy" for i in range(files)]
    lengths = [len(DocBin().from_disk(path)) for path in sorted(out.iterdir())]
    assert lengths[:-1] == [size] * (files - 1)
    assert [doc.text for doc in read_docs(out)] == [str(i) for i in range(12)]


def test_vocab_is_renewed_within_and_between_files(
    tmp_path: Path, bio: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "N_DOCS_PER_FILE", 5)
    convert(bio, tmp_path / "out", n_docs_per_file=7)
    convert(bio, tmp_path / "out.spacy")
    for out in (tmp_path / "out", tmp_path / "out.spacy"):
        assert [doc.text for doc in read_docs(out)] == [str(i) for i in range(12)]


@pytest.mark.parametrize("output", ["corpus/train", "corpus/train.spacy"])
def test_spacy_corpus_reads_it_back(tmp_path: Path, bio: Path, output: str) -> None:
    nlp = spacy.blank("zh")
    convert(bio, tmp_path / output, n_docs_per_file=None if output.endswith(".spacy") else 5)
    examples = list(Corpus(tmp_path / output)(nlp))
    assert [example.reference.text for example in examples] == [str(i) for i in range(12)]
    for example in examples:
        assert [token.text for token in example.predicted] == [token.text for token in example.reference]
        assert example.get_aligned_ner() == ["U-LOC"] * len(example.reference)


def test_same_input_gives_the_same_bytes(tmp_path: Path, bio: Path) -> None:
    convert(bio, tmp_path / "a" / "out", n_docs_per_file=5)
    convert(bio, tmp_path / "b" / "out", n_docs_per_file=5)
    assert snapshot(tmp_path / "a") == snapshot(tmp_path / "b")


def test_only_needed_attributes_are_stored(tmp_path: Path, bio: Path) -> None:
    convert(bio, tmp_path / "out.spacy")
    stored = DocBin().from_disk(tmp_path / "out.spacy")
    assert set(stored.attrs) == set(DocBin(attrs=["ORTH", "ENT_IOB", "ENT_TYPE"]).attrs)
    assert not stored.user_data or not any(stored.user_data)


@pytest.mark.parametrize("output", ["out", "out.spacy", "new/deep/out", "new/out.spacy"])
@pytest.mark.parametrize("line", [line for line, _ in (*BAD_LINES, *MENDABLE_LINES)][::4])
def test_bad_input_leaves_nothing_behind(tmp_path: Path, bio: Path, output: str, line: bytes) -> None:
    n_lines = bio.read_bytes().count(b"\n")
    bio.write_bytes(bio.read_bytes() + line + b"\n")
    before = snapshot(tmp_path)
    with pytest.raises(FormatError) as caught:
        convert(bio, tmp_path / output, n_docs_per_file=None if output.endswith(".spacy") else 2)
    assert str(caught.value).startswith(f"{bio}:{n_lines + 1}: ")
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("output", ["out", "out.spacy"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, OSError])
def test_previous_output_survives_an_interrupt(
    tmp_path: Path, bio: Path, output: str, error: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert(bio, tmp_path / output)
    before = snapshot(tmp_path)

    def fail(n_bytes: int) -> None:
        raise error

    with pytest.raises(FormatError if error is OSError else error):
        convert(bio, tmp_path / output, progress=fail)
    assert snapshot(tmp_path) == before

    real_rename = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if tmp_path / output in (target, target.parent) and self.parent.name != "previous":
            raise error
        return real_rename(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    monkeypatch.setattr(Path, "replace", rename)
    with pytest.raises(FormatError if error is OSError else error):
        convert(bio, tmp_path / output)
    assert snapshot(tmp_path) == before


def test_previous_output_is_replaced_whole(tmp_path: Path, bio: Path) -> None:
    out = tmp_path / "out"
    convert(bio, out, n_docs_per_file=1)
    convert(bio, out, n_docs_per_file=6)
    assert len(list(out.iterdir())) == 2
    convert(bio, tmp_path / "out.spacy")
    write_bio(bio, numbered(3))
    convert(bio, tmp_path / "out.spacy")
    assert len(read_docs(tmp_path / "out.spacy")) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.bio", "out", "out.spacy"]


def refusals(folder: Path) -> List[Tuple[str, str]]:
    (folder / "mixed").mkdir()
    (folder / "mixed" / "notes.txt").write_text("keep")
    (folder / "nested" / "a.spacy").mkdir(parents=True)
    (folder / "dir.spacy").mkdir()
    (folder / "file").write_text("keep")
    return [
        ("mixed", "'notes.txt'"),
        ("nested", "'a.spacy'"),
        ("dir.spacy", "is a directory"),
        ("file", "is a file"),
        ("file/out", "cannot be written"),
        ("in.bio", "is the input itself"),
    ]


def test_output_that_would_destroy_something_is_refused(tmp_path: Path, bio: Path) -> None:
    cases = refusals(tmp_path)
    before = snapshot(tmp_path)
    for output, what in cases:
        with pytest.raises(FormatError) as caught:
            convert(bio, tmp_path / output)
        assert str(caught.value).startswith(f"{tmp_path / output}: ")
        assert what in caught.value.what
        assert snapshot(tmp_path) == before


def test_one_file_and_docs_per_file_contradict(tmp_path: Path, bio: Path) -> None:
    with pytest.raises(FormatError, match="--n-docs-per-file"):
        convert(bio, tmp_path / "out.spacy", n_docs_per_file=5)
    with pytest.raises(ValueError, match="n_docs_per_file"):
        convert(bio, tmp_path / "out", n_docs_per_file=0)


def test_more_files_than_names_sort(tmp_path: Path, bio: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FILES", 11)
    before = snapshot(tmp_path)
    with pytest.raises(FormatError, match="larger --n-docs-per-file"):
        convert(bio, tmp_path / "out", n_docs_per_file=1)
    assert snapshot(tmp_path) == before


def test_link_to_a_folder_stays_a_link(tmp_path: Path, bio: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    convert(bio, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert len(read_docs(tmp_path / "real")) == 12


def test_unknown_language(tmp_path: Path, bio: Path) -> None:
    with pytest.raises(FormatError, match=r"--lang qq: .*qq.*; ") as caught:
        convert(bio, tmp_path / "out", lang="qq")
    assert "\n" not in str(caught.value)


def test_sentence_too_long_for_a_doc(tmp_path: Path) -> None:
    path = tmp_path / "in.bio"
    path.write_text("中 O\n\n" + "中 O\n" * 600_000, encoding="utf8")
    with pytest.raises(FormatError, match=":3: a sentence of 600000 tokens"):
        convert(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_own_boundaries_are_counted_with_the_first_line(tmp_path: Path) -> None:
    path = tmp_path / "in.bio"
    inside = [("　", "B-LOC"), ("　", "O")]
    write_bio(path, [[("中", "O")], inside, [("　", "O"), ("　", "O")], inside])
    summary = convert(path, tmp_path / "out")
    assert (summary.own_boundaries, summary.first_own, summary.retokenised) == (2, 3, 1)


def test_progress_adds_up_to_the_file(tmp_path: Path, bio: Path) -> None:
    seen: List[int] = []
    convert(bio, tmp_path / "out", progress=seen.append)
    assert len(seen) == 12
    assert sum(seen) == bio.stat().st_size


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "name"), COUNTS)
def test_counts_of_both_msra_copies(data_dir: Path, tmp_path: Path, folder: str, name: str) -> None:
    summary = convert(data_dir / folder / name, tmp_path / "out", repair=True)
    found = (summary.sentences, summary.tokens, summary.entities, summary.longest, summary.repaired[EMPTY_TAG])
    assert found == COUNTS[folder, name]
    assert summary.repaired.total() == summary.repaired[EMPTY_TAG]
    assert (summary.skipped, summary.own_boundaries, summary.retokenised) == (0, 0, 0)


def test_repair_is_needed_for_the_45k_copy(data_dir: Path, tmp_path: Path) -> None:
    path = data_dir / "msra_45k" / "msra_train_bio"
    lines = path.read_bytes().split(b"\n")
    first = next(number for number, line in enumerate(lines, start=1) if line.endswith(b"\t"))
    with pytest.raises(FormatError, match="--repair") as caught:
        convert(path, tmp_path / "out")
    assert caught.value.line == first
    assert list(tmp_path.iterdir()) == []


def test_another_language_joins_and_cuts_as_it_writes(tmp_path: Path) -> None:
    path = tmp_path / "in.bio"
    path.write_text("I O\nlive O\nin O\nNew B-LOC\nYork I-LOC\n. O\n", encoding="utf8")
    summary = convert(path, tmp_path / "out", lang="en")
    (doc,) = DocBin().from_disk(tmp_path / "out" / "out-00000.spacy").get_docs(spacy.blank("en").vocab)
    assert doc.text == "I live in New York ."
    assert [token.text for token in doc] == ["I", "live", "in", "New", "York", "."]
    assert [(ent.text, ent.label_) for ent in doc.ents] == [("New York", "LOC")]
    assert (summary.retokenised, summary.own_boundaries) == (0, 0)


def test_an_existing_directory_stays_itself(tmp_path: Path, bio: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be a mount point, or the one that the user stands in."""
    out = tmp_path / "out"
    out.mkdir(mode=0o750)
    (out / "old.spacy").write_bytes(b"")
    before = out.stat()
    monkeypatch.chdir(out)
    convert(bio, ".")
    assert [path.name for path in Path.cwd().iterdir()] == ["out-00000.spacy"]
    assert (out.stat().st_ino, out.stat().st_mode) == (before.st_ino, before.st_mode)
