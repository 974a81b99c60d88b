"""Results that are written whole or not at all: under a temporary name first, and then moved into place."""

import ctypes
import os
import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Sequence, Union

from spacy_crf_ner.messages import quote, show_path

_PREVIOUS = "previous"
"""What a directory is called that another one takes the place of."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Write a file under a temporary name in the same directory and move it into place when it is complete.

    path (Path): Where the file shall be. Missing parent directories are created.
    YIELDS (Path): Where to write it. It is deleted, and `path` left as it was, if the block raises.
    RAISES (OSError): The directory or the file cannot be written.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{show_path(path)}: is a directory; name a file in it")
    if path.exists() and not path.is_file():
        raise FileExistsError(f"{show_path(path)}: is there already and is not a regular file; name a file")
    with _named(path), _scratch(path) as (target, scratch):
        part = scratch / target.name
        yield part
        target.parent.mkdir(parents=True, exist_ok=True)
        part.replace(target)


@contextmanager
def whole_directory(path: Path, *, suffix: Union[str, Sequence[str], None] = None) -> Iterator[Path]:
    """Write a directory under a temporary name and move it into place when it is complete.

    path (Path): Where the directory shall be: nothing is there, or an empty one. It stays itself then.
    suffix (Union[str, Sequence[str], None]): The directory may also hold files that end so, or in one of several
        ways, and nothing else. The new ones take their place.
    YIELDS (Path): Where to make it. It is deleted, and `path` left as it was, if the block raises.
    RAISES (OSError): Something is there already, or the directory cannot be written.
    """
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"{show_path(path)}: is there already and is not a directory; name a new directory")
    there = sorted(path.iterdir()) if path.is_dir() else []
    suffixes = [suffix] if isinstance(suffix, str) else list(suffix or ())
    if not suffixes and there:
        raise FileExistsError(f"{show_path(path)}: is not empty; name a new directory, or remove this one")
    for file in there:
        if file.suffix not in suffixes or not file.is_file():
            what = f"holds {quote(file.name)}, which is no {' or '.join(suffixes)} file"
            raise FileExistsError(f"{show_path(path)}: {what}; name another directory, or move that away")
    with _named(path), _scratch(path) as (target, scratch):
        made = scratch / target.name
        yield made
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            _exchange(made, target, scratch / "previous")
        else:
            made.rename(target)


@contextmanager
def replaced_directory(path: Path) -> Iterator[Path]:
    """Write a directory under a temporary name, and let it take the place of the one that is there.

    Where the system can exchange two names at once, as Linux can, there is no moment without a whole directory.

    path (Path): Where the directory shall be.
    YIELDS (Path): Where to make it. It is deleted, and `path` left as it was, if the block raises.
    RAISES (OSError): The directory cannot be written.
    """
    target = path.resolve()
    with _named(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
            made = Path(scratch) / target.name
            yield made
            if target.is_dir() and not _swap(made, target):
                target.rename(Path(scratch) / _PREVIOUS)
            if made.is_dir() and not target.is_dir():
                made.rename(target)


def remove_leftovers(folder: Path, *names: str) -> None:
    """Delete the temporary directories that a process left which was killed while it wrote. One that was killed
    after it had moved the old directory away has the new one put into its place.

    folder (Path): Where they are. No other process may be writing there.
    names (str): The names of what it wrote.
    """
    for name in names:
        for path in folder.glob(f".{name}-*"):
            children = {child.name: child for child in path.iterdir()}
            if children.pop(_PREVIOUS, None) is not None:
                for whole, made in children.items():
                    if not (folder / whole).exists():
                        made.rename(folder / whole)
            shutil.rmtree(path, ignore_errors=True)


def _swap(one: Path, other: Path) -> bool:
    """Exchange the names of two paths at once.

    RETURNS (bool): Whether the system has done so.
    """
    exchange = 2  # RENAME_EXCHANGE of linux/fs.h
    at_working_directory = -100  # AT_FDCWD of fcntl.h
    function = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    if function is None:
        return False
    places = (at_working_directory, os.fsencode(one), at_working_directory, os.fsencode(other))
    return function(*places, exchange) == 0


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Name the path in the system's errors, which name the temporary one, or none where a disk is full."""
    try:
        yield
    except OSError as error:
        if error.strerror is None:  # It says all.
            raise
        what = f"{show_path(path)}: cannot be written ({error.strerror})"
        raise OSError(f"{what}; choose a place that you may write to and that has room") from error


@contextmanager
def _scratch(path: Path) -> Iterator["tuple[Path, Path]"]:
    """The path with its links followed, and a temporary directory on the same file system."""
    # A link to a directory stays one.
    target = path.resolve()
    # A directory that is there already may be a mount point, so what shall be in it is made in it. Missing parents
    # are not made for a run that fails.
    ancestor = next(place for place in (target, *target.parents) if place.is_dir())
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=ancestor) as scratch:
        yield target, Path(scratch)


def _exchange(made: Path, target: Path, previous: Path) -> None:
    """Put the files of one directory into another, in place of those that are there, or leave all as it was."""
    scratch = made.parent
    previous.mkdir()
    try:
        _move(target, previous, scratch)
        try:
            _move(made, target, scratch)
        except BaseException:
            _move(target, made, scratch)
            raise
    except BaseException:
        _move(previous, target, scratch)
        raise


def _move(source: Path, target: Path, but: Path) -> None:
    for path in sorted(source.iterdir()):
        if path != but:
            path.rename(target / path.name)
