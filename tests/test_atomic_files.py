"""What is written whole or not at all."""

import os
from pathlib import Path
from typing import Dict, List

import pytest

from spacy_crf_ner.atomic_files import remove_leftovers, replaced_directory, whole_directory, whole_file

posix = pytest.mark.skipif(os.name != "posix", reason="pipes and links of POSIX")


def snapshot(folder: Path) -> Dict[str, str]:
    """Every file and folder below, with its text."""
    return {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf8") if path.is_file() else "<folder>"
        for path in sorted(folder.rglob("*"))
    }


def fill(folder: Path, *names: str) -> Path:
    """A folder of files that hold their names."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text(f"{folder.name}/{name}", encoding="utf8")
    return folder


def test_file_appears_whole_with_its_parents(tmp_path: Path) -> None:
    path = tmp_path / "metrics" / "new" / "dev.json"
    with whole_file(path) as part:
        part.write_text("{}", encoding="utf-8")
        assert not path.parent.exists()
    assert snapshot(tmp_path) == {"metrics": "<folder>", "metrics/new": "<folder>", "metrics/new/dev.json": "{}"}


def test_file_takes_the_place_of_an_old_one_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "dev.json"
    path.write_text("old", encoding="utf-8")
    with whole_file(path) as part:
        part.write_text("new", encoding="utf-8")
        assert path.read_text(encoding="utf-8") == "old"
        assert part.name == path.name
    assert snapshot(tmp_path) == {"dev.json": "new"}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("before", [{}, {"dev.json": "old"}])
def test_failure_leaves_the_old_file_or_none(
    tmp_path: Path, error: "type[BaseException]", before: Dict[str, str]
) -> None:
    for name, text in before.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(error), whole_file(tmp_path / "dev.json") as part:
        part.write_text("half", encoding="utf-8")
        raise error
    assert snapshot(tmp_path) == before


def test_failure_makes_no_parents(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), whole_file(tmp_path / "a" / "b" / "c"):
        raise RuntimeError
    with pytest.raises(RuntimeError), whole_directory(tmp_path / "a" / "b" / "c") as made:
        fill(made, "d")
        raise RuntimeError
    assert snapshot(tmp_path) == {}


def test_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="name a file in it"), whole_file(tmp_path):
        pass


@posix
def test_link_to_a_file_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real" / "a", tmp_path / "link"
    fill(real.parent, "a")
    link.symlink_to(real)
    with whole_file(link) as part:
        part.write_text("new", encoding="utf-8")
    assert link.is_symlink()
    assert real.read_text(encoding="utf-8") == "new"
    assert snapshot(real.parent) == {"a": "new"}


@posix
def test_what_is_no_regular_file_is_refused_and_stays(tmp_path: Path) -> None:
    """Root may replace /dev/null by a file, which other programs would not survive."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match=r"pipe: .*; "), whole_file(pipe) as part:
        part.write_text("new", encoding="utf-8")
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("suffix", [None, ".spacy"])
def test_directory_appears_whole(tmp_path: Path, there: bool, suffix: "str | None") -> None:
    path = tmp_path / "new" / "out"
    if there:
        fill(path)
    with whole_directory(path, suffix=suffix) as made:
        fill(made, "a.spacy", "b.spacy")
        assert made.name == path.name
        assert not any(path.glob("*.spacy"))
    assert snapshot(path) == {"a.spacy": "out/a.spacy", "b.spacy": "out/b.spacy"}
    assert [child.name for child in path.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("there", [False, True])
def test_hidden_files_and_folders_in_a_directory_are_moved_too(tmp_path: Path, there: bool) -> None:
    path = tmp_path / "out"
    if there:
        fill(path)
    with whole_directory(path) as made:
        fill(made, ".hidden", "a")
        fill(made / "sub", "b")
    assert snapshot(path) == {".hidden": "out/.hidden", "a": "out/a", "sub": "<folder>", "sub/b": "sub/b"}


def test_files_of_the_suffix_are_replaced_all(tmp_path: Path) -> None:
    path = fill(tmp_path / "out", "a.spacy", "b.spacy", "c.spacy")
    with whole_directory(path, suffix=".spacy") as made:
        fill(made)
        (made / "b.spacy").write_text("new", encoding="utf8")
        assert {"a.spacy", "b.spacy", "c.spacy"} < set(snapshot(path))
    assert snapshot(tmp_path) == {"out": "<folder>", "out/b.spacy": "new"}


@pytest.mark.parametrize(
    ("names", "suffix", "said"),
    [
        (["a"], None, "is not empty; name a new directory, or remove this one"),
        ([".hidden"], None, "is not empty"),
        (["a.spacy", "notes.txt"], ".spacy", r"holds 'notes\.txt', which is no \.spacy file; name another"),
        ([".hidden"], ".spacy", r"holds '\.hidden'"),
    ],
)
def test_directory_that_holds_other_things_is_refused(
    tmp_path: Path, names: List[str], suffix: "str | None", said: str
) -> None:
    path = fill(tmp_path / "out", *names)
    before = snapshot(tmp_path)
    with pytest.raises(FileExistsError, match=f"out: {said}"), whole_directory(path, suffix=suffix):
        pass
    assert snapshot(tmp_path) == before


def test_folder_that_is_named_like_a_file_of_the_suffix_is_refused(tmp_path: Path) -> None:
    fill(tmp_path / "out" / "sub.spacy", "a")
    with pytest.raises(FileExistsError, match=r"sub\.spacy"), whole_directory(tmp_path / "out", suffix=".spacy"):
        pass


def test_file_is_no_directory(tmp_path: Path) -> None:
    path = fill(tmp_path, "a") / "a"
    with pytest.raises(FileExistsError, match="a: is there already and is not a directory"), whole_directory(path):
        pass


@posix
def test_link_to_a_directory_stays_a_link(tmp_path: Path) -> None:
    real = fill(tmp_path / "real", "old.spacy")
    link = tmp_path / "link"
    link.symlink_to(real)
    with whole_directory(link, suffix=".spacy") as made:
        fill(made, "new.spacy")
    assert link.is_symlink()
    assert list(snapshot(real)) == ["new.spacy"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failure_leaves_the_old_directory(tmp_path: Path, error: "type[BaseException]") -> None:
    path = fill(tmp_path / "out", "a.spacy", "b.spacy")
    before = snapshot(tmp_path)
    with pytest.raises(error), whole_directory(path, suffix=".spacy") as made:
        fill(made, "a.spacy", "c.spacy")
        raise error
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("n_moved", range(6))
def test_failure_while_files_are_exchanged_leaves_the_old_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_moved: int, error: "type[BaseException]"
) -> None:
    path = fill(tmp_path / "out", "a.spacy", "b.spacy", "c.spacy")
    before = snapshot(tmp_path)
    rename = Path.rename
    calls: List[Path] = []

    def fail_once(self: Path, target: "str | Path") -> Path:
        calls.append(self)
        if len(calls) == n_moved + 1:
            raise error("no")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_once)
    with pytest.raises(error, match="no"), whole_directory(path, suffix=".spacy") as made:
        fill(made)
        for name in ("0.spacy", "a.spacy", "d.spacy"):
            (made / name).write_text("new", encoding="utf8")
    assert len(calls) > n_moved
    assert snapshot(tmp_path) == before


def test_directory_that_cannot_be_made_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Path, target: "str | Path") -> Path:
        raise OSError("no")

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="no"), whole_directory(tmp_path / "out") as made:
        fill(made, "a")
    assert snapshot(tmp_path) == {}


@pytest.mark.parametrize("swaps", [True, False], ids=["names are exchanged", "renamed twice"])
def test_a_directory_takes_the_place_of_another(
    tmp_path: Path, swaps: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not swaps:
        monkeypatch.setattr("spacy_crf_ner.atomic_files._swap", lambda one, other: False)
    path = tmp_path / "new" / "folder"
    for content in ("first", "second"):
        with replaced_directory(path) as made:
            made.mkdir()
            (made / content).write_text(content)
            assert path.is_dir() == (content == "second")
        assert [file.name for file in path.iterdir()] == [content]
        assert [left.name for left in path.parent.iterdir()] == ["folder"]


def test_a_directory_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old").touch()
    with pytest.raises(KeyboardInterrupt), replaced_directory(tmp_path / "folder") as made:
        made.mkdir()
        (made / "new").touch()
        raise KeyboardInterrupt
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == [
        "folder",
        "folder/old",
    ]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    for name in (".model-last-abc", ".model-lastly", "model-last", ".other-x"):
        (tmp_path / name).mkdir()
    remove_leftovers(tmp_path, "model-last")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".model-lastly", ".other-x", "model-last"]


@posix
@pytest.mark.parametrize("name", ["model-last", "step-00000004"])
def test_what_was_killed_between_two_renames_is_put_into_place(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where names cannot be exchanged. A child process dies between the two."""
    (tmp_path / name).mkdir()
    (tmp_path / name / "old").touch()
    process = os.fork()
    if process == 0:
        rename, n_made = Path.rename, 0

        def dying(self: Path, target: Path) -> Path:
            nonlocal n_made
            n_made += 1
            if n_made == 2:
                os._exit(9)
            return rename(self, target)

        monkeypatch.setattr("spacy_crf_ner.atomic_files._swap", lambda one, other: False)
        monkeypatch.setattr(Path, "rename", dying)
        with replaced_directory(tmp_path / name) as made:
            made.mkdir()
            (made / "new").touch()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 9
    assert not (tmp_path / name).exists()
    remove_leftovers(tmp_path, name.partition("-0")[0])
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == [name, f"{name}/new"]
