import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from shutil import rmtree
from time import monotonic, sleep
from typing import Dict, List, Optional, Sequence, Tuple

import pytest
import spacy
from spacy.cli._util import app
from spacy.tokens import Doc, DocBin, Span
from typer.testing import CliRunner

import spacy_crf_ner.cli.split  # noqa: F401
from tests.cli.util import invoke
from tests.warm_python import WarmPython

run = partial(invoke, "split")

SENTENCES = [(f"第{i}个人在北京。", [(-3, -1, "LOC")] if i % 2 else []) for i in range(40)]
COMMAND = [sys.executable, "-m", "spacy", "crf", "split"]


def write_jsonl(path: Path, sentences: Sequence[Tuple[str, Sequence[Tuple[int, int, str]]]]) -> None:
    records = (
        {
            "text": text,
            "spans": [
                {"start": len(text) + start, "end": len(text) + end, "label": label} for start, end, label in spans
            ],
            "number": number,
        }
        for number, (text, spans) in enumerate(sentences)
    )
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf8")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    write_jsonl(path, SENTENCES)
    return path


def unwrapped(stdout: str) -> str:
    return " ".join(stdout.split())


def refused(*args: object) -> str:
    """The one line of an error."""
    code, stdout, stderr = run(*args)
    lines = [line for line in stderr.splitlines() if ": read as --format " not in line]
    assert (code, stdout, len(lines)) == (1, "", 1), stderr
    assert "; " in lines[0]
    return lines[0]


def read_docs(path: Path) -> List[Doc]:
    return list(DocBin().from_disk(path).get_docs(spacy.blank("zh").vocab))


def names(folder: Path) -> List[str]:
    return sorted(path.name for path in folder.iterdir())


def rows(stdout: str) -> Dict[str, List[str]]:
    """The table's rows, by their first cell."""
    found = {}
    for line in stdout.splitlines():
        cells = [cell.strip() for cell in line.split("  ") if cell.strip()]
        if len(cells) > 1:
            found[cells[0]] = cells[1:]
    return found


def test_command_line_writes_the_parts_and_the_table(data: Path, tmp_path: Path, shell: WarmPython) -> None:
    out = tmp_path / "new" / "corpus"
    result = shell.spacy("crf", "split", data, "--dev", "0.1", "--test", "8", "--output", out)
    assert result.returncode == 0, result.stderr
    assert names(out) == ["dev.spacy", "test.spacy", "train.spacy"]
    parts = {name: read_docs(out / f"{name}.spacy") for name in ("train", "dev", "test")}
    assert {name: len(docs) for name, docs in parts.items()} == {"train": 28, "dev": 4, "test": 8}
    numbers = {name: [doc.user_data["meta"]["number"] for doc in docs] for name, docs in parts.items()}
    assert sorted(number for own in numbers.values() for number in own) == list(range(40))
    for name, docs in parts.items():
        assert numbers[name] == sorted(numbers[name])
        for number, doc in zip(numbers[name], docs):
            assert (doc.text, [ent.text for ent in doc.ents]) == (
                SENTENCES[number][0],
                ["北京"] * (number % 2),
            )
            assert list(doc.user_data) == ["meta"]
    table = rows(result.stdout)
    assert table["Sentences"] == ["40", "28", "70.00", "4", "10.00", "8", "20.00"]
    assert table["without entity"] == ["20", "14", "70.00", "2", "10.00", "4", "20.00"]
    assert table["Entities"] == table["LOC"] == ["20", "14", "70.00", "2", "10.00", "4", "20.00"]
    assert f"Wrote {out}/train.spacy, {out}/dev.spacy, {out}/test.spacy" in unwrapped(result.stdout)
    assert "kept together" not in unwrapped(result.stdout)


def test_same_seed_gives_the_same_bytes_in_any_process(data: Path, tmp_path: Path) -> None:
    of_many_types = [(f"{text}另", [(-4, -2, f"TYPE{i % 12}")]) for i, (text, _) in enumerate(SENTENCES[:24])]
    write_jsonl(tmp_path / "b.jsonl", of_many_types * 2)
    args = [str(tmp_path / "b.jsonl"), str(data), "--dev", "0.2", "--seed"]
    # Another order of sets and dicts of strings than in this process.
    command = [*COMMAND, *args, "5", "-o", str(tmp_path / "1")]
    environment = {**os.environ, "PYTHONHASHSEED": "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"}
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=120)
    assert run(*args, 5, "-o", tmp_path / "2")[0] == 0
    assert run(*args, 6, "-o", tmp_path / "3")[0] == 0
    found = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in "123"]
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_output_is_a_folder_here_by_default(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    code, _, stderr = run(data, "--test", 0.25)
    assert code == 0, stderr
    assert names(Path("split")) == ["test.spacy", "train.spacy"]


def test_several_inputs_and_what_reading_left_out(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", SENTENCES)
    write_jsonl(
        tmp_path / "b.jsonl",
        [("中国人", [(-3, -1, "LOC"), (-3, 0, "GPE"), (-3, 0, "GPE")]), ("", []), *SENTENCES[:3]],
    )
    out = tmp_path / "out"
    code, stdout, stderr = run(
        tmp_path / "a.jsonl", tmp_path / "b.jsonl", "--dev", 0.1, "-o", out, "--spans-key", "all"
    )
    assert code == 0, stderr
    assert rows(stdout)["Sentences"][0] == "44"
    assert "6 sentences that share a text with another, 3 texts: kept together" in unwrapped(stdout)
    assert "Overlapping entities, the longest kept: 1" in unwrapped(stdout)
    assert "Entities given twice, which count once: 1" in unwrapped(stdout)
    assert "Empty texts, left out: 1" in unwrapped(stdout)
    assert "dev has no entity of a rare label (in all): GPE (1)" in unwrapped(stdout)
    (doc,) = [doc for doc in read_docs(out / "train.spacy") if doc.text == "中国人"]
    assert sorted((span.text, span.label_) for span in doc.spans["all"]) == [("中国", "LOC"), ("中国人", "GPE")]


def test_doc_bins_are_split_with_all_their_annotation(tmp_path: Path) -> None:
    nlp = spacy.blank("zh")
    doc_bin = DocBin(store_user_data=True)
    for text, spans in [*SENTENCES, ("", [])]:
        doc = nlp.make_doc(text)
        doc.set_ents([Span(doc, len(doc) + i, len(doc) + j, label) for i, j, label in spans])
        for token in doc:
            token.tag_ = "NN"
        doc.user_data["id"] = text
        doc_bin.add(doc)
    doc_bin.to_disk(tmp_path / "all.spacy")
    code, stdout, stderr = run(tmp_path / "all.spacy", "--dev", 0.1, "-o", tmp_path / "out")
    assert code == 0, stderr
    assert "Empty texts, left out: 1" in unwrapped(stdout)
    docs = read_docs(tmp_path / "out" / "train.spacy") + read_docs(tmp_path / "out" / "dev.spacy")
    assert len(docs) == 40
    for doc in docs:
        assert doc.user_data == {"id": doc.text}
        assert {token.tag_ for token in doc} == {"NN"}


def test_standard_input_into_the_folder_where_one_stands(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    args = ["crf", "split", "-", "--dev", "0.1", "-o", "."]
    result = CliRunner().invoke(app, args, input=data.read_bytes())
    assert result.exit_code == 0, result.stderr
    assert names(tmp_path / "here") == ["dev.spacy", "train.spacy"]


def test_options_of_reading_reach_the_reader(tmp_path: Path) -> None:
    path, out = tmp_path / "in.bio", tmp_path / "out"
    path.write_text("".join(f"{i}\tO\n中\tI-LOC\n\n" for i in range(9)), encoding="utf8")
    args = [path, "--dev", 2, "-o", out, "--format", "bio", "--lang", "en"]
    assert "--repair" in refused(*args)
    code, stdout, stderr = run(*args, "--repair")
    assert (code, stderr) == (0, "")
    assert rows(stdout)["LOC"][0] == "9"
    assert ": 9" in unwrapped(stdout)
    assert read_docs(out / "dev.spacy")[0].text[1:] == " 中"


def test_a_format_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from spacy_crf_ner.formats.registry import readers\n"
        "@readers.register('split-own')\n"
        "def read(source, make):\n"
        "    for line in source.lines():\n"
        "        yield make.from_text(line.text, [(0, 1, 'OWN')], source, line.number)\n"
    )
    (tmp_path / "in.txt").write_text("甲\n乙\n丙\n", encoding="utf8")
    args = ["--dev", 0.3, "-o", tmp_path / "out", "--format", "split-own", "--code", tmp_path / "own.py"]
    code, stdout, stderr = run(tmp_path / "in.txt", *args)
    assert code == 0, stderr
    assert rows(stdout)["OWN"] == ["3", "2", "66.67", "1", "33.33"]


@pytest.mark.parametrize(
    ("args", "what"),
    [
        ([], "no part is asked for; give --dev 0.1"),
        (["--dev", 0], "--dev 0: neither a share nor a number"),
        (["--dev", 1], "--dev 1: neither"),
        (["--test", 1.5], "--test 1.5: neither"),
        (["--dev", -0.1], "--dev -0.1: neither"),
        (["--dev", "nan"], "--dev nan: neither"),
        (["--dev", 0.5, "--test", 0.5], "--dev 0.5 --test 0.5: nothing is left for train"),
        (["--dev", 40], "--dev 40: of 40 sentences none is left for train"),
        (["--dev", 0.1, "--lang", "qq"], "--lang qq"),
        (["--dev", 0.1, "--format", "qq"], "no format 'qq'"),
        (["--dev", 0.1, "--set", "qq=1"], "has no setting 'qq'"),
    ],
)
def test_refusals_leave_nothing_behind(data: Path, tmp_path: Path, args: List[object], what: str) -> None:
    assert what in refused(data, "-o", tmp_path / "out", *args)
    assert names(tmp_path) == ["in.jsonl"]


def test_nonsense_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    assert refused(tmp_path / "none", "--dev", 1.5, "-o", tmp_path / "out").startswith("--dev 1.5: ")
    assert refused(tmp_path / "none", "--dev", 0.5, "-o", tmp_path / "out").startswith(
        f"{tmp_path / 'none'}: no such"
    )


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        (None, "in: the folder holds no file"),
        (['{"text": "中国", "spans": []}'] * 3 + ['{"text": "'], "in.jsonl:4: "),
        (['{"text": "中国", "spans": []}'], "--dev 0.1: of 1 sentences none is left for train"),
        (['{"text": "中国", "spans": []}'] * 9, "1 different text(s) cannot be put into 2 parts"),
    ],
    ids=["empty folder", "cut off", "one sentence", "one text"],
)
def test_bad_input_leaves_nothing_behind(tmp_path: Path, lines: Optional[List[str]], what: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    if lines:
        (folder / "in.jsonl").write_text("\n".join(lines), encoding="utf8")
    assert what in refused(folder, "--dev", 0.1, "-o", tmp_path / "out")
    assert names(tmp_path) == ["in"]


@pytest.mark.parametrize(
    "output",
    ["in", "in/deeper", "in/deeper/more", ".", "in/in.jsonl"],
    ids=["same", "inside", "deep", "around", "file"],
)
@pytest.mark.parametrize("force", [[], ["--force"]], ids=["", "force"])
def test_output_and_input_in_one_place(tmp_path: Path, output: str, force: List[str]) -> None:
    (tmp_path / "in").mkdir()
    write_jsonl(tmp_path / "in" / "in.jsonl", SENTENCES)
    told = refused(tmp_path / "in", "--dev", 0.1, "-o", tmp_path / output, *force)
    assert told.startswith(f"{tmp_path / output}: is the input {tmp_path / 'in'}, holds it or lies in it; ")
    assert names(tmp_path) == ["in"] and names(tmp_path / "in") == ["in.jsonl"]


def test_previous_output_is_replaced_by_force_alone(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(data, "--dev", 0.1, "--test", 0.1, "-o", out)[0] == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert "the directory is not empty; " in refused(data, "--dev", 0.2, "-o", out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert run(data, "--dev", 0.2, "-o", out, "--force")[0] == 0
    assert names(out) == ["dev.spacy", "train.spacy"]
    assert len(read_docs(out / "dev.spacy")) == 8
    (out / "notes.txt").write_text("keep")
    assert "'notes.txt'" in refused(data, "--dev", 0.2, "-o", out, "--force")
    assert names(out) == ["dev.spacy", "notes.txt", "train.spacy"]


def test_output_that_is_a_file(data: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("keep")
    assert "is not a directory" in refused(data, "--dev", 0.1, "-o", tmp_path / "out")
    assert str(tmp_path / "out") in refused(data, "--dev", 0.1, "-o", tmp_path / "out" / "below")
    assert (tmp_path / "out").read_text() == "keep"


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
@pytest.mark.parametrize("before", [False, True], ids=["new", "replaced"])
def test_a_disk_that_fills_up_leaves_all_as_it_was(data: Path, tmp_path: Path, before: bool) -> None:
    """One of the files does not fit: the limit is a little less than the size of the largest."""
    import resource

    args = [data, "--dev", 0.3, "-o", tmp_path / "out", "--force"]
    assert run(*args)[0] == 0
    contents = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    if not before:
        rmtree(tmp_path / "out")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(contents["train.spacy"]) - 1, limits[1]))
    try:
        told = refused(*args)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert told.startswith(f"{tmp_path / 'out'}: cannot be written (File too large); choose a place ")
    assert names(tmp_path) == ["in.jsonl", *(["out"] if before else [])]
    if before:
        assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == contents


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
def test_termination_leaves_nothing_behind(tmp_path: Path, shell: WarmPython) -> None:
    """The input is a pipe that never ends, so that the command is at work when the signal comes."""
    pipe = tmp_path / "in.jsonl"
    os.mkfifo(pipe)
    command = [shell.python, *COMMAND[1:], str(pipe), "--dev", "0.1", "-o", str(tmp_path / "out")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with pipe.open("wb", buffering=0) as writer:
        writer.write('{"text": "中", "spans": []}\n'.encode())
        deadline = monotonic() + 60
        while not any(tmp_path.glob(".out-*")):
            assert process.poll() is None and monotonic() < deadline
            sleep(0.01)
        process.terminate()
        assert process.wait(timeout=60) == 143
    assert names(tmp_path) == ["in.jsonl"]
