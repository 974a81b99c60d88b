"""How `python -m spacy crf check` prints what it found."""

import sys
from collections import Counter
from itertools import groupby
from typing import Any, Iterable, List, Sequence, Tuple
from unicodedata import east_asian_width

from typer import echo
from wasabi import Printer
from wasabi.util import wrap

from spacy_crf_ner.corpus.ambiguity import SurfaceForm
from spacy_crf_ner.corpus.check import CorpusReport
from spacy_crf_ner.corpus.finding import Finding, Severity
from spacy_crf_ner.corpus.problems import amount, percent
from spacy_crf_ner.corpus.stats import Case, SplitStats

TEXT_WIDTH = 80
"""As wasabi has it."""
WIDTH = 100
"""Of an example, in columns of a terminal: a Chinese character takes two."""
N_CASES, N_CASES_VERBOSE = 2, 10
N_FORMS, N_FORMS_VERBOSE = 8, 30
_CELL = 30
_LEAST = 24


class CheckPage:
    """Prints a report.

    msg (Printer): Where to print.
    report (CorpusReport): What to print.
    root (str): The beginning of all paths, which is left out of those of examples.
    verbose (bool): Whether to print more examples.
    """

    def __init__(self, msg: Printer, report: CorpusReport, *, root: str = "", verbose: bool = False) -> None:
        self.msg = msg
        self.report = report
        self.root = root
        self.verbose = verbose

    def print(self) -> None:
        """Print tables and findings; errors go to stderr, a line each."""
        self._print_data()
        self._print_types()
        self._print_coverages()
        self._print_forms()
        if self.verbose:
            self._print_common()
        self.msg.divider("Findings")
        findings = self.report.findings
        print_errors(findings)
        others = (finding for finding in findings if finding.severity is not Severity.ERROR)
        for _, group in groupby(others, key=lambda finding: finding.code):
            self._print_kind(list(group))
        if not findings:
            self.msg.good("Nothing to correct")
            return
        counts = Counter(finding.severity for finding in findings)
        parts = [("error", Severity.ERROR), ("warning", Severity.WARNING), ("note", Severity.INFO)]
        self.msg.text(", ".join(amount(counts[severity], name) for name, severity in parts), spaced=True)

    def _print_data(self) -> None:
        splits, window = self.report.splits, self.report.window
        rows: List[Tuple[str, List[int], bool]] = [
            ("Docs", [split.docs for split in splits], True),
            ("  without text", [split.empty_docs for split in splits], False),
            ("  without entity", [split.docs_without_entity for split in splits], True),
            ("Characters", [split.characters for split in splits], True),
            ("  different", [len(split.letters) for split in splits], True),
            ("Tokens", [split.tokens for split in splits], True),
            ("  different", [len(split.words) for split in splits], True),
            ("  without annotation", [split.missing_tokens for split in splits], False),
            ("  cut otherwise", [split.misaligned_tokens for split in splits], False),
            ("Entities", [split.entities for split in splits], True),
            ("  adjacent", [split.adjacent for split in splits], False),
            ("  in brackets or quotes", [split.tallies["enclosed"].count for split in splits], False),
            ("  left out: overlapping", [split.overlapping for split in splits], False),
            ("  left out: given twice", [split.duplicates for split in splits], False),
        ]
        for measured in zip(*(split.measure(window) for split in splits)):
            rows += [
                (
                    f"{measured[0].unit.capitalize()} per doc, median",
                    [lengths.median for lengths in measured],
                    True,
                ),
                ("  99th percentile", [lengths.p99 for lengths in measured], True),
                ("  longest", [lengths.longest for lengths in measured], True),
            ]
        rows.append((f"  docs longer than {window:,}", [lengths.longer for lengths in measured], True))
        shown = [(name, *(f"{n:,}" for n in values)) for name, values, always in rows if always or any(values)]
        self._table("Data", ["", *(split.name for split in splits)], shown)

    def _print_types(self) -> None:
        """Print the entities per label, and which part of the held-out ones the training data never shows."""
        train, *held_out = self.report.splits
        types = sorted(set().union(*(split.types for split in self.report.splits)))
        if not types:
            return
        header = ["", train.name, *(cell for split in held_out for cell in (split.name, "unseen"))]
        groups = [(_plain(label), [label]) for label in types]
        if len(types) > 1:
            groups.append(("all", types))
        rows = [
            (name, f"{sum(train.types[label] for label in group):,}", *_held_out_cells(held_out, train, group))
            for name, group in groups
        ]
        title = "Entities per label, and those unseen in train" if held_out else "Entities per label"
        self._table(title, header, rows)

    def _print_coverages(self) -> None:
        rows = [
            (
                coverage.kind,
                coverage.split,
                f"{coverage.distinct:,} {coverage.unit}",
                f"{len(coverage.unknown):,}",
                percent(coverage.share),
                f"{len(coverage.unknown_folded):,}",
                percent(coverage.share_folded),
            )
            for coverage in self.report.coverages
        ]
        if rows:
            header = ["", "", "different", "unknown", "of all", "folded", "of all"]
            self._table("Unknown to the vocabulary, and after width folding", header, rows, n_left=2)

    def _print_forms(self) -> None:
        ambiguity = self.report.ambiguity
        if ambiguity is None or not ambiguity.top:
            return
        rows = [
            (f"{sum(form.types.values()):,}", f"{form.outside:,}", f"{shown(form.text, 24)} {_types(form)}")
            for form in ambiguity.top[: N_FORMS_VERBOSE if self.verbose else N_FORMS]
        ]
        self.msg.table(
            rows,
            title=f"Most ambiguous mentions of {self.report.splits[0].name}",
            header=("entity", "no entity", "mention, and its labels"),
            aligns=("r", "r", "l"),
            divider=True,
            # Chinese is wider than wasabi takes it for; as the last column it moves no other.
            widths=(6, 9, 22),
        )

    def _print_common(self) -> None:
        for split in self.report.splits:
            common = ", ".join(f"{shown(word, 20)} {n:,}" for word, n in split.words.most_common(10))
            print(wrap(f"Most common tokens of {split.name}: {common}", TEXT_WIDTH, indent=0))
        for coverage in self.report.coverages:
            common = ", ".join(f"{shown(unit, 20)} {n:,}" for unit, n in coverage.unknown.most_common(10))
            if common:
                text = f"Most common {coverage.unit} of {coverage.split} unknown to the {coverage.kind}: {common}"
                print(wrap(text, TEXT_WIDTH, indent=0))

    def _print_kind(self, findings: Sequence[Finding]) -> None:
        """Print the findings of one kind."""
        first, *others = findings
        tell = self.msg.warn if first.severity is Severity.WARNING else self.msg.info
        tell(f"{_visible(first.message)} [{first.code}]")
        for finding in others:
            print(wrap(_visible(finding.message), TEXT_WIDTH, indent=2))
        print(wrap(f"-> {first.advice}", TEXT_WIDTH, indent=2))
        n_cases = N_CASES_VERBOSE if self.verbose else N_CASES
        cases = [case for finding in findings for case in finding.cases]
        if first.code.startswith("unknown_"):
            units = ", ".join(f"{shown(case.text, 20)} {case.note}" for case in first.cases)
            print(wrap(units, TEXT_WIDTH, indent=4))
        elif self.verbose or first.code != "ambiguous_forms":  # of which there is a table
            for case in cases[:n_cases]:
                print(f"    {self._line(case)}")

    def _line(self, case: Case) -> str:
        """A case in one line, or its note in one more; the text is cut to the width that is left."""
        place = f"{case.origin.removeprefix(self.root)}: " if case.origin else ""
        label = f" {_plain(case.label)}" if case.label else ""
        note = case.note.replace(self.root, "") if self.root else case.note
        note = f" ({_visible(note)})" if note else ""
        room = WIDTH - 4 - _columns(place + label)
        if room - _columns(note) >= _LEAST:
            return f"{place}{shown(case.text, room - _columns(note))}{label}{note}"
        return f"{place}{shown(case.text, max(room, _LEAST))}{label}\n      {note.strip()}"

    def _table(self, title: str, header: Sequence[str], rows: Sequence[Sequence[str]], n_left: int = 1) -> None:
        aligns: Any = ["l"] * n_left + ["r"] * (len(header) - n_left)
        self.msg.table(rows, title=title, header=header, aligns=aligns, divider=True, max_col=_CELL + 2)


def print_errors(findings: Iterable[Finding]) -> None:
    """Print errors to stderr, a line each.

    findings (Iterable[Finding]): Findings; those that are not errors are left out.
    """
    sys.stdout.flush()
    for finding in findings:
        if finding.severity is Severity.ERROR:
            places = ", ".join(case.origin for case in finding.cases[:1] if case.origin)
            echo(
                f"{_visible(finding.message)}; {finding.advice} [{finding.code}]{places and f' {places}'}",
                err=True,
            )


def shown(text: str, room: int) -> str:
    """A text in quotes, with what cannot be seen in it made visible, cut to some columns of a terminal.

    text (str): The text.
    room (int): How many columns there are.
    RETURNS (str): Text of at most that width.
    """
    visible = [_visible(char) for char in text[:room]]
    if len(text) <= room and _columns("".join(visible)) <= room - 2:
        return f"'{''.join(visible)}'"
    kept = ""
    for part in visible:
        if _columns(kept + part) > room - 3:
            break
        kept += part
    return f"'{kept}…'"


def _visible(text: str) -> str:
    """A text with escapes for what a terminal would not show as it is."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _columns(text: str) -> int:
    return sum(2 if east_asian_width(char) in "WF" else 1 for char in text)


def _plain(label: str) -> str:
    """A label as it is or, if it is odd, in quotes."""
    return label if label.isprintable() and len(label) <= _CELL else shown(label, _CELL)


def _types(form: SurfaceForm) -> str:
    return ", ".join(f"{_plain(label)} {n:,}" for label, n in form.types.most_common())


def _held_out_cells(held_out: Sequence[SplitStats], train: SplitStats, types: Sequence[str]) -> List[str]:
    """For each split, its entities of some labels, and which part of them is unseen in train."""
    cells = []
    for split in held_out:
        total = sum(split.types[label] for label in types)
        unseen = split.unseen(train)
        n_unseen = sum(unseen.get(label, 0) for label in types)
        cells += [f"{total:,}", percent(n_unseen / total) if total else "-"]
    return cells
