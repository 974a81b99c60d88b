"""What all tests share."""

import os
from pathlib import Path

# Before torch is imported, and for the processes that tests start: on busy cores, threads that wait for each other
# make a training step many times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The real corpora: the folder that CRF_NER_DATA names, or ../shared/data; the test skips without it."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    path = Path(os.environ.get("CRF_NER_DATA", default))
    if not path.is_dir():
        pytest.skip(f"needs the real corpora: no folder {path} (set CRF_NER_DATA)")
    return path
