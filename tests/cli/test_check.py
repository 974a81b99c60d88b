import json
import re
from pathlib import Path
from typing import Any, Dict, List, Optional

import pytest
from spacy.tokens import Doc
from typer.testing import CliRunner, Result

from spacy_crf_ner.cli import app
from spacy_crf_ner.cli._check_page import WIDTH
from spacy_crf_ner.cli.check import DEFAULT_WINDOW
from tests.corpus.test_vocabulary import save_vectors
from tests.corpus.util import PER, others, people
from tests.encoder.util import save_tiny_bert
from tests.evaluation.util import gold_docs, make_doc, write_docs
from tests.warm_python import WarmPython


def check(
    tmp_path: Path, train: List[Doc], dev: List[Doc], test: Optional[List[Doc]] = None, *options: str
) -> Result:
    paths = [write_docs(tmp_path / "train.spacy", train), write_docs(tmp_path / "dev" / "1.spacy", dev).parent]
    if test is not None:
        paths.append(write_docs(tmp_path / "test.spacy", test))
    return run(*map(str, paths), *options)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["check", *arguments])


def row(result: Result, name: str, nth: int = 0) -> List[str]:
    lines = [line for line in result.stdout.splitlines() if re.match(rf"{re.escape(name)}  +\d", line)]
    assert len(lines) > nth, result.stdout
    return lines[nth].removeprefix(name).split()


def words(result: Result) -> str:
    """What was printed, however it was wrapped."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", result.stdout).split())


def errors(result: Result) -> List[str]:
    """The lines on stderr, but those that say what a file was taken for."""
    return [line for line in result.stderr.splitlines() if ": read as --format " not in line]


def bad() -> List[Doc]:
    """Dev docs with an error and some warnings, beside `people`."""
    return [
        people()[0],
        make_doc("在北京。", [(1, 4, "LOC")]),
        make_doc(["李", "四", "\n"], [(0, 3, "PER")]),
        make_doc("今天", missing=[(0, 1)]),
    ]


def test_good_data_has_nothing_to_mend(tmp_path: Path) -> None:
    result = check(tmp_path, people(2000), others())
    assert result.exit_code == 0, result.output
    assert "Nothing to correct" in result.stdout
    assert row(result, "Docs") == ["2,000", "2"]
    assert row(result, "Tokens") == ["6,000", "6"]
    assert row(result, "Entities") == ["1,999", "2"]
    assert row(result, "PER") == ["1,999", "2", "100.0", "%"]
    assert errors(result) == []


def test_rows_of_nothing_are_left_out(tmp_path: Path) -> None:
    result = check(tmp_path, people(), others())
    for name in ("without text", "without annotation", "cut otherwise", "adjacent", "left out", "Unknown"):
        assert name not in result.stdout
    result = check(tmp_path, people(), [make_doc("张三李四", [(0, 2, "PER"), (2, 4, "PER")]), make_doc("")])
    assert row(result, "  adjacent") == ["0", "1"]
    assert row(result, "  without text") == ["0", "1"]


def test_test_split_is_a_third_column(tmp_path: Path) -> None:
    result = check(tmp_path, people(), others(), [make_doc("王五", PER), make_doc("张三", PER)])
    assert row(result, "  longest") == ["3", "3", "2"]
    assert row(result, "PER") == ["119", "2", "100.0", "%", "2", "50.0", "%"]


def test_types_have_a_sum_and_a_dash_where_there_is_none(tmp_path: Path) -> None:
    result = check(tmp_path, gold_docs(), [make_doc("张三去上海", [(0, 2, "PER"), (3, 5, "LOC")])])
    assert row(result, "PER") == ["1", "1", "0.0", "%"]
    assert row(result, "LOC") == ["1", "1", "100.0", "%"]
    assert row(result, "ORG") == ["1", "0", "-"]
    assert row(result, "all") == ["3", "2", "50.0", "%"]


def test_dev_and_test_are_optional(tmp_path: Path) -> None:
    result = run(str(write_docs(tmp_path / "train.spacy", people())))
    assert result.exit_code == 0, result.output
    assert row(result, "Docs") == ["120"]
    assert "no data but train [no_dev]" in words(result)


def test_warnings_do_not_fail(tmp_path: Path) -> None:
    dev = [doc for doc in bad() if "北京" not in doc.text]
    result = check(tmp_path, people(), dev)
    assert result.exit_code == 0
    assert errors(result) == []
    for part in (
        "1 doc of dev whose text is in train too [leaked_docs] -> remove",
        "1 entity of dev with white space at an edge: PER (1) [whitespace_edges] -> trim",
        r"dev/1.spacy: doc 2: '李四\n' PER",
        "1 token of dev without annotation (not even O) [missing_annotation] -> annotate",
        "0 errors, 3 warnings, 1 note",
    ):
        assert part in words(result)


@pytest.mark.parametrize(
    ("train", "dev", "message"),
    [
        (people(1), [make_doc("李四", PER)], "train has no entities; check"),
        (people(2), [make_doc("今天")], "dev has no entities; check"),
        (people(2), gold_docs(), "dev has labels that train lacks: LOC (1), ORG (1); no model"),
    ],
)
def test_useless_splits_are_errors(tmp_path: Path, train: List[Doc], dev: List[Doc], message: str) -> None:
    result = check(tmp_path, train, dev)
    assert result.exit_code == 1
    told, status = errors(result)
    assert told.startswith(message)
    assert status.startswith("--fail-on error: ")


def test_error_names_its_code_and_place(tmp_path: Path) -> None:
    dev = [make_doc(["李", " "], [(1, 2, "PER")])]
    result = check(tmp_path, people(), dev)
    told, status = errors(result)
    assert "whitespace_entities" not in result.stdout
    path = tmp_path / "dev" / "1.spacy"
    assert told.endswith(f"a model could see [whitespace_entities] {path}: doc 1")
    assert status == "--fail-on error: whitespace_entities"


@pytest.mark.parametrize(
    ("fail_on", "status"),
    [
        ("error", "label_not_in_train"),
        ("warning", "label_not_in_train, leaked_docs, whitespace_edges, punctuation_edges, missing_annotation"),
        ("none", None),
        ("leaked_docs", "leaked_docs"),
        ("few_docs,missing_annotation", "missing_annotation, few_docs"),
        ("duplicate_docs", None),
    ],
)
def test_fail_on_governs_the_exit_status(tmp_path: Path, fail_on: str, status: Optional[str]) -> None:
    result = check(tmp_path, people(), bad(), None, "--fail-on", fail_on)
    assert result.exit_code == (status is not None)
    told = errors(result)
    assert told[0].startswith("dev has labels that train lacks: LOC (1)")
    assert told[1:] == ([f"--fail-on {fail_on}: {status}"] if status else [])


def test_unknown_fail_on_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    result = run(str(tmp_path / "nowhere"), "--fail-on", "leaks")
    assert result.exit_code == 1
    assert result.stderr.startswith("--fail-on leaks: there is no 'leaks'; choose from none, error, warning, ")
    assert result.stderr.count("\n") == 1


def test_json_goes_to_a_file_and_the_tables_too(tmp_path: Path) -> None:
    path = tmp_path / "new" / "check.json"
    result = check(tmp_path, people(), bad(), None, "--json", str(path), "--fail-on", "none")
    assert result.exit_code == 0, result.output
    assert row(result, "Docs") == ["120", "4"]
    assert "Saved all numbers and findings" in result.stdout
    report: Dict[str, Any] = json.loads(path.read_text(encoding="utf8"))
    assert report["summary"] == {"error": 1, "warning": 4, "info": 1}
    (leak,) = [finding for finding in report["findings"] if finding["code"] == "leaked_docs"]
    train, dev = tmp_path / "train.spacy", tmp_path / "dev" / "1.spacy"
    assert leak["examples"] == [
        {"origin": f"{dev}: doc 1", "text": "张三一", "label": "", "note": f"as {train}: doc 1"}
    ]


def test_json_on_stdout_stands_alone(tmp_path: Path) -> None:
    result = check(tmp_path, people(), bad(), None, "--json", "-")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["splits"]["train"]["docs"] == 120
    assert errors(result)[0].startswith("dev has labels that train lacks: LOC (1)")


def test_json_is_not_written_where_a_folder_is(tmp_path: Path) -> None:
    result = check(tmp_path, people(), others(), None, "--json", str(tmp_path))
    assert result.exit_code == 1
    assert errors(result) == [f"{tmp_path}: is a directory; name a file in it"]


def test_window_counts_tokens(tmp_path: Path) -> None:
    dev = [*others(), make_doc("很" * 9)]
    result = check(tmp_path, people(), dev, None, "--window", "8")
    assert row(result, "  docs longer than 8") == ["0", "1"]
    assert "1 doc of dev (33.3 %) longer than the window of 8 tokens [long_docs] -> nothing is cut:" in words(
        result
    )
    assert "longer than the window" not in check(tmp_path, people(), dev, None, "--window", "9").stdout
    assert check(tmp_path, people(), dev, None, "--window", "0").exit_code == 2


def test_default_window_is_that_of_the_models() -> None:
    from spacy_crf_ner.encoder.wordpieces import DEFAULT_WINDOW as model_window

    assert model_window == DEFAULT_WINDOW


def test_encoder_counts_wordpieces_and_unknown_characters(tmp_path: Path) -> None:
    encoder = save_tiny_bert(tmp_path / "encoder", [doc.text for doc in people()] + ["李四来王五走1"])
    dev = [*others(), make_doc("１龘龘龘")]
    result = check(tmp_path, people(), dev, None, "--encoder", str(encoder), "--window", "5")
    assert row(result, "Word-pieces per doc, median") == ["5", "5"]
    assert row(result, "  docs longer than 5") == ["0", "1"]
    assert re.search(r"encoder +dev +8 characters +2 +40\.0 % +1 +30\.0 %", result.stdout)
    message = "4 characters of dev (40.0 %; 2 different) unknown to the encoder; after width folding 30.0 %"
    assert f"{message} [unknown_to_encoder]" in words(result)
    assert "'龘' 3, '１' 1" in words(result)


def test_encoder_that_is_not_there(tmp_path: Path) -> None:
    result = check(tmp_path, people(), others(), None, "--encoder", str(tmp_path / "nowhere"))
    assert result.exit_code == 1
    assert errors(result) == [f"encoder folder '{tmp_path / 'nowhere'}' does not exist"]


def test_vectors_tell_tokens_that_they_lack(tmp_path: Path) -> None:
    vectors = save_vectors(tmp_path / "vectors", sorted({char for doc in people() for char in doc.text}))
    result = check(tmp_path, people(), others(), None, "--vectors", str(vectors), "--verbose")
    assert re.search(r"vectors +train +123 tokens +0 +0\.0 % +0 +0\.0 %", result.stdout)
    assert "6 tokens of dev (100.0 %; 6 different) unknown to the vectors" in words(result)
    assert "Most common tokens of dev unknown to the vectors: '李' 1, '四' 1" in words(result)


def test_vectors_that_are_not_there(tmp_path: Path) -> None:
    result = check(tmp_path, people(), others(), None, "--vectors", str(tmp_path / "nowhere"))
    assert result.exit_code == 1
    (told,) = errors(result)
    assert told.startswith(
        f"--vectors {tmp_path / 'nowhere'}: not a pipeline with vectors (it is not there); make"
    )


def test_verbose_shows_more(tmp_path: Path) -> None:
    dev = [make_doc(f"{char}。", PER) for char in "甲乙丙丁戊己庚辛壬癸子丑"]
    short = words(check(tmp_path, people(), dev))
    long = words(check(tmp_path, people(), dev, None, "--verbose"))
    assert (short.count("。' PER"), long.count("。' PER")) == (2, 10)
    assert "Most common tokens of train: '三' 120, '张' 119" in long
    assert "Most common" not in short


def test_findings_of_one_kind_stand_together(tmp_path: Path) -> None:
    docs = [make_doc("李四。", [(0, 3, "PER")])]
    result = check(tmp_path, people(), [*others(), *docs], [make_doc("王五。", [(0, 3, "PER")])])
    assert (
        "1 entity of dev with punctuation at an edge: PER (1) [punctuation_edges] "
        "1 entity of test with punctuation at an edge: PER (1) -> trim those that do not belong to the name, "
        "and do so everywhere alike dev/1.spacy: doc 3: '李四。' PER test.spacy: doc 1: '王五。' PER"
    ) in words(result)


def test_most_ambiguous_mentions_are_a_table(tmp_path: Path) -> None:
    train = [*people(), make_doc("在张三处"), make_doc("为张三书", [(1, 3, "ORG")])]
    result = check(tmp_path, train, others())
    assert re.search(r"\n +120 +1 +'张三' PER 119, ORG 1 *\n", result.stdout)
    assert "1 of 1 different mention in train ambiguous: 1 of several labels, 1 also no entity" in words(result)


def test_nothing_is_too_wide_and_nothing_invisible(tmp_path: Path) -> None:
    odd = "张\t\x1b[31m三\u200b" + "很长" * 300
    label = "a very long name of a type of entity that goes on\n\x1b[31m"
    train = [make_doc(odd, [(0, len(odd), label)]), make_doc(odd, [(0, 2, label)]), make_doc("在张\t")]
    dev = [make_doc(odd), make_doc("李四", [(0, 2, "new\n\x1b[31m")])]
    result = check(tmp_path, train, dev, None, "--verbose", "--fail-on", "none")
    assert result.exit_code == 0, result.output
    assert errors(result)[0].startswith(r"dev has labels that train lacks: new\n\x1b[31m (1); no model")
    for line in result.stdout.splitlines():
        assert sum(2 if ord(char) > 0x2E80 else 1 for char in line) <= WIDTH, line
    assert "\x1b[31m" not in result.output and "\u200b" not in result.stdout and "\t" not in result.stdout
    assert r"'张\t\x1b[31m三\u200b" in result.stdout


def test_what_is_not_there_is_told_before_anything_is_read(tmp_path: Path) -> None:
    train = tmp_path / "train.bio"
    train.write_text("no format", encoding="utf8")
    assert run(str(train), str(tmp_path / "dev.bio")).stderr.startswith(f"{tmp_path / 'dev.bio'}: no such file;")


def test_paths_are_told_from_their_common_folder_on(tmp_path: Path) -> None:
    train = write_docs(tmp_path / "a" / "train.spacy", people())
    dev = write_docs(tmp_path / "b" / "dev.spacy", [people()[0]])
    together = write_docs(tmp_path / "a" / "dev.spacy", [people()[0]])
    assert "    dev.spacy: doc 1: '张三一' (as train.spacy: doc 1)" in run(str(train), str(together)).stdout
    assert f"    {dev}: doc 1: '" in run(str(train), str(dev)).stdout


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file; check the path"),
        (b"x\x9c no DocBin", "not a DocBin (ValueError: [E1014]"),
        (b"", "holds no text"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, content: Optional[bytes], message: str) -> None:
    train = write_docs(tmp_path / "train.spacy", people())
    path = tmp_path / "dev.spacy"
    if content is not None:
        path.write_bytes(content)
    result = run(str(train), str(path))
    assert result.exit_code == 1
    (told,) = errors(result)
    assert told.startswith(str(path))
    assert message in told
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--lang", "klingon"], "--lang klingon: "),
        (["--format", "klingon"], "no format 'klingon' can be read; choose one of "),
        (["--set", "tag_column"], "--set tag_column: no value; write NAME=VALUE"),
    ],
)
def test_options_that_make_no_sense(tmp_path: Path, options: List[str], message: str) -> None:
    result = run(str(write_docs(tmp_path / "train.spacy", people())), *options)
    assert result.exit_code == 1
    (told,) = errors(result)
    assert told.startswith(message)


def test_text_files_are_read_and_what_they_are_taken_for_is_told_once(tmp_path: Path) -> None:
    for name, person in (("train", "张三"), ("dev", "李四")):
        (tmp_path / f"{name}.bio").write_text(f"{person[0]} B-PER\n{person[1]} I-PER\n", encoding="utf8")
    result = run(str(tmp_path / "train.bio"), str(tmp_path / "dev.bio"))
    assert result.exit_code == 0, result.output
    assert row(result, "Entities") == ["1", "1"]
    assert result.stderr == f"{tmp_path / 'train.bio'}: read as --format bio (tags with B-, I-)\n"


def test_repair_is_needed_and_noted(tmp_path: Path) -> None:
    path = tmp_path / "train.bio"
    path.write_text("张 B-PER\n三 I-LOC\n", encoding="utf8")
    refused = run(str(path))
    assert refused.exit_code == 1
    assert f"{path}:2: " in refused.stderr
    result = run(str(path), "--repair")
    assert result.exit_code == 0, result.output
    assert "notes on reading train: " in words(result)


def test_code_may_register_a_language_and_a_format(tmp_path: Path) -> None:
    code = tmp_path / "code.py"
    code.write_text(
        "from spacy.util import registry\n"
        "from spacy.lang.en import English\n"
        "from spacy_crf_ner.formats.registry import readers\n"
        "@registry.languages('vulcan')\n"
        "class Klingon(English):\n"
        "    lang = 'vulcan'\n"
        "@readers('names')\n"
        "def read_names(source, make):\n"
        "    for line in source.lines():\n"
        "        yield make.from_text(line.text, [(0, len(line.text), 'PER')], source, line.number)\n",
        encoding="utf8",
    )
    path = tmp_path / "names.txt"
    path.write_text("Martok\nWorf\n", encoding="utf8")
    result = run(str(path), "--code", str(code), "--lang", "vulcan", "--format", "names")
    assert result.exit_code == 0, result.output
    assert row(result, "Entities") == ["2"]


def test_command_is_found_by_spacy(tmp_path: Path, shell: WarmPython) -> None:
    paths = [write_docs(tmp_path / f"{name}.spacy", docs) for name, docs in (("train", people()), ("dev", bad()))]
    result = shell.spacy("crf", "check", *paths)
    assert result.returncode == 1
    assert "0 notes" not in result.stdout
    assert "1 error, 4 warnings, 1 note" in result.stdout
    assert "Traceback" not in result.stderr


def test_sample_corpus_passes() -> None:
    sample = Path(__file__).resolve().parents[2] / "assets" / "sample"
    result = run(*(str(sample / f"{name}.bio") for name in ("train", "dev", "test")), "--fail-on", "warning")
    assert result.exit_code == 0, result.output
    assert row(result, "Docs") == ["600", "120", "120"]
