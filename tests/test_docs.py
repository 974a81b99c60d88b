"""The pages in docs/: how their tables are made, what they name and link, and the picture of the example."""

import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, List, Optional

import pytest

from tests.pages import GENERATED, PAGES, ROOT, load_script

DOCS = ROOT / "docs"
TABLES = DOCS / "_ext" / "option_tables.py"


@pytest.fixture(scope="module")
def tables() -> Any:
    pytest.importorskip("sphinx", reason="needs the extra docs")
    return load_script(TABLES)


def described(width: int, depth: int = 1, *, name: str = "a") -> None:
    """Do something.

    More of it.

    width (int): How wide,
        in tokens.
    depth (Optional[int]): How deep; None: not.
    name (str): Its name | not.
    RETURNS (int): A number.
    RAISES (ValueError): It is not.
    """


def undescribed(width: int, depth: int = 1) -> None:
    """Do something.

    width (int): How wide.
    """


class Made:
    """A thing.

    left (int): Of the class's own docstring.
    """

    def __init__(self, left: int, right: bool = False) -> None:
        """Make it.

        right (bool): Of the docstring of `__init__`.
        """


def test_a_docstring_is_taken_apart(tables: Any) -> None:
    docstring = tables.read_docstring(described.__doc__)
    assert docstring.prose == "Do something.\n\nMore of it."
    assert list(docstring.arguments) == ["width", "depth", "name"]
    assert docstring.arguments["width"] == ("width", "int", "How wide, in tokens.")
    assert [field.name for field in docstring.outcomes] == ["RETURNS", "RAISES"]


def test_defaults_and_constants_are_those_of_a_config(tables: Any) -> None:
    rows = tables.rows_of(described)
    assert [(row.name, row.default) for row in rows] == [("width", None), ("depth", "1"), ("name", '"a"')]
    assert rows[1].text == "How deep; `null`: not."
    assert tables.rows_of(described, python=True)[1].text == "How deep; None: not."


def test_a_class_is_described_by_both_docstrings(tables: Any) -> None:
    assert [(row.name, row.default) for row in tables.rows_of(Made)] == [("left", None), ("right", "false")]


def test_a_parameter_without_a_description_is_an_error(tables: Any) -> None:
    with pytest.raises(ValueError, match="the parameter depth is not described"):
        tables.rows_of(undescribed)
    assert [row.name for row in tables.rows_of(undescribed, leave_out=("depth",))] == ["width"]
    assert [row.text for row in tables.rows_of(undescribed, like=described)][1] == "How deep; `null`: not."


def test_a_description_without_a_parameter_is_an_error(tables: Any) -> None:
    with pytest.raises(ValueError, match="has no parameter height"):
        tables.rows_of(described, leave_out=("height",))


def test_cells_escape_what_would_end_them(tables: Any) -> None:
    assert tables.table_of(tables.rows_of(described))[-1] == '| `name` | `"a"` | *str*: Its name \\| not. |'


def test_every_command_is_on_the_page_and_every_option_described(tables: Any) -> None:
    page = (DOCS / "commands.md").read_text(encoding="utf8")
    assert re.findall(r"^:::\{command\} (.+)$", page, flags=re.MULTILINE) == re.findall(
        r"^## (.+)$", page, flags=re.MULTILINE
    )
    commands = tables.commands()
    assert {*re.findall(r"^:::\{command\} (.+)$", page, flags=re.MULTILINE)} == {*commands}
    for name, function in commands.items():
        for parameter in tables.parameters_of(name, function):
            assert parameter.row.text, (name, parameter)


def test_arguments_and_options_are_told_apart(tables: Any) -> None:
    parameters = tables.parameters_of("split", tables.commands()["split"])
    names = [parameter.row.name for parameter in parameters]
    assert names[:2] == ["DATA", "--dev, -d FLOAT"]
    assert {"--force, -F", "--seed INTEGER", "--output, -o PATH", "--set, -s NAME=VALUE"} <= {*names}
    assert [parameter.usage for parameter in parameters if not parameter.is_option] == ["DATA..."]
    (head,) = [
        p.row
        for p in tables.parameters_of("init-config", tables.commands()["init-config"])
        if "head" in p.row.name
    ]
    assert head.default == "bilstm-attention-crf" and head.text.endswith("`bilstm-crf`, `crf`")


def test_an_option_without_help_is_an_error(tables: Any) -> None:
    from typing import Annotated

    from typer import Option

    def command(limit: Annotated[int, Option("--limit")] = 3) -> None:
        """Do something."""

    with pytest.raises(ValueError, match="count: the option limit has no help"):
        tables.parameters_of("count", command)


def test_every_registered_name_is_in_the_reference() -> None:
    setup = (ROOT / "setup.cfg").read_text(encoding="utf8")
    names = re.findall(r"^    (spacy-crf-ner\.\S+) =", setup, flags=re.MULTILINE)
    page = (DOCS / "reference.md").read_text(encoding="utf8")
    assert len(names) == 14
    assert not [name for name in ["crf_ner", *names] if f"`{name}`" not in page]


def test_every_format_is_on_its_page(tables: Any) -> None:
    page = (DOCS / "formats.md").read_text(encoding="utf8")
    groups = ("spacy_crf_ner_readers", "spacy_crf_ner_writers")
    names = [point.name for group in groups for point in entry_points(group=group)]
    assert len(names) > 30 and not [name for name in names if f"`{name}`" not in page]
    assert {row.name for row in tables.setting_rows()} > {"repair", "spelling", "token_column", "names", "ends"}


def test_every_code_of_a_finding_is_on_its_page() -> None:
    page = (DOCS / "checking.md").read_text(encoding="utf8")
    code = "".join(path.read_text(encoding="utf8") for path in (ROOT / "spacy_crf_ner" / "corpus").glob("*.py"))
    told = re.findall(r"`(\w+)`", page[page.index("### Codes") : page.index("## Split")])
    assert len(told) == 29
    assert not [name for name in told if f'"{name}"' not in code]


def test_every_page_is_in_the_contents() -> None:
    contents = (DOCS / "index.md").read_text(encoding="utf8")
    names = {Path(page).stem for page in PAGES if page.startswith("docs/")} - {"index"}
    assert {name for name in names if re.search(rf"(^|<){name}>?$", contents, flags=re.MULTILINE)} == names


@pytest.mark.parametrize("page", PAGES)
def test_every_link_to_a_file_has_its_file(page: str) -> None:
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", path.read_text(encoding="utf8")):
        assert (path.parent / target).exists() or page == "docs/project.md", (page, target)


def test_every_file_and_test_that_contributing_names_is_there() -> None:
    page = (DOCS / "contributing.md").read_text(encoding="utf8")
    named = re.findall(r"`((?:spacy_crf_ner|tests|docs)/[\w./]+?)(?:::(\w+))?`", page)
    assert len(named) > 40
    for file, test in named:
        assert (ROOT / file).exists(), file
        assert not test or f"def {test}(" in (ROOT / file).read_text(encoding="utf8"), (file, test)


def test_the_private_names_that_contributing_lists_are_used_where_it_says() -> None:
    page = (DOCS / "contributing.md").read_text(encoding="utf8")
    entries = re.findall(r"^- (.+)\n  - used in (.+)\n  - tested by `tests/.+`$", page, flags=re.MULTILINE)
    assert len(entries) > 10
    for names, files in entries:
        (first, *_) = re.findall(r"`([^`]+)`", names)
        word = re.findall(r"_?[A-Za-z_]\w*", first)[-1].partition("_ID_")[0]
        code = [(ROOT / file).read_text(encoding="utf8") for file in re.findall(r"`([^`]+\.py)`", files)]
        assert any(word in text for text in code), (names, files)


def test_every_option_that_the_pages_name_is_one(tables: Any) -> None:
    parameters = [tables.parameters_of(name, function) for name, function in tables.commands().items()]
    known = {option for p in parameters for row, *_ in p for option in re.findall(r"--[a-z0-9-]+", row.name)}
    others = {
        "--help",
        "--meta",
        "--build",
        "--device",
        "--no-deps",
    }  # of pytest, pip, spacy package and benchmarks
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf8").split(GENERATED)[0]
        # Between single backticks, what begins with an option or with `crf COMMAND`.
        spans = re.findall(r"(?<!`)`((?:python -m spacy )?(?:crf [a-z-]+ )?--[^`\n]+)`", text)
        named = {option for span in spans for option in re.findall(r"(?<!\S)--[a-z0-9-]+(?![\w.])", span)}
        assert named - others <= known, (page, named - others - known)
    assert len(known) > 25


CONF = """
import sys
sys.path[:0] = [{ext!r}, {root!r}]
extensions = ["myst_parser", "option_tables"]
myst_enable_extensions = ["colon_fence"]
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "directive, error",
    [
        ("options} tests.test_docs.undescribed", "the parameter depth is not described"),
        ("options} tests.test_docs.absent", "has no attribute 'absent'"),
        ("api} tests.test_docs.described", None),
    ],
)
def test_an_option_without_a_description_fails_the_build(
    directive: str, error: Optional[str], tmp_path: Path
) -> None:
    pytest.importorskip("myst_parser", reason="needs the extra docs")
    (tmp_path / "conf.py").write_text(CONF.format(ext=str(TABLES.parent), root=str(ROOT)), encoding="utf8")
    (tmp_path / "index.md").write_text(f"# A\n\n:::{{{directive}\n:::\n", encoding="utf8")
    command: List[Any] = [sys.executable, "-m", "sphinx", "-W", "-b", "html", tmp_path, tmp_path / "html"]
    done = subprocess.run(command, capture_output=True, text=True)
    if error is None:
        assert done.returncode == 0, done.stderr
        assert "How wide, in tokens." in (tmp_path / "html" / "index.html").read_text(encoding="utf8")
    else:
        assert done.returncode != 0 and error in done.stderr, done.stderr


@pytest.mark.slow
def test_the_pages_build(tmp_path: Path) -> None:
    for name in ("furo", "myst_parser", "sphinx"):
        pytest.importorskip(name, reason="needs the extra docs")
    command: List[Any] = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "-b",
        "html",
        "-d",
        tmp_path / "trees",
        DOCS,
        tmp_path / "html",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "html" / "configs.html").read_text(encoding="utf8")
    assert "lstm_width" in page and "Width of the BiLSTM" in page


def test_the_picture_shows_what_the_readme_prints() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf8")
    picture = (DOCS / "images" / "example.svg").read_text(encoding="utf8")
    example = load_script(DOCS / "images" / "example.py")
    assert f'nlp("{example.TEXT}")' in readme
    found = re.findall(r"\('(\w+)', '(\w+)'\)", readme[: readme.index("![")])
    assert len(found) == 4
    pieces: List[Any] = []
    rest = example.TEXT
    for text, label in found:
        before, rest = rest.split(text, 1)
        pieces += [(before, ""), (text, label)]
    assert picture == example.draw([piece for piece in [*pieces, (rest, "")] if piece[0]])


def test_the_tables_of_accuracy_are_those_of_the_results() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "accuracy_tables.py"), "--check"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
