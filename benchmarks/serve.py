"""`crf serve` under load, beside a bare FastAPI that calls `nlp(text)`: requests per second, latencies, memory.

python benchmarks/serve.py MODEL TEXTS [--clients 1 8 64] [--seconds 10] [--rounds 3] [--words 0]

TEXTS is a plain text, a document a line. Both services listen on loopback, one process and one thread each, and
are asked in turns; each client asks for one text at a time, over a connection that it keeps. Every answer is
compared with that of `nlp(text)`. With --words N, `crf serve` is asked N times for a text of new words at the end,
by 64 clients, and its memory is shown at five points.
"""

import argparse
import asyncio
import os
import random
import string
import subprocess
import sys
import time
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any, Dict, Iterator, List, Sequence, Tuple

import httpx
import spacy

ONE_THREAD = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
OURS, BARE = "crf serve", "bare FastAPI"
Offsets = List[Tuple[int, int, str]]


def bare(model: str, port: int) -> None:
    """What many write first."""
    import uvicorn
    from fastapi import FastAPI
    from pydantic import BaseModel

    nlp = spacy.load(model)
    app = FastAPI()

    class Asked(BaseModel):
        text: str

    @app.post("/v1/entities")
    def find(asked: Asked) -> Dict[str, Any]:
        doc = nlp(asked.text)
        entities = [{"start": e.start_char, "end": e.end_char, "label": e.label_} for e in doc.ents]
        return {"docs": [{"entities": entities}]}

    @app.get("/readyz")
    def ready() -> str:
        return "ok"

    uvicorn.run(app, port=port, log_level="error")


def start(name: str, model: str, port: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "spacy", "crf", "serve", model, "--port", str(port)]
    if name == BARE:
        command = [sys.executable, __file__, model, "-", "--bare", str(port)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ, **ONE_THREAD})
    for _ in range(600):
        try:
            if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                return process
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise SystemExit(f"{name} does not start")


async def load(
    port: int, texts: Sequence[str], expected: Dict[str, Offsets], n_clients: int, seconds: float
) -> List[float]:
    """The seconds of each request."""
    taken: List[float] = []
    end = time.perf_counter() + seconds

    async def client(number: int) -> None:
        stream: Iterator[str] = islice(cycle(texts), number * 7 % len(texts), None)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=120) as http:
            while time.perf_counter() < end:
                text = next(stream)
                begin = time.perf_counter()
                response = await http.post("/v1/entities", json={"text": text})
                taken.append(time.perf_counter() - begin)
                (answer,) = response.raise_for_status().json()["docs"]
                found = [(ent["start"], ent["end"], ent["label"]) for ent in answer["entities"]]
                assert found == expected[text], text

    await asyncio.gather(*(client(number) for number in range(n_clients)))
    return taken


def new_words(n: int) -> Iterator[str]:
    draw = random.Random(0)
    for _ in range(n):
        yield " ".join("".join(draw.choices(string.ascii_letters, k=8)) for _ in range(3))


async def ask_all(port: int, stream: Iterator[str]) -> None:
    async def client() -> None:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=120) as http:
            for text in stream:
                (await http.post("/v1/entities", json={"text": text})).raise_for_status()

    await asyncio.gather(*(client() for _ in range(64)))


def resident(process: "subprocess.Popen[bytes]") -> float:
    lines = Path(f"/proc/{process.pid}/status").read_text(encoding="utf8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("texts", type=Path)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--words", type=int, default=0)
    parser.add_argument("--bare", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.bare:
        bare(args.model, args.bare)
        return
    texts = [line for line in args.texts.read_text(encoding="utf8").splitlines() if line.strip()][:500]
    nlp = spacy.load(args.model)
    expected = {
        t: [(e.start_char, e.end_char, e.label_) for e in doc.ents] for t, doc in zip(texts, nlp.pipe(texts))
    }
    ports = {OURS: 8471, BARE: 8472}
    processes = {name: start(name, args.model, port) for name, port in ports.items()}
    try:
        print(f"1 thread a service, {len(texts)} texts of {sum(map(len, texts)) / len(texts):.0f} characters")
        print(
            "| clients | service | requests/s | p50 ms | p95 ms | p99 ms |\n|--:|---|--:|--:|--:|--:|", flush=True
        )
        for n_clients in args.clients:
            rows: Dict[str, List[List[float]]] = {name: [] for name in ports}
            for _ in range(args.rounds):
                for name, port in ports.items():
                    taken = sorted(asyncio.run(load(port, texts, expected, n_clients, args.seconds)))
                    points = [taken[min(int(len(taken) * q), len(taken) - 1)] * 1000 for q in (0.5, 0.95, 0.99)]
                    rows[name].append([len(taken) / args.seconds, *points])
            for name, figures in rows.items():
                rate, *points = (median(column) for column in zip(*figures))
                shown = " | ".join(f"{point:,.1f}" for point in points)
                print(f"| {n_clients} | {name} | {rate:,.0f} | {shown} |", flush=True)
        if args.words:
            stream = new_words(args.words)
            for part in range(4):
                print(f"after {part * args.words // 4:,} texts of new words: {resident(processes[OURS]):,.0f} MiB")
                asyncio.run(ask_all(ports[OURS], islice(stream, args.words // 4)))
            print(f"after {args.words:,} texts of new words: {resident(processes[OURS]):,.0f} MiB")
    finally:
        for process in processes.values():
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
