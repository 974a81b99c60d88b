"""The arguments and options that several commands have, each declared once."""

from pathlib import Path
from typing import Annotated, List, Optional

from typer import Argument, Option

# Of commands that read annotated files.
FormatOption = Annotated[
    str, Option("--format", "-f", help="Format of the input; auto looks at the beginning of each file")
]
LangOption = Annotated[str, Option("--lang", "-l", help="Language whose blank pipeline tokenizes")]
EncodingOption = Annotated[
    Optional[str],
    Option(
        "--encoding", help="Encoding of the input, as gb18030, big5 or cp1252  [default: UTF-8, or by its mark]"
    ),
]
RepairOption = Annotated[
    bool,
    Option("--repair", "-r", help="Correct what breaks the tagging scheme and has one obvious reading; count it"),
]
SetOption = Annotated[
    Optional[List[str]],
    Option("--set", "-s", metavar="NAME=VALUE", help="A setting of the format, as tag_column=3; may be repeated"),
]
CodeOption = Annotated[
    Optional[Path],
    Option("--code", "-c", help="Python file to run before, in which a format of your own is registered"),
]
SpansKeyOption = Annotated[
    Optional[str], Option("--spans-key", help="Keep all entities in doc.spans[KEY], those too that overlap")
]

# Of commands that load a pipeline.
ModelArgument = Annotated[str, Argument(help="Package name or directory of the pipeline")]
GoldArgument = Annotated[
    Path, Argument(help="Gold docs: a .spacy file or one of another format, or a directory of them")
]
GpuOption = Annotated[int, Option("--gpu-id", "-g", help="GPU ID, or -1 for the CPU")]
FunctionsOption = Annotated[Optional[Path], Option("--code", "-c", help="Python file with registered functions")]
BatchSizeOption = Annotated[Optional[int], Option(min=1, help="Docs a batch; the pipeline's own by default")]
