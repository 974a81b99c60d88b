import gzip
import io
import lzma
import os
import subprocess
import sys
from pathlib import Path
from random import Random
from threading import Thread
from typing import Any, Callable, List, Optional, Union

import pytest
from hypothesis import given
from hypothesis import strategies as st

import spacy_crf_ner.formats.source as module
from spacy_crf_ner.formats.errors import FormatError
from spacy_crf_ner.formats.source import HEAD, Line, Source, find_files

LINES = "中 B-LOC\n国 I-LOC\n\n京 O\n"
READ = [Line(1, "中 B-LOC"), Line(2, "国 I-LOC"), Line(3, ""), Line(4, "京 O")]
PRINT_LINES = "from spacy_crf_ner.formats.source import Source; print(list(Source('-').lines()))"

Pack = Callable[[bytes], bytes]
PACKERS = [pytest.param(bytes, id="plain"), gzip.compress, lzma.compress]


class Dripping(io.RawIOBase):
    """A pipe that gives a few bytes at a time, and nothing yet (None) where it is told to."""

    def __init__(self, data: bytes, size: int = 1, nothing_at: Optional[int] = None) -> None:
        self.data, self.size, self.nothing_at, self.at = data, size, nothing_at, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> Optional[int]:
        if self.at == self.nothing_at:
            return None
        some = self.data[self.at : self.at + min(self.size, len(buffer))]
        buffer[: len(some)] = some
        self.at += len(some)
        return len(some)


def stdin_of(raw: io.RawIOBase) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BufferedReader(raw), encoding="utf8")


def source_of(folder: Path, content: bytes) -> Source:
    path = folder / "a.txt"
    path.write_bytes(content)
    return Source(path)


def texts(source: Source) -> List[str]:
    return [line.text for line in source.lines()]


@pytest.mark.parametrize("pack", PACKERS)
def test_compression_is_told_by_the_bytes_and_not_the_name(tmp_path: Path, pack: Pack) -> None:
    assert list(source_of(tmp_path, pack(LINES.encode())).lines()) == READ
    assert source_of(tmp_path, pack(LINES.encode())).read() == LINES.encode()
    assert b"".join(source_of(tmp_path, pack(LINES.encode())).chunks()) == LINES.encode()


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
def test_parts_compressed_one_by_one_are_one_input(tmp_path: Path, pack: Pack) -> None:
    assert texts(source_of(tmp_path, pack("中 O\n".encode()) + pack("国 O\n".encode()))) == ["中 O", "国 O"]


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
@pytest.mark.parametrize("keep", [-1, -9, 20])
def test_cut_off_compressed_data(tmp_path: Path, pack: Pack, keep: int) -> None:
    with pytest.raises(FormatError, match=r"a\.txt: the compressed data is damaged or cut off .*again") as caught:
        list(source_of(tmp_path, pack(Random(0).randbytes(99_999))[:keep]).chunks())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
@pytest.mark.parametrize("content", [Random(0).randbytes(9_999), "".join(map(str, range(9_999))).encode()])
def test_damaged_compressed_data(tmp_path: Path, pack: Pack, content: bytes) -> None:
    data = bytearray(pack(content))
    data[len(data) // 2] ^= 0xFF
    data[len(data) // 2 + 1 :] = bytes(len(data) // 4)
    with pytest.raises(FormatError, match="damaged"):
        source_of(tmp_path, bytes(data)).read()


def test_what_follows_compressed_data_is_not_dropped_in_silence(tmp_path: Path) -> None:
    """Of gzip: Python's module for xz says nothing of it."""
    with pytest.raises(FormatError, match="damaged"):
        source_of(tmp_path, gzip.compress(LINES.encode()) + "国 O\n".encode()).read()


@pytest.mark.parametrize("pack", PACKERS)
@pytest.mark.parametrize("size", [1, 5, 1000])
def test_standard_input_that_gives_few_bytes_at_a_time(
    monkeypatch: pytest.MonkeyPatch, pack: Pack, size: int
) -> None:
    content = (LINES * 5).encode()
    monkeypatch.setattr(sys, "stdin", stdin_of(Dripping(pack(content), size)))
    source = Source("-")
    assert source.head() == content
    assert [line.text for line in source.lines()] == LINES.split("\n")[:-1] * 5
    assert not sys.stdin.closed


def test_standard_input_that_is_a_pipe() -> None:
    command = [sys.executable, "-c", PRINT_LINES]
    result = subprocess.run(command, input=gzip.compress(LINES.encode()), capture_output=True, timeout=120)
    assert result.stdout.decode().strip() == repr(READ), result.stderr


@pytest.mark.skipif(os.name != "posix", reason="named pipes are POSIX")
@pytest.mark.parametrize("pack", PACKERS)
def test_named_pipe_that_gives_few_bytes_at_a_time(tmp_path: Path, pack: Pack) -> None:
    """As a shell makes of `<(command)`."""
    path, content = tmp_path / "pipe", (LINES * 50).encode()
    os.mkfifo(path)

    def write() -> None:
        with path.open("wb", buffering=0) as pipe:
            for byte in pack(content):
                pipe.write(bytes([byte]))

    writer = Thread(target=write)
    writer.start()
    source = Source(path)
    head, data = source.head(), source.read()
    writer.join()
    assert head == data == content


def test_standard_input_that_does_not_wait_is_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another program has set O_NONBLOCK, "nothing yet" must not be taken for the end."""
    monkeypatch.setattr(sys, "stdin", stdin_of(Dripping(LINES.encode(), 4, nothing_at=12)))
    with pytest.raises(FormatError, match="cannot be read"):
        list(Source("-").lines())


@pytest.mark.parametrize("stdin", [None, io.StringIO()])
def test_file_is_read_where_there_is_no_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stdin: object
) -> None:
    """A daemon has none; that of a notebook or of IDLE has no bytes."""
    source = source_of(tmp_path, LINES.encode())
    monkeypatch.setattr(sys, "stdin", stdin)
    assert list(source.lines()) == READ


@pytest.mark.parametrize("pack", PACKERS)
@given(lines=st.lists(st.text().filter(lambda t: not {"\n", "\x00"} & set(t) and not t.endswith("\r"))))
def test_lines_are_split_at_newlines_alone(
    pack: Pack, lines: List[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("lines")
    expected = [*enumerate(["中", *lines], start=1)]
    for end in ("\n", "\r\n"):
        content = "".join(text + end for _, text in expected).encode()
        assert list(source_of(folder, pack(content)).lines()) == expected


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_last_line_needs_no_end(tmp_path: Path, end: str) -> None:
    assert texts(source_of(tmp_path, f"a O\r\nb O{end}".encode())) == ["a O", "b O"]


def test_empty_file_has_no_line(tmp_path: Path) -> None:
    assert texts(source_of(tmp_path, b"")) == []
    assert source_of(tmp_path, b"").head() == b""


def test_byte_order_mark_is_dropped_at_the_start_alone(tmp_path: Path) -> None:
    content = "\ufeff\ufeffa O\n\ufeff O\nb\ufeff O\n".encode()
    assert texts(source_of(tmp_path, content)) == ["\ufeffa O", "\ufeff O", "b\ufeff O"]


@pytest.mark.parametrize(
    ("bad", "line", "byte"),
    [
        ("é O\n".encode("latin1"), 3, 0xE9),
        ("国 O\n".encode("gb18030"), 3, 0xB9),
        ("a O\n国 O\n".encode("gb18030"), 4, 0xB9),
        ("a O\n".encode("utf-16"), 3, 0xFF),
        (b"a \xe4\xb8", 3, 0xE4),
        (b"\xed\xa0\xbd O\n", 3, 0xED),
    ],
    ids=["Latin-1", "GB18030", "a line later", "UTF-16", "cut character", "surrogate"],
)
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("pack", PACKERS)
def test_bytes_that_are_not_utf8_are_named(
    tmp_path: Path, bad: bytes, line: int, byte: int, start: bytes, pack: Pack
) -> None:
    content = start + "中 O\r\n\n".encode() + bad
    source = source_of(tmp_path, pack(content))
    with pytest.raises(FormatError, match=r"a\.txt:\d: not UTF-8 .*; .*--encoding") as caught:
        list(source.lines())
    assert caught.value.line == line
    offset = content.rindex(byte)
    assert f"(byte 0x{byte:02x} at offset {offset} of the file)" in caught.value.what


def test_part_of_several_lines_names_the_line_of_the_byte(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r":9: .* offset 104 ") as caught:
        Source("a").decode(b"a\nb\n\xff\n", 100, 7)
    assert caught.value.line == 9


def test_line_that_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LINE", 10)
    assert texts(source_of(tmp_path, b"12345678\n123456789")) == ["12345678", "123456789"]
    lines = source_of(tmp_path, b"1\n12345678901\n").lines()
    assert next(lines).text == "1"
    with pytest.raises(FormatError, match=r"a\.txt:2: a line of more than 10 bytes"):
        next(lines)


@pytest.mark.parametrize("pack", PACKERS)
def test_head_is_looked_at_and_read_again(tmp_path: Path, pack: Pack) -> None:
    content = Random(0).randbytes(2 * HEAD)
    source = source_of(tmp_path, pack(content))
    assert source.head() == source.head() == content[:HEAD]
    assert source.read() == content


def test_chunks_are_of_bounded_size(tmp_path: Path) -> None:
    chunks = list(source_of(tmp_path, gzip.compress(bytes(5 * HEAD + 1))).chunks())
    assert [*map(len, chunks)] == [HEAD] * 5 + [1]


@pytest.mark.parametrize("pack", PACKERS)
def test_progress_adds_up_to_the_size_of_the_file(tmp_path: Path, pack: Pack) -> None:
    path = tmp_path / "a"
    path.write_bytes(pack("".join(f"{i} O\n" for i in range(50_000)).encode()))
    steps: List[int] = []
    n_lines = sum(1 for _ in Source(path, progress=steps.append).lines())
    assert n_lines == 50_000
    assert sum(steps) == path.stat().st_size
    assert max(steps) <= HEAD


def test_lines_are_read_one_by_one(tmp_path: Path) -> None:
    steps: List[int] = []
    path = tmp_path / "a"
    path.write_bytes(b"a O\n" * HEAD)
    lines = Source(path, progress=steps.append).lines()
    assert next(lines) == Line(1, "a O")
    assert sum(steps) == HEAD


@pytest.mark.parametrize(
    ("place", "said"), [("none.bio", "no such file; check the path"), (".", "is a directory; give one file")]
)
@pytest.mark.parametrize("way", [Source.head, Source.read, lambda s: list(s.lines()), lambda s: list(s.chunks())])
def test_path_that_is_no_file(tmp_path: Path, place: str, said: str, way: Callable[[Source], object]) -> None:
    path = tmp_path / place
    with pytest.raises(FormatError) as caught:
        way(Source(path))
    assert str(caught.value) == f"{path}: {said}"


def test_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    source = source_of(tmp_path, b"a O\n")
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(FormatError, match=r"a\.txt: cannot be read \(Permission denied\); check that"):
        list(source.lines())


def make_tree(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_folder_stands_for_the_files_below_in_order_of_names(tmp_path: Path) -> None:
    make_tree(tmp_path, "b.bio", "a/z.bio", "a/deep/er.bio", "c.bio", "a.bio")
    found = [path.relative_to(tmp_path).as_posix() for path in find_files([tmp_path])]
    assert found == ["a/deep/er.bio", "a/z.bio", "a.bio", "b.bio", "c.bio"]


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    folder = tmp_path / ".work" / "data"
    make_tree(folder, ".hidden", ".git/config", "sub/.DS_Store", "sub/a.bio")
    assert find_files([folder]) == [folder / "sub" / "a.bio"]
    assert find_files([folder / ".hidden"]) == [folder / ".hidden"]


def test_paths_keep_their_order(tmp_path: Path) -> None:
    make_tree(tmp_path, "b", "a", "folder/2", "folder/1")
    paths: List[Union[str, Path]] = [tmp_path / "b", "-", str(tmp_path / "folder"), tmp_path / "a"]
    folder = tmp_path / "folder"
    assert find_files(paths) == [tmp_path / "b", Path("-"), folder / "1", folder / "2", tmp_path / "a"]


@pytest.mark.parametrize("inside", [None, ".hidden", "empty/.keep"])
def test_folder_without_a_file_is_refused(tmp_path: Path, inside: Optional[str]) -> None:
    if inside:
        make_tree(tmp_path, inside)
    with pytest.raises(FormatError, match="the folder holds no file; name") as caught:
        find_files([tmp_path])
    assert caught.value.path == tmp_path


def test_missing_path_is_refused(tmp_path: Path) -> None:
    make_tree(tmp_path, "a")
    with pytest.raises(FormatError, match=r"none\.bio: no such file"):
        find_files([tmp_path / "a", tmp_path / "none.bio"])
