"""What commands say of streams that are closed, full or cut, and of what a stranger's file holds: one line."""

import os
import resource
import sys
from pathlib import Path
from typing import Any, List, NamedTuple, Optional

import pytest
from spacy.cli._util import app

import spacy_crf_ner.cli  # noqa: F401
from tests.cli.util import invoke

pytestmark = pytest.mark.skipif(os.name != "posix", reason="streams of POSIX")
CLOSED = "closed"
FULL = "/dev/full"


class Ran(NamedTuple):
    status: int
    said: str


def ran(
    tmp_path: Path,
    *args: object,
    stdin: str = os.devnull,
    stdout: str = os.devnull,
    max_bytes: Optional[int] = None,
) -> Ran:
    """A command in a child with streams of its own, which ends as a process of Python does.

    stdin, stdout (str): A file, or `CLOSED`; "|" for a pipe that nobody reads.
    max_bytes (Optional[int]): How large a file may become.
    RETURNS (Ran): The exit status, and what stands on stderr.
    """
    errors = tmp_path / "stderr"
    child = os.fork()
    if not child:
        status = 120
        try:
            _connect(stdin, stdout, errors)
            if max_bytes is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, max_bytes))
            try:
                app(["crf", *map(str, args)])
            except SystemExit as exit:
                status = exit.code if isinstance(exit.code, int) else 1
            # What Python does at its end, and says where it fails.
            if sys.stdout is not None:
                sys.stdout.flush()
        except BaseException as error:
            os.write(2, f"Traceback: {error!r}".encode())
            status = 120
        finally:
            os._exit(status)
    _, waited = os.waitpid(child, 0)
    return Ran(os.waitstatus_to_exitcode(waited), errors.read_text(encoding="utf8"))


def _connect(stdin: str, stdout: str, errors: Path) -> None:
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python sets it
    if stdout == "|":
        read, write = os.pipe()
        os.close(read)
    for number, name, mode in ((0, stdin, os.O_RDONLY), (1, stdout, os.O_WRONLY | os.O_CREAT)):
        os.close(number)
        if name != CLOSED:
            opened = write if name == "|" else os.open(name, mode, 0o600)
            os.dup2(opened, number)
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 2)
    streams: Any = sys
    streams.stdin = None if stdin == CLOSED else open(0, encoding="utf8", closefd=False)  # noqa: SIM115 - the child ends with them
    streams.stdout = None if stdout == CLOSED else open(1, "w", encoding="utf8", closefd=False)  # noqa: SIM115 - the child ends with them
    streams.stderr = open(2, "w", 1, encoding="utf8", closefd=False)  # noqa: SIM115 - the child ends with them


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.bio"
    path.write_text("中 B-LOC\n国 I-LOC\n\n" * 3000, encoding="utf8")
    return path


def last(found: Ran) -> str:
    """The error: the last line, behind what was said of the format."""
    assert found.status == 1, found
    assert "Traceback" not in found.said
    return found.said.rstrip("\n").split("\n")[-1]


@pytest.mark.parametrize(
    "args",
    [["convert", "-", "out.jsonl", "--to", "jsonl"], ["convert", "-", "-", "--to", "jsonl"], ["check", "-"]],
)
@pytest.mark.parametrize("format", [[], ["--format", "bio"], ["--format", "jsonl"]])
def test_a_closed_input_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: List[str], format: List[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert last(ran(tmp_path, *args, *format, stdin=CLOSED)).startswith(
        "-: standard input is closed; give it a file"
    )
    assert not Path("out.jsonl").exists()


def test_the_streams_of_these_tests_work(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = ran(tmp_path, "convert", "-", "-", "--to", "jsonl", stdin=str(corpus), stdout=str(out))
    assert found.status == 0
    assert len(out.read_text(encoding="utf8").splitlines()) == 3000


@pytest.mark.parametrize(
    "stdout, said",
    [(FULL, "No space left on device"), ("|", "Broken pipe"), (CLOSED, "standard output is closed")],
)
def test_a_conversion_to_an_output_that_takes_nothing_names_it(
    corpus: Path, tmp_path: Path, stdout: str, said: str
) -> None:
    message = last(ran(tmp_path, "convert", corpus, "-", "--to", "jsonl", stdout=stdout))
    assert message.startswith("-: ")
    assert said in message
    assert "; " in message


@pytest.mark.parametrize("stdout, said", [(FULL, "No space left on device"), ("|", "Broken pipe")])
@pytest.mark.parametrize(
    "args", [["init-config", "-"], ["check", "corpus.bio"], ["check", "corpus.bio", "-j", "-"]]
)
def test_what_is_printed_to_an_output_that_takes_nothing_is_an_error_that_names_it(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: List[str], stdout: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    message = last(ran(tmp_path, *args, stdout=stdout))
    assert message.startswith(f"standard output: cannot be written ({said}); ")


@pytest.mark.parametrize("args", [["init-config", "-"], ["check", "corpus.bio", "-j", "-"]])
def test_an_output_that_is_closed_is_not_written_in_silence(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: List[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert last(ran(tmp_path, *args, stdout=CLOSED)) == "standard output: is closed; name a file"


@pytest.mark.parametrize(
    "args, name",
    [
        (["convert", "corpus.bio", "out.jsonl", "--to", "jsonl"], "out.jsonl"),
        (["convert", "corpus.bio", "out.spacy"], "out.spacy"),
        (["convert", "corpus.bio", "out"], "out"),
        (["split", "corpus.bio", "--dev", "0.1", "-o", "out"], "out"),
        (["check", "corpus.bio", "--json", "out.json"], "out.json"),
        (["init-config", "out.cfg"], "out.cfg"),
    ],
)
def test_a_file_that_cannot_grow_is_named(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: List[str], name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if args[0] == "split":  # equal texts stay together
        texts = (f"{chr(0x4E00 + i)} B-LOC\n国 I-LOC\n\n" for i in range(500))
        corpus.write_text("".join(texts), encoding="utf8")
    message = last(ran(tmp_path, *args, max_bytes=512))
    assert message.startswith(f"{name}: cannot be written (File too large); ")
    assert not Path(name).exists()


def test_names_and_values_of_a_stranger_do_not_steer_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "a\x1b[31m\n.bio"
    path.write_text("中 B-\x1b[31mX\n国 I-\x1b[31mY\n", encoding="utf8")
    out = tmp_path / "b\x1b[31m.jsonl"
    for args in (
        ["convert", path, tmp_path / "out", "--format", "bio"],
        ["convert", path, tmp_path / "out", "--repair", "--format", "bio"],
        ["convert", path, out, "--to", "jsonl", "--format", "bio", "--repair"],
        ["convert", tmp_path / "\x1b[2J.bio", out, "--to", "jsonl"],
        ["convert", path, out, "--to", "jsonl"],
        ["check", path],
        ["evaluate", tmp_path / "\x1b[2J", path],
        ["render", tmp_path / "\x1b[2J", path, out],
    ):
        _, stdout, stderr = invoke(*map(str, args))
        said = stdout + stderr
        assert said.strip()
        assert "\x1b[31m" not in said.replace("\x1b[0m", "")
        assert "\x1b[2J" not in said


LONG = "X" * 30_000


@pytest.mark.parametrize(
    "text",
    [
        f"中 B-{LONG}\n国 I-Y\n",
        f"中 I-{LONG}\n",
        f"中 {LONG}\n",
        f"中 {LONG}-A\n",
        f"{LONG} B-A B\n",
        f"中 B-A\n国 I-{LONG}\n",
    ],
)
@pytest.mark.parametrize("format", ["bio", "bioes", "bmes", "biluo", "bios"])
def test_a_long_tag_makes_no_long_message(tmp_path: Path, text: str, format: str) -> None:
    path = tmp_path / "long.bio"
    path.write_text(text, encoding="utf8")
    status, _, stderr = invoke("convert", path, tmp_path / "out", "--format", format)
    assert len(stderr) < 700
    if status:
        assert stderr.startswith(f"{path}:")
        assert "; " in stderr


@pytest.mark.parametrize(
    "format, text",
    [
        ("cluener", f'{{"text": "ab", "label": {{"{LONG}": {{"x": [[0, 5]]}}}}}}'),
        ("cluener", f'{{"text": "ab", "label": {{"{LONG}": {{"x": [5]}}}}}}'),
        ("cluener", f'{{"text": "ab", "label": {{"{LONG}": {{"x": [[0, "a"]]}}}}}}'),
        ("jsonl", f'{{"text": "ab", "label": [[0, 9, "{LONG}"]]}}'),
        ("jsonl", f'{{"text": "ab", "label": [[1, 0, "{LONG}"]]}}'),
        (
            "jsonl",
            f'{{"text": "ab", "entities": [], '
            f'"relations": [{{"type": "{LONG}", "from_id": "{LONG}", "to_id": 1}}]}}',
        ),
        ("jsonl", f'{{"text": "ab", "{LONG}": 1, "{LONG}": 2}}'),
        (
            "spert",
            f'[{{"tokens": ["a"], "entities": [{{"type": "{LONG}", "start": 0, "end": 9}}], "relations": []}}]',
        ),
    ],
)
def test_a_long_label_makes_no_long_message(tmp_path: Path, format: str, text: str) -> None:
    path = tmp_path / "long.json"
    path.write_text(text, encoding="utf8")
    status, _, stderr = invoke("convert", path, tmp_path / "out", "--format", format)
    assert status == 1
    assert len(stderr) < 700
    assert stderr.startswith(f"{path}:1: ")


@pytest.mark.parametrize("depth", [101, 400, 700, 975, 1000, 3000, 100_000])
@pytest.mark.parametrize(
    "record",
    [
        '{"text": "ab", "label": [], "meta": %s}',
        '{"text": "ab", "label": %s}',
        '{"text": %s}',
        '{"text": "ab", "label": [], "meta": {"a": "\\ud83d\\ude00", "b": %s}}',
        '{"text": "ab", "entities": [], "meta": %s}',
    ],
)
@pytest.mark.parametrize("format", ["jsonl", "cluener", "auto"])
def test_a_record_that_is_nested_deeply_is_refused(tmp_path: Path, depth: int, record: str, format: str) -> None:
    path = tmp_path / "deep.jsonl"
    path.write_text(record % ("[" * depth + "]" * depth) + "\n", encoding="utf8")
    for args in (["convert", path, tmp_path / "out", "--format", format], ["check", path, "--format", format]):
        status, _, stderr = invoke(*map(str, args))
        assert status == 1
        assert stderr.splitlines()[-1].startswith(f"{path}:")
        assert "; " in stderr.splitlines()[-1]
        assert len(stderr.splitlines()) <= 2


@pytest.mark.parametrize(
    "name, content",
    [
        ("a.gz", b"\x1f\x8b\x08broken"),
        ("a.zip", b"PK\x03\x04broken"),
        ("a.xz", b"\xfd7zXZ\x00broken"),
        ("a.spacy", b"DocBin" * 30),
        ("a.jsonl", b"\x00\xff" * 99),
    ],
)
def test_a_broken_file_is_one_line_that_names_it(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    for args in (["convert", path, tmp_path / "out.bio", "--to", "bio"], ["check", path]):
        status, _, stderr = invoke(*map(str, args))
        assert status == 1
        assert stderr.startswith(f"{path}")
        assert len(stderr.splitlines()) == 1


def test_a_model_that_is_a_file_is_one_line(corpus: Path, tmp_path: Path) -> None:
    for args in (
        ["evaluate", corpus, corpus],
        ["render", corpus, corpus, tmp_path / "out.html"],
        ["merge-lora", corpus, tmp_path / "merged"],
        ["calibrate", corpus, corpus, tmp_path / "calibrated"],
    ):
        status, _, stderr = invoke(*map(str, args))
        assert status == 1
        assert len(stderr.splitlines()) == 1
        assert str(corpus) in stderr
        assert "; " in stderr
