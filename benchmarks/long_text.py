"""One document of up to 100,000 characters: what is found in it, in what time and memory.

python benchmarks/long_text.py MODEL DATA [--lengths 12500 25000 50000 100000] [--threads 1]

The documents of DATA (.spacy) are put one after the other into a single one. Precision and recall are those of the
long document and, for comparison, of the same documents one by one. Each length runs in a process of its own,
whose memory is the growth of its peak over that of a short document.
"""

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import Any, Dict, List, Set, Tuple

import spacy
import torch
from spacy.tokens import Doc

from spacy_crf_ner.formats.doc_builder import DocMaker
from spacy_crf_ner.formats.reading import read

Offsets = Set[Tuple[int, int, str]]


def offsets(doc: Doc, begin: int = 0) -> Offsets:
    return {(begin + ent.start_char, begin + ent.end_char, ent.label_) for ent in doc.ents}


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(model: str, data: Path, length: int) -> Dict[str, Any]:
    """Mark one document of a length, and the same documents one by one."""
    nlp = spacy.load(model)
    nlp.max_length = length + 1
    gold: Offsets = set()
    separate: Offsets = set()
    texts: List[str] = []
    begin = 0
    for doc in read([data], DocMaker(lambda: nlp)):
        if begin + len(doc.text) > length:
            break
        gold |= offsets(doc, begin)
        texts.append(doc.text)
        begin += len(doc.text)
    nlp(texts[0])
    before = peak_mib()
    start = perf_counter()
    whole = offsets(nlp("".join(texts)))
    seconds = perf_counter() - start
    memory = peak_mib() - before
    begin = 0
    for text, doc in zip(texts, nlp.pipe(texts)):
        separate |= offsets(doc, begin)
        begin += len(text)
    report = {"chars": begin, "gold": len(gold), "seconds": seconds, "mib": memory}
    for name, found in (("whole", whole), ("separate", separate)):
        report[f"{name} p"] = len(found & gold) / max(len(found), 1)
        report[f"{name} r"] = len(found & gold) / max(len(gold), 1)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("--lengths", type=int, nargs="+", default=[12500, 25000, 50000, 100000])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.here:
        print(json.dumps(measure(args.model, args.data, args.lengths[0])))
        return
    print(f"{args.threads} thread(s)")
    print("| characters | entities | P / R, one document | P / R, one by one | seconds | chars/s | memory |")
    print("|--:|--:|--:|--:|--:|--:|--:|")
    for length in args.lengths:
        command = [sys.executable, *sys.argv, "--here", "--lengths", str(length)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        row = json.loads(done.stdout.splitlines()[-1])
        print(
            f"| {row['chars']:,} | {row['gold']:,} | {row['whole p']:.3f} / {row['whole r']:.3f} "
            f"| {row['separate p']:.3f} / {row['separate r']:.3f} | {row['seconds']:.1f} "
            f"| {row['chars'] / row['seconds']:,.0f} | {row['mib']:,.0f} MiB |",
            flush=True,
        )


if __name__ == "__main__":
    main()
