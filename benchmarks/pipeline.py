"""What a pipeline costs beside its encoder: padding, `nlp.pipe`, a training step, and what fine-tuning spares.

python benchmarks/pipeline.py DATA [--threads 1] [--docs 200] [--batch 16] [--rounds 5] [--gpu-id -1]

DATA is a `.spacy` file or a folder of them. The encoder is BERT of base size with random weights and a vocabulary
of the data's characters; the pipeline is that of configs/roberta.cfg, and its values are what is measured.

1. padding: padded over real word-pieces, of `nlp.pipe` over all of DATA and of an epoch of training batches. A
   tiny encoder takes its place: lengths do not depend on its size.
2. `nlp.pipe`: the encoder's share of the time.
3. a training step on one batch, against the bare Hugging Face step: BertForTokenClassification on the same padded
   windows, with torch.optim.AdamW and clipping. The two run in turn.
4. full fine-tuning, the first 6 layers frozen, and LoRA, in turn on the same batch: trainable parameters, bytes of
   the optimizer's state, time of a step.
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any, Callable, Dict, Iterator, List, Tuple

import spacy
import torch
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.util import load_config, load_model_from_config, registry
from thinc.api import set_gpu_allocator
from torch.nn.utils import clip_grad_norm_
from transformers import BertConfig, BertForTokenClassification, BertModel, BertTokenizerFast

from spacy_crf_ner.formats.doc_builder import DocMaker
from spacy_crf_ner.formats.reading import read

CONFIGS = Path(__file__).parent.parent / "configs"
TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 16}
VARIANTS: Dict[str, Tuple[str, Dict[str, Any]]] = {
    "full": ("roberta.cfg", {}),
    "frozen 6": ("roberta.cfg", {"components.transformer.model.freeze": 6}),
    "LoRA": ("roberta_lora.cfg", {}),
}


def save_encoder(folder: Path, docs: List[Doc], **shape: int) -> Path:
    """A BERT with random weights, of base size but for what `shape` says, for the characters of the docs."""
    folder.mkdir()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = special + sorted({char for doc in docs for char in doc.text.lower() if not char.isspace()})
    (folder / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    BertTokenizerFast(vocab_file=str(folder / "vocab.txt"), model_max_length=512).save_pretrained(folder)
    # The vocabulary of the Chinese encoders, most of whose rows go unused here as they do there.
    BertModel(BertConfig(vocab_size=21128, **shape)).save_pretrained(folder)
    return folder


def pipeline(encoder: Path, examples: List[Example], gpu: bool, variant: str) -> Tuple[Language, Any]:
    """The pipeline of a shipped config, initialised, and its optimizer."""
    name, settings = VARIANTS[variant]
    off = {} if gpu else {"system.mixed_precision": False, "system.gpu_allocator": None}
    config = load_config(
        CONFIGS / name, overrides={"paths.encoder": str(encoder), **off, **settings}, interpolate=True
    )
    nlp = load_model_from_config(config, auto_fill=True)
    nlp.initialize(lambda: examples[:100])
    return nlp, registry.resolve(config["training"], validate=False)["optimizer"]


def encoder_of(nlp: Language) -> Any:
    model: Any = nlp.get_pipe("transformer").model  # type: ignore[attr-defined]
    return model.transformer


def batches_of(nlp: Language, examples: List[Example]) -> Iterator[List[Example]]:
    """An epoch as the shipped config batches it."""
    batcher = registry.resolve({"batcher": nlp.config["training"]["batcher"]})["batcher"]
    yield from batcher(examples)


def padding(nlp: Language, examples: List[Example]) -> None:
    """Print padded over real word-pieces, in prediction and in training."""
    counts = {"padded": 0, "real": 0, "passes": 0}

    def count(module: Any, args: Any, kwargs: Dict[str, Any]) -> None:
        counts["padded"] += kwargs["attention_mask"].numel()
        counts["real"] += int(kwargs["attention_mask"].sum())
        counts["passes"] += 1

    handle = encoder_of(nlp).register_forward_pre_hook(count, with_kwargs=True)

    def report(what: str) -> None:
        ratio = counts["padded"] / counts["real"]
        print(f"  {what}: {ratio:.3f} ({counts['real']} real word-pieces in {counts['passes']} passes)")
        counts.update(padded=0, real=0, passes=0)

    transformer: Any = nlp.get_pipe("transformer")
    texts = [example.text for example in examples]
    for _ in nlp.pipe(texts):
        pass
    report("nlp.pipe")
    for batch in batches_of(nlp, examples):
        transformer.model.begin_update([example.predicted for example in batch])
    report("training, an epoch")
    for start in range(0, len(examples), 32):
        transformer.model.begin_update([example.predicted for example in examples[start : start + 32]])
    report("training in batches of 32 docs as they come")
    handle.remove()


def seconds_inside(module: Any, gpu: bool) -> Tuple[List[float], List[Any]]:
    """A list that grows by the duration of each call of a module, and the hooks that do it."""
    began: List[float] = []
    spent: List[float] = []

    def enter(*_: Any) -> None:
        synchronize(gpu)
        began.append(perf_counter())

    def leave(*_: Any) -> None:
        synchronize(gpu)
        spent.append(perf_counter() - began.pop())

    return spent, [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]


def synchronize(gpu: bool) -> None:
    if gpu:
        torch.cuda.synchronize()


def encoder_share(nlp: Language, texts: List[str], rounds: int, gpu: bool) -> None:
    """Print which part of `nlp.pipe` passes in the encoder."""
    spent, hooks = seconds_inside(encoder_of(nlp), gpu)
    shares, rates = [], []
    for i in range(rounds + 1):
        spent.clear()
        start = perf_counter()
        n_tokens = sum(len(doc) for doc in nlp.pipe(texts))
        synchronize(gpu)
        whole = perf_counter() - start
        if i:  # the first round warms up
            shares.append(sum(spent) / whole)
            rates.append(n_tokens / whole)
    for hook in hooks:
        hook.remove()
    print(
        f"  {statistics.median(shares):.1%} of the time in the encoder, {statistics.median(rates):,.0f} tokens/s"
    )


def our_step(nlp: Language, sgd: Any, batch: List[Example]) -> Callable[[], None]:
    """A step as `spacy train` does it."""

    def step() -> None:
        nlp.update([Example(nlp.make_doc(eg.text), eg.reference) for eg in batch], sgd=False, losses={})  # type: ignore[arg-type]
        for _, pipe in nlp.pipeline:
            pipe.finish_update(sgd)  # type: ignore[attr-defined]
        sgd.step_schedules()

    return step


def bare_step(encoder: Path, passes: List[Dict[str, Any]], device: Any) -> Callable[[], None]:
    """The Hugging Face step on given padded batches, all of which make one step."""
    model = BertForTokenClassification.from_pretrained(encoder, num_labels=7).to(device).train()
    sgd = torch.optim.AdamW(model.parameters(), lr=2e-5, weight_decay=0.01)
    targets = [torch.randint(0, 7, inputs["input_ids"].shape, device=device) for inputs in passes]

    def step() -> None:
        for inputs, labels in zip(passes, targets):
            model(**inputs, labels=labels).loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        sgd.step()
        sgd.zero_grad()

    return step


def in_turn(steps: Dict[str, Callable[[], None]], rounds: int, gpu: bool) -> Dict[str, float]:
    """The median duration of each step, in seconds; the steps run in turn, and a first round is not counted."""
    seconds: Dict[str, List[float]] = {name: [] for name in steps}
    for i in range(rounds + 1):
        for name, step in steps.items():
            synchronize(gpu)
            start = perf_counter()
            step()
            synchronize(gpu)
            if i:
                seconds[name].append(perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def recorded_passes(nlp: Language, step: Callable[[], None]) -> List[Dict[str, Any]]:
    """The padded inputs that the encoder gets in a step."""
    passes: List[Dict[str, Any]] = []
    hook = encoder_of(nlp).register_forward_pre_hook(lambda m, a, kwargs: passes.append(kwargs), with_kwargs=True)
    step()
    hook.remove()
    return passes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    for name, default in (("threads", 1), ("docs", 200), ("batch", 16), ("rounds", 5), ("gpu-id", -1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    gpu = args.gpu_id >= 0
    if gpu:
        set_gpu_allocator("pytorch")
        spacy.require_gpu(args.gpu_id)
    plain = spacy.blank("zh")
    docs = list(read([args.data], DocMaker(lambda: plain)))
    examples = [Example(plain.make_doc(doc.text), doc) for doc in docs]
    device = torch.cuda.get_device_name() if gpu else f"CPU, {torch.get_num_threads()} thread(s)"
    print(f"{args.data}: {len(docs)} docs; {device}; torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        nlp, _ = pipeline(save_encoder(Path(folder, "tiny"), docs, **TINY), examples, gpu, "full")
        print("padded / real word-pieces:")
        padding(nlp, examples)
        base = save_encoder(Path(folder, "base"), docs)
        nlp, sgd = pipeline(base, examples, gpu, "full")
        print(f"nlp.pipe, {args.docs} docs, base size:")
        encoder_share(nlp, [doc.text for doc in docs[: args.docs]], args.rounds, gpu)
        batch = examples[: args.batch]
        step = our_step(nlp, sgd, batch)
        passes = recorded_passes(nlp, step)
        shapes = ", ".join("x".join(map(str, inputs["input_ids"].shape)) for inputs in passes)
        print(
            f"a training step of {args.batch} docs (passes of {shapes}), base size, {args.rounds} rounds in turn:"
        )
        medians = in_turn(
            {"ours": step, "bare": bare_step(base, passes, encoder_of(nlp).device)}, args.rounds, gpu
        )
        for name, seconds in medians.items():
            print(f"  {name}: {seconds:.3f} s")
        print(f"  ratio of medians: {medians['ours'] / medians['bare']:.3f}")
        del step, passes, nlp, sgd
        print("fine-tuning, the same batch, in turn:")
        fine_tuning(base, examples, batch, args.rounds, gpu)


def fine_tuning(base: Path, examples: List[Example], batch: List[Example], rounds: int, gpu: bool) -> None:
    """Print a table of what full fine-tuning, frozen layers and LoRA cost."""
    steps: Dict[str, Callable[[], None]] = {}
    optimizers: Dict[str, Any] = {}
    trainable: Dict[str, int] = {}
    for name in VARIANTS:
        nlp, sgd = pipeline(base, examples, gpu, name)
        steps[name], optimizers[name] = our_step(nlp, sgd, batch), sgd
        trainable[name] = sum(p.numel() for p in encoder_of(nlp).parameters() if p.requires_grad)
    medians = in_turn(steps, rounds, gpu)
    print("  | encoder | trainable parameters of the encoder | optimizer state | step |")
    print("  |---|--:|--:|--:|")
    for name, seconds in medians.items():
        size = optimizers[name].state_bytes / 2**20
        relative = seconds / medians["full"]
        print(f"  | {name} | {trainable[name]:,} | {size:,.0f} MiB | {seconds:.2f} s ({relative:.2f}) |")


if __name__ == "__main__":
    main()
