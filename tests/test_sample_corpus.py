"""The sample corpus: the committed files are what the script composes, and have the properties promised."""

import importlib.util
import re
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "assets" / "sample"
LEXICON = ROOT / "assets" / "lexicon"
SPLITS = ("train", "dev", "test")
TYPES = {"PER", "LOC", "ORG"}

Tokens = list[tuple[str, str]]  # character and tag
Entity = tuple[int, int, str]  # start, end, type


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_sample", ROOT / "scripts" / "make_sample.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look the module up
    spec.loader.exec_module(module)
    return module


def read_bio(path: Path) -> list[Tokens]:
    text = path.read_text(encoding="utf-8")
    assert text.endswith("\n\n")
    assert "\n\n\n" not in text
    sentences = []
    for block in text[:-2].split("\n\n"):
        pairs = [re.fullmatch(r"(\S) (O|[BI]-(?:PER|LOC|ORG))", line) for line in block.split("\n")]
        assert all(pairs), block
        sentences.append([(pair[1], pair[2]) for pair in pairs if pair])
    return sentences


def entities(sentence: Tokens) -> list[Entity]:
    found: list[Entity] = []
    for i, (_, tag) in enumerate(sentence):
        if tag.startswith("B-"):
            found.append((i, i + 1, tag[2:]))
        elif tag.startswith("I-"):
            start, end, label = found[-1]
            assert (end, label) == (i, tag[2:]), "I- tag that continues nothing"
            found[-1] = (start, i + 1, label)
    return found


def text_of(sentence: Tokens) -> str:
    return "".join(char for char, _ in sentence)


def mentions(sentences: list[Tokens]) -> list[tuple[str, str]]:
    return [(text_of(s[start:end]), label) for s in sentences for start, end, label in entities(s)]


@pytest.fixture(scope="module")
def corpus() -> dict[str, list[Tokens]]:
    return {split: read_bio(SAMPLE / f"{split}.bio") for split in SPLITS}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script()


def test_committed_files_are_what_the_script_writes(script: ModuleType, tmp_path: Path) -> None:
    app = script.typer.Typer()
    app.command()(script.main)
    result = CliRunner().invoke(app, [str(LEXICON), str(tmp_path), "--seed", "0"])
    assert result.exit_code == 0, result.output
    assert "600 sentences" in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{split}.bio" for split in SPLITS)
    for split in SPLITS:
        assert (tmp_path / f"{split}.bio").read_bytes() == (SAMPLE / f"{split}.bio").read_bytes(), split


def test_seed_changes_the_corpus(script: ModuleType) -> None:
    lexicon = script.Lexicon.read(LEXICON)
    first, second = (script.to_bio(script.compose(lexicon, seed)["dev"]) for seed in (1, 2))
    assert first != second


def test_every_slot_has_lines(script: ModuleType) -> None:
    sections = script.Lexicon.read(LEXICON).sections
    slots = {slot for lines in sections.values() for line in lines for slot in script.SLOT.findall(line)}
    names = {slot.partition("#")[0] for slot in slots if "=" not in slot and not script.RANGE.fullmatch(slot)}
    assert names <= sections.keys()
    assert all(sections.values())
    written_out = {slot.partition("=")[0] for slot in slots if "=" in slot}
    assert written_out <= TYPES


def test_bad_lists_are_refused(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no sections"):
        script.Lexicon.read(tmp_path)
    lists = tmp_path / "lists.txt"
    lists.write_text("王\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"lists\.txt:1: line before"):
        script.Lexicon.read(tmp_path)
    lists.write_text("[SURNAME]\n王\n[SURNAME]\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"lists\.txt:3: second section"):
        script.Lexicon.read(tmp_path)


def test_size(corpus: dict[str, list[Tokens]]) -> None:
    assert {split: len(sentences) for split, sentences in corpus.items()} == {
        "train": 600,
        "dev": 120,
        "test": 120,
    }
    assert sum((SAMPLE / f"{split}.bio").stat().st_size for split in SPLITS) < 600_000
    counts = {split: Counter(label for _, label in mentions(corpus[split])) for split in SPLITS}
    assert all(set(count) == TYPES for count in counts.values())
    assert min(counts["train"].values()) > 400
    assert min(min(count.values()) for count in counts.values()) > 60


@pytest.mark.parametrize("split", SPLITS)
def test_share_of_sentences_without_a_name(corpus: dict[str, list[Tokens]], split: str) -> None:
    plain = sum(not entities(sentence) for sentence in corpus[split])
    assert 0.25 <= plain / len(corpus[split]) <= 0.30


def test_long_sentences(corpus: dict[str, list[Tokens]]) -> None:
    long = {split: [s for s in sentences if len(s) >= 800] for split, sentences in corpus.items()}
    assert {split: len(sentences) for split, sentences in long.items()} == {"train": 1, "dev": 0, "test": 1}
    for split in ("train", "test"):
        (sentence,) = long[split]
        starts = [start for start, _, _ in entities(sentence)]
        gaps = [b - a for a, b in zip([0, *starts], [*starts, len(sentence)], strict=True)]
        assert max(gaps) < 60, "a long stretch without a name"


def test_no_sentence_twice(corpus: dict[str, list[Tokens]]) -> None:
    texts = [text_of(sentence) for sentences in corpus.values() for sentence in sentences]
    assert len(set(texts)) == len(texts)


def test_characters(corpus: dict[str, list[Tokens]]) -> None:
    text = "".join(text_of(sentence) for sentences in corpus.values() for sentence in sentences)
    assert not re.search(r"[\x00-\x7f\s]", text)
    assert re.search("[１-２][０-９]{3}年", text)
    assert "％" in text
    assert "·" in text
    assert "ＡＰＥＣ" in text


@pytest.mark.parametrize("split", SPLITS)
def test_adjacent_entities(corpus: dict[str, list[Tokens]], split: str) -> None:
    pairs = Counter(
        (a[2], b[2])
        for sentence in corpus[split]
        for a, b in zip(entities(sentence), entities(sentence)[1:], strict=False)
        if a[1] == b[0]
    )
    assert pairs["LOC", "LOC"] >= 5
    assert pairs["ORG", "PER"] >= 2


def test_kinds_of_names(corpus: dict[str, list[Tokens]]) -> None:
    known = Counter(mentions(corpus["train"]))
    assert sum(len(name) == 1 for name, label in known if label == "LOC") >= 10
    cities = [name for name, label in known if label == "LOC" and len(name) == 2]
    assert any(name.startswith(city) for name, label in known if label == "ORG" for city in cities)
    assert any("·" in name for name, label in known if label == "PER")


def test_characters_of_names_also_occur_outside(corpus: dict[str, list[Tokens]]) -> None:
    outside = {char for sentence in corpus["train"] for char, tag in sentence if tag == "O"}
    assert set("高黄白江中日马张石法美") <= outside


@pytest.mark.parametrize("split", ["dev", "test"])
def test_share_of_names_not_in_training(corpus: dict[str, list[Tokens]], split: str) -> None:
    known = set(mentions(corpus["train"]))
    total = Counter(label for _, label in mentions(corpus[split]))
    unseen = Counter(label for name, label in mentions(corpus[split]) if (name, label) not in known)
    shares = {label: unseen[label] / total[label] for label in TYPES}
    assert shares["PER"] >= 0.40
    assert shares["LOC"] >= 0.25
    assert shares["ORG"] >= 0.25
    assert max(shares.values()) < 0.80


def test_dev_and_test_have_templates_of_their_own(script: ModuleType) -> None:
    lexicon = script.Lexicon.read(LEXICON)
    templates = lexicon.group("template.")
    assert len(set(templates)) == len(templates) >= 80
    used = script.split_templates(script.Composer(lexicon, script.Random(0)), templates)
    for split in ("dev", "test"):
        own = set(used[split]) - set(used["train"])
        assert len(own) >= 0.09 * len(templates)
        assert set(used[split]) - own, "nothing in common with training"
