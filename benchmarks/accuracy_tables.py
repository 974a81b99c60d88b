"""Write the tables of benchmarks/results/accuracy.json into the README and the pages.

python benchmarks/accuracy_tables.py [--check]

Each goes between two comments: <!-- accuracy NAME --> and <!-- end -->, where NAME is a corpus, tags/CORPUS for F1
by token, "best" for the best of each corpus, or "ablation". --check only says whether a page is out of date.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Callable, Dict, List, Sequence

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "accuracy.json"
PAGES = ("README.md", "docs/benchmarks.md")
CORPORA = {"msra": "MSRA", "cluener": "CLUENER2020", "weibo": "Weibo NER", "wnut17": "WNUT 2017"}
MODES = {
    "full": "full",
    "lora-qk": "LoRA, query and key",
    "lora-all": "LoRA, all linear layers",
    "frozen": "encoder frozen",
}
BLOCK = re.compile(r"(<!-- accuracy ([\w/-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

Records = Sequence[Dict[str, Any]]


def table(header: Sequence[str], rows: Sequence[Sequence[str]], n_left: int = 2) -> str:
    """A Markdown table, numbers to the right."""
    rule = ["---"] * n_left + ["--:"] * (len(header) - n_left)
    return "".join(f"| {' | '.join(row)} |\n" for row in (header, rule, *rows))


def spread(values: Sequence[float]) -> str:
    """A figure, or the mean and the standard deviation of several."""
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{mean(values):.3f} ± {stdev(values):.3f} ({len(values)} seeds)"


def by_cell(records: Records, corpus: str) -> Dict[str, List[Dict[str, Any]]]:
    """The records of a corpus, all seeds of a head and a mode together."""
    cells: Dict[str, List[Dict[str, Any]]] = {}
    for record in records:
        name, head, mode, _, *change = record["cell"].split("/")
        if name == corpus and not change:
            cells.setdefault(f"{head}/{mode}", []).append(record)
    return cells


def corpus_table(records: Records, corpus: str) -> str:
    """Heads and modes of a corpus, with what they cost."""
    rows = []
    for cell, found in by_cell(records, corpus).items():
        head, mode = cell.split("/")
        first = found[0]
        tests = [record["test"]["f"] for record in found if "test" in record]
        rows.append(
            [
                head,
                MODES[mode],
                spread([record["dev"]["f"] for record in found]),
                spread(tests) if tests else "-",
                f"{first['trainable']:,}",
                f"{first['optimizer_bytes'] / 2**20:,.0f}" if first["optimizer_bytes"] else "-",
                f"{first['peak_mib']:,.0f}",
                f"{first['seconds_per_step']:.2f}",
                f"{first['characters_per_second']:,.0f}",
            ]
        )
    header = ("head", "what learns", "dev F1", "test F1", "parameters that learn", "optimizer, MiB", "peak, MiB")
    return table((*header, "seconds per step", "characters per second"), rows)


def tag_table(records: Records, corpus: str) -> str:
    """F1 by tag over the tokens of the test set."""
    found = [(record["cell"], record["test"]["tags"]) for record in records if record["cell"].startswith(corpus)]
    tags = sorted({tag for _, scores in found for tag in scores if tag != "O"})
    rows = [[cell.split("/", 1)[1], *(f"{scores[tag]:.3f}" for tag in tags)] for cell, scores in found]
    return table(("cell", *tags), rows, n_left=1)


def best_table(records: Records, _: str) -> str:
    """The best cell of each corpus, by dev F1."""
    rows = []
    for corpus, name in CORPORA.items():
        found = [record for record in records if record["cell"].startswith(f"{corpus}/")]
        if found:
            best = max(found, key=lambda record: record["dev"]["f"])
            _, head, mode, *_ = best["cell"].split("/")
            test = f"{best['test']['f']:.3f}" if "test" in best else "-"
            rows.append([name, f"{head}, {MODES[mode]}", f"{best['dev']['f']:.3f}", test])
    return table(("corpus", "pipeline", "dev F1", "test F1"), rows)


def ablation_table(records: Records, _: str) -> str:
    """What each change of the config gains on dev, by corpus."""
    found = {record["cell"]: record["dev"]["f"] for record in records}
    changed = [cell for cell in found if cell.count("/") == 4]
    corpora = [corpus for corpus in CORPORA if any(cell.startswith(f"{corpus}/") for cell in changed)]
    rows = []
    for change in dict.fromkeys(cell.rsplit("/", 1)[1] for cell in changed):
        row = [change]
        for corpus in corpora:
            base = f"{corpus}/bilstm-attention-crf/full/0"
            score = found.get(f"{base}/{change}")
            row.append("-" if score is None else f"{score:.3f} ({score - found[base]:+.3f})")
        rows.append(row)
    return table(("change", *(f"{CORPORA[corpus]}, dev F1" for corpus in corpora)), rows, n_left=1)


def made(records: Records, name: str) -> str:
    """The table of a name."""
    kind, _, corpus = name.rpartition("/")
    makers: Dict[str, Callable[[Records, str], str]] = {"tags": tag_table, "": corpus_table}
    wholes = {"best": best_table, "ablation": ablation_table}
    return wholes[name](records, name) if name in wholes else makers[kind](records, corpus)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    records = json.loads(RESULTS.read_text(encoding="utf8"))
    stale = []
    for page in PAGES:
        before = (ROOT / page).read_text(encoding="utf8")
        after = BLOCK.sub(lambda block: f"{block[1]}\n{made(records, block[2])}\n{block[3]}", before)
        if after != before:
            stale.append(page)
            if not args.check:
                (ROOT / page).write_text(after, encoding="utf8")
    if stale and args.check:
        sys.exit(f"{', '.join(stale)}: out of date; run python benchmarks/accuracy_tables.py")
    print(f"Written: {', '.join(stale) or 'nothing to do'}" if not args.check else "up to date")


if __name__ == "__main__":
    main()
