import signal
from pathlib import Path
from typing import Any, Dict, List, Tuple, Union

import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.tokens import Doc, DocBin, Span
from spacy.training import Corpus

import spacy_crf_ner.formats.convert as convert_module
import spacy_crf_ner.formats.writing as writing
from spacy_crf_ner.formats.convert import convert as package_convert
from spacy_crf_ner.formats.doc_builder import MISSING_WRITTEN, Counts
from spacy_crf_ner.formats.errors import FormatError
from spacy_crf_ner.formats.writing import Written
from spacy_crf_ner.tagging import EMPTY_TAG
from tests.formats.util import BAD_LINES, REPAIRABLE_LINES, Column, sentences, write_bio
from tests.util import n_drawn

MSRA = {
    ("msra", "train.bio"): (41719, 1955420, {"LOC": 32987, "ORG": 18572, "PER": 15787}, 625, {}),
    ("msra", "dev.bio"): (4636, 214459, {"LOC": 3530, "ORG": 1999, "PER": 1828}, 551, {}),
    ("msra", "test.bio"): (4365, 172601, {"LOC": 2877, "ORG": 1331, "PER": 1973}, 1475, {}),
    ("msra_45k", "msra_train_bio"): (
        45000,
        2171573,
        {"LOC": 36860, "ORG": 20584, "PER": 17615},
        746,
        {EMPTY_TAG: 57},
    ),
    ("msra_45k", "msra_test_bio"): (3442, 172601, {"LOC": 2886, "ORG": 1331, "PER": 1973}, 2427, {}),
}
"""Sentences, tokens, entities, longest and corrections, as the data's README has them."""

OTHERS = {
    ("cluener", "train.json"): ("zh", 10748, 401764, 23971, 50),
    ("cluener", "dev.json"): ("zh", 1343, 50260, 3072, 50),
    ("weibo", "weiboNER_2nd_conll.train"): ("zh", 1350, 73778, 1895, 175),
    ("weibo", "weiboNER_2nd_conll.dev"): ("zh", 270, 14509, 389, 145),
    ("weibo", "weiboNER_2nd_conll.test"): ("zh", 270, 14842, 418, 146),
    ("wnut17", "wnut17train.conll"): ("en", 3394, 62730, 1975, 41),
    ("wnut17", "emerging.dev.conll"): ("en", 1009, 15733, 836, 82),
    ("wnut17", "emerging.test.annotated"): ("en", 1287, 23394, 1079, 105),
    ("conll04", "conll04_train.json"): ("en", 922, None, None, None),
    ("conll04", "conll04_dev.json"): ("en", 231, None, None, None),
    ("conll04", "conll04_test.json"): ("en", 288, None, None, None),
}
"""Language, sentences, tokens, all entities and longest, as the data's README has them (None: it has not).
Those of WNUT17 were counted with awk: rows, B- tags and the most rows between two empty lines."""


def convert(
    inputs: Union[Path, List[Path]], output: Path, lang: str = "zh", **options: Any
) -> Tuple[Counts, Written]:
    """`convert` of this package, with a blank pipeline of a language."""
    paths = inputs if isinstance(inputs, list) else [inputs]
    return package_convert(paths, output, lambda: spacy.blank(lang), **options)


def snapshot(folder: Path) -> Dict[str, bytes]:
    """Every file and folder below, with its bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"<folder>"
        for path in sorted(folder.rglob("*"))
    }


def numeral(i: int) -> str:
    """A number that is not a column of digits, which would be no text."""
    return str(i).translate(
        {ord(digit): character for digit, character in zip("0123456789", "零一二三四五六七八九")}
    )


def numbered(n: int) -> List[List[Column]]:
    return [[(char, "B-LOC") for char in numeral(i)] for i in range(n)]


def read_docs(path: Path) -> List[Doc]:
    vocab = spacy.blank("zh").vocab
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [doc for file in files for doc in DocBin().from_disk(file).get_docs(vocab)]


@pytest.fixture
def bio(tmp_path: Path) -> Path:
    path = tmp_path / "in.bio"
    write_bio(path, numbered(12))
    return path


@settings(max_examples=n_drawn(25), deadline=None)
@given(written=st.lists(sentences(), min_size=1, max_size=6), size=st.integers(1, 4))
def test_entities_survive(
    written: List[List[Column]], size: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("convert")
    write_bio(folder / "in.bio", written)
    counts, _ = convert(folder / "in.bio", folder / "out", n_docs_per_file=size)
    docs = read_docs(folder / "out")
    assert [doc.text for doc in docs] == ["".join(token for token, _ in columns) for columns in written]
    beginnings = [tag[2:] for columns in written for _, tag in columns if tag.startswith("B-")]
    assert [ent.label_ for doc in docs for ent in doc.ents] == beginnings
    assert counts.docs == len(written)
    assert counts.tokens == sum(map(len, written))
    assert counts.characters == sum(len(token) for columns in written for token, _ in columns)
    assert counts.longest_tokens == max(map(len, written))
    assert counts.longest_characters == max(sum(len(token) for token, _ in columns) for columns in written)
    assert counts.entities.total() == len(beginnings)


@pytest.mark.parametrize(("size", "files"), [(1, 12), (5, 3), (6, 2), (12, 1), (100, 1)])
def test_files_hold_n_docs_in_order(tmp_path: Path, bio: Path, size: int, files: int) -> None:
    out = tmp_path / "train"
    assert convert(bio, out, n_docs_per_file=size)[1].files == files
    assert [path.name for path in sorted(out.iterdir())] == [f"train-{i:05}.spacy" for i in range(files)]
    lengths = [len(DocBin().from_disk(path)) for path in sorted(out.iterdir())]
    assert lengths[:-1] == [size] * (files - 1)
    assert [doc.text for doc in read_docs(out)] == [numeral(i) for i in range(12)]


def test_vocab_is_renewed_within_and_between_files(
    tmp_path: Path, bio: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convert_module, "RENEW_EVERY", 5)
    convert(bio, tmp_path / "out", n_docs_per_file=7)
    convert(bio, tmp_path / "out.spacy")
    for out in (tmp_path / "out", tmp_path / "out.spacy"):
        assert [doc.text for doc in read_docs(out)] == [numeral(i) for i in range(12)]


@pytest.mark.parametrize("output", ["corpus/train", "corpus/train.spacy"])
def test_spacy_corpus_reads_it_back(tmp_path: Path, bio: Path, output: str) -> None:
    nlp = spacy.blank("zh")
    convert(bio, tmp_path / output, n_docs_per_file=None if output.endswith(".spacy") else 5)
    examples = list(Corpus(tmp_path / output)(nlp))
    assert [example.reference.text for example in examples] == [numeral(i) for i in range(12)]
    for example in examples:
        assert [token.text for token in example.predicted] == [token.text for token in example.reference]
        assert example.get_aligned_ner() == ["U-LOC"] * len(example.reference)


def test_same_input_gives_the_same_bytes(tmp_path: Path, bio: Path) -> None:
    convert(bio, tmp_path / "a" / "out", n_docs_per_file=5)
    convert(bio, tmp_path / "b" / "out", n_docs_per_file=5)
    assert snapshot(tmp_path / "a") == snapshot(tmp_path / "b")


def test_what_a_docbin_holds_beside_entities_is_kept(tmp_path: Path) -> None:
    nlp = spacy.blank("en")
    doc = Doc(
        nlp.vocab, words=["We", "like", "London"], pos=["PRON", "VERB", "PROPN"], sent_starts=[True, False, True]
    )
    doc.ents = [Span(doc, 2, 3, label="LOC", kb_id="Q84")]
    doc.spans["all"] = [doc[1:3]]
    doc.user_data["relations"] = [{"label": "x"}]
    DocBin(docs=[doc], store_user_data=True).to_disk(tmp_path / "in.spacy")
    convert(tmp_path / "in.spacy", tmp_path / "out.spacy", "en")
    (kept,) = read_docs(tmp_path / "out.spacy")
    assert [token.pos_ for token in kept] == ["PRON", "VERB", "PROPN"]
    assert [sentence.text for sentence in kept.sents] == ["We like", "London"]
    assert [(ent.text, ent.label_, ent.kb_id_) for ent in kept.ents] == [("London", "LOC", "Q84")]
    assert [span.text for span in kept.spans["all"]] == ["like London"]
    assert kept.user_data == {"relations": ({"label": "x"},)}  # spaCy makes tuples of saved lists


@pytest.mark.parametrize("output", ["out", "out.spacy", "new/deep/out", "new/out.spacy"])
@pytest.mark.parametrize("line", [line for line, _ in (*BAD_LINES, *REPAIRABLE_LINES)][::4])
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
        ("file", "is not a directory"),
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
    monkeypatch.setattr(writing, "MAX_FILES", 11)
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


def test_sentence_too_long_for_a_doc(tmp_path: Path) -> None:
    path = tmp_path / "in.bio"
    path.write_text("中 O\n\n" + "中 O\n" * 1_000_001, encoding="utf8")
    with pytest.raises(FormatError, match=":3: a text of 1,000,001 characters"):
        convert(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_own_boundaries_are_counted_with_the_first_line(tmp_path: Path) -> None:
    path = tmp_path / "in.bio"
    inside = [("　", "B-LOC"), ("　", "O")]
    write_bio(path, [[("中", "O")], inside, [("　", "O"), ("　", "O")], inside])
    counts, _ = convert(path, tmp_path / "out")
    assert (counts.own_boundaries, str(counts.first_own), counts.retokenised) == (2, f"{path}:3", 1)


def test_progress_adds_up_to_the_file(tmp_path: Path, bio: Path) -> None:
    seen: List[int] = []
    convert(bio, tmp_path / "out", progress=seen.append)
    assert sum(seen) == bio.stat().st_size


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "name"), [pytest.param(*key, marks=pytest.mark.deep if "train" in key[1] else ()) for key in MSRA]
)
def test_counts_of_both_msra_copies(data_dir: Path, tmp_path: Path, folder: str, name: str) -> None:
    counts, _ = convert(data_dir / folder / name, tmp_path / "out", settings={"repair": True})
    found = (counts.docs, counts.tokens, counts.entities, counts.longest_tokens, counts.notes)
    assert found == MSRA[folder, name]
    assert (counts.empty, counts.own_boundaries, counts.retokenised, counts.overlapping) == (0, 0, 0, 0)


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "name"), OTHERS)
def test_counts_of_the_other_sets(data_dir: Path, tmp_path: Path, folder: str, name: str) -> None:
    lang, n_sentences, n_tokens, n_entities, longest = OTHERS[folder, name]
    settings = {"repair": True} if folder == "weibo" else {}
    counts, _ = convert(data_dir / folder / name, tmp_path / "out", lang, settings=settings)
    assert counts.docs == n_sentences
    assert counts.tokens == n_tokens or n_tokens is None
    assert counts.entities.total() + counts.overlapping == n_entities or n_entities is None
    assert counts.longest_tokens == longest or longest is None
    assert (counts.empty, counts.duplicates) == (0, 0)
    assert bool(counts.relations) == (folder == "conll04")


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
    counts, _ = convert(path, tmp_path / "out", "en")
    (doc,) = DocBin().from_disk(tmp_path / "out" / "out-00000.spacy").get_docs(spacy.blank("en").vocab)
    assert doc.text == "I live in New York ."
    assert [token.text for token in doc] == ["I", "live", "in", "New", "York", "."]
    assert [(ent.text, ent.label_) for ent in doc.ents] == [("New York", "LOC")]
    assert (counts.retokenised, counts.own_boundaries) == (0, 0)


def test_an_existing_directory_stays_itself(tmp_path: Path, bio: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be a mount point, or the one that the user stands in."""
    out = tmp_path / "out"
    out.mkdir(mode=0o750)
    (out / "old.spacy").write_bytes(b"")
    before = out.stat()
    monkeypatch.chdir(out)
    convert(bio, Path("."))
    assert [path.name for path in Path.cwd().iterdir()] == ["out-00000.spacy"]
    assert (out.stat().st_ino, out.stat().st_mode) == (before.st_ino, before.st_mode)


def test_text_goes_to_standard_output(bio: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    counts, written = convert(bio, Path("-"), to="bioes")
    assert (counts.docs, written.files) == (12, 1)
    assert capfdbinary.readouterr().out.startswith("零 S-LOC\n\n一 S-LOC\n\n".encode())


def test_a_docbin_does_not(bio: Path) -> None:
    with pytest.raises(FormatError, match="name a file"):
        convert(bio, Path("-"))


def test_the_folder_that_holds_the_input_is_no_output(tmp_path: Path, bio: Path) -> None:
    convert(bio, tmp_path / "out", n_docs_per_file=5)
    before = snapshot(tmp_path)
    for inputs in (tmp_path / "out", tmp_path / "out" / "out-00001.spacy"):
        with pytest.raises(FormatError, match="is the input itself, or holds it"):
            convert(inputs, tmp_path / "out")
    assert snapshot(tmp_path) == before


def test_a_byte_order_mark_that_is_text_survives(tmp_path: Path) -> None:
    (tmp_path / "in.bio").write_text("\ufeff\ufeff O\n中 B-LOC\n", encoding="utf8")
    convert(tmp_path / "in.bio", tmp_path / "out.bio", to="bio")
    convert(tmp_path / "out.bio", tmp_path / "out.spacy")
    assert [doc.text for doc in read_docs(tmp_path / "out.spacy")] == ["\ufeff中"]


def test_missing_annotation_is_counted_when_it_becomes_no_entity(tmp_path: Path) -> None:
    doc = spacy.blank("zh").make_doc("中国人")
    doc.set_ents([Span(doc, 0, 1, label="LOC")], default="missing")
    DocBin(docs=[doc]).to_disk(tmp_path / "in.spacy")
    for to, text in (
        ("bio", "中 B-LOC\n国 O\n人 O\n\n"),
        ("doccano", '{"text": "中国人", "label": [[0, 1, "LOC"]]}\n'),
    ):
        _, written = convert(tmp_path / "in.spacy", tmp_path / "out", to=to)
        assert (tmp_path / "out").read_text(encoding="utf8") == text
        assert written.notes[MISSING_WRITTEN] == 2


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, bio: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit on the size of a file stands for the disk: the system refuses to write in the same place."""
    resource = pytest.importorskip("resource", reason="limits of resources are POSIX")
    write_bio(bio, numbered(4000))
    before = snapshot(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for output, to in (("out", "spacy"), ("out.spacy", "spacy"), ("out.bio", "bio"), ("out.jsonl", "jsonl")):
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 12, hard))
        try:
            with pytest.raises(FormatError, match=r"cannot be written .*has room"):
                convert(bio, tmp_path / output, to=to)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, handler)
        assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "to"),
    [
        ("out.json", "spacy"),
        ("out.BIO", "spacy"),
        ("out.bio.gz", "bio"),
        ("out.xz", "spacy"),
        ("out.spacy", "bio"),
    ],
)
def test_a_name_that_contradicts_the_format_is_refused(tmp_path: Path, bio: Path, name: str, to: str) -> None:
    before = snapshot(tmp_path)
    with pytest.raises(FormatError, match=f"^{tmp_path / name}: "):
        convert(bio, tmp_path / name, to=to)
    assert snapshot(tmp_path) == before


def test_an_output_in_the_folder_that_is_read_is_refused(tmp_path: Path) -> None:
    write_bio(tmp_path / "in.bio", numbered(2))
    with pytest.raises(FormatError, match="lies in the input"):
        convert(tmp_path, tmp_path / "new" / "out.spacy")


def test_spans_key_for_a_format_without_spans(tmp_path: Path, bio: Path) -> None:
    with pytest.raises(ValueError, match=r"--spans-key all: bio holds no entities that overlap; .*cluener"):
        convert(bio, tmp_path / "out", to="bio", spans_key="all")
