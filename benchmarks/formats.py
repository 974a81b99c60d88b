"""How fast every format is read, and what memory `crf convert` takes of files that grow.

python benchmarks/formats.py DATA [--rounds 5] [--sizes 10 100] [--formats bio conll cluener jsonl spert]

DATA is a folder with msra/, cluener/, weibo/, wnut17/ and conll04/. Every reader makes docs on one core, the files
in turn; MSRA's dev set is also read in the formats in which no corpus comes. Then a file of each size (in MB; 1000
for 1 GB) is made of MSRA's dev set, with other characters each time it is repeated, and converted in a process of
its own. Seconds are those that the process had a core for, so that a busy machine shows the same.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from itertools import count
from pathlib import Path
from time import process_time
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Tuple

import spacy
from spacy.tokens import Doc

from spacy_crf_ner.formats.convert import convert
from spacy_crf_ner.formats.doc_builder import RENEW_EVERY, DocMaker
from spacy_crf_ner.formats.reading import read
from spacy_crf_ner.formats.writing import write
from spacy_crf_ner.labels import LabeledSpan

Sentence = Tuple[str, List[LabeledSpan]]
WRITTEN = {"bioes": "bioes", "bmes": "bmes", "jsonl": "jsonl", "doccano": "jsonl", "dev.spacy": "spacy"}
"""What MSRA's dev set is written as, and the format that reads it."""
GROWING = ("bio", "conll", "cluener", "jsonl", "spert")
FIRST, N_CHARACTERS = 0x4E00, 0x5000


class Input(NamedTuple):
    """A file, its format, the language of its text and the settings that its quirks need."""

    path: Path
    format: str
    lang: str
    settings: Dict[str, Any]


def corpora(data: Path) -> List[Input]:
    """The corpora as they come."""
    return [
        Input(data / "msra" / "dev.bio", "bio", "zh", {}),
        Input(data / "weibo" / "weiboNER_2nd_conll.train", "bio", "zh", {"positions": True, "repair": True}),
        Input(data / "wnut17" / "wnut17train.conll", "conll", "en", {}),
        Input(data / "cluener" / "train.json", "cluener", "zh", {}),
        Input(data / "conll04" / "conll04_train.json", "spert", "en", {}),
    ]


def written(source: Input, folder: Path) -> List[Input]:
    """One corpus in other formats."""
    found = []
    for name, format in WRITTEN.items():
        path = folder / (name if format == "spacy" else f"dev.{name}")
        write(
            docs_of(source, DocMaker(lambda: spacy.blank(source.lang))),
            path,
            format=name if format != "spacy" else format,
        )
        found.append(Input(path, format, source.lang, {}))
    return found


def docs_of(source: Input, make: DocMaker) -> Iterator[Doc]:
    return read([source.path], make, format=source.format, settings=source.settings)


def read_once(source: Input) -> Tuple[float, int]:
    """Seconds of this process to read a file, and its characters."""
    make = DocMaker(lambda: spacy.blank(source.lang), renew_every=RENEW_EVERY)
    start = process_time()
    for _ in docs_of(source, make):
        pass
    return process_time() - start, make.counts.characters


def speed(sources: Sequence[Input], rounds: int) -> None:
    """Print how many characters per second become docs."""
    seconds: List[List[float]] = [[] for _ in sources]
    characters = [0] * len(sources)
    for i in range(rounds + 1):
        for number, source in enumerate(sources):
            spent, characters[number] = read_once(source)
            if i:  # the first round warms up
                seconds[number].append(spent)
    print(
        f"\n| file | format | characters | CPU seconds, median of {rounds} | characters/s |\n|---|---|--:|--:|--:|"
    )
    for source, spent_each, n in zip(sources, seconds, characters):
        median = statistics.median(spent_each)
        print(f"| {source.path.name} | {source.format} | {n:,} | {median:.2f} | {n / median:,.0f} |", flush=True)


def as_text(format: str, sentence: Sentence) -> str:
    """A sentence as it is in a file; of SpERT's array, with the comma after it."""
    text, spans = sentence
    if format in ("bio", "conll"):
        tags = ["O"] * len(text)
        for start, end, label in spans:
            tags[start:end] = [f"B-{label}"] + [f"I-{label}"] * (end - start - 1)
        between = " " if format == "bio" else "\t_\t"
        return "".join(f"{character}{between}{tag}\n" for character, tag in zip(text, tags)) + "\n"
    record: Dict[str, Any] = {"text": text}
    if format == "cluener":
        labels: Dict[str, Dict[str, List[List[int]]]] = {}
        for start, end, label in spans:
            labels.setdefault(label, {}).setdefault(text[start:end], []).append([start, end - 1])
        record["label"] = labels
    elif format == "jsonl":
        record["spans"] = [{"start": start, "end": end, "label": label} for start, end, label in spans]
    else:
        entities = [{"start": start, "end": end, "type": label} for start, end, label in spans]
        record = {"tokens": list(text), "entities": entities, "relations": []}
    return json.dumps(record, ensure_ascii=False) + (",\n" if format == "spert" else "\n")


def grow(path: Path, format: str, sentences: Sequence[Sentence], size: int) -> None:
    """Write a file of so many bytes or a little more: the sentences, each time with other Chinese characters."""
    once = "".join(as_text(format, sentence) for sentence in sentences)
    with path.open("w", encoding="utf8", newline="\n") as file_:
        if format == "spert":
            file_.write("[")
        for step in count():
            shift = {FIRST + i: FIRST + (i + 97 * step) % N_CHARACTERS for i in range(N_CHARACTERS)}
            more = once.translate(shift)
            if file_.tell() + len(more.encode()) >= size:
                break
            file_.write(more)
        file_.write(more.rstrip(",\n") + ("]" if format == "spert" else "\n"))


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def convert_here(path: Path, format: str) -> None:
    """Convert a file in this process, and print its memory and time as one line of JSON."""
    before = peak_mib()
    start = process_time()
    counts, _ = convert([path], path.parent / "out", lambda: spacy.blank("zh"), format=format)
    seconds = process_time() - start
    row = {"characters": counts.characters, "seconds": seconds, "before": before, "mib": peak_mib()}
    print(json.dumps(row))


def memory(sentences: Sequence[Sentence], formats: Sequence[str], sizes: Sequence[int]) -> None:
    """Print the peak memory of converting files that grow."""
    columns = ("format", "size", "characters", "CPU seconds", "characters/s", "peak memory", "before")
    print(f"\n| {' | '.join(columns)} |\n|---|{'--:|' * (len(columns) - 1)}")
    for format in formats:
        for size in sizes:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, f"data.{format}")
                grow(path, format, sentences, size * 10**6)
                command = [sys.executable, __file__, folder, "--here", str(path), "--formats", format]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                mb = path.stat().st_size / 10**6
            row = json.loads(done.stdout.splitlines()[-1])
            print(
                f"| {format} | {mb:,.0f} MB | {row['characters']:,} | {row['seconds']:.0f} "
                f"| {row['characters'] / row['seconds']:,.0f} | {row['mib']:,.0f} MiB "
                f"| {row['before']:,.0f} MiB |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=5, help="0: measure no speed")
    parser.add_argument("--sizes", type=int, nargs="*", default=[10, 100], help="in MB; none: measure no memory")
    parser.add_argument("--formats", nargs="+", choices=GROWING, default=GROWING, help="of the files that grow")
    parser.add_argument("--here", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.here:
        convert_here(args.here, args.formats[0])
        return
    threads = os.environ.get("OMP_NUM_THREADS", "not set")
    print(
        f"1 process, OMP_NUM_THREADS {threads}, {os.cpu_count()} cores, Python {sys.version.split()[0]}",
        flush=True,
    )
    sources = corpora(args.data)
    if args.rounds:
        with tempfile.TemporaryDirectory() as folder:
            speed([*sources, *written(sources[0], Path(folder))], args.rounds)
    if args.sizes:
        docs = docs_of(sources[0], DocMaker(lambda: spacy.blank("zh")))
        sentences = [(doc.text, [(ent.start_char, ent.end_char, ent.label_) for ent in doc.ents]) for doc in docs]
        memory(sentences, args.formats, args.sizes)


if __name__ == "__main__":
    main()
