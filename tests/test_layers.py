"""The layers of the package: an import only ever points to a layer before, and each layer is one concept."""

import ast
from pathlib import Path
from typing import Iterator, List

import pytest

import spacy_crf_ner

PACKAGE = "spacy_crf_ner"
ROOT = Path(spacy_crf_ner.__file__).parent

LAYERS = (
    "messages",
    "languages",
    "saved_state",
    "labels",
    "tagging",
    "atomic_files",
    "templates",
    "crf",
    "training.protocols",
    "torch_utils",
    "encoder",
    "tagger",
    "training",
    "ner",
    "formats",
    "corpus",
    "evaluation",
    "deploy",
    "cli",
)
"""Folders and modules, each of which may import those before it."""


def layer_of(name: str) -> str:
    """The layer of a module, whose name is without the package's."""
    return next(layer for layer in sorted(LAYERS, key=len, reverse=True) if f"{name}.".startswith(f"{layer}."))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported(path: Path) -> Iterator[str]:
    """The layers that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        names: List[str] = []
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: a relative import; name the module whole"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            if name.startswith(f"{PACKAGE}."):
                yield layer_of(name.removeprefix(f"{PACKAGE}."))


MODULES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module_imports_only_what_is_below_it(path: Path) -> None:
    own = LAYERS.index(layer_of(name_of(path)))
    above = [name for name in imported(path) if LAYERS.index(name) > own]
    assert not above, f"{path.relative_to(ROOT)} imports {', '.join(above)}, which may import {LAYERS[own]}"


def test_every_layer_is_there() -> None:
    assert {layer_of(name_of(path)) for path in MODULES} == set(LAYERS)
