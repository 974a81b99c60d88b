"""The blocks of the README and of docs/, the commands in them, and how what they print is compared."""

import importlib.util
import re
from pathlib import Path
from typing import Any, Iterator, List, NamedTuple, Optional

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
"""The Markdown that a reader reads, by its path in the repository: the README comes first."""

GENERATED = "<!-- WEASEL: AUTO-GENERATED DOCS START"
"""From here on `spacy project document` wrote it; `.ci/run` compares that."""

TOLERANCE = 0.02
"""By how much a printed decimal may differ from the page's: a training on another processor, or with another
torch, ends in other last digits. Whole numbers and words are compared as they are."""

DECIMAL = re.compile(r"(?<![\w.])(\d+\.\d+)(?![\w.])")
ANSI = re.compile(r"\x1b\[[0-9;]*m")


class Block(NamedTuple):
    """A fenced block."""

    page: str
    heading: str
    line: int
    """That of its first line, from 1."""
    language: str
    text: str
    output: Optional[str] = None
    """The ```text block after it."""

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line} ({self.heading})"


class Command(NamedTuple):
    """A command line of a console block."""

    line: int
    text: str
    output: Optional[str]
    """What it is said to print; None: nothing is said."""


def find_blocks(text: str, page: str = "README.md") -> List[Block]:
    """The fenced blocks of a Markdown text, each with its output; what `spacy project document` wrote is left out.

    text (str): The text.
    page (str): What to call it in an error.
    RETURNS (List[Block]): In their order; a ```text block is the output of the one before it.
    RAISES (ValueError): A block is left open, or a ```text block follows none that prints.
    """
    blocks: List[Block] = []
    for block in _fenced(text.split(GENERATED)[0], page):
        if block.language != "text":
            blocks.append(block)
        elif not blocks or blocks[-1].language not in ("python", "console") or blocks[-1].output is not None:
            raise ValueError(
                f"{block.place}: a ```text block is the output of the Python or console block before it, and "
                "there is none; put it behind what prints it"
            )
        else:
            blocks[-1] = blocks[-1]._replace(output=block.text)
    return blocks


def blocks_of(page: str) -> List[Block]:
    """The blocks of one of `PAGES`."""
    return find_blocks((ROOT / page).read_text(encoding="utf8"), page)


def _fenced(text: str, page: str) -> Iterator[Block]:
    heading, start, language = "", 0, ""
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        fence = re.match(r"\s*```(.*)", line)
        if not fence:
            if not start and line.startswith("#"):
                heading = line.lstrip("# ")
        elif not start:
            start, language = number + 1, fence[1].strip()
        else:
            body = "".join(f"{x}\n" for x in lines[start - 1 : number - 1])
            yield Block(page, heading, start, language, body)
            start = 0
    if start:
        raise ValueError(f"{page}:{start - 1}: a block that is not closed; close it with ```")


def find_commands(block: Block) -> List[Command]:
    r"""The commands of a console block: every line; or, if there are lines that begin with $, these, each with its
    output up to the next. A \ at a line's end joins the next line to it.

    block (Block): The block.
    RETURNS (List[Command]): In their order.
    """
    lines = block.text.replace("\\\n", "\\\0").splitlines()
    lines = [line.replace("\\\0", "\\\n") for line in lines]
    numbers = [block.line + sum(line.count("\n") + 1 for line in lines[:n]) for n in range(len(lines))]
    if not any(line.startswith("$ ") for line in lines):
        commands = [Command(number, line, None) for number, line in zip(numbers, lines) if line.strip()]
        if commands and block.output is not None:
            commands[-1] = commands[-1]._replace(output=block.output)
        return commands
    if not lines[0].startswith("$ "):
        raise ValueError(f"{block.place}: output before the first command; begin the command's line with '$ '")
    commands = []
    for number, line in zip(numbers, lines):
        if line.startswith("$ "):
            commands.append(Command(number, line[2:], ""))
        else:
            commands[-1] = commands[-1]._replace(output=f"{commands[-1].output}{line}\n")
    return commands


def difference(said: str, printed: str) -> Optional[str]:
    """How an output differs from what a page says.

    said (str): The page's block. `...` stands for anything, white space for any other white space.
    printed (str): What was printed; colours are left out. Decimals may differ by `TOLERANCE`.
    RETURNS (Optional[str]): A message, or None.
    """
    printed = ANSI.sub("", printed)
    words = " ".join(printed.split())
    said_words = " ".join(said.split())
    numbers = [float(number) for number in DECIMAL.findall(said_words)]
    match = re.fullmatch(_pattern(said_words), words)
    if match and all(abs(float(found) - number) <= TOLERANCE for found, number in zip(match.groups(), numbers)):
        return None
    return f"the page says that it prints\n{said}\nand it prints\n{printed}"


def _pattern(said: str) -> str:
    def piece(text: str) -> str:
        return ".*?".join(re.escape(part) for part in re.split(r"\s*\.\.\.\s*", text))

    parts = DECIMAL.split(said)
    return "".join(r"(\d+\.\d+)" if n % 2 else piece(part) for n, part in enumerate(parts))


def load_script(path: Path) -> Any:
    """The module of a Python file that is part of no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RUN_ELSEWHERE: List[str] = []
"""How the commands begin that a test of another module runs."""


def command_of(start: str) -> str:
    """The one command of the pages that begins so."""
    blocks = [block for page in PAGES for block in blocks_of(page) if block.language == "console"]
    found = [
        command.text for block in blocks for command in find_commands(block) if command.text.startswith(start)
    ]
    if len(found) != 1:
        raise ValueError(
            f"the pages must have one command that begins {start!r}, have {len(found)}; correct the test"
        )
    return found[0]


def runs_command(start: str, argument: str = "command") -> pytest.MarkDecorator:
    """Mark a test that runs a command of the pages: it is handed it, and `test_pages` leaves it out.

    start (str): The command's beginning.
    argument (str): The test's argument.
    RETURNS (MarkDecorator): The mark.
    """
    RUN_ELSEWHERE.append(start)
    return pytest.mark.parametrize(argument, [command_of(start)], ids=["page"])
