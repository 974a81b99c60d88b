"""The formats that can be read and written, by name. A third party adds one by decorator or entry point."""

import inspect
from collections import Counter
from typing import (
    IO,
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Protocol,
    Sequence,
    Tuple,
    TypeVar,
)

import catalogue  # type: ignore[import-untyped]
from spacy.tokens import Doc

from spacy_crf_ner.formats.doc_builder import DocMaker
from spacy_crf_ner.formats.source import Source
from spacy_crf_ner.messages import quote


class Reader(Protocol):
    """Reads one format: a generator of docs.

    source (Source): What to read.
    make (DocMaker): Makes the docs and counts them.
    settings: Keyword-only arguments of the format's own. Each has a default.
    YIELDS (Doc): The docs, in order.
    RAISES (FormatError): The source is not of this format (`Source.error` makes one).
    """

    def __call__(self, source: Source, make: DocMaker, **settings: Any) -> Iterator[Doc]: ...


class Writer(Protocol):
    """Writes one format: docs to one file.

    docs (Iterable[Doc]): What to write, in order.
    stream (IO[bytes]): The file. `text_writer.text_writer` makes a writer of what gives the text of one doc.
    notes (Counter[str]): Receives how often there was something that the format cannot hold, by what it is.
    settings: Keyword-only arguments of the format's own. Each has a default.
    RAISES (FormatError): The format cannot hold a doc.
    """

    def __call__(self, docs: Iterable[Doc], stream: IO[bytes], notes: "Counter[str]", **settings: Any) -> None: ...


class DocFilesWriter(Protocol):
    """Writes one format that has several files per doc. Arguments and errors as of `Writer`.

    doc (Doc): What to write.
    streams (Sequence[IO[bytes]]): Its files, one per suffix of the writer's `Files`.
    """

    def __call__(self, doc: Doc, streams: Sequence[IO[bytes]], notes: "Counter[str]", **settings: Any) -> None: ...


class Files(NamedTuple):
    """How the files of a format are called, and what is in one.

    suffixes (Tuple[str, ...]): What their names end in. None: a file may have any name, and takes all docs.
        Otherwise an output of another name is a directory of numbered files.
    per_doc (bool): Each doc has files of its own, one per suffix, and the writer is a `DocFilesWriter`.
    """

    suffixes: Tuple[str, ...] = ()
    per_doc: bool = False


W = TypeVar("W", bound=Callable[..., None])


def written_to(files: Files) -> Callable[[W], W]:
    """Say how the files are called that a writer writes.

    files (Files): How.
    RETURNS (Callable[[W], W]): A decorator of the writer.
    """

    def decorate(writer: W) -> W:
        vars(writer)[_FILES] = files
        return writer

    return decorate


def files_of(writer: Callable[..., None]) -> Files:
    """How the files of a writer are called: in any way, unless it says otherwise by `written_to`."""
    files: Files = getattr(writer, _FILES, Files())
    return files


_FILES = "spacy_crf_ner_files"


readers = catalogue.create("spacy_crf_ner", "readers", entry_points=True)
"""Functions that are a `Reader`, by the name of their format; entry points ``spacy_crf_ner_readers``."""

writers = catalogue.create("spacy_crf_ner", "writers", entry_points=True)
"""Functions that are a `Writer` or a `DocFilesWriter`, by the name of their format; entry points
``spacy_crf_ner_writers``."""


def get_reader(name: str, settings: Mapping[str, Any]) -> Reader:
    """Look a reader up.

    name (str): The format.
    settings (Mapping[str, Any]): The settings that it will be called with.
    RETURNS (Reader): The reader.
    RAISES (ValueError): There is no such format, or it has no such setting.
    """
    return _get("read", readers, name, settings)


def get_writer(name: str, settings: Mapping[str, Any]) -> Callable[..., None]:
    """Look a writer up.

    name (str): The format.
    settings (Mapping[str, Any]): The settings that it will be called with.
    RETURNS (Callable[..., None]): The `Writer`; a `DocFilesWriter` where its `Files` are per doc.
    RAISES (ValueError): There is no such format, or it has no such setting.
    """
    return _get("written", writers, name, settings)


def _get(verb: str, registry: catalogue.Registry, name: str, settings: Mapping[str, Any]) -> Callable[..., Any]:
    if name not in registry:
        raise ValueError(f"no format {quote(name)} can be {verb}; choose one of {', '.join(_names(registry))}")
    function = registry.get(name)
    known = keywords(function)
    if any(p.kind is p.VAR_KEYWORD for p in inspect.signature(function).parameters.values()):
        return function
    for setting in settings:
        if setting not in known:
            has = f"its settings are {', '.join(known)}" if known else "it has none"
            raise ValueError(f"format {name!r} has no setting {setting!r}; {has}")
    return function


def reader_names() -> List[str]:
    """The names of all formats that can be read."""
    return _names(readers)


def _names(registry: catalogue.Registry) -> List[str]:
    """Not `get_all`, which imports all: one package that is broken would hide the others."""
    points = {point.name for point in registry._get_entry_points()}
    depth = len(registry.namespace)
    return sorted(points | {key[-1] for key in catalogue.REGISTRY if key[:depth] == registry.namespace})


def keywords(function: Callable[..., Any]) -> Dict[str, inspect.Parameter]:
    """The keyword-only parameters of a function."""
    parameters = inspect.signature(function).parameters
    return {name: p for name, p in parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}


def check_bool(name: str, value: Any) -> None:
    """Check that a setting is true or false.

    RAISES (ValueError): It is something else, a string for one, which would count as true.
    """
    if not isinstance(value, bool):
        raise ValueError(f"the setting {name} is {value!r}; give true or false")


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Check that a setting is one of some names.

    RAISES (ValueError): It is none of them.
    """
    if value not in choices:
        raise ValueError(f"the setting {name} is {value!r}; choose one of {', '.join(choices)}")
