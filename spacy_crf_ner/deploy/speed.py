"""What a pipeline costs: a process of its own loads it and reads texts, on one thread.

``python -m spacy_crf_ner.deploy.speed MODEL START [CODE]`` is that process: texts come as JSON on standard input.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any, List, NamedTuple, Optional, Sequence, cast

from spacy_crf_ner.messages import one_line

ROUNDS = 3
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


class Cost(NamedTuple):
    """What it costs to run a pipeline.

    characters_per_second (float): Per second of CPU time.
    seconds_to_first (float): From the start of the process to the first doc.
    megabytes (Optional[float]): The most memory that was resident; None where the system does not say.
    """

    characters_per_second: float
    seconds_to_first: float
    megabytes: Optional[float]


def costs(models: Sequence[Path], texts: Sequence[str], code: Optional[Path] = None) -> List[Cost]:
    """Measure pipelines in turns.

    models (Sequence[Path]): Their directories.
    texts (Sequence[str]): What they read.
    code (Optional[Path]): A Python file with registered functions.
    RETURNS (List[Cost]): The median of each figure.
    RAISES (ValueError): A process failed.
    """
    rounds = [[_measure(model, texts, code) for model in models] for _ in range(ROUNDS)]
    return [Cost(*map(_median, zip(*of_model, strict=True))) for of_model in zip(*rounds, strict=True)]


def _median(figures: Sequence[Optional[float]]) -> Any:
    return None if None in figures else median(cast(Sequence[float], figures))


def _measure(model: Path, texts: Sequence[str], code: Optional[Path]) -> Cost:
    command = [sys.executable, "-m", __name__, str(model), repr(time.time()), *([str(code)] if code else [])]
    done = subprocess.run(
        command, input=json.dumps(list(texts)), capture_output=True, text=True, env={**os.environ, **_ONE_THREAD}
    )
    if done.returncode:
        said = one_line(done.stderr[-500:])
        raise ValueError(f"the pipeline could not be measured in a process of its own ({said})")
    return Cost(*json.loads(done.stdout.splitlines()[-1]))


def _main(model: str, start: str, code: Optional[str] = None) -> None:
    from spacy import util

    texts = json.load(sys.stdin)
    if code is not None:
        util.import_file("python_code", code)
    nlp = util.load_model(model)
    nlp(texts[0])
    seconds_to_first = time.time() - float(start)
    begin = time.process_time()
    for _ in nlp.pipe(texts):
        pass
    seconds = time.process_time() - begin
    print(json.dumps([sum(map(len, texts)) / seconds, seconds_to_first, _resident()]))


def _resident() -> Optional[float]:
    # Not by getrusage, whose figure a process inherits from the one that started it.
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    lines = (line.split() for line in status.read_text(encoding="utf8").splitlines())
    return next((int(line[1]) * 1024 / 1e6 for line in lines if line[0] == "VmHWM:"), None)


if __name__ == "__main__":
    _main(*sys.argv[1:])
