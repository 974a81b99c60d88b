"""The README's blocks, the commands in them, and how what they print is compared."""

import re
from pathlib import Path
from typing import Iterator, List, NamedTuple, Optional

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
GENERATED = "<!-- WEASEL: AUTO-GENERATED DOCS START"
"""From here on `spacy project document` wrote it; `.ci/run` compares that."""

TOLERANCE = 0.02
"""By how much a printed decimal may differ from the README's: a training on another processor, or with another
torch, ends in other last digits. Whole numbers and words are compared as they are."""

DECIMAL = re.compile(r"(?<![\w.])(\d+\.\d+)(?![\w.])")
ANSI = re.compile(r"\x1b\[[0-9;]*m")


class Block(NamedTuple):
    """A fenced block."""

    heading: str
    line: int
    """That of its first line, from 1."""
    language: str
    text: str
    output: Optional[str] = None
    """The ```text block after it."""

    @property
    def place(self) -> str:
        return f"README.md:{self.line} ({self.heading})"


class Command(NamedTuple):
    """A command line of a console block."""

    line: int
    text: str
    output: Optional[str]
    """What it is said to print; None: nothing is said."""


def find_blocks(text: str) -> List[Block]:
    """The fenced blocks of a Markdown text, each with its output; what `spacy project document` wrote is left out.

    text (str): The text.
    RETURNS (List[Block]): In their order; a ```text block is the output of the one before it.
    RAISES (ValueError): A block is left open, or a ```text block follows none that prints.
    """
    blocks: List[Block] = []
    for block in _fenced(text.split(GENERATED)[0]):
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


def _fenced(text: str) -> Iterator[Block]:
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
            yield Block(heading, start, language, "".join(f"{x}\n" for x in lines[start - 1 : number - 1]))
            start = 0
    if start:
        raise ValueError(f"README.md:{start - 1}: a block that is not closed; close it with ```")


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
    """How an output differs from what the README says.

    said (str): The README's block. `...` stands for anything, white space for any other white space.
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
    return f"the README says that it prints\n{said}\nand it prints\n{printed}"


def _pattern(said: str) -> str:
    def piece(text: str) -> str:
        return ".*?".join(re.escape(part) for part in re.split(r"\s*\.\.\.\s*", text))

    parts = DECIMAL.split(said)
    return "".join(r"(\d+\.\d+)" if n % 2 else piece(part) for n, part in enumerate(parts))


RUN_ELSEWHERE: List[str] = []
"""How the commands begin that a test of another module runs."""


def command_of(start: str) -> str:
    """The README's one command that begins so."""
    blocks = find_blocks(README.read_text(encoding="utf8"))
    texts = [command.text for block in blocks if block.language == "console" for command in find_commands(block)]
    found = [text for text in texts if text.startswith(start)]
    if len(found) != 1:
        raise ValueError(
            f"the README must have one command that begins {start!r}, has {len(found)}; correct the test"
        )
    return found[0]


def runs_readme(start: str, argument: str = "command") -> pytest.MarkDecorator:
    """Mark a test that runs a command of the README: it is handed it, and `test_readme` leaves it out.

    start (str): The command's beginning.
    argument (str): The test's argument.
    RETURNS (MarkDecorator): The mark.
    """
    RUN_ELSEWHERE.append(start)
    return pytest.mark.parametrize(argument, [command_of(start)], ids=["README"])
