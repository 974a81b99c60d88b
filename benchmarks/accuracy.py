"""Entities from real encoders: F1, cost and speed of heads and of ways to train, on four corpora.

python benchmarks/accuracy.py DATA [CELL]... [--encoders assets/encoders] [--work training/accuracy]
    [--results benchmarks/results/accuracy.json] [--list]

A cell is CORPUS/HEAD/MODE/SEED, such as weibo/bilstm-attention-crf/full/0, or CORPUS/HEAD/MODE/SEED/CHANGE for
what one change of the config gains (`CHANGES`). A pattern such as "weibo/*" names several; without any, all are
run. What is in the results already is skipped, and a cell that was cut goes on after its last evaluation. Each
cell is trained in a process of its own, on one thread, with the config that `crf init-config` writes and what
`CORPORA` and `MODES` change of it. The step is chosen on dev; the test set, where there is one, is scored once,
at the end.

DATA holds a folder for each corpus (msra, cluener, weibo, wnut17); scripts/fetch_encoders.py writes the encoders.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from time import perf_counter
from typing import Any, Dict, List, Tuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy
import spacy
import srsly
import torch
from spacy.language import Language
from spacy.training import Example
from spacy.training.initialize import init_nlp
from spacy.util import load_config_from_str, registry

from spacy_crf_ner.atomic_files import whole_file
from spacy_crf_ner.cli.init_config import init_config
from spacy_crf_ner.evaluation.predictions import predict, read_examples
from spacy_crf_ner.evaluation.scores import score
from spacy_crf_ner.formats.convert import convert
from spacy_crf_ner.tagging import to_bio
from spacy_crf_ner.training.checkpoints import last_checkpoint
from spacy_crf_ner.training.loop import train

HEADS = ("crf", "bilstm-crf", "bilstm-attention-crf")
ENCODER = "training.optimizer.groups.encoder.learn_rate"
LORA = "components.transformer.model.lora.targets"


@dataclass(frozen=True)
class Corpus:
    """A corpus, and how a pipeline is trained on it.

    encoder (str): A folder of ENCODERS.
    files (Dict[str, str]): The files of the splits.
    epochs (float): How often training goes over it.
    rate (float): The encoder's rate where all of it learns.
    size (int): Word-pieces of a batch, padding counted.
    lang (str): Its language.
    settings (Dict[str, Any]): Those of its reader.
    """

    encoder: str
    files: Dict[str, str]
    epochs: float
    rate: float
    size: int = 1000
    lang: str = "zh"
    settings: Dict[str, Any] = field(default_factory=dict)


CORPORA = {
    "msra": Corpus(
        "m3e-small", {split: f"{split}.bio" for split in ("train", "dev", "test")}, epochs=3, rate=1.5e-4
    ),
    "cluener": Corpus("m3e-small", {"train": "train.json", "dev": "dev.json"}, epochs=5, rate=2e-4),
    "weibo": Corpus(
        "m3e-small",
        {split: f"weiboNER_2nd_conll.{split}" for split in ("train", "dev", "test")},
        epochs=12,
        rate=2e-4,
        size=600,
        settings={"repair": True},
    ),
    "wnut17": Corpus(
        "all-MiniLM-L6-v2",
        {"train": "wnut17train.conll", "dev": "emerging.dev.conll", "test": "emerging.test.annotated"},
        epochs=6,
        rate=1e-4,
        size=600,
        lang="en",
    ),
}

MODES: Dict[str, Dict[str, Any]] = {
    "full": {},
    "lora-qk": {"training.optimizer.groups.lora.learn_rate": 2e-3},
    "lora-all": {
        "training.optimizer.groups.lora.learn_rate": 1e-3,
        LORA: ["query", "key", "value", "dense"],
    },
    "frozen": {"components.transformer.model.freeze": "all"},
}
"""What is changed of the config that `crf init-config` writes, beside `Corpus.rate`; chosen on dev."""

AUGMENTER = "corpora.train.augmenter"
RECOMBINE = "spacy-crf-ner.Recombine.v1"
CHANGES: Dict[str, Dict[str, Any]] = {
    "half the encoder's rate": {ENCODER: 0.5},
    "twice the encoder's rate": {ENCODER: 2.0},
    "layer decay 0.8": {"training.optimizer.groups.encoder.layer_decay": 0.8},
    "moving averages": {"training.optimizer.ema_decay": 0.99},
    "mean of the last three layers": {"components.transformer.model.averaged_layers": 3},
    "adversarial": {"adversarial": {"@misc": "spacy-crf-ner.FastGradient.v1", "epsilon": 1.0}},
    "token vectors dropped": {"components.crf_ner.model.drop_vectors": True},
    "dropout 0.3": {"training.dropout": 0.3, "components.crf_ner.model.drop_vectors": True},
    "windows of 256": {"components.transformer.model.window": 256},
    "entities swapped": {AUGMENTER: {"@augmenters": RECOMBINE, "swap": 1.0}},
    "sentences joined": {AUGMENTER: {"@augmenters": RECOMBINE, "joined": 0.5}},
}
"""One change at a time, on two corpora; a number for the encoder's rate is a factor."""
ABLATION = ("weibo", "wnut17")


def all_cells() -> List[str]:
    """The cells of the table: of MSRA one seed; of the others, three seeds of the whole head."""
    cells = [f"msra/{head}/full/0" for head in HEADS]
    cells += [f"msra/{HEADS[-1]}/{mode}/0" for mode in MODES if mode != "full"]
    for corpus in ("cluener", "weibo", "wnut17"):
        for head in HEADS:
            seeds = (0, 1, 2) if head == HEADS[-1] else (0,)
            cells += [f"{corpus}/{head}/{mode}/{seed}" for mode in MODES for seed in seeds]
    cells += [f"{corpus}/{HEADS[-1]}/full/0/{change}" for change in CHANGES for corpus in ABLATION]
    return cells


def corpus_of(name: str, args: argparse.Namespace) -> Dict[str, Path]:
    """The splits as DocBins, which are made where they are not yet."""
    corpus, paths = CORPORA[name], {}
    for split, file in corpus.files.items():
        paths[split] = args.work / "corpora" / name / f"{split}.spacy"
        if not paths[split].is_file():
            source = args.data / name / file
            convert([source], paths[split], lambda: spacy.blank(corpus.lang), settings=corpus.settings)
    return paths


def config_of(cell: str, paths: Dict[str, Path], args: argparse.Namespace) -> Any:
    """The config of a cell."""
    name, head, mode, seed, *change = cell.split("/")
    corpus, changes = CORPORA[name], dict(CHANGES[change[0]] if change else {})
    if ENCODER in changes:
        changes[ENCODER] *= corpus.rate
    sections = {name: changes.pop(name) for name in list(changes) if "." not in name}
    encoder = (args.encoders / corpus.encoder).resolve()
    text = init_config(lang=corpus.lang, encoder=str(encoder), head=head, lora=mode.startswith("lora"))
    overrides = {
        "paths.train": str(paths["train"]),
        "paths.dev": str(paths["dev"]),
        "system.seed": int(seed),
        "components.transformer.model.local_files_only": True,
        "training.batcher.size": corpus.size,
        **({ENCODER: corpus.rate} if mode == "full" else {}),
        **MODES[mode],
        **changes,
        **dict(args.set or ()),
    }
    n_pieces = sum(len(example.reference) for example in read_examples(paths["train"], spacy.blank(corpus.lang)))
    per_epoch = round(1.05 * n_pieces / overrides["training.batcher.size"])
    epochs = overrides.pop("epochs", corpus.epochs)
    steps = round(per_epoch * epochs)
    overrides |= {
        "training.max_steps": steps,
        "training.eval_frequency": max(per_epoch // 2, 1) if name == "msra" else per_epoch,
        "training.optimizer.schedule.warmup_steps": steps // 10,
        "training.optimizer.schedule.total_steps": steps,
        "training.before_update": {"@callbacks": "accuracy.clock"},
    }
    config = load_config_from_str(text, overrides=overrides, interpolate=False)
    config.update(sections)
    return config


CLOCK: List[float] = []


@registry.callbacks("accuracy.clock")
def _clock() -> Any:
    return lambda nlp, info: CLOCK.append(perf_counter())


def train_cell(cell: str, args: argparse.Namespace) -> Dict[str, Any]:
    """Train a cell in this process.

    RETURNS (Dict[str, Any]): Its record.
    """
    torch.set_num_threads(1)
    paths = corpus_of(cell.split("/")[0], args)
    output = args.work / "models" / cell
    output.mkdir(parents=True, exist_ok=True)
    nlp = init_nlp(config_of(cell, paths, args))
    train(nlp, output, resume=True, stdout=sys.stderr, stderr=sys.stderr)
    checkpoint = last_checkpoint(output)
    assert checkpoint is not None
    seconds_per_step = float(numpy.median(numpy.diff(CLOCK)))
    modules = [shim._model for node in nlp.get_pipe("crf_ner").model.walk() for shim in node.shims]  # type: ignore
    modules.append(nlp.get_pipe("transformer").model.transformer)  # type: ignore[attr-defined]
    record = {
        "cell": cell,
        "changed": dict(args.set or ()),
        "trainable": sum(p.numel() for module in modules for p in module.parameters() if p.requires_grad),
        "optimizer_bytes": (checkpoint.folder / "optimizer.safetensors").stat().st_size,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "steps": checkpoint.progress.step,
        "seconds_per_step": seconds_per_step,
        "minutes": checkpoint.progress.step * seconds_per_step / 60,
        "torch": torch.__version__,
        "spacy": spacy.__version__,
    }
    best = spacy.load(output / "model-best")
    for split in paths:
        if split != "train":
            record[split] = scores_of(best, paths[split])
    record["characters_per_second"] = speed_of(best, paths["dev"])
    return record


def scores_of(nlp: Language, path: Path) -> Dict[str, Any]:
    """The scores of a pipeline: entities, and the tags of tokens as some published tables have them."""
    examples = read_examples(path, nlp)
    predict(nlp, examples)
    found = score(examples).spacy
    return {
        "f": found["ents_f"],
        "p": found["ents_p"],
        "r": found["ents_r"],
        "labels": {label: row["f"] for label, row in sorted((found["ents_per_type"] or {}).items())},
        "tags": tag_scores(examples),
    }


def tag_scores(examples: List[Example]) -> Dict[str, float]:
    """The F1 of each tag over tokens."""
    gold, predicted, right = Counter[str](), Counter[str](), Counter[str]()
    for example in examples:
        aligned = to_bio(example.get_aligned_ner())
        ours = [f"{token.ent_iob_}-{token.ent_type_}" if token.ent_type_ else "O" for token in example.predicted]
        for tag, other in zip(aligned, ours):
            if tag is not None:
                gold[tag] += 1
                predicted[other] += 1
                right[tag] += tag == other
    return {tag: 2 * right[tag] / (gold[tag] + predicted[tag]) for tag in sorted(gold)}


def speed_of(nlp: Language, path: Path, most: int = 50_000) -> float:
    """The median of characters per second in `nlp.pipe`, of three rounds over the same texts."""
    texts: List[str] = []
    for example in read_examples(path, nlp):
        texts.append(example.reference.text)
        if sum(map(len, texts)) > most:
            break
    rates = []
    for _ in range(3):
        begin = perf_counter()
        for _ in nlp.pipe(texts):
            pass
        rates.append(sum(map(len, texts)) / (perf_counter() - begin))
    return float(numpy.median(rates))


def read_results(path: Path) -> Dict[str, Dict[str, Any]]:
    """The records of a results file, by cell."""
    return {record["cell"]: record for record in srsly.read_json(path)} if path.is_file() else {}


def add_result(path: Path, record: Dict[str, Any]) -> None:
    """Add a record to a results file."""
    records = {**read_results(path), record["cell"]: record}
    with whole_file(path) as part:
        part.write_text(json.dumps([records[cell] for cell in sorted(records)], indent=1) + "\n", encoding="utf8")


def setting(text: str) -> Tuple[str, Any]:
    """NAME=VALUE, the value as JSON."""
    name, _, value = text.partition("=")
    return name, json.loads(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("cells", nargs="*", metavar="CELL")
    parser.add_argument("--encoders", type=Path, default=Path("assets/encoders"))
    parser.add_argument("--work", type=Path, default=Path("training/accuracy"))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/accuracy.json"))
    parser.add_argument("--set", action="append", type=setting, help="Change a setting of the config, or epochs")
    parser.add_argument("--list", action="store_true", help="Only print which cells are done and which are not")
    parser.add_argument("--here", metavar="CELL", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.here:
        print(json.dumps(train_cell(args.here, args)))
        return
    patterns = args.cells or ["*"]
    for cell in all_cells():
        if not any(fnmatch(cell, pattern) for pattern in patterns):
            continue
        done = read_results(args.results).get(cell)
        if args.list or done:
            print(f"{cell}: {'dev F {:.4f}'.format(done['dev']['f']) if done else 'to do'}", flush=True)
            continue
        print(f"{cell} ...", flush=True)
        command = [sys.executable, __file__, *sys.argv[1:], "--here", cell]
        ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        record = json.loads(ran.stdout.splitlines()[-1])
        add_result(args.results, record)
        test = f", test F {record['test']['f']:.4f}" if "test" in record else ""
        print(f"{cell}: dev F {record['dev']['f']:.4f}{test}, {record['minutes']:.0f} minutes", flush=True)


if __name__ == "__main__":
    main()
