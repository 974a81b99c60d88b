"""Tables of options, from the docstrings of the code and the parameters of the command line.

Directives for MyST pages:

:::{options} spacy_crf_ner.tagger.crf_tagger.CRFTagger
:leave-out: tok2vec
:::

is the table of a function's or class's arguments: the ``name (type): text`` lines of its docstring and the
defaults of its signature. `leave-out` names arguments that the page does not show, `like` another object whose
docstring has the lines that this one lacks, and `python` writes defaults as Python does, not as a config does.

``{api}`` is all of a docstring: the signature, the prose, the table, and what it returns and raises.
``{command}`` is a command of `python -m spacy crf`, from its Typer function. ``{format-settings}`` are the
settings of the formats, from the readers, and ``{default-groups}`` the optimizer's groups.

An argument or option without a description, and a description without its argument, fail the build.
"""

import importlib
import inspect
import json
import re
import sys
from enum import Enum
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple, get_args, get_origin, get_type_hints

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

PACKAGE = "spacy_crf_ner"
FIELD = re.compile(r"(?P<names>\w+(?:, \w+)*)(?: \((?P<type>.+?)\))?: (?P<text>\S.*)")
SHARED_SETTINGS = (
    "spacy_crf_ner.formats.tag_lists.TagReader",
    "spacy_crf_ner.formats.huggingface.read_huggingface",
    "spacy_crf_ner.formats.jsonl.read_jsonl",
    "spacy_crf_ner.formats.jsonl.write_jsonl",
)
"""What describes the settings that readers have in common."""
OUTCOMES = ("RETURNS", "YIELDS", "RAISES")


class Field(NamedTuple):
    """A ``name (type): text`` of a docstring."""

    name: str
    type: str
    text: str


class Docstring(NamedTuple):
    """A docstring in spaCy's style."""

    prose: str
    arguments: Dict[str, Field]
    outcomes: List[Field]
    """What it returns, yields and raises."""


class Row(NamedTuple):
    """A row of a table of options."""

    name: str
    type: str
    default: Optional[str]
    """None: the option must be given."""
    text: str


def read_docstring(text: str) -> Docstring:
    """Take a docstring in spaCy's style apart.

    text (str): The docstring.
    RETURNS (Docstring): The lines ``name (type): text`` in their order, each with the indented lines after it, and
        what is neither such a line nor belongs to one.
    """
    prose: List[str] = []
    arguments: Dict[str, Field] = {}
    outcomes: List[Field] = []
    lines = inspect.cleandoc(text).splitlines()
    while lines:
        line = lines.pop(0)
        found = FIELD.fullmatch(line)
        # A sentence that ends in a colon is prose: an argument has a type or only names before it.
        if not found or not (found["type"] or found["names"] in OUTCOMES or _are_arguments(line, prose)):
            prose.append(line)
            continue
        words = [found["text"]]
        while lines and lines[0].startswith("    "):
            words.append(lines.pop(0).strip())
        for name in found["names"].split(", "):
            field = Field(name, found["type"] or "", " ".join(words))
            if name in OUTCOMES:
                outcomes.append(field)
            else:
                arguments[name] = field
    return Docstring("\n".join(prose).strip(), arguments, outcomes)


def _are_arguments(line: str, prose: List[str]) -> bool:
    """Whether a line ``names: text`` without a type is one of arguments: lower case, after an empty line."""
    return line[:1].islower() and bool(prose) and not prose[-1].strip()


def find_object(path: str) -> Any:
    """The object of a dotted path: a module's, or a class's."""
    module, _, rest = path.rpartition(".")
    names = [rest]
    while module:
        try:
            found: Any = importlib.import_module(module)
        except ModuleNotFoundError:
            module, _, rest = module.rpartition(".")
            names.insert(0, rest)
            continue
        for name in names:
            found = getattr(found, name)
        return found
    raise ImportError(f"no module in {path!r}")


def docstring_of(thing: Any) -> Docstring:
    """The docstring of a function or a class; of a class, with the arguments that its `__init__` describes."""
    own = read_docstring(inspect.getdoc(thing) or "")
    if inspect.isclass(thing):
        made = read_docstring(getattr(vars(thing).get("__init__"), "__doc__", None) or "")
        return own._replace(
            arguments={**own.arguments, **made.arguments}, outcomes=[*own.outcomes, *made.outcomes]
        )
    return own


def rows_of(
    thing: Any, *, leave_out: Tuple[str, ...] = (), like: Optional[Any] = None, python: bool = False
) -> List[Row]:
    """The rows of a table of options.

    thing (Any): A function or a class.
    leave_out (Tuple[str, ...]): Arguments that have no row.
    like (Optional[Any]): What describes the arguments that the docstring does not.
    python (bool): Write defaults as Python does, not as a config does.
    RETURNS (List[Row]): One for each parameter, in the order of the signature.
    RAISES (ValueError): A parameter is not described, or what is described or left out is not a parameter.
    """
    described = docstring_of(thing).arguments
    others = docstring_of(like).arguments if like is not None else {}
    is_protocol = getattr(thing, "_is_protocol", False)
    parameters = {
        name: parameter
        for name, parameter in inspect.signature(thing.__call__ if is_protocol else thing).parameters.items()
        if name != "self" and (parameter.kind is not parameter.VAR_KEYWORD or name in described)
    }
    name_of = getattr(thing, "__qualname__", repr(thing))
    if unknown := sorted({*described, *leave_out} - {*parameters}):
        raise ValueError(f"{name_of} has no parameter {', '.join(unknown)}; correct its docstring or the page")
    rows = []
    for name, parameter in parameters.items():
        if name in leave_out:
            continue
        field = described.get(name) or others.get(name)
        if field is None:
            raise ValueError(
                f"{name_of}: the parameter {name} is not described; add a line '{name} (type): text' to the "
                "docstring"
            )
        default = None if parameter.default is parameter.empty else shown(parameter.default, python)
        if parameter.kind is parameter.VAR_KEYWORD:
            name, default = f"**{name}", ""
        rows.append(Row(name, field.type, default, field.text if python else as_config(field.text)))
    return rows


def as_config(text: str) -> str:
    """A description with Python's constants as a config spells them."""
    return re.sub(r"\b(None|True|False)\b", lambda found: f"`{shown(_CONSTANTS[found[1]], False)}`", text)


_CONSTANTS = {"None": None, "True": True, "False": False}


def shown(value: Any, python: bool) -> str:
    """A default, as a config has it or as Python does."""
    if isinstance(value, Enum):
        value = value.value
    if callable(value):
        return str(value.__name__)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(shown(x, python) for x in value) + "]"
    return repr(value) if python or isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def table_of(rows: List[Row], head: str = "Option") -> List[str]:
    """The rows as a Markdown table."""
    lines = [f"| {head} | Default | Description |", "| --- | --- | --- |"]
    for row in rows:
        default = "required" if row.default is None else _code(row.default) if row.default else ""
        kind = f"*{_cell(row.type)}*: " if row.type else ""
        lines.append(f"| {_code(row.name)} | {default} | {kind}{_cell(row.text)} |")
    return lines


def _code(text: str) -> str:
    fence = "``" if "`" in text else "`"
    return f"{fence}{text}{fence}".replace("|", "\\|")


def _cell(text: str) -> str:
    """Text for a cell: emphasis stays where docstrings have it, other asterisks are asterisks."""
    return re.sub(r"(\*[Ss]hapes?:?\*)|\*", lambda found: found[1] or r"\*", text.replace("|", "\\|"))


class _Table(SphinxDirective):
    """What the directives share: they write Markdown, and MyST reads it."""

    has_content = False
    required_arguments = 1

    def run(self) -> List[nodes.Node]:
        try:
            lines = self.lines()
        except (AttributeError, ImportError, KeyError, ValueError) as error:
            raise self.error(f"{' '.join([self.name, *self.arguments])}: {error}") from error
        # A page is built again when the package has changed: what this table is of, and what that imports.
        for module in list(sys.modules.values()):
            file = getattr(module, "__file__", None)
            if module.__name__.partition(".")[0] == PACKAGE and file:
                self.env.note_dependency(file)
        self.env.note_dependency(__file__)
        node = nodes.container(classes=["options"])
        self.state.nested_parse(StringList(lines, source=self.get_source_info()[0]), self.content_offset, node)
        return node.children

    def lines(self) -> List[str]:
        """RETURNS (List[str]): The Markdown."""
        raise NotImplementedError


class Options(_Table):
    """The table of a function's or class's arguments."""

    option_spec: Dict[str, Callable[[str], Any]] = {  # noqa: RUF012 (docutils' own)
        "leave-out": directives.unchanged,
        "like": directives.unchanged,
        "python": directives.flag,
    }

    def rows(self, thing: Any) -> List[Row]:
        like = self.options.get("like")
        return rows_of(
            thing,
            leave_out=tuple(self.options.get("leave-out", "").replace(",", " ").split()),
            like=None if like is None else find_object(like),
            python="python" in self.options or self.name == "api",
        )

    def lines(self) -> List[str]:
        return table_of(self.rows(find_object(self.arguments[0])))


class Api(Options):
    """All of a docstring."""

    def lines(self) -> List[str]:
        path = self.arguments[0]
        thing = find_object(path)
        if isinstance(thing, property):
            return [_prose(inspect.getdoc(thing) or "")]
        docstring = docstring_of(thing)
        if not docstring.prose:
            raise ValueError(f"{path} has no docstring")
        rows = self.rows(thing)
        arguments = ", ".join(f"{row.name}={row.default}" if row.default else row.name for row in rows)
        lines = ["```python", f"{path.rpartition('.')[2]}({arguments})", "```", ""]
        lines += [*_prose(docstring.prose).splitlines(), ""]
        lines += [*table_of(rows, "Argument"), ""] if rows else []
        for name, type, text in docstring.outcomes:
            lines.append(f"- **{name.capitalize()}** *{_cell(type)}*: {_cell(text)}")
        return lines


class CommandLine(_Table):
    """A command of `python -m spacy crf`."""

    def lines(self) -> List[str]:
        name = self.arguments[0]
        function = commands()[name]
        parameters = parameters_of(name, function)
        usage = " ".join(parameter.usage for parameter in parameters if not parameter.is_option)
        lines = ["```text", f"python -m spacy crf {name} [OPTIONS] {usage}", "```", ""]
        lines += [*_prose(inspect.getdoc(function) or "").splitlines(), ""]
        return lines + table_of([parameter.row for parameter in parameters])


class Parameter(NamedTuple):
    """An argument or an option of a command."""

    row: Row
    is_option: bool
    usage: str


def commands() -> Dict[str, Callable[..., Any]]:
    """The functions of the commands of `python -m spacy crf`, by the command's name."""
    from spacy_crf_ner.cli import app

    return {str(info.name): info.callback for info in app.registered_commands if info.callback is not None}


def parameters_of(command: str, function: Callable[..., Any]) -> List[Parameter]:
    """The parameters of a Typer function.

    command (str): The command's name.
    function (Callable): Its function, whose parameters are `Annotated`.
    RETURNS (List[Parameter]): In their order.
    RAISES (ValueError): One has no help.
    """
    from typer import Context
    from typer.models import OptionInfo

    hints = get_type_hints(function, include_extras=True)
    found = []
    for name, parameter in inspect.signature(function).parameters.items():
        if hints[name] is Context:  # holds the settings of the config that are overridden
            continue
        kind, info = get_args(hints[name])[:2]
        if not info.help:
            raise ValueError(f"{command}: the option {name} has no help; write one in its Annotated[...]")
        kinds = get_args(kind) or (kind,)
        is_list = get_origin(kind) is list or any(get_origin(x) is list for x in kinds)
        default = None if parameter.default is parameter.empty else _default(parameter.default)
        if isinstance(info, OptionInfo):
            # In an Annotated, Typer takes the first name for a default, and puts it right itself.
            first = [info.default] if isinstance(info.default, str) else []
            names = [*first, *(info.param_decls or ())] or [f"--{name.replace('_', '-')}"]
            text = info.help
            if inspect.isclass(kind) and issubclass(kind, Enum):
                text += ": " + ", ".join(_code(str(choice.value)) for choice in kind)
            value = "" if kind is bool else f" {info.metavar or _kind_name(kinds[0])}"
            found.append(Parameter(Row(", ".join(names) + value, "", default, text), True, ""))
        else:
            shown_name = info.metavar or name.upper()
            usage = shown_name + ("..." if is_list else "")
            found.append(
                Parameter(
                    Row(shown_name, "", default, info.help), False, usage if default is None else f"[{usage}]"
                )
            )
    return found


def _default(value: Any) -> str:
    value = getattr(value, "value", value)
    return "" if value is None or value is False else str(value)


def _kind_name(kind: Any) -> str:
    return {int: "INTEGER", float: "FLOAT", Path: "PATH"}.get(kind, "TEXT")


class FormatSettings(_Table):
    """The settings of all formats: those that are the same in several have one row."""

    required_arguments = 0

    def lines(self) -> List[str]:
        return table_of(setting_rows(), "Setting")


NO_SETTINGS = ("source", "make", "doc", "docs", "stream", "streams", "notes")
"""The arguments of readers and writers that are not settings."""


def setting_rows() -> List[Row]:
    """The settings of the formats that can be read, and then of those that can be written."""
    from spacy_crf_ner.formats.registry import readers, writers

    formats: Dict[Tuple[str, str, str], List[str]] = {}
    for registry, verb in ((readers, ""), (writers, "--to ")):
        for name, function in registry.get_all().items():
            others = tuple(p for p in inspect.signature(function).parameters if p in NO_SETTINGS)
            for row in rows_of(function, leave_out=others):
                key = (row.name, row.default or "", _followed(row))
                formats.setdefault(key, []).append(f"{verb}{name}")
    return [Row(name, ", ".join(which), default, text) for (name, default, text), which in formats.items()]


def _followed(row: Row) -> str:
    """The text of a setting; of one that is said to be as of another reader, that one's."""
    if not re.search(r"\b[Aa]s of\b", row.text):
        return row.text
    for path in SHARED_SETTINGS:
        field = docstring_of(find_object(path)).arguments.get(row.name)
        if field is not None:
            return field.text
    raise ValueError(f"the setting {row.name} is described nowhere; describe it in one of {SHARED_SETTINGS}")


class DefaultGroups(_Table):
    """The optimizer's groups, where a config names none."""

    required_arguments = 0

    def lines(self) -> List[str]:
        from spacy_crf_ner.training.parameter_groups import DEFAULT_GROUPS

        lines = ["| Group | Learning rate | Pattern |", "| --- | --- | --- |"]
        for name, group in DEFAULT_GROUPS.items():
            lines.append(f"| {_code(name)} | {_code(str(group['learn_rate']))} | {_code(group['pattern'])} |")
        return lines


def _prose(text: str) -> str:
    """Prose of a docstring, in which a list's ``*`` and indented lines stay text."""
    return "\n".join(line.strip() for line in text.splitlines())


def setup(app: Sphinx) -> Dict[str, Any]:
    app.add_directive("options", Options)
    app.add_directive("api", Api)
    app.add_directive("command", CommandLine)
    app.add_directive("format-settings", FormatSettings)
    app.add_directive("default-groups", DefaultGroups)
    return {"version": "1", "env_version": 1, "parallel_read_safe": True, "parallel_write_safe": True}
