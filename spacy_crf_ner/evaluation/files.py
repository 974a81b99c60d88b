"""Reading DocBins with errors that name the file, and writing results whole or not at all."""

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, List

from spacy.tokens import Doc, DocBin
from spacy.training.corpus import FILE_TYPE, walk_corpus
from spacy.vocab import Vocab


def read_docs(path: Path, vocab: Vocab) -> List[Doc]:
    """Read the docs of one DocBin or of all DocBins below a directory, empty docs included.

    path (Path): A `.spacy` file, or a directory that is searched for them.
    vocab (Vocab): The vocabulary of the docs.
    RETURNS (List[Doc]): The docs, files in the order of their names.
    RAISES (FileNotFoundError): The path is not there, or no `.spacy` file is below it.
    RAISES (ValueError): A file is not a DocBin.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: no such file or directory; give a {FILE_TYPE} file or a directory of them"
        )
    if path.is_file() and not path.name.endswith(FILE_TYPE):
        raise ValueError(f"{path}: not a {FILE_TYPE} file; write one with `python -m spacy crf convert`")
    if path.is_dir() and not any(path.rglob(f"*{FILE_TYPE}")):
        raise FileNotFoundError(f"{path}: no {FILE_TYPE} file in it; write one with `python -m spacy crf convert`")
    docs: List[Doc] = []
    for file in walk_corpus(path, FILE_TYPE):
        try:
            docs.extend(DocBin().from_disk(file).get_docs(vocab))
        except OSError:
            raise
        except Exception as error:  # zlib, msgpack and NumPy each raise their own
            raise ValueError(
                f"{file}: not a DocBin ({type(error).__name__}: {error}); "
                "write it again with `python -m spacy crf convert`"
            ) from error
    return docs


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Write a file under a temporary name in the same directory and move it into place when it is complete.

    path (Path): Where the file shall be. Missing parent directories are created.
    YIELDS (Path): Where to write it. It is deleted, and `path` left as it was, if the block raises.
    RAISES (OSError): The directory or the file cannot be written.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a directory; name a file in it")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as directory:
        part = Path(directory, path.name)
        yield part
        os.replace(part, path)


@contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """Write a directory under a temporary name and move it into place when it is complete.

    path (Path): Where the directory shall be: nothing is there, or an empty one.
    YIELDS (Path): Where to make it. It is deleted, and `path` left as it was, if the block raises.
    RAISES (OSError): Something is there already, or the directory cannot be written.
    """
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"{path}: is there already and is no directory; name a new directory")
    if path.is_dir() and any(path.iterdir()):
        raise FileExistsError(f"{path}: is not empty; name a new directory, or remove this one")
    target = path.resolve()
    # On the target's own file system; and missing parents are not made for a run that fails.
    ancestor = next(parent for parent in target.parents if parent.is_dir())
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=ancestor) as scratch:
        made = Path(scratch, target.name)
        yield made
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            target.rmdir()
        made.rename(target)
