"""Forgetting and rehearsal on CLUENER2020: learn five types, then the other five from data that marks only those.

python benchmarks/rehearsal.py CLUENER_DIR [--epochs 8] [--more-epochs 4] [--threads 1] [--seed 0]

The training set is cut in two. The first half marks the old types, the second the new ones; what belongs to the
other types is O in both. F is that of dev, on the old and on the new types, after the first half ("before"), and
after the second without and with `nlp.rehearse` on the second half's own texts: no old data is needed.
"""

import argparse
import random
from pathlib import Path
from typing import Any, Collection, Dict, List, Tuple

import spacy
import torch
from spacy.language import Language
from spacy.scorer import get_ner_prf
from spacy.tokens import Doc
from spacy.training import Example
from spacy.util import load_config, minibatch
from thinc.api import Adam, fix_random_seed

from spacy_crf_ner.formats.doc_builder import DocMaker
from spacy_crf_ner.formats.reading import read

CONFIG = Path(__file__).parent.parent / "configs" / "char_bilstm.cfg"
OLD = ("address", "book", "company", "game", "government")
NEW = ("movie", "name", "organization", "position", "scene")


def examples(nlp: Language, docs: List[Doc], types: Collection[str]) -> List[Example]:
    """Examples in which the entities of some labels only are marked."""
    made = []
    for doc in docs:
        reference = doc.copy()
        reference.set_ents([ent for ent in doc.ents if ent.label_ in types])
        made.append(Example(nlp.make_doc(doc.text), reference))
    return made


def train(nlp: Language, data: List[Example], epochs: int, rehearse: bool = False) -> None:
    """Train in batches of 32 docs, with the rate falling linearly to 0."""
    steps = epochs * -(-len(data) // 32)
    sgd = nlp.resume_training(sgd=Adam(0.002, grad_clip=5.0, L2=0.01, use_averages=False))
    done = 0
    for _ in range(epochs):
        random.shuffle(data)
        for batch in minibatch(data, 32):
            sgd.learn_rate = 0.002 * (1 - done / steps)
            done += 1
            nlp.update(batch, sgd=sgd, drop=0.3)
            if rehearse:
                raw = [Example(nlp.make_doc(example.text), example.reference) for example in batch]
                nlp.rehearse(raw, sgd=sgd)


def evaluate(nlp: Language, docs: List[Doc]) -> Tuple[float, float]:
    """F on the old types, and on the new ones."""
    predicted = list(nlp.pipe([doc.text for doc in docs], batch_size=256))
    scores = []
    for types in (OLD, NEW):
        pairs = []
        for mine, gold in zip(predicted, docs):
            sides = [mine.copy(), gold.copy()]
            for side in sides:
                side.set_ents([ent for ent in side.ents if ent.label_ in types])
            pairs.append(Example(*sides))
        scores.append(get_ner_prf(pairs)["ents_f"] or 0.0)
    return scores[0], scores[1]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    for name, default in (("epochs", 8), ("more-epochs", 4), ("threads", 1), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    fix_random_seed(args.seed)
    config: Dict[str, Any] = load_config(CONFIG, {"components.crf_ner.model.lstm_width": 256})
    nlp = spacy.blank("zh")
    nlp.add_pipe("crf_ner", config={"model": config["components"]["crf_ner"]["model"]})
    make = DocMaker(lambda: nlp)
    docs, dev = (list(read([args.data / f"{part}.json"], make)) for part in ("train", "dev"))
    random.shuffle(docs)
    half = len(docs) // 2
    first, second = examples(nlp, docs[:half], OLD), examples(nlp, docs[half:], NEW)
    print(
        f"threads {torch.get_num_threads()}, seed {args.seed}, docs {len(first)} + {len(second)}, {len(dev)} dev"
    )
    print(f"{'':18}F old  F new", flush=True)
    nlp.initialize(lambda: first)
    train(nlp, first, args.epochs)
    print("{:18}{:.3f}  {:.3f}".format("before", *evaluate(nlp, dev)), flush=True)
    state = nlp.to_bytes()
    for rehearse in (False, True):
        fix_random_seed(args.seed)
        again = spacy.blank("zh")
        again.add_pipe("crf_ner", config={"model": config["components"]["crf_ner"]["model"]})
        again.from_bytes(state)
        pipe: Any = again.get_pipe("crf_ner")
        again.resume_training()
        for label in NEW:
            pipe.add_label(label)
        train(again, [Example(again.make_doc(e.text), e.reference) for e in second], args.more_epochs, rehearse)
        name = "after, rehearsed" if rehearse else "after"
        print("{:18}{:.3f}  {:.3f}".format(name, *evaluate(again, dev)), flush=True)


if __name__ == "__main__":
    main()
