"""Damaged files of every format: each ends in one clear line, or in all that is still there. Nothing is left."""

import json
import random
import re
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Tuple

import pytest
from spacy.tokens import DocBin

from spacy_crf_ner.formats.convert import convert
from spacy_crf_ner.formats.errors import FormatError
from tests.formats.reading import BLANK, found_in, put
from tests.formats.samples import SAMPLES

N_FILES = 60
"""Damaged files of each format; each is read twice, with its format given and told."""

Damage = Callable[[random.Random, str], str]


def _cut(rng: random.Random, text: str) -> str:
    return text[: rng.randrange(1, len(text))]


def _drop_line(rng: random.Random, text: str) -> str:
    lines = text.split("\n")
    del lines[rng.randrange(len(lines))]
    return "\n".join(lines)


def _double_line(rng: random.Random, text: str) -> str:
    lines = text.split("\n")
    i = rng.randrange(len(lines))
    return "\n".join([*lines[:i], lines[i], *lines[i:]])


def _swap_lines(rng: random.Random, text: str) -> str:
    lines = text.split("\n")
    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[i], lines[j] = lines[j], lines[i]
    return "\n".join(lines)


def _drop_character(rng: random.Random, text: str) -> str:
    i = rng.randrange(len(text))
    return text[:i] + text[i + 1 :]


def _insert(rng: random.Random, text: str) -> str:
    i = rng.randrange(len(text))
    return text[:i] + rng.choice('\t\n\r ,/()[]{}"\\#-_*:09BIOx中\ufeff\u200b\x00\x1b\ud800') + text[i:]


def _replace(rng: random.Random, text: str) -> str:
    i = rng.randrange(len(text))
    return text[:i] + rng.choice("\t\n ,O0B-X}]") + text[i + 1 :]


def _double_part(rng: random.Random, text: str) -> str:
    i = rng.randrange(len(text))
    j = min(len(text), i + rng.randrange(1, 40))
    return text[:j] + text[i:j] + text[j:]


def _drop_part(rng: random.Random, text: str) -> str:
    i = rng.randrange(len(text))
    return text[:i] + text[i + rng.randrange(1, 40) :]


def _rename(rng: random.Random, text: str) -> str:
    pairs = [
        ("B-PER", "I-PER"),
        ("PER", ""),
        ("O", "o"),
        ("PER", "B-LOC"),
        ("B-", "B_"),
        ("\t", " "),
        ("text", "txt"),
    ]
    old, new = rng.choice(pairs)
    return text.replace(old, new, rng.choice([1, 2, -1]))


DAMAGES: Dict[str, Damage] = {
    damage.__name__.strip("_"): damage
    for damage in (
        _cut,
        _drop_line,
        _double_line,
        _swap_lines,
        _drop_character,
        _insert,
        _replace,
        _double_part,
        _drop_part,
        _rename,
    )
}


def damaged(format: str, content: str) -> Iterator[Tuple[str, str]]:
    """What was done, and the file."""
    rng = random.Random(f"11 {format}")
    names = list(DAMAGES)
    for number in range(N_FILES):
        name = names[number % len(names)]
        text = DAMAGES[name](rng, content)
        if rng.random() < 0.3:
            second = rng.choice(names)
            name, text = f"{name}, {second}", DAMAGES[second](rng, text or " ")
        yield name, text


def check_message(error: FormatError, path: Path, case: str) -> None:
    """One line that names the file, what is wrong and what to do."""
    message = str(error)
    assert message.startswith(f"{path}"), case
    assert "\n" not in message and message.isprintable() and len(message) < 1500, case
    assert error.what and error.fix, case


@pytest.mark.parametrize("told", [False, True], ids=["given", "auto"])
@pytest.mark.parametrize("format", SAMPLES)
def test_damaged_file_is_refused_or_read_without_loss(tmp_path: Path, format: str, told: bool) -> None:
    sample = SAMPLES[format]
    ended: List[bool] = []
    for number, (damage, text) in enumerate(damaged(format, sample.content)):
        case = f"{format} {number}: {damage}\n{text!r}"
        raw = text.encode("utf8", errors="surrogatepass")
        path = put(tmp_path, raw)
        output = tmp_path / "out"
        try:
            counts, _ = convert(
                [path],
                output,
                lambda: BLANK["en"],
                format="auto" if told else format,
                settings={} if told else sample.settings,
            )
        except FormatError as error:
            check_message(error, path, case)
            assert not output.exists(), case
            ended.append(False)
        else:
            expected = sample.n_entities(text)
            assert expected is not None, case
            accounted = (
                counts.entities.total() + counts.overlapping + counts.duplicates + sum(counts.notes.values())
            )
            assert accounted >= expected, case
            for file in output.iterdir():
                file.unlink()
            output.rmdir()
            ended.append(True)
        # Whatever happened, nothing but the input is left.
        assert sorted(tmp_path.iterdir()) == [path], case
    assert len(ended) == N_FILES
    assert 0 < sum(ended) < N_FILES  # both happen, or nothing is shown


ANN = "T1\tPER 0 7\tAnn Lee\nT2\tLOC 13 21\tNew York\nR1\tIn Arg1:T1 Arg2:T2\n#1\tAnnotatorNotes T1\tsure\n"


def test_damaged_annotation_of_brat_is_refused_or_read_without_loss(tmp_path: Path) -> None:
    text = put(tmp_path, "Ann Lee left New York .\n", "a.txt")
    n_read = 0
    for number, (damage, content) in enumerate(damaged("brat", ANN)):
        case = f"{number}: {damage}\n{content!r}"
        annotation = put(tmp_path, content.encode("utf8", errors="surrogatepass"), "a.ann")
        try:
            found = found_in(text, lang="en")
        except FormatError as error:
            check_message(error, annotation if str(error).startswith(str(annotation)) else text, case)
            continue
        n_read += 1
        n_entities = len(re.findall(r"^T\d+\t\S+ \d+ \d+(?:;\d+ \d+)*\t", content, flags=re.M))
        counts = found.counts
        left = counts.overlapping + counts.duplicates + sum(counts.notes.values())
        assert counts.entities.total() + left >= n_entities, case
    assert 0 < n_read < N_FILES


@pytest.mark.parametrize("format", ["spacy", "parquet"])
def test_damaged_bytes_are_refused_or_read(tmp_path: Path, format: str) -> None:
    rng = random.Random(f"11 {format}")
    path = tmp_path / "a.bin"
    if format == "spacy":
        raw = DocBin(docs=found_in(put(tmp_path, SAMPLES["bio"].content), lang="en").docs).to_bytes()
    else:
        parquet = pytest.importorskip("pyarrow.parquet")
        records = [json.loads(line) for line in SAMPLES["huggingface"].content.splitlines()]
        parquet.write_table(pytest.importorskip("pyarrow").Table.from_pylist(records), path)
        raw = path.read_bytes()
    n_refused = 0
    for number in range(N_FILES):
        at = rng.randrange(len(raw))
        ways = [raw[:at], raw[:at] + bytes([rng.randrange(256)]) + raw[at:], raw[at:]]
        put(tmp_path, ways[number % len(ways)] or b"\x00", path.name)
        try:
            found = found_in(path, format=format, lang="en")
        except FormatError as error:
            check_message(error, path, f"{number}")
            n_refused += 1
        else:
            assert found.counts.entities == {"PER": 2, "LOC": 1}, number
    assert n_refused > N_FILES // 2
