"""What the CRF costs inside a pipeline: its share of a training step, and what `save_scores` adds to `nlp.pipe`.

python benchmarks/crf_in_pipe.py MODEL DATA [--threads 1] [--docs 2048] [--steps 30] [--rounds 7]

MODEL is a pipeline with a `crf_ner` and an embedding of its own, DATA its gold docs (.spacy). A training step is
that of configs/char_bilstm.cfg: padded batches of 2,000 tokens, dropout, Adam. The two settings of `save_scores`
run in turn over the same docs.
"""

import argparse
import statistics
from pathlib import Path
from time import perf_counter
from typing import Any, Callable, Dict, List

import spacy
import torch
from spacy.language import Language
from spacy.training import Example
from spacy.training.batchers import minibatch_by_padded_size
from thinc.api import Adam

from spacy_crf_ner.formats.doc_builder import DocMaker
from spacy_crf_ner.formats.reading import read
from spacy_crf_ner.ner import learning


def timed(function: Callable, seconds: List[float]) -> Callable:
    """The function, which now notes how long each call took."""

    def run(*args: Any, **kwargs: Any) -> Any:
        start = perf_counter()
        result = function(*args, **kwargs)
        seconds.append(perf_counter() - start)
        return result

    return run


def training_share(nlp: Language, pipe: Any, docs: List[Any], steps: int) -> None:
    """Print the medians of a step, of its CRF (likelihood and gradient), and of the whole of `get_loss`."""
    examples = [Example(nlp.make_doc(doc.text), doc) for doc in docs]
    batches = list(minibatch_by_padded_size(examples, 2000, buffer=512))[: steps + 3]
    sgd = Adam(0.0, L2=0.01, grad_clip=5.0, use_averages=False)
    spent: Dict[str, List[float]] = {"step": [], "CRF": [], "get_loss": []}
    likelihood, get_loss = learning.negative_log_likelihood, pipe.get_loss
    learning.negative_log_likelihood = timed(likelihood, spent["CRF"])
    pipe.get_loss = timed(get_loss, spent["get_loss"])
    step = timed(lambda batch: nlp.update(batch, sgd=sgd, drop=0.5), spent["step"])
    for batch in batches:
        step(batch)
    learning.negative_log_likelihood, pipe.get_loss = likelihood, get_loss
    # The first steps warm up.
    medians = {name: statistics.median(seconds[3:]) for name, seconds in spent.items()}
    print(f"training, {len(batches) - 3} steps: {1000 * medians['step']:.0f} ms per step")
    for name, what in (("CRF", "likelihood and gradient"), ("get_loss", "the same and reading the gold")):
        share = 100 * medians[name] / medians["step"]
        print(f"  {what}: {1000 * medians[name]:.1f} ms, {share:.2f} % of the step")


def cost_of_scores(nlp: Language, pipe: Any, docs: List[Any], rounds: int) -> None:
    """Print the medians of `nlp.pipe` without and with `save_scores`, and their ratio."""
    texts = [doc.text for doc in docs]
    seconds: Dict[bool, List[float]] = {False: [], True: []}
    for i in range(rounds + 1):
        for setting in (False, True):
            pipe.save_scores = setting
            start = perf_counter()
            for _ in nlp.pipe(texts):
                pass
            if i:  # the first round warms up
                seconds[setting].append(perf_counter() - start)
    without, with_scores = (statistics.median(seconds[setting]) for setting in (False, True))
    n_tokens = sum(map(len, docs))
    print(f"nlp.pipe, {len(docs)} docs, {n_tokens} tokens, {rounds} rounds in turn:")
    print(f"  save_scores = false: {without:.2f} s ({n_tokens / without:,.0f} tokens/s)")
    print(f"  save_scores = true: {with_scores:.2f} s; ratio of medians {with_scores / without:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    for name, default in (("threads", 1), ("docs", 2048), ("steps", 30), ("rounds", 7)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    nlp = spacy.load(args.model)
    pipe: Any = nlp.get_pipe("crf_ner")
    docs = list(read([args.data], DocMaker(lambda: nlp)))[: args.docs]
    print(f"threads {torch.get_num_threads()}, labels {', '.join(pipe.labels)}")
    cost_of_scores(nlp, pipe, docs, args.rounds)
    training_share(nlp, pipe, docs, args.steps)


if __name__ == "__main__":
    main()
