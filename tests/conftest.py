"""What all tests share."""

import os
from pathlib import Path
from typing import Iterator

# Before torch is imported, and for the processes that tests start: on busy cores, threads that wait for each other
# make a training step many times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings
from thinc.api import fix_random_seed

from tests.util import FIXED_EXAMPLES
from tests.warm_python import WarmPython

# The same examples in every run, so that a failure is the change's, and can be repeated.
# `--hypothesis-profile=deep` looks for new ones, and for twenty times as many.
settings.register_profile("fixed", derandomize=True, max_examples=FIXED_EXAMPLES)
settings.register_profile("deep", print_blob=True, max_examples=20 * FIXED_EXAMPLES, deadline=None)
settings.load_profile("fixed")


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    """Every test draws the same random numbers in every run, whichever tests ran before."""
    fix_random_seed(0)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The real corpora: the folder that CRF_NER_DATA names, or ../shared/data; the test skips without it."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    path = Path(os.environ.get("CRF_NER_DATA", default))
    if not path.is_dir():
        pytest.skip(f"needs the real corpora: no folder {path} (set CRF_NER_DATA)")
    return path


@pytest.fixture(scope="session")
def encoders_dir() -> Path:
    """The encoders of `scripts/fetch_encoders.py`: the folder that CRF_NER_ENCODERS names, or assets/encoders; the
    test skips without it."""
    path = Path(os.environ.get("CRF_NER_ENCODERS", Path(__file__).resolve().parents[1] / "assets" / "encoders"))
    if not path.is_dir():
        pytest.skip(f"needs real encoders: no folder {path} (run python scripts/fetch_encoders.py)")
    return path


@pytest.fixture(scope="session")
def shell() -> Iterator[WarmPython]:
    """Runs command lines, each `python` of which starts in no time."""
    warm = WarmPython()
    yield warm
    warm.stop()
