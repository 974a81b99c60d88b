"""Full fine-tuning, LoRA and a frozen encoder on CLUENER2020: F, memory, time of a step, size on disk.

python benchmarks/fine_tuning.py CLUENER_DIR ENCODER [--epochs 6] [--threads 1] [--rounds 15] [--seed 0]
    [--only NAME] [--rate R]

ENCODER is a folder, such as benchmarks/small_encoder.py writes. The configs are configs/roberta.cfg and
configs/roberta_lora.cfg; the encoder's rate is --rate, or what suits a small encoder (chosen on dev). Each
training runs in a process of its own, whose peak memory is reported; the steps are timed here, in turn, on one
batch. F is of the dev set, at the best of the evaluations, one per epoch.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List

import spacy
import torch
from pipeline import in_turn, our_step
from spacy.tokens import DocBin
from spacy.training import Example
from spacy.training.initialize import init_nlp
from spacy.training.loop import train
from spacy.util import load_config, registry

from spacy_crf_ner.formats.doc_builder import DocMaker
from spacy_crf_ner.formats.reading import read

CONFIGS = Path(__file__).parent.parent / "configs"
MODEL = "components.transformer.model"
VARIANTS: Dict[str, Dict[str, Any]] = {
    "full": {"config": "roberta.cfg", "group": "encoder", "rate": 3e-4},
    "LoRA": {"config": "roberta_lora.cfg", "group": "lora", "rate": 3e-3},
    "LoRA, all linear layers": {
        "config": "roberta_lora.cfg",
        "group": "lora",
        "rate": 3e-3,
        f"{MODEL}.lora.targets": ["query", "key", "value", "dense"],
    },
    "frozen": {"config": "roberta.cfg", "group": "encoder", "rate": 3e-4, f"{MODEL}.freeze": "all"},
}


def config_of(variant: str, args: argparse.Namespace, corpus: Path) -> Any:
    """The shipped config of a variant, for a CPU and a small encoder."""
    chosen = dict(VARIANTS[variant])
    name, group, rate = chosen.pop("config"), chosen.pop("group"), chosen.pop("rate")
    steps = args.epochs * args.steps_per_epoch
    overrides = {
        "paths.encoder": str(args.encoder.resolve()),
        "paths.train": str(corpus / "train.spacy"),
        "paths.dev": str(corpus / "dev.spacy"),
        "system.mixed_precision": False,
        "system.gpu_allocator": None,
        "system.seed": args.seed,
        f"{MODEL}.local_files_only": True,
        "components.crf_ner.model.lstm_width": 256,
        "training.dropout": 0.3,
        "training.batcher.size": 1500,
        "training.max_steps": steps,
        "training.eval_frequency": args.steps_per_epoch,
        "training.optimizer.schedule.warmup_steps": steps // 10,
        "training.optimizer.schedule.total_steps": steps,
        f"training.optimizer.groups.{group}.learn_rate": args.rate or rate,
    }
    return load_config(CONFIGS / name, overrides={**overrides, **chosen}, interpolate=False)


def train_one(variant: str, args: argparse.Namespace, corpus: Path) -> None:
    """Train a variant in this process, and print what it came to as one line of JSON."""
    config = config_of(variant, args, corpus)
    nlp = init_nlp(config)
    out = corpus / variant
    out.mkdir()
    train(nlp, out, stdout=sys.stderr, stderr=sys.stderr)
    best = spacy.load(out / "model-best")
    found: Any = best.get_pipe("transformer")
    report = {
        "f": best.meta["performance"]["ents_f"],
        "trainable": sum(p.numel() for p in found.model.transformer.parameters() if p.requires_grad),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "saved_mib": (out / "model-best" / "transformer" / "model").stat().st_size / 2**20,
    }
    print(json.dumps(report))


def time_steps(args: argparse.Namespace, corpus: Path, examples: List[Example]) -> Dict[str, Dict[str, float]]:
    """Median time of a step of each variant, in turn on one batch, and the bytes of its optimizer's state."""
    steps, optimizers = {}, {}
    for variant in VARIANTS:
        config = config_of(variant, args, corpus)
        nlp = init_nlp(config)
        optimizers[variant] = registry.resolve(config.interpolate()["training"], validate=False)["optimizer"]
        steps[variant] = our_step(nlp, optimizers[variant], examples[:32])
    medians = in_turn(steps, args.rounds, gpu=False)
    return {
        variant: {"seconds": seconds, "state_mib": optimizers[variant].state_bytes / 2**20}
        for variant, seconds in medians.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cluener", type=Path)
    parser.add_argument("encoder", type=Path)
    for name, default in (("epochs", 6), ("threads", 1), ("rounds", 15), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--only", choices=VARIANTS)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--here", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    plain = spacy.blank("zh")
    with tempfile.TemporaryDirectory() as folder:
        corpus = args.here or Path(folder)
        sizes = {}
        for part in ("train", "dev"):
            docs = list(read([args.cluener / f"{part}.json"], DocMaker(lambda: plain)))
            sizes[part] = sum(len(doc) for doc in docs)
            if not args.here:
                DocBin(docs=docs).to_disk(corpus / f"{part}.spacy")
        args.steps_per_epoch = sizes["train"] // 1400  # batches of 1500 tokens, padding counted
        if args.here:
            train_one(args.only, args, args.here)
            return
        timed = {} if args.only else time_steps(args, corpus, [Example(plain.make_doc(d.text), d) for d in docs])
        print("| encoder | dev F | trainable | optimizer state | peak memory | saved encoder | step |", flush=True)
        print("|---|--:|--:|--:|--:|--:|--:|", flush=True)
        for variant in [args.only] if args.only else list(VARIANTS):
            command = [sys.executable, *sys.argv, "--here", str(corpus), "--only", variant]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            row = {
                **json.loads(done.stdout.splitlines()[-1]),
                **timed.get(variant, {"seconds": 0, "state_mib": 0}),
            }
            print(
                f"| {variant} | {row['f']:.3f} | {row['trainable']:,} | {row['state_mib']:.1f} MiB "
                f"| {row['peak_mib']:,.0f} MiB | {row['saved_mib']:.1f} MiB | {row['seconds'] * 1000:.0f} ms |",
                flush=True,
            )


if __name__ == "__main__":
    main()
