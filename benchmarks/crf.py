"""The CRF against `torchcrf`: loss, loss and gradient, decoding; interleaved in one run, at several shapes.

python benchmarks/crf.py [--device cpu] [--threads 1] [--rounds 20] [--output benchmarks/results/crf.json]

Lengths are those of MSRA's training sentences, scaled so that the longest of a batch is the shape's; ours
computes in float64, `torchcrf` in float32. The table is printed as Markdown; the JSON file holds the medians too.
"""

import argparse
import json
import platform
import statistics
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, Callable, Dict, List, Tuple

import numpy
import torch
import torchcrf
from torch import Tensor

from spacy_crf_ner.crf.module import LinearChainCRF

SHAPES = [(1, 50, 7), (16, 50, 7), (64, 128, 7), (256, 128, 7), (64, 512, 7), (32, 128, 21), (16, 256, 61)]
"""(batch, longest, tags)"""

QUANTILES = [5, 18, 20, 23, 25, 28, 30, 33, 35, 38, 40, 43, 46, 50, 53, 58, 63, 70, 79, 96, 128]
"""Lengths of MSRA's training sentences in steps of 5 %; 1.6 % are longer than 128 characters."""

WARM_UP = 2
CALLS = 5
"""Calls of one alternative in a turn."""


def interleaved(
    alternatives: Dict[str, Callable[[], object]], rounds: int, finish: Callable[[], None]
) -> Dict[str, Dict[str, float]]:
    """Run the alternatives in turn, so that a busy machine slows all alike, each a few times a turn.

    RETURNS (Dict[str, Dict[str, float]]): For each, the median milliseconds of a turn's first call, whose caches
        hold what the others left, and of the calls after it.
    """
    times: Dict[str, List[List[float]]] = {name: [] for name in alternatives}
    for i in range(rounds + WARM_UP):
        for name, run in alternatives.items():
            turn = []
            for _ in range(CALLS):
                finish()
                start = perf_counter()
                run()
                finish()
                turn.append(1000 * (perf_counter() - start))
            if i >= WARM_UP:
                times[name].append(turn)
    return {
        name: {
            "first": statistics.median(turn[0] for turn in turns),
            "later": statistics.median(value for turn in turns for value in turn[1:]),
        }
        for name, turns in times.items()
    }


def batch(shape: Tuple[int, int, int], device: torch.device) -> Tuple[Tensor, Tensor, Tensor]:
    """Emissions, tags and mask of one batch, time first."""
    batch_size, longest, num_tags = shape
    rng = numpy.random.default_rng(0)
    drawn = numpy.interp(rng.random(batch_size), numpy.linspace(0, 1, len(QUANTILES)), QUANTILES)
    lengths = torch.from_numpy((drawn * longest / QUANTILES[-1]).astype("int64")).clamp(1, longest)
    lengths[0] = longest
    generator = torch.Generator().manual_seed(0)
    emissions = 3 * torch.randn(longest, batch_size, num_tags, generator=generator)
    tags = torch.randint(0, num_tags, (longest, batch_size), generator=generator)
    mask = torch.arange(longest).unsqueeze(1) < lengths
    return emissions.to(device), tags.to(device), mask.to(device)


def measure(shape: Tuple[int, int, int], device: torch.device, rounds: int) -> Dict[str, Any]:
    """Compare the two at one shape, results first."""
    emissions, tags, mask = batch(shape, device)
    theirs = torchcrf.CRF(shape[2]).to(device)
    ours = LinearChainCRF(shape[2]).to(device)
    ours.load_state_dict(theirs.state_dict())

    def loss(module: torchcrf.CRF) -> Tensor:
        with torch.no_grad():
            return module(emissions, tags, mask)

    def loss_and_gradient(module: torchcrf.CRF) -> Tuple[Tensor, Tensor]:
        module.zero_grad()
        leaf = emissions.clone().requires_grad_()
        value = module(leaf, tags, mask)
        value.backward()
        assert leaf.grad is not None
        return value.detach(), leaf.grad

    def decode(module: torchcrf.CRF) -> List[List[int]]:
        return module.decode(emissions, mask)

    # In float64 both agree, but for the rounding.
    exact = torchcrf.CRF(shape[2]).to(device).double()
    exact.load_state_dict(theirs.state_dict())
    wide = emissions.double()
    torch.testing.assert_close(ours(wide, tags, mask), exact(wide, tags, mask), rtol=1e-9, atol=1e-9)
    assert ours.decode(wide, mask) == exact.decode(wide, mask)
    assert torch.allclose(loss_and_gradient(ours)[1], loss_and_gradient(theirs)[1], atol=1e-2)

    def finish() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    result: Dict[str, Any] = {"shape": shape, "tokens": int(mask.sum())}
    tasks: Dict[str, Callable[[torchcrf.CRF], object]] = {
        "loss": loss,
        "loss + gradient": loss_and_gradient,
        "decode": decode,
    }
    for task, run in tasks.items():
        medians = interleaved({"ours": partial(run, ours), "torchcrf": partial(run, theirs)}, rounds, finish)
        ratios = {call: medians["torchcrf"][call] / medians["ours"][call] for call in ("first", "later")}
        result[task] = {**medians, "ratio": ratios}
    return result


TASKS = ("loss", "loss + gradient", "decode")


def table(results: List[Dict[str, Any]]) -> str:
    """Milliseconds of ours, and how many times as long `torchcrf` takes: a turn's later calls, and its first."""
    lines = [
        "| batch, longest, tags | loss | | loss + gradient | | decode | |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for result in results:
        cells = [", ".join(map(str, result["shape"]))]
        for task in TASKS:
            ratio = result[task]["ratio"]
            cells += [
                f"{result[task]['ours']['later']:.2f} ms",
                f"{ratio['later']:.1f} x ({ratio['first']:.1f} x)",
            ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "crf.json")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    device = torch.device(args.device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    machine = {"device": f"{device.type} ({name})", "threads": torch.get_num_threads(), "torch": torch.__version__}
    print(", ".join(f"{key} {value}" for key, value in machine.items()), flush=True)
    results = []
    for shape in SHAPES:
        results.append(measure(shape, device, args.rounds))
        ratios = (f"{task} {results[-1][task]['ratio']['later']:.1f} x" for task in TASKS)
        print(f"{shape}: {', '.join(ratios)}", flush=True)
    print("\n" + table(results))
    # One file for all kinds of device.
    kept = json.loads(args.output.read_text(encoding="utf-8")) if args.output.exists() else {}
    kept[device.type] = {**machine, "results": results}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
