import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from typing import List

import pytest
import spacy
from spacy.cli._util import app
from spacy.tokens import DocBin
from typer.testing import CliRunner

import spacy_crf_ner.cli  # noqa: F401
from spacy_crf_ner.tagging import EMPTY_TAG, STRAY_INSIDE
from tests.cli.util import invoke
from tests.formats.util import BAD_LINES, REPAIRABLE_LINES, write_bio
from tests.warm_python import WarmPython

run = partial(invoke, "convert")

SENTENCES = [
    [("中", "B-LOC"), ("国", "I-LOC"), ("人", "O")],
    [("李", "B-PER")],
    [("京", "B-LOC"), ("津", "B-LOC")],
]


@pytest.fixture
def bio(tmp_path: Path) -> Path:
    path = tmp_path / "in.bio"
    write_bio(path, SENTENCES)
    return path


def table(stdout: str) -> dict[str, str]:
    """The summary's rows."""
    rows = (line.rsplit(maxsplit=1) for line in stdout.splitlines() if line.strip())
    return {row[0].strip(): row[1] for row in rows if len(row) == 2}


def test_command_line_writes_docs_and_the_table(bio: Path, tmp_path: Path, shell: WarmPython) -> None:
    output = tmp_path / "corpus" / "train"
    result = shell.spacy("crf", "convert", bio, output, "--n-docs-per-file", 2, "--lang", "zh")
    assert result.returncode == 0, result.stderr
    assert result.stderr == f"{bio}: read as --format bio (tags with B-, I-)\n"  # and no progress bar
    rows = table(result.stdout)
    assert {name: rows[name] for name in ("Sentences", "Tokens", "Entities", "LOC", "PER")} == {
        "Sentences": "3",
        "Tokens": "6",
        "Entities": "4",
        "LOC": "3",
        "PER": "1",
    }
    assert (rows["Characters"], rows["Longest (characters)"], rows["Longest (tokens)"]) == ("6", "3", "3")
    files = sorted(output.iterdir())
    assert [len(DocBin().from_disk(path)) for path in files] == [2, 1]


def test_command_line_stops_at_bad_input(bio: Path, tmp_path: Path, shell: WarmPython) -> None:
    bio.write_bytes(bio.read_bytes() + b"\xff O\n")
    result = shell.spacy("crf", "convert", bio, tmp_path / "out")
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.splitlines()[-1].startswith(f"{bio}:10: not UTF-8")
    assert result.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["in.bio"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
def test_termination_leaves_nothing_behind(tmp_path: Path, shell: WarmPython) -> None:
    """The input is a pipe that never ends, so that the command is at work when the signal comes."""
    pipe = tmp_path / "in.bio"
    os.mkfifo(pipe)
    command = [shell.python, "-m", "spacy", "crf", "convert", str(pipe), str(tmp_path / "out"), "-n", "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with pipe.open("wb", buffering=0) as writer:
        writer.write("中 B-LOC\n\n国 O\n\n".encode() * 9000)  # more than is buffered, and more than a batch
        deadline = monotonic() + 60
        while not any(tmp_path.glob(".out-*/out/*.spacy")):
            assert process.poll() is None and monotonic() < deadline
            sleep(0.01)
        process.terminate()
        assert process.wait(timeout=60) == 143
    assert [path.name for path in tmp_path.iterdir()] == ["in.bio"]


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")
def test_command_line_shows_progress_on_a_terminal(bio: Path, tmp_path: Path, shell: WarmPython) -> None:
    import pty

    leader, follower = pty.openpty()
    shell.spacy("crf", "convert", bio, tmp_path / "out", stdout=subprocess.DEVNULL, stderr=follower, check=True)
    os.set_blocking(leader, False)
    shown = os.read(leader, 4096)
    os.close(follower)
    os.close(leader)
    assert b"0%" in shown and b"B/s" in shown


@pytest.mark.parametrize(("line", "what"), [*BAD_LINES, *REPAIRABLE_LINES])
def test_bad_line_is_one_line_on_stderr(bio: Path, tmp_path: Path, line: bytes, what: str) -> None:
    bio.write_bytes(bio.read_bytes() + line + b"\n")
    code, stdout, stderr = run(bio, tmp_path / "out", "--format", "bio")
    assert code == 1
    assert stdout == ""
    assert stderr.startswith(f"{bio}:10: ")
    assert what in stderr
    assert "; " in stderr
    assert stderr.count("\n") == 1 and stderr.endswith("\n")
    assert [path.name for path in tmp_path.iterdir()] == ["in.bio"]


@pytest.mark.parametrize(
    ("content", "place"),
    [(b"", "in.bio:1: holds no text"), (b"\n\n", "in.bio:1: holds no text"), (None, "in.bio: no such file; ")],
)
def test_no_input(tmp_path: Path, content: "bytes | None", place: str) -> None:
    if content is not None:
        (tmp_path / "in.bio").write_bytes(content)
    before = list(tmp_path.iterdir())
    code, _, stderr = run(tmp_path / "in.bio", tmp_path / "out")
    assert code == 1
    assert stderr.startswith(str(tmp_path / place))
    assert list(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "args",
    [
        ["out", "--lang", "qq"],
        ["out.spacy", "-n", "2"],
        ["."],
        ["out", "--format", "bioo"],
        ["out", "--to", "bmess"],
        ["out", "--set", "label_key=x"],
        ["out", "--set", "positions"],
        ["-"],
    ],
)
def test_refusals_have_no_traceback(bio: Path, tmp_path: Path, args: List[str]) -> None:
    code, stdout, stderr = run(bio, args[0] if args == ["-"] else tmp_path / args[0], *args[1:])
    assert (code, stdout) == (1, "")
    *told, message = stderr.splitlines()
    assert "; " in message
    assert told in ([], [f"{bio}: read as --format bio (tags with B-, I-)"])
    assert [path.name for path in tmp_path.iterdir()] == ["in.bio"]


def test_repair_prints_every_count(bio: Path, tmp_path: Path) -> None:
    bio.write_bytes(bio.read_bytes() + "国 I-LOC\n人 \n国 I-LOC\n人 \n人 \n".encode())
    code, stdout, _ = run(bio, tmp_path / "out", "--repair")
    assert code == 0
    rows = table(stdout)
    assert (rows[EMPTY_TAG], rows[STRAY_INSIDE]) == ("3", "2")


def test_own_boundaries_are_said_with_an_example(bio: Path, tmp_path: Path) -> None:
    bio.write_bytes(bio.read_bytes() + "　 B-LOC\n　 O\n".encode())
    code, stdout, stderr = run(bio, tmp_path / "out", "--format", "bio")
    assert code == 0
    assert table(stdout)["Boundaries of their own (docs)"] == "1"
    assert stderr.startswith(f"{bio}:10: ")
    assert stderr.count("\n") == 1


def test_several_inputs_and_folders_go_into_one_output(bio: Path, tmp_path: Path) -> None:
    folder = tmp_path / "more"
    folder.mkdir()
    write_bio(folder / "b.bio", [[("乙", "O")]])
    write_bio(folder / "a.bio", [[("甲", "S-LOC")]])
    code, stdout, stderr = run(bio, folder, tmp_path / "out.bmes", "--to", "bmes")
    assert code == 0, stderr
    assert (tmp_path / "out.bmes").read_text(encoding="utf8").endswith("津 S-LOC\n\n甲 S-LOC\n\n乙 O\n\n")
    assert table(stdout)["Sentences"] == "5"
    assert [line.split(": ")[0] for line in stderr.splitlines()] == [
        str(bio),
        str(folder / "a.bio"),
        str(folder / "b.bio"),
    ]


def test_a_filter_reads_and_writes_pipes(bio: Path, shell: WarmPython) -> None:
    with bio.open("rb") as file_:
        result = shell.spacy("crf", "convert", "-", "-", "--to", "jsonl", stdin=file_, check=True)
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [record["text"] for record in records] == ["中国人", "李", "京津"]
    assert records[2]["spans"] == [{"start": 0, "end": 1, "label": "LOC"}, {"start": 1, "end": 2, "label": "LOC"}]
    assert result.stderr.startswith("-: read as --format bio")
    assert table(result.stderr)["Sentences"] == "3"  # what is lost would stand there


def test_output_is_missing(bio: Path) -> None:
    result = CliRunner().invoke(app, ["crf", "convert", str(bio)])
    assert result.exit_code == 2
    assert "Missing argument" in result.stderr


def test_spans_key_keeps_what_is_nested(tmp_path: Path) -> None:
    path = tmp_path / "in.json"
    path.write_text(
        '{"text": "投资永隆银行", "label": {"a": {"永隆": [[2, 3]]}, "b": {"永隆银行": [[2, 5]]}}}\n', "utf8"
    )
    code, stdout, _ = run(path, tmp_path / "out.spacy", "--spans-key", "all")
    assert code == 0
    assert table(stdout)["Overlapping entities, the longest kept"] == "1"
    (doc,) = DocBin().from_disk(tmp_path / "out.spacy").get_docs(spacy.blank("zh").vocab)
    assert [ent.text for ent in doc.ents] == ["永隆银行"]
    assert [span.text for span in doc.spans["all"]] == ["永隆", "永隆银行"]
    code, _, stderr = run(tmp_path / "out.spacy", tmp_path / "back.json", "--to", "cluener", "--spans-key", "all")
    assert code == 0, stderr
    assert json.loads((tmp_path / "back.json").read_text("utf8")) == json.loads(path.read_text("utf8"))
