"""The parts of a saved pipe, read from bytes or from a folder: none is missing that was not excluded."""

from pathlib import Path
from typing import Any, Collection, Dict, NamedTuple, Optional

import srsly

from spacy_crf_ner.messages import show_path
from spacy_crf_ner.ner.pipe_cfg import read_cfg
from spacy_crf_ner.saved_state import AGAIN, SavedStateError, explained, unpack


class SavedParts(NamedTuple):
    """The parts of a saved pipe; None for what is excluded.

    cfg (Optional[Dict[str, Any]]): The cfg, checked.
    model (Optional[bytes]): The model.
    gazetteer (Optional[bytes]): The gazetteer. Bytes of older versions have none.
    vocab (Optional[bytes]): The vocabulary, which bytes may hold. That of a folder is a folder.
    """

    cfg: Optional[Dict[str, Any]]
    model: Optional[bytes]
    gazetteer: Optional[bytes]
    vocab: Optional[bytes] = None


def pack(pipe: bytes, gazetteer: Optional[bytes]) -> bytes:
    """Put the parts of a pipe together.

    pipe (bytes): What spaCy's own pipe saves.
    gazetteer (Optional[bytes]): The gazetteer, unless it is excluded.
    RETURNS (bytes): What `parts_from_bytes` reads.
    """
    return srsly.msgpack_dumps({"pipe": pipe} if gazetteer is None else {"pipe": pipe, "gazetteer": gazetteer})


def parts_from_bytes(data: bytes, exclude: Collection[str]) -> SavedParts:
    """Read what `pack` put together.

    data (bytes): The bytes.
    exclude (Collection[str]): The names of parts to leave out.
    RETURNS (SavedParts): The parts.
    RAISES (SavedStateError): A part is missing or damaged.
    """
    fields = unpack(data, "what was saved")
    if not isinstance(fields, dict) or "pipe" not in fields:
        raise SavedStateError("these bytes are of another component, or an older version")
    saved = unpack(fields["pipe"], "what was saved")
    missing = [part for part in ("cfg", "model") if part not in saved and part not in exclude]
    if not isinstance(saved, dict) or missing:
        raise SavedStateError(f"there is no {missing[0]}; {AGAIN}, or load it with exclude={missing}")
    with explained("cfg"):
        cfg = None if "cfg" in exclude else read_cfg(saved["cfg"])
    return SavedParts(
        cfg,
        model=None if "model" in exclude else saved["model"],
        gazetteer=None if "gazetteer" in exclude else fields.get("gazetteer"),
        vocab=None if "vocab" in exclude else saved.get("vocab"),
    )


def parts_from_disk(folder: Path, exclude: Collection[str]) -> SavedParts:
    """Read the folder of a saved pipe.

    folder (Path): The folder.
    exclude (Collection[str]): The names of parts to leave out.
    RETURNS (SavedParts): The parts.
    RAISES (OSError): A file is missing or cannot be read.
    RAISES (SavedStateError): The cfg is damaged.
    """

    def read(name: str) -> Optional[bytes]:
        return None if name in exclude else _read(folder / name)

    with explained(show_path(folder / "cfg")):
        saved = read("cfg")
        cfg = None if saved is None else read_cfg(saved)
    return SavedParts(cfg, read("model"), read("gazetteer"))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        fix = f"save the pipe again, or load it with exclude=['{path.name}']"
        raise FileNotFoundError(f"{show_path(path)}: no such file; {fix}") from None
    except OSError as error:
        raise OSError(f"{show_path(path)}: cannot be read ({error.strerror or error}); {AGAIN}") from None
