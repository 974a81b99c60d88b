"""spaCy's own tests of its `ner`, with the factory's name replaced by `crf_ner`: which pass?

python benchmarks/spacy_own_tests.py [FILE ...]

The tests are those of the installed spaCy; they are rewritten in a temporary folder. A test counts where its
source, or that of a fixture or constant which it names, holds the factory's name. Those that fail are run as spaCy
wrote them too: what then fails as well is not a fault of the component.
"""

import argparse
import ast
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Dict, Iterable, Set
from xml.etree import ElementTree

import spacy

FILES = [
    "parser/test_add_label.py",
    "parser/test_ner.py",
    "pipeline/test_entity_linker.py",
    "pipeline/test_pipe_factories.py",
    "pipeline/test_pipe_methods.py",
    "pipeline/test_tok2vec.py",
    "serialize/test_serialize_config.py",
    "serialize/test_serialize_language.py",
    "serialize/test_serialize_pipeline.py",
    "training/test_logger.py",
    "training/test_rehearse.py",
    "training/test_training.py",
]
NAME = re.compile(
    r"""(?<!state_type = )(?<!state_type.\] = )(["'])ner\1(?!: iob)|(?<=\[components\.)ner(?=[.\]])"""
)
"""The factory's name; not the parser's `state_type`, nor the key of gold annotation."""


def naming(source: str) -> Set[str]:
    """The tests of a file that hold the factory's name, or name something at the top of the file that does."""
    top: Dict[str, ast.stmt] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef):
            top[node.name] = node
        for target in getattr(node, "targets", []):
            if isinstance(target, ast.Name):
                top[target.id] = node
    # A function's decorators are a part of its node, but not of its lines.
    found = {name for name, node in top.items() if NAME.search(ast.unparse(node))}
    for name, node in top.items():
        if any(getattr(part, "id", getattr(part, "arg", None)) in found for part in ast.walk(node)):
            found.add(name)
    return {name for name in found if name.startswith("test_")}


def outcomes(folder: Path, tests: Iterable[str]) -> Dict[str, str]:
    """The result of each test: "passed", "skipped", or the first line of what went wrong."""
    report = folder / "report.xml"
    report.unlink(missing_ok=True)
    options = ["-q", "-p", "no:cacheprovider", "-W", "ignore", f"--junitxml={report}"]
    command = [sys.executable, "-m", "pytest", *options, *sorted(tests)]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if not report.exists():
        raise SystemExit(run.stdout + run.stderr)
    results: Dict[str, str] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{(case.get('classname') or '').replace('.', '/')}.py::{case.get('name')}"
        bad = next((part for part in case if part.tag in ("failure", "error")), None)
        result = "passed" if case.find("skipped") is None else "skipped"
        results[name] = result if bad is None else " ".join((bad.get("message") or "").split())[:160]
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", default=FILES, help="below spacy/tests")
    args = parser.parse_args()
    with TemporaryDirectory() as temporary:
        as_written, rewritten = Path(temporary) / "as_written", Path(temporary) / "rewritten"
        tests = set()
        for folder in (as_written, rewritten):
            shutil.copytree(Path(spacy.__file__).parent / "tests", folder / "tests")
        for file in args.files:
            path = rewritten / "tests" / file
            source = path.read_text(encoding="utf8")
            tests |= {f"tests/{file}::{name}" for name in naming(source)}
            path.write_text(NAME.sub(lambda match: match[0].replace("ner", "crf_ner"), source), encoding="utf8")
        results = outcomes(rewritten, tests)
        failed = {name for name, result in results.items() if result not in ("passed", "skipped")}
        before = outcomes(as_written, {name.partition("[")[0] for name in failed}) if failed else {}
    for name in sorted(failed):
        # A test with the name in its parameters bears another one as spaCy wrote it.
        known = before.get(name, "passed") == "passed"
        print(f"{'FAILED' if known else 'fails for ner too'} {name}: {results[name]}")
    rows = Counter(
        (name.partition("::")[0], "failed" if name in failed else result) for name, result in results.items()
    )
    print(f"\n{'File':<48} Passed Failed Skipped")
    for file in sorted({name.partition("::")[0] for name in results}):
        passed, bad, skipped = (rows[file, result] for result in ("passed", "failed", "skipped"))
        print(f"{file:<48} {passed:>6} {bad:>6} {skipped:>7}")


if __name__ == "__main__":
    main()
