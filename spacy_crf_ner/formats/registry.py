"""The formats that can be read and written, by name. A third party adds one by decorator or entry point."""

import inspect
from collections import Counter
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Protocol, Sequence, TypeVar

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
    """Writes one format.

    doc (Doc): What to write.
    notes (Counter[str]): Receives how often there was something that the format cannot hold, by what it is.
    settings: Keyword-only arguments of the format's own. Each has a default.
    RETURNS (str): The text of the doc in the file, its last line's end included.
    RAISES (FormatError): The format cannot hold the doc.
    """

    def __call__(self, doc: Doc, notes: "Counter[str]", **settings: Any) -> str: ...


class Frame(NamedTuple):
    """What stands around the docs of a file: before the first, between two, and after the last."""

    begin: str = ""
    between: str = ""
    end: str = ""


JSON_ARRAY = Frame("[\n", ",", "]\n")
"""The frame of a file that is one JSON array, of writers whose docs are a line each."""

W = TypeVar("W", bound=Callable[..., str])


def framed(frame: Frame) -> Callable[[W], W]:
    """Say what stands around the docs that a writer writes.

    frame (Frame): What stands there.
    RETURNS (Callable[[W], W]): A decorator of the writer.
    """

    def decorate(writer: W) -> W:
        vars(writer)[_FRAME] = frame
        return writer

    return decorate


def frame_of(writer: Writer) -> Frame:
    """What stands around the docs that a writer writes; nothing, unless it is `framed`."""
    frame: Frame = getattr(writer, _FRAME, Frame())
    return frame


_FRAME = "spacy_crf_ner_frame"


class FolderWriter(Protocol):
    """Writes one format that has several files for each doc, in a directory. Arguments and errors as of `Writer`.

    suffixes (Sequence[str]): What the names of the files of a doc end in.
    RETURNS (Sequence[str]): The texts of those files.
    """

    suffixes: Sequence[str]

    def __call__(self, doc: Doc, notes: "Counter[str]", **settings: Any) -> Sequence[str]: ...


readers = catalogue.create("spacy_crf_ner", "readers", entry_points=True)
"""Functions that are a `Reader`, by the name of their format; entry points ``spacy_crf_ner_readers``."""

writers = catalogue.create("spacy_crf_ner", "writers", entry_points=True)
"""Functions that are a `Writer` or a `FolderWriter`, by the name of their format; entry points
``spacy_crf_ner_writers``."""


def get_reader(name: str, settings: Mapping[str, Any]) -> Reader:
    """Look a reader up.

    name (str): The format.
    settings (Mapping[str, Any]): The settings that it will be called with.
    RETURNS (Reader): The reader.
    RAISES (ValueError): There is no such format, or it has no such setting.
    """
    return _get("read", readers, name, settings)


def get_writer(name: str, settings: Mapping[str, Any]) -> Writer:
    """Look a writer up.

    name (str): The format.
    settings (Mapping[str, Any]): The settings that it will be called with.
    RETURNS (Writer): The writer; one that has `suffixes` is a `FolderWriter`.
    RAISES (ValueError): There is no such format, or it has no such setting.
    """
    return _get("written", writers, name, settings)


def _get(verb: str, registry: catalogue.Registry, name: str, settings: Mapping[str, Any]) -> Callable[..., Any]:
    if name not in registry:
        # DocBins are written by `writing`, for they are no text.
        choices = sorted({*_names(registry), "spacy"})
        raise ValueError(f"no format {quote(name)} can be {verb}; choose one of {', '.join(choices)}")
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
