"""Every Python, console and config block of the README and of docs/ runs, and prints what the page says.

The blocks of a page run one after the other in a folder of the page's own, as for a reader who has run the first
command of the README and goes through the page from its top. `BROUGHT` is what a reader has beside that,
`SUBSTITUTES` what must be replaced on a machine with neither network nor GPU, and with little time. A block of a
language without a way in `RUNNERS` fails. A Python block whose first line is a comment with a file's name is saved
under it, for the blocks that follow.
"""

import configparser
import os
import re
import shutil
import subprocess
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest
import spacy
from spacy.training.initialize import init_nlp
from spacy.util import registry
from thinc.api import Config

import tests.test_project  # noqa: F401 (it marks which commands it runs)
from spacy_crf_ner.formats.doc_builder import DocMaker
from spacy_crf_ner.formats.reading import read
from tests.encoder.util import save_tiny_bert
from tests.pages import (
    GENERATED,
    PAGES,
    ROOT,
    RUN_ELSEWHERE,
    Block,
    Command,
    blocks_of,
    difference,
    find_blocks,
    find_commands,
)
from tests.warm_python import WarmPython

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the blocks run in bash, by processes that fork")

BLOCKS = {page: blocks_of(page) for page in PAGES}
SAMPLE = ("training/sample/model-best", "corpus/sample/train", "corpus/sample/dev", "corpus/sample/test")
"""What the README's first command makes and later blocks read."""

SUBSTITUTES: Dict[str, str] = {
    "--gpu-id 0": "--gpu-id -1 --system.mixed_precision false --system.gpu_allocator null",
    "--dev corpus/sample/dev": "--dev corpus/sample/dev --training.max_steps 2 --training.eval_frequency 2"
    " --training.batcher.size 200",
    "--resume training/": "--training.max_steps 2 --training.eval_frequency 2 --training.batcher.size 200"
    " --resume training/",
    "--output training/": "--training.max_steps 2 --training.eval_frequency 2 --training.batcher.size 200"
    " --output training/",
}
"""What replaces a part of a command: there is no GPU, and the training would take hours."""


class Reader:
    """Goes through a page, block by block, in a folder of its own.

    blocks (List[Block]): The page's blocks.
    folder (Path): The folder.
    shell (WarmPython): Runs the commands.
    data_dir (Callable[[], Path]): The folder of the real corpora, or a skipped test.
    """

    def __init__(self, blocks: List[Block], folder: Path, shell: WarmPython, data_dir: Callable[[], Path]) -> None:
        self.blocks = blocks
        self.folder = folder
        self.shell = shell
        self.data_dir = data_dir
        self._outcomes: List[Any] = []

    def read(self, index: int) -> None:
        """Run the block of this index, after those before it that have not been run."""
        while len(self._outcomes) <= index:
            self._outcomes.append(self._outcome(self.blocks[len(self._outcomes)]))
        if self._outcomes[index] is not None:
            raise self._outcomes[index]

    def _outcome(self, block: Block) -> Any:
        try:
            runner_of(block)(self, block)
        except (Exception, pytest.fail.Exception, pytest.skip.Exception) as error:
            return error
        return None


def bring_encoder(reader: Reader, path: Path) -> None:
    """A tiny encoder in a folder whose path is the name of the hub's: there is no network."""
    sample = [reader.folder / "assets" / "sample"]
    save_tiny_bert(path, [doc.text for doc in read(sample, DocMaker(lambda: spacy.blank("zh")))])


def bring_weibo(reader: Reader, path: Path) -> None:
    shutil.copytree(reader.data_dir() / "weibo", path)


BROUGHT: Dict[str, Callable[[Reader, Path], None]] = {
    "hfl/chinese-roberta-wwm-ext": bring_encoder,
    "assets/weibo": bring_weibo,
}
"""What a reader has who runs a command that names such a path, and who makes it here."""


def run_console(reader: Reader, block: Block) -> None:
    for command in find_commands(block):
        run_command(reader, block, command)


def run_command(reader: Reader, block: Block, command: Command) -> None:
    """Run a command, unless `.ci/run` or another test does."""
    place = f"{block.page}:{command.line} ({block.heading}): {command.text}"
    wanted = re.fullmatch(r'pip install -e "\.\[([\w,]+)\]"', command.text)
    if wanted:
        extras = extras_of_setup()
        assert {*wanted[1].split(",")} <= {*extras}, f"{place}\nsetup.cfg has the extras {', '.join(extras)}"
    elif command.text not in commands_of_ci() and not command.text.startswith(tuple(RUN_ELSEWHERE)):
        text = command.text
        for name, bring in BROUGHT.items():
            if name in text and not (reader.folder / name).exists():
                bring(reader, reader.folder / name)
        for part, substitute in SUBSTITUTES.items():
            text = text.replace(part, substitute)
        check(reader, place, text, command.output, may_fail=block.text.startswith("$ "))


def extras_of_setup() -> List[str]:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf8")
    return list(setup["options.extras_require"])


@cache
def commands_of_ci() -> List[str]:
    """The commands that `.ci/run` runs: its own lines, and those that it takes from the README, by the line that
    takes them."""
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf8").splitlines()
    (taking,) = [line for line in lines if line.startswith("mapfile ")]
    script = f'{taking}\nprintf "%s\\n" "${{commands[@]}}"'
    taken = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True).stdout.splitlines()
    return [*taken, *lines]


def run_python(reader: Reader, block: Block) -> None:
    named = re.match(r"# ([\w/]+\.py)\n", block.text)
    name = named[1] if named else "block.py"
    (reader.folder / name).write_text(block.text, encoding="utf8")
    check(reader, block.place, f"python {name}", block.output or "")


def check(reader: Reader, place: str, command: str, said: Any, may_fail: bool = False) -> None:
    """Run a command and compare. In a session with `$`, the output shows whether it fails, not the status."""
    status, printed = reader.shell.run(command, reader.folder)
    if status and not may_fail:
        pytest.fail(
            f"{place}\nrun as\n{command}\nhas exit status {status}; correct the page, or say in BROUGHT or "
            f"SUBSTITUTES of tests/test_pages.py what it needs:\n{printed}",
            pytrace=False,
        )
    differs = None if said is None else difference(said, printed)
    if differs:
        pytest.fail(f"{place}\nrun as\n{command}\n{differs}\ncorrect the page", pytrace=False)


def run_config(reader: Reader, block: Block) -> None:
    """Put the block's sections in the place of those of a shipped config, and train one step with it."""
    parts = sections_of(block.text)
    whole = {
        name: text
        for name, text in sections_of((ROOT / "configs" / "char_bilstm.cfg").read_text(encoding="utf8")).items()
        if not any(f"{name}.".startswith(f"{part}.") for part in parts)
    }
    text = "\n\n".join([*whole.values(), *parts.values()])
    paths = {f"paths.{part}": str(reader.folder / "corpus" / "sample" / part) for part in ("train", "dev")}
    folder = Path.cwd()
    os.chdir(reader.folder)
    try:
        config = Config().from_str(text, overrides=paths, interpolate=False)
        nlp = init_nlp(config)
        training = registry.resolve(nlp.config.interpolate()["training"])
        corpora = registry.resolve(nlp.config.interpolate()["corpora"])
        examples = {name: list(islice(corpus(nlp), 4)) for name, corpus in corpora.items()}
        assert all(examples.values()), f"{block.place}: an empty corpus: {examples}"
        nlp.update(examples["train"], sgd=training["optimizer"])
    finally:
        os.chdir(folder)


def sections_of(text: str) -> Dict[str, str]:
    """The sections of a config, by name, each with its heading."""
    pieces = re.split(r"^\[(.+)\]\n", text, flags=re.MULTILINE)
    return {name: f"[{name}]\n{body}" for name, body in zip(pieces[1::2], pieces[2::2])}


RUNNERS: Dict[str, Callable[[Reader, Block], None]] = {
    "cfg": run_config,
    "console": run_console,
    "ini": run_config,
    "python": run_python,
}


def runner_of(block: Block) -> Callable[[Reader, Block], None]:
    if block.language not in RUNNERS:
        pytest.fail(
            f"{block.place}: a block of {block.language or 'no language'!r} has no way to run; name one of "
            f"{', '.join(RUNNERS)} (or text, for an output), or add a way to RUNNERS of tests/test_pages.py",
            pytrace=False,
        )
    return RUNNERS[block.language]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, shell: WarmPython) -> Path:
    """The folder of a reader who has run the README's first command: in this checkout, as `.ci/run` does, or else
    here. Each page begins with a copy of it."""
    folder = tmp_path_factory.mktemp("start")
    shutil.copy(ROOT / "project.yml", folder)
    for name in ("assets/sample", "configs", "docs", "scripts"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("_build"))
    if all((ROOT / name).is_dir() for name in SAMPLE):
        for name in SAMPLE:
            shutil.copytree(ROOT / name, folder / name)
    else:
        # With the dot: the default was the working directory when weasel was imported, which is the checkout.
        status, printed = shell.run("python -m spacy project run all .", folder)
        assert status == 0, printed
        assert all((folder / name).is_dir() for name in SAMPLE), printed
    return folder


@pytest.fixture(scope="module")
def readers(
    start: Path, tmp_path_factory: pytest.TempPathFactory, shell: WarmPython, request: pytest.FixtureRequest
) -> Callable[[str], Reader]:
    """The reader of each page, who goes on where the last test stopped."""

    @cache
    def reader_of(page: str) -> Reader:
        folder = tmp_path_factory.mktemp("page") / "folder"
        shutil.copytree(start, folder)
        return Reader(BLOCKS[page], folder, shell, lambda: request.getfixturevalue("data_dir"))

    return reader_of


@pytest.mark.slow
@pytest.mark.parametrize(
    "page, index",
    [
        pytest.param(page, index, id=f"{page}, {block.heading}, line {block.line}")
        for page, blocks in BLOCKS.items()
        for index, block in enumerate(blocks)
    ],
)
def test_block_runs_and_prints_what_the_page_says(page: str, index: int, readers: Callable[[str], Reader]) -> None:
    readers(page).read(index)


def test_every_block_has_a_way_to_run() -> None:
    blocks = [block for page in PAGES for block in BLOCKS[page]]
    for block in blocks:
        runner_of(block)
    assert {block.language for block in blocks} == {"console", "ini", "python"}


def test_ci_takes_the_two_commands_from_the_readme() -> None:
    assert commands_of_ci()[:2] == [
        "pip install -e . && python -m spacy project run all",
        'pip install -e ".[dev]" && pytest',
    ]
    assert "#!/usr/bin/env bash" in commands_of_ci()[2]


def test_the_readme_is_read_first_and_each_page_once() -> None:
    assert PAGES[0] == "README.md"
    assert len({*PAGES}) == len(PAGES)


def test_a_block_of_another_language_is_refused() -> None:
    (block,) = find_blocks("# A\n\n```toml\na = 1\n```\n")
    with pytest.raises(pytest.fail.Exception, match=r"README.md:4 \(A\): a block of 'toml' has no way to run"):
        runner_of(block)


@pytest.mark.parametrize(
    "text, message",
    [("```text\n1\n```\n", "is the output of"), ("```python\n", "README.md:1: a block that is not closed")],
)
def test_blocks_that_are_not_read_as_they_are_meant_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_blocks(text)


def test_an_error_names_the_page() -> None:
    (block,) = find_blocks("# A\n\n```toml\n```\n", "docs/a.md")
    assert block.place == "docs/a.md:4 (A)"
    with pytest.raises(ValueError, match=r"docs/a\.md:1: a block that is not closed"):
        find_blocks("```python\n", "docs/a.md")


def test_what_weasel_wrote_is_no_block() -> None:
    assert find_blocks(f"{GENERATED} -->\n```toml\n```\n") == []


def test_commands_and_their_outputs() -> None:
    lines = "a b \\\n  c\nd\n"
    (listed,) = find_blocks(f"```console\n{lines}```\n\n```text\n1\n```\n")
    assert find_commands(listed) == [Command(2, "a b \\\n  c", None), Command(4, "d", "1\n")]
    (session,) = find_blocks("```console\n$ a\n1\n2\n$ b\n```\n")
    assert find_commands(session) == [Command(2, "a", "1\n2\n"), Command(5, "b", "")]


@pytest.mark.parametrize(
    "said, printed",
    [
        ("a  b\n", "\x1b[1ma\nb\x1b[0m"),
        ("PER 0.910\n", "PER 0.925"),
        ("a\n...\nd\n...\n", "a\nb\nc\nd\n"),
        ("a\n...\nb\n", "a\nb\n"),
    ],
)
def test_outputs_that_are_the_same(said: str, printed: str) -> None:
    assert difference(said, printed) is None


@pytest.mark.parametrize(
    "said, printed",
    [
        ("a b\n", "a\n"),
        ("a\n", "a b\n"),
        ("", "a\n"),
        ("PER 0.910\n", "PER 0.935"),
        ("PER 0.910\n", "ORG 0.910"),
        ("12 docs\n", "13 docs\n"),
        ("a\n...\nd\n", "a\nb\n"),
    ],
)
def test_outputs_that_differ(said: str, printed: str) -> None:
    assert difference(said, printed) is not None
