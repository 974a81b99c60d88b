"""The jinja templates of the package, read alike."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def environment(folder: Path, *, autoescape: bool) -> Environment:
    """An environment in which a name that is not given is an error, and blocks leave no lines of their own.

    folder (Path): The folder of the templates.
    autoescape (bool): Whether values are escaped for HTML.
    RETURNS (Environment): The environment.
    """
    return Environment(
        loader=FileSystemLoader(folder),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=autoescape,
    )
