"""How a pipeline fares on lists of names with nothing between them, and elsewhere.

python benchmarks/name_lists.py training/msra/model-best corpus/msra/test [--type PER] [--least 5]
"""

import argparse
from pathlib import Path

import spacy
from spacy.tokens import Doc

from spacy_crf_ner.evaluation.predictions import predict, read_examples
from spacy_crf_ner.evaluation.scores import score


def is_list(doc: Doc, label: str, least: int) -> bool:
    """Whether at least so many entities of a type touch another entity."""
    starts = {ent.start for ent in doc.ents}
    ends = {ent.end for ent in doc.ents}
    return sum(ent.label_ == label and (ent.start in ends or ent.end in starts) for ent in doc.ents) >= least


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("--type", default="PER")
    parser.add_argument("--least", type=int, default=5)
    args = parser.parse_args()
    nlp = spacy.load(args.model)
    examples = read_examples(args.data, nlp)
    predict(nlp, examples)
    lists = [is_list(example.reference, args.type, args.least) for example in examples]
    for name, wanted in (("lists", True), ("elsewhere", False)):
        chosen = [example for example, found in zip(examples, lists) if found is wanted]
        row = score(chosen).seqeval[args.type]
        print(
            f"{name}: {len(chosen)} docs, {row['support']} {args.type}, "
            f"P {row['precision']:.3f} R {row['recall']:.3f} F {row['f1-score']:.3f}"
        )


if __name__ == "__main__":
    main()
