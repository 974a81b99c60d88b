"""The CRF's loss and decoding against `torchcrf`, interleaved in one run.

python benchmarks/crf.py [--batch 64] [--length 128] [--tags 7] [--threads 1] [--rounds 30]
"""

import argparse
import statistics
from functools import partial
from time import perf_counter
from typing import Callable, Dict, List

import torch
import torchcrf

from spacy_crf_ner.torch_modules.buckets import length_mask
from spacy_crf_ner.torch_modules.crf import LinearChainCRF


def interleaved(alternatives: Dict[str, Callable[[], object]], rounds: int) -> Dict[str, float]:
    """The median seconds of each alternative, run in turn so that a busy machine slows all alike."""
    seconds: Dict[str, List[float]] = {name: [] for name in alternatives}
    for i in range(rounds + 3):
        for name, run in alternatives.items():
            start = perf_counter()
            run()
            if i >= 3:  # warm-up
                seconds[name].append(perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, default in (("batch", 64), ("length", 128), ("tags", 7), ("threads", 1), ("rounds", 30)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    theirs = torchcrf.CRF(args.tags)
    ours = LinearChainCRF(args.tags)
    ours.load_state_dict(theirs.state_dict())
    emissions = torch.randn(args.length, args.batch, args.tags)
    tags = torch.randint(0, args.tags, (args.length, args.batch))
    lengths = torch.randint(1, args.length + 1, (args.batch,))
    lengths[0] = args.length
    mask = length_mask(lengths, torch.device("cpu"))

    def loss(module: torchcrf.CRF) -> torch.Tensor:
        leaf = emissions.clone().requires_grad_()
        value = -module(leaf, tags, mask)
        value.backward()
        return value.detach()

    assert ours.decode(emissions, mask) == theirs.decode(emissions, mask)
    print(f"threads {torch.get_num_threads()}, batch {args.batch}, length {args.length}, tags {args.tags}")
    print(f"loss: ours (float64) {loss(ours).item():.6f}, torchcrf (float32) {loss(theirs).item():.6f}")
    runs: Dict[str, Callable[[torchcrf.CRF], object]] = {
        "loss + gradient": loss,
        "decode": lambda module: module.decode(emissions, mask),
    }
    for task, run in runs.items():
        medians = interleaved({"ours": partial(run, ours), "torchcrf": partial(run, theirs)}, args.rounds)
        times = ", ".join(f"{name} {1000 * value:.2f} ms" for name, value in medians.items())
        print(f"{task}: {times}; ratio torchcrf / ours {medians['torchcrf'] / medians['ours']:.2f}")


if __name__ == "__main__":
    main()
